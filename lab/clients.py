"""Clients in the lab's client network: the load client, and the unmodified ones a user knows.

Each holds one or many sessions to the guest; `end` leaves in order and says what was lost.
"""
import json
import re
import select
import signal
import subprocess
import time

ANSWER_WITHIN_S = 40


class Lost(Exception):
    """A session that should have lived did not."""


class _Program:
    """A program in the client's namespace that is spoken to line by line."""

    def __init__(self, lab, *command):
        self._process = subprocess.Popen(lab.enter("client", *command), stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
        self._pending = b""
        self._what = " ".join(command[:2])

    def say(self, line):
        try:
            self._process.stdin.write(line.encode() + b"\n")
        except BrokenPipeError:
            raise Lost(f"{self._what}: ended: {self._last_words()}") from None

    def hear(self):
        end = time.monotonic() + ANSWER_WITHIN_S
        while b"\n" not in self._pending:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise Lost(f"{self._what}: no answer within {ANSWER_WITHIN_S} s")
            got = self._process.stdout.read(65536)
            if not got:
                raise Lost(f"{self._what}: ended: {self._last_words()}")
            self._pending += got
        line, self._pending = self._pending.split(b"\n", 1)
        return line.decode().rstrip("\r")

    def _last_words(self):
        self._process.wait()
        return self._process.stderr.read().decode(errors="replace").strip()

    def is_running(self):
        return self._process.poll() is None

    def end(self):
        """Closes its input and returns its exit code."""
        if self.is_running():
            self._process.stdin.close()
        return self._process.wait(ANSWER_WITHIN_S)

    def kill(self):
        if self.is_running():
            self._process.kill()
            self._process.wait()


class Load(_Program):
    """tests/e2e/load_client.cpp; the commands are told there."""

    def __init__(self, lab):
        super().__init__(lab, str(lab.build / "tests" / "e2e" / "godwit-load"))

    def tell(self, *words):
        self.say(" ".join(str(word) for word in words))
        answer = json.loads(self.hear())
        if "error" in answer:
            raise Lost("godwit-load: " + answer["error"])
        return answer

    def open(self, group, kind, count, address):
        totals = self.tell("open", group, kind, count, address)
        if totals["broken"]:
            raise Lost(f"{group}: {totals['broken']}")
        return totals


class Ssh(_Program):
    """One ssh session with a shell at its other end."""

    def __init__(self, lab, address):
        super().__init__(lab, "ssh", "-T", "-i", str(lab.out / "id"), "-o", "BatchMode=yes",
                         "-o", f"UserKnownHostsFile={lab.out / 'known_hosts'}", "-o", "LogLevel=ERROR",
                         "-F", "none", "root@" + address, "sh")
        self.ask("echo here")

    def ask(self, command):
        """The first line a command prints."""
        self.say(command)
        return self.hear()


class RedisCli(_Program):
    """redis-cli over one connection; a command a line."""

    def __init__(self, lab, address):
        super().__init__(lab, "redis-cli", "-h", address)
        self.ask("PING")

    def ask(self, command):
        self.say(command)
        return self.hear()


class Ping:
    """An echo stream; `end` returns (asked, answered) up to the last answer: an echo that is on its way
    when the stream is ended was not lost."""

    def __init__(self, lab, address):
        self.protocol = "icmpv6" if ":" in address else "icmp"
        self._process = subprocess.Popen(lab.enter("client", "ping", "-i", "0.2", address), stdout=subprocess.PIPE,
                                         stderr=subprocess.STDOUT, text=True)
        # The first answer: the stream exists from here on.
        for line in self._process.stdout:
            if "bytes from" in line:
                self._first = line
                break
        else:
            raise Lost(f"ping {address}: no answer")

    def end(self):
        self._process.send_signal(signal.SIGINT)
        rest, _ = self._process.communicate(timeout=ANSWER_WITHIN_S)
        answered = {int(number) for number in re.findall(r"icmp_seq=(\d+) ttl", self._first + rest)}
        return max(answered), len(answered)

    def kill(self):
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()
