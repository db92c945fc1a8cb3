#!/usr/bin/python3
"""The lab's own commands: twice in a row, half-made, and after kill -9 of the script. Prints TAP.

usage: lab_commands.py BUILD        the programs' build directory
"""
import os
import pathlib
import signal
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "lab"))
import network  # noqa: E402
from lab import Lab  # noqa: E402

PREFIX = f"gwt{os.getpid()}-"


def lab_command(*words):
    return [sys.executable, str(ROOT / "lab" / "lab.py"), "--prefix", PREFIX, "--build", sys.argv[1], *words]


def run(*words):
    return subprocess.run(lab_command(*words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def expect(holds, what):
    if not holds:
        raise AssertionError(what)


def nothing_is_left():
    lab = Lab(PREFIX)
    spaces = [place for place in network.PLACES if (network.NETNS / network.namespace(PREFIX, place)).exists()]
    paths = [str(path) for path in (lab.out, lab.run, lab.shm) if path.exists()]
    mounts = [line for line in pathlib.Path("/proc/mounts").read_text().splitlines() if PREFIX in line]
    expect(not spaces and not paths and not mounts, f"left: {spaces} {paths} {mounts}")


def up_twice_and_down_twice_are_as_good_as_once():
    first, second = run("up"), run("up")
    expect(first.returncode == 0, first.stdout)
    expect(second.returncode == 0 and second.stdout == first.stdout, second.stdout)
    answer = run("exec", "client", "--", "ping", "-c", "1", "-W", "5", "10.1.0.10")
    expect(answer.returncode == 0, answer.stdout)
    for _ in range(2):
        down = run("down")
        expect(down.returncode == 0, down.stdout)
    nothing_is_left()


def a_lab_script_killed_half_way_leaves_what_the_next_one_clears():
    script = subprocess.Popen(lab_command("up"), stdout=subprocess.DEVNULL)
    lab = Lab(PREFIX)
    # Half-made: the switch runs, the guest does not answer yet.
    while not lab.daemons["switch"].is_running():
        expect(script.poll() is None, "the lab came up before it could be killed")
    script.send_signal(signal.SIGKILL)
    script.wait()
    again = run("up")
    expect(again.returncode == 0, again.stdout)
    down = run("down")
    expect(down.returncode == 0, down.stdout)
    nothing_is_left()


def exec_without_a_lab_says_what_to_do():
    answer = run("exec", "client", "--", "true")
    expect(answer.returncode != 0 and "./run lab up" in answer.stdout, answer.stdout)


SCENARIOS = [exec_without_a_lab_says_what_to_do, up_twice_and_down_twice_are_as_good_as_once,
             a_lab_script_killed_half_way_leaves_what_the_next_one_clears]


def main():
    if os.geteuid() != 0:
        print("1..0 # SKIP needs root")
        return 77
    print(f"1..{len(SCENARIOS)}", flush=True)
    failures = 0
    try:
        for number, scenario in enumerate(SCENARIOS, 1):
            name = scenario.__name__.replace("_", " ")
            try:
                scenario()
                print(f"ok {number} - {name}", flush=True)
            except AssertionError as error:
                failures += 1
                print(f"not ok {number} - {name}\n# " + "\n# ".join(str(error).splitlines()), flush=True)
    finally:
        Lab(PREFIX).down()
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
