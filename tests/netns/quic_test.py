#!/usr/bin/env python3
"""godwit-switch with real QUIC servers in two "VMs", and clients behind a NAT that change their address in
mid-transfer.

usage: quic_test.py GODWIT_SWITCH ebpf|dpdk [unittest arguments]     exits 77 without root
"""
import os
import pathlib
import select
import socket
import subprocess
import sys
import tempfile
import threading
import unittest

import places
from switch import Switch

QUIC_PORT = 4433
FILE_BYTES = 2_000_000  # a thousand packets and more


class QuicServer:
    """Serves one file, which says in every byte where it is from."""

    def __init__(self, place, directory, validate=False):
        root = directory / place
        root.mkdir()
        (root / "file").write_bytes(place.encode() * FILE_BYTES)
        self.log = open(directory / f"{place}.log", "w", encoding="utf-8")
        self.process = subprocess.Popen(
            ["nsenter", f"--net={places.path_of(place)}", "--", "gtlsserver", "--quiet", f"--htdocs={root}",
             *(["--validate-addr"] if validate else []), "*", str(QUIC_PORT), directory / "key.pem",
             directory / "certificate.pem"], stdout=self.log, stderr=self.log)

    def remove(self):
        self.process.kill()
        self.process.wait()
        self.log.close()


class Nat:
    """In the client's place, before one client: every address that the client speaks from gets a socket of its own
    towards the VM. `enough` packets of the server are let through, then none in either direction until go_on()."""

    def __init__(self, server, enough=100):
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        self.server, self.family, self.enough = (server, QUIC_PORT), family, enough
        self.inside = places.in_place("client", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.inside.bind(("127.0.0.1", 0))
        self.port = self.inside.getsockname()[1]
        self.outside = {}  # of the client's address
        self.used = []     # every socket there was
        self.reached, self.gate, self.over = threading.Event(), threading.Event(), threading.Event()
        self.forget = False
        self.came = 0
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _open(self, client):
        one = places.in_place("client", lambda: socket.socket(self.family, socket.SOCK_DGRAM))
        one.connect(self.server)
        self.outside[client] = one
        self.used.append(one)
        return one

    def _run(self):
        while not self.over.is_set():
            ready, _, _ = select.select([self.inside, *self.outside.values()], [], [], 0.1)
            for one in ready:
                if one is self.inside:
                    data, client = one.recvfrom(65536)
                    if len(self.outside) and client not in self.outside:
                        self.reached.set()  # it has moved by itself
                    if self.reached.is_set():
                        self.gate.wait(30)
                    if self.forget:
                        self.forget = False
                        self.outside.clear()
                    (self.outside.get(client) or self._open(client)).send(data)
                    continue
                client = next((name for name, socket_ in self.outside.items() if socket_ is one), None)
                data = one.recv(65536)
                if client:
                    self.inside.sendto(data, client)
                self.came += 1
                if self.came == self.enough:
                    self.reached.set()
                    self.gate.wait(30)

    def go_on(self, forget=False):
        self.forget = forget
        self.gate.set()

    def names(self):
        """Host and port of every socket that was used, as the switch lists peers."""
        names = [one.getsockname() for one in self.used]
        return [f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}" for name in names]

    def close(self):
        self.over.set()
        self.gate.set()
        self.thread.join()
        for one in (self.inside, *self.used):
            one.close()


class Download:
    """A client that fetches the file."""

    def __init__(self, server, directory, *options, **nat):
        self.nat = Nat(server, **nat)
        self.into = pathlib.Path(tempfile.mkdtemp(dir=directory))
        self.log = open(self.into / "log", "w", encoding="utf-8")
        self.process = subprocess.Popen(
            ["nsenter", f"--net={places.path_of('client')}", "--", "gtlsclient", "--quiet", "--no-quic-dump",
             "--no-http-dump", "--exit-on-all-streams-close", "--timeout=20s", f"--download={self.into}", *options,
             "127.0.0.1", str(self.nat.port), f"https://127.0.0.1:{self.nat.port}/file"],
            stdout=self.log, stderr=self.log)

    def held(self):
        """Whether it has come as far as its NAT lets it."""
        return self.nat.reached.wait(30)

    def who(self):
        """Whose file it got, whole."""
        self.process.wait(timeout=40)
        got = (self.into / "file").read_bytes() if (self.into / "file").exists() else b""
        return got[:1].decode() if got == got[:1] * FILE_BYTES else f"{len(got)} bytes"

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.nat.close()
        self.log.close()


def setUpModule():
    global SWITCH, DIRECTORY
    unittest.addModuleCleanup(places.remove)
    places.make(PLANE)
    temporary = tempfile.TemporaryDirectory(prefix=places.PREFIX)
    unittest.addModuleCleanup(temporary.cleanup)
    DIRECTORY = pathlib.Path(temporary.name)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-keyout", DIRECTORY / "key.pem", "-out", DIRECTORY / "certificate.pem", "-days", "1",
                    "-subj", "/CN=web-1"], check=True, stderr=subprocess.DEVNULL)
    for place in ("a", "b"):
        unittest.addModuleCleanup(QuicServer(place, DIRECTORY, validate=place == "b").remove)
    SWITCH = Switch(PROGRAM, PLANE, udp_s=60)
    unittest.addModuleCleanup(SWITCH.remove)
    SWITCH.start()


class Quic(unittest.TestCase):
    def setUp(self):
        self.assertEqual(SWITCH.steer()[0], 200)
        self.addCleanup(lambda: SWITCH.call("DELETE", "/v1/vms/web-1/steering?token=1"))

    def download(self, server, *options, **nat):
        one = Download(server, DIRECTORY, *options, **nat)
        self.addCleanup(one.close)
        return one

    def flip(self):
        status = SWITCH.steer(owner="host-b", previous="host-a", hosting=True)
        self.assertEqual(status[0], 200, status)

    def owners(self, names):
        rows = SWITCH.call("GET", "/v1/sessions?vm=web-1")[1]["sessions"]
        return [row["owner"] for name in names for row in rows if row["peer"] == name]

    def reason(self, name):
        return SWITCH.reasons()[name]

    def moves_and_stays(self, server, reason, *options, forget=False, owner="host-a"):
        if owner == "host-b":
            self.flip()
        one = self.download(server, *options)
        self.assertTrue(one.held(), "no packet came")
        if owner == "host-a":
            self.flip()
        before = self.reason(reason)
        one.nat.go_on(forget)
        self.assertEqual(one.who(), owner[-1])
        self.assertGreater(self.reason(reason), before)
        names = one.nat.names()
        self.assertEqual(len(names), 2, "the client has not moved")
        self.assertEqual(self.owners(names), [owner] * 2)

    def test_a_client_whose_nat_forgets_it_stays_with_the_source(self):
        for server in (places.VM4, places.VM6):
            with self.subTest(server):
                self.moves_and_stays(server, "connection-id", forget=True)
                SWITCH.call("DELETE", "/v1/vms/web-1/steering?token=1")
                SWITCH.steer()

    def test_a_client_whose_nat_forgets_it_stays_with_the_destination(self):
        # This server validates addresses: a Retry comes before the connection has its id.
        self.moves_and_stays(places.VM4, "connection-id", forget=True, owner="host-b")

    def test_a_client_that_moves_on_purpose_stays_with_the_source(self):
        # It takes an id that the server has issued in secret (RFC 9000 section 9.5).
        self.moves_and_stays(places.VM4, "previous", "--change-local-addr=1ms")

    def test_a_new_connection_goes_to_the_destination_and_the_drain_waits_for_the_old(self):
        old = self.download(places.VM4)
        self.assertTrue(old.held(), "no packet came")
        self.flip()
        new = self.download(places.VM4)
        self.assertTrue(new.held(), "no packet came")
        new.nat.go_on()
        self.assertEqual(new.who(), "b")
        self.assertEqual(self.owners(new.nat.names()), ["host-b"])
        old.nat.go_on(forget=True)
        self.assertEqual(old.who(), "a")
        self.assertEqual(self.owners(old.nat.names()), ["host-a"] * 2)
        self.assertEqual((SWITCH.backend("host-a")["sessions"], SWITCH.status()["drained"]), (2, False))


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit(77)
    PROGRAM, PLANE = sys.argv[1], sys.argv[2]
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=2)
