#!/usr/bin/python3
"""Steering mode nat on real VMs under live sessions: the destination has a MAC and addresses of its own, leased by the
controller, and the switch rewrites; then the VM comes home. Prints TAP.

usage: nat.py BUILD [SCENARIO...]
"""
import os
import pathlib
import signal
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "lab"))
import smoke  # noqa: E402
from smoke import OTHER, expect  # noqa: E402
from whole import left_alone, qemus  # noqa: E402

BOOT = {"strategy": "boot"}
HOSTED = {"10.1.0.10", "fd00:1::10"}


def in_guest(story, host):
    return set(story.lab.device_api("agent-" + host).get("/v1/vms/web-1/addresses")["addresses"])


def neighbour(story, address):
    """The MAC that the client has for an address."""
    words = subprocess.run(story.lab.enter("client", "ip", "neigh", "show", address), check=True, text=True,
                           stdout=subprocess.PIPE).stdout.split()
    return words[words.index("lladdr") + 1]


def split(story, steering):
    """A migration with sessions on both sides, each answered by whom it belongs to; then the rest of it."""
    target = OTHER[story.vm()["host"]]
    migration, old, new = story.draining(memory=BOOT, steering=steering)
    old_role, new_role = old.mark(), new.mark()
    expect((old_role, new_role) == ("source", "clone"), (old_role, new_role))
    for crowd, role in ((old, "source"), (new, "clone")):
        heard = crowd.served_by()
        expect(heard == {role: crowd.tcp_sessions() + crowd.udp_flows()}, heard)
    return story.moved(migration, old, new, target)["result"]


def a_destination_with_addresses_of_its_own_takes_the_newcomers(story):
    source = story.vm()["host"]
    result = split(story, "nat")
    print(f"# gap {result['longest_gap_ms']} ms, flip {result['flip_us']:.1f} us, kept {result['sessions_kept']}, "
          f"moved {result['sessions_moved']}")
    expect(result["sessions_reset"] == 0, result)
    there = OTHER[source]
    steering = story.steering()
    [backend] = steering["backends"]
    expect(steering["hosting"] and steering["owner"] == there + "@nat" and backend["mode"] == "nat", steering)
    expect(in_guest(story, there) == set(backend["temporary_addresses"]), in_guest(story, there))
    expect(not in_guest(story, there) & HOSTED, "the guest has the hosted address too")
    # The source and its MAC are gone, and the peers have been told.
    newcomers = story.audience()
    expect({neighbour(story, address) for address in HOSTED} == {backend["mac"]}, "a neighbour was not told")
    newcomers.exchange()
    story.leave(newcomers)


def from_there_the_vm_moves_on_to_other_addresses(story):
    before = story.steering()["backends"][0]["temporary_addresses"]
    split(story, "nat")
    after = story.steering()["backends"][0]["temporary_addresses"]
    expect(not set(before) & set(after) and in_guest(story, story.vm()["host"]) == set(after), (before, after))


def a_fork_cannot_take_temporary_addresses_along(story):
    host = story.vm()["host"]
    crowd = story.audience()
    job = story.migrate(memory={"strategy": "fork"}).until_state("failed")
    expect("reached-by-nat" in job["error"]["type"], job["error"])
    crowd.exchange()
    story.leave(crowd)
    expect(story.vm()["host"] == host, "the VM did not stay")


def the_way_home_is_without_rewriting(story):
    split(story, "l2")
    host = story.vm()["host"]
    steering = story.steering()
    [backend] = steering["backends"]
    expect(not steering["hosting"] and steering["owner"] == host and backend["mode"] == "l2", steering)
    expect(in_guest(story, host) == HOSTED, in_guest(story, host))


def a_cancel_in_mid_drain_brings_the_sessions_of_both_to_their_end(story):
    host = story.vm()["host"]
    migration, old, new = story.draining(memory=BOOT, steering="nat")
    migration.cancel()
    migration.until(lambda job: job["state"] == "rolling-back" and story.steering()["owner"] == host)
    old.exchange()
    new.exchange()
    story.leave(new)
    new.forget_records()
    migration.until_state("cancelled")
    old.exchange()
    story.leave(old)
    expect(story.vm()["host"] == host and in_guest(story, host) == HOSTED, "the VM did not stay")
    left_alone(story, host)


def a_fresh_vm_that_dies_before_it_has_its_addresses_is_given_up(story):
    host = story.vm()["host"]
    crowd = story.audience()
    migration = story.migrate(memory=BOOT, steering="nat")
    migration.until(lambda job: "to listen" in job["detail"])
    [pid] = qemus(story, OTHER[host])
    os.kill(pid, signal.SIGKILL)
    job = migration.until_state("failed")
    expect("destination-lost" in job["error"]["type"], job["error"])
    crowd.exchange()
    story.leave(crowd)
    left_alone(story, host)


SCENARIOS = [
    a_fresh_vm_that_dies_before_it_has_its_addresses_is_given_up,
    a_cancel_in_mid_drain_brings_the_sessions_of_both_to_their_end,
    a_destination_with_addresses_of_its_own_takes_the_newcomers,
    a_fork_cannot_take_temporary_addresses_along,
    from_there_the_vm_moves_on_to_other_addresses,
    the_way_home_is_without_rewriting,
]

if __name__ == "__main__":
    smoke.SCENARIOS = SCENARIOS
    sys.exit(smoke.main())
