"""Two agents on one machine, each with a bridge of its own in a network namespace of their own, and what a
test needs of them. Everything carries the test's prefix; leaving the `with` block ends and removes it all."""
import contextlib
import http.client
import json
import os
import pathlib
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

SPEC = {
    "id": "web-1", "machine": "q35", "cpu": "max", "vcpus": 1, "memory_mib": 256,
    "append": "console=ttyS0 panic=1 quiet random.trust_cpu=on godwit.ip4=10.1.0.10/24",
    "mac": "52:54:00:00:00:01", "addresses": ["10.1.0.10"],
    "regions": [{"name": "sessions", "size_mib": 16}],
}
SKIP = 77


def own_namespace():
    """Runs this script again in namespaces of its own, for network and mounts; the kernel removes all in them at the
    end."""
    if os.environ.get("GODWIT_SMOKE_INSIDE"):
        run("ip", "link", "set", "lo", "up")
        return
    guest = pathlib.Path(os.environ["GODWIT_GUEST"])
    if os.geteuid() != 0 or not (guest / "vmlinuz").exists():
        print("skipped: needs root and the guest that ./run setup makes")
        sys.exit(SKIP)
    os.environ["GODWIT_SMOKE_INSIDE"] = "1"
    os.execvp("unshare", ["unshare", "--net", "--mount", sys.executable] + sys.argv)


def unmount(path):
    """QEMU's last references go with it. Whoever still has some keeps them, and the test says so."""
    try:
        wait_for(lambda: subprocess.run(["umount", str(path)], stderr=subprocess.DEVNULL).returncode == 0,
                 10, "unmounting " + str(path))
    except BaseException:
        run("umount", "-l", str(path))
        raise


def run(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


class Problem(Exception):
    def __init__(self, status, body):
        super().__init__(f"{status}: {body}")
        self.status, self.body = status, body
        self.slug = body.get("type", "").rsplit(":", 1)[-1] if isinstance(body, dict) else ""


class Agent:
    def __init__(self, bench, name, port, **options):
        self.name, self.port = name, port
        self.root = bench.root / name
        self.shm = self.root / "shm"
        self.bridge = "br-" + name
        self.token = bench.token
        for part in ("run", "state", "shm"):
            (self.root / part).mkdir(parents=True)
        # Memory of its own size: what runs out here harms nobody else.
        run("mount", "-t", "tmpfs", "-o", f"size={options.get('shm_mib', 1024)}m", "gwt", str(self.shm))
        run("mount", "-t", "tmpfs", "-o", "size=1m", "gwt", str(self.root / "state"))
        run("ip", "link", "add", self.bridge, "type", "bridge")
        run("ip", "link", "set", self.bridge, "up")
        run("ip", "address", "add", f"10.1.0.{port % 100 + 100}/24", "dev", self.bridge)
        self.transfer = f"127.0.0.1:{port + 1000}"
        config = {
            "apiVersion": "godwit/v1", "kind": "Agent", "id": name,
            "listen": [f"127.0.0.1:{port}"], "peer_token_file": str(bench.token_file),
            "transfer_listen": f"0.0.0.0:{port + 1000}" if options.get("transfer_any") else self.transfer,
            "transfer_address": self.transfer, "tls": bench.certificate(name), "state_dir": str(self.root / "state"),
            "run_dir": str(self.root / "run"), "shm_dir": str(self.shm), "bridge": self.bridge,
            "disk_dir": str(bench.disk_dir),
            "tap_prefix": "gwt" + name[-1], "memory_limit_mib": options.get("memory_limit_mib", 0),
            "transfer_bandwidth_mib_s": options.get("transfer_bandwidth_mib_s", 0),
            "qemu": {"accelerator": "tcg", "shutdown_timeout_s": 1},
        }
        self.config_file = self.root / "agent.yaml"
        self.config_file.write_text(json.dumps(config))
        self.process = None
        self.start()

    def start(self):
        log = open(self.root / "agent.log", "ab")
        self.process = subprocess.Popen([os.environ["GODWIT_AGENT"], "--config", str(self.config_file)],
                                        stderr=log, stdout=log)
        wait_for(lambda: self.is_listening() or self.process.poll() is not None, 20, f"agent {self.name}")
        assert self.process.poll() is None, self.log()

    def is_listening(self):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def log(self):
        return (self.root / "agent.log").read_text()

    def call(self, method, path, body=None, timeout=60):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, None if body is None else json.dumps(body),
                               {"Authorization": "Bearer " + self.token})
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        content = json.loads(text) if text else None
        if answer.status >= 300:
            raise Problem(answer.status, content)
        return content

    def get(self, path):
        return self.call("GET", path)

    def put(self, path, body):
        return self.call("PUT", path, body)

    def state(self):
        return self.get("/v1/vms/web-1")["state"]

    @contextlib.contextmanager
    def full_state(self):
        """Nothing more can be written down."""
        filling = self.root / "state/filling"
        with open(filling, "wb") as room:
            for size in (4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        os.write(room.fileno(), b"x" * size)
        try:
            yield
        finally:
            filling.unlink()

    def qemu_pid(self):
        return int((self.root / "run/web-1.pid").read_text())

    def shm_files(self):
        return sorted(path.name for path in self.shm.iterdir())

    def end(self):
        pid_file = self.root / "run/web-1.pid"
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)  # a story may have stopped it
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
        if pid_file.exists():
            try:
                os.kill(int(pid_file.read_text()), signal.SIGKILL)
            except ProcessLookupError:
                pass
        for mounted in (self.shm, self.root / "state"):
            unmount(mounted)


class Asking(threading.Thread):
    """A call that somebody waits for while something else happens."""

    def __init__(self, call):
        super().__init__()
        self.call, self.outcome = call, None
        self.start()

    def run(self):
        try:
            self.outcome = self.call()
        except (OSError, ValueError, Problem) as error:
            self.outcome = error

    def end(self):
        self.join(60)
        assert not self.is_alive(), "the call does not end"
        return self.outcome


class Bench:
    def __init__(self, source_options=None, **destination_options):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix=f"gwt{os.getpid()}-"))
        self.token = "smoke-" + secrets.token_hex(16)
        self.token_file = self.root / "token"
        self.token_file.write_text(self.token + "\n")
        self.token_file.chmod(0o600)
        self.disk_dir = self.root / "disks"  # both hosts see it
        self.disk_dir.mkdir()
        self.agents = []
        self.job_token = 1
        guest = pathlib.Path(os.environ["GODWIT_GUEST"])
        self.spec = dict(SPEC, kernel=str(guest / "vmlinuz"), initrd=str(guest / "initramfs"))
        try:
            self.source = self.add("host-a", 18401, **(source_options or {}))
            self.destination = self.add("host-b", 18402, **destination_options)
        except BaseException:
            self.end()
            raise

    def add(self, name, port, **options):
        agent = Agent(self, name, port, **options)
        self.agents.append(agent)
        return agent

    def certificate(self, host):
        made = run(os.environ["GODWIT_MAKE_CERTIFICATE"], str(self.root / "tls"), host, "127.0.0.1")
        return dict(part.split(": ") for part in made.strip()[len("tls: {"):-1].split(", "))

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind:
            for agent in self.agents:
                print(f"---- {agent.name}\n{agent.log()}")
                console = agent.root / "run/web-1.console.log"
                if console.exists():
                    print(console.read_text()[-2000:])
        self.end()

    def end(self):
        # Each part goes, whatever becomes of the others; in reverse.
        with contextlib.ExitStack() as parts:
            parts.callback(shutil.rmtree, self.root)
            for agent in self.agents:
                parts.callback(run, "ip", "link", "del", agent.bridge)
                parts.callback(agent.end)

    def command(self, job, step):
        return {"token": self.job_token, "job": job, "step": step}

    def boot(self):
        self.source.put("/v1/vms/web-1", self.spec)
        self.source.call("POST", "/v1/vms/web-1:start")
        wait_for(lambda: answers(self.source.bridge), 60, "the guest")

    def incoming(self, job):
        return self.destination.put("/v1/vms/web-1/incoming",
                                    {"command": self.command(job, "destination"), "spec": self.spec,
                                     "source_host": self.source.name})

    def begin_copy(self, job):
        return self.source.put("/v1/vms/web-1/copy", {"command": self.command(job, "copying"),
                                                      "destination": self.destination.transfer,
                                                      "destination_host": self.destination.name})

    def copied(self, job, timeout=60):
        return self.await_end(f"/v1/vms/web-1/copy?job={job}", timeout)

    def merge(self, job, **more):
        self.source.put("/v1/vms/web-1/merge", {"command": self.command(job, "patching"),
                                                "destination": self.destination.transfer, **more})
        return self.await_end(f"/v1/vms/web-1/merge?job={job}", 30)

    def await_end(self, path, timeout):
        wait_for(lambda: self.source.get(path)["state"] != "running", timeout, path)
        return self.source.get(path)

    def activate(self, job):
        return self.destination.put("/v1/vms/web-1/activation", {"command": self.command(job, "steering")})

    def fork(self, job):
        self.incoming(job)
        self.begin_copy(job)
        status = self.copied(job)
        assert status["state"] == "done", status
        self.activate(job)
        wait_for(lambda: answers(self.destination.bridge), 20, "the clone")
        return status


def wait_for(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.05)


# ---- recordd, lab/guest/recordd.h ----

def connect(bridge):
    """To the guest behind this bridge: source and clone have one address."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, bridge.encode())
    client.settimeout(5)
    client.connect(("10.1.0.10", 7000))
    return client


def answers(bridge):
    try:
        with connect(bridge) as client:
            return ask(client, b"I")[0] == b"W"
    except OSError:
        return False


def exactly(client, length):
    got = b""
    while len(got) < length:
        piece = client.recv(length - len(got))
        if not piece:
            raise ConnectionError("closed")
        got += piece
    return got


def receive(client):
    kind, _, length = struct.unpack(">cBH", exactly(client, 4))
    return kind, exactly(client, length)


def ask(client, kind, payload=b""):
    client.sendall(kind + b"\0" + struct.pack(">H", len(payload)) + payload)
    return receive(client)


class Session:
    def __init__(self, bridge, number):
        self.number, self.sent = number, 0
        self.client = connect(bridge)
        self.identity = struct.unpack("<QQQ", ask(self.client, b"H", struct.pack("<Q", number))[1])

    def send(self, text):
        assert ask(self.client, b"D", text)[1] == text
        self.sent += len(text)

    def close(self):
        self.client.close()


def records(bridge):
    """Session number -> bytes counted in its record."""
    found = {}
    with connect(bridge) as client:
        kind, payload = ask(client, b"Q")
        while kind == b"R":
            session, _, counted = struct.unpack("<QQQ", payload[:24])
            found[session] = counted
            kind, payload = receive(client)
        assert kind == b"E", kind
    return found
