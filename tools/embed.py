#!/usr/bin/env python3
"""Writes a file's bytes as a C array.

usage: embed.py INPUT OUTPUT.c NAME      defines NAME[] and NAME_bytes
"""
import pathlib
import sys


def main() -> int:
    source, target, name = sys.argv[1:4]
    data = pathlib.Path(source).read_bytes()
    rows = (", ".join(str(byte) for byte in data[at:at + 32]) for at in range(0, len(data), 32))
    body = ",\n".join(rows)
    pathlib.Path(target).write_text(
        f"#include <stddef.h>\nextern const unsigned char {name}[];\nextern const size_t {name}_bytes;\n"
        f"_Alignas(8) const unsigned char {name}[] = {{\n{body}\n}};\n"
        f"const size_t {name}_bytes = sizeof({name});\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
