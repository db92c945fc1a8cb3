#!/usr/bin/python3
"""One guest whose memory changes at a given rate is moved over a link of 128 MiB/s: by Godwit (`whole`, `fork`) and
by QEMU 10's own migration (pre-copy, auto-converge, multifd, post-copy), case by case, rounds interleaved.

usage: migration.py OUT.json [--report FOLDER] [--rates 4,64,...] [--ways whole,pre-copy,...] [--rounds N]

What is told of each: bytes sent, how long it took, how long the guest stood still, how much of its work it did
meanwhile, and errors: every page says which write it holds (lab/guest/churnd.c), and all are looked at in the end.
"""
import argparse
import json
import os
import pathlib
import statistics
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/smoke/vm_agent"))

import migration_report
from bench_of_two import Bench, own_namespace, wait_for
from churn import Churn, ask, churns
from peer_vm import BANDWIDTH_MIB_S, WAYS, PeerVm, migrate

ADDRESS = "tcp:127.0.0.1:19500"
MEMORY_MIB, CHURN_MIB, LIMIT_S, SETTLE_S = 512, 256, 25, 1.0
OURS = ("whole", "fork")


def errors_at(bridge):
    wait_for(lambda: churns(bridge), 60, "the guest after its migration")
    return ask(bridge, "check")["errors"]


def started(churn, rate, lines):
    """What the guest really manages before anybody copies it, pages a second."""
    churn.ask(f"rate {rate} {lines}")
    time.sleep(SETTLE_S)
    first = churn.ask("stat")
    time.sleep(SETTLE_S)
    second = churn.ask("stat")
    return (second["pages"] - first["pages"]) / ((second["ns"] - first["ns"]) / 1e9), second["pages"]


def work_share(pages_before, pages_after, per_second, seconds):
    return (pages_after - pages_before) / max(1, per_second * seconds)


def move_ours(bench, way):
    job, began = "j-" + way, time.monotonic()
    method = {"method": way} if way == "whole" else {}
    bench.destination.put("/v1/vms/web-1/incoming", {"command": bench.command(job, "destination"), "spec": bench.spec,
                                                     "source_host": bench.source.name} | method)
    bench.source.put("/v1/vms/web-1/copy", {"command": bench.command(job, "copying"),
                                            "destination": bench.destination.transfer,
                                            "destination_host": bench.destination.name} | method)
    status = lambda: bench.source.get(f"/v1/vms/web-1/copy?job={job}")
    if way == "whole":
        wait_for(lambda: status()["stage"] == "ready" or status()["state"] != "running", LIMIT_S * 2, "the copy")
        bench.source.put("/v1/vms/web-1/freeze", {"command": bench.command(job, "freezing")})
    wait_for(lambda: status()["state"] != "running", LIMIT_S * 2, "the copy")
    seen, copied = status(), time.monotonic()
    assert seen["state"] == "done", seen
    activation = {"command": bench.command(job, "handover")} | ({"role": "sole"} if way == "whole" else {})
    bench.destination.put("/v1/vms/web-1/activation", activation)
    ended = time.monotonic()
    # A whole VM stands still until it runs at the destination; the source of a fork goes on before that.
    pause = seen["pause_ms"] + (1000 * (ended - copied) if way == "whole" else 0)
    return {"ended": True, "seconds": ended - began, "pause_ms": pause, "bytes": seen["bytes_on_wire"], "passes": 2,
            "throttle": 0}


def one_of_ours(bench, way, rate, lines):
    bench.boot()
    wait_for(lambda: churns(bench.source.bridge), 60, "churnd")
    churn = Churn(bench.source.bridge)
    per_second, before = started(churn, rate, lines)
    row = move_ours(bench, way)
    after = bench.destination if way == "whole" else bench.source
    wait_for(lambda: churns(after.bridge), 30, "churnd")
    there = Churn(after.bridge)
    row["work"] = work_share(before, there.ask("stat")["pages"], per_second, row["seconds"])
    there.ask("rate 0 1")
    row["errors"] = errors_at(bench.destination.bridge) + (errors_at(bench.source.bridge) if way == "fork" else 0)
    return row | {"rate": per_second * 4096 / 2**20}


def one_of_theirs(bench, binary, way, rate, lines):
    source = PeerVm(binary, bench.spec, bench.source.bridge, bench.root / "peer-a")
    destination = None
    try:
        wait_for(lambda: churns(bench.source.bridge), 60, "churnd")
        churn = Churn(bench.source.bridge)
        per_second, before = started(churn, rate, lines)
        destination = PeerVm(binary, bench.spec, bench.destination.bridge, bench.root / "peer-b", incoming=True)
        row = migrate(way, source, destination, ADDRESS, LIMIT_S)
        bridge = (bench.destination if row["ended"] else bench.source).bridge
        wait_for(lambda: churns(bridge), 30, "churnd")
        there = Churn(bridge)
        row["work"] = work_share(before, there.ask("stat")["pages"], per_second, row["seconds"])
        there.ask("rate 0 1")
        row["errors"] = errors_at(bridge)
        return row | {"rate": per_second * 4096 / 2**20}
    finally:
        for vm in (source, destination):
            if vm:
                vm.end()


def measure(way, rate, lines, binary):
    """Everything new for each: a link, a guest, two hosts."""
    limit = {"transfer_bandwidth_mib_s": BANDWIDTH_MIB_S, "shm_mib": 2048}
    with Bench(source_options=limit, **limit) as bench:
        bench.spec["memory_mib"] = MEMORY_MIB
        bench.spec["append"] += f" godwit.churn={CHURN_MIB}"
        if way in OURS:
            return one_of_ours(bench, way, rate, lines)
        return one_of_theirs(bench, binary, way, rate, lines)


def median_row(rows):
    """Each figure's own median; one round that did not end is told as such."""
    row = {name: statistics.median(one[name] for one in rows) for name in ("seconds", "bytes", "work", "rate", "passes", "throttle")}
    row["ended"] = all(one["ended"] for one in rows)
    row["pause_ms"] = statistics.median(one["pause_ms"] for one in rows) if row["ended"] else None
    row["errors"] = sum(one["errors"] for one in rows)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--report", type=pathlib.Path)
    parser.add_argument("--rates", default="4,64,128,256,400")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--ways", default=",".join(list(OURS) + list(WAYS)))
    arguments = parser.parse_args()
    own_namespace()
    binary = os.environ["GODWIT_PEER_QEMU"]
    rates = [(int(rate), 64) for rate in arguments.rates.split(",")] + [(256, 1)]
    ways = arguments.ways.split(",")
    measured = {(rate, lines, way): [] for rate, lines in rates for way in ways}
    for turn in range(arguments.rounds):
        for rate, lines, way in measured:
            row = measure(way, rate, lines, binary)
            measured[rate, lines, way].append(row)
            print(migration_report.line(rate, lines, way, row), flush=True)
    table = [{"rate": rate, "lines": lines, "way": way} | {"median": median_row(rows)}
             for (rate, lines, way), rows in measured.items()]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(migration_report.rows(table, arguments.rounds), indent=1) + "\n")
    if arguments.report:
        migration_report.write(table, arguments.report, BANDWIDTH_MIB_S, MEMORY_MIB, CHURN_MIB, LIMIT_S, arguments.rounds)
    return any(row["median"]["errors"] for row in table)


if __name__ == "__main__":
    sys.exit(main())
