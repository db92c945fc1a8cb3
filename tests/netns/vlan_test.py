#!/usr/bin/env python3
"""A managed VM in a VLAN, and in one inside another (QinQ): tagged frames through real ports, where the kernel takes
the outer tag out before tc and XDP finds it inside.

usage: vlan_test.py GODWIT_SWITCH PLANE [unittest arguments]     exits 77 without root
"""
import os
import socket
import struct
import sys
import unittest

import places
from places import CLIENT4, CLIENT_MAC, VM4, VM_MAC, checksum, mac_bytes
from switch import Switch

SOL_PACKET, PACKET_AUXDATA, TP_STATUS_VLAN_VALID = 263, 8, 16
PLACES = ("client", "a", "b")
TAGS = ((5,), (100, 5))


def tagged(frame, tags):
    # DPDK's af_packet says which VLAN the kernel has taken out, and not that it was a service tag (802.1ad).
    outer = 0x88a8 if PLANE == "ebpf" else 0x8100
    types = (0x8100,) if len(tags) == 1 else (outer, 0x8100)
    return frame[:12] + b"".join(struct.pack("!HH", *one) for one in zip(types, tags)) + frame[12:]


def udp(source, target, macs, ports):
    payload = struct.pack("!HHHH", *ports, 13, 0) + b"hello"
    ip = bytes([0x45, 0, 0, 33, 0, 0, 0x40, 0, 64, 17, 0, 0]) + socket.inet_aton(source) + socket.inet_aton(target)
    ip = ip[:10] + checksum(ip).to_bytes(2, "big") + ip[12:]
    return mac_bytes(macs[1]) + mac_bytes(macs[0]) + b"\x08\x00" + ip + payload


def from_client(port):
    return udp(CLIENT4, VM4, (CLIENT_MAC, VM_MAC), (port, 53))


def from_vm(port):
    return udp(VM4, CLIENT4, (VM_MAC, CLIENT_MAC), (53, port))


def setUpModule():
    global SWITCH
    unittest.addModuleCleanup(places.remove)
    places.make(PLANE)
    SWITCH = Switch(PROGRAM, PLANE)
    unittest.addModuleCleanup(SWITCH.remove)
    SWITCH.start()


class Tagged(unittest.TestCase):
    def setUp(self):
        self.at = {}
        for place in PLACES:
            self.at[place] = places.packet_socket(place)
            self.at[place].setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
            self.addCleanup(self.at[place].close)
        self.addCleanup(SWITCH.call, "DELETE", "/v1/vms/web-1/steering?token=1")

    def steer(self, **wanted):
        status, answer = SWITCH.steer(addresses=[VM4], **wanted)
        self.assertEqual(status, 200, answer)

    def heard(self, place, wanted):
        """Waits for this frame. The kernel gives the outer tag beside it."""
        while True:
            frame, beside, _, _ = self.at[place].recvmsg(2048, 100)
            for level, kind, data in beside:
                status, *_, tci, tpid = struct.unpack("IIIHHHH", data[:20])
                if (level, kind) == (SOL_PACKET, PACKET_AUXDATA) and status & TP_STATUS_VLAN_VALID:
                    frame = frame[:12] + struct.pack("!HH", tpid or 0x8100, tci) + frame[12:]
            if frame[:len(wanted)] == wanted:
                return

    def test_sessions_stay_behind_their_tags(self):
        for tags in TAGS:
            with self.subTest(tags=tags):
                place = {"vlans": list(tags), "hosting": True}
                old, new = 4000 + len(tags), 5000 + len(tags)
                self.steer(**place, owner="host-a")
                self.at["client"].send(tagged(from_client(old), tags))
                self.heard("a", tagged(from_client(old), tags))
                self.at["a"].send(tagged(from_vm(old), tags))
                self.heard("client", tagged(from_vm(old), tags))
                self.steer(**place, owner="host-b", previous="host-a")
                for port, who in ((old, "a"), (new, "b")):
                    self.at["client"].send(tagged(from_client(port), tags))
                    self.heard(who, tagged(from_client(port), tags))
                self.assertEqual(SWITCH.backend("host-a")["sessions"], 1)
                status, problem = SWITCH.steer(addresses=[VM4], owner="host-b", previous="host-a", hosting=True)
                self.assertGreaterEqual(status, 400)
                self.assertIn("/vlans", [error["pointer"] for error in problem["errors"]], problem)
                SWITCH.call("DELETE", "/v1/vms/web-1/steering?token=1")

    def test_the_switch_answers_behind_the_tags(self):
        def arp(operation, to, sender, target):
            return (mac_bytes(to) + mac_bytes(sender[0]) + b"\x08\x06" + struct.pack("!HHBBH", 1, 0x800, 6, 4, operation)
                    + mac_bytes(sender[0]) + socket.inet_aton(sender[1]) + target)

        asked = arp(1, "ff:ff:ff:ff:ff:ff", (CLIENT_MAC, CLIENT4), bytes(6) + socket.inet_aton(VM4))
        told = arp(2, CLIENT_MAC, (VM_MAC, VM4), mac_bytes(CLIENT_MAC) + socket.inet_aton(CLIENT4))
        for tags in TAGS:
            with self.subTest(tags=tags):
                self.steer(vlans=list(tags), owner="host-a", hosting=True)
                self.at["client"].send(tagged(asked, tags))
                self.heard("client", tagged(told, tags))

    def test_elsewhere_the_address_is_nobodys(self):
        before = SWITCH.reasons().get("other-vlan", 0)
        self.steer(vlans=[5], owner="host-a")
        stray = tagged(b"\xff" * 6 + from_client(6000)[6:], (6,))
        self.at["client"].send(stray)
        for place in ("a", "b"):  # ordinary switching
            self.heard(place, stray)
        self.assertGreater(SWITCH.reasons()["other-vlan"], before)
        self.assertEqual(SWITCH.backend("host-a")["handshakes"], 0)

    def test_tags_that_are_none_are_refused_by_name(self):
        for tags, at in (([0], "/vlans/0"), ([4095], "/vlans/0"), ([5, 5000], "/vlans/1"), ([1, 2, 3], "/vlans")):
            status, problem = SWITCH.steer(addresses=[VM4], vlans=tags)
            self.assertGreaterEqual(status, 400)
            self.assertIn(at, [error["pointer"] for error in problem["errors"]], problem)


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("skipped: needs root", file=sys.stderr)
        sys.exit(77)
    PROGRAM, PLANE = sys.argv.pop(1), sys.argv.pop(1)
    unittest.main(verbosity=2)
