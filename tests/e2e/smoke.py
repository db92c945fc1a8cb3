#!/usr/bin/python3
"""Moves a real VM back and forth in one lab and lets everything go wrong that may. Prints TAP.

usage: smoke.py BUILD [SCENARIO...]

Each scenario begins with the VM at rest on some host and leaves it so; what it promises is its name.
"""
import os
import pathlib
import signal
import subprocess
import sys
import time
import traceback

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "lab"))
import configuration  # noqa: E402
from api import Problem  # noqa: E402
from clients import Load, Lost  # noqa: E402
from lab import Lab  # noqa: E402
from scenario import SMALL_CROWD, Audience, Migration, whole  # noqa: E402

OTHER = {"host-a": "host-b", "host-b": "host-a"}
FLOOD_SEGMENTS = 20000


def expect(holds, what):
    if not holds:
        raise AssertionError(what)


def refused(status, call, *arguments, **options):
    """The problem a call is refused with; its status is the promise."""
    try:
        call(*arguments, **options)
    except Problem as problem:
        expect(problem.status == status, f"expected {status}, got {problem}")
        return problem
    raise AssertionError(f"expected {status}, but it was accepted")


class Story:
    """What the scenarios share: the lab, one load client, and where the VM is."""

    def __init__(self, lab):
        self.lab = lab
        self.load = Load(lab)
        self.audiences = []
        self.count = 0

    def vm(self):
        return self.lab.api().get("/v1/vms/web-1")

    def audience(self):
        self.count += 1
        one = Audience(self.lab, self.load, f"crowd{self.count}", SMALL_CROWD, ssh=1, redis_cli=1,
                       pings=("10.1.0.10",))
        self.audiences.append(one)
        return one

    def migrate(self, **request):
        return Migration.start(self.lab, OTHER[self.vm()["host"]], **request)

    def draining(self, **request):
        """A migration in mid-drain, with sessions on both sides."""
        old = self.audience()
        migration = self.migrate(**request)
        migration.until_phase("draining")
        new = self.audience()
        return migration, old, new

    def steering(self):
        return self.lab.device_api("switch").get("/v1/vms/web-1/steering")

    def wait_for_quiet(self):
        """Until the flows of an earlier scenario have aged out; the switch tells nobody of that."""
        end = time.monotonic() + 30
        while any(b["sessions"] + b["handshakes"] for b in self.steering()["backends"]):
            expect(time.monotonic() < end, f"sessions that nobody has: {self.listed()}")
            time.sleep(0.1)

    def listed(self):
        return self.lab.device_api("switch").get("/v1/sessions?vm=web-1&limit=50")["sessions"]

    def sessions_of(self, host):
        return {b["name"]: b["sessions"] for b in self.steering()["backends"]}.get(host, 0)

    def leave(self, audience, intact=whole):
        totals = audience.leave()
        expect(intact(totals), f"something was lost: {totals}")

    def moved(self, migration, old, new, to, intact=whole):
        """The rest of a migration that goes well: nobody lost a byte, the VM is there."""
        old.exchange()
        new.exchange()
        self.leave(old, intact)
        job = migration.until_state("succeeded")
        new.exchange()
        self.leave(new, intact)
        self.records_right()
        expect(self.vm()["host"] == to, f"the VM is on {self.vm()['host']}, not on {to}")
        return job

    def records_right(self):
        records = self.load.tell("records", "10.1.0.10")
        expect(records["wrong"] == 0 and records["missing"] == 0, f"records: {records}")

    def end(self):
        for one in self.audiences:
            one.kill()
        self.load.kill()


# ---- requests that are refused ----

def an_unknown_vm_is_404(story):
    refused(404, story.lab.api().post, "/v1/vms/web-9:migrate", {"destination": {"host": "host-b"}},
            headers={"Idempotency-Key": "unknown-vm"})


def an_unknown_host_is_refused_by_name(story):
    try:
        Migration.start(story.lab, "host-z")
    except Problem as problem:
        expect(400 <= problem.status < 500 and "host-z" in str(problem.body), problem)
        return
    raise AssertionError("a migration to host-z was accepted")


def a_job_without_a_key_is_400(story):
    refused(400, story.lab.api().post, "/v1/vms/web-1:migrate", {"destination": {"host": "host-b"}})


def every_wrong_field_is_named_at_once(story):
    body = {"destination": {"host": "host-b"}, "drain": {"deadline_s": "soon", "on_deadline": "hope"}, "memroy": {}}
    try:
        story.lab.api().post("/v1/vms/web-1:migrate", body, headers={"Idempotency-Key": "wrong"})
    except Problem as problem:
        text = str(problem.body)
        expect(problem.status in (400, 422) and all(w in text for w in ("deadline_s", "on_deadline", "memroy")), text)
        return
    raise AssertionError("accepted")


# ---- migrations ----

def a_busy_vm_is_409_and_a_repeated_key_is_the_same_job(story):
    target = OTHER[story.vm()["host"]]
    old = story.audience()
    key = f"smoke-{time.monotonic_ns()}"
    migration = Migration.start(story.lab, target, key=key)
    migration.until_phase("draining")
    new = story.audience()
    problem = refused(409, Migration.start, story.lab, target)
    expect(migration.id in str(problem.body), f"the refusal does not lead to the running job: {problem}")
    body = {"destination": {"host": target}}
    status, again, headers = story.lab.api().raw("POST", "/v1/vms/web-1:migrate", body, {"Idempotency-Key": key})
    expect(again["id"] == migration.id and headers.get("idempotency-replayed") == "true", (status, headers))
    refused(422, Migration.start, story.lab, target, key=key, drain={"deadline_s": 7})
    story.moved(migration, old, new, target)


def a_cancel_in_mid_drain_drains_the_destination_back(story):
    host = story.vm()["host"]
    migration, old, new = story.draining()
    migration.cancel()
    migration.until(lambda job: job["state"] == "rolling-back" and story.steering()["owner"] == host)
    back = story.audience()
    old.exchange()
    new.exchange()
    expect(set(new.load.tell("identity", new.groups[0][0])["where"]) == {"clone"}, "a session changed its server")
    expect(set(back.load.tell("identity", back.groups[0][0])["where"]) == {"source"}, "the flip did not go back")
    story.leave(new)
    new.forget_records()
    migration.until_state("cancelled")
    old.exchange()
    back.exchange()
    story.leave(old)
    story.leave(back)
    expect(story.vm()["host"] == host, "the VM did not stay")
    rest = story.lab.device_api("agent-" + OTHER[host]).get("/v1/vms")
    expect(not rest, f"left at the destination: {rest}")


def _killed_in_mid_drain(story, *names):
    target = OTHER[story.vm()["host"]]
    migration, old, new = story.draining()
    for name in names:
        story.lab.daemons[name].kill()
    old.exchange()
    new.exchange()
    meanwhile = story.load.open(f"meanwhile{story.count}", "record", 5, "10.1.0.10")
    expect(meanwhile["where"] == {"clone": 5}, meanwhile)
    for name in names:
        story.lab.daemons[name].start()
    closed = story.load.tell("close", f"meanwhile{story.count}")
    expect(not closed["broken"], closed)
    return story.moved(migration, old, new, target)


def a_controller_killed_in_mid_drain_goes_on(story):
    _killed_in_mid_drain(story, "controller")


def both_agents_killed_in_mid_drain_go_on(story):
    _killed_in_mid_drain(story, "agent-host-a", "agent-host-b")


def a_switch_killed_in_mid_drain_keeps_forwarding_and_is_adopted(story):
    _killed_in_mid_drain(story, "switch")
    expect(story.lab.device_api("switch").get("/v1/switch")["adopted"], "the new process did not adopt")


def a_deadline_with_rollback_brings_everything_back(story):
    host = story.vm()["host"]
    migration, old, new = story.draining(drain={"deadline_s": 6, "on_deadline": "rollback"})
    migration.until_state("rolling-back")
    story.leave(new)
    new.forget_records()
    job = migration.until_state("failed")
    expect("deadline" in str(job["error"]), job["error"])
    old.exchange()
    story.leave(old)
    expect(story.vm()["host"] == host, "the VM did not stay")


def a_deadline_with_reset_tells_the_sessions_that_are_left(story):
    target = OTHER[story.vm()["host"]]
    story.wait_for_quiet()
    left = story.load.open("left", "record", 7, "10.1.0.10")
    expect(left["open"] == 7, left)
    migration = story.migrate(drain={"deadline_s": 3, "on_deadline": "reset"})
    job = migration.until_state("succeeded")
    expect(job["result"]["sessions_reset"] == 7, job["result"])
    totals = story.load.tell("exchange", "left")
    expect(totals["broken"] == {"reset": 7}, totals)
    expect(story.vm()["host"] == target, "the VM did not move")


def _sessions_live(totals):
    """A flood may crowd out a datagram on the way; a session or a byte of one it may not."""
    return not totals["broken"] and totals["missing_bytes"] == 0


def _flood(story, kind):
    command = story.lab.enter("client", "/usr/bin/python3", str(ROOT / "tests" / "e2e" / "flood.py"), kind,
                              str(FLOOD_SEGMENTS), configuration.MAC)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=60)


def floods_during_a_migration_make_no_sessions_and_lose_none(story):
    target = OTHER[story.vm()["host"]]
    host = story.vm()["host"]
    migration, old, new = story.draining()
    before = story.sessions_of(host), story.sessions_of(target)
    for kind in ("syn", "ack"):
        _flood(story, kind)
        after = story.sessions_of(host), story.sessions_of(target)
        expect(after == before, f"{kind} flood: sessions were {before}, are {after}")
    expect(story.steering()["untracked"] == 0, "newcomers found the table full")
    story.moved(migration, old, new, target, intact=_sessions_live)


# ---- a destination that cannot take it ----

def a_destination_without_memory_fails_before_anything_moved(story):
    host = story.vm()["host"]
    agent = "agent-" + OTHER[host]
    files = story.lab.files
    usual = dict(files.memory_mib)
    _restart_with_memory(story, agent, {**usual, OTHER[host]: 128})
    try:
        old = story.audience()
        job = story.migrate().until_state("failed")
        expect(job["error"]["type"].endswith("no-memory") and OTHER[host] in job["error"]["detail"], job["error"])
        old.exchange()
        story.leave(old)
        expect(story.vm()["host"] == host, "the VM did not stay")
    finally:
        _restart_with_memory(story, agent, usual)


def _restart_with_memory(story, agent, memory_mib):
    story.lab.daemons[agent].stop()
    story.lab.files.memory_mib = memory_mib
    story.lab.files.write_agents()
    story.lab.daemons[agent].start()


def a_host_that_does_not_answer_fails_the_job_and_leaves_the_vm(story):
    host = story.vm()["host"]
    agent = story.lab.daemons["agent-" + OTHER[host]]
    old = story.audience()
    agent.kill()
    try:
        job = story.migrate().until_state("failed", within_s=90)
        expect(OTHER[host] in str(job["error"]), job["error"])
        old.exchange()
        story.leave(old)
        expect(story.vm()["host"] == host, "the VM did not stay")
    finally:
        agent.start()


SCENARIOS = [
    an_unknown_vm_is_404,
    an_unknown_host_is_refused_by_name,
    a_job_without_a_key_is_400,
    every_wrong_field_is_named_at_once,
    a_busy_vm_is_409_and_a_repeated_key_is_the_same_job,
    a_cancel_in_mid_drain_drains_the_destination_back,
    a_controller_killed_in_mid_drain_goes_on,
    both_agents_killed_in_mid_drain_go_on,
    a_switch_killed_in_mid_drain_keeps_forwarding_and_is_adopted,
    a_deadline_with_rollback_brings_everything_back,
    a_deadline_with_reset_tells_the_sessions_that_are_left,
    floods_during_a_migration_make_no_sessions_and_lose_none,
    a_destination_without_memory_fails_before_anything_moved,
    a_host_that_does_not_answer_fails_the_job_and_leaves_the_vm,
]


def tell(number, name, problem):
    print(f"{'not ok' if problem else 'ok'} {number} - {name.replace('_', ' ')}")
    for line in problem.splitlines():
        print("# " + line)
    sys.stdout.flush()


def run(story, scenario):
    began = time.monotonic()
    try:
        scenario(story)
        problem = ""
    except (AssertionError, Lost, Problem, OSError, RuntimeError, KeyError, subprocess.SubprocessError):
        problem = traceback.format_exc()
    print(f"# {scenario.__name__}: {time.monotonic() - began:.1f} s")
    return problem


def in_one_lab(lab, chosen):
    """A scenario that fails may leave the lab anyhow: the next one gets a fresh one."""
    story, failures = None, 0
    for number, scenario in enumerate(chosen, 1):
        if story is None:
            lab.down()
            lab.up()
            story = Story(lab)
        problem = run(story, scenario)
        tell(number, scenario.__name__, problem)
        if problem:
            failures += 1
            lab.keep_logs(lab.out.parent / f"{lab.prefix}{scenario.__name__}")
            story.end()
            story = None
    if story:
        story.end()
    return failures


def stop(number, _frame):
    sys.exit(128 + number)


def main(**lab_options):
    if os.geteuid() != 0:
        print("1..0 # SKIP needs root")
        return 77
    chosen = [s for s in SCENARIOS if s.__name__ in sys.argv[2:]] or SCENARIOS
    print(f"1..{len(chosen)}", flush=True)
    lab = Lab(f"gwt{os.getpid()}-", build=sys.argv[1], **lab_options)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        return 1 if in_one_lab(lab, chosen) else 0
    finally:
        lab.down()


if __name__ == "__main__":
    sys.exit(main())
