#!/usr/bin/python3
"""Method whole on a real VM under live sessions: the VM itself moves, with all of them. And a destination that
fails before the commit: the source goes on, nobody notices more than a short wait. Prints TAP.

usage: whole.py BUILD [SCENARIO...]
"""
import os
import pathlib
import signal
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "lab"))
import network  # noqa: E402
import smoke  # noqa: E402
from smoke import OTHER, expect  # noqa: E402

WHOLE = {"strategy": "whole"}


def no_flow_lost(totals):
    """A datagram or an echo may be late by the pause and is then asked again; no session, no byte is lost."""
    return not totals["broken"] and totals["missing_bytes"] == 0


def memory_files(story, host):
    return sorted(path.name for path in (story.lab.shm / host).iterdir())


def left_alone(story, host):
    """The destination of a migration that was taken back has nothing of it."""
    there = story.lab.device_api("agent-" + OTHER[host])
    expect(not there.get("/v1/vms"), f"left at the destination: {there.get('/v1/vms')}")
    expect(not memory_files(story, OTHER[host]), f"left in memory: {memory_files(story, OTHER[host])}")
    expect(not any("base" in name for name in memory_files(story, host)), memory_files(story, host))
    steering = story.steering()
    expect(steering["owner"] == host and not steering["hosting"] and len(steering["backends"]) == 1, steering)
    expect(not qemus(story, OTHER[host]), f"QEMU still runs at {OTHER[host]}")


def qemus(story, host):
    pids = network.run("ip", "netns", "pids", network.namespace(story.lab.prefix, host)).split()
    return [int(pid) for pid in pids if "qemu" in pathlib.Path(f"/proc/{pid}/comm").read_text()]


def taken_back(story, migration, crowd, host, state="failed"):
    job = migration.until_state(state)
    crowd.exchange()
    story.leave(crowd, no_flow_lost)
    story.records_right()
    expect(story.vm()["host"] == host, "the VM did not stay")
    left_alone(story, host)
    return job


# ---- it goes well ----

def every_session_goes_along_and_none_is_reset(story):
    host = story.vm()["host"]
    crowd = story.audience()
    identity = crowd.mark()
    before = story.sessions_of(host)
    epoch = story.steering()["epoch"]
    migration = story.migrate(memory=WHOLE)
    job = migration.until_state("succeeded")
    result = job["result"]
    print(f"# pause {result['source_pause_ms']:.0f} ms, gap at the switch {result['longest_gap_ms']} ms, "
          f"flip {result['flip_us']:.0f} us, copied {result['bytes_copied']}, patched {result['bytes_patched']}, "
          f"sessions {result['sessions_kept']}")
    crowd.exchange()
    heard = crowd.served_by()
    expect(heard == {identity: crowd.tcp_sessions() + crowd.udp_flows()}, f"it is not the same VM: {heard}")
    newcomers = story.audience()
    expect(story.sessions_of(OTHER[host]) >= before and story.sessions_of(host) == 0, story.steering())
    expect(story.steering()["epoch"] == epoch + 1, "one flip")
    story.leave(crowd, no_flow_lost)
    story.leave(newcomers)
    story.records_right()
    expect(story.vm()["host"] == OTHER[host], "the VM did not move")
    expect(result["sessions_reset"] == 0 and result["sessions_kept"] >= crowd.tcp_sessions(), result)
    expect(len(result["root"]) == 32 and result["source_pause_ms"] > 0, result)
    expect(result["bytes_on_wire"] < result["bytes_copied"] * 1.1 + result["bytes_patched"] * 1.5, result)
    expect(not memory_files(story, host) and not qemus(story, host), "something is left of the source")


def rounds_are_counted_and_the_way_back_is_the_same(story):
    host = story.vm()["host"]
    crowd = story.audience()
    job = story.migrate(memory={**WHOLE, "rounds": 3}).until_state("succeeded")
    expect(job["result"]["rounds"] == 3, job["result"])
    crowd.exchange()
    story.leave(crowd, no_flow_lost)
    story.records_right()
    expect(story.vm()["host"] == OTHER[host], "the VM did not move")


def a_fork_after_a_whole_move_works_as_ever(story):
    migration, old, new = story.draining()
    story.moved(migration, old, new, OTHER[story.vm()["host"]])


# ---- it does not ----

def a_pause_budget_that_cannot_be_kept_is_refused_before_the_stop(story):
    host = story.vm()["host"]
    crowd = story.audience()
    migration = story.migrate(memory={**WHOLE, "pause_budget_ms": 1, "rounds": 1})
    job = taken_back(story, migration, crowd, host)
    expect(job["error"]["type"].endswith("pause-budget"), job["error"])
    expect(any("--pause-budget-ms 2" in action for action in job["error"]["next_actions"]), job["error"])


def _stopped_by(story, act, **memory):
    """`act` is done to the destination while the source stands still, and before it is let go."""
    host = story.vm()["host"]
    crowd = story.audience()
    migration = story.migrate(memory={**WHOLE, **memory})
    migration.until_phase("copying")
    agent = story.lab.device_api("agent-" + host)
    [pid] = qemus(story, OTHER[host])
    os.kill(pid, signal.SIGSTOP)  # it can hold everything and load nothing
    end = time.monotonic() + 30
    while agent.get("/v1/vms/web-1")["state"] != "paused":
        expect(time.monotonic() < end, "the source was not stopped")
    act(story, OTHER[host], pid)
    return taken_back(story, migration, crowd, host)


def a_destination_that_dies_while_the_source_stands_still_is_given_up(story):
    job = _stopped_by(story, lambda _story, _host, pid: os.kill(pid, signal.SIGKILL))
    expect("copy-failed" in job["error"]["type"], job["error"])


def an_agent_killed_while_the_source_stands_still_is_given_up(story):
    def kill_agent(story, host, pid):
        agent = story.lab.daemons["agent-" + host]
        agent.kill()
        os.kill(pid, signal.SIGCONT)
        agent.start()
    _stopped_by(story, kill_agent)


def a_cut_link_is_given_up_when_the_budget_is_used(story):
    def cut(story, host, pid):
        place = story.lab.prefix
        network.run("ip", "-n", network.namespace(place, host), "link", "set", "mgmt0", "down")
        threading.Timer(4, mend, (story, host, pid)).start()

    def mend(story, host, pid):
        os.kill(pid, signal.SIGCONT)
        network.run("ip", "-n", network.namespace(story.lab.prefix, host), "link", "set", "mgmt0", "up")
    job = _stopped_by(story, cut, pause_budget_ms=2000)
    expect(job["error"]["type"].endswith("pause-budget"), job["error"])


def a_controller_killed_while_the_source_stands_still_goes_on(story):
    host = story.vm()["host"]
    crowd = story.audience()
    migration = story.migrate(memory=WHOLE)
    agent = story.lab.device_api("agent-" + host)
    end = time.monotonic() + 60
    while agent.get("/v1/vms/web-1")["state"] != "paused":
        expect(time.monotonic() < end, "the source was not stopped")
    story.lab.daemons["controller"].kill()
    story.lab.daemons["controller"].start()
    migration.until_state("succeeded")
    crowd.exchange()
    story.leave(crowd, no_flow_lost)
    story.records_right()
    expect(story.vm()["host"] == OTHER[host], "the VM did not move")


def a_host_without_memory_fails_before_anything_moved(story):
    host = story.vm()["host"]
    agent, files = "agent-" + OTHER[host], story.lab.files
    usual = dict(files.memory_mib)
    smoke._restart_with_memory(story, agent, {**usual, OTHER[host]: 128})
    try:
        crowd = story.audience()
        job = taken_back(story, story.migrate(memory=WHOLE), crowd, host)
        expect(job["error"]["type"].endswith("no-memory"), job["error"])
    finally:
        smoke._restart_with_memory(story, agent, usual)


SCENARIOS = [
    every_session_goes_along_and_none_is_reset,
    rounds_are_counted_and_the_way_back_is_the_same,
    a_pause_budget_that_cannot_be_kept_is_refused_before_the_stop,
    a_destination_that_dies_while_the_source_stands_still_is_given_up,
    an_agent_killed_while_the_source_stands_still_is_given_up,
    a_cut_link_is_given_up_when_the_budget_is_used,
    a_controller_killed_while_the_source_stands_still_goes_on,
    a_host_without_memory_fails_before_anything_moved,
    a_fork_after_a_whole_move_works_as_ever,
]

if __name__ == "__main__":
    smoke.SCENARIOS = SCENARIOS
    sys.exit(smoke.main())
