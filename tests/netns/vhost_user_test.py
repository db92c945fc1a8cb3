#!/usr/bin/env python3
"""A real guest of a real agent on the switch's vhost-user port: QEMU has the socket, and the switch comes to it, again
and again, unless the agent has closed the link.

    client --uplink-- switch ==vhost-user== guest of an agent

usage: vhost_user_test.py GODWIT_SWITCH GODWIT_AGENT GUEST_DIR [unittest arguments]     exits 77 without root
"""
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
import unittest

import places
from places import Flow
from switch import SECRET, Switch, UnixConnection

VM, VM_ADDRESSES, PORT = "web-1", ("10.77.0.10", "fd77::10"), 6379  # redis
places.PLACES = {"client": ("uplink", places.CLIENT_MAC, (f"{places.CLIENT4}/16", f"{places.CLIENT6}/64"))}
MEMORY, RUN = pathlib.Path(f"/dev/shm/{places.PREFIX}"), pathlib.Path(f"/run/{places.PREFIX}")
VHOST = RUN / f"{VM}.vhost"


class Agent:
    """With its one VM, whose memory is in MEMORY."""

    def __init__(self, directory, switch_patience_s):
        self.directory = directory
        self.socket = str(directory / "agent.sock")
        for one in (RUN, MEMORY):
            one.mkdir(exist_ok=True)
        (directory / "agent.yaml").write_text(json.dumps({
            "apiVersion": "godwit/v1", "kind": "Agent", "id": "host-a", "listen": [f"unix:{self.socket}"],
            "peer_token_file": str(directory / "token"), "transfer_listen": "127.0.0.1:0",
            "tls": {"mode": "off"}, "state_dir": str(directory / "agent-state"), "run_dir": str(RUN),
            "shm_dir": str(MEMORY), "qemu": {"accelerator": os.environ.get("GODWIT_ACCEL", "tcg"),
                                             "start_timeout_s": switch_patience_s}}))
        self.process = None
        self.start()

    def start(self):
        ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        at = self.directory / "agent-notify"
        at.unlink(missing_ok=True)
        ready.bind(str(at))
        ready.settimeout(30)
        with ready, open(self.directory / "agent.log", "a", encoding="utf-8") as log:
            self.process = subprocess.Popen([AGENT, "--config", str(self.directory / "agent.yaml")], stderr=log,
                                            env={**os.environ, "NOTIFY_SOCKET": str(at)})
            try:
                while b"READY=1" not in ready.recv(4096):
                    pass
            except OSError:
                self.end()
                raise

    def call(self, method, path, body=None):
        connection = UnixConnection(self.socket, timeout=60)
        connection.request(method, path, json.dumps(body) if body is not None else None,
                           {"Authorization": f"Bearer {SECRET}", "Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read()
        connection.close()
        return response.status, json.loads(text) if text else None

    def vm(self):
        return self.call("GET", f"/v1/vms/{VM}")[1]

    def end(self):
        self.process.kill()
        self.process.wait()
        pid = RUN / f"{VM}.pid"
        if pid.exists():
            try:
                os.kill(int(pid.read_text()), signal.SIGKILL)
            except ProcessLookupError:
                pass
        for one in (RUN, MEMORY, self.directory / "agent-state"):
            shutil.rmtree(one)


def spec():
    return {"id": VM, "memory_mib": 256, "kernel": f"{GUEST}/vmlinuz", "initrd": f"{GUEST}/initramfs",
            "append": "console=ttyS0 panic=1 quiet random.trust_cpu=on "
                      f"godwit.ip4={VM_ADDRESSES[0]}/16 godwit.ip6={VM_ADDRESSES[1]}/64",
            "mac": places.VM_MAC, "addresses": list(VM_ADDRESSES), "network": {"kind": "vhost-user"}}


def setUpModule():
    global SWITCH
    unittest.addModuleCleanup(places.remove)
    places.make("dpdk")
    SWITCH = Switch(PROGRAM, "dpdk", {"host-a": f"vhost-user:{VHOST}"})
    unittest.addModuleCleanup(SWITCH.remove)


def ping(flow):
    flow.socket.sendall(b"PING\r\n")
    return flow.socket.recv(100)


def first_answer(address, within_s=60):
    """The flow on which the guest's redis has answered; it boots meanwhile."""
    end = time.monotonic() + within_s
    while True:
        try:
            flow = Flow(address, port=PORT)
            if ping(flow) == b"+PONG\r\n":
                return flow
            flow.close()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)  # nothing tells from outside when the guest listens


def steer():
    backend = {"name": "host-a", "port": "host-a", "mac": places.VM_MAC}
    return SWITCH.steer(addresses=list(VM_ADDRESSES), backends=[backend], owner="host-a")[0]


def frames_from_the_guest():
    return next(one["packets"] for one in SWITCH.call("GET", "/v1/ports")[1] if one["name"] == "host-a")


class Guest(unittest.TestCase):
    def agent(self, switch_patience_s=30):
        agent = Agent(SWITCH.directory, switch_patience_s)
        self.addCleanup(agent.end)
        return agent

    def start_switch(self):
        SWITCH.start()
        self.addCleanup(SWITCH.kill)

    def test_without_a_switch_the_start_says_where_it_was_waited_for(self):
        agent = self.agent(switch_patience_s=1)
        self.assertEqual(agent.call("PUT", f"/v1/vms/{VM}", spec())[0], 200)
        status, problem = agent.call("POST", f"/v1/vms/{VM}:start")
        self.assertEqual(status, 502, problem)
        self.assertIn(str(VHOST), problem["detail"])
        self.assertEqual(agent.vm()["state"], "stopped" if agent.vm()["state"] != "defined" else "defined")
        self.assertFalse(VHOST.exists())
        agent.call("PUT", f"/v1/vms/{VM}", {**spec(), "network": {"kind": "vhost-user", "socket": "/nowhere/a.sock"}})
        status, problem = agent.call("POST", f"/v1/vms/{VM}:start")
        self.assertEqual(status, 422, problem)
        self.assertIn("/nowhere", problem["detail"])

    def test_sessions_to_a_guest_outlive_the_switch(self):
        self.start_switch()
        agent = self.agent()
        agent.call("PUT", f"/v1/vms/{VM}", spec())
        status, answer = agent.call("POST", f"/v1/vms/{VM}:start")
        self.assertEqual((status, answer["link_up"]), (200, True), answer)
        self.assertEqual(steer(), 200)
        flows = [first_answer(address) for address in VM_ADDRESSES for _ in range(3)]
        for _ in range(2):
            self.assertGreaterEqual(SWITCH.backend("host-a")["sessions"], len(flows))
            SWITCH.kill()
            SWITCH.start()
            for flow in flows:
                flow.socket.settimeout(30)
                self.assertEqual(ping(flow), b"+PONG\r\n")
        flows += [first_answer(address) for address in VM_ADDRESSES]
        # Longer than a segment: what a guest leaves to its device to cut and to sum is whole here.
        wanted = b":300001\r\n$300001\r\n" + bytes(300000) + b"x\r\n"
        flows[0].socket.sendall(b"SETRANGE long 300000 x\r\nGET long\r\n")
        with flows[0].socket.makefile("rb") as answers:
            self.assertEqual(answers.read(len(wanted)), wanted)

    def test_a_closed_link_stays_closed_when_the_switch_is_restarted(self):
        self.start_switch()
        agent = self.agent()
        command = {"token": 1, "job": "j-1", "step": "test"}
        status, answer = agent.call("PUT", f"/v1/vms/{VM}/incoming",
                                    {"command": command, "method": "steer", "spec": spec()})
        self.assertEqual((status, answer["state"], answer["link_up"]), (200, "running", False), answer)
        self.assertEqual(steer(), 200)
        # The guest is up and has its addresses: it has said so on the network as well, to nobody.
        while set(VM_ADDRESSES) - set(agent.call("GET", f"/v1/vms/{VM}/addresses")[1].get("addresses", [])):
            time.sleep(0.1)
        self.assertEqual(frames_from_the_guest(), 0)
        SWITCH.kill()
        SWITCH.start()
        asked = Flow(VM_ADDRESSES[0], kind=socket.SOCK_DGRAM, port=PORT)
        for _ in range(20):
            asked.socket.send(b"?")
            time.sleep(0.05)
        self.assertEqual(frames_from_the_guest(), 0)
        self.assertFalse(agent.vm()["link_up"])
        status, answer = agent.call("PUT", f"/v1/vms/{VM}/activation", {"command": command, "role": "clone"})
        self.assertEqual((status, answer["link_up"]), (200, True), answer)
        first_answer(VM_ADDRESSES[0])


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("skipped: needs root", file=sys.stderr)
        sys.exit(77)
    PROGRAM, AGENT, GUEST = (sys.argv.pop(1) for _ in range(3))
    unittest.main(verbosity=2)
