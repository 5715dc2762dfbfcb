"""Fail where a CPU level is slower than the one below it, on the machine that runs this.

Every operation and dtype, the sums and maxout included, at every level against the next one down,
in runs that alternate: what is below REPORTED of the lower level's speed (the median of the pairs)
is printed, and what misses FAILED twice fails. Maxout is measured by numbers of pieces, places and
windows.

    taskset -c 0 python tools/levels.py [PATTERN]

PATTERN selects cases by a part of their name, such as "maxout" or "float16".
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, pairwise

import numpy as np
import relu_ext
from relu_ext import _dispatch
from relu_ext._operations import OPERATIONS

REPORTED, FAILED = 0.95, 0.9
SIZE = 16_384  # elements: what fits in a second-level cache, in every dtype
LARGE = 1 << 23  # elements of float32: 32 MiB, beyond the caches, so that results are streamed
PAIRS = 21
SECONDS = 150e-6  # of one run

Case = tuple[str, Callable[[], object]]


def numbers(dtype: np.dtype, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Of both signs, where there are, and small enough for every dtype."""
    return (np.random.default_rng(seed).standard_normal(shape) * 30).astype(dtype)


def elementwise() -> Iterator[Case]:
    for operation in OPERATIONS:
        out_of_place = getattr(relu_ext, operation.name)
        for character in operation.dtypes:
            dtype = np.dtype(character)
            arrays = [numbers(dtype, (SIZE,), seed) for seed in range(len(operation.arrays))]
            out = np.empty_like(arrays[0])
            name = f"{operation.name} {dtype.name}"
            # An integer slope, because the default would make floating-point numbers of integers.
            slope = [2] if operation.parameter == "negative_slope" and dtype.kind != "f" else []
            yield name, partial(out_of_place, *arrays, *slope, out=out)
            if operation.parameter == "negative_slope" and dtype.kind == "f":
                slopes = numbers(dtype, (SIZE,), 9)
                yield name + " slopes", partial(out_of_place, *arrays, slopes, out=out)


def streamed() -> Iterator[Case]:
    """Arrays beyond the caches, with one input and with two."""
    x, y, out = (numbers(np.dtype(np.float32), (LARGE,), seed) for seed in range(3))
    for operation in OPERATIONS:
        arrays = [x, y][: len(operation.arrays)]
        function = getattr(relu_ext, operation.name)
        yield f"{operation.name} streamed float32", partial(function, *arrays, out=out)


def sums() -> Iterator[Case]:
    """The gradients that are summed too: of a bias and of slopes, one for each column or row."""
    for character in filter(lambda character: np.dtype(character).kind == "f", NUMBERS):
        dtype = np.dtype(character)
        grad, x = (numbers(dtype, (SIZE // 64, 64), seed) for seed in range(2))
        for what, shape in {"columns": (64,), "rows": (SIZE // 64, 1), "all": (1, 1)}.items():
            learned = numbers(dtype, shape, 9)
            for name in ("add_relu_backward", "add_leaky_relu_backward", "prelu_backward"):
                function = getattr(relu_ext, name)
                yield (
                    f"{name} {what} {dtype.name}",
                    partial(function, grad, x, learned, out=(grad, np.empty_like(learned))),
                )


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
        pieces = tuple(shape[axis] for axis in axes)
        for character in NUMBERS:
            dtype = np.dtype(character)
            x = numbers(dtype, shape, 0)
            y, which = relu_ext.maxout(x, axes, return_which=True)
            calls = {
                "maxout": (relu_ext.maxout, (x, axes), {"out": y}),
                "maxout_which": (
                    relu_ext.maxout,
                    (x, axes),
                    {"out": (y, which.copy()), "return_which": True},
                ),
                "maxout_backward": (
                    relu_ext.maxout_backward,
                    (y, which, pieces, axes),
                    {"out": np.empty_like(x)},
                ),
            }
            for name, (function, arguments, keywords) in calls.items():
                yield f"{name} {what} {dtype.name}", partial(function, *arguments, **keywords)


def took(call: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return time.perf_counter() - start


def speed(call: Callable[[], object], lower: str, upper: str) -> float:
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
    pattern = sys.argv[1] if len(sys.argv) > 1 else ""
    levels = relu_ext.cpu_levels()
    slower = measured = 0
    for name, call in chain(elementwise(), streamed(), sums(), maxout()):
        if pattern not in name:
            continue
        for lower, upper in pairwise(levels.available):
            measured += 1
            ratio = speed(call, lower, upper)
            again = ratio if ratio >= FAILED else speed(call, lower, upper)
            if max(ratio, again) < FAILED:
                slower += 1
            if ratio < REPORTED:
                verdict = "slower twice" if max(ratio, again) < FAILED else "reported"
                print(f"{upper} / {lower}  {name}: {ratio:.2f}, {again:.2f}  {verdict}", flush=True)
    _dispatch.use(levels.active)
    print(f"{measured} pairs measured, {slower} slower than {FAILED} of the level below, twice")
    return min(slower, 1)


if __name__ == "__main__":
    sys.exit(main())
