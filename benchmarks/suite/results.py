"""Read results files, and pick the comparisons that are worth reading.

For each contender of a cell, a file holds the nanoseconds of a call, how many times relu_ext's time
that is, and both ends of that ratio's 95 % interval. Contenders have names, by which the registry
knows their statements.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from suite import cases
from suite.cases import IN_PLACE, OURS, ROOFLINE, Cell, Contender
from suite.layouts import LAYOUTS, SIZED

NOISE_FLOOR = 0.97
"""A cell is lost if the ratio lies below this number, and all of its interval below 1."""
GOOD_HALF_WIDTH = 0.05
"""The half-width of an interval that a run aims at, as a share of the ratio."""
UNITS = {"s": 1e9, "ms": 1e6, "µs": 1e3, "ns": 1.0}


class Timing(NamedTuple):
    """One contender's numbers in one cell; ratios above 1 say that relu_ext is faster."""

    contender: Contender
    ns: float
    ratio: float
    low: float
    high: float

    @property
    def short(self) -> str:
        """The library of a rival, or its spelling in NumPy."""
        return self.contender.name.removesuffix(", own tensors")

    def text(self, *, interval: bool = False) -> str:
        ratio, low, high = map(number_text, self[2:])
        return f"{ratio}× ({low}–{high})" if interval else f"{ratio}×"


@dataclass(frozen=True)
class Measured:
    """One cell of a results file."""

    cell: Cell
    times: dict[str, list[float]]
    ring: str = ""
    """The smallest cache that held the data."""

    @cached_property
    def timings(self) -> dict[str, Timing]:
        known = {contender.name: contender for contender in self.cell.contenders()}
        return {name: Timing(known[name], *numbers)
                for name, numbers in self.times.items() if name in known}  # fmt: skip

    @property
    def ours(self) -> Timing:
        return self.timings[OURS]

    @property
    def compared(self) -> dict[str, Timing]:
        """What shows a change of relu_ext: the rivals, and relu_ext under other conditions."""
        return {name: timing for name, timing in self.timings.items()
                if timing.contender.computes and name != OURS}  # fmt: skip

    @property
    def rivals(self) -> list[Timing]:
        """The statements of other libraries that compute the same."""
        return [t for t in self.compared.values() if t.contender.library != OURS]

    @property
    def usual(self) -> Timing | None:
        """The statement that NumPy's users write."""
        return self.timings.get(self.cell.usual)

    def fastest(self, library: str = "") -> Timing | None:
        """The fastest rival, of one library or of all."""
        found = (t for t in self.rivals if library in ("", t.contender.library))
        return min(found, key=lambda timing: timing.ratio, default=None)

    @property
    def limit(self) -> Timing | None:
        """The pass that tells what is possible: NumPy's copy or sum; in place, the fastest one."""
        found = [timing for name, timing in self.timings.items() if name.startswith(ROOFLINE)]
        most = None if self.cell.mode == IN_PLACE else 1
        return min(found[:most], key=lambda timing: timing.ratio, default=None)

    @property
    def bandwidth(self) -> float:
        """GB/s of relu_ext, counting what it has to read and to write of contiguous arrays."""
        inputs = cases.OPERATIONS[self.cell.operation].operands
        return self.cell.nbytes * (len(inputs) + 1) / self.ours.ns


Cells = dict[Cell, Measured]


def measured(data: dict[str, Any]) -> Cells:
    """The cells of a results file that have numbers and a layout of today's, in its order."""
    found = {}
    for entry in data["cells"]:
        *values, visits, ring, times = entry.values()
        cell = Cell(*values)
        if visits and cell.layout in (*SIZED, *LAYOUTS):
            found[cell] = Measured(cell, times, ring)
    return found


def lost(cells: Cells) -> list[tuple[Measured, Timing]]:
    """Where a rival is faster than relu_ext beyond the noise, the worst first."""
    pairs = [(m, rival) for m in cells.values() if (rival := m.fastest())]
    found = [(m, rival) for m, rival in pairs if rival.ratio < NOISE_FLOOR and rival.high < 1]
    return sorted(found, key=lambda pair: pair[1].ratio)


def time_text(ns: float) -> str:
    unit, scale = next(((u, s) for u, s in UNITS.items() if ns >= 0.9995 * s), ("ns", 1))
    return f"{ns / scale:#.3g}".rstrip(".") + f" {unit}"


def number_text(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
