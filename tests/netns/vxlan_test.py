#!/usr/bin/env python3
"""Source and destination behind two switches (CN102932409A [0090]), a VXLAN tunnel between them. The first switch
steers, the second only relays, and its one way out is the tunnel.

    client --uplink-- switch --host-a-- a          a and b are "the VM" twice
                        | vx-b                     fabric: 10.98.0.0/30
                        |  (fabric)
                        | vx-a
                       far --host-b-- b
                        \\---host-d-- d          another machine

usage: vxlan_test.py GODWIT_SWITCH ebpf|dpdk [unittest arguments]     exits 77 without root
"""
import os
import pathlib
import socket
import struct
import subprocess
import sys
import time
import unittest

import places
from bulk import Giver
from places import CLIENT4, CLIENT6, CLIENT_MAC, Flow, PREFIX, Server, VM4, VM6, VM_MAC, in_place, mac_bytes
from switch import Events, Switch

UDP = socket.SOCK_DGRAM
MTU = 1500
UNDERLAY_MTU = MTU + 50
LONG = 3_000_000
NEAR, FAR = "10.98.0.1", "10.98.0.2"
VNI = 4100
ETHERTYPE = b"\x88\xb5"  # for experiments (IEEE 802)
OTHER_MAC, OTHER4 = "52:54:00:00:00:04", "10.77.0.30"
FAR_PLACES = {"b": places.PLACES["b"], "d": ("host-d", OTHER_MAC, (f"{OTHER4}/16", "fd77::30/64"))}
places.PLACES = {place: places.PLACES[place] for place in ("client", "a")}


def tunnel(name, role, ends, **other):
    vxlan = {"local": ends[0], "remote": ends[1], "vni": VNI, "underlay": "fabric", **other}
    if PLANE == "ebpf":
        vxlan["bridge"] = "br0"
    return {"name": name, "interface": name, "role": role, "mtu": MTU, "vxlan": vxlan}


def port(name, role):
    return {"name": name, "interface": name, "role": role, "mtu": UNDERLAY_MTU if role == "underlay" else MTU}


def near_ports(**other):
    return [port("uplink", "uplink"), port("host-a", "vm"), port("fabric", "underlay"),
            tunnel("vx-b", "vm", (NEAR, FAR), **other)]


def far_ports(**other):
    return [tunnel("vx-a", "uplink", (FAR, NEAR), **other), port("host-b", "vm"), port("host-d", "vm"), port("fabric", "underlay")]


def make_far():
    """The second switch, the fabric, and who is behind it."""
    far = f"{PREFIX}far"
    places.sh(f"ip netns add {far}")
    in_place("far", lambda: pathlib.Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1"))
    for command in (
            f"-n {far} link set lo up",
            f"-n {far} link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
            f"-n {far} link set br0 up",
            f"-n {far} link add fabric mtu {UNDERLAY_MTU} type veth peer name fabric mtu {UNDERLAY_MTU} "
            f"netns {PREFIX}switch",
            f"-n {far} link set fabric up", f"-n {PREFIX}switch link set fabric up"):
        places.sh("ip " + command)
    for place, (interface, mac, addresses) in FAR_PLACES.items():
        there = f"{PREFIX}{place}"
        places.sh(f"ip netns add {there} && ip -n {there} link set lo up")
        places.sh(f"ip -n {far} link add {interface} type veth peer name eth0 netns {there}")
        places.sh(f"ip -n {far} link set {interface} {'master br0' if PLANE == 'ebpf' else ''} up")
        places.sh(f"ip -n {there} link set eth0 address {mac} up")
        for address in addresses:
            places.sh(f"ip -n {there} addr add {address} dev eth0 {'nodad' if ':' in address else ''}")
    if PLANE == "ebpf":  # on plane dpdk the switch itself is the end
        places.sh(f"ip -n {PREFIX}switch addr add {NEAR}/30 dev fabric && ip -n {far} addr add {FAR}/30 dev fabric")
        # Segments as long as a socket can make them, checksums unfinished: the tunnel has to take them as they are.
        places.sh(f"nsenter --net={places.path_of('client')} ethtool -K eth0 tx on tso on gso on")
    else:
        for place in FAR_PLACES:
            places.sh(f"nsenter --net={places.path_of(place)} ethtool -K eth0 tx off tso off gso off gro on")


def remove_far():
    for place in ("far", *FAR_PLACES):
        subprocess.run(["ip", "netns", "del", PREFIX + place], stderr=subprocess.DEVNULL)


def setUpModule():
    global NEAR_SWITCH, FAR_SWITCH
    unittest.addModuleCleanup(places.remove)
    unittest.addModuleCleanup(remove_far)
    places.make(PLANE)
    make_far()
    for place in ("a", "b", "d"):
        Server(place)
        Giver(place)
    Giver("client")
    NEAR_SWITCH = Switch(PROGRAM, PLANE, ports=near_ports(), workers=(1, 2))
    unittest.addModuleCleanup(NEAR_SWITCH.remove)
    NEAR_SWITCH.start()
    FAR_SWITCH = Switch(PROGRAM, PLANE, ports=far_ports(), place="far", workers=(2, 1))
    unittest.addModuleCleanup(FAR_SWITCH.remove)
    FAR_SWITCH.start()
    wait_for_tunnel()


def wait_for_tunnel():
    """Plane dpdk has to learn first who the other end is, by ARP."""
    for switch, name in ((NEAR_SWITCH, "vx-b"), (FAR_SWITCH, "vx-a")):
        end = time.monotonic() + 20
        while not any(one["up"] for one in switch.call("GET", "/v1/ports")[1] if one["name"] == name):
            if time.monotonic() > end:
                raise AssertionError(f"{name} does not come up")
            time.sleep(0.05)


def backend(place, port_name):
    return {"name": f"host-{place}", "port": port_name, "mac": VM_MAC}


BACKENDS = [backend("a", "host-a"), backend("b", "vx-b")]


class Story(unittest.TestCase):
    def setUp(self):
        self.flows = []
        self.good(NEAR_SWITCH.steer(backends=BACKENDS, hosting=True))

    def tearDown(self):
        for flow in self.flows:
            flow.close()
        NEAR_SWITCH.call("DELETE", "/v1/vms/web-1/steering?token=1")

    def good(self, answer):
        self.assertEqual(answer[0], 200, answer)
        return answer[1]

    def flow(self, *arguments, **named):
        self.flows.append(Flow(*arguments, **named))
        return self.flows[-1]

    def mixed_flows(self, count=10):
        return [self.flow(address, kind) for address in (VM4, VM6) for kind in (socket.SOCK_STREAM, UDP)
                for _ in range(count)]

    def who(self, flows):
        return {flow.say()[0] for flow in flows}

    def flip(self, to="host-b", previous="host-a", hosting=True):
        return self.good(NEAR_SWITCH.steer(backends=BACKENDS, owner=to, previous=previous, hosting=hosting))

    def ask(self, place, address, wanted):
        one = self.flow(address, place=place, port=7001)
        one.socket.settimeout(20)
        one.socket.sendall(str(wanted).encode())
        with one.socket.makefile("rb") as answers:
            return answers.read(wanted or -1)

    def ping(self, address, size):
        """With "don't fragment": what does not fit is an error."""
        return subprocess.run(["nsenter", f"--net={places.path_of('client')}", "ping", "-M", "do", "-c", "1", "-W", "5",
                               "-s", str(size), address], stdout=subprocess.DEVNULL, check=False).returncode == 0


class Steering(Story):
    def test_old_sessions_stay_and_new_ones_go_through_the_tunnel(self):
        old = self.mixed_flows()
        self.assertEqual(self.who(old), {"a"})
        events = Events(NEAR_SWITCH)
        self.addCleanup(events.close)
        self.flip()
        new = self.mixed_flows()
        self.assertEqual((self.who(new), self.who(old)), ({"b"}, {"a"}))
        self.assertGreaterEqual(NEAR_SWITCH.backend("host-b")["sessions"], len(new))
        for flow in old:
            flow.close()
        self.assertEqual(events.wait_for("drained")["previous"], "host-a")
        # After the handover the VM answers for itself, still through the tunnel: the static rule.
        self.good(NEAR_SWITCH.steer(backends=BACKENDS[1:], owner="host-b"))
        self.assertEqual(self.who([flow for flow in new if flow.socket.type != UDP]), {"b"})
        self.assertEqual(self.who(self.mixed_flows(3)), {"b"})

    def test_rollback_drains_the_far_one(self):
        old = [self.flow() for _ in range(5)]
        self.flip()
        new = [self.flow() for _ in range(5)]
        self.flip(to="host-a", previous="host-b")
        self.assertEqual((self.who(old), self.who(new), self.who([self.flow()])), ({"a"}, {"b"}, {"a"}))

    def test_long_transfers_arrive_whole_in_both_directions(self):
        self.flip()
        for address in (VM4, VM6):
            self.assertEqual(len(self.ask("client", address, LONG)), LONG)
        for address in (CLIENT4, CLIENT6):
            self.assertEqual(len(self.ask("b", address, LONG)), LONG)

    def test_packets_as_long_as_the_vm_may_send_pass(self):
        self.flip()
        before = self.fabric_dropped()
        self.assertTrue(self.ping(VM4, MTU - 28))
        self.assertTrue(self.ping(VM6, MTU - 48))
        self.assertEqual(self.fabric_dropped(), before)

    def fabric_dropped(self):
        words = in_place("switch", lambda: pathlib.Path("/proc/thread-self/net/dev").read_text(encoding="utf-8"))
        return [line.split()[12] for line in words.splitlines() if "fabric:" in line]

    def test_a_neighbour_is_answered_once(self):
        self.flip()
        ear = places.packet_socket("client", timeout=5)
        self.addCleanup(ear.close)
        asker = socket.inet_aton("10.77.0.99")
        ear.send(b"\xff" * 6 + mac_bytes(CLIENT_MAC) + b"\x08\x06" + struct.pack("!HHBBH", 1, 0x800, 6, 4, 1)
                 + mac_bytes(CLIENT_MAC) + asker + bytes(6) + socket.inet_aton(VM4))
        self.assertEqual(self.flow().say()[0], "b")  # asked later, and answered
        answers = [frame for frame in pending(ear) if frame[12:14] == b"\x08\x06" and frame[38:42] == asker]
        self.assertEqual([frame[22:32] for frame in answers], [mac_bytes(VM_MAC) + socket.inet_aton(VM4)])


def pending(ear):
    """What has come so far, and not what was sent."""
    frames = []
    ear.setblocking(False)
    try:
        while True:
            frame, about = ear.recvfrom(2048)
            if about[2] != socket.PACKET_OUTGOING:
                frames.append(frame)
    except BlockingIOError:
        return frames


class Relay(Story):
    """What the second switch does for those who are behind it."""

    def broadcast_of(self, place, mac):
        ear = places.packet_socket(place)
        ear.send(b"\xff" * 6 + mac_bytes(mac) + ETHERTYPE + b"here I am".ljust(50, b"\0"))
        ear.close()

    def test_a_vm_that_has_not_spoken_there_yet_is_found(self):
        self.good(NEAR_SWITCH.steer(backends=BACKENDS[:1], owner="host-a"))
        self.broadcast_of("a", VM_MAC)  # heard behind the tunnel, from the tunnel
        self.assertEqual(self.flow(OTHER4).say()[0], "d")
        self.good(NEAR_SWITCH.steer(backends=BACKENDS, hosting=True))
        self.flip()
        self.assertEqual(self.who([self.flow(), self.flow(VM6)]), {"b"})

    def test_who_is_unmanaged_is_reached_and_reaches_the_clients(self):
        self.assertEqual(self.flow(OTHER4).say()[0], "d")
        self.assertEqual(self.ask("d", CLIENT4, 100_000), bytes(100_000))
        self.assertEqual(self.flow(OTHER4, place="a").say()[0], "d")

    def test_what_one_says_to_the_clients_is_not_for_the_others_there(self):
        ear = places.packet_socket("b")
        self.addCleanup(ear.close)
        ask = self.ask("d", CLIENT4, 100_000)
        self.assertEqual(len(ask), 100_000)
        self.broadcast_of("d", OTHER_MAC)
        while (frame := ear.recv(65536))[12:14] != ETHERTYPE:
            self.assertFalse(frame[6:12] == mac_bytes(OTHER_MAC) and frame[0] & 1 == 0, "overheard")

    def test_a_neighbour_there_finds_the_vm_wherever_it_is(self):
        self.flip()
        self.assertEqual(self.flow(place="d").say()[0], "b")
        self.flip(to="host-a", previous=None, hosting=False)
        self.good(NEAR_SWITCH.steer(backends=BACKENDS[:1], owner="host-a"))
        self.assertEqual(NEAR_SWITCH.call("POST", "/v1/vms/web-1:announce", {"token": 1})[0], 200)
        self.assertEqual(self.flow(place="d").say()[0], "a")


class Broadcasts(Story):
    def test_a_broadcast_comes_once_everywhere_and_never_back(self):
        ears = {place: places.packet_socket(place, timeout=5) for place in ("client", "a", "b")}
        for ear in ears.values():
            self.addCleanup(ear.close)
        frame = b"\xff" * 6 + mac_bytes(CLIENT_MAC) + ETHERTYPE + b"everybody".ljust(50, b"\0")
        last = frame[:14] + b"the last".ljust(50, b"\0")
        for one in (frame, last):
            ears["client"].send(one)
        for place in ("a", "b"):
            self.assertEqual(self.heard_until(ears[place], last), [frame, last], place)
        # What went round would have come back before the answer to a question that was asked after it.
        flow = self.flow()
        self.assertEqual(flow.say()[0], "a")
        self.assertEqual([one for one in pending(ears["client"]) if one[12:14] == ETHERTYPE], [])

    def test_the_far_vms_own_broadcast_reaches_the_clients_once(self):
        self.flip()
        ears = {place: places.packet_socket(place, timeout=5) for place in ("client", "b")}
        for ear in ears.values():
            self.addCleanup(ear.close)
        frame = b"\xff" * 6 + mac_bytes(VM_MAC) + ETHERTYPE + b"from the vm".ljust(50, b"\0")
        last = frame[:14] + b"the last".ljust(50, b"\0")
        for one in (frame, last):
            ears["b"].send(one)
        self.assertEqual(self.heard_until(ears["client"], last), [frame, last])
        self.assertEqual(self.flow().say()[0], "b")
        self.assertEqual([one for one in pending(ears["b"]) if one[12:14] == ETHERTYPE], [])

    def heard_until(self, ear, last):
        heard = []
        while not heard or heard[-1] != last:
            frame = ear.recv(2048)
            if frame[12:14] == ETHERTYPE:
                heard.append(frame)
        return heard


def outer_ip(payload, source, flags=0x4000, total=None):
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload) if total is None else total, 77, flags, 64, 17, 0)
    ip += socket.inet_aton(source) + socket.inet_aton(NEAR)
    return b"\x08\0" + ip[:10] + places.checksum(ip).to_bytes(2, "big") + ip[12:] + payload


def outer_udp(inner, vni=VNI, flags=8, port=4789, length=None):
    vxlan = bytes([flags, 0, 0, 0]) + vni.to_bytes(3, "big") + b"\0" + inner
    return struct.pack("!HHHH", 50000, port, 8 + len(vxlan) if length is None else length, 0) + vxlan


def outer(inner, source=FAR, total=None, **of_udp):
    """A datagram as the other end would send it (RFC 7348 section 5), to the near switch."""
    return outer_ip(outer_udp(inner, **of_udp), source, total=total)


class Forged(Story):
    """Who can reach the fabric puts frames onto it by hand; the far switch's end is where they leave."""

    def setUp(self):
        super().setUp()
        self.wire = places.packet_socket("far", interface="fabric", timeout=5)
        self.addCleanup(self.wire.close)
        self.ear = places.packet_socket("client", timeout=5)
        self.addCleanup(self.ear.close)
        self.assertEqual(self.flow().say()[0], "a")
        self.macs = b"".join(mac_of(place, "fabric") for place in ("switch", "far"))
        self.inner = b"\xff" * 6 + mac_bytes("02:00:00:00:00:77") + ETHERTYPE + b"through the tunnel".ljust(50, b"\0")

    def sent(self, *frames):
        before = NEAR_SWITCH.reasons()
        for frame in frames:
            self.wire.send(self.macs + frame)
        self.wire.send(self.macs + outer(self.inner[:14] + b"the last".ljust(50, b"\0")))
        heard = []
        while not heard or heard[-1][14:22] != b"the last":
            got = self.ear.recv(2048)
            if got[12:14] == ETHERTYPE:
                heard.append(got)
        after = NEAR_SWITCH.reasons()
        return len(heard) - 1, {why: count - before.get(why, 0) for why, count in after.items()
                                if why.startswith("tunnel-") and count != before.get(why, 0)}

    def test_the_other_end_is_heard(self):
        self.assertEqual(self.sent(outer(self.inner)), (1, {}))

    def test_a_foreign_source_is_dropped_by_name(self):
        self.assertEqual(self.sent(outer(self.inner, source="10.98.0.3")), (0, {"tunnel-foreign": 1}))

    def test_a_number_that_is_no_tunnels_is_dropped_by_name(self):
        self.assertEqual(self.sent(outer(self.inner, vni=VNI + 1)), (0, {"tunnel-unknown": 1}))
        self.assertEqual(self.sent(outer(self.inner, flags=0)), (0, {"tunnel-unknown": 1}))

    def test_lengths_that_lie_are_dropped_by_name(self):
        whole = len(self.inner) + 16
        for wrong in ({"length": whole + 1}, {"length": whole - 1}, {"length": 8}, {"total": 28 + whole},
                      {"total": 60000, "length": 59980}):
            self.assertEqual(self.sent(outer(self.inner, **wrong)), (0, {"tunnel-header": 1}), wrong)
        self.assertEqual(self.sent(outer(self.inner[:13])), (0, {"tunnel-header": 1}))

    def test_fragments_are_not_put_together_behind_the_switchs_back(self):
        datagram = outer_udp(self.inner)
        pieces = [outer_ip(datagram[:48], "10.98.0.3", flags=0x2000), outer_ip(datagram[48:], "10.98.0.3", flags=6)]
        # An af_packet device has the kernel put them together (PACKET_FANOUT_FLAG_DEFRAG).
        self.assertEqual(self.sent(*pieces), (0, {"tunnel-header": 2} if PLANE == "ebpf" else {"tunnel-foreign": 1}))

    @unittest.skipIf(len(sys.argv) > 2 and sys.argv[2] == "dpdk", "nobody takes tags off behind plane dpdk")
    def test_a_tag_hides_nothing(self):
        foreign, mine = outer(self.inner, source="10.98.0.3"), outer(self.inner)
        self.assertEqual(self.sent(b"\x81\0\0\0" + foreign), (0, {"tunnel-foreign": 1}))
        self.assertEqual(self.sent(b"\x81\0\0\x05" + mine), (0, {"tunnel-foreign": 1}))
        self.assertEqual(self.sent(b"\x81\0\0\0\x81\0\0\0" + foreign), (0, {"tunnel-header": 1}))

    @unittest.skipIf(len(sys.argv) > 2 and sys.argv[2] == "dpdk", "the kernel's tunnels are plane ebpf's")
    def test_by_another_port_nobody_speaks_through_the_tunnel(self):
        before = NEAR_SWITCH.reasons().get("tunnel-foreign", 0)
        with places.packet_socket("client", timeout=5) as wire:
            for source in (FAR, "10.98.0.3"):
                wire.send(mac_of("switch", "br0") + mac_bytes(CLIENT_MAC) + outer(self.inner, source=source))
        self.assertEqual(self.sent(), (0, {}))
        self.assertEqual(NEAR_SWITCH.reasons().get("tunnel-foreign", 0) - before, 2)

    def test_what_is_no_tunnels_is_left_to_others(self):
        for other in (outer(self.inner, port=4790), b"\x86\xdd" + bytes(60), b"\x08\0\x45"):
            self.assertEqual(self.sent(other), (0, {}))


def mac_of(place, interface):
    words = subprocess.run(["ip", "-n", PREFIX + place, "-o", "link", "show", interface], check=True, text=True,
                           stdout=subprocess.PIPE).stdout.split()
    return mac_bytes(words[words.index("link/ether") + 1])


class Restarts(Story):
    def test_packets_go_on_while_either_switch_is_gone(self):
        old = [self.flow(address) for address in (VM4, VM6) for _ in range(3)]
        self.assertEqual(self.who(old), {"a"})
        self.flip()
        new = [self.flow(address) for address in (VM4, VM6) for _ in range(3)]
        self.assertEqual(self.who(new), {"b"})
        for switch in (NEAR_SWITCH, FAR_SWITCH):
            switch.kill()
            if PLANE == "ebpf":
                self.assertEqual((self.who(old), self.who(new), self.who([self.flow()])), ({"a"}, {"b"}, {"b"}))
            switch.start()
            wait_for_tunnel()
            self.assertEqual((self.who(old), self.who(new), self.who([self.flow()])), ({"a"}, {"b"}, {"b"}))

    def test_sessions_go_on_when_a_tunnel_comes_into_the_configuration_and_leaves_it(self):
        def restarted(config):
            self.assertEqual(NEAR_SWITCH.stop(), 0)
            NEAR_SWITCH.yaml = config
            NEAR_SWITCH.start()
            return {one["name"]: one["program"] for one in NEAR_SWITCH.call("GET", "/v1/ports")[1]}

        def features(state):  # XDP, which comes back without tunnels, wants finished checksums
            places.sh(f"nsenter --net={places.path_of('client')} ethtool -K eth0 tx {state} tso {state} gso {state}")

        whole = NEAR_SWITCH.yaml
        bare = "".join(line for line in whole.splitlines(True) if '"fabric"' not in line)
        self.good(NEAR_SWITCH.steer(backends=BACKENDS[:1], owner="host-a"))
        old = [self.flow(address) for address in (VM4, VM6) for _ in range(3)]
        self.assertEqual(self.who(old), {"a"})
        features("off")
        try:
            if PLANE == "ebpf":
                self.assertEqual(restarted(bare)["uplink"], "xdp")
            else:
                restarted(bare)
            self.assertEqual(self.who(old), {"a"})
        finally:
            programs = restarted(whole)
            features("on" if PLANE == "ebpf" else "off")
        if PLANE == "ebpf":
            self.assertEqual(programs["uplink"], "tcx")
        wait_for_tunnel()
        self.assertEqual(self.who(old), {"a"})
        self.flip()
        self.assertEqual((self.who(old), self.who([self.flow(), self.flow(VM6)])), ({"a"}, {"b"}))

    def test_no_session_is_lost_when_the_fabric_goes_and_comes_back(self):
        old = [self.flow() for _ in range(3)]
        self.assertEqual(self.who(old), {"a"})
        self.flip()
        new = [self.flow(address) for address in (VM4, VM6) for _ in range(3)]
        self.assertEqual(self.who(new), {"b"})
        places.sh(f"ip -n {PREFIX}far link set fabric down")
        for flow in new:
            flow.socket.sendall(b"meanwhile")
        self.assertEqual(self.who(old), {"a"})
        places.sh(f"ip -n {PREFIX}far link set fabric up")
        for flow in new:
            flow.socket.settimeout(20)  # TCP tries again by itself
            self.assertEqual(flow.socket.recv(100), b"bmeanwhile")


@unittest.skipIf(len(sys.argv) > 2 and sys.argv[2] == "dpdk", "devices of the kernel are plane ebpf's")
class Devices(unittest.TestCase):
    """A switch of its own each, in the far place and beside the running one, with other names."""

    def refusal(self, ports):
        switch = Switch(PROGRAM, PLANE, ports=ports, place="far")
        switch.bpffs = switch.bpffs.with_name(switch.bpffs.name + "-other")
        switch.yaml = switch.yaml.replace(f"{PREFIX}far\n", f"{PREFIX}far-other\n")
        self.addCleanup(switch.remove)
        self.assertNotEqual(switch.refuses_to_start(), 0)
        return switch.log_text()

    def test_a_device_of_the_same_name_and_another_tunnel_is_refused(self):
        text = self.refusal(far_ports(vni=VNI + 1))
        self.assertIn(f"vni {VNI} and not {VNI + 1}", text)
        self.assertIn("ip link delete vx-a", text)

    def test_another_device_with_the_vni_is_named(self):
        ports = far_ports()
        ports[0].update(name="vx-c", interface="vx-c")
        self.assertIn(f"another device of this machine has VNI {VNI}", self.refusal(ports))

    def test_a_local_end_that_is_not_there_is_refused(self):
        ports = far_ports(vni=VNI + 1, local="10.98.0.3")
        ports[0].update(name="vx-c", interface="vx-c")
        self.assertIn("fabric does not have the local end 10.98.0.3", self.refusal(ports))

    def test_an_underlay_that_is_too_narrow_is_refused_with_both_numbers(self):
        places.sh(f"ip -n {PREFIX}far link set fabric mtu 1549")
        try:
            text = self.refusal(far_ports())
        finally:
            places.sh(f"ip -n {PREFIX}far link set fabric mtu {UNDERLAY_MTU}")
        self.assertIn("has MTU 1549", text)
        self.assertIn("need 1550", text)

    def test_a_vm_port_that_is_wider_than_the_tunnel_is_refused_with_both_numbers(self):
        places.sh(f"ip -n {PREFIX}far link set host-b mtu 1501")
        try:
            said = self.refusal(far_ports())
            ports = far_ports()
            del ports[1]["mtu"]
            unsaid = self.refusal(ports)
        finally:
            places.sh(f"ip -n {PREFIX}far link set host-b mtu {MTU}")
        self.assertIn("its MTU is 1501, the configuration says 1500", said)
        self.assertIn("1501", unsaid)
        self.assertIn("1500", unsaid)


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("skipped: needs root", file=sys.stderr)
        sys.exit(77)
    PROGRAM, PLANE = sys.argv.pop(1), sys.argv.pop(1)
    unittest.main(verbosity=2)
