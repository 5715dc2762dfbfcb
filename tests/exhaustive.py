"""Proof, not samples: all 4,294,967,296 bit patterns of float32, bit for bit against the oracle.

Each operation, at every CPU level, through the front door on contiguous arrays (into a new array
and in place) and through the ufunc on strided views, which takes another path. The grad of a
backward is the pattern of x times an odd constant modulo 2**32: every grad occurs as well, and NaN
and infinity meet every sign. `python tests/exhaustive.py` ends with 1 at a difference and names
the first pattern that differs.
"""

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from functools import partial

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from samples import LEVELS, OPERATIONS, at_level

PATTERNS = 2**32
PART = 2**20  # patterns at a time
GRAD_FACTOR = 0x9E3779B1

# The contract's cases of each parameter.
PARAMETERS = {None: (None,), "at_zero": (0, 1, 0.5), "negative_slope": (0.01,)}


def new_array(operation, arrays, parameter):
    return operation.front(*arrays, parameter=parameter)


def in_place(operation, arrays, parameter):
    written = arrays[0].copy()
    return operation.in_place(written, *arrays[1:], parameter=parameter)


def strided(operation, arrays, parameter):
    """Every second element of buffers twice as long, into every second of another."""
    views = [np.empty(2 * PART, np.float32)[::2] for _ in range(len(arrays) + 1)]
    for view, array in zip(views, arrays, strict=False):
        view[:] = array
    number = None if parameter is None else np.float32(parameter)
    return operation.direct(*views[:-1], parameter=number, out=views[-1])


PATHS = (new_array, in_place, strided)


NAMES = tuple(map(str, OPERATIONS))


@np.errstate(all="raise")
def compare(part, names=NAMES):
    """Count what was compared, by operation; the second result describes the first difference."""
    compared = Counter()
    patterns = np.arange(part * PART, (part + 1) * PART, dtype=np.uint32)
    x, grad = patterns.view(np.float32), (patterns * np.uint32(GRAD_FACTOR)).view(np.float32)
    for operation in [operation for operation in OPERATIONS if str(operation) in names]:
        arrays = [grad, x][-operation.arity :]
        for parameter in PARAMETERS[operation.parameter]:
            expected = operation.expected(*arrays, parameter=parameter).view(np.uint32)
            for level in LEVELS:
                with at_level(level):
                    for path in PATHS:
                        actual = path(operation, arrays, parameter).view(np.uint32)
                        compared[str(operation)] += PART
                        if not np.array_equal(actual, expected):
                            i = np.flatnonzero(actual != expected)[0]
                            return compared, (
                                f"{operation} {path.__name__} {level} {parameter=}: "
                                f"x {patterns[i]:#010x}, grad {grad.view(np.uint32)[i]:#010x}, "
                                f"expected {expected[i]:#010x}, got {actual[i]:#010x}"
                            )
    return compared, None


@np.errstate(all="raise")
def compare_sums(seed, count=2048):
    """`count` random float16 and every other one, added in float16 through both doors; what
    differs first, or None."""
    patterns = np.arange(2**16, dtype=np.uint16)
    y = patterns.view(np.float16)
    chosen = np.random.default_rng(seed).choice(patterns, count, replace=False)
    for operation in [o for o in OPERATIONS if o.description.arrays == ("x", "y")]:
        parameter = operation.description.default
        for x in chosen:
            row = np.full(y.size, x).view(np.float16)
            expected = operation.expected(row, y, parameter=parameter).view(np.uint16)
            for level in LEVELS:
                with at_level(level):
                    for actual in (
                        operation.front(row, y, parameter=parameter),
                        operation.front(row[:1], y, parameter=parameter),
                        operation.direct(row[::-1], y[::-1], parameter=parameter)[::-1],
                    ):
                        if not np.array_equal(actual.view(np.uint16), expected):
                            i = np.flatnonzero(actual.view(np.uint16) != expected)[0]
                            return f"{operation} {level}: float16 {x:#06x} and {i:#06x}"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--every", type=int, default=1, help="only each n-th part, for a trial")
    parser.add_argument("--operations", nargs="+", choices=NAMES, default=NAMES)
    options = parser.parse_args()
    parts = range(0, PATTERNS // PART, options.every)
    compared, begin, console = Counter(), time.perf_counter(), Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        multiprocessing.get_context("spawn").Pool(options.processes) as pool,
        Progress(*columns, console=console) as progress,
    ):
        for counts, difference in progress.track(
            pool.imap(partial(compare, names=options.operations), parts, chunksize=4), len(parts)
        ):
            compared += counts
            if difference:
                sys.exit(difference)
    if difference := compare_sums(0):
        sys.exit(difference)
    print(f"float16: the sums of 2,048 numbers with all 65,536, levels {', '.join(LEVELS)}")
    for name, count in compared.items():
        print(f"{name:34} {count:>18,}")
    print(
        f"{compared.total():,} results equal the oracle bit for bit: {len(parts) * PART:,} "
        f"patterns of float32, levels {', '.join(LEVELS)}, {len(PATHS)} paths, "
        f"{time.perf_counter() - begin:,.0f} s"
    )


if __name__ == "__main__":
    main()
