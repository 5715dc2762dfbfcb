"""Reading a results file: cells and ratios by name, and numbers as people read them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cases import (
    FIGURES,
    FLOOR,
    ONE_THREAD,
    OTHER_FUNCTIONS,
    OURS,
    OWN_TENSORS,
    ROOFLINE,
    Cell,
)

NOISE_FLOOR = 0.95
"""A cell is lost where the ratio lies below, and all of its interval below 1."""

GOOD_HALF_WIDTH = 0.05
"""Of an interval, as a share of the ratio: what a run aims at."""

UNITS = {"s": 1e9, "ms": 1e6, "µs": 1e3, "ns": 1.0}


@dataclass(frozen=True)
class Measured:
    """One cell of a results file."""

    cell: Cell
    entry: dict[str, Any]

    @property
    def contenders(self) -> dict[str, dict[str, Any]]:
        return {c["name"]: c for c in self.entry["contenders"] if "ns" in c}

    @property
    def ours(self) -> dict[str, Any]:
        return self.contenders[OURS]

    @property
    def rivals(self) -> dict[str, dict[str, Any]]:
        """Those who compute the same."""
        return {
            name: contender
            for name, contender in self.contenders.items()
            if name not in (OURS, FLOOR, ONE_THREAD)
            and not name.startswith(ROOFLINE)
            and (self.cell.operation, name) not in OTHER_FUNCTIONS
        }

    @property
    def compared(self) -> dict[str, dict[str, Any]]:
        """The rivals; of several threads, one of its own too."""
        one = self.contenders.get(ONE_THREAD)
        return self.rivals | ({ONE_THREAD: one} if one else {})

    def fastest(self, *names: str) -> dict[str, Any] | None:
        """The fastest of those so named, or of all; a name that ends in ': ' is a prefix."""
        prefixes = tuple(name for name in names if name.endswith(": "))
        found = [
            contender
            for name, contender in self.contenders.items()
            if (name in names or name.startswith(prefixes) if names else name in self.rivals)
        ]
        return min(found, key=lambda contender: contender["ratio"]["median"], default=None)

    def bandwidth(self, contender: dict[str, Any]) -> float:
        """GB/s, counting what the operation has to read and to write."""
        scale = contender["name"].startswith(ROOFLINE)
        traffic = 2 * self.cell.nbytes if scale else self.cell.traffic
        return float(traffic / contender["ns"]["median"])

    def share_of_roofline(self) -> float | None:
        """Our bandwidth, as a share of that of the fastest pass over the same buffers."""
        fastest = self.fastest(ROOFLINE)
        return self.bandwidth(self.ours) / self.bandwidth(fastest) if fastest else None


def measured(data: dict[str, Any]) -> dict[Cell, Measured]:
    """The cells of a results file that have numbers, in its order."""
    fields = ("operation", "dtype", "size", "mode", "threads")
    pairs = ((Cell(*(entry[f] for f in fields)), entry) for entry in data["cells"])
    return {cell: Measured(cell, entry) for cell, entry in pairs if entry["visits"]}


def figures(cells: dict[Cell, Measured]) -> Iterator[tuple[Measured, list[dict[str, Any]]]]:
    """The cells of FIGURES that were measured, with whom they are held against; and, so that
    nobody is passed over, with the fastest of all."""
    for cell, against in FIGURES.items():
        if found := cells.get(cell):
            rivals = [found.fastest(*names) for names in (*against, ())]
            yield found, list({rival["name"]: rival for rival in rivals if rival}.values())


def spelling(rival: dict[str, Any], quote: str = "") -> str:
    """What relu_ext is held against."""
    if rival["name"] == ONE_THREAD:
        return "the same, one thread"
    where = {"numba": ", a loop in numba", OWN_TENSORS: ", own tensors"}.get(rival["name"], "")
    return f"{quote}{rival['statement']}{quote}{where}"


def lost(cells: dict[Cell, Measured]) -> Iterator[tuple[Measured, dict[str, Any]]]:
    """Where somebody is faster than relu_ext beyond the noise."""
    for found in cells.values():
        rival = found.fastest()
        if rival and rival["ratio"]["median"] < NOISE_FLOOR and rival["ratio"]["high"] < 1:
            yield found, rival


def time_text(ns: float) -> str:
    unit, scale = next(((u, s) for u, s in UNITS.items() if ns >= 0.9995 * s), ("ns", 1))
    return f"{ns / scale:#.3g}".rstrip(".") + f" {unit}"


def number_text(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def ratio_text(ratio: dict[str, float]) -> str:
    return f"{number_text(ratio['median'])}×"


def interval_text(ratio: dict[str, float]) -> str:
    return f"{number_text(ratio['low'])}–{number_text(ratio['high'])}"
