"""The peer: the same guest under QEMU's own migration, over QMP. Used by migration.py."""
import json
import os
import pathlib
import signal
import socket
import subprocess
import time

from bench_of_two import run, wait_for

BANDWIDTH_MIB_S = 128


class Qmp:
    """One connection; answers in order, events are passed over."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.stream = self.socket.makefile("rw")
        json.loads(self.stream.readline())
        self.ask("qmp_capabilities")

    def ask(self, command, **arguments):
        request = {"execute": command}
        if arguments:
            request["arguments"] = {name.replace("_", "-"): value for name, value in arguments.items()}
        self.stream.write(json.dumps(request) + "\n")
        self.stream.flush()
        while True:
            answer = json.loads(self.stream.readline())
            if "error" in answer:
                raise RuntimeError(f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def close(self):
        self.stream.close()
        self.socket.close()


class PeerVm:
    """One QEMU of `binary` on `bridge`; memory as a VM of the peer would have it, private and anonymous."""

    def __init__(self, binary, spec, bridge, folder, incoming=False):
        self.tap = "gwtp" + bridge[-1]
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        run("ip", "tuntap", "add", self.tap, "mode", "tap")
        run("ip", "link", "set", self.tap, "master", bridge, "up")
        qmp = self.folder / "qmp"
        qmp.unlink(missing_ok=True)
        command = [binary, "-name", "peer", "-nodefaults", "-no-user-config", "-display", "none", "-accel", "tcg",
                   "-machine", spec["machine"], "-cpu", spec["cpu"], "-smp", str(spec["vcpus"]),
                   "-m", f"{spec['memory_mib']}M", "-qmp", f"unix:{qmp},server=on,wait=off",
                   "-serial", f"file:{self.folder / 'console'}", "-device", "virtio-rng-pci",
                   "-netdev", f"tap,id=n,ifname={self.tap},script=no,downscript=no",
                   "-device", f"virtio-net-pci,netdev=n,romfile=,mac={spec['mac']}",
                   "-kernel", spec["kernel"], "-initrd", spec["initrd"], "-append", spec["append"]]
        if incoming:
            command += ["-incoming", "defer"]
        self.log = open(self.folder / "log", "wb")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        wait_for(lambda: qmp.exists() or self.process.poll() is not None, 20, "QEMU")
        self.qmp = Qmp(qmp)

    def end(self):
        self.qmp.close()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.log.close()
        run("ip", "link", "del", self.tap)


WAYS = {
    "pre-copy": [],
    "auto-converge": ["auto-converge"],
    "multifd": ["multifd"],
    "post-copy": ["postcopy-ram"],
}


def set_up(vm, capabilities):
    vm.qmp.ask("migrate-set-capabilities",
               capabilities=[{"capability": name, "state": True} for name in capabilities + ["events"]])
    vm.qmp.ask("migrate-set-parameters", max_bandwidth=BANDWIDTH_MIB_S << 20, max_postcopy_bandwidth=BANDWIDTH_MIB_S << 20)


def migrate(way, source, destination, address, limit_s):
    """QEMU's own migration by one of WAYS, given up after `limit_s`. What QEMU says of it, and whether it ended."""
    for vm in (source, destination):
        set_up(vm, WAYS[way])
    destination.qmp.ask("migrate-incoming", uri=address)
    began = time.monotonic()
    source.qmp.ask("migrate", uri=address)
    turned, throttle = False, 0
    while True:
        seen = source.qmp.ask("query-migrate")
        throttle = max(throttle, seen.get("cpu-throttle-percentage", 0))
        if seen["status"] in ("completed", "failed", "cancelled"):
            break
        passes = seen.get("ram", {}).get("dirty-sync-count", 0)
        if way == "post-copy" and passes >= 2 and not turned:
            source.qmp.ask("migrate-start-postcopy")
            turned = True
        if time.monotonic() - began > limit_s:
            source.qmp.ask("migrate_cancel")
            wait_for(lambda: source.qmp.ask("query-migrate")["status"] == "cancelled", 20, "the end of a migration")
            break
        time.sleep(0.02)  # QEMU has no event for a percentage; this is how its own monitors watch it
    took = time.monotonic() - began
    ended = source.qmp.ask("query-migrate")["status"] == "completed"
    ram = seen.get("ram", {})
    return {"ended": ended, "seconds": took, "pause_ms": seen.get("downtime", 0) if ended else None,
            "bytes": ram.get("transferred", 0), "passes": ram.get("dirty-sync-count", 0), "throttle": throttle}
