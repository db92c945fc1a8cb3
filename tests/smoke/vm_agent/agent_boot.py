#!/usr/bin/python3
"""Method boot: a fresh VM starts at the destination from the source's region, both go on, their records meet in
the merge. Nothing but the region has moved."""
import os
import signal

from bench_of_two import Bench, Problem, Session, answers, own_namespace, records, wait_for


def prepare(bench, job):
    return bench.destination.put("/v1/vms/web-1/incoming",
                                 {"command": bench.command(job, "destination"), "spec": bench.spec, "method": "boot"})


def copy(bench, job):
    bench.source.put("/v1/vms/web-1/copy", {"command": bench.command(job, "copying"), "method": "boot",
                                            "destination": bench.destination.transfer})
    return bench.copied(job)


def undo(bench, job):
    bench.source.call("DELETE", f"/v1/vms/web-1/copy?job={job}&token={bench.job_token}")
    bench.destination.call("DELETE", f"/v1/vms/web-1?job={job}&token={bench.job_token}&step=undo")
    assert bench.destination.shm_files() == [], bench.destination.shm_files()
    assert bench.source.get("/v1/vms/web-1")["role"] == "sole"


def taken_back(bench, session):
    """Before and after the fresh VM runs: the source goes on alone, nothing is left."""
    assert prepare(bench, "j-back")["state"] == "defined"
    assert copy(bench, "j-back")["state"] == "done"
    undo(bench, "j-back")
    session.send(b"still alone")
    prepare(bench, "j-back2")
    copy(bench, "j-back2")
    bench.activate("j-back2")
    undo(bench, "j-back2")
    session.send(b"still alone")
    prepare(bench, "j-back3")
    copy(bench, "j-back3")
    bench.activate("j-back3")
    os.kill(bench.destination.qemu_pid(), signal.SIGKILL)
    wait_for(lambda: bench.destination.state() == "stopped", 10, "the end of its QEMU")
    undo(bench, "j-back3")
    session.send(b"still alone")


def not_before_its_region(bench):
    """A VM whose region has not come is not let run: its application would begin an empty one."""
    prepare(bench, "j-early")
    try:
        bench.activate("j-early")
        raise AssertionError("it was let run without its region")
    except Problem as problem:
        assert problem.slug == "wrong-state", problem
    bench.destination.call("DELETE", f"/v1/vms/web-1?job=j-early&token={bench.job_token}&step=undo")


def boots_merges_retires(bench, session):
    old = [Session(bench.source.bridge, number) for number in range(10, 20)]
    for one in old:
        one.send(b"before")
    prepare(bench, "j-boot")
    status = copy(bench, "j-boot")
    print("copied", status)
    assert status["state"] == "done" and status["root"] and status["bytes_total"] < 17 << 20, status
    for one in old:
        one.send(b"after the copy")
    view = bench.activate("j-boot")
    assert view["state"] == "running" and view["role"] == "clone", view
    # An agent that is restarted and asked again neither starts it twice nor forgets what it is.
    bench.destination.kill()
    bench.destination.start()
    assert bench.activate("j-boot")["pid"] == view["pid"] and bench.destination.get("/v1/vms/web-1")["role"] == "clone"
    wait_for(lambda: answers(bench.destination.bridge), 60, "the fresh guest")
    wait_for(lambda: 7000 in bench.destination.get("/v1/vms/web-1/sockets")["tcp_listening"], 20, "its ports")
    ports = bench.source.get("/v1/vms/web-1/sockets")["tcp_listening"]
    wait_for(lambda: bench.destination.get("/v1/vms/web-1/sockets")["tcp_listening"] == ports, 20, "all of them")
    new = [Session(bench.destination.bridge, number) for number in range(101, 111)]
    for one in new:
        one.send(b"on the fresh VM")
        assert one.identity[0] == 2, one.identity
    for one in old:
        one.send(b"and on")
    merged = bench.merge("j-boot")
    print("merged", merged)
    assert merged["state"] == "done" and not merged["conflicts"], merged
    assert records(bench.destination.bridge) == {one.number: one.sent for one in old + new + [session]}
    view = bench.destination.put("/v1/vms/web-1/adoption", {"command": bench.command("j-boot", "adoption")})
    assert view["role"] == "sole" and "owner_job" not in view, view
    bench.source.put("/v1/vms/web-1/retirement", {"command": bench.command("j-boot", "retiring")})
    assert bench.source.shm_files() == [], bench.source.shm_files()
    for one in new:
        one.send(b"still there")


if __name__ == "__main__":
    own_namespace()
    with Bench() as bench:
        bench.boot()
        session = Session(bench.source.bridge, 1)
        taken_back(bench, session)
        not_before_its_region(bench)
        boots_merges_retires(bench, session)
    print("ok")
