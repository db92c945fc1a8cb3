#!/usr/bin/python3
"""Puts the lab's guest together: Debian's cloud kernel and an initramfs made on the spot.

usage: build.py OUT      reads OUT/packages/*.deb (fetched by ./run setup); writes OUT/vmlinuz,
                         OUT/initramfs, OUT/id (the key that may log in), OUT/known_hosts

The result is kept under a key of everything that went in, so that a second build costs nothing.
"""
import hashlib
import os
import pathlib
import re
import shutil
import stat
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
REGION = ROOT / "vm_agent" / "region"

# What the guest needs loaded; each module's own needs go in front of it.
MODULES = ["virtio_pci", "virtio_net", "virtio_console", "virtio_rng", "virtio_blk", "virtio_pmem", "nd_pmem", "device_dax",
           "dax_pmem"]

# Program in the guest -> where it comes from: the unpacked packages first, then this machine.
PROGRAMS = {
    "bin/busybox": "/bin/busybox",
    "usr/bin/redis-server": "/usr/bin/redis-check-rdb",  # one program, named by argv[0]
    "usr/sbin/dropbear": "usr/sbin/dropbear",
    "usr/sbin/nginx": "usr/sbin/nginx",
    "usr/sbin/qemu-ga": "usr/sbin/qemu-ga",
}

FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/shells": "/bin/sh\n",
    "www/index.html": "Godwit lab guest\n",
    # What qemu-ga calls for guest-shutdown.
    "usr/sbin/shutdown": "#!/bin/sh\nexec poweroff -f\n",
}


def run(*command, **options):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **options).stdout


def key_of_inputs(packages):
    digest = hashlib.sha256()
    for path in sorted(HERE.iterdir()) + sorted(REGION.iterdir()) + packages:
        if path.is_file():
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    for source in PROGRAMS.values():
        if source.startswith("/"):
            digest.update(pathlib.Path(source).read_bytes())
    return digest.hexdigest()


class Archive:
    """A cpio archive in the "newc" format, as the kernel unpacks it (initramfs buffer format)."""

    def __init__(self):
        self.parts = []
        self.inode = 0
        self.directories = set()

    def add(self, name, mode, content=b"", device=(0, 0)):
        parent = os.path.dirname(name)
        if parent and parent not in self.directories:
            self.directory(parent)
        self.inode += 1
        fields = (self.inode, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(name) + 1, 0)
        header = b"070701" + b"".join(b"%08X" % f for f in fields) + name.encode() + b"\0"
        self.parts += [header, b"\0" * (-len(header) % 4), content, b"\0" * (-len(content) % 4)]

    def directory(self, name, permissions=0o755):
        if name not in self.directories:
            self.directories.add(name)
            self.add(name, stat.S_IFDIR | permissions)

    def file(self, name, content, permissions=0o644):
        self.add(name, stat.S_IFREG | permissions, content)

    def link(self, name, target):
        self.add(name, stat.S_IFLNK | 0o777, target.encode())

    def write(self, path):
        self.add("TRAILER!!!", 0)
        path.write_bytes(b"".join(self.parts))


def libraries_of(program):
    """The shared libraries a program needs, as {path in the guest: file here}."""
    found = {}
    listing = subprocess.run(["ldd", program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
    if "not found" in listing:
        sys.exit(f"build.py: {program} lacks a library; run ./run setup\n{listing}")
    for match in re.finditer(r"(/\S+) \(0x", listing):
        found[match.group(1).lstrip("/")] = match.group(1)
    return found


def add_programs(archive, unpacked):
    libraries = {}
    for name, source in PROGRAMS.items():
        path = source if source.startswith("/") else str(unpacked / source)
        archive.file(name, pathlib.Path(path).resolve().read_bytes(), 0o755)
        libraries.update(libraries_of(path))
    for name, source in sorted(libraries.items()):
        archive.file(name, pathlib.Path(source).resolve().read_bytes(), 0o755)


def add_modules(archive, unpacked):
    modules = next((unpacked / "lib" / "modules").iterdir())
    files = {path.stem.replace("-", "_"): path for path in modules.rglob("*.ko")}
    order = []

    def load(module):
        if module in order or module not in files:  # not a file: built into the kernel
            return
        for need in run("modinfo", "-F", "depends", str(files[module])).strip().split(","):
            load(need.replace("-", "_"))
        order.append(module)

    for module in MODULES:
        load(module)
    for module in order:
        archive.file("modules/" + module, files[module].read_bytes())
    archive.file("modules/order", "".join(module + "\n" for module in order).encode())


def make_keys(out, unpacked, archive):
    """A host key and the one key that may log in, new for every guest that is built."""
    for name in ("id", "id.pub", "host_key"):
        (out / name).unlink(missing_ok=True)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "godwit-lab", "-f", str(out / "id"))
    printed = run(str(unpacked / "usr/bin/dropbearkey"), "-t", "ed25519", "-f", str(out / "host_key"),
                  stderr=subprocess.DEVNULL)
    public = next(line for line in printed.splitlines() if line.startswith("ssh-ed25519"))
    (out / "known_hosts").write_text("* " + " ".join(public.split()[:2]) + "\n")
    archive.directory("root", 0o700)
    archive.directory("root/.ssh", 0o700)
    archive.file("root/.ssh/authorized_keys", (out / "id.pub").read_bytes(), 0o600)
    archive.file("etc/dropbear/host_key", (out / "host_key").read_bytes(), 0o600)


def build_recordd(out):
    sources = [str(HERE / "recordd.c")] + sorted(str(p) for p in REGION.glob("*.c"))
    run(os.environ.get("CC", "clang-19"), "-std=c17", "-O2", "-g0", "-static", "-D_GNU_SOURCE", "-Wall", "-Wextra",
        "-Werror", "-I", str(ROOT), "-o", str(out / "recordd"), *sources)
    return (out / "recordd").read_bytes()


def build_churnd(out):
    run(os.environ.get("CC", "clang-19"), "-std=c17", "-O2", "-g0", "-static", "-pthread", "-D_GNU_SOURCE", "-Wall",
        "-Wextra", "-Werror", "-o", str(out / "churnd"), str(HERE / "churnd.c"))
    return (out / "churnd").read_bytes()


def build(out, packages):
    unpacked = out / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    for package in packages:
        run("dpkg-deb", "-x", str(package), str(unpacked))
    archive = Archive()
    for name in ("proc", "sys", "dev", "tmp", "run", "var/log/nginx", "var/lib/nginx", "var/run", "sbin", "usr/bin"):
        archive.directory(name)
    archive.add("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    archive.file("init", (HERE / "init").read_bytes(), 0o755)
    archive.link("bin/sh", "busybox")
    archive.file("etc/nginx/nginx.conf", (HERE / "nginx.conf").read_bytes())
    archive.file("etc/redis.conf", (HERE / "redis.conf").read_bytes())
    for name, text in FILES.items():
        archive.file(name, text.encode(), 0o755 if "bin/" in name else 0o644)
    archive.file("usr/bin/recordd", build_recordd(out), 0o755)
    archive.file("usr/bin/churnd", build_churnd(out), 0o755)
    add_programs(archive, unpacked)
    add_modules(archive, unpacked)
    make_keys(out, unpacked, archive)
    archive.write(out / "initramfs")
    shutil.copyfile(next((unpacked / "boot").glob("vmlinuz-*")), out / "vmlinuz")
    shutil.rmtree(unpacked)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    out = pathlib.Path(sys.argv[1]).resolve()
    packages = sorted((out / "packages").glob("*.deb"))
    if not packages:
        sys.exit("build.py: no packages in " + str(out / "packages") + "; run ./run setup")
    key = key_of_inputs(packages)
    stamp = out / "key"
    if stamp.exists() and stamp.read_text() == key:
        return
    stamp.unlink(missing_ok=True)
    build(out, packages)
    stamp.write_text(key)
    print(f"guest: built in {out} ({(out / 'initramfs').stat().st_size >> 20} MiB initramfs)")


if __name__ == "__main__":
    main()
