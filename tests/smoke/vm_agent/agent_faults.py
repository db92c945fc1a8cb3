#!/usr/bin/python3
"""Whatever breaks in the middle of a copy: the source goes on untouched, its sessions stay, and nothing of
the copy is left in its memory files. And a merge that meets a conflict patches nothing."""
import os
import signal
import socket
import ssl
import struct
import time

from bench_of_two import Bench, Problem, Session, answers, own_namespace, records, wait_for

FRAME_VERSION = 4
RESTING = ["godwit.host-a.web-1.ram", "godwit.host-a.web-1.region.sessions"]


def source_goes_on(bench, session):
    wait_for(lambda: bench.source.state() == "running", 10, "the source running again")
    session.send(b"still here")
    wait_for(lambda: bench.source.shm_files() == RESTING, 10, "a clean shm")
    assert bench.source.get("/v1/vms/web-1")["role"] == "sole"


def in_mid_copy(bench, job):
    """Memory has begun to flow and cannot end: the destination's agent stands still."""
    bench.incoming(job)
    bench.begin_copy(job)
    path = f"/v1/vms/web-1/copy?job={job}"
    while bench.source.get(path)["bytes_copied"] < 1 << 20:
        pass
    bench.destination.process.send_signal(signal.SIGSTOP)
    status = bench.source.get(path)
    assert status["state"] == "running" and status["stage"] == "base", status


def abort(bench, job):
    bench.source.call("DELETE", f"/v1/vms/web-1/copy?job={job}&token={bench.job_token}")
    bench.destination.call("DELETE", f"/v1/vms/web-1?job={job}&token={bench.job_token}&step=undo")
    assert bench.destination.shm_files() == [], bench.destination.shm_files()


def destination_killed_in_mid_copy(bench, session):
    in_mid_copy(bench, "j-kill")
    bench.destination.kill()
    status = bench.copied("j-kill")
    assert status["state"] == "failed" and status["error"], status
    source_goes_on(bench, session)
    # Its QEMU has outlived the agent; the new one finds it, and the job's owner removes it.
    pid = bench.destination.qemu_pid()
    bench.destination.start()
    assert bench.destination.get("/v1/vms/web-1")["pid"] == pid
    assert bench.destination.state() == "incoming"
    again = bench.source.put("/v1/vms/web-1/copy", {"command": bench.command("j-kill", "copying"),
                                                    "destination": bench.destination.transfer})
    assert again["state"] == "failed", "the same job hears the same outcome"
    abort(bench, "j-kill")


def source_agent_killed_in_mid_copy(bench, session):
    in_mid_copy(bench, "j-agent")
    pid = bench.source.qemu_pid()
    bench.source.kill()
    bench.destination.process.send_signal(signal.SIGCONT)
    session.send(b"nobody commands, I serve")
    bench.source.start()
    view = bench.source.get("/v1/vms/web-1")
    assert view["pid"] == pid and view["state"] == "running", view
    status = bench.source.get("/v1/vms/web-1/copy?job=j-agent")
    assert status["state"] == "failed" and "restarted" in status["error"], status
    source_goes_on(bench, session)
    abort(bench, "j-agent")


def source_agent_ended_in_mid_copy(bench, session):
    """An orderly end: it lets go of the copy first, and QEMU does not notice."""
    in_mid_copy(bench, "j-term")
    pid = bench.source.qemu_pid()
    bench.source.process.terminate()
    assert bench.source.process.wait(15) == 0
    bench.destination.process.send_signal(signal.SIGCONT)
    session.send(b"nobody commands, I serve")
    bench.source.start()
    assert bench.source.get("/v1/vms/web-1")["pid"] == pid
    assert bench.source.get("/v1/vms/web-1/copy?job=j-term")["state"] == "failed"
    source_goes_on(bench, session)
    abort(bench, "j-term")


def aborted_in_mid_copy(bench, session):
    in_mid_copy(bench, "j-abort")
    bench.source.call("DELETE", f"/v1/vms/web-1/copy?job=j-abort&token={bench.job_token}")
    bench.destination.process.send_signal(signal.SIGCONT)
    source_goes_on(bench, session)
    try:
        bench.source.get("/v1/vms/web-1/copy?job=j-abort")
        raise AssertionError("an aborted copy is still known")
    except Problem as problem:
        assert problem.slug == "unknown-job", problem
    abort(bench, "j-abort")


def destination_qemu_killed_in_mid_copy(bench, session):
    in_mid_copy(bench, "j-qemu")
    os.kill(bench.destination.qemu_pid(), signal.SIGKILL)
    bench.destination.process.send_signal(signal.SIGCONT)
    status = bench.copied("j-qemu")
    assert status["state"] == "failed" and "QEMU" in status["error"], status
    source_goes_on(bench, session)
    abort(bench, "j-qemu")


def clone_killed_while_the_source_drains(bench, session):
    """It has served newcomers; the source has served its own all the time, and is alone again."""
    bench.fork("j-dead")
    newcomer = Session(bench.destination.bridge, 500)
    newcomer.send(b"lost with the clone")
    os.kill(bench.destination.qemu_pid(), signal.SIGKILL)
    wait_for(lambda: bench.destination.state() == "stopped", 10, "the end of its QEMU")
    assert bench.destination.get("/v1/vms/web-1")["let_run"] is True
    session.send(b"still its own")
    abort(bench, "j-dead")
    source_goes_on(bench, session)


def nobody_listens(bench, session):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    bench.source.put("/v1/vms/web-1/copy", {"command": bench.command("j-nobody", "copying"), "destination": address})
    status = bench.copied("j-nobody")
    assert status["state"] == "failed" and "refused" in status["error"], status
    source_goes_on(bench, session)


def stranger_is_refused(bench):
    """Who speaks no TLS, shows no certificate, or says what no agent says, is told so; no memory is taken."""
    host, port = bench.destination.transfer.split(":")
    oversized = struct.pack("<IHHIIQ", 0x54415747, FRAME_VERSION, 2, 0xFFFFFFFF, 0, 0)

    def say(context):
        with socket.create_connection((host, int(port)), timeout=10) as plain:
            stranger = context.wrap_socket(plain, server_hostname=bench.destination.name) if context else plain
            stranger.sendall(oversized)
            text = b""
            while piece := stranger.recv(4096):
                text += piece
            return text

    assert b"is not TLS" in say(None)
    tls = bench.certificate("host-s")
    nobody = ssl.create_default_context(cafile=tls["ca"])
    try:
        raise AssertionError(say(nobody))
    except OSError:  # an alert, or the end of the connection, whichever comes first
        pass
    nobody.load_cert_chain(tls["certificate"], tls["key"])
    assert b"4294967295" in say(nobody)
    assert "it shows no certificate" in bench.destination.log()


def other_host_is_refused(bench, session):
    """A certificate of the fleet is not enough: it must be that of the host the job names."""
    bench.incoming("j-host")
    for name, body in (("is not for host-z", {"destination_host": "host-z"}), ("is not for host-y", {})):
        if not body:
            bench.destination.put("/v1/vms/web-1/incoming", {"command": bench.command("j-host", "destination"),
                                                             "spec": bench.spec, "source_host": "host-y"})
        bench.source.put("/v1/vms/web-1/copy", {"command": bench.command("j-host", "copying"),
                                                "destination": bench.destination.transfer, **body})
        status = bench.copied("j-host")
        assert status["state"] == "failed" and name in status["error"], status
        bench.source.call("DELETE", f"/v1/vms/web-1/copy?job=j-host&token={bench.job_token}")
    source_goes_on(bench, session)
    abort(bench, "j-host")


def forgotten_copy_is_missing(bench):
    try:
        bench.source.get("/v1/vms/web-1/copy?job=j-never")
        raise AssertionError("a copy nobody made is known")
    except Problem as problem:
        assert problem.status == 404 and problem.slug == "unknown-job", problem


def no_room(bench):
    job = "j-room"
    try:
        bench.destination.put(f"/v1/reservations/{job}", {"command": bench.command(job, "reserve"), "vm": "web-1",
                                                          "memory_bytes": 300 << 30})
        raise AssertionError("300 GiB were reserved")
    except Problem as problem:
        assert problem.status == 409 and problem.slug == "no-memory", problem


def memory_runs_out_in_mid_copy():
    """The limit let it through, the tmpfs is full: an error by name, not a dead agent."""
    with Bench(shm_mib=100) as bench:
        bench.boot()
        session = Session(bench.source.bridge, 1)
        bench.incoming("j-full")
        bench.begin_copy("j-full")
        status = bench.copied("j-full")
        assert status["state"] == "failed" and "No space left" in status["error"], status
        source_goes_on(bench, session)
        assert bench.destination.process.poll() is None
        abort(bench, "j-full")


def patch_region(agent, offset, text):
    """What a guest's application could have done: it maps the same bytes."""
    with open(agent.shm / "godwit.{}.web-1.region.sessions".format(agent.name), "r+b") as region:
        region.seek(offset)
        region.write(text)


def conflict_patches_nothing(bench, session):
    bench.fork("j-clash")
    session.send(b"one")
    unassigned = (14 << 20) + 0x200000 - 4096
    patch_region(bench.source, unassigned, b"source")
    patch_region(bench.destination, unassigned, b"target")
    before = records(bench.destination.bridge)
    status = bench.merge("j-clash")
    assert status["state"] == "failed" and len(status["conflicts"]) == 1, status
    conflict = status["conflicts"][0]
    assert conflict["offset"] == unassigned and bytes.fromhex(conflict["source"]).startswith(b"source"), conflict
    assert bytes.fromhex(conflict["destination"]).startswith(b"target") and status["bytes_patched"] == 0, status
    assert bench.source.state() == "paused" and bench.destination.state() == "running"
    assert records(bench.destination.bridge) == before
    # An agent that is restarted meanwhile leaves it so.
    bench.source.kill()
    bench.source.start()
    assert bench.source.state() == "paused"
    # The operator decides, the same job goes on.
    status = bench.merge("j-clash", on_conflict="source-wins")
    assert status["state"] == "done", status
    assert records(bench.destination.bridge)[session.number] == session.sent
    # Taken back for the next story: the source goes on, the clone is gone.
    abort(bench, "j-clash")
    source_goes_on(bench, session)


def destination_agent_restarts_during_the_merge(bench, session):
    """Nobody listens when the merge begins; it is made as soon as somebody does."""
    bench.fork("j-late")
    session.send(b"two")
    bench.destination.kill()
    bench.source.put("/v1/vms/web-1/merge", {"command": bench.command("j-late", "patching"),
                                             "destination": bench.destination.transfer})
    bench.destination.start()
    status = bench.await_end("/v1/vms/web-1/merge?job=j-late", 30)
    assert status["state"] == "done", status
    assert records(bench.destination.bridge)[session.number] == session.sent


def qemu_of_the_source_killed_after_the_fork(bench, session):
    """The region outlives QEMU: what the sessions left is merged all the same."""
    os.kill(bench.source.qemu_pid(), signal.SIGKILL)
    wait_for(lambda: bench.source.state() == "stopped", 10, "the source stopped")
    bench.source.put("/v1/vms/web-1/retirement", {"command": bench.command("j-late", "retiring")})
    assert bench.source.shm_files() == []


if __name__ == "__main__":
    own_namespace()
    with Bench() as bench:
        bench.boot()
        session = Session(bench.source.bridge, 1)
        for fault in (nobody_listens, other_host_is_refused, destination_killed_in_mid_copy, source_agent_killed_in_mid_copy,
                      source_agent_ended_in_mid_copy, aborted_in_mid_copy, destination_qemu_killed_in_mid_copy,
                      clone_killed_while_the_source_drains):
            begun = time.monotonic()
            fault(bench, session)
            print(f"{fault.__name__}: {time.monotonic() - begun:.1f} s", flush=True)
        stranger_is_refused(bench)
        forgotten_copy_is_missing(bench)
        no_room(bench)
        conflict_patches_nothing(bench, session)
        print("conflict_patches_nothing", flush=True)
        destination_agent_restarts_during_the_merge(bench, session)
        print("destination_agent_restarts_during_the_merge", flush=True)
        qemu_of_the_source_killed_after_the_fork(bench, session)
    memory_runs_out_in_mid_copy()
    print("ok")
