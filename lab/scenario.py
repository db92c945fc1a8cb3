"""What the demo and the smoke tests do with a lab: groups of sessions, a migration, what must hold.

An `Audience` is everybody who is connected at one time: sessions of the load client and unmodified
programs. It knows who answers on each of its sessions, and that not a byte of it is missing.
"""
import time

from clients import Load, Lost, Ping, RedisCli, Ssh

V4, V6 = "10.1.0.10", "fd00:1::10"

# (kind, how many, address, exchange every so many ms or 0 for idle, payload bytes)
CROWD = (
    ("record", 120, V4, 0, 64),
    ("record", 30, V6, 0, 64),
    ("record", 40, V4, 150, 512),
    ("redis", 30, V4, 0, 64),
    ("redis", 20, V4, 200, 64),
    ("redis", 10, V6, 0, 64),
    ("http", 40, V4, 0, 0),
    ("http", 20, V6, 500, 0),
    ("udp", 20, V4, 250, 64),
    ("udp", 5, V6, 250, 64),
)
SMALL_CROWD = (
    ("record", 12, V4, 0, 64),
    ("record", 6, V6, 150, 256),
    ("redis", 6, V4, 200, 64),
    ("udp", 3, V4, 250, 64),
)


class Audience:
    """`name` tells this audience's groups from another's in the same load client."""

    def __init__(self, lab, load, name, crowd=CROWD, ssh=3, redis_cli=2, pings=(V4, V6)):
        self.load, self.name = load, name
        self.groups = []
        for number, (kind, count, address, every_ms, payload) in enumerate(crowd):
            group = f"{name}-{number}-{kind}"
            load.open(group, kind, count, address)
            if every_ms:
                load.tell("busy", group, every_ms, payload)
            self.groups.append((group, kind, count, every_ms))
        # Addresses in turn, so that both families have unmodified clients.
        self.ssh = [Ssh(lab, (V4, V6)[i % 2]) for i in range(ssh)]
        self.redis_cli = [RedisCli(lab, (V4, V6)[i % 2]) for i in range(redis_cli)]
        self.pings = [Ping(lab, address) for address in pings]

    def tcp_sessions(self):
        return sum(count for _, kind, count, _ in self.groups if kind != "udp") + len(self.ssh) + len(self.redis_cli)

    def udp_flows(self):
        return sum(count for _, kind, count, _ in self.groups if kind == "udp")

    def records(self):
        return sum(count for _, kind, count, _ in self.groups if kind == "record")

    def at_switch(self):
        """{service or protocol: sessions} that the switch must know of."""
        counts = {"ssh": len(self.ssh), "redis": len(self.redis_cli)}
        for _, kind, count, _ in self.groups:
            name = {"record": "recordd"}.get(kind, kind)
            counts[name] = counts.get(name, 0) + count
        for ping in self.pings:
            counts[ping.protocol] = counts.get(ping.protocol, 0) + 1
        return counts

    def mark(self):
        """Writes this instance's role where its redis and its http server will tell it."""
        role = self.ssh[0].ask("recordd --role >/www/identity && cat /www/identity")
        self.redis_cli[0].ask("SET identity " + role)
        return role

    def served_by(self):
        """{identity: sessions}, asked on every session. Redis and http tell what `mark` wrote."""
        heard = {}
        for group, *_ in self.groups:
            for where, count in self.load.tell("identity", group)["where"].items():
                heard[where] = heard.get(where, 0) + count
        for one in self.ssh:
            role = one.ask("recordd --role")
            heard[role] = heard.get(role, 0) + 1
        for one in self.redis_cli:
            role = one.ask("GET identity")
            heard[role] = heard.get(role, 0) + 1
        return heard

    def exchange(self):
        """One exchange on each session, the idle ones as well."""
        for group, *_ in self.groups:
            self.load.tell("exchange", group)

    def totals(self):
        sums = {"sessions": 0, "open": 0, "closed": 0, "answers": 0, "lost": 0, "missing_bytes": 0}
        broken, longest = {}, 0
        for group, *_ in self.groups:
            stats = self.load.tell("stats", group)
            longest = max(longest, stats["longest_gap_ms"])
            for key in sums:
                sums[key] += stats[key]
            for why, count in stats["broken"].items():
                broken[why] = broken.get(why, 0) + count
        return {**sums, "longest_gap_ms": longest, "broken": broken}

    def leave(self):
        """Everybody closes in order. Returns the totals, what ssh, redis-cli and ping lost included."""
        for group, *_ in self.groups:
            self.load.tell("close", group)
        ended_badly = [one for one in self.ssh + self.redis_cli if not one.is_running() or one.end() != 0]
        echoes = [one.end() for one in self.pings]
        totals = self.totals()
        if ended_badly:
            totals["broken"]["ssh or redis-cli"] = len(ended_badly)
        totals["echo_sent"] = sum(sent for sent, _ in echoes)
        totals["echo_lost"] = sum(sent - received for sent, received in echoes)
        return totals

    def forget_records(self):
        """What was recorded on a clone that is given up is gone with it: a rollback merges nothing back."""
        for group, *_ in self.groups:
            self.load.tell("forget", group)

    def kill(self):
        for one in self.ssh + self.redis_cli + self.pings:
            one.kill()


def whole(totals):
    """Nothing of an audience was lost: no reset, no end of stream, no byte, no echo."""
    return not totals["broken"] and totals["missing_bytes"] == 0 and totals["lost"] == 0 and \
        totals.get("echo_lost", 0) == 0


class Migration:
    """A job of the lab's controller, followed through its events."""

    def __init__(self, lab, job):
        self.lab, self.id = lab, job["id"]
        self.seen = job

    @classmethod
    def start(cls, lab, to, key=None, **request):
        body = {"destination": {"host": to}, **request}
        headers = {"Idempotency-Key": key or f"lab-{time.monotonic_ns()}"}
        return cls(lab, lab.api().post("/v1/vms/web-1:migrate", body, headers=headers))

    def now(self):
        return self.lab.api().get("/v1/jobs/" + self.id)

    def cancel(self):
        return self.lab.api().post(f"/v1/jobs/{self.id}:cancel")

    def until(self, reached, within_s=120):
        """The first state of the job for which `reached(job)` is true; told by events, which are
        followed again from the start when the controller went away in between."""
        end = time.monotonic() + within_s
        while time.monotonic() < end:
            try:
                for event, job in self.lab.api().events(f"/v1/jobs/{self.id}/events", timeout=end - time.monotonic()):
                    if not isinstance(job, dict) or "phase" not in job:
                        continue
                    self.seen = job
                    if reached(job):
                        return job
                    if job["done"] or job["state"] == "needs-attention":
                        raise Lost(f"job {self.id} is {job['state']} in {job['phase']}: {job.get('error')}")
                    if time.monotonic() > end:
                        break
            except (ConnectionError, FileNotFoundError, TimeoutError):
                time.sleep(0.05)  # the controller is being restarted: nothing tells when but its socket
        raise Lost(f"job {self.id} is still {self.seen['state']} in {self.seen['phase']} after {within_s} s: "
                   f"{self.seen['detail']}")

    def until_phase(self, phase, within_s=120):
        return self.until(lambda job: job["phase"] == phase, within_s)

    def until_state(self, *states, within_s=120):
        return self.until(lambda job: job["state"] in states, within_s)
