#!/usr/bin/python3
"""A link that swallows everything: no reset, no error, no answer. It is noticed within seconds and named; a
copy goes on when the link is back, and a guest that stands still is let go when it is not. And a cut that comes
exactly in the pause."""
import os
import signal
import socket
import subprocess
import sys
import threading
import time

from agent_resume import Link
from agent_whole import begin, freeze, freezing_of, source_goes_on, status, undo, until_stage
from bench_of_two import Bench, Session, own_namespace, run, wait_for

NEAR, FAR, BRIDGE = "10.9.1.1", "10.9.1.2", "br-link"
NEAR_MAC, FAR_MAC = "02:00:00:09:01:01", "02:00:00:09:01:02"
# TCP_USER_TIMEOUT of 10 s, then the patience of a copy or of a pause; and a loaded machine.
NOTICED_S, PAUSE_ENDED_S = 25, 45


def relay(port):
    """In a namespace of its own: what comes on the far side goes back to the near side's agent."""
    sys.stdin.readline()
    listener = socket.create_server((FAR, 0))
    print(listener.getsockname()[1], flush=True)

    def pump(one, other):
        try:
            while piece := one.recv(65536):
                other.sendall(piece)
            other.shutdown(socket.SHUT_WR)
        except OSError:
            one.close(), other.close()

    while True:
        source, _ = listener.accept()
        there = socket.create_connection((NEAR, port))
        for pair in ((source, there), (there, source)):
            threading.Thread(target=pump, args=pair, daemon=True).start()


class Swallowing:
    """A way to the destination's agent over a bridge, one of whose ports can be taken out."""

    def __init__(self, target):
        port = target.split(":")[1]
        self.process = subprocess.Popen(["unshare", "--net", sys.executable, __file__, "relay", port],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        inside = f"/proc/{self.process.pid}/ns/net"
        wait_for(lambda: os.readlink(inside) != os.readlink("/proc/self/ns/net"), 10, "a namespace")
        run("ip", "link", "add", BRIDGE, "address", NEAR_MAC, "type", "bridge")
        run("ip", "address", "add", NEAR + "/24", "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")
        # Neither a lost carrier nor an unanswered ARP shall tell what the link does not.
        run("ip", "link", "add", "gwt-stay", "type", "veth", "peer", "name", "gwt-stay-up")
        run("ip", "link", "set", "gwt-stay-up", "up")
        run("ip", "link", "set", "gwt-stay", "master", BRIDGE, "up")
        run("ip", "neighbor", "add", FAR, "lladdr", FAR_MAC, "dev", BRIDGE, "nud", "permanent")
        run("ip", "link", "add", "gwt-near", "type", "veth", "peer", "name", "gwt-far", "address", FAR_MAC)
        run("ip", "link", "set", "gwt-far", "netns", str(self.process.pid))
        run("ip", "link", "set", "gwt-near", "master", BRIDGE, "up")
        for words in (("address", "add", FAR + "/24", "dev", "gwt-far"), ("link", "set", "gwt-far", "up"),
                      ("neighbor", "add", NEAR, "lladdr", NEAR_MAC, "dev", "gwt-far", "nud", "permanent")):
            run("nsenter", "--net=" + inside, "ip", *words)
        print(file=self.process.stdin, flush=True)
        self.address = f"{FAR}:{self.process.stdout.readline().strip()}"

    def swallow(self):
        run("ip", "link", "set", "gwt-near", "nomaster")

    def let_pass(self):
        run("ip", "link", "set", "gwt-near", "master", BRIDGE)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for device in ("gwt-near", "gwt-stay", BRIDGE):
            run("ip", "link", "del", device)
        self.process.kill()
        self.process.wait()


def link_is_back_in_time(bench, session, link):
    """Slowed down, so that it is under way; swallowed, noticed, and taken up again."""
    begin(bench, "j-back", destination=link.address, destination_host="host-b", bandwidth_mib_s=20)
    wait_for(lambda: status(bench, "j-back")["bytes_copied"] > 20 << 20, 60, "the copy under way")
    link.swallow()
    wait_for(lambda: status(bench, "j-back")["reconnecting"], NOTICED_S, "the silence noticed")
    session.send(b"the guest does not care")
    link.let_pass()
    limit = {"command": bench.command("j-back", "limit"), "bandwidth_mib_s": 0}
    bench.source.put("/v1/vms/web-1/bandwidth", limit)
    until_stage(bench, "j-back", "ready")
    seen = freeze(bench, "j-back")
    assert seen["state"] == "done" and seen["root"] and seen["resumes"] == 1, seen
    undo(bench, "j-back")
    source_goes_on(bench, session)


def link_stays_silent_in_the_pause(bench, session, link):
    """A guest that stands still is not kept waiting for a link."""
    begin(bench, "j-quiet", destination=link.address, destination_host="host-b")
    until_stage(bench, "j-quiet", "ready")
    os.kill(bench.destination.qemu_pid(), signal.SIGSTOP)
    freezing = freezing_of(bench, "j-quiet")
    wait_for(lambda: bench.source.state() == "paused", 10, "the source standing still")
    link.swallow()
    begun = time.monotonic()
    seen = freezing.end()
    taken = time.monotonic() - begun
    assert seen["state"] == "failed" and taken < PAUSE_ENDED_S, (taken, seen)
    assert "connection" in seen["error"] or "agent" in seen["error"], seen
    source_goes_on(bench, session)
    print(f"silence ended the pause after {taken:.1f} s: {seen['error']}", flush=True)
    link.let_pass()
    os.kill(bench.destination.qemu_pid(), signal.SIGCONT)
    undo(bench, "j-quiet")


def cut_exactly_in_the_pause(bench, session):
    """Everything is sent and the source waits for LOADED: the answer comes over another connection."""
    with Link(bench.destination.transfer, []) as link:
        begin(bench, "j-pause", destination=link.address, destination_host="host-b")
        until_stage(bench, "j-pause", "ready")
        os.kill(bench.destination.qemu_pid(), signal.SIGSTOP)
        freezing = freezing_of(bench, "j-pause")
        wait_for(lambda: bench.source.state() == "paused", 10, "the source standing still")
        link.cut_now()
        wait_for(lambda: status(bench, "j-pause")["resumes"] == 1, 10, "taken up again")
        os.kill(bench.destination.qemu_pid(), signal.SIGCONT)
        seen = freezing.end()
    assert seen["state"] == "done" and seen["resumes"] == 1 and seen["root"], seen
    assert bench.source.state() == "paused" and bench.destination.state() == "incoming"
    undo(bench, "j-pause")
    source_goes_on(bench, session)


if __name__ == "__main__":
    if sys.argv[1:2] == ["relay"]:
        relay(int(sys.argv[2]))
    own_namespace()
    with Bench(transfer_any=True) as bench:
        bench.boot()
        session = Session(bench.source.bridge, 1)
        cut_exactly_in_the_pause(bench, session)
        print("cut_exactly_in_the_pause", flush=True)
        with Swallowing(bench.destination.transfer) as link:
            for story in (link_is_back_in_time, link_stays_silent_in_the_pause):
                begun = time.monotonic()
                story(bench, session, link)
                print(f"{story.__name__}: {time.monotonic() - begun:.1f} s", flush=True)
    print("ok")
