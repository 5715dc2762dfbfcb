"""Fail where a CPU level is slower than the one below it, on the machine that runs this.

Every operation and dtype, the sums and maxout included, at every level against the next one down,
in runs that alternate: what is below REPORTED of the lower level's speed (the median of the pairs)
is printed, and what misses 0.9 twice fails.  Maxout is measured by numbers of pieces, places and
windows.  All of it takes a quarter of a minute.

    taskset -c 0 python tools/levels.py [--least 0.9] [PATTERN]

PATTERN selects cases by a part of their name, such as "maxout" or "float16".

All arrays begin equally far from a cache line, as large arrays of NumPy do.  Where they do not, and
are beyond the first-level cache, half of v3's loads and all of v4's touch two cache lines, and v4
is 0.82 to 0.87 times as fast as v3 (leaky_relu_subgradient, Zen 5).
"""

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, pairwise

import numpy as np
import relu_ext
from relu_ext import _dispatch
from relu_ext._operations import OPERATIONS, Operation

REPORTED = 0.95
SIZE = 16_384  # elements: what fits in a second-level cache, in every dtype
LARGE = 1 << 23  # elements of float32: 32 MiB, beyond the caches, so that results are streamed
PAIRS = 21
AGAIN = 1  # times that a case is measured again before it fails
SECONDS = 150e-6  # of one run

Call = Callable[[], object]
Case = tuple[str, Callable[[], Call]]  # its name, and what prepares the call to measure


distances = itertools.cycle(range(16, 4096, 1024))


def placed(array: np.ndarray) -> np.ndarray:
    """A copy that begins 16 bytes behind a cache line, each at another distance from a page."""
    memory = np.empty(array.nbytes + 8192, np.uint8)
    start = -memory.ctypes.data % 4096 + next(distances)
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def numbers(dtype: np.dtype, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Of both signs, where there are, and small enough for every dtype."""
    return placed((np.random.default_rng(seed).standard_normal(shape) * 30).astype(dtype))


def elementwise() -> Iterator[Case]:
    for operation in OPERATIONS:
        for dtype in map(np.dtype, operation.dtypes):
            name = f"{operation.name} {dtype.name}"
            has_slope = operation.parameter == "negative_slope"
            yield name, partial(elementwise_call, operation, dtype, False)
            if has_slope and dtype.kind == "f":
                yield name + " slopes", partial(elementwise_call, operation, dtype, True)


def elementwise_call(operation: Operation, dtype: np.dtype, slopes: bool) -> Call:
    operands = [numbers(dtype, (SIZE,), seed) for seed in range(len(operation.arrays))]
    if slopes:
        operands.append(numbers(dtype, (SIZE,), 9))
    elif operation.parameter == "negative_slope" and dtype.kind != "f":
        operands.append(2)  # the default would make floating-point numbers of integers
    return partial(getattr(relu_ext, operation.name), *operands, out=numbers(dtype, (SIZE,), 8))


def streamed() -> Iterator[Case]:
    """Arrays beyond the caches, with one input and with two."""
    x, y, out = (numbers(np.dtype(np.float32), (LARGE,), seed) for seed in range(3))
    for operation in OPERATIONS:
        arrays = [x, y][: len(operation.arrays)]
        call = partial(getattr(relu_ext, operation.name), *arrays, out=out)
        yield f"{operation.name} streamed float32", partial(lambda call: call, call)


def sums() -> Iterator[Case]:
    """The gradients that are summed too: of a bias and of slopes, one for each column or row."""
    for dtype in (dtype for dtype in map(np.dtype, NUMBERS) if dtype.kind == "f"):
        for what, shape in {"columns": (64,), "rows": (SIZE // 64, 1), "all": (1, 1)}.items():
            for name in ("add_relu_backward", "add_leaky_relu_backward", "prelu_backward"):
                yield f"{name} {what} {dtype.name}", partial(sums_call, name, dtype, shape)


def sums_call(name: str, dtype: np.dtype, shape: tuple[int, ...]) -> Call:
    grad, x = (numbers(dtype, (SIZE // 64, 64), seed) for seed in range(2))
    learned, summed = (numbers(dtype, shape, seed) for seed in (9, 8))
    return partial(getattr(relu_ext, name), grad, x, learned, out=(grad, summed))


NUMBERS = max((operation.dtypes for operation in OPERATIONS), key=len)
MAXOUTS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    **{f"{pieces} last": ((SIZE // 4, pieces), (1,)) for pieces in (2, 3, 4, 5, 8, 9)},
    "4 first": ((4, SIZE // 4), (0,)),
    "2 by 2, NCHW": ((8, 8, 12, 2, 12, 2), (3, 5)),
    "3 by 3, NCHW": ((8, 8, 8, 3, 8, 3), (3, 5)),
    "2 by 2, NHWC": ((8, 6, 2, 6, 2, 32), (2, 4)),
    "7 by 7 plane": ((16, 16, 7, 7), (2, 3)),
}


def maxout() -> Iterator[Case]:
    for what, (shape, axes) in MAXOUTS.items():
        for dtype in map(np.dtype, NUMBERS):
            for name in ("maxout", "maxout_which", "maxout_backward"):
                yield f"{name} {what} {dtype.name}", partial(maxout_call, name, dtype, shape, axes)


def maxout_call(name: str, dtype: np.dtype, shape: tuple[int, ...], axes: tuple[int, ...]) -> Call:
    x = numbers(dtype, shape, 0)
    y, which = map(placed, relu_ext.maxout(x, axes, return_which=True))
    if name == "maxout":
        return partial(relu_ext.maxout, x, axes, out=y)
    if name == "maxout_which":
        return partial(relu_ext.maxout, x, axes, out=(y, which), return_which=True)
    pieces = tuple(shape[axis] for axis in axes)
    return partial(relu_ext.maxout_backward, y, which, pieces, axes, out=x)


def took(call: Call, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return time.perf_counter() - start


def speed(call: Call, lower: str, upper: str) -> float:
    """How fast the upper level is, of the lower one's speed: the median of alternating runs."""
    _dispatch.use(lower)
    call()
    calls = max(1, int(SECONDS / max(took(call, 3) / 3, 1e-7)))
    ratios = []
    for pair in range(PAIRS):
        times = {}
        for level in (lower, upper) if pair % 2 else (upper, lower):
            _dispatch.use(level)
            call()
            times[level] = took(call, calls)
        ratios.append(times[lower] / times[upper])
    return statistics.median(ratios)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("pattern", nargs="?", default="", help="a part of the cases' names")
    parser.add_argument("--least", type=float, default=0.9, help="of the lower level's speed")
    arguments = parser.parse_args()
    least = arguments.least
    levels = relu_ext.cpu_levels()
    slower = measured = 0
    for name, prepare in chain(elementwise(), streamed(), sums(), maxout()):
        if arguments.pattern not in name:
            continue
        calls = [prepare()]
        for lower, upper in pairwise(levels.available):
            measured += 1
            ratios = [speed(calls[0], lower, upper)]
            # In other memory: whatever else runs passes, and pages that share a cache's sets are
            # others; what a kernel lost stays.
            while ratios[-1] < least and len(ratios) <= AGAIN:
                calls.append(prepare())
                ratios.append(speed(calls[-1], lower, upper))
            missed = max(ratios) < least
            slower += missed
            if ratios[0] < REPORTED or missed:
                found = ", ".join(f"{ratio:.2f}" for ratio in ratios)
                verdict = "slower" if missed else "reported"
                print(f"{upper} / {lower}  {name}: {found}  {verdict}", flush=True)
    _dispatch.use(levels.active)
    print(f"{measured} pairs measured, {slower} slower than {least} of the level below")
    return min(slower, 1)


if __name__ == "__main__":
    sys.exit(main())
