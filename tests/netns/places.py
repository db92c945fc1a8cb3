"""Places to test a switch in: network namespaces with one cable each into the switch's, and sockets there.

    client --uplink-- switch --host-a-- a      a and b are "the VM" twice: the same address, the same MAC
                           \\--host-b-- b
                            \\-other--- c      another machine of the same network
For plane ebpf the switch's ports are in a bridge, which switches what is not managed; plane dpdk does that itself.
"""
import contextlib
import ctypes
import os
import pathlib
import queue
import socket
import subprocess
import threading

PREFIX = f"gwt{os.getpid()}"
VM_MAC, OTHER_MAC, CLIENT_MAC = "52:54:00:00:00:01", "52:54:00:00:00:02", "02:00:00:00:00:09"
VM4, VM6, OTHER4, CLIENT4, CLIENT6 = "10.77.0.10", "fd77::10", "10.77.0.20", "10.77.0.2", "fd77::2"
PLACES = {  # place: (port's interface, MAC, addresses)
    "client": ("uplink", CLIENT_MAC, (f"{CLIENT4}/16", f"{CLIENT6}/64")),
    "a": ("host-a", VM_MAC, (f"{VM4}/16", f"{VM6}/64")),
    "b": ("host-b", VM_MAC, (f"{VM4}/16", f"{VM6}/64")),
    "c": ("other", OTHER_MAC, (f"{OTHER4}/16", "fd77::20/64")),
}
CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


def sh(command):
    subprocess.run(command, shell=True, check=True, stdout=subprocess.DEVNULL)


def path_of(place):
    return pathlib.Path("/run/netns") / (PREFIX + place)


def make(plane="ebpf", mtu=1500):
    for place in ("switch", *PLACES):
        sh(f"ip netns add {PREFIX}{place} && ip -n {PREFIX}{place} link set lo up")
    switch = f"{PREFIX}switch"
    in_place("switch", lambda: pathlib.Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1"))
    sh(f"ip -n {switch} link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0")
    for place, (port, mac, addresses) in PLACES.items():
        there = f"{PREFIX}{place}"
        sh(f"ip -n {switch} link add {port} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {there}")
        master = "master br0" if plane == "ebpf" else ""
        sh(f"ip -n {switch} link set {port} {master} up && ip -n {there} link set eth0 address {mac} up")
        for address in addresses:
            sh(f"ip -n {there} addr add {address} dev eth0 {'nodad' if ':' in address else ''}")
        # Checksums are finished by the sender, and frames that XDP redirects are taken: a NIC does both. For an
        # af_packet device everybody must: it takes bytes for what they are, and no segment for the kernel to cut.
        whole = place == "client" or plane == "dpdk"
        features = "tx off tso off gso off gro on" if whole else "gro on"
        sh(f"nsenter --net={path_of(place)} ethtool -K eth0 {features}")
    sh(f"ip -n {switch} link set br0 up")


def remove():
    for place in ("switch", *PLACES):
        subprocess.run(["ip", "netns", "del", PREFIX + place], stderr=subprocess.DEVNULL)


def in_place(place, act):
    """What `act` returns; it runs in a thread of its own in the place. Its sockets stay there."""
    answers = queue.Queue()

    def go():
        try:
            fd = os.open(path_of(place), os.O_RDONLY)
            if LIBC.setns(fd, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
            os.close(fd)
            answers.put((act(), None))
        except BaseException as error:  # handed to the caller
            answers.put((None, error))

    thread = threading.Thread(target=go)
    thread.start()
    thread.join()
    value, error = answers.get()
    if error:
        raise error
    return value


class Server:
    """Echoes on TCP and UDP, every answer begins with the name of the place. Both families."""

    def __init__(self, place, port=7000):
        self.place = place
        self.name = place.encode()
        self.tcp = in_place(place, lambda: socket.create_server(("::", port), family=socket.AF_INET6,
                                                                dualstack_ipv6=True, backlog=256))
        self.udp = []
        for family, any_address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            self.udp.append(in_place(place, lambda f=family, a=any_address: self._bind(f, a, port)))
        threading.Thread(target=self._accept, daemon=True).start()
        for one in self.udp:
            threading.Thread(target=self._answer, args=(one,), daemon=True).start()

    @staticmethod
    def _bind(family, address, port):
        one = socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind((address, port))
        return one

    def _accept(self):
        while True:
            try:
                peer, _ = self.tcp.accept()
            except OSError:
                return
            threading.Thread(target=self._echo, args=(peer,), daemon=True).start()

    def _echo(self, peer):
        with peer:
            try:
                while data := peer.recv(4096):
                    peer.sendall(self.name + data)
            except OSError:
                pass

    def _answer(self, one):
        while True:
            try:
                data, sender = one.recvfrom(65536)
            except OSError:
                return
            one.sendto(self.name + data, sender)


class LateServers:
    """Say that they work on the question, and answer when the client has closed its half and `answer` is set."""

    def __init__(self, names, port=7001):
        self.answer = threading.Event()
        for place in names:
            in_place(place, lambda: pathlib.Path("/proc/sys/net/ipv4/tcp_fastopen").write_text("3"))
            tcp = in_place(place, lambda: socket.create_server(("::", port), family=socket.AF_INET6,
                                                               dualstack_ipv6=True))
            tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16)
            threading.Thread(target=self._accept, args=(tcp, place.encode()), daemon=True).start()

    def _accept(self, tcp, name):
        while True:
            peer, _ = tcp.accept()
            threading.Thread(target=self._serve, args=(peer, name), daemon=True).start()

    def _serve(self, peer, name):
        with peer:
            question = b""
            peer.sendall(name + b" working")
            while data := peer.recv(4096):
                question += data
            self.answer.wait()
            peer.sendall(name + b" " + question)


def taken_in_syn(place):
    """Connections whose data in the SYN the kernel of `place` has taken."""
    names, values = [line.split() for line in in_place(
        place, lambda: pathlib.Path("/proc/thread-self/net/netstat").read_text()).splitlines()
        if line.startswith("TcpExt")]
    return int(values[names.index("TCPFastOpenPassive")])


class Flow:
    """A client's connection or UDP flow: say() returns what came back."""

    def __init__(self, address=VM4, kind=socket.SOCK_STREAM, place="client", port=7000):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET

        def connect():
            one = socket.socket(family, kind)
            one.settimeout(5)
            one.connect((address, port))
            return one

        self.socket = in_place(place, connect)

    def say(self, text=b"!"):
        self.socket.sendall(text)
        return self.socket.recv(65536).decode()

    def close(self):
        self.socket.close()


def packet_socket(place, interface="eth0", timeout=3.0):
    def make_one():
        one = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        one.bind((interface, 0))
        one.settimeout(timeout)
        return one

    return in_place(place, make_one)


def mac_bytes(text):
    return bytes.fromhex(text.replace(":", ""))


def checksum(data):
    total = sum(int.from_bytes(data[i:i + 2], "big") for i in range(0, len(data), 2))
    total = (total & 0xffff) + (total >> 16)
    return ~((total & 0xffff) + (total >> 16)) & 0xffff


def tcp_segment(number, flags):
    """From a forged peer, with right checksums; every number is another peer."""
    source = socket.inet_aton(f"10.77.{1 + number % 250}.{1 + number // 250 % 250}")
    target = socket.inet_aton(VM4)
    port = 1024 + number % 60000
    tcp = port.to_bytes(2, "big") + (7000).to_bytes(2, "big") + number.to_bytes(4, "big") + bytes(
        [0, 0, 0, 1, 0x50, flags, 0x20, 0, 0, 0, 0, 0])
    tcp = tcp[:16] + checksum(source + target + bytes([0, 6, 0, 20]) + tcp).to_bytes(2, "big") + tcp[18:]
    ip = bytes([0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0]) + source + target
    ip = ip[:10] + checksum(ip).to_bytes(2, "big") + ip[12:]
    return mac_bytes(VM_MAC) + mac_bytes(CLIENT_MAC) + b"\x08\x00" + ip + tcp
