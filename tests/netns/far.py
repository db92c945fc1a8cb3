"""A place behind a router whose link to it takes shorter packets than everybody believes.

    far ---far0-- client --uplink-- switch ...
       mtu 1280  (a router)
"""
import pathlib
import subprocess

import places
from places import PREFIX, in_place

FAR, ROUTER = ("10.8.0.2", "fd08::2"), ("10.8.0.1", "fd08::1")
FAR_MTU = 1280


def make(gateways, of):
    """`gateways`: the router's addresses at the switch, by family; `of`: places that reach the far one through it."""
    router, far = f"{PREFIX}client", f"{PREFIX}far"
    places.sh(f"ip netns add {far} && ip -n {far} link set lo up")
    places.sh(f"ip -n {router} link add far0 type veth peer name eth0 netns {far}")
    places.sh(f"ip -n {router} link set far0 mtu {FAR_MTU} up && ip -n {far} link set eth0 up")
    places.sh(f"ip -n {router} addr add {ROUTER[0]}/24 dev far0 && ip -n {router} addr add {ROUTER[1]}/64 dev far0 nodad")
    places.sh(f"ip -n {far} addr add {FAR[0]}/24 dev eth0 && ip -n {far} addr add {FAR[1]}/64 dev eth0 nodad")
    places.sh(f"ip -n {far} route add default via {ROUTER[0]} && ip -n {far} -6 route add default via {ROUTER[1]}")
    for place in of:
        places.sh(f"ip -n {PREFIX}{place} route add 10.8.0.0/24 via {gateways[0]}")
        places.sh(f"ip -n {PREFIX}{place} -6 route add fd08::/64 via {gateways[1]}")
    for knob in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        in_place("client", lambda k=knob: pathlib.Path(f"/proc/sys/net/{k}").write_text("1"))


def remove():
    subprocess.run(["ip", "netns", "del", f"{PREFIX}far"], stderr=subprocess.DEVNULL)


def path_mtu(place, family):
    """What `place` has been told of the way to the far one, in bytes; 0: nothing."""
    words = subprocess.run(["ip", "-n", f"{PREFIX}{place}", "route", "get", FAR[family]], capture_output=True, text=True,
                           check=True).stdout.split()
    return int(words[words.index("mtu") + 1]) if "mtu" in words else 0


def forget_path_mtu(place):
    for family in ("-4", "-6"):
        places.sh(f"ip -n {PREFIX}{place} {family} route flush cache")
