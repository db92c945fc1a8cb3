#!/usr/bin/python3
"""Method whole: the very VM goes on at the destination, byte for byte. And whatever breaks before somebody
decided: the source goes on untouched, its sessions stay, nothing of the copy is left."""
import hashlib
import os
import signal
import time

from bench_of_two import Asking, Bench, Problem, Session, answers, own_namespace, records, wait_for

RESTING = ["godwit.host-a.web-1.ram", "godwit.host-a.web-1.region.sessions"]


def begin(bench, job, **request):
    bench.destination.put("/v1/vms/web-1/incoming",
                          {"command": bench.command(job, "destination"), "spec": bench.spec, "method": "whole"})
    bench.source.put("/v1/vms/web-1/copy", {"command": bench.command(job, "copying"), "method": "whole",
                                            "destination": bench.destination.transfer} | request)


def status(bench, job):
    return bench.source.get(f"/v1/vms/web-1/copy?job={job}")


def until_stage(bench, job, stage):
    wait_for(lambda: status(bench, job)["stage"] == stage or status(bench, job)["state"] != "running", 60, stage)
    seen = status(bench, job)
    assert seen["stage"] == stage and seen["state"] == "running", seen


def freeze(bench, job):
    return bench.source.put("/v1/vms/web-1/freeze", {"command": bench.command(job, "freezing")})


def freezing_of(bench, job):
    """A freeze that does not come to its end by itself."""
    asking = Asking(lambda: freeze(bench, job))
    until_stage(bench, job, "freeze")
    return asking


def undo(bench, job):
    bench.source.call("DELETE", f"/v1/vms/web-1/copy?job={job}&token={bench.job_token}")
    bench.destination.call("DELETE", f"/v1/vms/web-1?job={job}&token={bench.job_token}&step=undo")
    assert bench.destination.shm_files() == [], bench.destination.shm_files()


def source_goes_on(bench, session):
    wait_for(lambda: bench.source.state() == "running", 10, "the source running again")
    session.send(b"still here")
    wait_for(lambda: bench.source.shm_files() == RESTING, 10, "a clean shm")
    assert bench.source.get("/v1/vms/web-1")["role"] == "sole"


def digests(agent):
    """What the agents' own proof must agree with: SHA-256 of each memory file, read from outside."""
    found = {}
    for path in sorted(agent.shm.iterdir()):
        with open(path, "rb") as memory:
            found[path.name.split(".web-1.")[1]] = hashlib.file_digest(memory, "sha256").hexdigest()
    return found


# ---- it goes well ----

def moves_the_very_vm(bench, session):
    old = [Session(bench.source.bridge, number) for number in range(10, 30)]
    for one in old:
        one.send(b"before")
    begin(bench, "j-whole", rounds=2)
    until_stage(bench, "j-whole", "ready")
    for one in old:
        one.send(b"while it is copied")
    assert bench.source.state() == "running" and bench.destination.state() == "incoming"
    seen = freeze(bench, "j-whole")
    print("frozen", seen)
    assert seen["state"] == "done" and seen["root"] and seen["rounds"] == 2 and seen["pause_ms"] > 0, seen
    assert seen["bytes_on_wire"] < seen["bytes_total"] * 1.1 + seen["bytes_diff"] * 1.5, seen
    assert bench.source.state() == "paused" and bench.destination.state() == "incoming"
    assert digests(bench.source) == digests(bench.destination), "the memories differ"
    again = freeze(bench, "j-whole")
    assert again["root"] == seen["root"] and again["pause_ms"] >= seen["pause_ms"], "said again, not done again"

    bench.destination.put("/v1/vms/web-1/activation",
                          {"command": bench.command("j-whole", "handover"), "role": "sole"})
    wait_for(lambda: answers(bench.destination.bridge), 20, "the VM at the destination")
    view = bench.destination.get("/v1/vms/web-1")
    assert view["state"] == "running" and view["role"] == "sole", view
    assert records(bench.destination.bridge) == {one.number: one.sent for one in old + [session]}
    fresh = Session(bench.destination.bridge, 99)
    fresh.send(b"at the new place")
    assert fresh.identity[0] == 0, "no clone and no source: the guest was not told that it moved"
    bench.source.put("/v1/vms/web-1/retirement", {"command": bench.command("j-whole", "retiring")})
    assert bench.source.shm_files() == [], bench.source.shm_files()
    bench.destination.put("/v1/vms/web-1/adoption", {"command": bench.command("j-whole", "adoption")})
    fresh.send(b"and it stays")


# ---- before somebody decided ----

def aborted_when_ready(bench, session):
    begin(bench, "j-abort")
    until_stage(bench, "j-abort", "ready")
    undo(bench, "j-abort")
    source_goes_on(bench, session)


def aborted_when_frozen(bench, session):
    begin(bench, "j-frozen")
    until_stage(bench, "j-frozen", "ready")
    assert freeze(bench, "j-frozen")["state"] == "done"
    # A restarted agent must not let it go: the destination might already run.
    bench.source.kill()
    bench.source.start()
    assert bench.source.state() == "paused"
    assert status(bench, "j-frozen")["state"] == "done"
    undo(bench, "j-frozen")
    source_goes_on(bench, session)


def too_early_to_freeze(bench, session):
    begin(bench, "j-early")
    bench.destination.process.send_signal(signal.SIGSTOP)
    try:
        freeze(bench, "j-early")
        raise AssertionError("stopped before the copy was held")
    except Problem as problem:
        assert problem.slug == "wrong-state" and "ready" in str(problem), problem
    finally:
        bench.destination.process.send_signal(signal.SIGCONT)
    until_stage(bench, "j-early", "ready")
    undo(bench, "j-early")
    source_goes_on(bench, session)


def budget_that_cannot_be_kept(bench, session):
    begin(bench, "j-budget", pause_budget_ms=1, rounds=1)
    seen = bench.copied("j-budget")
    assert seen["state"] == "failed" and seen["problem"] == "pause-budget", seen
    assert seen["rounds"] == 1 and seen["expected_pause_ms"] > 1 and seen["pause_ms"] == 0, seen
    undo(bench, "j-budget")
    source_goes_on(bench, session)


def destination_agent_killed_when_ready(bench, session):
    begin(bench, "j-gone")
    until_stage(bench, "j-gone", "ready")
    bench.destination.kill()
    seen = freeze(bench, "j-gone")
    assert seen["state"] == "failed" and seen["pause_ms"] == 0, seen
    source_goes_on(bench, session)
    bench.destination.start()
    undo(bench, "j-gone")


def destination_qemu_killed_when_ready(bench, session):
    begin(bench, "j-qemu")
    until_stage(bench, "j-qemu", "ready")
    os.kill(bench.destination.qemu_pid(), signal.SIGKILL)
    seen = freeze(bench, "j-qemu")
    assert seen["state"] == "failed" and "QEMU" in seen["error"] and seen["pause_ms"] == 0, seen
    source_goes_on(bench, session)
    undo(bench, "j-qemu")


def with_a_silent_qemu(bench, job, **request):
    """The destination can take everything but the device state: the source stands still and waits."""
    begin(bench, job, **request)
    until_stage(bench, job, "ready")
    os.kill(bench.destination.qemu_pid(), signal.SIGSTOP)
    freezing = freezing_of(bench, job)
    wait_for(lambda: bench.source.state() == "paused", 10, "the source standing still")
    return freezing


def pause_that_becomes_too_long(bench, session):
    freezing = with_a_silent_qemu(bench, "j-long", pause_budget_ms=1500)
    seen = freezing.end()
    assert seen["state"] == "failed" and seen["problem"] == "pause-budget" and seen["pause_ms"] > 1000, seen
    source_goes_on(bench, session)
    os.kill(bench.destination.qemu_pid(), signal.SIGCONT)
    undo(bench, "j-long")


def link_cut_when_frozen(bench, session):
    freezing = with_a_silent_qemu(bench, "j-cut")
    bench.destination.kill()
    seen = freezing.end()
    assert seen["state"] == "failed" and seen["pause_ms"] > 0, seen
    source_goes_on(bench, session)
    os.kill(bench.destination.qemu_pid(), signal.SIGCONT)
    bench.destination.start()
    undo(bench, "j-cut")


def destination_qemu_killed_when_frozen(bench, session):
    freezing = with_a_silent_qemu(bench, "j-dead")
    os.kill(bench.destination.qemu_pid(), signal.SIGKILL)
    seen = freezing.end()
    assert seen["state"] == "failed", seen
    source_goes_on(bench, session)
    undo(bench, "j-dead")


def source_agent_killed_when_frozen(bench, session):
    freezing = with_a_silent_qemu(bench, "j-self")
    bench.source.kill()
    freezing.end()
    os.kill(bench.destination.qemu_pid(), signal.SIGKILL)
    bench.source.start()
    assert status(bench, "j-self")["state"] == "failed"
    source_goes_on(bench, session)
    undo(bench, "j-self")


def memory_runs_out_at_the_destination():
    with Bench(shm_mib=100) as bench:
        bench.boot()
        session = Session(bench.source.bridge, 1)
        begin(bench, "j-full")
        seen = bench.copied("j-full")
        assert seen["state"] == "failed" and "No space left" in seen["error"], seen
        source_goes_on(bench, session)
        undo(bench, "j-full")


FAULTS = (aborted_when_ready, aborted_when_frozen, too_early_to_freeze, budget_that_cannot_be_kept,
          destination_agent_killed_when_ready, destination_qemu_killed_when_ready, pause_that_becomes_too_long,
          link_cut_when_frozen, destination_qemu_killed_when_frozen, source_agent_killed_when_frozen)

if __name__ == "__main__":
    own_namespace()
    with Bench() as bench:
        bench.boot()
        session = Session(bench.source.bridge, 1)
        for story in FAULTS + (moves_the_very_vm,):
            begun = time.monotonic()
            story(bench, session)
            print(f"{story.__name__}: {time.monotonic() - begun:.1f} s", flush=True)
    memory_runs_out_at_the_destination()
    print("ok")
