#!/usr/bin/python3
"""Source and destination behind two switches (CN102932409A [0090]), real VMs under live sessions, and everything
between them failing. Prints TAP.

usage: two_switches.py BUILD [SCENARIO...]
"""
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "lab"))
import network  # noqa: E402
import smoke  # noqa: E402
from scenario import Migration, whole  # noqa: E402
from smoke import OTHER, expect, refused  # noqa: E402


def fabric(story, state):
    network.run("ip", "-n", network.namespace(story.lab.prefix, "switch-2"), "link", "set", "fabric", state)


def split(story):
    """A migration to the other host in mid-drain, by the way that leads there."""
    return story.draining(steering=story.lab.way_to(OTHER[story.vm()["host"]]))


def served_apart(old, new):
    for crowd, role in ((old, "source"), (new, "clone")):
        heard = crowd.served_by()
        expect(heard == {role: crowd.tcp_sessions() + crowd.udp_flows()}, heard)


def only_tcp_lost_nothing(totals):
    """Datagrams that were on their way into a cut cable are gone; no session is."""
    return whole({**totals, "lost": 0, "echo_lost": 0})


def l2_to_a_host_behind_another_switch_is_refused_with_the_way(story):
    problem = refused(422, Migration.start, story.lab, "host-b", steering="l2")
    expect("use vxlan" in str(problem.body), problem)


def the_tunnel_carries_sessions_and_the_first_switch_keeps_steering(story):
    migration, old, new = split(story)
    old.mark()
    new.mark()
    served_apart(old, new)
    result = story.moved(migration, old, new, "host-b")["result"]
    print(f"# gap {result['longest_gap_ms']} ms, kept {result['sessions_kept']}, moved {result['sessions_moved']}")
    expect(result["sessions_reset"] == 0, result)
    steering = story.steering()
    expect([one["port"] for one in steering["backends"]] == ["vx-b"] and not steering["hosting"], steering)
    newcomers = story.audience()
    newcomers.exchange()
    story.leave(newcomers)


def both_switches_killed_in_mid_drain_lose_no_session_on_the_way_home(story):
    migration, old, new = split(story)
    for name in ("switch-2", "switch"):
        story.lab.daemons[name].kill()
        old.exchange()
        new.exchange()
        story.lab.daemons[name].start()
    story.moved(migration, old, new, "host-a")


def a_fabric_that_fails_in_mid_drain_and_returns_loses_no_session(story):
    migration, old, new = split(story)
    fabric(story, "down")
    old.exchange()  # the source is on this side
    expect(migration.now()["phase"] == "draining", migration.now())
    fabric(story, "up")
    new.exchange()
    story.moved(migration, old, new, "host-b", intact=only_tcp_lost_nothing)


def a_cancel_brings_the_far_sessions_to_their_end(story):
    host = story.vm()["host"]
    migration, old, new = split(story)
    migration.cancel()
    migration.until(lambda job: job["state"] == "rolling-back" and story.steering()["owner"] == host)
    old.exchange()
    new.exchange()
    story.leave(new)
    new.forget_records()
    migration.until_state("cancelled")
    old.exchange()
    story.leave(old)
    expect(story.vm()["host"] == host, "the VM did not stay")


def a_fabric_that_is_down_is_refused_by_preflight(story):
    host = story.vm()["host"]
    fabric(story, "down")
    job = story.migrate(steering=story.lab.way_to(OTHER[host])).until_state("failed")
    expect("tunnel-down" in job["error"]["type"] and "vx-b of switch sw-1" in job["error"]["detail"], job["error"])
    fabric(story, "up")
    expect(story.vm()["host"] == host, "the VM did not stay")


SCENARIOS = [
    l2_to_a_host_behind_another_switch_is_refused_with_the_way,
    a_fabric_that_is_down_is_refused_by_preflight,
    a_cancel_brings_the_far_sessions_to_their_end,
    the_tunnel_carries_sessions_and_the_first_switch_keeps_steering,
    both_switches_killed_in_mid_drain_lose_no_session_on_the_way_home,
    a_fabric_that_fails_in_mid_drain_and_returns_loses_no_session,
]

if __name__ == "__main__":
    smoke.SCENARIOS = SCENARIOS
    sys.exit(smoke.main(topology="two-switches"))
