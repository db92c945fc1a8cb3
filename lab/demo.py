#!/usr/bin/python3
"""Moves a real VM under live sessions and prints the proof.

usage: demo.py [--prefix P] [--build DIR] [--plane ebpf|dpdk] [--topology one-switch|two-switches]

The last line is one line of JSON, {"ok": true, ...}; the exit code is not zero when anything of it
fails. The lab is the demo's own and is removed at the end, also after a failure or ^C.
"""
import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import network  # noqa: E402
from api import Problem  # noqa: E402
from clients import Load, Lost  # noqa: E402
from lab import PLANES, Lab  # noqa: E402
from scenario import Audience, Migration, whole  # noqa: E402
from verdict import Verdict, bytes_text, timeline  # noqa: E402

PHASES = ("accepted", "preflight", "reserve", "hosting", "destination", "copying", "steering", "draining",
          "commit", "handover", "quiescing", "patching", "retiring")


def headline(text, started=time.monotonic()):
    print(f"\n[{time.monotonic() - started:5.1f} s] {text}", flush=True)


def begin_migration(lab):
    """Through the command line, as a person would; the progress is shown as it comes."""
    words = ("vm", "migrate", "web-1", "--to", "host-b", "--steering", lab.way_to("host-b"))
    asked = subprocess.run(lab.cli(*words, "-o", "json"), check=False,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if asked.returncode != 0:
        raise Lost("godwit vm migrate: " + asked.stderr.strip())
    migration = Migration(lab, json.loads(asked.stdout))
    print(f"  $ godwit {' '.join(words)}      job {migration.id}", flush=True)
    watcher = subprocess.Popen(lab.cli("job", "watch", migration.id), stdin=subprocess.DEVNULL,
                               stderr=subprocess.STDOUT)
    return migration, watcher


def sessions_at_switch(lab, owner):
    """Live sessions of one owner by protocol, as the switch itself counts them."""
    listed = lab.device_api("switch").get(f"/v1/sessions?vm=web-1&owner={owner}&limit=10000")
    counts = {}
    for row in listed["sessions"]:
        name = {22: "ssh", 80: "http", 6379: "redis", 7000: "recordd"}.get(row["port"], "other")
        name = name if row["protocol"] == "tcp" else row["protocol"]
        counts[name] = counts.get(name, 0) + 1
    return counts


def has_all(counts, audience):
    """Sessions that have ended may still be listed; every live one must be."""
    return all(counts.get(name, 0) >= wanted for name, wanted in audience.at_switch().items())


def prove_split(verdict, lab, old, new):
    """While both VMs run: old sessions are answered by the source, new ones by the destination."""
    old_role, new_role = old.mark(), new.mark()
    verdict.check("an ssh session from before is on the source", old_role == "source", old_role)
    verdict.check("an ssh session from after the flip is on the clone", new_role == "clone", new_role)
    for audience, role, name in ((old, "source", "existing"), (new, "clone", "new")):
        heard = audience.served_by()
        expected = audience.tcp_sessions() + audience.udp_flows()
        verdict.check(f"all {name} sessions are answered by the {role}", heard == {role: expected}, heard)
    old.exchange()
    source, destination = sessions_at_switch(lab, "host-a"), sessions_at_switch(lab, "host-b")
    verdict.check("the switch lists the existing sessions at the source", has_all(source, old), source)
    verdict.check("the switch lists the new sessions at the destination", has_all(destination, new), destination)


def prove_end(verdict, lab, load, job, old_totals, new, sessions):
    """After the job: memory is patched, the source is gone, nobody who is still there noticed."""
    verdict.check("the job succeeded", job["state"] == "succeeded", job["state"])
    new.exchange()
    records = load.tell("records", "10.1.0.10")
    verdict.check("every record is on the destination and right, of old and of new sessions",
                  records["wrong"] == 0 and records["missing"] == 0 and
                  records["made_by"].get("sole", 0) == sessions["old_records"] and
                  records["made_by"].get("clone", 0) == sessions["new_records"], records)
    verdict.check("the old sessions' records are closed", records["closed"] >= sessions["old_records"],
                  records["closed"])
    try:
        state = lab.device_api("agent-host-a").get("/v1/vms/web-1")["state"]
    except Problem as problem:
        state = problem.type or str(problem.status)
    verdict.check("the source's agent has forgotten the VM", state == "unknown-vm", state)
    left = [pid for pid in network.run("ip", "netns", "pids", network.namespace(lab.prefix, "host-a")).split()
            if "qemu" in pathlib.Path(f"/proc/{pid}/comm").read_text()]
    verdict.check("no QEMU runs on host-a", not left, left)
    vm = lab.api().get("/v1/vms/web-1")
    verdict.check("the VM is on host-b", vm["host"] == "host-b", vm["host"])
    verdict.check("no session of before was reset, no byte of it is missing", whole(old_totals), old_totals)


def report(verdict, job, old_totals, new_totals, sessions):
    result = job["result"]
    longest = max(old_totals["longest_gap_ms"], new_totals["longest_gap_ms"])
    phases = {phase: result["phase_ms"][phase] for phase in PHASES if phase in result["phase_ms"]}
    headline("The migration, to scale")
    print(timeline(phases))
    headline("In figures")
    verdict.print_figures([
        ("sessions before the flip", f"{sessions['old_tcp']} TCP, {sessions['old_udp']} UDP, 2 echo streams"),
        ("sessions after the flip", f"{sessions['new_tcp']} TCP, {sessions['new_udp']} UDP, 2 echo streams"),
        ("at the switch when steering began", f"{result['sessions_at_start']}, kept {result['sessions_kept']}, "
                                              f"reset {result['sessions_reset']}"),
        ("longest wait of a client for an answer", f"{longest} ms"),
        ("longest gap seen by the switch", f"{result['longest_gap_ms']} ms"),
        ("flip", f"{result['flip_us']:.2f} us"),
        ("pause of the source at the fork", f"{result['source_pause_ms']:.1f} ms"),
        ("pause of the destination at the patch", f"{result['destination_pause_ms']:.1f} ms"),
        ("copied", bytes_text(result["bytes_copied"])),
        ("compared", bytes_text(result["bytes_compared"])),
        ("patched", bytes_text(result["bytes_patched"])),
        ("on the wire between the agents", bytes_text(result["bytes_on_wire"])),
    ])
    verdict.figures.update({
        "sessions_before": sessions["old_tcp"], "udp_before": sessions["old_udp"],
        "sessions_after": sessions["new_tcp"], "udp_after": sessions["new_udp"],
        "resets": sum(old_totals["broken"].values()) + sum(new_totals["broken"].values()),
        "missing_bytes": old_totals["missing_bytes"] + new_totals["missing_bytes"],
        "udp_lost": old_totals["lost"] + new_totals["lost"],
        "echo_sent": old_totals["echo_sent"] + new_totals["echo_sent"],
        "echo_lost": old_totals["echo_lost"] + new_totals["echo_lost"],
        "client_longest_gap_ms": longest, **result,
    })


def migrate_under_load(verdict, lab):
    headline("Sessions before: idle and busy, recordd, redis, http, ssh, UDP, echo")
    load = Load(lab)
    old = Audience(lab, load, "old")
    sessions = {"old_tcp": old.tcp_sessions(), "old_udp": old.udp_flows(), "old_records": old.records()}
    verdict.check("at least 300 TCP sessions exist", old.tcp_sessions() >= 300, old.tcp_sessions())

    headline("The migration")
    migration, watcher = begin_migration(lab)
    migration.until_phase("draining")

    headline("Sessions that begin after the flip")
    new = Audience(lab, load, "new")
    sessions.update({"new_tcp": new.tcp_sessions(), "new_udp": new.udp_flows(), "new_records": new.records()})
    verdict.check("at least 300 TCP sessions began after the flip", new.tcp_sessions() >= 300, new.tcp_sessions())
    prove_split(verdict, lab, old, new)
    verdict.check("the job still drains, it waits for the existing sessions", migration.now()["phase"] == "draining")

    headline("The existing sessions end; the rest goes by itself")
    old_totals = old.leave()
    job = migration.until_state("succeeded", within_s=60)
    watcher.wait(30)

    headline("What is true now")
    prove_end(verdict, lab, load, job, old_totals, new, sessions)
    new_totals = new.leave()
    verdict.check("no session from after the flip was reset, no byte of it is missing", whole(new_totals), new_totals)
    load.end()
    report(verdict, job, old_totals, new_totals, sessions)


def interrupted(number, _frame):
    raise KeyboardInterrupt(signal.Signals(number).name)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prefix", default="gwdemo-", help="name of the demo's own lab")
    parser.add_argument("--build", help="where the programs were built (default: build/)")
    parser.add_argument("--plane", choices=PLANES, default="ebpf", help="who forwards in the switch (default: ebpf)")
    parser.add_argument("--topology", choices=network.TOPOLOGIES, default="one-switch",
                        help="two-switches: the destination is behind a switch of its own")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("demo.py: needs root (network namespaces, eBPF)", file=sys.stderr)
        return 77
    lab = Lab(options.prefix, build=options.build, plane=options.plane, topology=options.topology)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    verdict = Verdict()
    began = time.monotonic()
    with lab.locked():
        try:
            switches = "access switch" if options.topology == "one-switch" else "two access switches and a tunnel"
            headline(f"The lab: client network, {switches} (plane {options.plane}), two hypervisors, one VM")
            lab.down()
            lab.up()
            migrate_under_load(verdict, lab)
        except KeyboardInterrupt as stop:
            verdict.check(f"the demo ran to its end ({stop})", False)
        except (Lost, Problem, RuntimeError, OSError, subprocess.SubprocessError) as error:
            verdict.check("the demo ran to its end", False, f"{type(error).__name__}: {error}")
        finally:
            if not verdict.ok():
                logs = lab.out.parent / (lab.prefix + "failed")
                lab.keep_logs(logs)
                print(f"  logs: {logs}")
            lab.down()
    verdict.figures["took_s"] = round(time.monotonic() - began, 1)
    headline("Verdict: " + ("nobody noticed" if verdict.ok() else "FAILED"))
    print(verdict.json_line(), flush=True)
    return 0 if verdict.ok() else 1


if __name__ == "__main__":
    sys.exit(main())
