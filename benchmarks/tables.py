"""What run.py prints: one table for each operation, the figures, and what tables do not say."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table

import cases
import results
from cases import OURS, ROOFLINE, Cell
from results import Measured, interval_text, number_text, ratio_text, time_text

LEGEND = (
    "x, g: input and gradient, fresh each time; o: an existing output; slope: a Python number; "
    "zero, one, s: 0, 1 and the slope as scalars of the array's dtype."
)


def machine_line(data: dict[str, Any]) -> str:
    machine, threads = data["machine"], data["settings"]["threads"]
    caches = ", ".join(f"{level} {size // 1024:,} KiB" for level, size in machine["caches"].items())
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"{machine['processor']}, {machine['cpus']} CPUs, {caches}; level "
        f"{data['settings']['level']}; {threads} thread{'s' * (threads > 1)} for every library "
        f"that has them; {machine['python']}, {versions}"
    )


def table(headings: Iterable[str], left: Iterable[str]) -> Table:
    made = Table(box=None, header_style="bold")
    for heading in headings:
        if heading in left:
            made.add_column(heading, overflow="fold")
        else:
            made.add_column(heading, justify="right", no_wrap=True)
    return made


def print_operation(out: Console, operation: str, found: Iterable[Measured]) -> None:
    """A row for each cell, the contenders side by side."""
    found = [m for m in found if m.cell.operation == operation]
    if not found:
        return
    names = list(dict.fromkeys(name for m in found for name in m.contenders))
    shown = [name for name in names if name != OURS and not name.startswith(ROOFLINE)]
    roofline = ["roofline"] if any(m.share_of_roofline() for m in found) else []
    headings = ["dtype", "size", "mode", OURS, *roofline, *shown]
    between = " " if out.width > 45 + 17 * len(headings[4:]) else "\n"
    rows = table(headings, ("dtype", "mode"))
    for m in found:
        threads = f" ({m.cell.threads} threads)" if m.cell.threads > 1 else ""
        row = [m.cell.dtype, cases.size_text(m.cell.size), m.cell.mode + threads]
        row.append(time_text(m.ours["ns"]["median"]))
        if roofline:
            share = m.share_of_roofline()
            row.append(f"{m.bandwidth(m.ours):.1f} GB/s{between}{share:.0%}" if share else "")
        for rival in map(m.contenders.get, shown):
            times = rival and (time_text(rival["ns"]["median"]), ratio_text(rival["ratio"]))
            row.append(between.join(times) if times else "")
        rows.add_row(*row)
    out.print(f"{operation}: time per call, and how many times that of relu_ext", style="bold")
    out.print(rows)
    for name in names:
        said = dict.fromkeys(m.contenders[name]["statement"] for m in found if name in m.contenders)
        out.print(f"  {name}: {' | '.join(said)}", style="dim", soft_wrap=True)
    out.print()


def print_figures(out: Console, data: dict[str, Any], found: dict[Cell, Measured]) -> None:
    headings = ("cell", "against", "ratio", "95 % interval", "quartiles", OURS, "rival")
    rows = table(headings, ("cell", "against"))
    for m, rival in ((m, rival) for m, rivals in results.figures(found) for rival in rivals):
        ratio, alone = rival["ratio"], rival["name"] == cases.ONE_THREAD
        rows.add_row(
            str(m.cell),
            results.spelling(rival),
            ratio_text(ratio),
            interval_text(ratio),
            interval_text({"low": ratio["quartile_1"], "high": ratio["quartile_3"]}),
            time_text(m.ours["ns"]["median"]),
            time_text(rival["ns"]["median"]),
        )
        if alone:
            best = number_text(max(ratio["visits"]))
            rows.add_row("", f"the same, best of {len(ratio['visits'])} visits", f"{best}×")
    if data["import_ms"]:
        took = f"{statistics.median(data['import_ms']):.2f} ms"
        rows.add_row("import relu_ext, after NumPy", "", "", "", "", took)
    if rows.row_count:
        out.print("How many times as fast: median of paired ratios", style="bold")
        out.print(rows)
        out.print()


def print_notes(out: Console, data: dict[str, Any], found: dict[Cell, Measured]) -> None:
    """Who lost, who differs, who is missing."""
    lines = [LEGEND]
    for m, rival in results.lost(found):
        median, interval = number_text(rival["ratio"]["median"]), interval_text(rival["ratio"])
        lines.append(f"lost: {m.cell}: {results.spelling(rival)} is faster, {median} ({interval})")
    notes: dict[str, dict[str, dict[str, None]]] = {}
    for entry in data["cells"]:
        for contender in entry["contenders"]:
            name, dtype = contender["name"], {entry["dtype"]: None}
            if contender["status"] == "not installed":
                notes.setdefault(f"not installed: {contender['library']}", {})
            elif contender["status"] != "measured":
                refused = notes.setdefault(f"does not take: {name}", {})
                refused.setdefault(entry["operation"], {}).update(dtype)
            for text in contender.get("differs", ()):
                differing = notes.setdefault(f"differs: {entry['operation']}, {name}", {})
                differing.setdefault(text, {}).update(dtype)
    for head, texts in sorted(notes.items()):
        listed = "; ".join(f"{text} ({', '.join(where)})" for text, where in texts.items())
        lines.append(f"{head}{': ' if listed else ''}{listed}")
    asked = {c["library"] for entry in data["cells"] for c in entry["contenders"]}
    if others := [name for name in cases.LIBRARIES if name not in asked]:
        lines.append(f"not asked for: {', '.join(others)} (--against, --full)")
    for line in (*lines, *data["left_out"]):
        out.print(line, soft_wrap=True)
    out.print()


def print_all(out: Console, data: dict[str, Any]) -> None:
    found = results.measured(data)
    out.print(machine_line(data), soft_wrap=True)
    out.print()
    for operation in cases.OPERATIONS:
        print_operation(out, operation, found.values())
    print_figures(out, data, found)
    print_notes(out, data, found)
    if not data["complete"]:
        out.print(f"interrupted: {len(found)} of {len(data['cells'])} cells measured")
