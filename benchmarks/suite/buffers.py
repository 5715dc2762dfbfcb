"""Provide the operands of a visit, a ring of buffers with fresh numbers, and the right answers."""

import math
import mmap
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from suite import statements
from suite.cases import DESCRIBED, IN_PLACE, OPERATIONS, SUMS, TORCH, Cell

# The oracle has one home; the tests use it too.
sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))
import reference

PERIOD = 2**22
"""The number of random numbers, after which they repeat."""
FRESH = 2**20
"""The number of elements whose signs a branch predictor does not remember from round to round."""
NUMPY_ALIGNMENT, TORCH_ALIGNMENT, MMAP_THRESHOLD, PAGE = 16, 64, 128 * 2**10, 4096
"""Those of glibc's malloc: where it puts successive arrays is part of what a user gets."""
HUGE_PAGE = 2**21
RING_LEVELS = {"L1": 32, "L2": 2}
"""A ring fills half of the first of these caches whose half holds the operands of this many calls.
If there is none, the ring has the operands of one call."""


def memory(nbytes: int) -> np.ndarray:
    """Bytes in huge pages, where the system has them.

    With them the second and third caches, which go by physical addresses, treat every visit alike.
    From visit to visit, ratios to PyTorch at 2^20 float32 differed by 9.7 % in small pages and by
    2.6 % in huge ones, those to np.maximum at 16,384 by 5.4 and 2.7 %; no median moved by 2 %.
    """
    pages = mmap.mmap(-1, nbytes + 2 * HUGE_PAGE)
    with suppress(OSError):
        pages.madvise(mmap.MADV_HUGEPAGE)
    found = np.frombuffer(pages, np.uint8)
    start = -found.ctypes.data % HUGE_PAGE
    return found[start : start + nbytes]


@cache
@np.errstate(under="ignore")  # some are smaller than the smallest float16
def _random(dtype: np.dtype) -> np.ndarray:
    rng = np.random.default_rng(0)
    if dtype.kind == "b":
        return rng.integers(2, size=PERIOD, dtype=np.uint8).astype(bool)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, PERIOD, dtype, endpoint=True)
    return rng.standard_normal(PERIOD, dtype=np.float32).astype(dtype)


def inputs(dtype: np.dtype, size: int) -> np.ndarray:
    """Random numbers of either sign, the same at every call, which must not be overwritten."""
    values = _random(dtype)
    return values[:size] if size <= PERIOD else np.resize(values, size)


def edges(dtype: np.dtype) -> Iterator[tuple[bool, dict[str, np.ndarray]]]:
    """Operands at the finite ends of a dtype's range, then zeros and what is not finite.

    Subnormal numbers belong to the latter, because a library may treat them as zero. Each pair
    says whether the operands are the finite ones.
    """
    limits: Any
    if dtype.kind == "b":
        ends = np.array([0, 1], dtype)
    elif dtype.kind in "iu":
        limits = np.iinfo(dtype)
        ends = np.array([0, 1, limits.min, limits.max], dtype)
    else:
        limits = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
        ends = np.array([-limits.max, -1, 0, 1, limits.max], dtype)
    yield True, {"g": ends[::-1], "x": ends, "y": ends[::-1]}
    if dtype.kind not in "biu":
        least = limits.smallest_subnormal
        ends = np.array([np.nan, -0.0, 0.0, -np.inf, np.inf, -least, least], dtype)
        others = np.append(np.full_like(ends, 3), ends)
        yield False, {"g": others, "x": np.append(ends, np.full_like(ends, -1)), "y": others}


class Buffers:
    """The ring of one visit: operands in one arena, laid out as malloc would lay them out."""

    def __init__(
        self,
        cell: Cell,
        caches: Mapping[str, int],
        alignment: int = NUMPY_ALIGNMENT,
        pages: Callable[[int], np.ndarray] = memory,
    ):
        dtype, places, step = np.dtype(cell.dtype), {}, 0
        for name in cell.operands.replace("w", ""):
            places[name] = step
            nbytes = math.prod(cell.allocated(name)) * cell.dtype_of(name).itemsize
            small = nbytes + alignment < MMAP_THRESHOLD
            slot = nbytes + (alignment if small else TORCH_ALIGNMENT)  # malloc's header in between
            step += slot + -slot % (alignment if small else PAGE)
        calls = {level: caches.get(level, 0) // 2 // step for level in RING_LEVELS}
        count = next((n for level, n in calls.items() if n >= RING_LEVELS[level]), 0)
        self.cell, self.warm = cell, min(count, 1)
        total = max(count, 1) * step
        fitting = [level for level, size in caches.items() if total <= size]
        self.resident = min(fitting, key=caches.__getitem__, default="memory")
        self.arena = pages(TORCH_ALIGNMENT + total)[alignment:][:total]
        self.rows: list[dict[str, np.ndarray]] = []
        for start in range(0, total, step):
            row: dict[str, np.ndarray] = {}
            for name in cell.operands:
                if name == "w":
                    winners = inputs(np.dtype(np.uint8), start + row["g"].size)[start:]
                    row["w"] = (winners % cell.where.pieces).reshape(row["g"].shape)
                else:
                    place = start + places[name]
                    own = cell.dtype_of(name)
                    array = np.ndarray(cell.allocated(name), own, self.arena, place)
                    row[name] = cell.where.view(name, array)
            self.rows.append(row)
        self.all = self.arena.view(dtype)
        self.pool = inputs(dtype, self.all.size + FRESH)
        self.repeats = cell.mode != IN_PLACE and self.all.size >= FRESH
        self.fill(0)

    def fill(self, at: int) -> None:
        """Write the numbers of the pool from a place on into every buffer."""
        np.copyto(self.all, self.pool[at : at + self.all.size])
        name, dtype = self.cell.where.other
        for row in self.rows if name in self.cell.operands and name else ():
            size = row[name].size
            binary = self.cell.where.kind in ("mask", "where")
            values = inputs(np.dtype(bool if binary else dtype), at + size)[at:]
            np.copyto(row[name], values.view(dtype).reshape(row[name].shape))
            at += size

    def refill(self, at: int) -> None:
        """Write other numbers, unless there are too many for a predictor to remember anyway."""
        if not self.repeats:
            self.fill(at)
        if self.resident in ("L1", "L2"):
            # The numbers that were read to fill it may have driven it out: half of the processes
            # began with 1.4 times the time at 16,384 float32 and fell back after some visits.
            self.arena.max()

    def views(self, library: str) -> list[Any]:
        """What a loop iterates over: the library's arrays, or tuples of several of them."""
        rows = [tuple(statements.view(library, array) for array in self.given(library, row))
                for row in self.rows]  # fmt: skip
        return [row[0] for row in rows] if len(self.cell.operands) == 1 else rows

    def given(self, library: str, row: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The operands; of the pieces that won, as PyTorch knows them, the places in the plane."""
        where = self.cell.where
        if "w" not in row or library != TORCH or not isinstance(where.axis, tuple):
            return list(row.values())
        (above, below), (rows, columns) = where.axis, (where.shape[axis] for axis in where.axis)
        winners, index = row["w"].astype(int), np.indices(row["w"].shape, sparse=True)
        places = (index[above - 1] * rows + winners // columns) * where.shape[below - 1] * columns
        places += index[below - 2] * columns + winners % columns
        return [places if name == "w" else array for name, array in row.items()]


def oracle(cell: Cell, row: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    """The right results."""
    operation, axis = OPERATIONS[cell.operation], cell.where.axis
    arrays = [row[name] for name in operation.operands]
    with_slope = "slope" in operation.arguments
    if cell.operation in SUMS:
        slope = statements.slopes(cell) if with_slope else 0
        if "y" not in row:
            return reference.prelu_backward(*arrays, slope)
        return reference.add_backward(cell.operation.removeprefix("add_"), *arrays, slope)
    if "w" in row:
        return (reference.maxout_backward(row["g"], row["w"], cell.where.lengths, axis),)
    if axis is not None:
        return reference.maxout(row["x"], axis)[: 1 + ("which" in cell.operation)]
    number = statements.slopes(cell) if with_slope else DESCRIBED[operation.function].default
    found = reference.evaluate(operation.function, arrays, number)
    if cell.mode == IN_PLACE:
        found = found.astype(cell.dtype)
    return (np.where(row["m"], found, row["o"]) if "m" in row else found,)
