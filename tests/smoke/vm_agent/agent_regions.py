#!/usr/bin/python3
"""A real guest with two regions is forked, and both go on writing both: sessions' records in the one; totals,
the longest message and a log in the other. Merged, each is what its rule says. Read by the Python reader."""
import importlib.util
import os
import struct

from bench_of_two import Bench, Session, own_namespace, records


def reader():
    spec = importlib.util.spec_from_file_location("godwit_region", os.environ["GODWIT_REGION_READER"])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def second_of(agent):
    """What the host's file of the second region says: messages, bytes, the longest, who began."""
    with reader().open(str(agent.shm / f"godwit.{agent.name}.web-1.region.totals")) as region:
        messages, bytes_ = region["totals"].words(0)[:2]
        begun = [struct.unpack("<Q", record)[0] for record in region["begun"].records()]
        return messages, bytes_, region["longest"].words(0)[0], begun


def say(session, texts):
    for text in texts:
        session.send(text)


def changed(agent, region):
    report = next(one for one in agent.get("/v1/vms/web-1/regions")["regions"] if one["region"] == region)
    assert report["problems"] == [] and report["formatted"], report
    return report["role"], {one["slot"].split("[")[0] for one in report["changed"]["changes"]}


def both_regions_are_merged(bench):
    source, destination = bench.source, bench.destination
    bench.boot()
    old = Session(source.bridge, 1)
    say(old, [b"x" * 10])
    assert second_of(source) == (1, 10, 10, [1]), second_of(source)
    bench.fork("j-1")

    say(old, [b"a" * 300, b"b"])
    late = Session(source.bridge, 2)
    new = [Session(destination.bridge, number) for number in (101, 102)]
    say(new[0], [b"c" * 200])
    say(new[1], [b"d" * 50] * 3)
    assert second_of(source) == (3, 311, 300, [1, 2]), second_of(source)
    assert second_of(destination) == (5, 360, 200, [1, 101, 102]), second_of(destination)
    role, slots = changed(source, "totals")
    assert role == "source" and slots == {"header", "totals", "longest", "begun"}, (role, slots)
    assert changed(source, "sessions")[1] == {"header", "sessions"}

    merged = bench.merge("j-1")
    assert merged["state"] == "done" and not merged["conflicts"], merged
    assert second_of(destination) == (7, 661, 300, [1, 101, 102, 2]), second_of(destination)
    expected = {one.number: one.sent for one in [old, late] + new}
    assert records(destination.bridge) == expected, records(destination.bridge)
    # The guest goes on from the merged words.
    say(new[0], [b"e"])
    assert second_of(destination)[:2] == (8, 662), second_of(destination)


if __name__ == "__main__":
    own_namespace()
    with Bench() as bench:
        bench.spec["regions"] = [{"name": "sessions", "size_mib": 16}, {"name": "totals", "size_mib": 16}]
        both_regions_are_merged(bench)
    print("1 story ok")
