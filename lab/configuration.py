"""The files of a lab: one YAML per daemon, as in configs/, with this lab's paths and short timeouts."""
import json
import os
import pathlib
import shutil
import subprocess

import network

MAC = "52:54:00:00:00:0a"
KERNEL_WORDS = "console=ttyS0 panic=1 quiet random.trust_cpu=on godwit.ip4=10.1.0.10/24 godwit.ip6=fd00:1::10/64"


class Files:
    """Options: idle_s of UDP and echo sessions, memory_mib of each host by its name, disk_mib of the VM (0: none)."""

    def __init__(self, lab, idle_s=4, memory_mib=None, disk_mib=0):
        self.lab = lab
        self.idle_s = idle_s
        self.disk_mib = disk_mib
        self.memory_mib = {"host-a": 2048, "host-b": 2048, **(memory_mib or {})}

    @property
    def peer_token_file(self):
        return self.lab.out / "peer.token"

    @property
    def tls(self):
        return self.lab.out / "tls"

    @property
    def admin_token_file(self):
        return self.lab.out / "controller" / "admin.token"

    def write(self):
        descriptor = os.open(self.peer_token_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w") as file:
            file.write("godwit_" + os.urandom(32).hex() + "\n")
        for name in ("id", "known_hosts"):
            shutil.copy(self.lab.build / "guest" / name, self.lab.out / name)
        for host in ("host-a", "host-b"):
            make = pathlib.Path(__file__).resolve().parent.parent / "tools" / "make_certificate.sh"
            subprocess.run([make, self.tls, host], check=True, stdout=subprocess.DEVNULL)
        self._yaml("switch", self._switch("sw-1", "switch", self._first_ports()))
        if self.lab.topology == "two-switches":
            self._yaml("switch-2", self._switch("sw-2", "switch-2", self._second_ports()))
        self.write_agents()
        self._yaml("controller", self._controller())

    def write_agents(self):
        for host in ("host-a", "host-b"):
            self._yaml("agent-" + host, self._agent(host))

    def _yaml(self, name, document):
        # JSON is YAML.
        (self.lab.out / (name + ".yaml")).write_text(json.dumps(document, indent=4) + "\n")

    def _directory(self, base, name):
        path = base / name
        path.mkdir(parents=True, exist_ok=True)
        return str(path)

    def _listen(self, name, place, port):
        return [f"{network.MANAGEMENT[place]}:{port}", f"unix:{self.lab.run / (name + '.sock')}"]

    def _switch(self, name, place, ports):
        return {
            "apiVersion": "godwit/v1", "kind": "SwitchConfig", "id": name, "plane": self.lab.plane,
            "listen": self._listen(place, place, 8442),
            "peer_token_file": str(self.peer_token_file),
            "state_dir": self._directory(self.lab.out, place),
            "bpffs": str(self.lab.bpffs / place),
            "dpdk": {"file_prefix": f"godwit-lab-{self.lab.prefix}{place}",
                     "table_dir": self._directory(self.lab.shm, "tables-" + place)},
            "tables": {"sessions_v4": 65536, "sessions_v6": 16384, "handshakes": 4096},
            # Short, so that flows without an end of their own do not hold up a drain for minutes.
            "timeouts": {"udp_s": self.idle_s, "icmp_s": self.idle_s, "handshake_s": self.idle_s,
                         "transitory_s": 2 * self.idle_s, "linger_s": 1},
            "ports": ports,
        }

    def _first_ports(self):
        ports = [{"name": "uplink", "interface": "uplink", "role": "uplink"}, self._vm_port("host-a")]
        if self.lab.topology == "one-switch":
            return [*ports, self._vm_port("host-b")]
        return [*ports, self._tunnel("vx-b", "vm", "switch", "switch-2"), self._fabric()]

    def _second_ports(self):
        return [self._tunnel("vx-a", "uplink", "switch-2", "switch"), self._vm_port("host-b"), self._fabric()]

    def _tunnel(self, name, role, here, there):
        bridge = {"bridge": "br0"} if self.lab.plane == "ebpf" else {}
        return {"name": name, "interface": name, "role": role,
                "vxlan": {"local": network.UNDERLAY[here], "remote": network.UNDERLAY[there], "vni": 4100,
                          "underlay": "fabric", **bridge}}

    @staticmethod
    def _fabric():
        return {"name": "fabric", "interface": "fabric", "role": "underlay", "mtu": network.UNDERLAY_MTU}

    def _vm_port(self, host):
        """Plane ebpf: the veth to the host's bridge. Plane dpdk: the socket of the host's QEMU."""
        port = {"name": host, "role": "vm"}
        if self.lab.plane == "ebpf":
            return {**port, "interface": host}
        return {**port, "device": f"vhost-user:{self.lab.run / host / 'web-1.vhost'}"}

    def _agent(self, host):
        address = network.MANAGEMENT[host]
        return {
            "apiVersion": "godwit/v1", "kind": "Agent", "id": host,
            "listen": self._listen("agent-" + host, host, 8443),
            "peer_token_file": str(self.peer_token_file),
            "transfer_listen": f"{address}:7010",
            "tls": {"certificate": str(self.tls / f"{host}.crt"), "key": str(self.tls / f"{host}.key"),
                    "ca": str(self.tls / "ca.crt")},
            "state_dir": self._directory(self.lab.out, "state-" + host),
            "run_dir": self._directory(self.lab.run, host),
            "shm_dir": self._directory(self.lab.shm, host),
            "bridge": "br0",
            "disk_dir": self._directory(self.lab.out, "disks"),
            "memory_limit_mib": self.memory_mib[host],
            "qemu": {"accelerator": os.environ.get("GODWIT_ACCEL", "tcg")},
        }

    def _controller(self):
        management = network.MANAGEMENT
        return {
            "version": 1,
            "listen": [f"unix:{self.lab.api_socket}", "127.0.0.1:8440"],
            "peer_token_file": str(self.peer_token_file),
            "state_dir": self._directory(self.lab.out, "controller"),
            "switches": [{"id": "sw-1", "address": f"{management['switch']}:8442",
                          "temporary_addresses": ["10.1.0.200-10.1.0.209/24", "fd00:1::200-fd00:1::209/64"]},
                         *({"id": "sw-2", "address": f"{management[place]}:8442"}
                           for place in network.places_of(self.lab.topology) if place == "switch-2")],
            "hosts": [self._host("host-a"), self._host("host-b")],
            "timing": {"poll_ms": 200, "sweep_ms": 1000},
        }

    @property
    def disk_base(self):
        """What every overlay is made on; both hosts see it, nobody writes it."""
        return self.lab.out / "base.raw"

    def _disks(self):
        if not self.disk_mib:
            return []
        with open(self.disk_base, "ab") as file:
            file.truncate(self.disk_mib << 20)
        return [{"base": str(self.disk_base)}]

    def _host(self, host):
        """One behind the second switch is reached by the first one's tunnel to it."""
        entry = {"id": host, "agent": f"{network.MANAGEMENT[host]}:8443", "switch_id": "sw-1", "port": host}
        if network.switch_of(host, self.lab.topology) == "switch-2":
            entry.update(port="vx-b", behind="sw-2")
        return entry

    def vm_spec(self):
        guest = self.lab.build / "guest"
        return {
            "id": "web-1", "machine": "q35", "cpu": "max", "vcpus": 1, "memory_mib": 256,
            "kernel": str(guest / "vmlinuz"), "initrd": str(guest / "initramfs"), "append": KERNEL_WORDS,
            "mac": MAC, "addresses": ["10.1.0.10", "fd00:1::10"],
            "regions": [{"name": "sessions", "size_mib": 16}], "disks": self._disks(),
            "network": {"kind": "tap" if self.lab.plane == "ebpf" else "vhost-user"},
        }
