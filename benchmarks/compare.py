#!/usr/bin/env python3
"""Tell where relu_ext is faster or slower in one results file of run.py than in another.

Its speed is compared against rivals. What noise does to that is seen in the rivals, which no commit
of relu_ext changes: how far they moved against each other between the two files. A change is beyond
the noise if its rank among these moves, in the cells whose data lie in the same cache, is that of
one in twenty, and if it is greater than 5 %. Its own time tells which of the two moved.
"""

import statistics
from collections import defaultdict
from math import exp, log
from pathlib import Path

from suite import files, results
from suite.results import GOOD_HALF_WIDTH, Measured, Timing

CONDITIONS = ("processor", "cpus", "python", "versions", "levels", "level", "threads")
"""What two files should have in common."""
ERROR = 0.05
"""The share of the cells that may be beyond the noise between two runs of one build.

If a change is one more draw from what moves the n rivals, its rank among the n + 1 is any with the
same chance: a conformal test, which assumes nothing else. Where fewer than 19 rivals moved in one
cache, their moves in all of them count; if those are too few, nothing is beyond the noise. Between
runs recorded after the rule was written, 2.6 % of the cells were. Own times have no such test:
where another process loads the memory, relu_ext loses more than rivals that compute for longer.
"""


def in_both(old: Measured, new: Measured) -> list[tuple[Timing, Timing]]:
    """The timings of the rivals, or of relu_ext under other conditions where there are none."""
    rivals = old.rivals or old.compared.values()
    pairs = ((rival, new.timings.get(rival.contender.name)) for rival in rivals)
    return [(before, after) for before, after in pairs if after]


def change(old: Measured, new: Measured) -> tuple[float, list[float]]:
    """The logarithm of how many times the speed a cell has, and how far its rivals moved.

    A change of relu_ext shows against every rival, a change of one rival against that alone.
    """
    changes = [log(b.ratio / a.ratio) for a, b in in_both(old, new)]
    others = (changes[:at] + changes[at + 1 :] for at in range(len(changes)))
    moves = [abs(moved - statistics.median(rest))
             for moved, rest in zip(changes, others, strict=True) if rest]  # fmt: skip
    return statistics.median(changes), moves


def judged(pairs: list[tuple[Measured, Measured]]) -> list[str]:
    """For each pair, "faster" or "slower" beyond the noise, or nothing."""
    changes = [change(*pair) for pair in pairs]
    moves: dict[str, list[float]] = defaultdict(list)
    for (old, _), (_, moved) in zip(pairs, changes, strict=True):
        moves[old.ring] += moved
    every, words = [move for found in moves.values() for move in found], []
    for (old, _), (speed, _) in zip(pairs, changes, strict=True):
        alike = moves[old.ring] if len(moves[old.ring]) + 1 >= 1 / ERROR else every
        rank = 1 + sum(move >= abs(speed) for move in alike)
        beyond = rank <= ERROR * (len(alike) + 1) and abs(speed) > GOOD_HALF_WIDTH
        words.append(("faster" if speed > 0 else "slower") if beyond else "")
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
    lines = []
    for pair, word in zip(pairs, judged(pairs), strict=True):
        ratio, speed = exp(change(*pair)[0]), pair[0].ours.ns / pair[1].ours.ns
        alike = log(ratio) * log(speed) > 0 and abs(log(speed)) > GOOD_HALF_WIDTH
        times = " to ".join(results.time_text(m.ours.ns) for m in pair)
        what = word if alike else f"{word} against rivals alone"
        text = f"{what}: {pair[0].cell}\n  {ratio:.2f}× the speed against rivals, "
        lines += [(ratio, f"{text}{speed:.2f}× by its own time ({times})")] * bool(word)
    print(*(line for _, line in sorted(lines)), sep="\n", end="\n" * bool(lines))
    print(f"{len(pairs)} cells, {len(lines)} beyond the noise")
    return 0


if __name__ == "__main__":
    files.run(main)
