"""Reading a results file: cells and ratios by name, and numbers as people read them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cases import FIGURES, FLOOR, ONE_THREAD, OTHER_FUNCTIONS, OURS, ROOFLINE, Cell

NOISE_FLOOR = 0.95
"""A cell is lost where the interval of the ratio lies below."""

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


def figures(cells: dict[Cell, Measured]) -> Iterator[tuple[Measured, dict[str, Any]]]:
    """The rows of FIGURES that were measured."""
    for cell, against in FIGURES.items():
        for names in against:
            if cell in cells and (rival := cells[cell].fastest(*names)):
                yield cells[cell], rival


def lost(cells: dict[Cell, Measured]) -> Iterator[tuple[Measured, dict[str, Any]]]:
    """Where somebody is faster than relu_ext beyond the noise."""
    for found in cells.values():
        rival = found.fastest()
        if rival and rival["ratio"]["high"] < NOISE_FLOOR:
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
