#!/usr/bin/python3
"""A real guest is forked from one agent to another, both go on, their records meet in the merge, the
source is retired and nothing is left of it."""
import json

from bench_of_two import Bench, Problem, Session, answers, own_namespace, records, wait_for


def adoption_on_a_full_disk(bench, destination):
    """What could not be written down has not happened, and is not said to have."""
    with destination.full_state():
        for _ in range(2):
            try:
                destination.put("/v1/vms/web-1/adoption", {"command": bench.command("j-1", "handover")})
                raise AssertionError("adopted, and not written down")
            except Problem as problem:
                assert problem.status == 503 and "web-1.json" in problem.body["detail"], problem.body
    assert destination.get("/v1/vms/web-1")["owner_job"] == "j-1"


def fork_merge_retire(bench):
    bench.boot()
    source, destination = bench.source, bench.destination
    old = [Session(source.bridge, number) for number in range(1, 21)]
    for session in old:
        session.send(b"before")
    status = bench.fork("j-1")
    print("copied", status)
    assert status["root"] and status["bytes_copied"] > 10 << 20, status
    # One copy and the changed bytes, never the memory twice.
    assert status["bytes_on_wire"] < status["bytes_total"] * 1.1 + status["bytes_diff"] * 1.5, status

    for session in old:
        session.send(b"after")
    new = [Session(destination.bridge, number) for number in range(101, 121)]
    for session in new:
        session.send(b"on the clone")
        assert session.identity[0] == 2 and session.identity[1] == 1, session.identity
    late = Session(source.bridge, 50)
    late.send(b"late at the source")
    taken = {session.identity[2] for session in new}
    assert late.identity[2] not in taken and all(slot % 2 == 1 for slot in taken), taken
    assert source.get("/v1/vms/web-1")["role"] == "source"

    wait_for(lambda: source.put("/v1/vms/web-1/quiescence",
                                {"command": bench.command("j-1", "quiescing"), "window_ms": 100})["quiet"],
             10, "quiet")
    merged = bench.merge("j-1")
    print("merged", merged)
    assert merged["state"] == "done" and not merged["conflicts"], merged
    assert source.state() == "paused"
    again = bench.merge("j-1")
    assert again == merged, "a repeated merge is answered, not done twice"

    expected = {session.number: session.sent for session in old + new + [late]}
    assert records(destination.bridge) == expected, records(destination.bridge)
    adoption_on_a_full_disk(bench, destination)
    view = destination.put("/v1/vms/web-1/adoption", {"command": bench.command("j-1", "handover")})
    assert "owner_job" not in json.loads((destination.root / "state/vms/web-1.json").read_text())
    assert view["role"] == "sole" and "owner_job" not in view, view
    source.put("/v1/vms/web-1/retirement",
               {"command": bench.command("j-1", "retiring"), "source_after": "delete"})
    assert source.shm_files() == [], source.shm_files()
    try:
        source.state()
        raise AssertionError("the retired VM is still known")
    except Problem as problem:
        assert problem.status == 404 and problem.slug == "unknown-vm", problem
    for session in new:
        session.send(b"still there")
    # The destination may go back where it came from: the same flow in the other direction.
    assert answers(destination.bridge)
    assert destination.get("/v1/vms/web-1/addresses")["addresses"], "seen through the guest's agent"
    sockets = destination.get("/v1/vms/web-1/sockets")
    assert sockets["tcp_established"] >= len(new), sockets
    assert {name_of(session) for session in new} <= held(destination), sockets
    gone = new.pop()
    name = name_of(gone)
    gone.close()
    wait_for(lambda: name not in held(destination), 20, "the guest to lose a socket whose client has gone")


def name_of(session):
    """As the guest has the session's socket, and the switch its entry."""
    there, here = session.client.getpeername()[:2], session.client.getsockname()[:2]
    return (*there, "{}:{}".format(*here))


def held(agent):
    table = agent.get("/v1/vms/web-1/sockets")["tcp"]
    return {(one["address"], one["port"], one["peer"]) for one in table}


def fencing(bench):
    bench.job_token = 7
    bench.source.put("/v1/fence", {"token": 7})
    try:
        bench.source.put("/v1/vms/web-1/copy", {"command": {"token": 6, "job": "j-0", "step": "copying"},
                                                "destination": bench.destination.transfer})
        raise AssertionError("an old token was obeyed")
    except Problem as problem:
        assert problem.status == 409 and problem.slug == "stale-epoch", problem


if __name__ == "__main__":
    own_namespace()
    with Bench() as bench:
        fork_merge_retire(bench)
        fencing(bench)
    print("ok")
