#!/usr/bin/env python3
"""Mode nat with real sockets, the patent's addresses (CN102932409A [0073]-[0075]) and finished checksums.

    far --- client --uplink-- switch --host-a-- a   10.9.1.20, or nobody: a backend in mode l2
      mtu 1280   (a router)        \\--host-s-- s   10.9.1.30 \\ of 10.9.1.10, which nobody has
                                    \\-host-b-- b   10.9.1.31 /

usage: nat_test.py GODWIT_SWITCH ebpf|dpdk [unittest arguments]     exits 77 without root
"""
import os
import socket
import subprocess
import sys
import unittest

import far
import places
from bulk import Giver
from places import Flow, PREFIX, Server, in_place
from switch import Events, Switch

UDP = socket.SOCK_DGRAM
HOSTED, L2 = ("10.9.1.10", "fd09::10"), ("10.9.1.20", "fd09::20")
SOURCE, DESTINATION = ("10.9.1.30", "fd09::30"), ("10.9.1.31", "fd09::31")
CLIENT = ("10.9.0.2", "fd09::2")
MACS = {"a": "52:54:00:00:00:20", "s": "52:54:00:00:00:30", "b": "52:54:00:00:00:31"}
places.PLACES = {
    "client": ("uplink", places.CLIENT_MAC, (f"{CLIENT[0]}/16", f"{CLIENT[1]}/64")),
    "a": ("host-a", MACS["a"], (f"{L2[0]}/16", f"{L2[1]}/64")),
    "s": ("host-s", MACS["s"], (f"{SOURCE[0]}/16", f"{SOURCE[1]}/64")),
    "b": ("host-b", MACS["b"], (f"{DESTINATION[0]}/16", f"{DESTINATION[1]}/64")),
}
LONG = 300_000


def setUpModule():
    global SWITCH
    unittest.addModuleCleanup(places.remove)
    unittest.addModuleCleanup(far.remove)
    places.make(PLANE)
    far.make(CLIENT, ("a", "s", "b"))
    # What leaves the switch has a finished checksum, and is looked at by who gets it.
    places.sh(f"nsenter --net={places.path_of('switch')} ethtool -K uplink tx off tso off gso off")
    for place in ("a", "s", "b"):
        Server(place)
        Giver(place)
    Giver("client")
    SWITCH = Switch(PROGRAM, PLANE)
    unittest.addModuleCleanup(SWITCH.remove)
    SWITCH.start()


def l2(place):
    return {"name": f"host-{place}", "port": f"host-{place}", "mac": MACS[place]}


def nat(place, addresses):
    return {**l2(place), "mode": "nat", "temporary_addresses": list(addresses)}


class Story(unittest.TestCase):
    def setUp(self):
        self.flows = []

    def tearDown(self):
        for flow in self.flows:
            flow.close()
        SWITCH.call("DELETE", "/v1/vms/web-1/steering?token=1")

    def good(self, answer):
        self.assertEqual(answer[0], 200, answer)
        return answer[1]

    def flow(self, *arguments, **named):
        self.flows.append(Flow(*arguments, **named))
        return self.flows[-1]

    def mixed_flows(self, addresses, count=10):
        return [self.flow(address, kind) for address in addresses for kind in (socket.SOCK_STREAM, UDP)
                for _ in range(count)]

    def who(self, flows):
        return {flow.say()[0] for flow in flows}

    def ask(self, place, address, wanted, port=7001):
        """What a Giver says."""
        one = self.flow(address, place=place, port=port)
        one.socket.settimeout(20)
        one.socket.sendall(str(wanted).encode())
        one.socket.shutdown(socket.SHUT_WR)
        with one.socket.makefile("rb") as answers:
            return answers.read()

    def ping(self, address, size=56):
        return subprocess.run(["nsenter", f"--net={places.path_of('client')}", "ping", "-c", "1", "-W", "5", "-s",
                               str(size), address], stdout=subprocess.DEVNULL, check=False).returncode == 0


class Modes(Story):
    """The same story for each way to be reached."""

    def road(self, hosted, first, second, name_a, name_b):
        self.good(SWITCH.steer(addresses=list(hosted), backends=[first, second], owner=first["name"], hosting=True))
        old = self.mixed_flows(hosted)
        self.assertEqual(self.who(old), {name_a})
        self.assertTrue(all(self.ping(address) for address in hosted))
        events = Events(SWITCH)
        self.addCleanup(events.close)
        self.good(SWITCH.steer(addresses=list(hosted), backends=[first, second], owner=second["name"],
                               previous=first["name"], hosting=True))
        new = self.mixed_flows(hosted)
        self.assertEqual((self.who(new), self.who(old)), ({name_b}, {name_a}))
        self.assertTrue(all(self.ping(address, size=1400) for address in hosted))
        for place in ("client", "far"):
            for address in hosted:
                self.assertEqual(len(self.ask(place, address, LONG)), LONG, f"{place} {address}")
        before = SWITCH.backend(first["name"])
        self.assertEqual(self.who(new + old), {name_a, name_b})
        self.assertGreater(SWITCH.backend(first["name"])["packets_from"], before["packets_from"])
        for flow in old:
            flow.close()
        self.assertEqual(events.wait_for("drained")["previous"], first["name"])
        # Back again: the destination's sessions stay with it, under its temporary address.
        self.good(SWITCH.steer(addresses=list(hosted), backends=[first, second], owner=first["name"],
                               previous=second["name"], hosting=True))
        tcp_new = [flow for flow in new if flow.socket.type == socket.SOCK_STREAM]
        self.assertEqual(self.who(tcp_new), {name_b})
        self.assertEqual(self.who([self.flow(address) for address in hosted]), {name_a})
        return first, second

    def test_a_source_with_the_address_and_a_destination_with_one_of_its_own(self):
        self.road(L2, l2("a"), nat("b", DESTINATION), "a", "b")

    def test_the_patents_three_addresses(self):
        self.road(HOSTED, nat("s", SOURCE), nat("b", DESTINATION), "s", "b")


class Own(Story):
    def setUp(self):
        super().setUp()
        self.wanted = {"addresses": list(HOSTED), "backends": [nat("s", SOURCE), nat("b", DESTINATION)],
                       "hosting": True}
        self.good(SWITCH.steer(**self.wanted, owner="host-s"))

    def test_what_the_owner_begins_comes_from_the_hosted_address_and_else_from_its_own(self):
        for family in (0, 1):
            self.assertEqual(self.ask("s", CLIENT[family], 0), HOSTED[family].encode())
            self.assertEqual(self.ask("b", CLIENT[family], 0), DESTINATION[family].encode())
        self.good(SWITCH.steer(**self.wanted, owner="host-b", previous="host-s"))
        for family in (0, 1):
            self.assertEqual(self.ask("b", CLIENT[family], 0), HOSTED[family].encode())
            self.assertEqual(self.ask("s", CLIENT[family], 0), SOURCE[family].encode())

    def test_a_temporary_address_is_reached_as_itself(self):
        direct = self.mixed_flows(SOURCE + DESTINATION, count=3)
        self.assertEqual(self.who(direct), {"s", "b"})
        self.assertTrue(all(self.ping(address) for address in SOURCE + DESTINATION))
        self.assertEqual([SWITCH.backend(name)["sessions"] for name in ("host-s", "host-b")], [0, 0])
        self.good(SWITCH.steer(**self.wanted, owner="host-b", previous="host-s"))
        self.assertEqual(self.who(direct), {"s", "b"})

    def test_a_router_tells_the_backend_how_long_packets_may_be(self):
        far.forget_path_mtu("s")
        for family in (0, 1):
            self.assertEqual(len(self.ask("far", HOSTED[family], LONG)), LONG)
            self.assertEqual(far.path_mtu("s", family), far.FAR_MTU,
                             "the error did not reach the socket that was too long")

    def test_the_backends_errors_reach_the_peer(self):
        for address in HOSTED:
            flow = self.flow(address, UDP, port=9)
            flow.socket.send(b"anybody?")
            with self.assertRaises(ConnectionRefusedError):
                flow.socket.recv(100)

    def test_the_destination_hears_what_is_for_it_behind_one_port_too(self):
        # host-s is a hypervisor with both behind it: a second station on the same cable.
        places.sh(f"ip -n {PREFIX}s link add link eth0 name twin type macvlan mode bridge")
        twin = {"name": "host-t", "port": "host-s", "mac": "52:54:00:00:00:32", "mode": "nat",
                "temporary_addresses": ["10.9.1.32", "fd09::32"]}
        self.addCleanup(places.sh, f"ip netns del {PREFIX}t")  # and twin with it
        places.sh(f"ip netns add {PREFIX}t && ip -n {PREFIX}s link set twin address {twin['mac']} netns {PREFIX}t")
        for command in ("link set lo up", "link set twin up", "addr add 10.9.1.32/16 dev twin",
                        "addr add fd09::32/64 dev twin nodad"):
            places.sh(f"ip -n {PREFIX}t {command}")
        Server("t")
        backends = [nat("s", SOURCE), twin]
        wanted = {"addresses": list(HOSTED), "backends": backends, "hosting": True}
        self.good(SWITCH.steer(**wanted, owner="host-s"))
        old = self.mixed_flows(HOSTED, count=3)
        self.assertEqual(self.who(old), {"s"})
        self.good(SWITCH.steer(**wanted, owner="host-t", previous="host-s"))
        self.assertEqual((self.who(self.mixed_flows(HOSTED, count=3)), self.who(old)), ({"t"}, {"s"}))


class Refusals(Story):
    def test_every_field_is_named(self):
        wrong = {**nat("b", DESTINATION[:1]), "mac": MACS["a"]}
        status, problem = SWITCH.steer(addresses=list(L2), backends=[l2("a"), wrong], owner="host-b",
                                       previous="host-a")
        self.assertEqual(status, 422, problem)
        pointers = {one["pointer"] for one in problem["errors"]}
        self.assertLessEqual({"/backends/1/temporary_addresses", "/backends/1/mac", "/hosting"}, pointers)

    def test_a_mode_nobody_knows(self):
        status, problem = SWITCH.steer(addresses=list(L2), backends=[{**l2("a"), "mode": "vxlan"}])
        self.assertEqual(status, 422, problem)
        self.assertIn("/backends/0/mode", [one["pointer"] for one in problem["errors"]])

    def test_sessions_keep_the_backends_name(self):
        backends = [l2("a"), nat("b", DESTINATION)]
        self.good(SWITCH.steer(addresses=list(L2), backends=backends, owner="host-b", previous="host-a", hosting=True))
        flow = self.flow(L2[0])
        self.assertEqual(flow.say()[0], "b")
        status, problem = SWITCH.steer(addresses=list(L2), backends=[l2("a"), l2("b")], owner="host-b",
                                       previous="host-a", hosting=True)
        self.assertEqual((status, problem["type"].rpartition(":")[2]), (409, "mode-in-use"))
        self.assertEqual(flow.say()[0], "b")


class Restarts(Story):
    def test_a_successor_goes_on_rewriting(self):
        wanted = {"addresses": list(L2), "backends": [l2("a"), nat("b", DESTINATION)], "hosting": True}
        self.good(SWITCH.steer(**wanted, owner="host-a"))
        old = [self.flow(address) for address in L2]
        self.assertEqual(self.who(old), {"a"})
        self.good(SWITCH.steer(**wanted, owner="host-b", previous="host-a"))
        new = [self.flow(address) for address in L2]
        self.assertEqual(self.who(new), {"b"})
        SWITCH.kill()
        if PLANE == "ebpf":
            self.assertEqual((self.who(old), self.who(new)), ({"a"}, {"b"}))
            self.assertEqual(self.who([self.flow(address) for address in L2]), {"b"})
        SWITCH.start()
        self.assertEqual((self.who(old), self.who(new)), ({"a"}, {"b"}))
        self.assertEqual(SWITCH.backend("host-b")["temporary_addresses"], list(DESTINATION))


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("skipped: needs root", file=sys.stderr)
        sys.exit(77)
    PROGRAM, PLANE = sys.argv.pop(1), sys.argv.pop(1)
    unittest.main(verbosity=2)
