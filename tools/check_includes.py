#!/usr/bin/env python3
"""Checks that includes point one way: tests -> programs -> protocol -> lib, and steering knows nobody.

usage: check_includes.py ROOT      prints file:line for every arrow that points the wrong way
"""
import pathlib
import re
import sys

# folder -> the folders it may include from (its own is always allowed)
MAY_INCLUDE = {
    "lib": set(),
    "steering": set(),
    "protocol": {"lib"},
    "ebpf": {"steering", "protocol", "lib"},
    "dataplane": {"steering", "ebpf", "protocol", "lib"},
    "vm_agent": {"protocol", "lib"},
    "controller": {"protocol", "lib"},
    "cli": {"protocol", "lib"},
    "lab": {"vm_agent"},
}
# The arrows against the grain: a plane implements the interface its program declares, and sizes its tables as all do.
INTERFACES = {("ebpf", "dataplane/plane.hpp"), ("ebpf", "dataplane/table_config.hpp"),
              ("ebpf", "dataplane/port_numbers.hpp"), ("ebpf", "dataplane/left_tables.hpp")}
# Who reads a region's file needs to know how it is laid out, and nothing else of the agent.
LAYOUT = "vm_agent/layout/"
MAY_READ_LAYOUT = {"cli"}
# What an application links knows nothing of the agent around it.
ALONE = {"vm_agent/region": "vm_agent/region/"}
SOURCE = {".h", ".hpp", ".c", ".cpp"}
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"')


def wrong_arrows(root: pathlib.Path):
    for folder, allowed in MAY_INCLUDE.items():
        for path in sorted((root / folder).rglob("*")):
            if path.suffix not in SOURCE:
                continue
            relative = path.relative_to(root).as_posix()
            for number, line in enumerate(path.read_text().splitlines(), 1):
                found = INCLUDE.match(line)
                if not found:
                    continue
                target = found.group(1)
                top = target.split("/")[0]
                if "/" not in target:
                    # Generated next to its user (a BPF skeleton), or a sibling: must not exist elsewhere.
                    if target.endswith(".skel.h") or (path.parent / target).exists():
                        continue
                    yield f"{relative}:{number}: \"{target}\" is not a path from the root"
                elif top != folder and top not in allowed and (folder, target) not in INTERFACES \
                        and not (folder in MAY_READ_LAYOUT and target.startswith(LAYOUT)):
                    yield f"{relative}:{number}: {folder} may not include {top} (\"{target}\")"
                else:
                    for prefix, only in ALONE.items():
                        if relative.startswith(prefix) and not target.startswith(only):
                            yield f"{relative}:{number}: {prefix} stands alone (\"{target}\")"


def main() -> int:
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    found = list(wrong_arrows(root))
    print("\n".join(found) if found else "includes: every arrow points the right way")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
