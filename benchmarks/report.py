#!/usr/bin/env python3
"""Make the tables of README.md and docs/speed.md, a page for each CPU, and the pictures."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from suite import cases, files, pictures, plan, results, tables
from suite.cases import IN_PLACE, TORCH
from suite.results import time_text
from suite.tables import call, markdown, named, paragraphs

PLACES = {"benchmarks": "README.md", "programs": "README.md", "parts": "docs/speed.md",
          "processors": "docs/speed.md"}  # fmt: skip
"""The files in which tables stand, and between which marks."""
SHARED = (*plan.HEADLINES, *(cell for cell in plan.MEMORY_BOUND if cell.size >= 2**25))
"""The rows of the README's table of CPUs."""


def machines(published: list[dict[str, Any]]) -> Iterator[str]:
    """The README's table of CPUs, which compares with the roofline where memory is the limit."""
    rows, found = [], [results.measured(data) for data in published]
    for cell in SHARED:
        measured = [cells.get(cell) for cells in found]
        held = [m and ((cell in plan.MEMORY_BOUND and m.limit) or m.usual) for m in measured]
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
    yield from markdown(headings, rows)


def page(data: dict[str, Any]) -> Iterator[str]:
    """Every cell of a results file."""
    cells = results.measured(data)
    yield from (f"# {data['machine']['processor']}", "", *paragraphs([origin(data)]), "")
    yield "The ratios say how many times as fast relu_ext is: medians of paired ratios on fresh"
    yield "input with 95 % intervals. The times of every other rival stand in the JSON file beside"
    yield from ("this page.", "", *paragraphs([f"{cases.LEGEND} {tables.ZEROS}"]), "")
    yield from paragraphs(tables.remarks(data, cells))
    for operation, found, statements in tables.by_operation(cells):
        rows = []
        for m in found:
            time, usual, best, name = tables.compared(m, interval=True)
            mode = m.cell.mode + f", {m.cell.threads} threads" * (m.cell.threads > 1)
            rows.append([m.cell.array, mode, time, usual, f"{best} {name}".rstrip()])
        yield from ("", f"## {operation}", *paragraphs(f"* {line}" for line in statements), "")
        yield from markdown(("array", "mode", "time", "NumPy", "best rival"), rows)
    yield from ("", f"## {tables.OVERHEAD}", "")
    yield from markdown(("as", "median", "most", "in"), tables.overheads(cells))
    yield from ("", "## What the others do differently, or not at all")
    yield from paragraphs(f"* {line}" for line in (*data["notes"], *data["left_out"]))


def main(argv: list[str] | None = None) -> int:
    parser = files.Parser(prog="report.py", description=__doc__)
    latest = "for the first table and the pictures (default: the latest file in results)"
    parser.add_argument("results", type=Path, nargs="?", help=latest)
    where = "the folder of README.md, docs and benchmarks (default: the repository)"
    root = files.BENCHMARKS.parent
    parser.add_argument("--root", type=Path, default=root, metavar="DIR", help=where)
    args = parser.parse_args(argv)
    published = {path: parser.results(path) for path in sorted(files.RESULTS.glob("*.json"))}
    whole = [parser.results(path) for path in files.PROGRAMS.glob("*.json")]
    if not (args.results or published):
        parser.error(f"no file in {files.RESULTS}; valid: a file written by run.py --full")

    def newest(found: Iterable[dict[str, Any]]) -> dict[str, Any]:
        return max(found, key=lambda read: read["machine"]["date"])

    data = parser.results(args.results) if args.results else newest(published.values())
    cells, drawn = results.measured(data), pictures.draw(data)
    remarks = paragraphs(tables.remarks(data, cells, most=3))
    texts = {
        "benchmarks": [*headlines(cells), "", origin(data)],
        "processors": [*machines([*published.values()]), "", *remarks],
    }
    if whole:
        drawn["programs"] = pictures.programs_picture(newest(whole))
        texts["programs"] = [*tables.programs(newest(whole)["programs"]), "", origin(newest(whole))]
        texts["parts"] = [*tables.parts(newest(whole)["programs"])]
    figures = {name: figure for name, figure in drawn.items() if figure}
    if len(figures) < len(drawn) or not tables.headlines(cells):
        missing = ", ".join(drawn.keys() - figures.keys()) or "the first table"
        parser.error(f"too few cells for {missing}; valid: a file written by run.py --full")
    written: dict[Path, str] = {}
    for name, lines in texts.items():
        begin, end = (f"<!-- {name}: {side} -->" for side in ("begin", "end"))
        path = args.root / PLACES[name]
        parser.output(path)
        text = written.get(path) or (path.read_text(encoding="utf-8") if path.exists() else "")
        if not 0 <= text.find(begin) < text.find(end):
            parser.error(f"no place in {path}; valid: a file with '{begin}' and '{end}'")
        head, tail = text[: text.index(begin)], text[text.index(end) :]
        written[path] = "\n".join((head + begin, *lines, tail))
    drawings = args.root / "benchmarks" / "pictures"
    parser.output(drawings / "heat.png" if drawings.exists() else drawings)
    for path, read in published.items():
        written[path.with_suffix(".md")] = "\n".join(page(read)) + "\n"
    for path, text in written.items():
        files.write(path, text)
    for name, figure in figures.items():
        pictures.save(figure, drawings, name)
    for lines in texts.values():
        print(*lines, "", sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
