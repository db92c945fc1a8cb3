#!/usr/bin/python3
"""What a copy may send is limited, by the agent's configuration, by the request and while it runs; what it says
about its speed is true; and compressed where the link is slower than the codec."""
import time

from agent_whole import source_goes_on, undo
from bench_of_two import Bench, Problem, Session, own_namespace, wait_for

MIB = 1 << 20


def begin(bench, job, **request):
    bench.incoming(job)
    return bench.source.put("/v1/vms/web-1/copy", {"command": bench.command(job, "copying"),
                                                   "destination": bench.destination.transfer,
                                                   "destination_host": "host-b", **request})


def status(bench, job):
    return bench.source.get(f"/v1/vms/web-1/copy?job={job}")


def limit(bench, job, mib_s):
    return bench.source.put("/v1/vms/web-1/bandwidth", {"command": bench.command(job, f"limit-{mib_s}"),
                                                        "bandwidth_mib_s": mib_s})


def what_was_sent(bench, job, seconds):
    """Bytes on the wire and seconds between two looks; both as the kernel's clock has them."""
    before, begun = status(bench, job)["bytes_on_wire"], time.monotonic()
    wait_for(lambda: time.monotonic() - begun > seconds, seconds + 5, "the time")
    now = status(bench, job)
    return (now["bytes_on_wire"] - before) / (time.monotonic() - begun), now


def limited_and_changed(bench, session):
    assert begin(bench, "j-slow", bandwidth_mib_s=4, compression="off")["bandwidth_mib_s"] == 4
    wait_for(lambda: status(bench, "j-slow")["bytes_on_wire"] > 4 * MIB, 30, "the copy under way")
    rate, seen = what_was_sent(bench, "j-slow", 4)
    # A limit is an upper bound, however busy the machine is; the smoothed rate follows it.
    assert seen["state"] == "running" and 0 < rate < 4.4 * MIB, rate
    assert 0 < seen["bytes_per_s"], seen
    limit(bench, "j-slow", 8)
    rate, seen = what_was_sent(bench, "j-slow", 4)
    assert seen["bandwidth_mib_s"] == 8 and rate < 8.8 * MIB, rate
    session.send(b"while it is slow")
    limit(bench, "j-slow", 0)
    done = bench.copied("j-slow")
    assert done["state"] == "done" and done["bandwidth_mib_s"] == 0 and done["bytes_compressed"] == 0, done
    try:
        limit(bench, "j-slow", 5)
        raise AssertionError("a copy that is over was limited")
    except Problem as problem:
        assert problem.slug == "wrong-state", problem
    undo(bench, "j-slow")
    return done


def compressed_on_a_slow_link(bench, session, raw):
    begin(bench, "j-packed", bandwidth_mib_s=16)
    done = bench.copied("j-packed", 120)
    assert done["state"] == "done" and done["root"], done
    assert done["bytes_compressed"] > done["bytes_copied"] / 4, done
    assert done["bytes_on_wire"] < raw["bytes_on_wire"] * 0.8, (done, raw)
    print(f"raw {raw['bytes_on_wire'] >> 20} MiB on the wire, at 16 MiB/s {done['bytes_on_wire'] >> 20} MiB in "
          f"{done['duration_ms'] / 1000:.1f} s, zero {done['bytes_zero'] >> 20} MiB", flush=True)
    session.send(b"packed")
    undo(bench, "j-packed")


if __name__ == "__main__":
    own_namespace()
    with Bench({"transfer_bandwidth_mib_s": 64}) as bench:
        bench.boot()
        session = Session(bench.source.bridge, 1)
        assert begin(bench, "j-default")["bandwidth_mib_s"] == 64, "the agent's own limit"
        undo(bench, "j-default")
        raw = limited_and_changed(bench, session)
        compressed_on_a_slow_link(bench, session, raw)
        source_goes_on(bench, session)
    print("ok")
