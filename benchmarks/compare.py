#!/usr/bin/env python3
"""Tell what is faster or slower in one results file of run.py than in another, beyond the noise."""

import statistics
from pathlib import Path

from suite import files, results

CONDITIONS = ("processor", "cpus", "python", "versions", "levels", "level", "threads")
"""What two files should have in common."""


def changes(old: results.Measured, new: results.Measured) -> dict[str, tuple[float, bool]]:
    """For each contender of a cell, the change of the ratio to it and whether it exceeds noise."""
    before, after = old.compared, new.compared
    pairs = {name: (before[name], after[name]) for name in after if name in before}
    return {name: (b.ratio / a.ratio, a.low > b.high or b.low > a.high)
            for name, (a, b) in pairs.items()}  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    parser = files.Parser(prog="compare.py", description=__doc__)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    args = parser.parse_args(argv)
    old, new = parser.results(args.old), parser.results(args.new)
    before, after = results.measured(old), results.measured(new)
    a, b = ({**data["machine"], **data["settings"]} for data in (old, new))
    for name in CONDITIONS:
        if a[name] != b[name]:
            print(f"not the same: {name}: {a[name]} and {b[name]}")
    found = {cell: changes(before[cell], after[cell]) for cell in before if cell in after}
    pairs = [change for cell in found.values() for change in cell.values()]
    if not pairs:
        parser.error("the files share no cell; valid: two files of the same operations and sizes")
    # A change of relu_ext shows against every rival, a change of one rival against that alone.
    moved = [(statistics.median(change for change, _ in cell.values()), name)
             for name, cell in found.items()
             if 2 * sum(beyond for _, beyond in cell.values()) > len(cell)]  # fmt: skip
    for change, cell in sorted(moved, key=lambda pair: pair[0]):
        times = (results.time_text(cells[cell].ours.ns) for cells in (before, after))
        verdict = "faster" if change > 1 else "slower"
        print(f"{verdict}: {cell}: {change:.2f} times the speed ({' to '.join(times)})")
    agree = statistics.mean(not beyond for _, beyond in pairs)
    timings = [timing for cell in found for timing in after[cell].compared.values()]
    narrow = statistics.mean((t.high - t.low) / 2 / t.ratio <= results.GOOD_HALF_WIDTH
                             for t in timings)  # fmt: skip
    print(f"{len(found)} cells, {len(moved)} beyond the noise; of {len(pairs)} ratios {agree:.1%} "
          f"agree within their intervals, {narrow:.1%} have a half-width of at most "
          f"{results.GOOD_HALF_WIDTH:.0%}")  # fmt: skip
    return 0


if __name__ == "__main__":
    files.run(main)
