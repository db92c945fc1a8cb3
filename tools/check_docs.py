#!/usr/bin/env python3
"""Checks the links of every Markdown file: a relative link must lead to a file of this tree.

usage: check_docs.py ROOT
"""
import pathlib
import re
import sys

LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


def main() -> int:
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    pages = [*root.glob("*.md"), *(root / "docs").rglob("*.md")]
    broken = []
    for page in pages:
        for number, line in enumerate(page.read_text().splitlines(), 1):
            for target in LINK.findall(line):
                if "://" not in target and not (page.parent / target).exists():
                    broken.append(f"{page.relative_to(root)}:{number}: {target} does not exist")
    print("\n".join(broken) if broken else f"docs: every link of {len(pages)} pages leads somewhere")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
