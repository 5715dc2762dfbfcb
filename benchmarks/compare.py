#!/usr/bin/env python3
"""Tell what got faster or slower between two results files of run.py, beyond the noise."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

import cli
import results


def overlap(a: dict[str, float], b: dict[str, float]) -> bool:
    return a["low"] <= b["high"] and b["low"] <= a["high"]


def half_width(ratio: dict[str, float]) -> float:
    return (ratio["high"] - ratio["low"]) / 2 / ratio["median"]


def changes(old: results.Measured, new: results.Measured) -> dict[str, tuple[float, bool]]:
    """For each rival of a cell, by what our ratio to it changed, and whether beyond the noise."""
    pairs = {name: (old.compared[name]["ratio"], rival["ratio"])
             for name, rival in new.compared.items() if name in old.compared}  # fmt: skip
    return {name: (b["median"] / a["median"], not overlap(a, b)) for name, (a, b) in pairs.items()}


def differing(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What else changed between two files, apart from the code."""
    a, b = ({**data["machine"], **data["settings"]} for data in (old, new))
    names = ("processor", "cpus", "python", "versions", "levels", "level", "threads")
    return [f"{name}: {a[name]} and {b[name]}" for name in names if a[name] != b[name]]


def main(argv: list[str] | None = None) -> int:
    parser = cli.Parser(prog="compare.py", description=__doc__)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    args = parser.parse_args(argv)
    old, new = parser.results(args.old), parser.results(args.new)
    before, after = results.measured(old), results.measured(new)
    for line in differing(old, new):
        print(f"not the same: {line}")
    found = {cell: changes(before[cell], after[cell]) for cell in before if cell in after}
    pairs = [change for cell in found.values() for change in cell.values()]
    if not pairs:
        parser.error("the files share no cell; valid: two files of the same operations and sizes")
    # A change of relu_ext shows against every rival, a change of one rival against that alone.
    moved = [(statistics.median(change for change, _ in cell.values()), name)
             for name, cell in found.items()
             if 2 * sum(beyond for _, beyond in cell.values()) > len(cell)]  # fmt: skip
    for change, cell in sorted(moved, key=lambda pair: pair[0]):
        times = (results.time_text(cells[cell].ours["ns"]["median"]) for cells in (before, after))
        verdict = "faster" if change > 1 else "slower"
        print(f"{verdict}: {cell}: {change:.2f} times the speed ({' to '.join(times)})")
    agree = statistics.mean(not beyond for _, beyond in pairs)
    widths = [
        half_width(rival["ratio"]) for cell in found for rival in after[cell].compared.values()
    ]
    narrow = statistics.mean(width <= results.GOOD_HALF_WIDTH for width in widths)
    print(f"{len(found)} cells, {len(moved)} beyond the noise; of {len(pairs)} ratios {agree:.1%} "
          f"agree within their intervals, {narrow:.1%} have a half-width of at most "
          f"{results.GOOD_HALF_WIDTH:.0%}")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
