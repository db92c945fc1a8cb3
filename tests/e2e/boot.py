#!/usr/bin/python3
"""Method boot on real VMs under live sessions: a fresh VM starts from the source's region, newcomers go to it as
soon as it listens, the records of both meet in the merge. Prints TAP.

usage: boot.py BUILD [SCENARIO...]
"""
import os
import pathlib
import signal
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "lab"))
import smoke  # noqa: E402
from smoke import OTHER, expect  # noqa: E402
from whole import left_alone, qemus  # noqa: E402

BOOT = {"strategy": "boot"}


def a_fresh_vm_takes_the_newcomers_and_the_records_meet(story):
    target = OTHER[story.vm()["host"]]
    migration, old, new = story.draining(memory=BOOT)
    old_role, new_role = old.mark(), new.mark()
    expect((old_role, new_role) == ("source", "clone"), (old_role, new_role))
    for crowd, role in ((old, "source"), (new, "clone")):
        heard = crowd.served_by()
        expect(heard == {role: crowd.tcp_sessions() + crowd.udp_flows()}, heard)
    job = story.moved(migration, old, new, target)
    result = job["result"]
    print(f"# copied {result['bytes_copied']}, pause {result['source_pause_ms']:.1f} ms, "
          f"patched {result['bytes_patched']}, gap {result['longest_gap_ms']} ms")
    expect(result["bytes_copied"] < 17 << 20, "more than the region was copied")
    expect(result["sessions_reset"] == 0 and result["bytes_patched"] > 0, result)


def a_fresh_vm_that_dies_before_it_listens_is_given_up(story):
    host = story.vm()["host"]
    crowd = story.audience()
    migration = story.migrate(memory=BOOT)
    # Killed any earlier, while it is being started, it is simply started again.
    migration.until(lambda job: "to listen" in job["detail"])
    [pid] = qemus(story, OTHER[host])
    os.kill(pid, signal.SIGKILL)
    job = migration.until_state("failed")
    expect("destination-lost" in job["error"]["type"], job["error"])
    crowd.exchange()
    story.leave(crowd)
    story.records_right()
    expect(story.vm()["host"] == host, "the VM did not stay")
    left_alone(story, host)


def a_cancel_while_it_starts_leaves_nothing(story):
    host = story.vm()["host"]
    crowd = story.audience()
    migration = story.migrate(memory=BOOT)
    migration.until(lambda job: "to listen" in job["detail"])
    migration.cancel()
    migration.until_state("cancelled")
    crowd.exchange()
    story.leave(crowd)
    left_alone(story, host)


SCENARIOS = [
    a_fresh_vm_that_dies_before_it_listens_is_given_up,
    a_cancel_while_it_starts_leaves_nothing,
    a_fresh_vm_takes_the_newcomers_and_the_records_meet,
]

if __name__ == "__main__":
    smoke.SCENARIOS = SCENARIOS
    sys.exit(smoke.main())
