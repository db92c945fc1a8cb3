"""The lab's networks: a namespace for each place, the access switch's ports, the management network.

    client --uplink-- switch --host-a-- host-a      client network 10.1.0.0/24, fd00:1::/64
                           \\--host-b-- host-b
    controller, switch, host-a, host-b              management network 10.99.0.0/24

Topology two-switches: host-b is behind a switch of its own, which the first one reaches over an underlay, by a tunnel that
the switches make. It has no other way out.

    client --uplink-- switch --host-a-- host-a
                         \\--fabric-- switch-2 --host-b-- host-b       underlay 10.98.0.0/30

On plane ebpf the switch's ports are in a bridge, which switches what is not managed. Plane dpdk does that itself, and
has the hosts' VMs by vhost-user: there is no network between switch and hosts then, but one socket a host.
Names inside a namespace are plain; only the namespaces carry the lab's prefix. Everything can be asked
for twice, and `remove` takes away whatever part of it is there.
"""
import os
import pathlib
import select
import signal
import subprocess
import time

HOSTS = ("host-a", "host-b")
TOPOLOGIES = ("one-switch", "two-switches")
PLACES = ("client", "switch", "switch-2", "host-a", "host-b", "controller")
MANAGEMENT = {"controller": "10.99.0.1", "switch": "10.99.0.2", "host-a": "10.99.0.3", "host-b": "10.99.0.4",
              "switch-2": "10.99.0.5"}
MTU = 1500
# Room for a tunnel's headers: RFC 7348.
UNDERLAY, UNDERLAY_MTU = {"switch": "10.98.0.1", "switch-2": "10.98.0.2"}, MTU + 50
CLIENT_ADDRESSES = ("10.1.0.1/24", "fd00:1::1/64")
NETNS = pathlib.Path("/run/netns")


def places_of(topology):
    return [place for place in PLACES if topology == "two-switches" or place != "switch-2"]


def switch_of(host, topology):
    """The place of the switch that a host is behind."""
    return "switch-2" if topology == "two-switches" and host == "host-b" else "switch"


def namespace(prefix, place):
    return prefix + place


def enter(prefix, place, *command):
    """The command line that runs `command` in a place. Not `ip netns exec`: that hides the bpffs."""
    return ["nsenter", f"--net={NETNS / namespace(prefix, place)}", "--", *command]


def run(*command, check=True):
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if check and result.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {result.stderr.strip() or result.stdout.strip()}")
    return result.stdout


class Place:
    def __init__(self, prefix, name):
        self.prefix, self.name = prefix, name

    def ip(self, words):
        run("ip", "-n", namespace(self.prefix, self.name), *words.split())

    def run(self, *command):
        return run(*enter(self.prefix, self.name, *command))


def _quiet(place):
    """No addresses of its own on switch ports and bridges: what is not forwarded must not be answered."""
    place.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")


def _bridge(place, name, ports):
    # Ports forward at once and are not learned about by multicast groups.
    place.ip(f"link add {name} type bridge stp_state 0 forward_delay 0 mcast_snooping 0")
    for port in ports:
        place.ip(f"link set {port} master {name}")
        place.ip(f"link set {port} up")
    place.ip(f"link set {name} up")


def _veth(prefix, one, one_name, other, other_name):
    run("ip", "link", "add", one_name, "netns", namespace(prefix, one), "type", "veth",
        "peer", "name", other_name, "netns", namespace(prefix, other))


def _client_network(prefix, places, plane, topology):
    hosts = HOSTS if plane == "ebpf" else ()  # plane dpdk comes to the sockets of the hosts' QEMUs
    _veth(prefix, "switch", "uplink", "client", "eth0")
    for host in hosts:
        _veth(prefix, switch_of(host, topology), host, host, "eth0")
    # XDP on the uplink redirects whole frames: a checksum left to be finished by a device would never be.
    # And it answers ARP itself: without GRO on the far end of a veth such answers vanish silently.
    places["client"].run("ethtool", "-K", "eth0", "tx", "off", "tso", "off", "gso", "off", "gro", "on")
    for address in CLIENT_ADDRESSES:
        places["client"].ip(f"address add {address} dev eth0" + (" nodad" if ":" in address else ""))
    places["client"].ip("link set eth0 up")
    for host in hosts:
        # Without GRO on the far end, frames that XDP redirects into a veth vanish silently.
        places[host].run("ethtool", "-K", "eth0", "gro", "on")
        _bridge(places[host], "br0", ["eth0"])
    if plane != "ebpf":
        places["switch"].ip("link set uplink up")
        return
    for place in ("switch", "switch-2"):
        ports = ["uplink"] if place == "switch" else []
        ports += [host for host in hosts if switch_of(host, topology) == place]
        if place in places:
            _bridge(places[place], "br0", ports)


def _underlay(prefix, places, plane):
    _veth(prefix, "switch", "fabric", "switch-2", "fabric")
    for name, address in UNDERLAY.items():
        places[name].ip(f"link set fabric mtu {UNDERLAY_MTU} up")
        if plane == "ebpf":  # on plane dpdk the switch itself has the address
            places[name].ip(f"address add {address}/30 dev fabric")


def _management_network(prefix, places):
    ports = []
    for place in MANAGEMENT:
        if place in places and place != "controller":
            _veth(prefix, "controller", place, place, "mgmt0")
            ports.append(place)
            places[place].ip(f"address add {MANAGEMENT[place]}/24 dev mgmt0")
            places[place].ip("link set mgmt0 up")
    _bridge(places["controller"], "br-mgmt", ports)
    places["controller"].ip(f"address add {MANAGEMENT['controller']}/24 dev br-mgmt")


def make(prefix, plane="ebpf", topology="one-switch"):
    places = {name: Place(prefix, name) for name in places_of(topology)}
    for name, place in places.items():
        run("ip", "netns", "add", namespace(prefix, name))
        if name != "client":
            _quiet(place)
        place.ip("link set lo up")
    _client_network(prefix, places, plane, topology)
    if "switch-2" in places:
        _underlay(prefix, places, plane)
    _management_network(prefix, places)


def processes(prefix):
    """Every process that runs in one of the lab's namespaces: nothing else can be there."""
    pids = []
    for name in PLACES:
        if (NETNS / namespace(prefix, name)).exists():
            pids += run("ip", "netns", "pids", namespace(prefix, name), check=False).split()
    return [int(pid) for pid in pids]


def end_processes(pids, patience_s=5.0):
    """Ends them in order, and those that do not listen at once. Returns when all are gone."""
    watched = []
    for pid in pids:
        try:
            watched.append((pid, os.pidfd_open(pid)))
        except ProcessLookupError:
            pass
    for how, patience in ((signal.SIGTERM, patience_s), (signal.SIGKILL, 30.0)):
        for _, pidfd in watched:
            try:
                signal.pidfd_send_signal(pidfd, how)
            except ProcessLookupError:
                pass
        watched = _wait_gone(watched, patience)


def _wait_gone(watched, patience_s):
    end = time.monotonic() + patience_s
    while watched and time.monotonic() < end:
        gone, _, _ = select.select([pidfd for _, pidfd in watched], [], [], max(0.0, end - time.monotonic()))
        for pid, pidfd in [w for w in watched if w[1] in gone]:
            os.close(pidfd)
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                pass
        watched = [w for w in watched if w[1] not in gone]
    return watched


def remove(prefix):
    for name in PLACES:
        if (NETNS / namespace(prefix, name)).exists():
            run("ip", "netns", "delete", namespace(prefix, name))
