#!/usr/bin/env python3
"""Tell where relu_ext is faster or slower in one results file of run.py than in another.

Two speeds are compared: against rivals, and by relu_ext's own time. What noise does to them is seen
in the rivals, which no commit of relu_ext changes: how far they moved against each other between
the two files, and how far their own times moved. A change is beyond the noise if it is greater than
99 % of these moves in the cells whose data lie in the same cache, and than 5 %.
"""

import statistics
from collections import defaultdict
from collections.abc import Callable
from math import exp, hypot, log
from pathlib import Path
from typing import NamedTuple

import numpy as np

from suite import files, results
from suite.results import GOOD_HALF_WIDTH, Measured, Timing

CONDITIONS = ("processor", "cpus", "python", "versions", "levels", "level", "threads")
"""What two files should have in common."""
NOISE = 0.99
"""Of 56 pairs of runs of one build, most of them on a busy machine, 1.1 % of the cells were beyond
the noise against rivals, and 1.9 % by their own time."""
FEW = 20
"""Where the rivals moved less often in one cache, their moves in all of them count."""

Pair = tuple[Measured, Measured]


class Change(NamedTuple):
    """How many times the speed a cell has, and how great that is beside the moves of its rivals."""

    speed: float
    size: float
    moves: list[float]


def reach(timing: Timing) -> float:
    return (timing.high - timing.low) / 2 / timing.ratio


def in_both(old: Measured, new: Measured) -> list[tuple[Timing, Timing]]:
    """The timings of the rivals, or of relu_ext under other conditions where there are none."""
    rivals = old.rivals or old.compared.values()
    pairs = ((rival, new.timings.get(rival.contender.name)) for rival in rivals)
    return [(before, after) for before, after in pairs if after]


def against_rivals(old: Measured, new: Measured) -> Change:
    """The median change of the ratios, in units of their intervals.

    A change of relu_ext shows against every rival, a change of one rival against that alone.
    """
    pairs = in_both(old, new)
    changes = [log(b.ratio / a.ratio) for a, b in pairs]
    widths = [hypot(reach(a), reach(b)) for a, b in pairs]
    moves = []
    for at, (change, width) in enumerate(zip(changes, widths, strict=True)):
        if others := changes[:at] + changes[at + 1 :]:
            moves.append(abs(change - statistics.median(others)) / width)
    change = statistics.median(changes)
    return Change(exp(change), abs(change) / statistics.median(widths), moves)


def by_time(old: Measured, new: Measured) -> Change:
    times = [(old.ours, new.ours), *in_both(old, new)]
    change, *moves = (abs(log(a.ns / b.ns)) for a, b in times)
    return Change(old.ours.ns / new.ours.ns, change, moves)


def judged(compare: Callable[[Measured, Measured], Change], pairs: list[Pair]) -> list[str]:
    """For each pair, "faster" or "slower" beyond the noise, or nothing."""
    changes = [compare(*pair) for pair in pairs]
    moves: dict[str, list[float]] = defaultdict(list)
    for (old, _), change in zip(pairs, changes, strict=True):
        moves[old.ring] += change.moves
    every = [move for found in moves.values() for move in found]
    words = []
    for (old, _), (speed, size, _) in zip(pairs, changes, strict=True):
        found = moves[old.ring] if len(moves[old.ring]) >= FEW else every or [0]
        beyond = size > np.quantile(found, NOISE) and abs(log(speed)) > GOOD_HALF_WIDTH
        words.append(("faster" if speed > 1 else "slower") if beyond else "")
    return words


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
    shared = [(before[cell], after[cell]) for cell in before if cell in after]
    pairs = [pair for pair in shared if in_both(*pair)]
    if not pairs:
        parser.error("the files share no cell; valid: two files of the same operations and sizes")
    relative, absolute = judged(against_rivals, pairs), judged(by_time, pairs)
    lines = []
    for pair, against, alone in zip(pairs, relative, absolute, strict=True):
        ratio, speed = against_rivals(*pair).speed, by_time(*pair).speed
        words = (f"{against} against rivals" * bool(against), f"{alone} by its time" * bool(alone))
        what = against if against == alone else ", ".join(filter(None, words))
        times = " to ".join(results.time_text(m.ours.ns) for m in pair)
        text = f"{pair[0].cell}: {ratio:.2f} times the speed against rivals, {speed:.2f} times"
        lines += [(ratio, f"{what}: {text} by its own time ({times})")] * bool(what)
    counts = (sum(map(bool, words)) for words in (relative, absolute))
    total = "{} cells; beyond the noise: {} against rivals, {} by relu_ext's own time"
    print(*(line for _, line in sorted(lines)), total.format(len(pairs), *counts), sep="\n")
    return 0


if __name__ == "__main__":
    files.run(main)
