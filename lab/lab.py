#!/usr/bin/python3
"""The lab: a client network, an access switch, two hypervisors and a controller on one machine.

usage: lab.py [--prefix P] [--build DIR] up [--plane ebpf|dpdk] [--topology one-switch|two-switches]
                                                  make it, with VM web-1 on host-a; stays up
       lab.py [--prefix P] down                   remove it, also a half-made or a killed one
       lab.py [--prefix P] exec PLACE -- COMMAND...

Everything of a lab carries its prefix (default gw-): namespaces P<place>, lab/out/P/ (configuration,
logs, state), /run/godwit-lab-P/ (sockets), /dev/shm/godwit-lab-P/ (guests' memory).
"""
import argparse
import contextlib
import fcntl
import os
import pathlib
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import configuration  # noqa: E402
import network  # noqa: E402
from api import Api, Problem  # noqa: E402
from daemon import Daemon, wait_for_answer  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
VM = "web-1"
VM_ADDRESSES = ("10.1.0.10", "fd00:1::10")
HOSTS = ("host-a", "host-b")
PLANES = ("ebpf", "dpdk")
DAEMONS = ("switch", "switch-2", "agent-host-a", "agent-host-b", "controller")


class Lab:
    def __init__(self, prefix="gw-", build=None, plane="ebpf", topology="one-switch", **options):
        self.prefix, self.plane, self.topology = prefix, plane, topology
        self.build = pathlib.Path(build or ROOT / "build").resolve()
        self.out = ROOT / "lab" / "out" / prefix
        self.run = pathlib.Path("/run/godwit-lab-" + prefix)
        self.shm = pathlib.Path("/dev/shm/godwit-lab-" + prefix)
        self.bpffs = self.out / "bpf"
        self.files = configuration.Files(self, **options)
        places = network.places_of(topology)
        self.daemons = {one.name: one for one in (Daemon(self, name) for name in DAEMONS) if one.place in places}

    # ---- what programs and people use ----

    def enter(self, place, *command):
        return network.enter(self.prefix, place, *command)

    @property
    def api_socket(self):
        return self.run / "controller.sock"

    @property
    def token_file(self):
        return self.files.admin_token_file

    def api(self):
        return Api(str(self.api_socket), self.token_file.read_text().strip())

    def device_api(self, name):
        """The switch's or an agent's own API, with the token that daemons use among themselves."""
        return Api(str(self.run / (name + ".sock")), self.files.peer_token_file.read_text().strip())

    def cli(self, *words):
        """The command line of `godwit` that talks to this lab."""
        return [str(self.build / "cli" / "godwit"), "--server", f"unix:{self.api_socket}", "--token-file",
                str(self.token_file), *words]

    def way_to(self, host):
        """The steering mode that a migration to this host needs."""
        return "vxlan" if network.switch_of(host, self.topology) != "switch" else "l2"

    # ---- up ----

    def is_up(self):
        return (self.out / "ready").exists() and all(d.is_running() for d in self.daemons.values())

    def up(self):
        if self.is_up():
            return
        self.down()
        for directory in (self.out, self.run, self.shm, self.bpffs):
            directory.mkdir(parents=True, exist_ok=True)
        network.make(self.prefix, self.plane, self.topology)
        network.run("mount", "-t", "bpf", "bpf", str(self.bpffs))
        self.files.write()
        for daemon in self.daemons.values():
            daemon.start()
        self.start_vm()
        (self.out / "ready").touch()

    def start_vm(self):
        """Web-1 on host-a: defined, started, answering, known to the controller."""
        agent = self.device_api("agent-host-a")
        agent.put(f"/v1/vms/{VM}", self.files.vm_spec())
        agent.post(f"/v1/vms/{VM}:start", timeout=60)
        for port in (22, 80, 6379, 7000):
            wait_for_answer(self, VM_ADDRESSES[0], port)
        self.api().put(f"/v1/vms/{VM}", {"host": "host-a"})

    # ---- down ----

    def down(self):
        """In the order that leaves nothing behind, whatever part of the lab is there."""
        (self.out / "ready").unlink(missing_ok=True)
        pids = set(network.processes(self.prefix))
        pids.update(daemon.pid() for daemon in self.daemons.values() if daemon.is_running())
        network.end_processes(sorted(pids))
        while self.bpffs.is_mount():
            network.run("umount", str(self.bpffs))
        network.remove(self.prefix)
        for directory in (self.run, self.shm, self.out):
            shutil.rmtree(directory, ignore_errors=True)

    @contextlib.contextmanager
    def locked(self):
        """Two `up` or `down` of the same lab at once would meet half-made namespaces. The file goes with the lock:
        who gets one that is not there any more waits for the next."""
        path = pathlib.Path(f"/run/godwit-lab-{self.prefix}.lock")
        while True:
            with open(path, "w") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX)
                try:
                    if not os.path.samestat(os.fstat(handle.fileno()), path.stat()):
                        continue
                except FileNotFoundError:
                    continue
                try:
                    yield
                finally:
                    path.unlink()
                return

    def keep_logs(self, into):
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir(parents=True)
        for log in list(self.out.glob("*.log")) + list(self.run.glob("**/*.log")):
            shutil.copy(log, into)


def describe(lab):
    host_key = lab.out / "known_hosts"
    print(f"""The lab is up.
  API          unix:{lab.api_socket}
  token file   {lab.token_file}
  places       {', '.join(network.places_of(lab.topology))}
  VM           {VM} on host-a, {VM_ADDRESSES[0]} and {VM_ADDRESSES[1]}: ssh, http, redis, recordd
  logs         {lab.out}

  export GODWIT_SERVER=unix:{lab.api_socket} GODWIT_TOKEN_FILE={lab.token_file}
  export PATH={lab.build / 'cli'}:$PATH

  ./run lab exec client -- ssh -i {lab.out / 'id'} -o UserKnownHostsFile={host_key} root@{VM_ADDRESSES[0]}
  godwit vm migrate {VM} --to host-b --steering {lab.way_to('host-b')} --wait""")


def parse(arguments):
    parser = argparse.ArgumentParser(prog="./run lab", description=__doc__.splitlines()[0])
    parser.add_argument("--prefix", default="gw-", help="name of the lab; its namespaces begin with it")
    parser.add_argument("--build", help="where the programs were built (default: build/)")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="make the lab and leave it running")
    up.add_argument("--plane", choices=PLANES, default="ebpf", help="who forwards in the switch (default: ebpf)")
    up.add_argument("--topology", choices=network.TOPOLOGIES, default="one-switch",
                    help="two-switches: host-b is behind a switch of its own (default: one-switch)")
    commands.add_parser("down", help="remove the lab")
    run_in = commands.add_parser("exec", help="run a command in a place")
    run_in.add_argument("place", choices=network.PLACES)
    run_in.add_argument("words", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    return parser.parse_args(arguments)


def execute(lab, place, words):
    command = words[1:] if words[:1] == ["--"] else words
    if not command:
        sys.exit("./run lab exec: name a command behind --")
    if not (network.NETNS / network.namespace(lab.prefix, place)).exists():
        sys.exit("./run lab exec: the lab is not up; run ./run lab up")
    enter = lab.enter(place, *command)
    os.execvp(enter[0], enter)


def main(arguments):
    options = parse(arguments)
    if os.geteuid() != 0:
        sys.exit("./run lab: needs root")
    lab = Lab(options.prefix, build=options.build, plane=getattr(options, "plane", "ebpf"),
              topology=getattr(options, "topology", "one-switch"))
    if options.command == "exec":
        execute(lab, options.place, options.words)
    with lab.locked():
        if options.command == "down":
            lab.down()
            return
        try:
            lab.up()
        except (RuntimeError, Problem, OSError, subprocess.SubprocessError) as error:
            logs = lab.out.parent / (lab.prefix + "failed")
            lab.keep_logs(logs)
            lab.down()
            sys.exit(f"./run lab up: {error}\nlogs: {logs}")
    describe(lab)


if __name__ == "__main__":
    main(sys.argv[1:])
