"""A million calls of every public function, on success and on each error path, keep nothing.

For each call: resident memory grows by less than 2 MiB, the interpreter's heap by less than a block
for ten calls, and the reference counts of all arguments and dtypes end as they began.
`python tests/leaks.py` ends with 1 at the first leak and names the call.
"""

import argparse
import array
import contextlib
import gc
import os
import sys
import time
from collections.abc import Callable, Mapping
from itertools import repeat
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import relu_ext
from relu_ext import _dispatch
from rich.console import Console
from rich.progress import track

import reference
import samples
from samples import constant, exporter, raising, thing

MOST_RESIDENT = 2 << 20  # bytes
WARM_UP = 100  # calls: caches and free lists fill
DTYPES = [np.dtype(c) for c in "bBhHiIlLqQefdgD"] + [reference.bfloat16]


class Call(NamedTuple):
    label: str
    function: Callable
    arguments: tuple = ()
    keywords: Mapping[str, Any] = MappingProxyType({})
    error: type[Exception] | tuple[()] = ()

    def __str__(self):
        return f"{self.function.__name__}: {self.label}"

    def run(self, count):
        function, arguments, keywords, error = self[1:]
        for _ in repeat(None, count):
            try:
                function(*arguments, **keywords)
            except error:
                continue
            if error:
                raise AssertionError(f"{self}: no {error.__name__}")

    def references(self):
        """The counts of all that a call could forget to let go of, or let go of twice."""
        held = [*self.arguments, *self.keywords.values()]
        held += [x.base for x in held if isinstance(x, np.ndarray)]
        shared = (int, type(None))  # whose counts anyone changes
        held = [x for x in [*held, *DTYPES, self.function] if not isinstance(x, shared)]
        return [sys.getrefcount(x) for x in held]


PROTOCOLS = ("__array__", "__array_ufunc__", "__dlpack__", "__dlpack_device__")


def calls_of(operation):
    """Each way through the doors of one operation that the source tells apart."""
    doors = {
        "": operation.function,
        "in place": operation.function_in_place,
        "ufunc": operation.ufunc,
    }
    name = operation.parameter

    def call(label, door, arrays, error=(), parameter=1, **keywords):
        arguments = tuple(arrays)
        if door == "ufunc" and name:
            arguments += (parameter,)
        elif name and parameter is not None:
            keywords[name] = parameter
        return Call(f"{door or 'front door'}, {label}", doors[door], arguments, keywords, error)

    def both(x):
        return [x] * operation.arity

    raises = thing(**dict.fromkeys(PROTOCOLS, raising(ZeroDivisionError)))
    answers = thing(__array_ufunc__=constant("answer"))
    f4 = np.linspace(-1, 1, 64, dtype="f4")
    fresh = np.empty_like(f4)
    read_only = f4.copy()
    read_only.flags.writeable = False
    for door in doors:
        for label, x in {
            "contiguous": f4.copy(),
            "large": np.linspace(-1, 1, 1 << 14),
            "strided": np.zeros(128, "f4")[::2],
            "float16": f4.astype("f2"),
            "bfloat16": f4.astype(reference.bfloat16),
            "longdouble": f4.astype("g"),
            "integer": np.arange(-32, 32),
            "byte-swapped": f4.astype(">f4"),
            "0-d": np.array(-1.0),
            "empty": np.empty((0, 3)),
            "subclass": f4.view(samples.Labelled).copy(),
        }.items():
            yield call(label, door, both(x))
        yield call("complex", door, both(np.ones(2, "D")), TypeError)
        yield call("object", door, both(np.ones(2, object)), TypeError)
        yield call("no argument", door, [], TypeError, parameter=None)
        yield call("unknown keyword", door, both(f4), TypeError, nonsense=1)
        if operation.arity == 2:
            yield call("other shape", door, [f4.copy(), np.ones(63, "f4")], ValueError)
            yield call("other dtype", door, [f4.copy(), np.ones(64)])
            yield call("raises", door, [f4.copy(), raises], ZeroDivisionError)
        if name:
            x = f4.copy()
            yield call("float", door, both(x), parameter=0.5)
            yield call("array", door, both(x), parameter=np.ones(64, "f4"))
            yield call("text", door, both(x), TypeError, parameter="text")
            yield call("object parameter", door, both(x), TypeError, parameter=object())
            yield call("huge", door, both(x), OverflowError, parameter=10**400)
            yield call("wrong shape", door, both(x), ValueError, parameter=np.ones(3))
            yield call("parameter raises", door, both(x), ZeroDivisionError, parameter=raises)
    for door in ("", "ufunc"):
        yield call("list", door, both([-1.0, 2.0]))
        yield call("number", door, both(-1.5))
        yield call("out", door, both(f4), out=fresh)
        yield call("dtype", door, both(f4), dtype="f8")
        yield call("where", door, both(f4), out=fresh, where=f4 > 0)
        yield call("answers", door, both(answers))
        yield call("all raise", door, both(raises), ZeroDivisionError)
        yield call("out read-only", door, both(f4), ValueError, out=read_only)
        yield call("out of another shape", door, both(f4), ValueError, out=np.ones(3, "f4"))
        yield call("out of another dtype", door, both(f4), TypeError, out=np.ones(64, int))
        yield call("out no array", door, both(f4), TypeError, out=[1.0])
        yield call("bad dtype", door, both(f4), TypeError, dtype="nonsense")
        yield call("bad casting", door, both(f4), ValueError, casting="nonsense")
    door, others = "in place", [np.ones(4)] * (operation.arity - 1)
    numbers = array.array("d", [-1, 2, -3, 4])
    yield call("buffer", door, [numbers, *others])
    yield call("memoryview", door, [memoryview(bytearray(32)).cast("d"), *others])
    yield call("DLPack", door, [exporter(np.ones(4)), *others])
    four = np.ones(4)
    older = exporter(four, __dlpack__=lambda self: four.__dlpack__())
    yield call("DLPack of version 0", door, [older, *others])
    yield call("DLPack without elements", door, [exporter(np.ones(0)), *[np.ones(0)] * len(others)])
    yield call("DLPack, strided", door, [exporter(np.ones(8)[::2]), *others])
    yield call("DLPack, complex", door, [exporter(np.ones(4, "D")), *others], TypeError)
    no_capsule = exporter(np.ones(4), __dlpack__=constant(None))
    yield call("no capsule", door, [no_capsule, *others], ValueError)
    elsewhere = exporter(np.ones(4), __dlpack_device__=constant((2, 0)))
    yield call("another device", door, [elsewhere, *others], TypeError)
    yield call("exporter raises", door, [raises, *others], ZeroDivisionError)
    yield call("a list", door, [[-1.0], *others], TypeError)
    yield call("raw bytes", door, [bytearray(4), *others], TypeError)
    yield call("read-only", door, both(read_only), ValueError)
    yield call("read-only buffer", door, [memoryview(numbers).toreadonly(), *others], ValueError)
    if name:
        yield call("no way back", door, both(np.ones(4, int)), TypeError, parameter=0.5)


def maxout_calls():
    x, strided = np.ones((8, 9, 4), "f4"), np.ones((8, 9, 8), "f4")[..., ::2]
    y, which = relu_ext.maxout(x, return_which=True)
    wide = np.ones((3, 300))
    raises = thing(__array__=raising(ZeroDivisionError))
    for counted in (False, True):
        keywords = {"return_which": counted}
        for label, some_x in {
            "contiguous": x, "strided": strided, "F": x.T, "wide": wide, "one axis": wide[0],
            "swapped": x.astype(">f4"), "list": [[1.0, 2.0]],
            "bfloat16": x.astype(reference.bfloat16), "subclass": x.view(samples.Labelled),
            "memoryview": memoryview(x), "another order": x.transpose(1, 0, 2), "empty": x[:0],
            "large": np.ones((1 << 10, 300), "f4"),
        }.items():  # fmt: skip
            yield Call(label, relu_ext.maxout, (some_x,), keywords)
        yield Call("no axis", relu_ext.maxout, (x, 3), keywords, ValueError)
        yield Call("axes", relu_ext.maxout, (x, (2, 0)), keywords)
        yield Call("axes, twice", relu_ext.maxout, (x, (2, -1)), keywords, ValueError)
        yield Call("axes, a float", relu_ext.maxout, (x, (2, 1.0)), keywords, TypeError)
        yield Call("axis a float", relu_ext.maxout, (x, 1.0), keywords, TypeError)
        yield Call("no pieces", relu_ext.maxout, (np.ones((2, 0)),), keywords, ValueError)
        yield Call("complex", relu_ext.maxout, (np.ones((2, 2), "D"),), keywords, TypeError)
        yield Call("raises", relu_ext.maxout, (raises,), keywords, ZeroDivisionError)
        yield Call("DLPack", relu_ext.maxout, (exporter(x),), keywords, TypeError)
        yield Call(
            "out of another shape", relu_ext.maxout, (x,), keywords | {"out": y.T}, ValueError
        )
    yield Call("out", relu_ext.maxout, (x,), {"out": y.copy()})
    yield Call("out, cast", relu_ext.maxout, (x,), {"out": y.astype("f8")})
    yield Call("out, strided", relu_ext.maxout, (x,), {"out": np.ones((9, 8), "f4").T})
    yield Call("out overlaps", relu_ext.maxout, (x,), {"out": x[..., 0]})
    yield Call("out a DLPack", relu_ext.maxout, (x,), {"out": exporter(y)}, TypeError)
    yield Call("outs too many", relu_ext.maxout, (x,), {"out": (y, which)}, ValueError)
    yield Call(
        "outs", relu_ext.maxout, (x,), {"out": (y.copy(), which.copy()), "return_which": True}
    )
    yield Call("contiguous", relu_ext.maxout_backward, (y, which, 4))
    yield Call("out", relu_ext.maxout_backward, (y, which, 4), {"out": x.copy()})
    yield Call("out, cast", relu_ext.maxout_backward, (y, which, 4), {"out": x.astype("f8")})
    yield Call("strided", relu_ext.maxout_backward, (y.T, which.T, 4, 0))
    yield Call("axes", relu_ext.maxout_backward, (y, which, (2, 2), (1, 3)))
    yield Call("axes, none", relu_ext.maxout_backward, (y, which, (), ()), {}, ValueError)
    yield Call("wide", relu_ext.maxout_backward, (y, which, 300))
    yield Call("memoryviews", relu_ext.maxout_backward, (memoryview(y), memoryview(which), 4))
    yield Call("out overlaps", relu_ext.maxout_backward, (x[..., 0], which, 4), {"out": x})
    yield Call("negative", relu_ext.maxout_backward, (y, which, -1), {}, ValueError)
    yield Call("pieces a float", relu_ext.maxout_backward, (y, which, 4.0), {}, TypeError)
    yield Call("no axis", relu_ext.maxout_backward, (y, which, 4, 3), {}, ValueError)
    yield Call(
        "out a DLPack", relu_ext.maxout_backward, (y, which, 4), {"out": exporter(x)}, TypeError
    )
    yield Call("broadcast", relu_ext.maxout_backward, (1.0, which, 4))
    yield Call("out of range", relu_ext.maxout_backward, (y, which + 4, 4), {}, IndexError)
    yield Call(
        "out of range, wide",
        relu_ext.maxout_backward,
        (y, which.astype(int) - 1, 4),
        {},
        IndexError,
    )
    yield Call("complex", relu_ext.maxout_backward, (y.astype("D"), which, 4), {}, TypeError)
    yield Call("shapes", relu_ext.maxout_backward, (y, which.T, 4), {}, ValueError)
    yield Call("raises", relu_ext.maxout_backward, (raises, which, 4), {}, ZeroDivisionError)


def sums_calls():
    """Each way through the gradients of biases and slopes."""
    x, row = np.linspace(-1, 1, 64 * 12, dtype="f4").reshape(64, 12), np.ones(12, "f4")
    raises = thing(__array__=raising(ZeroDivisionError))
    read_only = x.copy()
    read_only.flags.writeable = False
    for name in ("add_relu_backward", "add_leaky_relu_backward", "prelu_backward"):
        function, in_place = getattr(relu_ext, name), getattr(relu_ext, name + "_")
        for label, arrays in {
            "rows": (x.copy(), x, row), "runs": (x.copy(), x, np.ones((64, 1), "f4")),
            "one for all": (x.copy(), x, np.ones((), "f4")), "a number": (x.copy(), x, 0.5),
            "full shape": (x.copy(), x, x), "strided": (x.copy()[:, ::2], x[:, ::2], row[::2]),
            "F": (x.T.copy(), x.T, np.ones((12, 1), "f4")), "empty": (x[:0].copy(), x[:0], row),
            "another dtype": (x.copy(), x, np.ones(12)), "float16": (x.astype("f2"), x, row),
            "bfloat16": (x.astype(reference.bfloat16),) * 2 + (row.astype(reference.bfloat16),),
            "swapped": (x.astype(">f4"), x, row), "subclass": (x.view(samples.Labelled), x, row),
            "large": (np.ones((600, 600)), np.ones((600, 600)), np.ones(600)),
        }.items():  # fmt: skip
            yield Call(label, function, arrays)
            yield Call(f"in place, {label}", in_place, arrays)
        buffer = np.empty_like(row)
        yield Call("out", function, (x, x, row), {"out": (x.copy(), buffer)})
        yield Call("half of out", function, (x, x, row), {"out": (None, buffer)})
        yield Call("out overlaps", function, (x.copy(), x, row), {"out": (x, None)})
        yield Call("out, cast", function, (x, x, row), {"out": (x.astype("d"), row.astype("d"))})
        for label, arrays, keywords, error in (
            ("integers", (x.astype(int), x, row), {}, TypeError),
            ("shapes", (x, x[:3], row), {}, ValueError),
            ("no broadcast", (x, x, row[:5]), {}, ValueError),
            ("out a list", (x, x, row), {"out": ([1.0], None)}, TypeError),
            ("out an array", (x, x, row), {"out": x}, TypeError),
            ("out too long", (x, x, row), {"out": (None,) * 3}, ValueError),
            ("out shares", (x, x, row), {"out": (x.copy(), None)}, ()),
            ("raises", (x, raises, row), {}, ZeroDivisionError),
        ):
            yield Call(label, function, arrays, keywords, error)
        yield Call("read-only", in_place, (read_only, x, row), {}, ValueError)
        yield Call("a list", in_place, ([1.0], x, row), {}, TypeError)
    grad = x.copy()
    for at_zero in (None, 0, 1):
        yield Call("a choice", relu_ext.prelu_backward_, (grad, x, row), {"at_zero": at_zero})
    yield Call("no choice", relu_ext.prelu_backward, (x, x, row), {"at_zero": 2}, ValueError)
    yield Call("negative", relu_ext.add_leaky_relu_backward, (x, x, row, -1.0), {}, ValueError)
    yield Call("", relu_ext.prelu, (x, row))
    yield Call("in place", relu_ext.prelu_, (x.copy(), row))
    yield Call("text", relu_ext.prelu, (x, "text"), {}, TypeError)
    yield Call("shapes", relu_ext.prelu_, (x.copy(), row[:5]), {}, ValueError)


def calls():
    for operation in samples.OPERATIONS:
        yield from calls_of(operation)
    yield from maxout_calls()
    yield from sums_calls()
    yield Call("a number", relu_ext.set_num_threads, (1,))
    yield Call("too few", relu_ext.set_num_threads, (0,), error=ValueError)
    yield Call("no number", relu_ext.set_num_threads, ("1",), error=TypeError)
    yield Call("", relu_ext.get_num_threads)
    yield Call("", relu_ext.cpu_levels)
    yield Call("", relu_ext.show_config)
    yield Call("", _dispatch.use, (relu_ext.cpu_levels().active,))
    yield Call("no level", _dispatch.use, ("v9",), error=ValueError)


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def has_gil():
    return getattr(sys, "_is_gil_enabled", lambda: True)()


def leak(call, count):
    """What `count` calls leave behind, in words, or None."""
    with contextlib.redirect_stdout(None):
        call.run(WARM_UP)
    # Again and again, between full collections: they free what hangs together in circles, and empty
    # the interpreter's free lists, which calls then fill with hundreds of blocks, once. What each
    # call leaves is found every time.
    for finish in (bool, *[gc.collect] * 4):
        finish()
        found = grown(call, count, finish)
        if not found:
            return None
    return found


def grown(call, count, finish=bool):
    """What is found after as many calls that was not there before, in words, or None."""
    with contextlib.redirect_stdout(None):
        references, blocks, memory = call.references(), sys.getallocatedblocks(), resident()
        call.run(count)
        finish()
        blocks, memory = sys.getallocatedblocks() - blocks, resident() - memory
        if call.references() != references:
            return f"{call}: reference counts {references} became {call.references()}"
    # Without the GIL the interpreter frees some objects later: found is what each call leaves.
    if blocks > (max(count // 10, 10) if has_gil() else count // 2):
        return f"{call}: {blocks} more blocks after {count} calls"
    if memory >= MOST_RESIDENT:
        return f"{call}: {memory} bytes more resident after {count} calls"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=10**6, help="calls of each kind")
    count = parser.parse_args().count
    all_calls, begin, before = list(calls()), time.perf_counter(), resident()
    for call in track(all_calls, "", console=Console(stderr=True)):
        if found := leak(call, count):
            sys.exit(found)
    print(
        f"{len(all_calls)} calls, {count:,} times each: no reference lost or kept, resident memory "
        f"{(resident() - before) / 2**20:+.2f} MiB, {time.perf_counter() - begin:,.0f} s"
    )


if __name__ == "__main__":
    main()
