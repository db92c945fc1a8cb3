#!/usr/bin/env python3
"""godwit-switch with real sockets: two "VMs" with one address and one MAC, and clients that must not notice.

usage: switch_test.py GODWIT_SWITCH ebpf|dpdk[,WORKERS] [unittest arguments]     exits 77 without root
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


MSG_FASTOPEN = 0x20000000  # socket(7), tcp(7)


def setUpModule():
    global SWITCH, LATE
    unittest.addModuleCleanup(places.remove)
    places.make(PLANE)
    for place in ("a", "b", "c"):
        Server(place)
    LATE = places.LateServers(("a", "b"))
    SWITCH = Switch(PROGRAM, PLANE, workers=WORKERS)
    unittest.addModuleCleanup(SWITCH.remove)
    SWITCH.start()


class Story(unittest.TestCase):
    def setUp(self):
        self.flows = []
        self.good(SWITCH.steer())

    def tearDown(self):
        for flow in self.flows:
            flow.close()
        SWITCH.call("DELETE", "/v1/vms/web-1/steering?token=1")

    def good(self, answer):
        self.assertEqual(answer[0], 200, answer)
        return answer[1]

    def refused(self, answer, status, slug, pointer=None):
        self.assertEqual(answer[0], status, answer)
        self.assertTrue(answer[1]["type"].endswith(slug), answer)
        if pointer:
            self.assertIn(pointer, [one["pointer"] for one in answer[1]["errors"]])

    def flow(self, *arguments, **named):
        self.flows.append(Flow(*arguments, **named))
        return self.flows[-1]

    def events(self):
        events = Events(SWITCH)
        self.addCleanup(events.close)
        return events

    def mixed_flows(self, count=20):
        return [self.flow(address, kind) for address in (VM4, VM6) for kind in (socket.SOCK_STREAM, UDP)
                for _ in range(count)]

    def who(self, flows):
        return {flow.say()[0] for flow in flows}

    def flip(self, to="host-b", previous="host-a", hosting=True):
        return self.good(SWITCH.steer(owner=to, previous=previous, hosting=hosting))

    def eventually(self, holds, what, timeout=10):
        end = time.monotonic() + timeout
        while not holds():
            self.assertLess(time.monotonic(), end, what)
            threading.Event().wait(0.02)


class Steering(Story):
    def test_old_sessions_stay_and_new_ones_go_to_the_other(self):
        old, idle = self.mixed_flows(), [self.flow() for _ in range(5)]
        self.assertEqual(self.who(old), {"a"})
        events = self.events()
        status = self.flip()
        self.assertEqual((status["owner"], status["previous"], status["drained"]), ("host-b", "host-a", False))
        self.assertGreater(status["flip_ns"], 0)
        new = self.mixed_flows()
        self.assertEqual(self.who(new), {"b"})
        self.assertEqual(self.who(old), {"a"})
        self.assertEqual(self.who(idle), {"a"})
        tcp_old = [flow for flow in old if flow.socket.type == socket.SOCK_STREAM]
        self.assertGreaterEqual(SWITCH.backend("host-a")["sessions"], len(old) + len(idle))
        for flow in tcp_old + idle:
            flow.close()
        drained = events.wait_for("drained")  # once the UDP flows have been idle for long enough
        self.assertEqual((drained["vm"], drained["drained"]), ("web-1", True))
        self.assertEqual(SWITCH.backend("host-a")["sessions"], 0)
        self.assertEqual(self.who([f for f in new if f.socket.type == socket.SOCK_STREAM]), {"b"})

    def test_rollback_drains_the_other_way(self):
        old = [self.flow() for _ in range(10)]
        self.flip()
        new = [self.flow() for _ in range(10)]
        self.assertEqual(self.who(new), {"b"})
        events = self.events()
        self.flip(to="host-a", previous="host-b")
        self.assertEqual(self.who([self.flow() for _ in range(10)]), {"a"})
        self.assertEqual((self.who(old), self.who(new)), ({"a"}, {"b"}))
        for flow in new:
            flow.close()
        self.assertEqual(events.wait_for("drained")["previous"], "host-b")
        self.assertEqual(self.who(old), {"a"})

    def test_the_same_command_twice_changes_nothing(self):
        first = self.flip()
        self.assertEqual(self.flip()["epoch"], first["epoch"])

    def test_a_fenced_clone_cannot_speak(self):
        self.flip(to="host-a", previous=None, hosting=False)
        before = SWITCH.backend("host-b")["fenced"]
        mute = places.in_place("b", lambda: socket.socket(socket.AF_INET, UDP))
        ear = places.packet_socket("client", timeout=0.3)
        mute.sendto(b"clone speaks", (places.CLIENT4, 9))
        self.eventually(lambda: SWITCH.backend("host-b")["fenced"] > before, "the clone's frame was not fenced")
        self.assertNotIn(b"clone speaks", b"".join(self.frames(ear)))
        mute.close()

    def frames(self, ear):
        heard = []
        try:
            while True:
                heard.append(ear.recv(4096))
        except TimeoutError:
            ear.close()
            return heard

    def test_a_broadcast_reaches_the_network_and_never_the_sibling(self):
        self.flip()
        frame = b"\xff" * 6 + places.mac_bytes(places.VM_MAC) + b"\x08\x06" + bytes.fromhex("0001080006040001") + \
            places.mac_bytes(places.VM_MAC) + socket.inet_aton(VM4) + bytes(6) + socket.inet_aton("10.77.0.99")
        ears = {place: places.packet_socket(place, timeout=0.5) for place in ("client", "c", "b")}
        mouth = places.packet_socket("a")
        mouth.send(frame)
        heard = {place: frame in [one[:len(frame)] for one in self.frames(ear)] for place, ear in ears.items()}
        self.assertEqual(heard, {"client": True, "c": True, "b": False})
        mouth.close()

    def test_the_switch_answers_for_the_address_while_it_hosts(self):
        self.flip()
        before = SWITCH.reasons()
        places.sh(f"ip -n {places.PREFIX}client neigh flush dev eth0")
        self.assertEqual(self.who([self.flow(VM4), self.flow(VM6)]), {"b"})
        after = SWITCH.reasons()
        for reason in ("arp-answered", "nd-answered"):
            self.assertGreater(after[reason], before[reason], reason)

    def test_an_announcement_leaves_by_the_uplink(self):
        ear = places.packet_socket("client", timeout=0.5)
        self.good(SWITCH.call("POST", "/v1/vms/web-1:announce", {"token": 1}))
        heard = [frame for frame in self.frames(ear) if frame[6:12] == places.mac_bytes(places.VM_MAC)]
        arp = b"\xff" * 6 + places.mac_bytes(places.VM_MAC) + b"\x08\x06"
        self.assertTrue(any(frame.startswith(arp) and socket.inet_aton(VM4) in frame for frame in heard), heard)
        v6 = socket.inet_pton(socket.AF_INET6, VM6)
        self.assertTrue(any(frame[12:14] == b"\x86\xdd" and v6 in frame for frame in heard), heard)

    def test_machines_nobody_manages_are_switched_as_ever(self):
        self.assertEqual(self.who([self.flow(places.OTHER4), self.flow(places.OTHER4, UDP)]), {"c"})

    def test_a_machine_behind_another_port_is_steered_too(self):
        old = [self.flow(place="c") for _ in range(3)] + [self.flow(VM6, place="c")]
        self.assertEqual(self.who(old), {"a"})
        self.flip()
        self.assertEqual(self.who([self.flow(place="c"), self.flow(VM6, place="c")]), {"b"})
        self.assertEqual(self.who(old), {"a"})

    def test_a_machine_that_speaks_to_the_vm_alone_is_answered(self):
        mac, address = "52:54:00:00:00:77", "10.77.0.77"
        places.sh(f"ip -n {places.PREFIX}a neigh replace {address} lladdr {mac} dev eth0")
        both = places.packet_socket("c")
        self.addCleanup(both.close)
        udp = (4077).to_bytes(2, "big") + (7000).to_bytes(2, "big") + (9).to_bytes(2, "big") + bytes(2) + b"?"
        ip = bytes([0x45, 0, 0, 29, 0, 0, 0x40, 0, 64, 17, 0, 0]) + socket.inet_aton(address) + socket.inet_aton(VM4)
        ip = ip[:10] + places.checksum(ip).to_bytes(2, "big") + ip[12:]
        both.send(places.mac_bytes(places.VM_MAC) + places.mac_bytes(mac) + b"\x08\x00" + ip + udp)
        while not both.recv(4096).startswith(places.mac_bytes(mac) + places.mac_bytes(places.VM_MAC)):
            pass

    def test_two_managed_vms_speak_to_each_other(self):
        self.good(SWITCH.steer("db-1", addresses=[places.OTHER4], owner="other",
                               backends=[{"name": "other", "port": "other", "mac": places.OTHER_MAC}]))
        old = [self.flow(place="c") for _ in range(3)]
        self.assertEqual(self.who(old), {"a"})
        self.flip()
        self.assertEqual(self.who([self.flow(place="c")]), {"b"})
        self.assertEqual(self.who(old), {"a"})
        back = self.flow(places.OTHER4, place="a")
        self.assertEqual(back.say()[0], "c")
        self.assertEqual(SWITCH.call("DELETE", "/v1/vms/db-1/steering?token=1")[0], 204)


class Refusals(Story):
    def test_without_the_secret_nothing_is_told(self):
        self.assertEqual(SWITCH.call("GET", "/v1/vms", secret="wrong")[0], 401)

    def test_a_port_that_is_not_there(self):
        backends = [{"name": "host-a", "port": "nowhere", "mac": places.VM_MAC}]
        self.refused(SWITCH.steer(backends=backends), 422, "unknown-port", "/backends/0/port")

    def test_one_port_for_both(self):
        backends = [{"name": n, "port": "host-a", "mac": places.VM_MAC} for n in ("host-a", "host-b")]
        self.refused(SWITCH.steer(backends=backends), 422, "same-port", "/backends/1/port")

    def test_an_address_of_another_vm(self):
        backends = [{"name": "other", "port": "other", "mac": places.OTHER_MAC}]
        self.refused(SWITCH.steer("db-1", owner="other", backends=backends), 422, "duplicate-address",
                     "/addresses/0")

    def test_what_is_no_mac_and_what_is_no_address(self):
        backends = [{"name": "host-a", "port": "host-a", "mac": "52:54"}]
        answer = SWITCH.steer(backends=backends, addresses=["10.77.0.300"])
        self.refused(answer, 422, "invalid-steering", "/backends/0/mac")
        self.refused(answer, 422, "invalid-steering", "/addresses/0")

    def test_a_vm_nobody_knows(self):
        self.refused(SWITCH.call("GET", "/v1/vms/nobody/steering"), 404, "unknown-vm")


class Floods(Story):
    def flood(self, flags, count=20000):
        mouth = places.packet_socket("client")
        for number in range(count):
            mouth.send(places.tcp_segment(number, flags))
        mouth.close()

    def test_neither_flood_makes_sessions_or_loses_one(self):
        old = [self.flow(address) for address in (VM4, VM6) for _ in range(10)]
        self.assertEqual(self.who(old), {"a"})
        self.flip()
        new = [self.flow() for _ in range(10)]
        self.assertEqual(self.who(new), {"b"})
        for flags in (0x02, 0x10):  # SYN, ACK
            before = {name: SWITCH.backend(name)["sessions"] for name in ("host-a", "host-b")}
            self.flood(flags)
            for name, sessions in before.items():
                self.assertLessEqual(SWITCH.backend(name)["sessions"], sessions, f"{name}, flags {flags}")
        self.assertEqual((self.who(old), self.who(new)), ({"a"}, {"b"}))
        self.assertEqual(self.who([self.flow() for _ in range(5)]), {"b"})


class Resets(Story):
    def test_the_peers_of_reset_sessions_are_told(self):
        old = [self.flow(address) for address in (VM4, VM6) for _ in range(5)]
        self.assertEqual(self.who(old), {"a"})
        self.flip()
        new = [self.flow() for _ in range(5)]
        self.assertEqual(self.who(new), {"b"})
        command = {"token": 1, "job": "j-1", "step": "deadline"}
        events = self.events()
        result = self.good(SWITCH.call("POST", "/v1/vms/web-1:reset", {"command": command, "backend": "host-a"}))
        self.assertEqual(result["reset"], len(old))
        again = self.good(SWITCH.call("POST", "/v1/vms/web-1:reset", {"command": command, "backend": "host-a"}))
        self.assertEqual(again, result, "a repeated command is answered with its outcome")
        self.assertEqual(events.wait_for("drained")["vm"], "web-1")
        for flow in old:
            with self.assertRaises(ConnectionResetError):
                flow.say()
        self.assertGreaterEqual(SWITCH.reasons()["reset-told"], len(old))
        self.assertEqual(self.who(new), {"b"})


class Endings(Story):
    def test_a_half_closed_session_goes_on_with_its_owner(self):
        LATE.answer.clear()
        flows = [self.flow(address, port=7001) for address in (VM4, VM6)]
        for flow in flows:
            flow.socket.sendall(b"question")
            flow.socket.shutdown(socket.SHUT_WR)
        for flow in flows:
            self.assertEqual(flow.socket.recv(4096), b"a working")
        self.flip()
        states = [row["state"] for row in self.rows("host-a")]
        self.assertEqual(states, ["half-closed"] * len(flows))
        LATE.answer.set()
        for flow in flows:
            self.assertEqual(flow.socket.recv(4096), b"a question")
            self.assertEqual(flow.socket.recv(4096), b"")
        self.eventually(lambda: SWITCH.status()["drained"], "both have closed")

    def test_data_in_the_syn_reaches_who_gets_the_session(self):
        LATE.answer.set()
        for to in ("a", "b"):
            for _ in range(3):  # the first one brings the cookie, and another VM does not know it
                one = places.in_place("client", lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
                one.sendto(b"!", MSG_FASTOPEN, (VM4, 7001))  # blocking: it connects
                one.settimeout(5)
                one.shutdown(socket.SHUT_WR)
                with one:
                    self.assertEqual(self.all_of(one), f"{to} working{to} !".encode())
            self.assertGreater(places.taken_in_syn(to), 0)
            self.flip()

    def test_lost_sessions_are_ended_if_they_are_as_they_were(self):
        lost, talks, other = (self.flow() for _ in range(3))
        self.assertEqual(self.who([lost, talks, other]), {"a"})
        self.flip()
        rows = self.rows("host-a")
        self.eventually(lambda: self.who([talks]) == {"a"} and self.stamp(talks) not in [row["stamp"] for row in rows],
                        "a packet changes the stamp")
        name = "{}:{}".format(*other.socket.getsockname())
        request = {"command": {"token": 1, "job": "j-1", "step": "lost"}, "backend": "host-a",
                   "sessions": [{key: row[key] for key in ("address", "peer", "port", "stamp")}
                                for row in rows if row["peer"] != name]}
        self.assertEqual(len(request["sessions"]), 2)
        self.assertEqual(self.good(SWITCH.call("POST", "/v1/vms/web-1:end-lost", request)), {"ended": 1, "kept": 1})
        self.assertEqual(SWITCH.backend("host-a")["sessions"], 2)
        self.assertEqual(self.who([talks, other]), {"a"})
        self.assertEqual(self.who([lost]), {"a"}, "the VM still has it, and is asked")
        self.refused(SWITCH.call("POST", "/v1/vms/web-1:end-lost", {**request, "backend": "host-z"}),
                     422, "unknown-backend")

    def rows(self, owner):
        rows = self.good(SWITCH.call("GET", f"/v1/sessions?vm=web-1&owner={owner}"))["sessions"]
        return [row for row in rows if row["protocol"] == "tcp"]

    def stamp(self, flow):
        name = "{}:{}".format(*flow.socket.getsockname())
        return next(row["stamp"] for row in self.rows("host-a") if row["peer"] == name)

    def all_of(self, one):
        parts = []
        while part := one.recv(4096):
            parts.append(part)
        return b"".join(parts)


class Restarts(Story):
    def tearDown(self):
        if SWITCH.process.poll() is not None:
            SWITCH.start()
        super().tearDown()

    def test_a_killed_switch_in_mid_drain_and_its_successor_takes_over(self):
        old = [self.flow(address) for address in (VM4, VM6) for _ in range(5)]
        self.assertEqual(self.who(old), {"a"})
        self.flip()
        new = [self.flow() for _ in range(5)]
        self.assertEqual(self.who(new), {"b"})
        before, counted, was_counted = SWITCH.status(), SWITCH.reasons(), self.packets()
        self.assertGreater(was_counted["uplink", "forward", "session"], 0)
        self.assertGreater(was_counted["host-a", "pass", "session"], 0)
        answers, stop = [], threading.Event()

        def keep_talking():
            old[0].socket.settimeout(30)
            new[0].socket.settimeout(30)
            while not stop.is_set():
                answers.append((old[0].say()[0], new[0].say()[0]))

        talker = threading.Thread(target=keep_talking)
        talker.start()
        self.eventually(lambda: len(answers) > 100, "no traffic")
        SWITCH.kill()
        if PLANE == "ebpf":  # its programs are the kernel's; the DPDK plane's worker died
            said = len(answers)
            self.eventually(lambda: len(answers) > said + 200, "traffic stopped with the switch")
            self.assertEqual(self.flow().say()[0], "b")
        SWITCH.start()
        said = len(answers)
        self.eventually(lambda: len(answers) > said + 200, "traffic stopped with the successor")
        stop.set()
        talker.join()
        self.assertEqual(set(answers), {("a", "b")})
        self.assertTrue(SWITCH.call("GET", "/v1/switch")[1]["adopted"])
        after = SWITCH.status()
        for field in ("owner", "previous", "hosting", "epoch", "addresses"):
            self.assertEqual(after[field], before[field])
        for was, now in zip(before["backends"], after["backends"]):
            self.assertGreaterEqual(now["packets_to"], was["packets_to"] + 100, "counters go on")
        for reason, packets in counted.items():
            self.assertGreaterEqual(SWITCH.reasons()[reason], packets, reason)
        for name, number in was_counted.items():
            self.assertGreaterEqual(self.packets()[name], number, name)
        self.assertLessEqual(self.peers_of(old), self.listed("host-a"))
        self.assertLessEqual(self.peers_of(new), self.listed("host-b"))
        self.assertEqual((self.who(old), self.who(new)), ({"a"}, {"b"}))
        events = self.events()
        for flow in old:
            flow.close()
        self.assertEqual(events.wait_for("drained")["previous"], "host-a")

    def test_a_lower_token_is_refused_even_after_a_restart(self):
        self.assertEqual(self.good(SWITCH.call("PUT", "/v1/fence", {"token": 1}))["token"], 1)
        self.refused(SWITCH.steer(token=0), 409, "stale-epoch")
        self.refused(SWITCH.call("POST", "/v1/vms/web-1:announce", {"token": 0}), 409, "stale-epoch")
        SWITCH.kill()
        SWITCH.start()
        self.refused(SWITCH.steer(token=0), 409, "stale-epoch")
        self.assertEqual(self.who([self.flow()]), {"a"})

    def peers_of(self, flows):
        names = [flow.socket.getsockname() for flow in flows]
        return {f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}" for name in names}

    def listed(self, owner):
        return {row["peer"] for row in SWITCH.call("GET", f"/v1/sessions?vm=web-1&owner={owner}")[1]["sessions"]}

    def packets(self):
        return {(one["port"], one["verdict"], one["reason"]): one["packets"]
                for one in SWITCH.call("GET", "/v1/stats")[1]["packets"]}

    def another_layout_ebpf(self):
        settings = SWITCH.bpffs / "maps" / "settings"
        aside = SWITCH.bpffs / "maps" / "settings-aside"
        settings.rename(aside)
        places.sh(f"bpftool map create {settings} type array key 4 value 8 entries 1 name settings")

        def undo():
            settings.unlink()
            aside.rename(settings)

        return undo

    def another_layout_dpdk(self):
        good = SWITCH.session_file.read_bytes()
        SWITCH.session_file.write_bytes(good[:8] + (99).to_bytes(4, "little") + good[12:])
        return lambda: SWITCH.session_file.write_bytes(good)

    def test_tables_of_another_layout_are_not_touched(self):
        self.assertEqual(SWITCH.stop(), 0)
        undo = self.another_layout_dpdk() if PLANE == "dpdk" else self.another_layout_ebpf()
        try:
            self.assertNotEqual(SWITCH.refuses_to_start(), 0)
        finally:
            undo()
        self.assertIn("another layout", SWITCH.log_text())


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("skipped: needs root", file=sys.stderr)
        sys.exit(77)
    PROGRAM, PLANE = sys.argv.pop(1), sys.argv.pop(1)
    PLANE, _, several = PLANE.partition(",")  # "dpdk,2": two workers, one after a restart, then two again
    WORKERS = (int(several), 1) if several else (1,)
    unittest.main(verbosity=2)
