#!/usr/bin/env python3
"""Compiles each header alone: it includes what it uses, in every language that takes it.

usage: check_headers.py ROOT [BUILD]     steering/*.h: C17, C++23 and -target bpf; *.h: C and C++; *.hpp: C++23
"""
import concurrent.futures
import pathlib
import subprocess
import sys

FOLDERS = ["steering", "lib", "protocol", "ebpf", "dataplane", "vm_agent", "controller", "cli"]
COMMON = ["-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-Wno-pragma-once-outside-header",
          "-Wno-unused-function", "-D_GNU_SOURCE", "-DBOOST_ASIO_NO_DEPRECATED"]
CPP = ["clang++-19", "-std=c++23", "-x", "c++"]
C = ["clang-19", "-std=c17", "-x", "c"]
BPF = ["clang-19", "-target", "bpf", "-mcpu=v3", "-O2", "-ffreestanding", "-x", "c"]


def compilers(relative: str):
    if relative.endswith(".bpf.h"):
        return []  # needs the kernel's types; compiled with its program
    if relative.startswith("steering/"):
        return [C, CPP, BPF]
    return [CPP] if relative.endswith(".hpp") else [C, CPP]


def needs_hooks(header: pathlib.Path) -> bool:
    """Some headers of steering/ come after the including plane's own hooks, and say so at their top."""
    opening = header.read_text().split("#", 1)[0]
    return header.parent.name == "steering" and "hooks of slot.h" in opening


def check(root: pathlib.Path, build: str | None, relative: str) -> list[str]:
    failures = []
    for compiler in compilers(relative):
        search = ["-I", str(root)] + (["-I", build] if build else [])
        first = ["-include", str(root / "tools/plane_hooks.h")] if needs_hooks(root / relative) else []
        command = [*compiler, *COMMON, *search, *first, "-include", str(root / relative), "/dev/null"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            failures.append(f"{relative} does not compile alone ({' '.join(compiler)}):\n{done.stderr}")
    return failures


def main() -> int:
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    build = sys.argv[2] if len(sys.argv) > 2 else None
    headers = [path.relative_to(root).as_posix() for folder in FOLDERS
               for path in sorted((root / folder).rglob("*.h*")) if path.suffix in (".h", ".hpp")]
    with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
        failures = [line for lines in pool.map(lambda h: check(root, build, h), headers) for line in lines]
    print("\n".join(failures) if failures else f"headers: {len(headers)} compile alone")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
