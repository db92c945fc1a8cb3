#!/usr/bin/python3
"""A real guest with a disk is forked: both go on writing, each into an overlay of its own, and nobody writes
the base. A whole move and an aborted one follow, and what is deleted is what nobody else needs."""
import hashlib
import json
import os
import pathlib
import socket
import subprocess

from bench_of_two import Bench, Problem, answers, own_namespace, run, wait_for

GUEST = pathlib.Path(os.environ["GODWIT_GUEST"])
BLOCK = 64 << 10


def own_address(agent):
    return f"10.1.0.{agent.port % 100 + 100}"


def tell_bridges_apart(agent, table):
    """ssh binds to an address, not to a device: what goes out from this address goes through this bridge."""
    run("ip", "rule", "add", "from", own_address(agent), "table", str(table))
    run("ip", "route", "add", "10.1.0.0/24", "dev", agent.bridge, "table", str(table))


def inside(bench, agent, command):
    """Runs a shell command in the guest behind this agent's bridge: source and clone have one address."""
    key = bench.root / "id"
    if not key.exists():
        key.write_bytes((GUEST / "id").read_bytes())
        key.chmod(0o600)
    words = ["ssh", "-i", str(key), "-o", "BatchMode=yes", "-o", f"UserKnownHostsFile={GUEST / 'known_hosts'}",
             "-o", "ConnectTimeout=20", "-b", own_address(agent), "root@10.1.0.10", command]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout.decode()


def wait_for_ssh(agent):
    def listens():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, agent.bridge.encode())
            probe.settimeout(5)
            return probe.connect_ex(("10.1.0.10", 22)) == 0
    wait_for(listens, 60, "the guest's ssh")


def write(bench, agent, block, word):
    inside(bench, agent, f"printf %-512s {word} | dd of=/dev/vda bs=512 seek={block * BLOCK // 512} conv=fsync "
                         "2>/dev/null")


def read(bench, agent, block):
    # Not from the guest's cache.
    return inside(bench, agent, "echo 3 >/proc/sys/vm/drop_caches; "
                                f"dd if=/dev/vda bs=512 skip={block * BLOCK // 512} count=1 2>/dev/null").strip("\0 \n")


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def overlays(bench):
    return sorted(path.name for path in bench.disk_dir.glob("*.qcow2"))


def chain_of(path):
    said = run("qemu-img", "info", "-U", "--backing-chain", "--output=json", str(path))
    return [pathlib.Path(one["filename"]).name for one in json.loads(said)]


def top(agent):
    return agent.get("/v1/vms/web-1")["spec"]["disks"][0]["overlays"][-1]


def each_side_writes_its_own(bench):
    source, destination = bench.source, bench.destination
    bench.boot()
    wait_for_ssh(source)
    write(bench, source, 1, "before")
    before = top(source)
    # As the controller does: the destination is told what the source has by now.
    bench.spec = source.get("/v1/vms/web-1")["spec"]
    bench.fork("j-1")
    write(bench, source, 2, "source")
    write(bench, destination, 2, "clone")
    write(bench, destination, 3, "clone-only")
    assert read(bench, source, 1) == read(bench, destination, 1) == "before"
    seen = read(bench, source, 2), read(bench, destination, 2)
    assert seen == ("source", "clone"), seen
    assert read(bench, source, 3) == "", "the clone's write reached the source"
    tops = {top(source), top(destination)}
    assert len(tops) == 2 and before not in tops, tops
    for one in tops:
        assert chain_of(one) == [pathlib.Path(one).name, pathlib.Path(before).name, "base.raw"], chain_of(one)
    return before


def what_the_clone_needs_outlives_the_source(bench, before):
    source, destination = bench.source, bench.destination
    own = top(source)
    bench.merge("j-1")
    destination.put("/v1/vms/web-1/adoption", {"command": bench.command("j-1", "handover")})
    source.put("/v1/vms/web-1/retirement", {"command": bench.command("j-1", "retiring"), "source_after": "delete"})
    assert not pathlib.Path(own).exists() and pathlib.Path(before).exists(), overlays(bench)
    assert read(bench, destination, 1) == "before" and read(bench, destination, 2) == "clone"


def whole_move_back(bench):
    """The destination's QEMU has the source's overlay open all the time, and reads it when it may run."""
    here, there = bench.destination, bench.source
    last = top(here)
    bench.source, bench.destination = here, there
    bench.spec = here.get("/v1/vms/web-1")["spec"]
    there.put("/v1/vms/web-1/incoming", {"command": bench.command("j-2", "destination"), "spec": bench.spec,
                                         "method": "whole", "source_host": here.name})
    here.put("/v1/vms/web-1/copy", {"command": bench.command("j-2", "copying"), "destination": there.transfer,
                                    "destination_host": there.name, "method": "whole"})
    wait_for(lambda: here.get("/v1/vms/web-1/copy?job=j-2")["stage"] == "ready", 60, "ready")
    write(bench, here, 4, "late")
    status = here.put("/v1/vms/web-1/freeze", {"command": bench.command("j-2", "commit")})
    assert status["state"] == "done", status
    there.put("/v1/vms/web-1/activation", {"command": bench.command("j-2", "handover"), "role": "sole"})
    wait_for(lambda: answers(there.bridge), 20, "the VM over there")
    there.put("/v1/vms/web-1/adoption", {"command": bench.command("j-2", "handover")})
    here.put("/v1/vms/web-1/retirement", {"command": bench.command("j-2", "retiring"), "source_after": "delete"})
    assert pathlib.Path(last).exists() and read(bench, there, 4) == "late"
    write(bench, there, 5, "moved")
    assert read(bench, there, 5) == "moved"
    bench.source, bench.destination = there, here


def an_aborted_fork_leaves_a_disk_that_goes_on(bench):
    source, destination = bench.source, bench.destination
    bench.spec = source.get("/v1/vms/web-1")["spec"]
    bench.fork("j-3")
    clones = top(destination)
    write(bench, destination, 6, "clone")
    destination.call("DELETE", f"/v1/vms/web-1?token={bench.job_token}&job=j-3&step=rollback")
    source.call("DELETE", f"/v1/vms/web-1/copy?token={bench.job_token}&job=j-3")
    assert not pathlib.Path(clones).exists(), overlays(bench)
    write(bench, source, 6, "alone")
    # Also after a restart, from the last overlay of the chain.
    source.call("POST", "/v1/vms/web-1:stop")
    source.call("POST", "/v1/vms/web-1:start")
    wait_for_ssh(source)
    assert [read(bench, source, block) for block in (1, 2, 4, 6)] == ["before", "clone", "late", "alone"]


def what_cannot_be_seen_is_refused(bench):
    spec = json.loads(json.dumps(bench.spec))
    spec["disks"][0]["overlays"] = [str(bench.disk_dir / "web-1.disk0.host-a.none.qcow2")]
    refused(bench, spec, "disk-unseen", "storage that both hosts share")
    # Whatever a confused source says: the VM's overlays are deleted with it, and nobody else's.
    spec["disks"][0]["overlays"] = [str(bench.root / "tls/ca.pem")]
    refused(bench, spec, "foreign-overlay", "ca.pem")
    spec["disks"][0].update(overlays=[], writable=True)
    refused(bench, spec, "shared-disk", "leave writable out")


def refused(bench, spec, slug, words):
    before = overlays(bench)
    try:
        bench.destination.put("/v1/vms/web-1/incoming", {"command": bench.command("j-4", "destination"), "spec": spec})
        raise AssertionError("taken")
    except Problem as problem:
        assert problem.slug == slug and words in problem.body["detail"], problem
    bench.destination.call("DELETE", f"/v1/vms/web-1?token={bench.job_token}&job=j-4&step=rollback")
    assert overlays(bench) == before, overlays(bench)


def main():
    own_namespace()
    with Bench() as bench:
        base = bench.disk_dir / "base.raw"
        with open(base, "wb") as file:
            file.truncate(16 << 20)
        untouched = digest(base)
        bench.spec["disks"] = [{"base": str(base)}]
        for number, agent in enumerate(bench.agents, 101):
            tell_bridges_apart(agent, number)
        before = each_side_writes_its_own(bench)
        what_the_clone_needs_outlives_the_source(bench, before)
        whole_move_back(bench)
        an_aborted_fork_leaves_a_disk_that_goes_on(bench)
        what_cannot_be_seen_is_refused(bench)
        bench.source.call("DELETE", f"/v1/vms/web-1?token={bench.job_token}")
        assert overlays(bench) == [], overlays(bench)
        assert digest(base) == untouched, "somebody wrote the base"
    print("5 stories ok")


if __name__ == "__main__":
    main()
