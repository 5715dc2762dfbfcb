"""Measure whole programs, those of the examples, with NumPy alone, with relu_ext and in PyTorch.

PyTorch has the same network, the same loss and the same numbers, eager and compiled; what they
return is compared before anything is timed. A visit is a process of its own, which times in turn
all contenders of a program, and its matrix products alone. Of the steps that are timed in part, the
clock runs only while bias, ReLU and their gradients are computed.
"""

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import numpy as np
import relu_ext

from suite import machine
from suite.cases import OURS
from suite.experiment import summary
from suite.files import BENCHMARKS

sys.path.append(str(BENCHMARKS.parent / "examples"))
import conv_digits
import dense_digits as dense_digits
import float16_prelu
import policy

NUMPY, EAGER, COMPILED, PRODUCTS = "NumPy", "PyTorch", "PyTorch, compiled", "matrix products"
NUMPY_SUMS = "relu_ext, sums by NumPy"
POLICY, INFERENCE, TRAINING = "one observation", "inference", "a step of training"
PART = "bias and ReLU alone, in a step of training"
CONVOLUTION, FLOAT16 = "convolution and max-pooling, training", "float16, PReLU and max-pooling"
ROUNDS, RATE = 7, 0.1
"""How often a visit times each contender, and the learning rate."""
Call = Callable[..., Any]
Calls = dict[str, Call]


class Clock:
    """The seconds that were spent within the functions which it was put around."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def around(self, function: Call) -> Call:
        def timed(*operands: Any) -> Any:
            start = time.perf_counter()
            returned = function(*operands)
            self.seconds += time.perf_counter() - start
            return returned

        return timed


def numpy_sums(grad: np.ndarray, output: np.ndarray, _: np.ndarray) -> tuple[Any, Any]:
    return relu_ext.relu_backward_(grad, output), grad.sum(axis=0)


@dataclass(frozen=True)
class Program:
    """What is called again and again, of one size."""

    kind: str
    batch: int
    sizes: tuple[int, ...] = ()

    def __str__(self) -> str:
        layers = f"{'-'.join(map(str, self.sizes))}, " * bool(self.sizes)
        return f"{layers}{f'batch {self.batch}: ' * (self.batch > 1)}{self.kind}"

    @property
    def trains(self) -> bool:
        return self.kind in (TRAINING, PART, CONVOLUTION)

    def contenders(self) -> tuple[Calls, dict[str, Clock]]:
        """What calls the program with each contender, on numbers of its own, and the clocks of
        those that are timed in part."""
        rng = np.random.default_rng(0)
        x = rng.random((self.batch, *(self.sizes[:1] or (8, 8))), np.float32)
        x, labels = x[0] if self.kind == POLICY else x, rng.integers(4, size=self.batch)
        first = dense_digits.network(self.sizes) if self.sizes else conv_digits.network()
        example, function, theirs, model = EXAMPLES[self.kind]
        operands: tuple[Any, ...] = (x, labels, RATE) if self.trains else (x,)
        if self.kind == FLOAT16:
            first, *operands = float16_prelu.inputs(1)
        ways, clocks = dict(example.SETTINGS), {}
        if self.kind == PART:
            ways[NUMPY_SUMS] = relu_ext.add_relu_, numpy_sums
            clocks = {name: Clock() for name in ways}
            ways = {name: [*map(clocks[name].around, way)] for name, way in ways.items()}
        calls: Calls = {name: partial(getattr(example, function), deepcopy(first), how, *operands)
                        for name, how in ways.items()}  # fmt: skip
        if theirs and find_spec("torch"):
            torch, there = import_module("torch"), import_module("in_pytorch")
            torch.compiler.reset()  # or else it compiles for the sizes of all programs together
            static = partial(torch.compile, dynamic=False)
            for name, wrap in ((EAGER, lambda function: function), (COMPILED, static)):
                calls[name] = getattr(there, theirs)(getattr(there, model)(first), *operands, wrap)
        return calls, clocks

    def products(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The factors of the matrix products of one call, in arrays of their shapes."""
        n, shapes = self.batch, []
        if self.kind == CONVOLUTION:
            shapes = [(36 * n, 9, 16), (n, 144, 10), (n, 10, 144), (9, 36 * n, 16), (144, n, 10)]
        for number, (i, o) in enumerate(pairwise(self.sizes * (self.kind != PART))):
            count = 1 + self.trains * (1 + bool(number))  # no gradient of the first layer's input
            shapes += [(n, i, o), (i, n, o), (n, o, i)][:count]
        ones = partial(np.ones, dtype=np.float32)
        left = np.ravel if self.kind == POLICY else np.asarray
        return [(left(ones((m, k))), ones((k, n))) for m, k, n in shapes]


EXAMPLES: dict[str, tuple[Any, str, str, str]] = {
    POLICY: (policy, "scores", "inference", "dense"),
    INFERENCE: (dense_digits, "scores", "inference", "dense"),
    TRAINING: (dense_digits, "step", "training", "dense"),
    PART: (dense_digits, "step", "", ""),
    CONVOLUTION: (conv_digits, "step", "training", "convolutional"),
    FLOAT16: (float16_prelu, "pipeline", "pipeline", "tensor"),
}
"""The example of a kind and its function; the function in PyTorch, and what makes its model."""
NETWORKS = ((32, (8, 64, 64, 4)), (64, (64, 128, 10)), (200, (64, 512, 256, 10)),
            (500, (64, 2048, 1024, 10)))  # fmt: skip
PROGRAMS = (
    Program(POLICY, 1, NETWORKS[0][1]),
    *(Program(kind, *network) for network in NETWORKS for kind in (INFERENCE, TRAINING)),
    *(Program(PART, *network) for network in NETWORKS[:3]),
    Program(CONVOLUTION, 50),
    Program(FLOAT16, 8),
)


def is_part(found: dict[str, Any]) -> bool:
    """Whether results are those of steps that are timed in part."""
    return NUMPY_SUMS in found["relu_ext"]


@dataclass(eq=False)
class Run:
    """A program and the seconds of a call: of each visit, by contender, of each round."""

    cell: Program
    visits: list[dict[str, list[float]]] = field(default_factory=list)

    @np.errstate(all="ignore")
    def visit(self, seconds: float, seed: int) -> None:
        """Check that all contenders return the same, then time them in turn for about that long."""
        (calls, clocks), pairs = self.cell.contenders(), self.cell.products()
        rng = np.random.default_rng(seed)
        machine.equalise(1)
        calls |= {PRODUCTS: lambda: [a @ b for a, b in pairs]} if pairs else {}
        times: dict[str, list[float]] = {name: [] for name in calls}

        def sample(name: str, number: int) -> float:
            call, clock = calls[name], clocks.get(name, time.perf_counter)
            with surroundings(name):
                start = clock()
                for _ in range(number):
                    call()
            return (clock() - start) / number

        def surroundings(name: str) -> AbstractContextManager[Any]:
            infers = name in (EAGER, COMPILED) and not self.cell.trains
            return import_module("torch").inference_mode() if infers else nullcontext()

        numbers, expected = {}, [np.asarray(calls[NUMPY]()) for _ in range(5)]
        for name, call in calls.items():
            with surroundings(name):
                found = expected if name in (NUMPY, PRODUCTS) else [call() for _ in expected]
            error = 1e-3 if self.cell.kind == FLOAT16 else 1e-4
            text, found = f"{self.cell}: {name}", [*map(np.asarray, found)]
            np.testing.assert_allclose(found, expected, error, error, err_msg=text)
            start = time.perf_counter()
            sample(name, 3)
            lasts = (time.perf_counter() - start) / 3
            numbers[name] = max(1, int(seconds / ROUNDS / len(calls) / lasts))
        for _ in range(ROUNDS):
            for name in rng.permutation([*calls]):
                times[name].append(sample(name, numbers[name]))
        self.visits.append(times)

    def seconds_to_good(self) -> float:
        return 0.0  # each is visited as often as any other

    def times(self, name: str) -> np.ndarray:
        """[visit, round]"""
        return np.array([visit[name] for visit in self.visits])

    def results(self, rng: np.random.Generator) -> dict[str, Any]:
        """The seconds of each contender, how many times relu_ext's or NumPy's they are with 95 %
        intervals, and the share of matrix products in relu_ext's."""
        names = [name for name in (NUMPY, NUMPY_SUMS, EAGER, COMPILED) if name in self.visits[0]]
        against = {name: [*summary(self.times(name) / self.times(OURS), rng)] for name in names}
        numpy = {name: [*summary(self.times(name) / self.times(NUMPY), rng)] for name in names[1:]}
        share = 0.0
        if PRODUCTS in self.visits[0]:
            share = float(np.median(self.times(PRODUCTS) / self.times(OURS)))
        return {
            "program": str(self.cell),
            "visits": len(self.visits),
            "seconds": {name: float(np.median(self.times(name))) for name in (OURS, *names)},
            "relu_ext": against,
            "numpy": numpy,
            "products": share,
        }
