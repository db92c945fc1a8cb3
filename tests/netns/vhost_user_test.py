#!/usr/bin/env python3
"""A real guest on the switch's vhost-user port: QEMU has the socket, and the switch comes to it, again and again.

    client --uplink-- switch ==vhost-user== guest

usage: vhost_user_test.py GODWIT_SWITCH GUEST_DIR [unittest arguments]     exits 77 without root
"""
import os
import pathlib
import subprocess
import sys
import time
import unittest

import places
from places import Flow
from switch import Switch

VM_ADDRESSES, PORT = ("10.77.0.10", "fd77::10"), 6379  # redis
places.PLACES = {"client": ("uplink", places.CLIENT_MAC, (f"{places.CLIENT4}/16", f"{places.CLIENT6}/64"))}


VHOST, RAM = f"/run/{places.PREFIX}-vhost.sock", f"/dev/shm/{places.PREFIX}-ram"


def qemu(console):
    """The switch reads and writes the guest's memory: it is shared. vectors=0: QEMU 7.2 under TCG segfaults with
    vhost-user and MSI-X."""
    words = "console=ttyS0 panic=1 quiet random.trust_cpu=on " \
        f"godwit.ip4={VM_ADDRESSES[0]}/16 godwit.ip6={VM_ADDRESSES[1]}/64"
    return subprocess.Popen(
        ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
         "-accel", os.environ.get("GODWIT_ACCEL", "tcg"), "-machine", "q35,memory-backend=ram0", "-cpu", "max",
         "-m", "256M", "-object", f"memory-backend-file,id=ram0,size=256M,mem-path={RAM},share=on",
         "-serial", f"file:{console}", "-device", "virtio-rng-pci",
         "-chardev", f"socket,id=nic0,path={VHOST},server=on", "-netdev", "vhost-user,id=net0,chardev=nic0",
         "-device", f"virtio-net-pci,netdev=net0,vectors=0,romfile=,mac={places.VM_MAC}",
         "-kernel", f"{GUEST}/vmlinuz", "-initrd", f"{GUEST}/initramfs", "-append", words], stdin=subprocess.DEVNULL)


def setUpModule():
    global SWITCH
    unittest.addModuleCleanup(places.remove)
    places.make("dpdk")
    SWITCH = Switch(PROGRAM, "dpdk", {"host-a": f"vhost-user:{VHOST}"})
    unittest.addModuleCleanup(SWITCH.remove)
    unittest.addModuleCleanup(lambda: [pathlib.Path(path).unlink(missing_ok=True) for path in (VHOST, RAM)])
    machine = qemu(SWITCH.directory / "console")
    unittest.addModuleCleanup(machine.wait)
    unittest.addModuleCleanup(machine.kill)
    SWITCH.start()


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


class Guest(unittest.TestCase):
    def test_sessions_to_a_guest_outlive_the_switch(self):
        backend = {"name": "host-a", "port": "host-a", "mac": places.VM_MAC}
        answer = SWITCH.steer(addresses=list(VM_ADDRESSES), backends=[backend], owner="host-a")
        self.assertEqual(answer[0], 200, answer)
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


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("skipped: needs root", file=sys.stderr)
        sys.exit(77)
    PROGRAM, GUEST = sys.argv.pop(1), sys.argv.pop(1)
    unittest.main(verbosity=2)
