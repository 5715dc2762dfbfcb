"""How a number comes about: fresh input, contenders in turn, ratios within one round.

A visit to a cell allocates its buffers anew, then times round after round: every contender once,
in shuffled order, over the same ring of buffers, refilled with other numbers before each.
A ratio is that of two times of one round, so that whatever slows the machine down for longer than
a round slows both; the slowest contenders take part in some rounds only, and are held against the
median of relu_ext's times around them. Each visit to a cell is in another process, and they are
spread over the whole run; the interval is bootstrapped over visits, because what differs from visit
to visit (where code and heap lie, the neighbours) does not average out within one, and widened by
what differs from run to run. Time that is left goes to the cells whose intervals it can still make
narrow.
"""

from __future__ import annotations

import ast
import functools
import gc
import mmap
import re
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import relu_ext
import scipy.special
from relu_ext import ufuncs

import cases
import machine
from cases import IN_PLACE, NEW, OPERATIONS, OTHER_FUNCTIONS, OURS, Cell, Contender
from results import GOOD_HALF_WIDTH

# The oracle has one home; the tests use it too.
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
import reference

Call = Callable[..., Any]
Loop = Callable[[list[Any], list[Any]], int]

MOST_ROUNDS, LEAST_ROUNDS = 24, 2
LEAST_VISITS, MOST_VISITS = 6, 100
SLOW, BLOCK = 10, 8
"""Who takes so many times as long as relu_ext is timed in one of so many rounds: three quarters of
the time of a full run went to such contenders, whose own times are the steadiest of all."""
RESAMPLES = 400
RUN = 0.02
"""What all processes of a run share and the next run does not, as half of a 95 % interval: with it
the differences between 4,910 ratios of two full runs of one commit lay within their intervals as
often as they should (5.5 % outside; without it 13 %)."""
FRESH = 2**20
"""So many elements have signs that a branch predictor does not remember from round to round."""
NUMPY_ALIGNMENT, TORCH_ALIGNMENT, MMAP_THRESHOLD, PAGE = 16, 64, 128 * 2**10, 4096
"""With glibc's malloc: where successive arrays come to lie is part of what a user gets."""
HUGE_PAGE = 2**21
RING_LEVELS = (("L1", 2, 32), ("L2", 2, 2))
"""A ring is half of the first cache (by name, share, least) to hold so many; else one buffer."""


def memory(nbytes: int) -> np.ndarray:
    """Bytes in huge pages, where the system has them.

    So that the second and third caches, which go by physical addresses, treat every visit alike.
    From visit to visit, ratios to PyTorch at 2^20 float32 differed by 9.7 % in small pages and by
    2.6 % in huge ones, those to np.maximum at 16,384 by 5.4 and 2.7 %; no median moved by 2 %.
    """
    pages = mmap.mmap(-1, nbytes + 2 * HUGE_PAGE)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):
            pages.madvise(mmap.MADV_HUGEPAGE)
    found = np.frombuffer(pages, np.uint8)
    start = -found.ctypes.data % HUGE_PAGE
    return found[start : start + nbytes]


class Buffers:
    """The ring of one visit: operands in one arena, laid out as malloc would lay them out."""

    def __init__(
        self,
        cell: Cell,
        caches: Mapping[str, int],
        alignment: int = NUMPY_ALIGNMENT,
        pages: Callable[[int], np.ndarray] = memory,
    ):
        dtype = cases.numpy_dtype(cell.dtype)
        small = cell.nbytes + alignment < MMAP_THRESHOLD
        slot = cell.nbytes + (alignment if small else TORCH_ALIGNMENT)  # malloc's header in between
        slot += -slot % (alignment if small else PAGE)
        step = slot * len(cell.operands)
        self.cell, self.warm, count = cell, 0, 1
        for level, share, least in RING_LEVELS:
            if caches.get(level, 0) // share // step >= least:
                self.warm, count = 1, caches[level] // share // step
                break
        self.total = count * step
        fitting = [level for level, size in caches.items() if self.total <= size]
        self.resident = min(fitting, key=caches.__getitem__, default="memory")
        self.arena = pages(TORCH_ALIGNMENT + self.total)[alignment:][: self.total]
        self.rows = [
            {
                name: self.arena[at : at + cell.nbytes].view(dtype)
                for name, at in zip(cell.operands, range(row, row + step, slot), strict=True)
            }
            for row in range(0, self.total, step)
        ]
        self.all = self.arena.view(dtype)
        self.pool = {False: cases.inputs(dtype, self.all.size + FRESH)}
        self.all[:] = self.pool[False][: self.all.size]
        self.repeats = cell.mode != IN_PLACE and self.all.size >= FRESH

    def described(self) -> dict[str, Any]:
        """What a reader of the results has to know of the ring."""
        count = len(self.rows) - self.warm
        return {"count": count, "bytes": self.total, "resident_in": self.resident}

    def refill(self, at: int, rectified: bool = False) -> None:
        """Other numbers into every buffer, unless there are too many to be remembered anyway."""
        if not self.repeats:
            np.copyto(self.all, self.pool[rectified][at : at + self.all.size])
        if self.resident in ("L1", "L2"):
            # The numbers that were read to fill it may have driven it out: half of the processes
            # began with 1.4 times the time at 16,384 float32 and fell back after some visits.
            self.arena.max()

    def rectify(self) -> None:
        """Prepare a second filling: what the operation leaves of the first."""
        self.pool[True] = oracle(self.cell, OURS, {"x": self.pool[False]})

    def views(self, library: str) -> list[Any]:
        """What a loop iterates over: arrays as the library has them, in tuples where several."""
        rows = [tuple(cases.view(library, a) for a in row.values()) for row in self.rows]
        return [row[0] for row in rows] if len(self.cell.operands) == 1 else rows


def oracle(cell: Cell, contender: str, row: Mapping[str, np.ndarray]) -> np.ndarray:
    """What a contender must make of the operands: the operation, or another that is named."""
    operation = OPERATIONS[cell.operation]
    arrays = [row[name] for name in operation.operands]
    if other := OTHER_FUNCTIONS.get((cell.operation, contender)):
        return np.asarray(other(*(array.astype(np.float64) for array in arrays)))
    takes_one_more = getattr(ufuncs, cell.operation).nin > len(arrays)
    number = cases.slope_of(arrays[0].dtype) if operation.slope else 0
    return reference.evaluate(cell.operation, arrays, number if takes_one_more else None)


class _Bind(ast.NodeTransformer):
    """Look dotted names up beforehand, so that every contender calls a local variable."""

    def __init__(self, names: dict[str, object]):
        self.names = names

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        path = ast.unparse(node)
        root = self.names.get(path.partition(".")[0])
        if not isinstance(root, ModuleType) or not path.replace(".", "").isidentifier():
            return self.generic_visit(node)
        name = path.replace(".", "_")
        self.names[name] = eval(path, {}, self.names)
        return ast.copy_location(ast.Name(name, ast.Load()), node)


def compile_statement(cell: Cell, contender: Contender, size: int) -> tuple[Call, Loop]:
    """One call of the statement, and the loop that is timed: the same loop for everyone.

    ImportError where the contender's library is not installed.
    """
    names = cases.namespace(contender.library, cases.numpy_dtype(cell.dtype), size)
    statement = contender.statement
    if contender.library == "numba":
        statement = cases.numba_statement(statement, cell, names)
    tree = _Bind(names).visit(ast.parse(statement))
    statement, operands = ast.unparse(tree), ", ".join(cell.operands)
    # No other names: numexpr copies all variables of its caller.
    bound = "".join(f", {name}={name}" for name in names if re.search(rf"\b{name}\b", statement))
    source = f"""
def call({operands}{bound}):
    {f"return {statement}" if cell.mode == NEW else f"{statement}; return {cell.written}"}

def loop(warm, ring, clock=clock{bound}):
    for {operands} in warm:
        {statement}
    start = clock()
    for {operands} in ring:
        {statement}
    return clock() - start
"""
    scope: dict[str, Any] = names | {"clock": time.perf_counter_ns}
    exec(source, scope)
    return scope["call"], scope["loop"]


class Refused(Exception):
    """A contender does not take the dtype."""


def right(
    result: np.ndarray, expected: np.ndarray, exact: bool, dtype: np.dtype[Any]
) -> np.ndarray:
    """Where two arrays hold the same numbers, signs of zero aside."""
    if not exact:
        # x and g reach 5: terms of up to 125 that cancel, which bfloat16 rounds to 8 bits.
        tolerance = 0.5 if dtype.itemsize < 4 else 1e-5
        return np.asarray(np.isclose(result.astype(float), expected, tolerance, tolerance))
    result = result.astype(expected.dtype)
    return np.asarray((result == expected) | ((result != result) & (expected != expected)))


def answer(cell: Cell, contender: Contender, row: Mapping[str, np.ndarray]) -> np.ndarray:
    """One call; ImportError where it is not installed, Refused where it does not take the dtype."""
    dtype = row["x"].dtype
    try:
        call, _ = compile_statement(cell, contender, row["x"].size)
        views = [cases.view(contender.library, row[name]) for name in cell.operands]
        result = cases.as_numpy(call(*views))
    except ImportError:
        raise
    except Exception as error:
        raise Refused(str(error).strip().partition("\n")[0] or type(error).__name__) from error
    if not np.can_cast(dtype, result.dtype):
        raise Refused(f"computes in {result.dtype}")
    return result


def differences(cell: Cell, contender: Contender) -> list[str]:
    """Check a contender at the ends of its dtype's range; list where it departs from the contract.

    AssertionError where it computes something else on finite input.
    """
    dtype, found = cases.numpy_dtype(cell.dtype), []
    exact = (cell.operation, contender.name) not in OTHER_FUNCTIONS
    for finite in (True, False) if exact else ():
        columns = cases.edges(dtype, finite)
        # Repeated, so that the body of a vectorised loop sees them and not its remainder alone.
        row = {name: np.tile(column, 64) for name, column in columns.items()}
        if not row["x"].size:
            continue
        expected = oracle(cell, contender.name, row)
        result = answer(cell, contender, row | {"o": np.empty_like(expected)})
        if finite and result.dtype != dtype:
            found.append(f"returns {result.dtype}")
        same = right(result, expected, exact, dtype)
        if not finite:
            same &= (np.signbit(result) == np.signbit(expected)) | (result != result)
        for at in np.flatnonzero(~same.reshape(64, -1).all(axis=0)):
            given = {name: columns[name][at] for name in OPERATIONS[cell.operation].operands}
            where = ", ".join(f"{name} = {shown(value)}" for name, value in given.items())
            found.append(f"{where}: {shown(result[at])}, not {shown(expected[at])}")
            assert not finite, f"{cell}: {contender.statement}: {found[-1]}"
    return found


def shown(value: Any) -> str:
    """An edge of a dtype, by the same name in all of them."""
    subnormal = value != 0 and abs(value) < 1e-6
    return f"{'-' if value < 0 else ''}subnormal" if subnormal else f"{float(value):.4g}"


@dataclass(frozen=True)
class Ready:
    """A contender that has been compiled, and its buffers, as its library views them."""

    call: Call
    loop: Loop
    views: list[Any]
    buffers: Buffers


@dataclass(eq=False)
class Experiment:
    """A cell with everyone who can take part, and the times of all visits so far."""

    cell: Cell
    contenders: list[Contender]
    caches: Mapping[str, int]
    absent: dict[str, str] = field(default_factory=dict)
    differs: dict[str, list[str]] = field(default_factory=dict)
    visits: list[dict[str, list[float]]] = field(default_factory=list)
    """The times of each visit by contender, of the rounds in which it took part."""
    every: dict[str, int] = field(default_factory=dict)
    """A contender takes part in one round out of so many."""
    ring: dict[str, Any] = field(default_factory=dict)
    checked: bool = False
    rounds: int = 0
    seconds: float = float("inf")
    """What the shortest visit took."""

    def without_visits(self) -> Experiment:
        """What another process has to know to visit."""
        return replace(self, visits=[])

    def absorb(self, other: Experiment) -> None:
        """Take over what another process found out."""
        vars(self).update(vars(other), visits=self.visits + other.visits)

    @np.errstate(all="ignore")
    def prepare(self) -> dict[Contender, Ready]:
        """Compile everyone; on the first visit check every result before anything is timed."""
        pages = functools.cache(memory)  # the same for all who need as much
        buffers_of = functools.cache(
            lambda alignment: Buffers(self.cell, self.caches, alignment, pages)
        )
        expected = functools.cache(
            lambda who, buffers: [oracle(self.cell, who, row) for row in buffers.rows]
        )
        found = {}
        for contender in self.contenders:
            name, first = contender.name, contender.computes and not self.checked
            own = name == cases.OWN_TENSORS
            buffers = buffers_of(TORCH_ALIGNMENT if own else NUMPY_ALIGNMENT)
            try:
                if name not in self.absent:
                    if first:
                        self.differs[name] = differences(self.cell, contender)
                    call, loop = compile_statement(self.cell, contender, self.cell.size)
                    with cases.surroundings(contender):
                        views = buffers.views(contender.library)
                    found[contender] = Ready(call, loop, views, buffers)
            except ImportError:
                self.absent[name] = "not installed"
            except (Refused, TypeError) as refusal:
                if contender.library == OURS:
                    raise
                self.absent[name] = f"refuses {self.cell.dtype}: {refusal}"
            if first and contender in found:
                exact = (self.cell.operation, name) not in OTHER_FUNCTIONS
                buffers.refill(0)
                answers = expected(OURS if exact else name, buffers)
                with cases.surroundings(contender):
                    same = self.answers_alike(found[contender], answers, exact)
                assert same, f"{self.cell}: {contender.statement} differs from the oracle"
        self.ring = buffers_of(NUMPY_ALIGNMENT).described()
        self.checked = True
        return found

    def answers_alike(self, ready: Ready, expected: list[np.ndarray], exact: bool) -> bool:
        """Whether a statement, over the very ring that will be timed, gives the right numbers."""
        if self.cell.mode == NEW:
            several = len(self.cell.operands) > 1
            given = (ready.call(*view) if several else ready.call(view) for view in ready.views)
        else:
            ready.loop([], ready.views)
            given = (row[self.cell.written] for row in ready.buffers.rows)
        pairs = zip(map(cases.as_numpy, given), expected, strict=True)
        dtype = cases.numpy_dtype(self.cell.dtype)
        return all(right(result, answer, exact, dtype).all() for result, answer in pairs)

    def visit(self, seconds: float, seed: int) -> None:
        """Time rounds for about so many seconds; the first visit fixes how many for all."""
        began, rng = time.perf_counter(), np.random.default_rng(seed)
        ready = self.prepare()
        for contender, one in ready.items():
            if contender.rectified:
                one.buffers.rectify()
        machine.equalise(self.cell.threads)
        times: dict[str, list[float]] = {contender.name: [] for contender in ready}
        order, turn = list(ready), {contender: at for at, contender in enumerate(ready)}

        def one_round(number: int, everyone: bool = False) -> dict[str, float]:
            """Time those whose turn it is; return the seconds that each took, refilled and all."""
            took = {}
            rng.shuffle(order)
            for contender in order:
                name = contender.name
                if not everyone and (number + turn[contender]) % self.every[name]:
                    continue
                start = time.perf_counter()
                views, buffers = ready[contender].views, ready[contender].buffers
                if self.cell.threads > 1:
                    relu_ext.set_num_threads(contender.threads)
                buffers.refill(int(rng.integers(FRESH)), contender.rectified)
                with cases.surroundings(contender):
                    elapsed = ready[contender].loop(views[: buffers.warm], views[buffers.warm :])
                times[name].append(elapsed / (len(views) - buffers.warm))
                took[name] = time.perf_counter() - start
            return took

        gc.disable()
        try:
            one_round(0, everyone=True)
            if not self.rounds:
                took = one_round(0, everyone=True)
                slow = {name for name, t in times.items() if t[-1] > SLOW * times[OURS][-1]}
                cost = sum(t / (BLOCK if name in slow else 1) for name, t in took.items())
                rounds = int(min(max(seconds / cost, LEAST_ROUNDS), MOST_ROUNDS))
                self.rounds = rounds - rounds % min(rounds, BLOCK)
                self.every = {name: min(rounds, BLOCK) if name in slow else 1 for name in times}
            for recorded in times.values():
                recorded.clear()
            for number in range(self.rounds):
                one_round(number)
        finally:
            gc.enable()
        self.visits.append(times)
        self.seconds = min(self.seconds, time.perf_counter() - began)

    def times(self, name: str) -> np.ndarray:
        """[visit, round], of the rounds in which the contender took part."""
        return np.array([visit[name] for visit in self.visits])

    def ratios(self, name: str) -> np.ndarray:
        """[visit, round]: how many times as long as relu_ext's median of the rounds around it."""
        times = self.times(name)
        return times / np.median(self.times(OURS).reshape(*times.shape, -1), axis=2)

    def seconds_to_good(self) -> float:
        """How long it would take to make the widest interval narrow enough, of those that do not
        take too many visits; 0 where none is wide.

        By the normal approximation for a median of visits: cheap enough to be asked after each.
        """
        count = len(self.visits)
        if count < LEAST_VISITS:
            return (LEAST_VISITS - count) * self.seconds
        rivals = [c.name for c in self.contenders if c.computes and c.name in self.visits[0]]
        medians = np.array([np.median(self.ratios(name), axis=1) for name in rivals])
        deviations = np.std(medians, axis=1, ddof=1) / np.mean(medians, axis=1)
        # The standard error of a median is that of a mean times the root of pi / 2.
        half_widths = reach(count) * (np.pi / 2 / count) ** 0.5 * deviations
        visits = count * half_widths**2 / (GOOD_HALF_WIDTH**2 - RUN**2)
        return self.seconds * max(visits.max(where=visits <= MOST_VISITS, initial=0) - count, 0.0)

    def results(self, rng: np.random.Generator) -> dict[str, object]:
        """Every number of the cell, as it goes into the file."""
        entries = []
        for contender in self.contenders:
            status = self.absent.get(contender.name, "measured")
            entry = asdict(contender) | {"library": contender.library, "status": status}
            if status == "measured" and self.visits:
                times, ratios = self.times(contender.name), self.ratios(contender.name)
                entry["differs"] = self.differs.get(contender.name, [])
                entry["rounds"] = times.shape[1]
                entry |= {"ns": summary(times, rng), "ratio": summary(ratios, rng)}
            entries.append(entry)
        count = {"visits": len(self.visits), "rounds": self.rounds}
        return asdict(self.cell) | count | {"ring": self.ring, "contenders": entries}


def reach(visits: int) -> float:
    """How many standard errors a 95 % interval has to reach to either side.

    A percentile bootstrap of few samples is too narrow, by Student's t for the normal quantile and
    by n for n - 1: Hesterberg's "expanded percentile" (The American Statistician 69, 2015).
    """
    few = visits / max(visits - 1, 1)
    return float(few**0.5 * scipy.special.stdtrit(max(visits - 1, 1), 0.975))


def summary(samples: np.ndarray, rng: np.random.Generator) -> dict[str, object]:
    """Median, 95 % interval and quartiles of samples[visit, round], and each visit's median."""
    visits = len(samples)
    resampled = samples[rng.integers(visits, size=(RESAMPLES, visits))]
    outside = scipy.special.ndtr(-reach(visits))
    median = np.median(samples)
    ends = np.quantile(np.median(resampled, axis=(1, 2)), (outside, 1 - outside))
    reaches = np.hypot(ends - median, RUN * median)
    quartiles = np.quantile(samples, (0.25, 0.75))
    numbers = (median, median - reaches[0], median + reaches[1], *quartiles)
    names = ("median", "low", "high", "quartile_1", "quartile_3")
    found = {name: float(f"{n:.6g}") for name, n in zip(names, numbers, strict=True)}
    return found | {"visits": [float(f"{n:.6g}") for n in np.median(samples, axis=1)]}
