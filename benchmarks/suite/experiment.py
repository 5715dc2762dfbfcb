"""Measure one cell: time its contenders in turn on fresh input, and compare within one round.

A visit to a cell allocates its buffers anew and times several rounds. In a round, every contender
runs once, in shuffled order, over the same ring of buffers, refilled with other numbers before each
(JAX keeps copies). A ratio compares two times of one round, so that whatever slows the machine down
for longer slows both. Contenders that are much slower than relu_ext take part in some rounds only,
and are compared with the median of relu_ext's times of the rounds around them.

The visits are spread over the whole run, and no two share an interpreter: the addresses of code and
heap and the hashes of strings differ between two starts of Python, but not while it runs. So the
interval is bootstrapped over visits. It is widened by what differs from run to run, and the time
that is left goes to the cells whose intervals it can still make narrow.
"""

import gc
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np
import relu_ext
import scipy.special

from suite import buffers as ring
from suite import cases, machine, statements
from suite.buffers import Buffers, oracle
from suite.cases import OURS, Cell, Contender
from suite.files import BENCHMARKS
from suite.layouts import CONTIGUOUS, TENSORS
from suite.results import GOOD_HALF_WIDTH
from suite.statements import Loop, Refused, refusals

MOST_ROUNDS, LEAST_ROUNDS = 24, 2
LEAST_VISITS, MOST_VISITS = 6, 100
SLOW, BLOCK = 10, 8
"""A contender that takes SLOW times as long as relu_ext is timed in one of BLOCK rounds: such
contenders took three quarters of the time of a full run, and their own times are the steadiest."""
KERNELS = ("NUMBA_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")
RESAMPLES = 400
RUN = 0.02
"""Half of a 95 % interval for what all processes of a run share and the next run does not.

Two full runs of one commit had 4,910 ratios in common. With this number 5.5 % of them differed by
more than their intervals, which is as expected; without it 13 % did.
"""


def right(result: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Where two arrays hold the same numbers, signs of zero aside."""
    result = result.astype(expected.dtype)
    return np.asarray((result == expected) | ((result != result) & (expected != expected)))


def rounds_otherwise(result: np.ndarray, expected: np.ndarray) -> bool:
    """Whether halves are off by one unit at most: a product computed in float32 is rounded once."""
    if result.dtype != expected.dtype or result.dtype.name not in ("float16", "bfloat16"):
        return False
    units = result.view("i2").astype(int) - expected.view("i2")
    return bool((np.abs(units) <= 1).all())


def differences(cell: Cell, contender: Contender) -> list[str]:
    """List where a contender departs from the contract at the ends of its dtype's range.

    Raise AssertionError if it computes something else on finite input.
    """
    dtype, found = np.dtype(cell.dtype), []
    for finite, columns in ring.edges(dtype):
        # Repeated, so that the body of a vectorised loop sees them and not its remainder alone.
        row = {name: np.tile(column, 64) for name, column in columns.items()}
        flat = replace(cell, layout=CONTIGUOUS, size=row["x"].size)
        (expected,) = oracle(flat, row)
        row["o"] = np.empty_like(expected)
        call, _ = statements.compile_statement(flat, contender)
        with refusals():
            views = [statements.view(contender.library, row[name]) for name in cell.operands]
            result, *_ = statements.as_arrays(call(*views))
        if result.dtype != dtype:
            raise Refused(f"computes in {result.dtype}")
        same = right(result, expected)
        if not finite:
            same &= (np.signbit(result) == np.signbit(expected)) | (result != result)
        for at in np.flatnonzero(~same.reshape(64, -1).all(axis=0)):
            given = {name: columns[name][at] for name in cases.OPERATIONS[cell.operation].operands}
            where = ", ".join(f"{name} = {shown(value)}" for name, value in given.items())
            found.append(f"{where} gives {shown(result[at])} instead of {shown(expected[at])}")
            assert not finite, f"{cell}: {contender.statement}: {found[-1]}"
    return found


def shown(value: Any) -> str:
    """A number at the edge of a dtype, by the same name for all dtypes."""
    subnormal = value != 0 and abs(value) < 1e-6
    return f"{'-' if value < 0 else ''}subnormal" if subnormal else f"{float(value):.4g}"


Ready = tuple[Loop, list[Any], Buffers]
"""The loop of a contender, and its buffers, before and after they are viewed by its library."""


@dataclass(eq=False)
class Experiment:
    """A cell, the contenders that take part in it, and the times of all visits so far."""

    cell: Cell
    contenders: list[Contender]
    caches: Mapping[str, int]
    absent: dict[str, str] = field(default_factory=dict)
    """Why a contender does not take part."""
    differs: dict[str, list[str]] = field(default_factory=dict)
    """Where a contender departs from the contract of values."""
    visits: list[dict[str, list[float]]] = field(default_factory=list)
    """The times of each visit by contender, of the rounds in which it took part."""
    every: dict[str, int] = field(default_factory=dict)
    """A contender takes part in one round out of this many."""
    resident: str = ""
    """The smallest cache that holds the ring."""
    rounds: int = 0
    """The rounds of a visit; 0 before the first, which checks the contenders."""
    seconds: float = float("inf")
    """The duration of the shortest visit."""

    @np.errstate(all="ignore")
    def prepare(self) -> dict[Contender, Ready]:
        """Compile every contender.

        On the first visit, raise AssertionError if one is wrong over the ring that will be timed.
        """
        pages = cache(ring.memory)  # buffers of the same size share their memory
        buffers_of = cache(lambda cell, alignment: Buffers(cell, self.caches, alignment, pages))
        expected = cache(lambda buffers: [oracle(buffers.cell, row) for row in buffers.rows])
        found = {}
        for contender in self.contenders:
            name, cell = contender.name, contender.cell or self.cell
            check = contender.computes and not self.rounds
            own = name == cases.OWN_TENSORS or self.cell.layout == TENSORS
            buffers = buffers_of(cell, ring.TORCH_ALIGNMENT if own else ring.NUMPY_ALIGNMENT)
            self.resident = buffers.resident if name == OURS else self.resident
            if name in self.absent:
                continue
            special = cell.where.slopes or cell.where.other[0] or contender.cell
            at_edges = cell.operation in cases.ELEMENTWISE and not special
            try:
                if check:
                    self.differs[name] = differences(cell, contender) if at_edges else []
                call, loop = statements.compile_statement(cell, contender)
                if check:
                    buffers.fill(0)  # buffers of another alignment may share the memory
                with statements.surroundings(contender):
                    tensors = cell.layout == TENSORS and name == OURS
                    views = buffers.views(cases.TORCH if tensors else contender.library)
                if check:
                    for row, wanted in zip(views, expected(buffers), strict=True):
                        operands = row if isinstance(row, tuple) else (row,)
                        with statements.surroundings(contender), refusals():
                            results = statements.as_arrays(call(*operands))
                        pairs = list(zip(results, wanted, strict=contender.library != cases.TORCH))
                        sums = cell.operation in cases.SUMS and contender.library != OURS
                        error = sums * (0.2 if np.dtype(cell.dtype).itemsize == 2 else 1e-3)
                        same = all(np.isclose(*pair, error, error).all() if error else
                                   right(*pair).all() for pair in pairs)  # fmt: skip
                        if not same and all(rounds_otherwise(*pair) for pair in pairs):
                            raise Refused("rounds to another number")
                        assert same, f"{cell}: {contender.statement} differs from the oracle"
                if not (self.rounds or contender.computes):
                    with statements.surroundings(contender), refusals():
                        call(*(views[0] if isinstance(views[0], tuple) else views[:1]))
                found[contender] = (loop, views, buffers)
            except ImportError:
                self.absent[name] = "not installed"
            except Refused as refusal:
                if contender.library == OURS:
                    raise
                self.absent[name] = f"refuses {cell.dtype}: {refusal}"
        return found

    def visit(self, seconds: float, seed: int) -> None:
        """Time rounds for about that long; the first visit fixes their number for all visits."""
        began, rng = time.perf_counter(), np.random.default_rng(seed)
        ready = self.prepare()
        machine.equalise(self.cell.threads)
        times: dict[str, list[float]] = {contender.name: [] for contender in ready}

        def one_round(contenders: list[Contender]) -> dict[str, float]:
            """Time these contenders; return the seconds that each takes, refilled."""
            took = {}
            rng.shuffle(contenders)
            for contender in contenders:
                name, (loop, views, buffers) = contender.name, ready[contender]
                start = time.perf_counter()
                if self.cell.threads > 1:
                    relu_ext.set_num_threads(1 if name == cases.ONE_THREAD else self.cell.threads)
                buffers.refill(int(rng.integers(ring.FRESH)))
                with statements.surroundings(contender):
                    elapsed = loop(views[: buffers.warm], views[buffers.warm :])
                times[name].append(elapsed / (len(views) - buffers.warm))
                took[name] = time.perf_counter() - start
            return took

        gc.disable()
        try:
            one_round(list(ready))
            if not self.rounds:
                took = one_round(list(ready))
                slow = {name for name, t in times.items() if t[-1] > SLOW * times[OURS][-1]}
                cost = sum(t / (BLOCK if name in slow else 1) for name, t in took.items())
                rounds = int(min(max(seconds / cost, LEAST_ROUNDS), MOST_ROUNDS))
                self.rounds = rounds - rounds % min(rounds, BLOCK)
                self.every = {name: min(rounds, BLOCK) if name in slow else 1 for name in times}
            for recorded in times.values():
                recorded.clear()
            for number in range(self.rounds):
                turns = enumerate(ready, number)
                one_round([c for turn, c in turns if turn % self.every[c.name] == 0])
        finally:
            gc.enable()
        self.visits.append(times)
        self.seconds = min(self.seconds, time.perf_counter() - began)

    def times(self, name: str) -> np.ndarray:
        """[visit, round], of the rounds in which the contender took part."""
        return np.array([visit[name] for visit in self.visits])

    def ratios(self, name: str) -> np.ndarray:
        """[visit, round]: the time, divided by relu_ext's median of the rounds around it."""
        times = self.times(name)
        return times / np.median(self.times(OURS).reshape(*times.shape, -1), axis=2)

    def seconds_to_good(self) -> float:
        """The time that would make the widest interval narrow enough, or 0 if none is wide.

        Intervals that would take too many visits do not count. This is the normal approximation
        for a median of visits, which is cheap enough to be computed after each.
        """
        count = len(self.visits)
        if count < LEAST_VISITS:
            return (LEAST_VISITS - count) * self.seconds
        names = [c.name for c in self.contenders if c.computes and c.name in self.visits[0]]
        medians = np.array([np.median(self.ratios(name), axis=1) for name in names])
        deviations = np.std(medians, axis=1, ddof=1) / np.mean(medians, axis=1)
        # The standard error of a median is that of a mean times the root of pi / 2.
        half_widths = reach(count) * (np.pi / 2 / count) ** 0.5 * deviations
        visits = count * half_widths**2 / (GOOD_HALF_WIDTH**2 - RUN**2)
        return self.seconds * max(visits.max(where=visits <= MOST_VISITS, initial=0) - count, 0.0)

    def results(self, rng: np.random.Generator) -> dict[str, Any]:
        """The cell as it goes into a results file."""
        found = vars(self.cell) | {"visits": len(self.visits), "ring": self.resident, "times": {}}
        for name in self.visits[0] if self.visits else ():
            ns, ratios = np.median(self.times(name)), self.ratios(name)
            numbers = (ns, *summary(ratios, rng))
            found["times"][name] = [float(f"{number:.4g}") for number in numbers]
        return found


def reach(visits: int) -> float:
    """How many standard errors a 95 % interval has to reach to either side.

    A percentile bootstrap of few samples is too narrow, by Student's t for the normal quantile and
    by n for n - 1: Hesterberg's "expanded percentile" (The American Statistician 69, 2015).
    """
    few = visits / max(visits - 1, 1)
    return float(few**0.5 * scipy.special.stdtrit(max(visits - 1, 1), 0.975))


def summary(samples: np.ndarray, rng: np.random.Generator) -> tuple[float, float, float]:
    """The median of samples[visit, round] and both ends of its 95 % interval.

    `scipy.stats.bootstrap` reduces along one axis, but what is drawn here are whole visits.
    """
    visits = len(samples)
    resampled = samples[rng.integers(visits, size=(RESAMPLES, visits))]
    outside = scipy.special.ndtr(-reach(visits))
    median = np.median(samples)
    ends = np.quantile(np.median(resampled, axis=(1, 2)), (outside, 1 - outside))
    reaches = np.hypot(ends - median, RUN * median)
    return median, median - reaches[0], median + reaches[1]


@contextmanager
def worker(level: str, kernels: str) -> Iterator[Callable[[Any, float, int], None]]:
    """`visit` of an experiment in a fresh interpreter, given the CPU level and a cache of kernels.

    The process is in a session of its own, so that Ctrl-C reaches its parent alone.
    """
    path = f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r})"
    process = subprocess.Popen(
        [sys.executable, "-c", f"{path}; from suite import experiment; experiment.serve()"],
        env=os.environ | {"RELU_EXT_CPU_LEVEL": level} | dict.fromkeys(KERNELS, kernels),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin and process.stdout
    requests, replies = process.stdin, process.stdout

    def visit(experiment: Any, seconds: float, seed: int) -> None:
        try:
            pickle.dump((replace(experiment, visits=[]), seconds, seed), requests)
            requests.flush()
            found = pickle.load(replies)
        except (EOFError, BrokenPipeError) as error:
            text = f"the process that visited {experiment.cell} ended with {process.wait()}"
            raise RuntimeError(text) from error
        vars(experiment).update(vars(found), visits=experiment.visits + found.visits)

    try:
        yield visit
    finally:
        process.kill()
        process.communicate()


def serve() -> None:
    """Visit the experiments that arrive on standard input, and reply on standard output."""
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not mix with the replies
    with suppress(EOFError):
        while True:
            experiment, seconds, seed = pickle.load(requests)
            experiment.visit(seconds, seed)
            pickle.dump(experiment, replies)
            replies.flush()
