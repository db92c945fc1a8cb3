#!/usr/bin/env python3
"""A switch that ran one plane goes on with the other: sessions, owners and counters are kept, with real sockets.

usage: take_over_test.py GODWIT_SWITCH [unittest arguments]     exits 77 without root
"""
import os
import socket
import sys
import threading
import time
import unittest

import places
from places import Flow, Server, VM4, VM6
from switch import Events, Switch

UDP = socket.SOCK_DGRAM
KILLS = (0.02, 0.1, 0.3, 0.6, 1.0, 1.5)  # seconds after the start of a process that is not to finish


def bridge(plane):
    """The kernel's bridge switches what is not managed for plane ebpf; plane dpdk has the ports for itself."""
    for port, _, _ in places.PLACES.values():
        places.sh(f"ip -n {places.PREFIX}switch link set {port} " + ("master br0" if plane == "ebpf" else "nomaster"))


class TakeOver(unittest.TestCase):
    def setUp(self):
        self.addCleanup(places.remove)
        places.make("dpdk")
        bridge("ebpf")
        for place in ("a", "b"):
            Server(place)
        self.switch = Switch(PROGRAM, "ebpf", udp_s=120, workers=(1, 2))
        self.addCleanup(self.switch.remove)
        self.switch.start()
        self.steer(owner="host-a")
        self.flows = []
        self.addCleanup(lambda: [flow.close() for flow in self.flows])
        self.old = self.some_flows()
        self.idle = self.flow()
        self.assertEqual(self.who(self.old), {"a"})
        self.steer(owner="host-b", previous="host-a", hosting=True)
        self.new = self.some_flows()
        self.assertEqual(self.who(self.new), {"b"})

    def steer(self, **wanted):
        status, answer = self.switch.steer(**wanted)
        self.assertEqual(status, 200, answer)

    def flow(self, *arguments):
        self.flows.append(Flow(*arguments))
        self.flows[-1].socket.settimeout(30)
        return self.flows[-1]

    def some_flows(self):
        return [self.flow(address, kind) for address in (VM4, VM6) for kind in (socket.SOCK_STREAM, UDP)
                for _ in range(10)]

    def who(self, flows):
        return {flow.say()[0] for flow in flows}

    def turn_to(self, plane):
        bridge(plane)
        self.switch.turn_to(plane)

    def sessions(self):
        """What is listed, by peer: (owner, state), and how long each has been idle."""
        rows = self.switch.call("GET", "/v1/sessions?vm=web-1")[1]["sessions"]
        return ({(row["protocol"], row["peer"], row["owner"], row["state"]) for row in rows},
                {(row["protocol"], row["peer"]): row["idle_s"] for row in rows})

    def seen(self):
        status = self.switch.status()
        packets = {(one["port"], one["verdict"], one["reason"]): one["packets"]
                   for one in self.switch.call("GET", "/v1/stats")[1]["packets"]}
        return status, packets

    def check_kept(self, before, rows, idle, since):
        self.assertTrue(self.switch.call("GET", "/v1/switch")[1]["adopted"])
        (was, had), (now, has) = before, self.seen()
        for field in ("owner", "previous", "hosting", "epoch", "addresses"):
            self.assertEqual(now[field], was[field])
        for one, other in zip(was["backends"], now["backends"]):
            self.assertEqual(one["sessions"], other["sessions"], one["name"])
            self.assertGreaterEqual(other["packets_to"], one["packets_to"], "counters go on")
        for name, number in had.items():
            self.assertGreaterEqual(has.get(name, 0), number, name)
        rows_now, idle_now = self.sessions()
        self.assertEqual(rows_now, rows)
        passed = time.monotonic() - since
        for name, seconds in idle.items():
            self.assertGreaterEqual(idle_now[name] + 1, seconds, "a session does not become younger by itself")
            self.assertLessEqual(idle_now[name], seconds + passed + 2, "nor older")
        self.assertEqual((self.who(self.old), self.who(self.new)), ({"a"}, {"b"}))

    def go_over(self, plane):
        before, (rows, idle), since = self.seen(), self.sessions(), time.monotonic()
        self.switch.kill()
        self.turn_to(plane)
        self.switch.start()
        self.check_kept(before, rows, idle, since)

    def test_there_and_back_with_every_session_and_then_drained(self):
        self.go_over("dpdk")
        self.assertFalse((self.switch.bpffs / "maps").exists() and any((self.switch.bpffs / "maps").iterdir()))
        self.assertEqual(self.who([self.flow()]), {"b"}, "and newcomers are the new owner's")
        self.go_over("ebpf")
        self.assertFalse(self.switch.session_file.exists())
        self.go_over("dpdk")
        events = Events(self.switch)
        self.addCleanup(events.close)
        self.assertEqual(self.idle.say()[0], "a")
        for flow in self.old:
            flow.close()
        self.assertEqual(self.switch.call("POST", "/v1/vms/web-1:reset", {
            "command": {"token": 1, "job": "j", "step": "s"}, "backend": "host-a"})[0], 200)
        drained = events.wait_for("drained")
        self.assertEqual((drained["previous"], drained["drained"]), ("host-a", True))
        self.assertEqual(self.who(self.new), {"b"})

    def test_a_start_that_fails_leaves_the_other_plane_forwarding(self):
        self.switch.kill()
        self.switch.turn_to("dpdk", broken=True)
        self.assertNotEqual(self.switch.refuses_to_start(), 0)
        self.assertEqual((self.who(self.old), self.who(self.new)), ({"a"}, {"b"}))

    def killed_while_it_takes_over(self, plane):
        before, (rows, idle), since = self.seen(), self.sessions(), time.monotonic()
        self.switch.kill()
        self.turn_to(plane)
        for seconds in KILLS:
            self.switch.start_and_kill(after=seconds)
        self.switch.start()
        self.check_kept(before, rows, idle, since)

    def test_killed_at_any_moment_of_the_take_over_nothing_is_lost(self):
        self.killed_while_it_takes_over("dpdk")
        self.killed_while_it_takes_over("ebpf")

    def test_killed_in_mid_take_over_the_old_plane_goes_on(self):
        before, (rows, idle), since = self.seen(), self.sessions(), time.monotonic()
        self.switch.kill()
        for seconds in KILLS:
            self.turn_to("dpdk")
            self.switch.start_and_kill(after=seconds)
            self.turn_to("ebpf")
            self.switch.start()
            self.assertEqual((self.who(self.old), self.who(self.new)), ({"a"}, {"b"}))
            self.switch.kill()
        self.switch.start()
        self.check_kept(before, rows, idle, since)

    def test_another_layout_is_refused_by_name(self):
        self.go_over("dpdk")
        self.assertEqual(self.switch.stop(), 0)
        good = self.switch.session_file.read_bytes()
        self.switch.session_file.write_bytes(good[:8] + (99).to_bytes(4, "little") + good[12:])
        self.turn_to("ebpf")
        self.assertNotEqual(self.switch.refuses_to_start(), 0)
        self.assertIn(f"{self.switch.session_file}: the tables there have another layout", self.switch.log_text())
        self.switch.session_file.write_bytes(good)
        self.switch.start()
        self.assertEqual((self.who(self.old), self.who(self.new)), ({"a"}, {"b"}))


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("skipped: needs root", file=sys.stderr)
        sys.exit(77)
    PROGRAM = sys.argv.pop(1)
    unittest.main(verbosity=2)
