#!/usr/bin/env python3
"""Make the README's tables and pictures, and for each CPU a page with every cell."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from suite import cases, files, pictures, plan, results, tables
from suite.cases import IN_PLACE, TORCH
from suite.results import time_text
from suite.tables import call, markdown, named

PLACE = "<!-- {0}: begin -->\n", "<!-- {0}: end -->"
"""What stands in README.md around the tables of `benchmarks` and of `programs`."""
SHARED = (*plan.HEADLINES, *(cell for cell in plan.MEMORY_BOUND if cell.size >= 2**25))
"""The rows of the README's table of CPUs."""


def machines(published: list[dict[str, Any]]) -> Iterator[str]:
    """The README's table of CPUs, which compares with the roofline where memory is the limit."""
    rows, found = [], [results.measured(data) for data in published]
    for cell in SHARED:
        measured = [cells.get(cell) for cells in found]
        held = [m and (m.limit or m.usual) for m in measured]
        timings = [timing for timing in held if timing]
        if timings:
            passes = cell in plan.MEMORY_BOUND and cell.mode == IN_PLACE
            what = "the fastest pass" if passes else named(timings[0]).split(" ", 1)[1]
            first = next(m for m in measured if m)
            rows.append([call(first), what, *(t.text() if t else "–" for t in held)])
    names = [data["machine"]["processor"] for data in published]
    yield from markdown(("call", "times as fast as", *names), rows)


def origin(data: dict[str, Any]) -> str:
    machine, command = data["machine"], " ".join(data["settings"]["command"])
    when = f"`{command}` on {machine['date'][:10]} at commit {machine['commit']}"
    return f"{tables.machine_line(data)}; {when}."


def headlines(cells: results.Cells) -> Iterator[str]:
    """The README's table of one CPU."""
    rows = []
    for m in tables.headlines(cells):
        held = (m.usual, m.fastest(TORCH), m.fastest())
        rows.append([call(m), time_text(m.ours.ns), *(named(t) if t else "–" for t in held)])
    headings = ["call", "time", "times as fast as NumPy", "as PyTorch", "as the fastest rival"]
    yield from (tables.ZEROS, "", *markdown(headings, rows))


def page(data: dict[str, Any]) -> Iterator[str]:
    """Every cell of a results file."""
    cells = results.measured(data)
    yield from (f"# {data['machine']['processor']}", "", origin(data), "")
    yield "The ratios say how many times as fast relu_ext is: medians of paired ratios on fresh"
    yield "input with 95 % intervals. The times of every other rival stand in the JSON file beside"
    yield from ("this page.", "", f"{cases.LEGEND} {tables.ZEROS}", "")
    yield from (f"* {line}" for line in tables.remarks(data, cells))
    for operation, found, statements in tables.by_operation(cells):
        rows = []
        for m in found:
            time, usual, best, name = tables.compared(m, interval=True)
            mode = m.cell.mode + f", {m.cell.threads} threads" * (m.cell.threads > 1)
            rows.append([m.cell.array, mode, time, usual, f"{best} {name}"])
        yield from ("", f"## {operation}", "", *(f"* {line}" for line in statements), "")
        yield from markdown(("array", "mode", "time", "NumPy", "best rival"), rows)
    yield from ("", f"## {tables.OVERHEAD}", "")
    yield from markdown(("as", "median", "most", "in"), tables.overheads(cells))
    yield from ("", "## What the others do differently, or not at all", "")
    yield from (f"* {line}" for line in tables.listed(data))


def main(argv: list[str] | None = None) -> int:
    parser = files.Parser(prog="report.py", description=__doc__)
    latest = "for the first table and the pictures (default: the latest file in results)"
    parser.add_argument("results", type=Path, nargs="?", help=latest)
    where = "where the pictures go (default: pictures beside report.py)"
    folder = files.BENCHMARKS / "pictures"
    parser.add_argument("--pictures", type=Path, default=folder, metavar="DIR", help=where)
    between = "put the tables between their marks there (default: the repository's README.md)"
    readme = files.BENCHMARKS.parent / "README.md"
    parser.add_argument("--readme", type=Path, default=readme, metavar="FILE", help=between)
    args = parser.parse_args(argv)
    published = {path: parser.results(path) for path in sorted(files.RESULTS.glob("*.json"))}
    if not (args.results or published):
        parser.error(f"no file in {files.RESULTS}; valid: a file written by run.py --full")
    data = parser.results(args.results) if args.results else max(
        published.values(), key=lambda read: read["machine"]["date"])  # fmt: skip
    whole = [parser.results(path) for path in files.PROGRAMS.glob("*.json")]
    cells, many = results.measured(data), list(published.values())
    drawn, remarks = pictures.draw(data, cells), "  \n".join(tables.remarks(data, cells, most=3))
    texts: dict[str, list[str]] = {
        "benchmarks": [*headlines(cells), "", origin(data), "", *machines(many), "", remarks]
    }
    if whole:
        newest = max(whole, key=lambda read: read["machine"]["date"])
        drawn["programs"] = pictures.programs_picture(newest)
        texts["programs"] = [*tables.programs(newest["programs"]), "", origin(newest)]
    figures = {name: figure for name, figure in drawn.items() if figure}
    if len(figures) < len(drawn) or not tables.headlines(cells):
        which = args.results or "the latest file in results"
        missing = ", ".join(drawn.keys() - figures.keys()) or "the first table"
        parser.error(f"{which} has too few cells for {missing}; valid: a file by run.py --full")
    parser.output(args.pictures / "time.png" if args.pictures.exists() else args.pictures)
    parser.output(args.readme)
    text = args.readme.read_text(encoding="utf-8") if args.readme.exists() else ""
    for name, lines in texts.items():
        begin, end = (mark.format(name) for mark in PLACE)
        head, found, rest = text.partition(begin)
        _, ended, tail = rest.partition(end)
        if not (found and ended):
            parser.error(
                f"no place in {args.readme}; valid: a file with '{begin[:-1]}' and '{end}'"
            )
        text = head + begin + "\n".join((*lines, end)) + tail
    files.write(args.readme, text)
    for path, read in published.items():
        files.write(path.with_suffix(".md"), "\n".join(page(read)) + "\n")
    for name, figure in figures.items():
        pictures.save(figure, args.pictures, name)
    for lines in texts.values():
        print(*lines, "", sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
