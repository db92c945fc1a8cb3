#!/usr/bin/python3
"""What a client sees of a `fork` migration: how long answers take before it, while memory is copied, while the
source drains, and after it; of sessions that existed and of sessions that began after the flip.

usage: client_view.py OUT.json [--build DIR] [--plane ebpf|dpdk] [--seconds N] [--report FOLDER]
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "lab"))
from lab import PLANES, Lab  # noqa: E402
from scenario import Migration  # noqa: E402

SESSIONS, EVERY_MS, GOAL = 24, 50, 1.2
WHEN = (("old/before", "before the migration"), ("old/copying", "existing sessions, while memory is copied and forked"),
        ("old/draining", "existing sessions, while the source drains"),
        ("new/draining", "new sessions, while the source drains"),
        ("new/ending", "new sessions, through commit, patch and retiring"), ("new/after", "after the migration"))


class Client:
    def __init__(self, lab):
        self.process = subprocess.Popen(lab.enter("client", sys.executable, str(HERE / "latency_client.py")),
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError("the client has ended")
        return json.loads(answer)


def measure(lab, seconds):
    client = Client(lab)
    client.tell("open", "old", SESSIONS, EVERY_MS)
    time.sleep(seconds)  # a phase is as long as it is measured
    client.tell("phase", "copying")
    migration = Migration.start(lab, "host-b")
    migration.until_phase("draining")
    client.tell("phase", "draining")
    client.tell("open", "new", SESSIONS, EVERY_MS)
    time.sleep(seconds)
    client.tell("phase", "ending")
    client.tell("close", "old")
    job = migration.until_state("succeeded", within_s=120)
    client.tell("phase", "after")
    time.sleep(seconds)
    seen = client.tell("end")
    client.process.wait(20)
    return seen, job["result"]


def rows(seen, result):
    idle = seen["old/before"]
    found = [{"case": f"{text}: p99", "ours": seen[name]["p99_ms"], "peer": idle["p99_ms"], "unit": "ms",
              "peer_name": "the same guest before it is moved", "ratio": seen[name]["p99_ms"] / idle["p99_ms"],
              "goal": GOAL, "met": seen[name]["p99_ms"] <= GOAL * idle["p99_ms"], "rounds": 1}
             for name, text in WHEN[1:] if name in seen]
    found.append({"case": "sessions that broke", "ours": len(seen["broken"]), "peer": 0, "unit": "sessions",
                  "peer_name": "none", "ratio": None, "goal": 0, "met": not seen["broken"], "rounds": 1})
    found.append({"case": "longest gap at the switch", "ours": result["longest_gap_ms"], "peer": idle["p50_ms"],
                  "peer_name": "median answer before it is moved", "unit": "ms", "ratio": None,
                  "goal": idle["p50_ms"] + 10, "met": result["longest_gap_ms"] <= idle["p50_ms"] + 10, "rounds": 1})
    return found


def table(seen):
    lines = ["| when | requests | p50 | p90 | p99 | longest | p99 beside idle |", "|---|---|---|---|---|---|---|"]
    for name, text in WHEN:
        if name not in seen:
            continue
        one = seen[name]
        ratio = one["p99_ms"] / seen["old/before"]["p99_ms"]
        lines.append(f"| {text} | {one['requests']} | {one['p50_ms']:.1f} ms | {one['p90_ms']:.1f} ms | "
                     f"{one['p99_ms']:.1f} ms | {one['max_ms']:.0f} ms | {ratio:.2f} |")
    return "\n".join(lines)


def histogram(seen):
    edges = list(seen["old/before"]["buckets"])
    shown = [(name, text) for name, text in WHEN if name in seen]
    lines = ["| took at most, and more than above | " + " | ".join(text for _, text in shown) + " |", "|---" * (len(shown) + 1) + "|"]
    for edge in edges:
        share = [100 * seen[name]["buckets"][edge] / seen[name]["requests"] for name, _ in shown]
        lines.append(f"| {edge} | " + " | ".join(f"{one:.2f} %" for one in share) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--build")
    parser.add_argument("--plane", choices=PLANES, default="ebpf")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--report", type=pathlib.Path)
    options = parser.parse_args()
    lab = Lab(f"gwt{os.getpid()}-", build=options.build, plane=options.plane)
    with lab.locked():
        try:
            lab.up()
            seen, result = measure(lab, options.seconds)
        finally:
            lab.down()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(rows(seen, result), indent=1) + "\n")
    text = f"{table(seen)}\n\n{histogram(seen)}\n\nSessions that broke: {len(seen['broken'])}\n"
    print(text + "\n".join(seen["broken"]))
    if options.report:
        options.report.mkdir(parents=True, exist_ok=True)
        (options.report / "client-view.md").write_text(text)
    return 1 if seen["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
