"""A godwit-switch of the test's own, and its REST API."""
import http.client
import itertools
import json
import os
import pathlib
import queue
import shutil
import signal
import socket
import subprocess
import tempfile
import threading

import places

SECRET = "0123456789abcdef0123456789abcdef"


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout=10):
        super().__init__("switch", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Switch:
    """`plane` dpdk: so many `workers`, ports are af_packet devices, and the session table is in /dev/shm. `devices`: of VM
    ports besides those of places. `ports`: instead of those, as the YAML has them. `place`: where it runs."""

    def __init__(self, program, plane="ebpf", devices=None, udp_s=3, workers=(1,), ports=None, place="switch"):
        self.program, self.plane, self.place = program, plane, place
        self.workers = itertools.cycle(workers)
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix=places.PREFIX))
        self.tables = pathlib.Path("/dev/shm") / f"{places.PREFIX}-{place}-tables"
        self.bpffs = pathlib.Path("/sys/fs/bpf") / (places.PREFIX + place)
        self.socket = str(self.directory / "switch.sock")
        self.log = open(self.directory / "log", "w+", encoding="utf-8")
        token = self.directory / "token"
        token.write_text(SECRET + "\n")
        token.chmod(0o600)
        if ports is None:
            ports = [{"name": name, "interface": name, "role": "uplink" if name == "uplink" else "vm"}
                     for name, _, _ in places.PLACES.values()]
        ports = ports + [{"name": name, "device": one, "role": "vm"} for name, one in (devices or {}).items()]
        ports = "".join(f"  - {json.dumps(port)}\n" for port in ports)
        self.yaml = (
            "apiVersion: godwit/v1\nkind: SwitchConfig\nid: sw-test\n"
            f"listen: ['unix:{self.socket}']\npeer_token_file: {token}\nstate_dir: {self.directory}/state\n"
            f"bpffs: {self.bpffs}\ntables: {{sessions_v4: 65536, sessions_v6: 16384, handshakes: 4096}}\n"
            f"timeouts: {{udp_s: {udp_s}, icmp_s: 3, handshake_s: 3}}\nplane: {plane}\n"
            f"ports:\n{ports}dpdk: {{file_prefix: {places.PREFIX}{place}, memory_mb: 96, table_dir: {self.tables}, "
            "workers: ")
        self.process = None

    def write_yaml(self):
        (self.directory / "switch.yaml").write_text(f"{self.yaml}{next(self.workers)}}}\n")

    def start(self):
        """Returns when the switch says that it is ready. Every start has the next number of workers."""
        self.write_yaml()
        ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        at = self.directory / "notify"
        at.unlink(missing_ok=True)
        ready.bind(str(at))
        ready.settimeout(30)
        self.process = subprocess.Popen(
            ["nsenter", f"--net={places.path_of(self.place)}", "--", self.program, "--config",
             str(self.directory / "switch.yaml")], stderr=self.log, env={**os.environ, "NOTIFY_SOCKET": str(at)})
        with ready:
            while b"READY=1" not in ready.recv(4096):
                pass

    def turn_to(self, plane, broken=False):
        """What the next start runs; `broken`: with a port whose interface does not exist."""
        no_such = "ports:\n  - {name: broken, interface: no-such, role: vm}\n"
        self.yaml = self.yaml.replace(f"\nplane: {self.plane}\n", f"\nplane: {plane}\n").replace(no_such, "ports:\n")
        if broken:
            self.yaml = self.yaml.replace("ports:\n", no_such)
        self.plane = plane

    def start_and_kill(self, after):
        """A process that is killed in so many seconds, wherever it is by then."""
        self.write_yaml()
        process = subprocess.Popen(
            ["nsenter", f"--net={places.path_of(self.place)}", "--", self.program, "--config",
             str(self.directory / "switch.yaml")], stderr=self.log)
        try:
            process.wait(timeout=after)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def refuses_to_start(self):
        """The exit code; it must not come up."""
        self.write_yaml()
        return subprocess.run(
            ["nsenter", f"--net={places.path_of(self.place)}", "--", self.program, "--config",
             str(self.directory / "switch.yaml")], stderr=self.log, timeout=30, check=False).returncode

    @property
    def session_file(self):
        return self.tables / "dpdk-sessions"

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=10)

    def remove(self):
        if self.process and self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.tables, ignore_errors=True)
        shutil.rmtree(self.bpffs, ignore_errors=True)  # the links go, the programs with them
        self.log.close()
        shutil.rmtree(self.directory)

    def log_text(self):
        return (self.directory / "log").read_text(encoding="utf-8")

    def call(self, method, path, body=None, secret=SECRET):
        """(status, document)"""
        connection = UnixConnection(self.socket)
        connection.request(method, path, json.dumps(body) if body is not None else None,
                           {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read()
        connection.close()
        return response.status, json.loads(text) if text[:1] in (b"{", b"[") else text.decode()

    def steer(self, vm="web-1", token=1, **wanted):
        backend = lambda name: {"name": name, "port": name, "mac": places.VM_MAC}
        document = {"command": {"token": token, "job": "j-1", "step": "test"}, "addresses": [places.VM4, places.VM6],
                    "backends": [backend("host-a"), backend("host-b")], "owner": "host-a", **wanted}
        return self.call("PUT", f"/v1/vms/{vm}/steering", document)

    def status(self, vm="web-1"):
        return self.call("GET", f"/v1/vms/{vm}/steering")[1]

    def backend(self, name):
        return next(one for one in self.status()["backends"] if one["name"] == name)

    def reasons(self):
        return self.call("GET", "/v1/stats")[1]["reasons"]


class Events:
    """The switch's event stream, as a queue of (type, document)."""

    def __init__(self, switch):
        self.seen = queue.Queue()
        self.connection = UnixConnection(switch.socket, timeout=60)
        self.connection.request("GET", "/v1/events", headers={"Authorization": f"Bearer {SECRET}"})
        self.socket = self.connection.sock  # the answer takes it over
        self.response = self.connection.getresponse()
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self):
        kind = ""
        try:
            while line := self.response.readline():
                if line.startswith(b"event: "):
                    kind = line[7:].strip().decode()
                elif line.startswith(b"data: "):
                    self.seen.put((kind, json.loads(line[6:])))
        except OSError:
            pass

    def wait_for(self, kind, timeout=20):
        while True:
            what, document = self.seen.get(timeout=timeout)
            if what == kind:
                return document

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.reader.join()
        self.response.close()
        self.socket.close()
