#!/usr/bin/env python3
"""Looking inside from end to end: real traffic, godwit-switch, godwit-controller and godwit.

usage: flows_test.py GODWIT_SWITCH ebpf|dpdk GODWIT_CONTROLLER GODWIT [unittest arguments]     exits 77 without root
"""
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import unittest

import places
from places import CLIENT4, Flow, Server, VM4, VM6
from switch import SECRET, Switch, UnixConnection

UDP = socket.SOCK_DGRAM


class Controller:
    """A controller that knows the one switch and no host."""

    def __init__(self, switch):
        self.socket = switch.directory / "api.sock"
        token = switch.directory / "peer"
        token.write_text(SECRET + "\n")
        token.chmod(0o600)
        config = switch.directory / "controller.yaml"
        config.write_text(f"version: 1\nstate_dir: {switch.directory}/controller\nlisten: ['unix:{self.socket}']\n"
                          f"peer_token_file: {token}\nswitches: [{{id: sw-test, address: 'unix:{switch.socket}'}}]\n"
                          "hosts: []\nvms: []\n")
        at = switch.directory / "notify-controller"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind(str(at))
            ready.settimeout(30)
            self.process = subprocess.Popen([CONTROLLER, "--config", str(config)], stderr=switch.log,
                                            env={**os.environ, "NOTIFY_SOCKET": str(at)})
            while b"READY=1" not in ready.recv(4096):
                pass

    def remove(self):
        self.process.kill()
        self.process.wait()


class Command:
    """One run of `godwit`, its output as it comes."""

    def __init__(self, *words):
        self.process = subprocess.Popen([GODWIT, "--server", f"unix:{CONTROL.socket}", *words],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.out = self.err = b""

    def wait_for(self, text, channel="err"):
        stream = getattr(self.process, f"std{channel}")
        timer = threading.Timer(30, self.process.kill)
        timer.start()
        while text.encode() not in getattr(self, channel):
            line = stream.readline()
            if not line:
                raise AssertionError(f"{text!r} is not in {getattr(self, channel)!r} {self.process.stderr.read()!r}")
            setattr(self, channel, getattr(self, channel) + line)
        timer.cancel()

    def end(self, number=None):
        """(exit code, output, errors)"""
        if number:
            self.process.send_signal(number)
        out, err = self.process.communicate(timeout=30)
        self.close()
        return self.process.returncode, (self.out + out).decode("utf-8", "replace"), (self.err + err).decode()

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


def setUpModule():
    global SWITCH, CONTROL
    unittest.addModuleCleanup(places.remove)
    places.make(PLANE)
    for place in ("a", "b"):
        Server(place)
    SWITCH = Switch(PROGRAM, PLANE)
    unittest.addModuleCleanup(SWITCH.remove)
    SWITCH.start()
    CONTROL = Controller(SWITCH)
    unittest.addModuleCleanup(CONTROL.remove)


class Looking(unittest.TestCase):
    def setUp(self):
        status, answer = SWITCH.steer()
        self.assertEqual(status, 200, answer)

    def tearDown(self):
        self.godwit("switch", "sampling", "sw-test", "--off", "--per-second", "10000")
        SWITCH.call("DELETE", "/v1/vms/web-1/steering?token=1")

    def godwit(self, *words):
        code, out, err = Command(*words).end()
        self.assertEqual(code, 0, err)
        return out

    def begin(self, *words):
        command = Command(*words)
        self.addCleanup(command.close)
        return command

    def followed(self, *words):
        """A follower that the switch knows of: from now on nothing is missed."""
        command = self.begin("flows", "--follow", *words)
        while self.followers() == 0:
            pass
        return command

    def followers(self):
        return json.loads(self.godwit("switch", "sampling", "sw-test", "-o", "json"))["followers"]

    def flow(self, *arguments, **named):
        flow = Flow(*arguments, **named)
        self.addCleanup(flow.close)
        return flow, flow.socket.getsockname()[1]

    def test_every_packet_of_a_connection_is_followed_in_both_directions(self):
        for address in (VM4, VM6):
            self.godwit("switch", "sampling", "sw-test", "--every", "1")
            watching = self.followed("--vm", "web-1", "--protocol", "tcp", "--ip", address)
            flow, port = self.flow(address)
            self.assertEqual(flow.say(b"hello"), "ahello")
            end = f"[{address}]" if ":" in address else address
            watching.wait_for(f"{end}:7000 -> ", "out")
            watching.wait_for("PSH,ACK  pass web-1@host-a session", "out")
            code, out, _ = watching.end(signal.SIGINT)
            self.assertEqual(code, 0)
            self.assertRegex(out, rf"in   uplink -> host-a  tcp \S+:{port} -> {re.escape(end)}:7000 SYN  "
                                  "forward web-1@host-a new-owner")
            self.assertRegex(out, rf"out  host-a -> uplink  tcp {re.escape(end)}:7000 -> \S+:{port} SYN,ACK  pass")
            self.assertIn("forward web-1@host-a session", out)
            while self.followers() != 0:
                pass

    def test_what_a_fenced_vm_says_is_told_without_any_sampling(self):
        watching = self.followed("--verdict", "drop", "--not", "--owner", "host-a")
        speaker = places.packet_socket("b")
        self.addCleanup(speaker.close)
        frame = places.tcp_segment(1, 0x10)  # with the VM as its source now
        speaker.send(frame[6:12] + frame[:6] + frame[12:26] + frame[30:34] + frame[26:30] + frame[34:])
        watching.wait_for("out  host-b -> -  tcp 10.77.0.10:", "out")
        code, out, _ = watching.end(signal.SIGTERM)
        self.assertEqual(code, 0)
        self.assertRegex(out, r"drop web-1@host-b fenced")

    def test_one_session_is_captured_and_tcpdump_reads_it(self):
        flow, port = self.flow()
        other, _ = self.flow()
        file = str(SWITCH.directory / "one.pcapng")
        # A word, its answer with an acknowledgement, and the acknowledgement of that: three frames at least.
        capture = self.begin("capture", "--switch", "sw-test", "--vm", "web-1", "--session",
                          f"tcp/{VM4}:7000/{CLIENT4}:{port}", "--count", "3", "--snap", "1514", "-o", file)
        capture.wait_for("capturing")
        self.assertEqual(other.say(b"not-to-be-seen"), "anot-to-be-seen")
        self.assertEqual(flow.say(b"the-words-of-" + b"x" * 600), "athe-words-of-" + "x" * 600)
        flow.say(b"more")
        code, _, err = capture.end()
        self.assertEqual(code, 0, err)
        self.assertIn("3 frames written", err)
        text = subprocess.run(["tcpdump", "-n", "-A", "-r", file], capture_output=True, check=True).stdout.decode()
        self.assertIn("the-words-of-" + "x" * 600, text, "the whole frame")
        self.assertIn("athe-words-of-", text, "and the answer")
        self.assertNotIn("not-to-be-seen", text)
        self.assertEqual(len(re.findall(r"^\d+:\d+:\d+\.\d+ IP ", text, re.M)), 3, text)
        connection = UnixConnection(str(CONTROL.socket))
        self.addCleanup(connection.close)
        connection.request("GET", "/v1/audit")
        self.assertIn("/v1/switches/sw-test/captures", connection.getresponse().read().decode())

    def test_what_the_bound_does_not_allow_is_a_gap(self):
        self.godwit("switch", "sampling", "sw-test", "--every", "1", "--per-second", "10")
        watching = self.followed("-o", "json")
        flow, _ = self.flow(kind=UDP)
        for _ in range(50):
            flow.say()
        watching.wait_for('"gap"', "out")
        _, out, _ = watching.end(signal.SIGINT)
        gaps = [one["gap"] for one in map(json.loads, out.splitlines()) if "gap" in one]
        self.assertEqual(gaps[0]["where"], "switch")
        status = json.loads(self.godwit("switch", "sampling", "sw-test", "-o", "json"))
        self.assertGreaterEqual(status["lost"], gaps[0]["lost"])

    def test_metrics_are_right_for_prometheus(self):
        flow, _ = self.flow(kind=UDP)
        flow.say()
        status, text = SWITCH.call("GET", "/metrics")
        self.assertEqual(status, 200)
        types, samples = {}, {}
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                name, kind = line.split()[2:]
                self.assertNotIn(name, types, "a family in one place")
                types[name] = kind
            elif not line.startswith("# HELP "):
                match = re.fullmatch(r'([a-z_]+)(\{(?:[a-z_]+="(?:[^"\\\n]|\\.)*",?)*\})? (\S+)', line)
                self.assertTrue(match, line)
                key = match[1] + (match[2] or "")
                self.assertNotIn(key, samples, "every series once")
                samples[key] = float(match[3])
                self.assertIn(re.sub("_(bucket|sum|count)$", "", match[1]), types)
        for name, kind in types.items():
            self.assertEqual(kind == "counter", name.endswith("_total"), name)
        came_in = 'godwit_switch_packets_total{port="uplink",reason="new-owner",verdict="forward"}'
        self.assertGreater(samples[came_in], 0)
        self.assertGreater(samples['godwit_switch_port_packets_total{port="uplink",role="uplink"}'], 0)
        self.assertGreater(samples['godwit_switch_port_packets_total{port="host-a",role="vm"}'], 0)
        self.assertIn("godwit_switch_flow_records_lost_total", samples)


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("skipped: needs root", file=sys.stderr)
        sys.exit(77)
    PROGRAM, PLANE, CONTROLLER, GODWIT = (sys.argv.pop(1) for _ in range(4))
    unittest.main(verbosity=2)
