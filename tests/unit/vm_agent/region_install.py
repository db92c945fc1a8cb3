#!/usr/bin/python3
"""The region library as somebody else gets it: installed into a directory of its own, found by pkg-config,
linked shared and static into the example, whose region the Python reader and `godwit region` read back."""
import importlib.util
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile

BUILD = pathlib.Path(os.environ["GODWIT_BUILD"])
PREFIX, LIBDIR, INCLUDEDIR, DATADIR = sys.argv[1:]
NAMES = ["alice", "bob", "alice", "carol-anne"]
stories = []


def story(function):
    stories.append(function)
    return function


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          **options)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


class Installed:
    def __init__(self, root):
        self.root = root / "installed"
        run(os.environ["MESON"], "install", "-C", BUILD, "--no-rebuild", "--tags", "region", "--destdir", self.root)
        self.prefix = self.root / PREFIX.lstrip("/")
        self.lib = self.prefix / LIBDIR
        self.share = self.prefix / DATADIR / "godwit" / "region"
        self.environment = dict(os.environ, PKG_CONFIG_SYSROOT_DIR=str(self.root),
                                PKG_CONFIG_LIBDIR=str(self.lib / "pkgconfig"), LD_LIBRARY_PATH=str(self.lib))
        self.work = root

    def pkg_config(self, *words):
        return run("pkg-config", *words, "godwit-region", env=self.environment).split()

    def example(self, name, *flags):
        program = self.work / name
        run("clang-19", "-std=c17", "-Wall", "-Wextra", "-Werror", *flags, self.share / "visits.c", "-o", program,
            *self.pkg_config("--cflags", "--libs"))
        return program

    def region(self, name):
        path = self.work / name
        with open(path, "wb") as file:
            file.truncate(1 << 20)
        return path

    def reader(self):
        spec = importlib.util.spec_from_file_location("godwit_region", self.share / "godwit_region.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module


@story
def only_what_belongs_to_the_library_is_installed(at):
    files = sorted(str(path.relative_to(at.prefix)) for path in at.prefix.rglob("*") if not path.is_dir())
    assert files == sorted([
        f"{INCLUDEDIR}/godwit/godwit_region.h", f"{LIBDIR}/libgodwit_region.a", f"{LIBDIR}/libgodwit_region.so",
        f"{LIBDIR}/libgodwit_region.so.1", f"{LIBDIR}/libgodwit_region.so.1.0.0",
        f"{LIBDIR}/pkgconfig/godwit-region.pc", f"{DATADIR}/godwit/region/godwit_region.py",
        f"{DATADIR}/godwit/region/visits.c"]), files


@story
def its_symbols_carry_its_name(at):
    symbols = [line.split()[-1] for line in
               run("llvm-nm-19", "-D", "--defined-only", at.lib / "libgodwit_region.so").splitlines()]
    assert "godwit_region_open" in symbols and all(name.startswith("godwit_") for name in symbols), symbols
    dynamic = run("llvm-objdump-19", "-p", at.lib / "libgodwit_region.so")
    assert ["SONAME", "libgodwit_region.so.1"] in [line.split() for line in dynamic.splitlines()], dynamic


@story
def the_example_runs_linked_shared_and_static(at):
    for name, flags in (("shared", []), ("static", ["-static"])):
        region = at.region(name + ".region")
        said = run(at.example(name, *flags), region, *NAMES, env=at.environment)
        assert said.splitlines()[2] == "alice: visit 2 of 3", said


@story
def what_the_library_wrote_the_python_reader_reads(at):
    path = at.region("read.region")
    run(at.example("writer"), path, *NAMES, env=at.environment)
    with at.reader().open(str(path)) as region:
        assert (region.role, region.epoch) == ("sole", 0)
        visits = {slot.payload[:48].rstrip(b"\0").decode(): struct.unpack_from("<Q", slot.payload, 48)[0]
                  for slot in region["sessions"].used()}
        assert visits == {"alice": 2, "bob": 1, "carol-anne": 1}, visits
        assert region["totals"].words(0)[0] == len(NAMES)
        assert region["longest-name"].words(0)[0] == len("carol-anne")
        assert [record.decode() for record in region["audit"].records()] == NAMES
        assert [one.rule for one in region.classes] == ["source-wins", "add-delta", "max", "append"]


@story
def the_hosts_file_is_read_behind_its_label_area(at):
    path, host = at.region("guest.region"), at.work / "host.region"
    run(at.example("guest"), path, *NAMES, env=at.environment)
    host.write_bytes(bytes(0x200000) + path.read_bytes())
    reader = at.reader()
    with reader.open(str(path)) as one, reader.open(str(host)) as other:
        assert reader.summary(one) == reader.summary(other)


@story
def the_reader_says_what_is_wrong_with_a_header(at):
    path = at.region("broken.region")
    reader = at.reader()
    good = None
    for offset, word, reason in ((None, None, "no header"), (8, 2, "another version"), (24, 33, "more slot classes"),
                                 (16, 1 << 40, "more bytes"), (2 * 64 + 24, 99, "does not know"),
                                 (2 * 64 + 32, 63, "whole 64-byte lines"), (2 * 64 + 36, 1 << 31, "outside"),
                                 (5 * 64 + 24, 1, "log without rule append")):
        if offset is not None:
            if good is None:
                run(at.example("good"), path, "alice", env=at.environment)
                good = path.read_bytes()
            size = 8 if offset == 16 else 4
            path.write_bytes(good[:offset] + word.to_bytes(size, "little") + good[offset + size:])
        try:
            with reader.open(str(path)):
                raise AssertionError(f"taken: {reason}")
        except reader.RegionError as error:
            assert reason in str(error), (reason, str(error))


def main():
    root = pathlib.Path(tempfile.mkdtemp(prefix=f"gwt{os.getpid()}-region-"))
    try:
        at = Installed(root)
        for one in stories:
            one(at)
            print("ok:", one.__name__.replace("_", " "))
    finally:
        shutil.rmtree(root)
    print(f"{len(stories)} stories")


if __name__ == "__main__":
    main()
