#!/usr/bin/python3
"""The same VM is moved to and fro, again and again, by `whole` and by `fork`, while it writes memory that checks
itself. After each move: every page holds what was written last, the memories were equal where they must be, the
sessions' records are there, and the guest's kernel has nothing to say.

usage: agent_in_a_row.py [TIMES]      moves by each method, 2 unless told"""
import re
import sys

from agent_whole import begin, digests, freeze, until_stage
from bench_of_two import Bench, Session, answers, own_namespace, records, wait_for
from churn import ask, churns

COMPLAINTS = re.compile(r"BUG|Oops|panic|Call Trace|segfault|I/O error|soft lockup|rcu.*stall|EXT4-fs error")
RATE_MIB_S = 60


def kernel_is_content(agent):
    said = (agent.root / "run/web-1.console.log").read_text(errors="replace")
    found = COMPLAINTS.search(said)
    assert not found, said[max(0, found.start() - 500):found.end() + 500]


def every_page_is_right(agent):
    wait_for(lambda: churns(agent.bridge) and answers(agent.bridge), 30, "the guest")
    seen = ask(agent.bridge, "check")
    assert seen["errors"] == 0, seen
    kernel_is_content(agent)
    return seen["pages"]


def finish(bench, job):
    bench.destination.put("/v1/vms/web-1/adoption", {"command": bench.command(job, "adoption")})
    bench.source.put("/v1/vms/web-1/retirement", {"command": bench.command(job, "retiring"), "source_after": "delete"})
    assert bench.source.shm_files() == [], bench.source.shm_files()
    bench.source, bench.destination = bench.destination, bench.source


def by_whole(bench, job):
    begin(bench, job, destination_host=bench.destination.name)
    until_stage(bench, job, "ready")
    seen = freeze(bench, job)
    assert seen["state"] == "done", seen
    assert digests(bench.source) == digests(bench.destination), "the memories differ"
    bench.destination.put("/v1/vms/web-1/activation", {"command": bench.command(job, "handover"), "role": "sole"})
    return seen


def by_fork(bench, job):
    seen = bench.fork(job)
    every_page_is_right(bench.source)  # it goes on as if nothing had been
    merged = bench.merge(job)
    assert merged["state"] == "done" and not merged["conflicts"], merged
    return seen


def move(bench, by, number, expected):
    job = f"j-{by.__name__}-{number}"
    before = ask(bench.source.bridge, "stat")["pages"]
    session = Session(bench.source.bridge, 1000 + len(expected))
    session.send(b"until it moves")
    expected[session.number] = session.sent
    bench.job_token += 1
    seen = by(bench, job)
    finish(bench, job)
    pages = every_page_is_right(bench.source)
    assert pages > before, "it has not written since"
    assert records(bench.source.bridge) == expected, records(bench.source.bridge)
    print(f"{job}: pause {seen['pause_ms']:.0f} ms, {seen['bytes_diff'] >> 10} KiB changed, {pages} pages written",
          flush=True)


def main():
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    own_namespace()
    with Bench() as bench:
        bench.spec["append"] += " godwit.churn=32"
        bench.boot()
        wait_for(lambda: churns(bench.source.bridge), 60, "churnd")
        ask(bench.source.bridge, f"rate {RATE_MIB_S} 64")
        expected = {}
        for number in range(times):
            for by in (by_whole, by_fork):
                move(bench, by, number, expected)
    print(f"{2 * times} moves, 0 errors")


if __name__ == "__main__":
    main()
