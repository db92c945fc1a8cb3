#!/usr/bin/env python3
"""Jumbo frames with real sockets: MTU 9000 from the client to the VMs, in mode l2 and nat, tagged, and into a tap, which
takes no frame in pieces from XDP.

usage: jumbo_test.py GODWIT_SWITCH ebpf|dpdk [unittest arguments]     exits 77 without root
"""
import fcntl
import os
import socket
import struct
import subprocess
import sys
import unittest

import bulk
import places
from places import CLIENT4, CLIENT_MAC, Flow, PREFIX, Server, VM4, VM6, VM_MAC, checksum, in_place, mac_bytes
from switch import Switch

UDP, MTU = socket.SOCK_DGRAM, 9000
NAT_MAC, NAT = "52:54:00:00:00:31", ("10.77.0.31", "fd77::31")
TAP_MAC, TAP4 = "52:54:00:00:00:41", "10.77.0.41"
places.PLACES = {**places.PLACES, "n": ("host-n", NAT_MAC, (f"{NAT[0]}/16", f"{NAT[1]}/64"))}
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, DO = 10, 23, 2
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454ca, 2, 0x1000


class Tap:
    """A VM behind a tap, whose frames are read by hand."""

    def __init__(self, name):
        self.fd = in_place("switch", lambda: self._open(name))
        switch = f"{PREFIX}switch"
        places.sh(f"ip -n {switch} link set {name} mtu {MTU} up")
        if PLANE == "ebpf":
            places.sh(f"ip -n {switch} link set {name} master br0")

    @staticmethod
    def _open(name):
        fd = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
        return fd

    def heard(self, wanted):
        """Waits for this frame; the test's time is its bound."""
        while os.read(self.fd, 65536) != wanted:
            pass


def setUpModule():
    global SWITCH, TAP
    unittest.addModuleCleanup(places.remove)
    places.make(PLANE, MTU)
    TAP = Tap("host-t")
    unittest.addModuleCleanup(os.close, TAP.fd)
    for place in ("a", "b", "n"):
        Server(place)
        bulk.Talker(place)
    places.PLACES["t"] = ("host-t", TAP_MAC, ())  # a port of the switch's, and no namespace
    SWITCH = Switch(PROGRAM, PLANE, udp_s=60)
    del places.PLACES["t"]
    unittest.addModuleCleanup(SWITCH.remove)
    SWITCH.start()


def udp_frame(target, macs, size):
    payload = struct.pack("!HHHH", 4000, 53, 8 + size, 0) + bytes(i & 0xff for i in range(size))
    ip = bytes([0x45, 0]) + struct.pack("!HHHBBH", 28 + size, 0, 0x4000, 64, 17, 0) + socket.inet_aton(CLIENT4) + \
        socket.inet_aton(target)
    ip = ip[:10] + checksum(ip).to_bytes(2, "big") + ip[12:]
    return mac_bytes(macs[1]) + mac_bytes(macs[0]) + b"\x08\x00" + ip + payload


class Story(unittest.TestCase):
    def setUp(self):
        self.flows = []

    def tearDown(self):
        for flow in self.flows:
            flow.close()
        SWITCH.call("DELETE", "/v1/vms/web-1/steering?token=1")

    def steer(self, **wanted):
        status, answer = SWITCH.steer(**wanted)
        self.assertEqual(status, 200, answer)

    def flow(self, address, kind=socket.SOCK_STREAM, port=7000):
        flow = Flow(address, kind, port=port)
        if ":" in address:
            flow.socket.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, DO)
        else:
            flow.socket.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, DO)
        self.flows.append(flow)
        return flow

    def both_ways(self, flow):
        """As much as no buffer holds, in segments as long as they may be."""
        self.assertGreater(flow.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG), MTU - 100)
        self.assertTrue(bulk.is_understood(flow.socket))

    def datagrams(self, flow, who):
        """The longest that fits, not to be cut, and its answer; which is by a name's byte longer than the question."""
        longest = MTU - (48 if flow.socket.family == socket.AF_INET6 else 28)
        self.assertEqual(flow.say(b"u" * (longest - 1)), who + "u" * (longest - 1))
        with self.assertRaises(OSError):
            flow.socket.send(b"u" * (longest + 1))

    def ping(self, address):
        size = str(MTU - (48 if ":" in address else 28))
        return subprocess.run(["nsenter", f"--net={places.path_of('client')}", "ping", "-c", "2", "-W", "5", "-M",
                               "do", "-s", size, address], stdout=subprocess.DEVNULL, check=False).returncode == 0


class Modes(Story):
    def road(self, first, second, who_first, who_second):
        wanted = {"backends": [first, second], "hosting": True}
        self.steer(**wanted, owner=first["name"])
        old = [self.flow(address, port=7002) for address in (VM4, VM6)]
        chats = [self.flow(address, UDP) for address in (VM4, VM6)]
        for chat in chats:
            self.datagrams(chat, who_first)
        self.assertTrue(all(self.ping(address) for address in (VM4, VM6)))
        self.steer(**wanted, owner=second["name"], previous=first["name"])
        for flow in old + [self.flow(address, port=7002) for address in (VM4, VM6)]:
            self.both_ways(flow)
        for chat in chats:
            self.datagrams(chat, who_first)
        for address in (VM4, VM6):
            self.datagrams(self.flow(address, UDP), who_second)
            self.assertTrue(self.ping(address))
        self.assertEqual(self.flow(VM4).say()[0], who_second)

    def backend(self, place, mac=VM_MAC, **more):
        return {"name": f"host-{place}", "port": f"host-{place}", "mac": mac, **more}

    def test_mode_l2(self):
        self.road(self.backend("a"), self.backend("b"), "a", "b")

    def test_mode_nat(self):
        there = self.backend("n", NAT_MAC, mode="nat", temporary_addresses=list(NAT))
        self.road(self.backend("a"), there, "a", "n")


class Frames(Story):
    def mouth_and_ear(self):
        at = [places.packet_socket(place) for place in ("client", "a")]
        for one in at:
            self.addCleanup(one.close)
        return at

    def test_a_tagged_one_keeps_its_tag_and_every_byte(self):
        mouth, ear = self.mouth_and_ear()
        self.steer(addresses=[VM4], vlans=[5])
        plain = udp_frame(VM4, (CLIENT_MAC, VM_MAC), MTU - 28)
        mouth.send(plain[:12] + bytes([0x81, 0, 0, 5]) + plain[12:])
        while (frame := ear.recv(65536))[:14] != plain[:14]:  # the kernel has taken the tag out
            pass
        self.assertEqual(frame, plain)
        self.assertEqual(SWITCH.backend("host-a")["handshakes"], 1)

    def test_into_a_tap_in_both_modes(self):
        mouth, _ = self.mouth_and_ear()
        first = {"name": "host-a", "port": "host-a", "mac": VM_MAC}
        for mac, address, mode in ((VM_MAC, VM4, {}), (TAP_MAC, TAP4, {"mode": "nat", "temporary_addresses": [TAP4]})):
            with self.subTest(mode):
                tap = {"name": "host-t", "port": "host-t", "mac": mac, **mode}
                self.steer(addresses=[VM4], backends=[first, tap], owner="host-t", previous="host-a", hosting=True)
                before = SWITCH.reasons()["new-owner"]
                mouth.send(udp_frame(VM4, (CLIENT_MAC, VM_MAC), MTU - 28))
                TAP.heard(udp_frame(address, (CLIENT_MAC, mac), MTU - 28))
                self.assertEqual(SWITCH.reasons()["new-owner"], before + 1, "counted once")
                SWITCH.call("DELETE", "/v1/vms/web-1/steering?token=1")


class Refusals(unittest.TestCase):
    def refused(self, *words):
        self.assertNotEqual(SWITCH.refuses_to_start(), 0)
        for word in words:
            self.assertIn(word, SWITCH.log_text().splitlines()[-1])

    def test_ports_that_do_not_fit(self):
        self.assertEqual(SWITCH.stop(), 0)
        self.addCleanup(SWITCH.start)
        switch = f"{PREFIX}switch"
        places.sh(f"ip -n {switch} link set uplink mtu 1500")
        self.refused("port host-a", "MTU is 9000", "uplink's 1500")
        places.sh(f"ip -n {switch} link set uplink mtu {MTU}")
        good = SWITCH.yaml
        self.addCleanup(setattr, SWITCH, "yaml", good)  # before the start
        SWITCH.yaml = good.replace('"name": "host-b",', '"name": "host-b", "mtu": 4000,')
        self.assertNotEqual(SWITCH.yaml, good)
        self.refused("port host-b", "MTU is 9000", "mtu 4000")


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("skipped: needs root", file=sys.stderr)
        sys.exit(77)
    PROGRAM, PLANE = sys.argv.pop(1), sys.argv.pop(1)
    unittest.main(verbosity=2)
