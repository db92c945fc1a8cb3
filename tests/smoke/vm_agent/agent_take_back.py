#!/usr/bin/python3
"""Method whole, between the controller's commit and the destination's word RUNNING: whatever dies or goes
silent there, the source stands still with everything it was, and a take-back lets it go on with every
session. Before that: a host without room, a QEMU that says nothing. Nothing of the job is left."""
import os
import pathlib
import resource
import signal
import time

from agent_whole import begin, freeze, freezing_of, source_goes_on, status, undo, until_stage
from bench_of_two import Bench, Problem, Session, answers, own_namespace, wait_for

ROOM_MIB = 64  # of address space that an agent short of memory still gets


def loaded(bench, job):
    """The destination has everything, both stand still: the moment of the commit."""
    begin(bench, job)
    until_stage(bench, job, "ready")
    seen = freeze(bench, job)
    assert seen["state"] == "done", seen
    assert bench.source.state() == "paused" and bench.destination.state() == "incoming"


def activate(bench, job):
    return bench.destination.put("/v1/vms/web-1/activation",
                                 {"command": bench.command(job, "handover"), "role": "sole"})


def refused(call):
    try:
        raise AssertionError(f"not refused: {call()}")
    except Problem as problem:
        return problem


def there(bench):
    return bench.destination.get("/v1/vms/web-1")


def take_back(bench, job, session):
    """As the controller does it: whoever may run at the destination goes first."""
    bench.destination.call("DELETE", f"/v1/vms/web-1?job={job}&token={bench.job_token}&step=undo")
    assert bench.destination.shm_files() == [] and not list((bench.destination.root / "run").iterdir())
    bench.source.call("DELETE", f"/v1/vms/web-1/copy?job={job}&token={bench.job_token}")
    source_goes_on(bench, session)


def qemu_killed_before_it_ran(bench, session):
    loaded(bench, "j-never")
    os.kill(bench.destination.qemu_pid(), signal.SIGKILL)
    refused(lambda: activate(bench, "j-never"))
    wait_for(lambda: there(bench)["state"] == "stopped", 10, "the end of its QEMU")
    seen = there(bench)
    assert seen["let_run"] is False, seen
    assert bench.source.state() == "paused", "the source decided by itself"
    take_back(bench, "j-never", session)


def qemu_killed_after_it_ran(bench, session):
    loaded(bench, "j-ran")
    activate(bench, "j-ran")
    os.kill(bench.destination.qemu_pid(), signal.SIGKILL)
    wait_for(lambda: there(bench)["state"] == "stopped", 10, "the end of its QEMU")
    assert there(bench)["let_run"] is True
    take_back(bench, "j-ran", session)


def qemu_silent_when_it_shall_run(bench, session):
    loaded(bench, "j-silent")
    os.kill(bench.destination.qemu_pid(), signal.SIGSTOP)
    begun = time.monotonic()
    refused(lambda: activate(bench, "j-silent"))
    assert time.monotonic() - begun < 30, "nobody waits for ever"
    seen = there(bench)
    assert seen["state"] == "unknown" and seen["detail"] and seen["let_run"] is False, seen
    take_back(bench, "j-silent", session)


def agent_killed_and_then_qemu(bench, session):
    """A new agent lets a VM run that the old one took in, and knows that the old one let one run."""
    loaded(bench, "j-agent")
    bench.destination.kill()
    bench.destination.start()
    assert there(bench)["state"] == "incoming" and there(bench)["let_run"] is False
    activate(bench, "j-agent")
    bench.destination.kill()
    os.kill(bench.destination.qemu_pid(), signal.SIGKILL)
    bench.destination.start()
    seen = there(bench)
    assert seen["state"] == "stopped" and seen["let_run"] is True, seen
    take_back(bench, "j-agent", session)


def source_agent_killed_after_the_commit(bench, session):
    """Only the controller lets one of the two go on; a new agent knows why its guest stands still."""
    loaded(bench, "j-source")
    bench.source.kill()
    bench.source.start()
    assert bench.source.state() == "paused" and "handover" in bench.source.get("/v1/vms/web-1")["detail"]
    os.kill(bench.destination.qemu_pid(), signal.SIGKILL)
    take_back(bench, "j-source", session)


def no_room_for_the_record_of_the_destination(bench, session):
    """What cannot be written down is not done; with room again it is."""
    loaded(bench, "j-full-b")
    with bench.destination.full_state():
        assert "No space left" in str(refused(lambda: activate(bench, "j-full-b")))
        assert there(bench)["state"] == "incoming" and not answers(bench.destination.bridge)
    os.kill(bench.destination.qemu_pid(), signal.SIGKILL)
    take_back(bench, "j-full-b", session)


def no_room_for_the_record_of_the_source(bench, session):
    with bench.source.full_state():
        assert "No space left" in str(refused(lambda: begin(bench, "j-full-a")))
        session.send(b"not touched")
        assert bench.source.state() == "running"
    undo(bench, "j-full-a")
    begin(bench, "j-full-c")
    until_stage(bench, "j-full-c", "ready")
    with bench.source.full_state():
        seen = freeze(bench, "j-full-c")
        assert seen["state"] == "failed" and "No space left" in seen["error"], seen
        session.send(b"not stopped")
    source_goes_on(bench, session)
    undo(bench, "j-full-c")


def no_memory_for_the_base_copy(bench, session):
    pid = bench.source.process.pid
    used = int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
    hard = resource.prlimit(pid, resource.RLIMIT_AS)[1]
    resource.prlimit(pid, resource.RLIMIT_AS, (used + (ROOM_MIB << 20), hard))
    try:
        begin(bench, "j-nomem")
        wait_for(lambda: status(bench, "j-nomem")["state"] != "running", 30, "the end of the copy")
    finally:
        resource.prlimit(pid, resource.RLIMIT_AS, (hard, hard))
    seen = status(bench, "j-nomem")
    assert seen["state"] == "failed" and "Cannot allocate memory" in seen["error"], seen
    source_goes_on(bench, session)
    undo(bench, "j-nomem")


def source_qemu_silent_when_stopped(bench, session):
    """It may have been stopped, so it is told to go on until it says that it does."""
    begin(bench, "j-mute")
    until_stage(bench, "j-mute", "ready")
    pid = bench.source.qemu_pid()
    os.kill(pid, signal.SIGSTOP)
    freezing = freezing_of(bench, "j-mute")
    wait_for(lambda: "did not answer" in bench.source.log(), 20, "QMP's deadline")
    os.kill(pid, signal.SIGCONT)
    seen = freezing.end()
    assert seen["state"] == "failed" and "did not answer" in seen["error"], seen
    source_goes_on(bench, session)
    undo(bench, "j-mute")


STORIES = (qemu_killed_before_it_ran, qemu_killed_after_it_ran, qemu_silent_when_it_shall_run,
           agent_killed_and_then_qemu, source_agent_killed_after_the_commit,
           no_room_for_the_record_of_the_destination, no_room_for_the_record_of_the_source,
           no_memory_for_the_base_copy, source_qemu_silent_when_stopped)

if __name__ == "__main__":
    own_namespace()
    with Bench() as bench:
        bench.boot()
        session = Session(bench.source.bridge, 1)
        for story in STORIES:
            begun = time.monotonic()
            story(bench, session)
            print(f"{story.__name__}: {time.monotonic() - begun:.1f} s", flush=True)
    print("ok")
