#!/usr/bin/python3
"""Adds up the tests of several meson runs and prints the line that people and CI look for.

usage: count_tests.py TESTLOG.junit.xml...     files that do not exist are left out
"""
import pathlib
import sys
import xml.etree.ElementTree


def outcome(case):
    if case.find("failure") is not None or case.find("error") is not None:
        return "failed"
    return "skipped" if case.find("skipped") is not None else "passed"


def main():
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for name in sys.argv[1:]:
        if not pathlib.Path(name).exists():
            continue
        for case in xml.etree.ElementTree.parse(name).iter("testcase"):
            counts[outcome(case)] += 1
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return 0 if counts["passed"] and not counts["failed"] else 1


if __name__ == "__main__":
    sys.exit(main())
