"""What migration.py measured: a line each while it runs, rows for bench/out, a table and a picture for docs/."""

NAMES = {"whole": "Godwit whole", "fork": "Godwit fork", "pre-copy": "QEMU pre-copy",
         "auto-converge": "QEMU auto-converge", "multifd": "QEMU multifd", "post-copy": "QEMU post-copy"}
COLOURS = {"whole": "#1b6ca8", "fork": "#4aa3df", "pre-copy": "#c0392b", "auto-converge": "#e67e22",
           "multifd": "#f1c40f", "post-copy": "#7f8c8d"}
MIB = 1 << 20


def case_name(rate, lines):
    return f"{rate} MiB/s" + ("" if lines == 64 else ", one line a page")


def line(rate, lines, way, row):
    pause = "did not end" if row["pause_ms"] is None else f"pause {row['pause_ms']:.0f} ms"
    return (f"{case_name(rate, lines):28} {NAMES[way]:20} {row['bytes'] / MIB:7.0f} MiB {row['seconds']:6.1f} s  "
            f"{pause:16} guest's work {100 * row['work']:4.0f} %  errors {row['errors']}")


def rows(table, rounds):
    """For bench/out: the bytes of `whole` beside each way of QEMU."""
    found = []
    for one in table:
        if one["way"] not in ("whole", "fork"):
            continue
        for peer in table:
            if (peer["rate"], peer["lines"]) != (one["rate"], one["lines"]) or peer["way"] in ("whole", "fork"):
                continue
            ours, theirs = one["median"], peer["median"]
            name = f"{one['way']} at {case_name(one['rate'], one['lines'])}"
            found.append({"case": name + ": bytes", "ours": ours["bytes"], "peer": theirs["bytes"],
                          "peer_name": NAMES[peer["way"]] + ("" if theirs["ended"] else " (did not end)"),
                          "unit": "bytes", "ratio": ours["bytes"] / max(1, theirs["bytes"]), "goal": None, "met": None,
                          "rounds": rounds})
    return found


def table_of(table):
    lines = ["| memory changes at | way | reached | sent | took | guest stood still | work done meanwhile | errors |",
             "|---|---|---|---|---|---|---|---|"]
    for one in table:
        row = one["median"]
        ended = row["ended"]
        lines.append("| " + " | ".join([
            case_name(one["rate"], one["lines"]), NAMES[one["way"]] + ("" if ended else ", **did not end**"),
            f"{row['rate']:.0f} MiB/s", f"{row['bytes'] / MIB:.0f} MiB", f"{row['seconds']:.1f} s",
            f"{row['pause_ms']:.0f} ms" if ended else "-", f"{100 * row['work']:.0f} %", str(row["errors"])]) + " |")
    return "\n".join(lines) + "\n"


def bars(table, top, title, value, unit, note):
    """One group of bars for each rate; a hollow bar did not end."""
    cases = list(dict.fromkeys((one["rate"], one["lines"]) for one in table))
    ways = list(NAMES)
    left, width, height, step = 70, 840, 150, 840 / len(cases)
    most = max([value(one["median"]) or 0 for one in table] + [1])
    out = [f'<text x="{left}" y="{top - 12}" font-size="14" font-weight="bold">{title}</text>',
           f'<text x="{left + width}" y="{top - 12}" text-anchor="end" fill="#666">{note}</text>']
    for share in (0, 0.5, 1):
        y = top + height * (1 - share)
        out += [f'<line x1="{left}" x2="{left + width}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>',
                f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{most * share:.0f} {unit}</text>']
    for group, case in enumerate(cases):
        for place, way in enumerate(ways):
            row = next((one["median"] for one in table if (one["rate"], one["lines"], one["way"]) == (*case, way)), None)
            if row is None or value(row) is None:
                continue
            tall = max(1.0, height * value(row) / most)
            x = left + group * step + 10 + place * (step - 20) / len(ways)
            fill = COLOURS[way] if row["ended"] else "white"
            out.append(f'<rect x="{x:.1f}" y="{top + height - tall:.1f}" width="{(step - 20) / len(ways) - 2:.1f}" '
                       f'height="{tall:.1f}" fill="{fill}" stroke="{COLOURS[way]}"/>')
        out.append(f'<text x="{left + (group + 0.5) * step:.1f}" y="{top + height + 16}" text-anchor="middle">'
                   f'{case_name(*case)}</text>')
    return out


def picture(table):
    out = ['<svg xmlns="http://www.w3.org/2000/svg" width="940" height="700" font-family="sans-serif" font-size="11">',
           '<rect width="940" height="700" fill="white"/>']
    for place, way in enumerate(NAMES):
        x = 70 + place * 140
        out += [f'<rect x="{x}" y="14" width="12" height="12" fill="{COLOURS[way]}"/>',
                f'<text x="{x + 17}" y="24">{NAMES[way]}</text>']
    out += bars(table, 70, "Sent", lambda row: row["bytes"] / MIB, "MiB", "hollow: had not ended when it was given up")
    out += bars(table, 285, "The guest stood still", lambda row: row["pause_ms"], "ms", "less is better")
    out += bars(table, 500, "Work the guest did meanwhile", lambda row: 100 * row["work"], "%", "more is better")
    return "\n".join(out + ["</svg>"]) + "\n"


def write(table, folder, bandwidth, memory, churn, limit, rounds):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "migration-bench.svg").write_text(picture(table))
    (folder / "migration-bench.md").write_text(f"""# Godwit's copies beside QEMU's own migration

Made by `./run bench migration`: one guest of {memory} MiB under TCG that writes {churn} MiB of it over and over, whole
pages or one line of 64 bytes in each, moved over a link of {bandwidth} MiB/s; the peer is QEMU 10 from Debian's
backports. On such a link Godwit compresses by itself (what was sent is counted as it was sent); QEMU was not asked to. Medians of {rounds} round(s). Given up after {limit} s. *Work* is how much of what it wrote before the migration
the guest wrote during it; with `fork` that is the source, which never moves. *Errors* are pages that did not hold what
was written last; every page is looked at after each migration.

![sent, pause and work](migration-bench.svg)

{table_of(table)}
What to read in it. A migration by QEMU's pre-copy sends memory again and again until the rest fits the pause it may
make: where memory changes slowly that works, and its last pause is then shorter than that of Godwit's `whole`, which
sends what changed during its one copy while the guest stands still. Where memory changes faster than the link carries,
pre-copy does not end, auto-converge ends by slowing the guest down, and post-copy ends with a short pause and a guest
that waits for its pages, and is lost if the link breaks then. `fork` is another thing: the source's sessions stay
where they are, its pause is local, and no byte crosses the link while it stands still but its device state; what
changes after the fork is not sent at all, except for declared regions.
""")
