#!/usr/bin/python3
"""A VM with a disk, moved through the controller: both write, each into an overlay of its own; what is kept and what
goes with whom is what the documents say. Prints TAP.

usage: disks.py BUILD [SCENARIO...]
"""
import hashlib
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "lab"))
import smoke  # noqa: E402
from smoke import OTHER, expect, refused  # noqa: E402
from whole import no_flow_lost  # noqa: E402

DISK_MIB, BLOCK = 16, 64 << 10


def write(audience, block, word):
    """Through a session of this audience, so into the disk of the VM that serves it; on the disk when it returns."""
    audience.ssh[0].ask(f"printf %-512s {word} | dd of=/dev/vda bs=512 seek={block * BLOCK // 512} conv=fsync "
                        "2>/dev/null; echo done")


def read(audience, *blocks):
    """Not from the guest's cache."""
    audience.ssh[0].ask("echo 3 >/proc/sys/vm/drop_caches; echo done")
    one = "dd if=/dev/vda bs=512 skip={} count=1 2>/dev/null | tr -d '\\0'; echo"
    return [audience.ssh[0].ask(f"echo $({one.format(block * BLOCK // 512)})") for block in blocks]


def overlays(story):
    return sorted(path.name for path in (story.lab.out / "disks").iterdir())


def base_digest(story):
    return hashlib.sha256(story.lab.files.disk_base.read_bytes()).hexdigest()


def a_fork_keeps_what_was_written_until_then_and_what_the_destination_writes(story):
    untouched = base_digest(story)
    before = story.audience()
    write(before, 1, "before")
    migration = story.migrate()
    migration.until_phase("draining")
    new = story.audience()
    write(before, 2, "late-at-the-source")
    write(new, 3, "on-the-clone")
    expect(read(before, 1, 2, 3) == ["before", "late-at-the-source", ""], read(before, 1, 2, 3))
    expect(read(new, 1, 2, 3) == ["before", "", "on-the-clone"], read(new, 1, 2, 3))
    story.leave(before)
    migration.until_state("succeeded")
    # A disk has no merge: what the source wrote after the fork went with it.
    expect(read(new, 1, 2, 3) == ["before", "", "on-the-clone"], read(new, 1, 2, 3))
    story.leave(new)
    expect(base_digest(story) == untouched, "the base was written")
    expect(not any("source" in name for name in overlays(story)), overlays(story))


def a_whole_vm_takes_its_disk_along(story):
    crowd = story.audience()
    write(crowd, 1, "before")
    write(crowd, 4, "whole")
    host = story.vm()["host"]
    story.migrate(memory={"strategy": "whole"}).until_state("succeeded")
    expect(story.vm()["host"] == OTHER[host], "the VM did not move")
    write(crowd, 5, "over-there")
    expect(read(crowd, 1, 4, 5) == ["before", "whole", "over-there"], read(crowd, 1, 4, 5))
    crowd.exchange()
    story.leave(crowd, no_flow_lost)


def a_cancelled_fork_leaves_the_source_all_it_wrote_and_takes_the_clones_away(story):
    crowd = story.audience()
    write(crowd, 4, "before-the-fork")
    had = overlays(story)
    migration = story.migrate()
    migration.until_phase("draining")
    new = story.audience()
    write(crowd, 6, "goes-on")
    write(new, 6, "of-the-clone")
    clones = [name for name in overlays(story) if name not in had]
    expect(clones, "the clone had no overlay of its own")
    migration.cancel()
    new.forget_records()
    story.leave(new)
    migration.until_state("cancelled")
    expect(read(crowd, 4, 6) == ["before-the-fork", "goes-on"], read(crowd, 4, 6))
    # The source goes on in the overlay it turned to at the fork; the clone's is gone.
    expect(len([name for name in overlays(story) if name not in had]) == len(clones) - 1, overlays(story))
    story.leave(crowd)


def a_disk_that_both_would_write_is_refused_with_the_fix(story):
    host = story.vm()["host"]
    agent, own = story.lab.device_api("agent-" + host), story.lab.out / "own.raw"
    with open(own, "wb") as file:
        file.truncate(DISK_MIB << 20)
    spec = agent.get("/v1/vms/web-1")["spec"]
    spec.update(id="web-2", mac="52:54:00:00:00:0b", addresses=["10.1.0.11"], regions=[],
                disks=[{"base": str(own), "writable": True, "format": "raw"}])
    agent.put("/v1/vms/web-2", spec)
    agent.post("/v1/vms/web-2:start", timeout=60)
    story.lab.api().put("/v1/vms/web-2", {"host": host})
    problem = refused(400, story.lab.api().post, "/v1/vms/web-2:migrate",
                      {"destination": {"host": OTHER[host]}, "validate_only": True},
                      headers={"Idempotency-Key": "shared-disk"})
    expect(problem.type == "shared-disk" and "leave writable out" in str(problem), problem)
    story.lab.api().delete("/v1/vms/web-2")
    agent.post("/v1/vms/web-2:stop", timeout=60)


SCENARIOS = [
    a_fork_keeps_what_was_written_until_then_and_what_the_destination_writes,
    a_whole_vm_takes_its_disk_along,
    a_cancelled_fork_leaves_the_source_all_it_wrote_and_takes_the_clones_away,
    a_disk_that_both_would_write_is_refused_with_the_fix,
]


if __name__ == "__main__":
    smoke.SCENARIOS = SCENARIOS
    sys.exit(smoke.main(disk_mib=DISK_MIB))
