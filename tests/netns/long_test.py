#!/usr/bin/env python3
"""What is longer than a packet may be. Path MTU: a router on the way back to the client takes shorter ones, and only its
ICMP errors can tell the VM, so that a transfer whose errors get lost never ends. Segments: what a VM leaves to its
device to cut (TSO, UDP GSO) passes the switch whole, with checksums that nobody has finished yet.

    far ---- client --uplink-- switch --host-a, host-b, host-n-- the VM, in mode l2 twice and in mode nat
      mtu 1280  (a router)           \\--other-- c, beside the VM

usage: long_test.py GODWIT_SWITCH ebpf|dpdk [unittest arguments]     exits 77 without root
"""
import os
import socket
import sys
import threading
import unittest

import bulk
import far
import places
from places import CLIENT4, CLIENT6, Flow, OTHER4, PREFIX, VM4, VM6, VM_MAC, in_place
from switch import Switch

GIVER, TALKER, LONG = 7001, 7002, 400_000
NAT_MAC, NAT = "52:54:00:00:00:31", ("10.77.0.31", "fd77::31")
places.PLACES = {**places.PLACES, "n": ("host-n", NAT_MAC, (f"{NAT[0]}/16", f"{NAT[1]}/64"))}
UDP_SEGMENT, PIECE, PIECES = 103, 1000, 20


def setUpModule():
    global SWITCH
    unittest.addModuleCleanup(places.remove)
    unittest.addModuleCleanup(far.remove)
    places.make(PLANE)
    far.make((CLIENT4, CLIENT6), ("a", "b", "n"))
    if PLANE == "ebpf":  # what leaves the switch is cut and finished there, and looked at by who gets it
        places.sh(f"nsenter --net={places.path_of('switch')} ethtool -K uplink tx off tso off gso off")
    for place in ("a", "b", "n"):
        bulk.Giver(place, GIVER)
        bulk.Talker(place, TALKER)
    SWITCH = Switch(PROGRAM, PLANE, udp_s=60)
    unittest.addModuleCleanup(SWITCH.remove)
    SWITCH.start()


def backend(place):
    if place == "n":
        return {"name": "host-n", "port": "host-n", "mac": NAT_MAC, "mode": "nat", "temporary_addresses": list(NAT)}
    return {"name": f"host-{place}", "port": f"host-{place}", "mac": VM_MAC}


class Story(unittest.TestCase):
    def setUp(self):
        self.flows = []

    def tearDown(self):
        for flow in self.flows:
            flow.close()
        SWITCH.call("DELETE", "/v1/vms/web-1/steering?token=1")

    def steer(self, owner, previous=None, backends=("a", "b"), hosting=True):
        wanted = {"owner": f"host-{owner}", "backends": [backend(one) for one in backends], "hosting": hosting}
        if previous:
            wanted["previous"] = f"host-{previous}"
        status, answer = SWITCH.steer(**wanted)
        self.assertEqual(status, 200, answer)

    def flow(self, address, *more, **named):
        self.flows.append(Flow(address, *more, **named))
        return self.flows[-1]


class PathMtu(Story):
    def given(self, flow):
        """How much has come; whoever sends does not know the way's MTU any more."""
        flow.socket.settimeout(30)
        flow.socket.sendall(str(LONG).encode())
        with flow.socket.makefile("rb") as answers:
            return len(answers.read(LONG))

    def ask(self, flows, told, untold):
        """Both families' bulk comes through, and of the two VMs `told` alone has heard of the router."""
        for place in (told, untold):
            far.forget_path_mtu(place)
        for family, flow in enumerate(flows):
            self.assertEqual(self.given(flow), LONG)
            self.assertEqual(far.path_mtu(told, family), far.FAR_MTU)
            self.assertEqual(far.path_mtu(untold, family), 0, "an error about somebody else's session")

    def pair(self):
        return [self.flow(address, place="far", port=GIVER) for address in (VM4, VM6)]

    def road(self, second):
        pair = ("a", second)
        self.steer("a", backends=pair)
        old, later = self.pair(), self.pair()
        self.ask(old, "a", second)
        self.steer(second, "a", backends=pair)
        self.ask(later, "a", second)  # silent until now
        new = self.pair()
        self.ask(new, second, "a")
        self.ask(old, "a", second)
        for flow in old + later:
            flow.close()
        self.steer(second, backends=pair, hosting=second == "n")
        self.ask(new, second, "a")
        self.ask(self.pair(), second, "a")

    def test_mode_l2(self):
        self.road("b")

    def test_mode_nat(self):
        self.road("n")


class Ear:
    """The longest frame that an interface gets or sends while somebody speaks."""

    def __init__(self, place, interface="eth0"):
        self.socket = places.packet_socket(place, interface, timeout=0.2)
        self.longest, self.over = 0, threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        while True:
            try:
                self.longest = max(self.longest, len(self.socket.recv(1 << 17)))
            except TimeoutError:
                if self.over.is_set():  # and nothing waits any more
                    return

    def close(self):
        self.over.set()
        self.thread.join()
        self.socket.close()
        return self.longest


class Segments(Story):
    def setUp(self):
        if PLANE == "dpdk":
            self.skipTest("an af_packet device takes no frame that the kernel would still have to cut")
        super().setUp()

    def hears_whole(self, ears, act):
        ears = [Ear(*one) for one in ears]
        try:
            act()
        finally:
            longest = [ear.close() for ear in ears]
        for one in longest:
            self.assertGreater(one, 1514, "nothing came that was longer than a packet")

    def tcp(self, address, place):
        self.assertTrue(bulk.is_understood(self.flow(address, place=place, port=TALKER).socket))

    def datagrams(self, sender, receiver, to, bind):
        """One send, cut behind the switch; checksums are looked at by who receives."""
        family = socket.AF_INET6 if ":" in to else socket.AF_INET
        heard = in_place(receiver, lambda: socket.socket(family, socket.SOCK_DGRAM))
        said = in_place(sender, lambda: socket.socket(family, socket.SOCK_DGRAM))
        with heard, said:
            heard.bind(("", bind))
            heard.settimeout(10)
            said.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, PIECE)
            words = b"".join(bytes([number]) * PIECE for number in range(PIECES))
            said.sendto(words, (to, bind))
            self.assertEqual(b"".join(heard.recv(65536) for _ in range(PIECES)), words)

    def both_modes(self, act):
        for second in ("b", "n"):
            with self.subTest(second, act=act.__defaults__):
                self.steer(second, "a", backends=("a", second))
                act(second)
                SWITCH.call("DELETE", "/v1/vms/web-1/steering?token=1")

    def test_tcp_between_two_machines_of_the_switch(self):
        for address in (VM4, VM6):
            self.both_modes(lambda second, to=address: self.hears_whole(
                [("switch", "other"), (second,), ("switch", f"host-{second}"), ("c",)], lambda: self.tcp(to, "c")))

    def test_tcp_to_a_client_behind_the_uplink(self):
        for address in (VM4, VM6):
            self.both_modes(lambda second, to=address: self.hears_whole(
                [("switch", f"host-{second}")], lambda: self.tcp(to, "client")))

    def test_datagrams_towards_the_vm_and_from_it(self):
        for address, other, client in ((VM4, OTHER4, CLIENT4), (VM6, "fd77::20", CLIENT6)):
            self.both_modes(lambda second, to=address, beside=other, far_one=client: (
                self.hears_whole([(second,)], lambda: self.datagrams("c", second, to, 7100)),
                self.hears_whole([("c",)], lambda: self.datagrams(second, "c", beside, 7101)),
                self.hears_whole([("switch", f"host-{second}")],
                                 lambda: self.datagrams(second, "client", far_one, 7102))))


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("skipped: needs root", file=sys.stderr)
        sys.exit(77)
    PROGRAM, PLANE = sys.argv.pop(1), sys.argv.pop(1)
    unittest.main(verbosity=2)
