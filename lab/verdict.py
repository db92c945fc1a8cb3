"""What was promised, what was seen, and the two ways it is told: a table for people, a line of JSON."""
import json


class Verdict:
    def __init__(self):
        self.checks = []
        self.figures = {}

    def check(self, promise, holds, seen=""):
        self.checks.append((promise, bool(holds), str(seen)))
        print(f"  {'ok  ' if holds else 'FAIL'}  {promise}" + (f"  ({seen})" if seen != "" else ""), flush=True)
        return holds

    def ok(self):
        return bool(self.checks) and all(holds for _, holds, _ in self.checks)

    def print_figures(self, rows):
        width = max(len(name) for name, _ in rows)
        for name, value in rows:
            print(f"  {name:<{width}}  {value}")

    def json_line(self):
        failed = [promise for promise, holds, _ in self.checks if not holds]
        return json.dumps({"ok": self.ok(), "checks": len(self.checks), "failed": failed, **self.figures})


def timeline(phase_ms, width=60):
    """Each phase as a bar at its place in the whole; drawn to scale, never shorter than one character."""
    whole = sum(phase_ms.values()) or 1.0
    lines, at = [], 0.0
    for phase, took in phase_ms.items():
        start = min(width - 1, int(at / whole * width))
        length = max(1, round(took / whole * width))
        bar = (" " * start + "#" * length)[:width]
        lines.append(f"  {phase:<12} |{bar:<{width}}| {took:9.1f} ms")
        at += took
    return "\n".join(lines)


def bytes_text(count):
    for unit in ("B", "KiB", "MiB"):
        if count < 1024 or unit == "MiB":
            return f"{count:.1f} {unit}" if unit != "B" else f"{count} B"
        count /= 1024
