#!/usr/bin/python3
"""The connection between two agents is cut, in the copy, in its proof, and in the merge: the job goes on where
it was, tells so, and not a byte of what the sessions counted is wrong."""
import os
import select
import socket
import threading

from bench_of_two import Bench, Session, answers, own_namespace, records, wait_for


class Link(threading.Thread):
    """To the destination's agent: each connection in turn is ended after so many bytes of either direction."""

    def __init__(self, target, cuts):
        super().__init__()
        host, port = target.split(":")
        self.target, self.cuts, self.stopping = (host, int(port)), list(cuts), False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.connections = 0
        self.cutting = threading.Event()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exception):
        self.stopping = True
        self.join()
        self.listener.close()

    def run(self):
        self.listener.settimeout(0.05)
        while not self.stopping:
            try:
                source, _ = self.listener.accept()
            except TimeoutError:
                continue
            self.connections += 1
            limit = self.cuts.pop(0) if self.cuts else None
            with source, socket.create_connection(self.target) as there:
                self.pump(source, there, limit)

    def cut_now(self):
        self.cutting.set()
        wait_for(lambda: not self.cutting.is_set(), 10, "the cut")

    def pump(self, source, there, limit):
        passed = 0
        while not self.stopping:
            if self.cutting.is_set():
                return self.cutting.clear()
            ready, _, _ = select.select([source, there], [], [], 0.05)
            for one in ready:
                try:
                    piece = one.recv(65536 if limit is None else min(65536, limit - passed))
                    (there if one is source else source).sendall(piece)
                except OSError:
                    return
                passed += len(piece)
                if not piece or passed == limit:
                    return


def cut_in_the_copy(bench, session):
    with Link(bench.destination.transfer, [2_000_000, 9_999_999, 40_000_000]) as link:
        bench.incoming("j-cut")
        bench.source.put("/v1/vms/web-1/copy", {"command": bench.command("j-cut", "copying"),
                                                "destination": link.address, "destination_host": "host-b"})
        status = bench.copied("j-cut")
    assert status["state"] == "done" and status["root"], status
    assert status["resumes"] == 3 and link.connections == 4, (status, link.connections)
    assert 0 < status["bytes_resent"] <= 3 * (17 << 20), status
    assert "taken up again" in bench.destination.log()
    bench.activate("j-cut")
    wait_for(lambda: answers(bench.destination.bridge), 20, "the clone")


def region_of(agent):
    return agent.shm / f"godwit.{agent.name}.web-1.region.sessions"


def cut_in_the_merge(bench, session):
    session.send(b"counted before the merge")
    # Where no class of the guest's has slots: enough for a merge that can be cut in its middle.
    changed = os.urandom(1 << 20)
    with open(region_of(bench.source), "r+b") as region:
        region.seek(-len(changed), os.SEEK_END)
        region.write(changed)
    # In the greeting, which is begun anew, and in the middle of what is said then, which is not.
    with Link(bench.destination.transfer, [3_000, 400_000]) as link:
        bench.source.put("/v1/vms/web-1/merge", {"command": bench.command("j-cut", "patching"),
                                                 "destination": link.address, "destination_host": "host-b"})
        status = bench.await_end("/v1/vms/web-1/merge?job=j-cut", 30)
    assert status["state"] == "done", status
    assert link.connections == 3 and status["resumes"] == 1 and status["bytes_resent"] > 0, (link.connections, status)
    assert status["bytes_patched"] >= len(changed), status
    with open(region_of(bench.destination), "rb") as region:
        region.seek(-len(changed), os.SEEK_END)
        assert region.read() == changed, "the merge is not what was sent"
    assert records(bench.destination.bridge)[session.number] == session.sent
    return status


def abort(bench, job):
    bench.source.call("DELETE", f"/v1/vms/web-1/copy?job={job}&token={bench.job_token}")
    bench.destination.call("DELETE", f"/v1/vms/web-1?job={job}&token={bench.job_token}&step=undo")
    assert bench.destination.shm_files() == [], bench.destination.shm_files()
    wait_for(lambda: bench.source.state() == "running", 10, "the source running again")


def cut_before_the_freeze(bench, session):
    """Method whole: once in the base copy, and once when all that is left waits for the stop of the guest."""
    with Link(bench.destination.transfer, [5_000_000]) as link:
        bench.incoming("j-whole")
        bench.source.put("/v1/vms/web-1/copy", {"command": bench.command("j-whole", "copying"), "method": "whole",
                                                "destination": link.address, "destination_host": "host-b"})
        wait_for(lambda: bench.source.get("/v1/vms/web-1/copy?job=j-whole")["stage"] == "ready", 60, "ready")
        before = bench.source.get("/v1/vms/web-1/copy?job=j-whole")
        link.cut_now()
        frozen = bench.source.put("/v1/vms/web-1/freeze", {"command": bench.command("j-whole", "freezing")})
    assert before["resumes"] == 1, before
    assert frozen["state"] == "done" and frozen["resumes"] == 2, frozen
    assert bench.source.state() == "paused"
    abort(bench, "j-whole")
    session.send(b"taken back")


def source_that_does_not_come_back_holds_nobody_up(bench, session):
    """The destination waits for a cut connection, and lets go at once of what its owner removes."""
    with Link(bench.destination.transfer, [5_000_000]) as link:
        bench.incoming("j-gone")
        bench.source.put("/v1/vms/web-1/copy", {"command": bench.command("j-gone", "copying"),
                                                "destination": link.address, "destination_host": "host-b"})
        wait_for(lambda: link.connections >= 1 and not link.cuts, 10, "the copy")
        bench.source.kill()
    bench.source.start()
    abort(bench, "j-gone")
    session.send(b"and go on")


if __name__ == "__main__":
    own_namespace()
    with Bench() as bench:
        bench.boot()
        session = Session(bench.source.bridge, 1)
        cut_before_the_freeze(bench, session)
        print("cut_before_the_freeze", flush=True)
        source_that_does_not_come_back_holds_nobody_up(bench, session)
        print("source_that_does_not_come_back_holds_nobody_up", flush=True)
        cut_in_the_copy(bench, session)
        print("cut_in_the_copy", flush=True)
        status = cut_in_the_merge(bench, session)
        print("cut_in_the_merge: resumes", status["resumes"], flush=True)
    print("ok")
