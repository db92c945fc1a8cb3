"""One program of the lab as a process: started, waited for by its own word, ended by its pid."""
import json
import os
import pathlib
import select
import signal
import socket
import subprocess
import time

import network

# Name -> (place, program below the build directory).
PROGRAMS = {
    "switch": ("switch", "dataplane/godwit-switch"),
    "switch-2": ("switch-2", "dataplane/godwit-switch"),
    "agent-host-a": ("host-a", "vm_agent/godwit-agent"),
    "agent-host-b": ("host-b", "vm_agent/godwit-agent"),
    "controller": ("controller", "controller/godwit-controller"),
}
READY_WITHIN_S = 30


def started_at(pid):
    """When a process began, in clock ticks since boot: tells a pid from its next user."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return None


class Daemon:
    def __init__(self, lab, name):
        self.lab, self.name = lab, name
        self.place, self.program = PROGRAMS[name]

    @property
    def _record(self):
        return self.lab.run / (self.name + ".pid.json")

    @property
    def log(self):
        return self.lab.out / (self.name + ".log")

    def pid(self):
        return json.loads(self._record.read_text())["pid"]

    def is_running(self):
        try:
            record = json.loads(self._record.read_text())
        except (FileNotFoundError, ValueError):
            return False
        return started_at(record["pid"]) == record["started"]

    def start(self):
        """Returns when the daemon says READY; its death meanwhile is an error with its last words."""
        notify_path = str(self.lab.run / (self.name + ".notify"))
        pathlib.Path(notify_path).unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, open(self.log, "ab") as log:
            notify.bind(notify_path)
            command = self.lab.enter(self.place, str(self.lab.build / self.program), "--config",
                                     str(self.lab.out / (self.name + ".yaml")))
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                       start_new_session=True,
                                       env={**os.environ, "NOTIFY_SOCKET": notify_path})
            self._record.write_text(json.dumps({"pid": process.pid, "started": started_at(process.pid)}))
            self._wait_ready(process, notify)

    def _wait_ready(self, process, notify):
        death = os.pidfd_open(process.pid)
        try:
            end = time.monotonic() + READY_WITHIN_S
            while time.monotonic() < end:
                ready, _, _ = select.select([notify, death], [], [], end - time.monotonic())
                if notify in ready and b"READY=1" in notify.recv(4096):
                    return
                if death in ready:
                    raise RuntimeError(f"{self.name} ended with {process.wait()}: {self.last_words()}")
            raise RuntimeError(f"{self.name} was not ready within {READY_WITHIN_S} s: {self.last_words()}")
        finally:
            os.close(death)

    def last_words(self):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-5:])

    def kill(self):
        """kill -9, and gone when this returns."""
        self._end(signal.SIGKILL)

    def stop(self):
        self._end(signal.SIGTERM)

    def _end(self, how):
        pid = self.pid()
        pidfd = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(pidfd, how)
            gone, _, _ = select.select([pidfd], [], [], READY_WITHIN_S)
            if not gone:
                raise RuntimeError(f"{self.name} does not end")
        finally:
            os.close(pidfd)
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:
            pass  # started by another run of the lab


# A connection made in the client's namespace; the guest answers a SYN long before its program is
# there with RST, so each try waits for an answer of its own kind.
_KNOCK = """
import socket, sys, time
address, port, patience = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
end = time.monotonic() + patience
while time.monotonic() < end:
    try:
        socket.create_connection((address, port), timeout=1).close()
        sys.exit(0)
    except OSError:
        time.sleep(0.05)
sys.exit(1)
"""


def wait_for_answer(lab, address, port, patience_s=60):
    command = lab.enter("client", "/usr/bin/python3", "-c", _KNOCK, address, str(port), str(patience_s))
    if subprocess.run(command, stdin=subprocess.DEVNULL).returncode != 0:
        raise RuntimeError(f"the guest does not answer on {address} port {port}")
