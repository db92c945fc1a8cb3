#!/usr/bin/env python3
"""The DPDK plane beside testpmd on one core each: the same file of frames, repeated by net_pcap and sent to net_null,
so drivers and feed cost both the same. Interleaved rounds, medians of the forwarding thread's own time.

usage: dpdk_testpmd.py DPDK_FEED [OUT.json] [ROUNDS]
"""
import json
import os
import pathlib
import re
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time

SECONDS = 1.5
MODES = ("io", "macswap", "5tswap")
GOAL, GOAL_SESSIONS = 0.5, 1_000_000  # of 5tswap's packets a second


def checksum(header):
    total = sum(struct.unpack(f"!{len(header) // 2}H", header))
    total = (total & 0xffff) + (total >> 16)
    return ~(total + (total >> 16)) & 0xffff


def frame(session):
    """A client's segment to 10.1.0.1:80, as bench/world.hpp numbers its sessions."""
    peer, vm = struct.pack("!I", 0x14000000 + session), bytes((10, 1, 0, 1))
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0, 64, 6, 0) + peer + vm
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    tcp = struct.pack("!HHIIBBHHH", 4000, 80, 1001, 5001, 0x50, 0x10, 65535, 0, 0)
    return bytes.fromhex("525400000001020000000009") + b"\x08\x00" + ip + tcp + bytes(6)


def write_pcap(path, sessions):
    with open(path, "wb") as out:
        out.write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1))
        for n in range(sessions):
            data = frame(n * 2654435761 % sessions)  # scattered
            out.write(struct.pack("<IIII", 0, 0, len(data), len(data)) + data)


def megabytes(sessions):
    return str(256 + (sessions + 8192) * 4500 // 1000000)


def ours(feed, pcap, sessions):
    said = json.loads(subprocess.run([feed, pcap, str(sessions), str(SECONDS), megabytes(sessions)], check=True,
                                     capture_output=True, text=True).stdout)
    return said["cpu_s"] * 1e9 / said["packets"]


def lcore_cpu_s(pid):
    """Of the thread that forwards."""
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().strip() in ("lcore-worker-1", "rte-worker-1"):
            return int((task / "schedstat").read_text().split()[0]) / 1e9
    raise RuntimeError("testpmd has no forwarding thread")


def testpmd(mode, pcap, sessions):
    command = ["stdbuf", "-oL", "dpdk-testpmd", "--no-huge", "--no-pci", "--no-telemetry", "--no-shconf",
               "-m", megabytes(sessions), "--lcores=0,1@(0-%d)" % (os.cpu_count() - 1),
               f"--vdev=net_pcap0,infinite_rx=1,rx_pcap={pcap}",
               "--vdev=net_null0,no-rx=1", "--log-level=error", "--", "-i", f"--forward-mode={mode}", "--burst=32",
               "--total-num-mbufs=%d" % (sessions + 8191), "--no-lsc-interrupt", "--rxd=512", "--txd=512"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True) as process:
        said = ""

        def tell(words, until):
            nonlocal said
            process.stdin.write(words + "\n")
            process.stdin.flush()
            while until not in said:
                line = process.stdout.readline()
                if not line:
                    raise RuntimeError("testpmd: " + said[-500:])
                said += line

        tell("show config fwd", "packet forwarding")  # it is through with its start
        before = lcore_cpu_s(process.pid)
        said = ""
        tell("start", "packet forwarding")
        time.sleep(SECONDS)
        tell("stop", "Accumulated forward statistics")
        said += process.stdout.readline()
        cpu_s = lcore_cpu_s(process.pid) - before
        process.stdin.write("quit\n")
        process.stdin.flush()
        process.stdout.read()
    total = re.search(r"Accumulated forward statistics for all ports.*?RX-packets: (\d+)", said, re.S)
    if not total or int(total[1]) == 0:
        raise RuntimeError("testpmd has forwarded nothing: " + said[-500:])
    return cpu_s * 1e9 / int(total[1])


def compare(feed, sessions, rounds, folder):
    pcap = str(folder / f"{sessions}.pcap")
    write_pcap(pcap, sessions)
    samples = {name: [] for name in ("ours", *MODES)}
    for _ in range(rounds):
        samples["ours"].append(ours(feed, pcap, sessions))
        for mode in MODES:
            samples[mode].append(testpmd(mode, pcap, sessions))
    os.unlink(pcap)
    at = {name: statistics.median(values) for name, values in samples.items()}
    rows = []
    for mode in MODES:
        row = {"case": f"device to device, {sessions} live", "ours": at["ours"], "peer": at[mode],
               "peer_name": f"testpmd {mode}", "unit": "ns/packet", "ratio": at[mode] / at["ours"], "rounds": rounds}
        if mode == "5tswap" and sessions == GOAL_SESSIONS:
            row |= {"goal": GOAL, "met": row["ratio"] >= GOAL}
        verdict = "" if "met" not in row else "  met" if row["met"] else "  MISSED"
        print(f"{row['case']:38} {row['ours']:7.1f} {row['peer']:7.1f} {row['ratio']:6.2f}  "
              f"({row['peer_name']}){verdict}", flush=True)
        rows.append(row)
    return rows


def main():
    feed = sys.argv[1]
    out = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else "bench/out/dpdk_testpmd.json")
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    if not shutil.which("dpdk-testpmd"):
        print("testpmd is not here: apt-get install dpdk-dev")
        return
    print(f"{'ns a packet, medians':38} {'ours':>7} {'peer':>7} {'times':>6}")
    with tempfile.TemporaryDirectory(prefix="godwit-bench-", dir="/dev/shm") as folder:
        rows = [row for sessions in (1_000, 65_536, 1_000_000)
                for row in compare(feed, sessions, rounds, pathlib.Path(folder))]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
