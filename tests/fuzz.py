"""Random calls through the front door, decent ones and hostile ones.

Each is made twice, in two worlds alike: through the front door and through the ufunc. Result or
exception must be the same, and afterwards every byte of memory; an exception of the caller's own
must pass unchanged; and where the oracle has an answer, it must be that one. Maxout and the
functions that sum a gradient, which have no ufunc, are compared with the oracle behind their
documented checks.

`python tests/fuzz.py --examples 200000` or `--minutes 10`. At a difference it prints the case, made
as small as hypothesis can; should the process die, the file of `--last` has it. Each line of
`fuzz_corpus.jsonl` is such a case, the first of its behaviour in the run that wrote it
(`--write-corpus`).
"""

import argparse
import dataclasses
import itertools
import json
import math
import operator
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import relu_ext
from hypothesis import HealthCheck, Phase, assume, given, seed, settings
from hypothesis import strategies as st
from relu_ext._calls import arrays_of
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn

import reference
import samples
from samples import Float, Integer, constant, exporter, public_class, raising, thing

CORPUS = Path(__file__).with_name("fuzz_corpus.jsonl")
BATCH = 1000  # examples of one seed
MOST_BYTES = 1 << 20
LARGE = [1000, 9000, 40_000]  # elements, on both sides of what is done with the GIL and blocks

SUPPORTED = {c: np.dtype(c) for c in "?bBhHiIlLqQefdg"} | {"bfloat16": reference.bfloat16}
FLOATS = ["e", "f", "d", "g", "bfloat16"]
FLOATING = [SUPPORTED[c] for c in FLOATS]
# The functions that sum a gradient: the operation of the other gradient, and their parameter.
SUMS = {
    "add_relu_backward": ("relu_backward", None),
    "add_leaky_relu_backward": ("leaky_relu_backward", "negative_slope"),
    "prelu_backward": ("leaky_relu_backward", "at_zero"),
}
DTYPES = SUPPORTED | {c: np.dtype(c) for c in "F D S3 U2 M8[D] m8[s] V4 f4,i2".split()}


@dataclasses.dataclass
class Operand:
    """A strided view of the world's memory, as an object of some kind."""

    kind: str
    dtype: str
    shape: list[int]
    steps: list[int]  # of each axis, in elements; 0: every element of it the same
    axes: list[int]  # from the slowest in memory to the fastest
    offset: int  # bytes
    seed: int

    @property
    def strides(self):
        strides, span = [0] * len(self.shape), DTYPES[self.dtype].itemsize
        for axis in reversed(self.axes):
            strides[axis] = span * self.steps[axis]
            span *= max(1, self.shape[axis] * abs(self.steps[axis]))
        return strides

    @property
    def is_simple(self):
        """Whether its view shows all that is written to the object, each element apart."""
        return self.kind in {"array", "subclass", *EXPORTERS} and 0 not in self.steps

    @property
    def stop(self):
        used = (n * abs(step) for n, step in zip(self.shape, self.steps, strict=True))
        return self.offset + DTYPES[self.dtype].itemsize * math.prod(max(1, n) for n in used)

    def view(self, memory):
        backwards = (
            -stride * (n - 1)
            for stride, n in zip(self.strides, self.shape, strict=True)
            if stride < 0 < n
        )
        start = self.offset + sum(backwards)
        return np.ndarray(self.shape, DTYPES[self.dtype], memory, start, self.strides)

    def clear_padding(self, memory):
        """Of an x87 longdouble; in the other byte order, all of it, since the padding moves."""
        if self.dtype == "g" and samples.X87:
            used = 0 if self.kind == "byte-swapped" else 10
            elements = self.view(memory)
            every_byte = np.lib.stride_tricks.as_strided(
                elements.view(), (*elements.shape, 1), (*elements.strides, 1)
            ).view(np.uint8)
            every_byte[..., used:] = 0


@dataclasses.dataclass
class Case:
    """A call; an int stands for the place in a list of choices."""

    operation: str
    level: int
    in_place: bool
    arrays: list[Operand]
    parameter: Operand | int | None  # of PARAMETERS
    out: Operand | int | None  # of the arrays
    where: Operand | int  # of WHERES
    keywords: dict[str, int]  # of KEYWORDS
    strict: bool  # numpy.errstate(all="raise")

    @property
    def operands(self):
        every = (*self.arrays, self.parameter, self.out, self.where)
        return [x for x in every if isinstance(x, Operand)]

    @property
    def door(self):
        return self.in_place

    def to_json(self):
        return json.dumps(dataclasses.astuple(self), separators=(",", ":"))


class WithoutUfunc:
    """What cases have in common that are compared with the oracle alone."""

    @property
    def operands(self):
        return [x for x in (*self.arrays, *self.out) if x is not None]

    @property
    def door(self):
        return self.operation

    to_json = Case.to_json


@dataclasses.dataclass
class MaxoutCase(WithoutUfunc):
    """A call of maxout or maxout_backward."""

    operation: str
    level: int
    arrays: list[Operand]  # x, or grad and which
    pieces: int  # of PIECES, for maxout_backward
    axis: int  # of AXES
    out: list[Operand | None]
    counted: bool  # return_which


@dataclasses.dataclass
class SumsCase(WithoutUfunc):
    """A call of a function that also returns the gradient of a bias or a slope."""

    operation: str
    level: int
    in_place: bool
    arrays: list[Operand]  # grad, x or the output, and what is learned
    parameter: int | None  # of PARAMETERS: negative_slope, or prelu's at_zero
    out: list[Operand | None]


def from_json(line):
    def revived(x):
        return Operand(*x) if isinstance(x, list) else x

    if json.loads(line)[0] in SUMS:
        operation, level, in_place, arrays, parameter, out = json.loads(line)
        arrays, out = [[*map(revived, some)] for some in (arrays, out)]
        return SumsCase(operation, level, in_place, arrays, parameter, out)
    if json.loads(line)[0] in ("maxout", "maxout_backward"):
        operation, level, arrays, pieces, axis, out, counted = json.loads(line)
        arrays, out = [[*map(revived, some)] for some in (arrays, out)]
        return MaxoutCase(operation, level, arrays, pieces, axis, out, counted)
    operation, level, in_place, arrays, parameter, out, where, *rest = json.loads(line)
    arrays = [Operand(*x) for x in arrays]
    return Case(operation, level, in_place, arrays, *map(revived, (parameter, out, where)), *rest)


# What an operand may be: made of its view, an exception and a number


class CallersOwn(Exception):
    pass


def read_only(view):
    view = view[...]
    view.flags.writeable = False
    return view


def masked(view):
    mask = np.arange(view.size).reshape(view.shape) % 3 == 0
    return np.ma.array(view, mask=mask, copy=False)


def interface(view, lie=None):
    return SimpleNamespace(__array_interface__=view.__array_interface__ | (lie or {}))


INTERFACE_LIES = [
    {"shape": (-1,)}, {"shape": (2**62, 2**62)}, {"shape": "text"}, {"typestr": "<f3"},
    {"typestr": None}, {"strides": (1, 2, 3)}, {"strides": "text"}, {"version": None},
    {"data": None, "shape": None}, {"data": (0,)}, {"data": "text"}, {"descr": 3},
]  # fmt: skip
DEVICES = [(2, 0), (1,), (), 1, "11", None, (None, 0), {}, [1]]
NO_CAPSULES = [None, 3, "text", [], np.ones(2), iter(())]
LENGTHS = [3, -1, 2**70]
NONSENSE = [
    None, "text", b"bytes", object(), {}, {1}, ..., np.float32, len, iter([1]), [[1], [1, 2]],
    bytearray(8), memoryview(b"12345678"), [None], NotImplemented, slice(3), range(3),
]  # fmt: skip


def pick(choices, n):
    return choices[n % len(choices)]


ARRAYS = {
    "array": lambda v, *_: v,
    "subclass": lambda v, *_: v.view(samples.Labelled),
    "masked": lambda v, *_: masked(v),
    "read-only": lambda v, *_: read_only(v),
    "byte-swapped": lambda v, *_: v.view(v.dtype.newbyteorder()),
}
EXPORTERS = {
    "memoryview": lambda v, *_: memoryview(v),
    "DLPack": lambda v, *_: exporter(v),
    "DLPack of version 0": lambda v, *_: exporter(v, __dlpack__=lambda self: v.__dlpack__()),
}
READABLE = {
    "list": lambda v, *_: v.tolist(),
    "scalar": lambda v, *_: v.flat[0] if v.size else v.dtype.type(0),
    "number": lambda v, *_: v.flat[0].item() if v.size else 0,
    "__array__": lambda v, *_: thing(__array__=constant(v)),
    "__array_interface__": lambda v, *_: interface(v),
}
HOSTILE = {
    "__array__ raises": lambda v, e, n: thing(__array__=raising(e)),
    "__array__ lies": lambda v, e, n: thing(__array__=constant(pick([[1], None, "text"], n))),
    "__array_interface__ lies": lambda v, e, n: interface(v, pick(INTERFACE_LIES, n)),
    "__array_struct__ lies": lambda v, e, n: thing(__array_struct__=pick([3, None], n)),
    "__array_ufunc__ None": lambda v, e, n: thing(__array_ufunc__=None),
    "__array_ufunc__ declines": lambda v, e, n: thing(__array_ufunc__=constant(NotImplemented)),
    "__array_ufunc__ answers": lambda v, e, n: thing(__array_ufunc__=constant("answer")),
    "__array_ufunc__ raises": lambda v, e, n: thing(__array_ufunc__=raising(e)),
    "__class__ lies": lambda v, e, n: thing(__class__=np.ndarray, flags=v.flags),
    "__len__ lies": lambda v, e, n: thing(
        __len__=constant(pick(LENGTHS, n)), __getitem__=raising(e)
    ),
    "__getattr__ raises": lambda v, e, n: thing(__getattr__=raising(e)),
    "__dlpack__ raises": lambda v, e, n: exporter(v, __dlpack__=raising(e)),
    "__dlpack__ lies": lambda v, e, n: exporter(v, __dlpack__=constant(pick(NO_CAPSULES, n))),
    "__dlpack_device__ raises": lambda v, e, n: exporter(v, __dlpack_device__=raising(e)),
    "__dlpack_device__ lies": lambda v, e, n: exporter(
        v, __dlpack_device__=constant(pick(DEVICES, n))
    ),
    "nonsense": lambda v, e, n: pick(NONSENSE, n),
}
KINDS = ARRAYS | EXPORTERS | READABLE | HOSTILE
# Those that NumPy promotes by their dtype.
PLAIN = {"array", "subclass", "read-only", "memoryview", "list", "scalar", "__array__"}


PARAMETERS = [
    0, 1, 0.5, 0.01, -2, 3, -0.0, 1.0, 300, 2**40, 2**70, 10**400, 1e300, 1e-300, 65520.0, 3.5e38,
    math.inf, math.nan, True, False, np.float16(0.3), np.float32(0.3), np.float64(0.3),
    np.longdouble(0.3), np.int8(3), np.uint64(3), np.bool(True), reference.bfloat16.type(0.5),
    np.complex64(1), np.datetime64("2020"), Float(0.3), Integer(2), 1j, None, "0.5", b"1", [],
    [0.5], ...,
]  # fmt: skip
NUMBERS = PARAMETERS.index(np.complex64(1))  # of them are real
WHERES = [True, False, 1, None, [True], np.True_, "text"]
KEYWORDS = {
    "casting": ["same_kind", "unsafe", "safe", "equiv", "no", "nonsense", 3, None],
    "order": ["K", "C", "F", "A", "Q", None, 3],
    "dtype": [None, "f4", "f8", "f2", "i4", "c8", ">f4", "nonsense", float, 3, reference.bfloat16],
    "subok": [True, False, 0, 1, None, "text"],
}
PIECES = [
    0, 1, 2, 3, 4, 5, 8, 9, 12, 256, 257, 300, -1, 2**70, 1.5, None, "4", True, np.int8(3),
    Integer(3), (2, 2), (3, 2), (4,), (1, 3, 2), (), (2, 1.5), (2, -1), (2**40, 2**40),
]  # fmt: skip
AXES = [
    -1, 0, 1, 2, 3, 4, -2, -3, 2**31, -(2**70), True, 1.0, None, "0", (0,), np.int8(1), Integer(0),
    np.array(0), [0], (0, 2), (2, 0), (1, -1), (-1, 1), (1, 2, 3), (), (0, 0), (0, -1), (0, 2**70),
    (0, None), (Integer(1), 0),
]  # fmt: skip


def initial_memory(case):
    memory = np.full(max((x.stop for x in case.operands), default=0), 0xA5, np.uint8)
    for operand in case.operands:
        if operand.dtype in SUPPORTED:
            view = operand.view(memory)
            some = samples.values(view.dtype, min(view.size, 500), operand.seed)
            view[...] = np.resize(some, view.shape)
    if case.operation == "maxout_backward" and case.arrays[1].dtype in SUPPORTED:
        which, pieces = case.arrays[1], PIECES[case.pieces]
        if isinstance(pieces, tuple) and all(isinstance(length, int) for length in pieces):
            pieces = int(np.prod(pieces, dtype=object))
        if isinstance(pieces, int) and 0 < pieces < 1000 and which.seed % 4:  # else, as it is
            view = which.view(memory)
            numbers = np.arange(view.size).reshape(view.shape) * 7 + which.seed
            view[...] = numbers % min(pieces, 128)
    return memory


class World:
    """One realisation of a case: the memory and the objects over it."""

    def __init__(self, case, memory):
        self.case, self.own = case, CallersOwn()
        self.memory = samples.aligned_bytes(memory.size)
        self.memory[:] = memory
        self.arrays = [self.make(x) for x in case.arrays]
        self.make_others(case)

    def make_others(self, case):
        self.operation = samples.NAMED[case.operation]
        self.parameter = self.make(case.parameter, PARAMETERS)
        self.out = self.make(case.out, self.arrays)
        self.where = self.make(case.where, WHERES)

    def make(self, x, choices=None):
        if not isinstance(x, Operand):
            return None if x is None else choices[x]
        view = x.view(self.memory)
        try:
            return KINDS[x.kind](view, self.own, x.seed)
        except (ValueError, TypeError, BufferError):
            return view  # this dtype does not come in that kind

    @property
    def keywords(self):
        chosen = {name: KEYWORDS[name][i] for name, i in self.case.keywords.items()}
        if self.where is not True:
            chosen |= {"where": self.where, "out": None}
        return chosen if self.out is None else chosen | {"out": self.out}

    def through_the_front_door(self):
        name = self.operation.parameter
        keywords = {} if name is None else {name: self.parameter}
        if self.case.in_place:
            return self.operation.function_in_place(*self.arrays, **keywords)
        return self.operation.function(*self.arrays, **keywords, **self.keywords)

    def through_the_ufunc(self):
        name = self.operation.name
        parameter = () if self.operation.parameter is None else (self.parameter,)
        if not self.case.in_place:
            operands = (*self.arrays, *parameter)
            if self.out is self.arrays[0] and name != "add_leaky_relu":
                walked = not any(self.case.keywords.values()) and self.case.where == 0
                operands = [self.exactly(x, self.out) if walked else x for x in operands]
            return self.operation.ufunc(*arrays_of(name, operands), **self.keywords)
        target, *others = self.arrays
        array = self.writeable(target)
        if name != "add_leaky_relu":
            others, parameter = (
                [self.exactly(x, array) for x in some] for some in (others, parameter)
            )
        operands = arrays_of(name, (array, *others, *parameter), target)
        if self.operation.ufunc(*operands, out=array) is not array:
            raise TypeError("an operand's __array_ufunc__ did something else")
        return target

    @staticmethod
    def exactly(x, array):
        """A NumPy scalar that the dtype of the array holds exactly, as a Python number: beside that
        a signalling NaN stays what it is."""
        if type(array) is not np.ndarray or array.dtype not in FLOATING:
            return x
        if isinstance(x, (np.floating, np.integer)) and not isinstance(x, np.longdouble):
            with np.errstate(all="ignore"):
                if float(x) == float(array.dtype.type(float(x))):
                    return float(x)
        return x

    def writeable(self, target):
        """The array over the memory of `target` that an in-place call is documented to write."""
        kind, view = self.case.arrays[0].kind, self.case.arrays[0].view(self.memory)
        if type(target) in (bytes, memoryview) and memoryview(target).readonly:
            raise ValueError("read-only")
        if type(target) is memoryview and target.format not in ("B", "c"):
            return np.array(target, copy=False)
        if kind in ("__dlpack__ raises", "__dlpack_device__ raises"):
            raise self.own
        if kind == "__dlpack_device__ lies":
            _device, _ = pick(DEVICES, self.case.arrays[0].seed)
        if kind == "__dlpack__ lies":
            raise ValueError("no capsule")
        if kind in ("DLPack", "DLPack of version 0") and type(target) is not np.ndarray:
            view.__dlpack__()
            return view
        if not issubclass(type(target), np.ndarray):  # whatever class it claims
            raise TypeError("cannot be written in place")
        if not target.flags.writeable:
            raise ValueError("read-only")
        return target

    def outcome(self, call):
        """What `call` returns or raises, in terms that mean the same in another world."""
        floating = "raise" if self.case.strict else "ignore"
        try:
            with warnings.catch_warnings(), np.errstate(all=floating):
                warnings.simplefilter("error")
                with samples.at_level(pick(samples.LEVELS, self.case.level)):
                    result = call(self)
        except CallersOwn as error:
            return "raised", "CallersOwn", error is self.own
        except Exception as error:
            return "raised", public_class(error).__name__
        for i, mine in enumerate([self.out, *self.arrays]):
            if result is mine:
                return "returned", "out" if i == 0 else f"operand {i}"
        if not isinstance(result, np.ndarray | np.generic):
            return "returned", type(result).__name__
        array = np.asarray(result)
        if self.out is None and self.where is not True:
            array = array.copy()  # what `where` left unwritten is whatever the memory held
            array[~np.broadcast_to(np.asarray(self.where, bool), array.shape)] = 0
        mask = np.ma.getmaskarray(result).tobytes() if np.ma.isMA(result) else b""
        what = (type(result).__name__, array.dtype, array.shape, array.strides, mask)
        return "computed", what, samples.bits(array).tobytes(), array

    def expected(self):
        """The oracle's answer, or None where it has none; asked before the call."""
        case = self.case
        inputs = [x for x in (*case.arrays, case.parameter) if isinstance(x, Operand)]
        number = not isinstance(case.parameter, int) or case.parameter < NUMBERS
        # A list of no dimension is a Python number, which the oracle would promote as an array.
        plain = all(
            x.kind in PLAIN and x.dtype in SUPPORTED and (x.shape or x.kind != "list")
            for x in inputs
        )
        # Where operands overlap, some hold another dtype's bytes: no booleans, no longdoubles.
        valid = are_disjoint(case) or not any(x.dtype in "?g" for x in case.operands)
        if case.where != 0 or any(case.keywords.values()) or not (number and plain and valid):
            return None
        arrays = [np.array(x) for x in self.arrays]
        parameter = self.parameter
        if isinstance(case.parameter, Operand):
            parameter = np.array(parameter)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return reference.evaluate(case.operation, arrays, parameter)


def integer(x):
    """An integer as NumPy takes it, which takes no bool for one."""
    if isinstance(x, (bool, np.bool)):
        raise TypeError("no integer")
    return operator.index(x)


def integers(x):
    """One or several, as a tuple."""
    if isinstance(x, tuple) and not x:
        raise ValueError("no axes")
    return tuple(map(integer, x if isinstance(x, tuple) else (x,)))


class MaxoutWorld(World):
    def make_others(self, case):
        self.pieces, self.axis = PIECES[case.pieces], AXES[case.axis]
        self.out = [self.make(x) for x in case.out]

    def through_the_front_door(self):
        out = tuple(self.out) if len(self.out) > 1 else self.out[0]
        if self.case.operation == "maxout_backward":
            return relu_ext.maxout_backward(*self.arrays, self.pieces, self.axis, out=out)
        counted = self.case.counted
        return relu_ext.maxout(*self.arrays, self.axis, out=out, return_which=counted)

    def through_the_oracle(self):
        if self.case.operation == "maxout_backward":
            return self.spread_by_the_oracle()
        integers(self.axis)
        x = self.array(self.arrays[0])
        self.check_dtype(x)
        axis = self.normal_axes(x.ndim)
        pieces = int(np.prod([x.shape[i] for i in axis]))
        if pieces == 0:
            raise ValueError("no pieces")
        results = [x.max(axis), np.zeros(np.delete(x.shape, axis), np.uint8)]  # of their shapes
        if x.size:
            results = [*reference.maxout(x, axis)]
        numbers = np.min_scalar_type(pieces - 1)
        results = [results[0].astype(x.dtype), results[1].astype(numbers)][: 1 + self.case.counted]
        if len(self.out) not in (1, len(results)):
            raise ValueError("another number of outs")
        outs = (*self.out, None)[: len(results)]
        arrays = [self.checked_out(out, y) for out, y in zip(outs, results, strict=True)]
        self.check_cast(x.dtype, arrays[0])
        if self.case.counted and arrays[1] is not None:
            dtype = arrays[1].dtype
            if dtype.kind not in "iu" or np.iinfo(dtype).max < pieces - 1:
                raise TypeError("which does not hold the numbers")
        returned = [*map(self.delivered, outs, arrays, results)]
        return tuple(returned) if self.case.counted else returned[0]

    def spread_by_the_oracle(self):
        integers(self.axis)
        lengths = integers(self.pieces)
        if isinstance(self.pieces, tuple) != isinstance(self.axis, tuple):
            raise TypeError("one and several")
        if len(lengths) != len(integers(self.axis)):
            raise ValueError("more of one than of the other")
        pieces = np.prod(lengths, dtype=object)
        if min(lengths) < 0:
            raise ValueError("negative pieces")
        grad = self.array(self.arrays[0])
        self.check_dtype(grad)
        which = self.array(self.arrays[1])
        if which.dtype.kind not in "iu":
            raise TypeError("which is no integer")
        grad, which = np.broadcast_arrays(grad, which)
        axis = self.normal_axes(grad.ndim + len(lengths))
        if pieces >= 2**50:
            raise ValueError("too many pieces")
        if which.size and not (which.min() >= 0 and which.max() < pieces):
            raise IndexError("which out of range")
        result = reference.maxout_backward(grad, which.astype(int), lengths, axis)
        (out,) = self.out
        array = self.checked_out(out, result)
        self.check_cast(grad.dtype, array)
        return self.delivered(out, array, result)

    @staticmethod
    def array(x):
        """A copy in the machine's byte order."""
        array = np.asarray(x)
        return array.astype(array.dtype.newbyteorder("="))

    @staticmethod
    def check_dtype(array):
        if array.dtype not in SUPPORTED.values():
            raise TypeError("not supported")

    def normal_axes(self, axes):
        found = []
        for axis in integers(self.axis):
            if not -axes <= axis < axes:
                raise np.exceptions.AxisError(axis, axes)
            if axis % axes in found:
                raise ValueError("an axis twice")
            found.append(axis % axes)
        return tuple(found)

    @staticmethod
    def checked_out(out, result):
        if out is None:
            return None
        if not issubclass(type(out), np.ndarray):
            raise TypeError("out is no array")
        array = np.asarray(out)
        if array.shape != result.shape or not array.flags.writeable:
            raise ValueError("out of another shape or read-only")
        return array

    @staticmethod
    def check_cast(dtype, out):
        if out is not None and (
            not np.can_cast(dtype, out.dtype, "same_kind")
            or (out.dtype.kind in "SUmMV" and out.dtype.newbyteorder("=") != reference.bfloat16)
        ):
            raise TypeError("out does not hold the result")

    @staticmethod
    def delivered(out, array, result):
        if out is None:
            return result if result.ndim else result[()]
        np.copyto(array, result, casting="unsafe")
        return out

    def outcome(self, call):
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("error")
                with samples.at_level(pick(samples.LEVELS, self.case.level)):
                    results = call(self)
        except CallersOwn as error:
            return "raised", "CallersOwn", error is self.own
        except Exception as error:
            return "raised", public_class(error).__name__
        found = []
        for result in results if isinstance(results, tuple) else [results]:
            place = [i for i, out in enumerate(self.out) if out is not None and out is result]
            array = np.asarray(result)
            found += place or [type(result).__name__, array.dtype, array.shape]
            found.append(b"" if place else samples.bits(array).tobytes())
        return "computed", *found


class SumsWorld(MaxoutWorld):
    def make_others(self, case):
        self.parameter = self.make(case.parameter, PARAMETERS)
        self.out = [self.arrays[0], None] if case.in_place else [self.make(x) for x in case.out]

    def through_the_front_door(self):
        _, name = SUMS[self.case.operation]
        keywords = {} if name is None or self.case.parameter is None else {name: self.parameter}
        if self.case.in_place:
            return getattr(relu_ext, self.case.operation + "_")(*self.arrays, **keywords)
        out = tuple(self.out) or None
        return getattr(relu_ext, self.case.operation)(*self.arrays, **keywords, out=out)

    def through_the_oracle(self):
        """Raises the first error; `self.wrong` has the kinds of all that may come first."""
        operation, parameter_name = SUMS[self.case.operation]
        of_slope = parameter_name == "at_zero"
        grad, x, y = self.arrays
        is_learned_number, at_zero, slope = is_number(y), None, 0
        targets = [None, None]
        self.wrong = []
        if self.case.in_place:
            targets[0] = grad = self.noted(self.writeable, grad)
        elif self.out and len(self.out) != 2:
            self.wrong.append(ValueError())
        grad, x = self.noted(self.floats, grad), self.noted(self.floats, x)
        if of_slope:
            at_zero = self.parameter
            if not (at_zero is None or self.is_choice(at_zero)):
                self.wrong.append(ValueError())
            slope = self.noted(float if is_learned_number else self.floats, y)
        elif parameter_name is not None:
            slope = 0.01 if self.case.parameter is None else self.parameter
            slope = self.noted(float if is_number(slope) else self.floats, slope)
            if slope is not None and np.any(slope < 0):
                self.wrong.append(ValueError())
        if not is_learned_number:
            y = self.noted(self.floats, y)
        self.stop()

        y = np.empty((), grad.dtype) if is_learned_number else y
        arrays = [grad, x, *[slope] * isinstance(slope, np.ndarray)]
        dtype = self.noted(np.result_type, *arrays)
        if dtype is not None:
            self.noted(np.result_type, dtype, y.dtype, np.float32)
        for shape in (x.shape, y.shape, np.shape(slope)):
            if self.noted(np.broadcast_shapes, shape, grad.shape) != grad.shape:
                self.wrong.append(ValueError())
        if grad.shape != x.shape:
            self.wrong.append(ValueError())
        if not self.case.in_place and self.out:
            targets = [*map(self.noted, [self.checked_out] * 2, self.out, (grad, y))]
        if dtype is not None:
            self.noted(self.check_cast, dtype, targets[0])
        self.noted(self.check_cast, y.dtype, targets[1])
        if all(target is not None for target in targets) and np.shares_memory(*targets):
            self.wrong.append(ValueError())
        self.stop()

        grad_x = reference.evaluate(operation, [grad, x], slope)
        layout = np.empty_like(grad, dtype) if targets[0] is None else targets[0]
        if of_slope:
            grad_x, learned = reference.prelu_backward(
                grad, x, np.asarray(slope, dtype), at_zero, layout.strides
            )
            learned = learned.astype(y.dtype)
        else:
            rounded = grad_x.astype(layout.dtype)
            learned = reference.learned_bias(rounded, grad.dtype, y, layout.strides)
        outs = self.out or [None, None]
        return (
            self.delivered(outs[0], targets[0], grad_x),
            self.delivered(outs[1], targets[1], learned),
        )

    def noted(self, function, *arguments):
        """What the function returns; None if it raises, which `self.wrong` keeps."""
        try:
            return function(*arguments)
        except np.exceptions.DTypePromotionError:
            self.wrong.append(TypeError())
        except Exception as error:
            self.wrong.append(error)

    def stop(self):
        if self.wrong:
            raise self.wrong[0]

    def floats(self, x):
        array = self.array(x)
        if array.dtype not in FLOATING:
            raise TypeError("no floats")
        return array

    @staticmethod
    def is_choice(at_zero):
        return isinstance(at_zero, (int, float, np.integer, np.floating, np.bool)) and at_zero in (
            0,
            1,
        )


def is_number(x):
    """Whether a Python number takes the dtype of an array."""
    return isinstance(x, (int, float)) and not isinstance(x, (np.generic, bool))


def check_against_the_oracle(case):
    kind = SumsWorld if isinstance(case, SumsCase) else MaxoutWorld
    memory = initial_memory(case)
    front, apart = kind(case, memory), kind(case, memory)
    one = front.outcome(kind.through_the_front_door)
    other = apart.outcome(kind.through_the_oracle)
    if isinstance(apart, SumsWorld) and apart.wrong:
        kinds = [CallersOwn if error is apart.own else public_class(error) for error in apart.wrong]
        assert one[:2] in [("raised", kind.__name__) for kind in kinds], (one, kinds)
    else:
        assert one == other, (one, other)
    for world in (front, apart):
        for operand in case.operands:
            operand.clear_padding(world.memory)
    assert np.array_equal(front.memory, apart.memory), "memory"
    return (one[0], one[1]) if one[0] == "raised" else ("computed", "oracle")


def check(case):
    """Fail where the doors, or door and oracle, differ; else say in two words how it ended."""
    if not isinstance(case, Case):
        return check_against_the_oracle(case)
    memory = initial_memory(case)
    front, apart = World(case, memory), World(case, memory)
    try:
        expected = World(case, memory).expected()
    except (TypeError, ValueError, OverflowError):
        expected = None  # no call of this kind: then the doors agree on an error
    one, other = front.outcome(World.through_the_front_door), apart.outcome(World.through_the_ufunc)
    if other[:2] == ("raised", "FloatingPointError") and one[0] != "raised" and reads_signs(case):
        return "computed", "without the ufunc's cast"
    assert one[:3] == other[:3], (one, other)
    if one[:2] == ("raised", "FloatingPointError"):
        return one[0], one[1]  # How much was written before a cast raised is nobody's contract.
    for world in (front, apart):
        for operand in case.operands:
            operand.clear_padding(world.memory)
    assert np.array_equal(front.memory, apart.memory), "memory"
    written = case.arrays[0] if case.in_place else case.out
    if one[0] == "computed":
        result = one[3]
    elif one[0] == "returned" and isinstance(written, Operand) and written.is_simple:
        result = written.view(front.memory)
    else:
        expected = None
    if expected is not None and (
        one[0] == "computed" or (result.dtype, result.shape) == (expected.dtype, expected.shape)
    ):
        samples.assert_same_bits(result, expected)
        return one[0], "oracle"
    return one[0], "" if one[0] == "computed" else one[1]


# Random cases


@st.composite
def operands(draw, shape, kinds):
    shape = list(shape)
    change = draw(st.sampled_from(["none"] * 6 + ["ones", "fewer", "other"]))
    if change == "ones":
        shape = [1 if draw(st.booleans()) else n for n in shape]
    elif change == "fewer":
        shape = shape[draw(st.integers(0, len(shape))) :]
    elif change == "other":
        shape = draw(st.lists(st.integers(0, 5), max_size=3))
    plain = [1] * len(shape), list(range(len(shape)))
    if draw(st.booleans()):
        plain = (
            draw(st.tuples(*[st.sampled_from([1, 1, 1, -1, 2, -2, 3, 0])] * len(shape))),
            draw(st.permutations(range(len(shape)))),
        )
    return Operand(
        kind=draw(kinds),
        dtype=draw(st.sampled_from(["f", "d"] * 15 + [*SUPPORTED] * 3 + [*DTYPES])),
        shape=shape,
        steps=list(plain[0]),
        axes=list(plain[1]),
        offset=draw(st.sampled_from([0, 0, 1, 4, 8, 16, 64, 200, 5000, 200_000, 400_000])),
        seed=draw(st.integers(0, 99)),
    )


SHAPES = st.one_of(
    st.lists(st.integers(0, 6), max_size=4), st.lists(st.sampled_from(LARGE), max_size=1)
)
ANY_KIND = st.sampled_from(["array"] * 80 + [*ARRAYS, *EXPORTERS, *READABLE] * 2 + [*HOSTILE])


def place_in(choices, wanted):
    """Of a number or a tuple, in a list that also holds what compares otherwise."""
    return next(i for i, x in enumerate(choices) if type(x) is type(wanted) and x == wanted)


@st.composite
def maxout_cases(draw):
    shape = draw(SHAPES)
    place = draw(st.integers(0, len(shape)))
    pieces = draw(st.sampled_from([1, 2, 3, 4, 5, 6, 8, 9] * 3 + [0, 256, 257, 300]))
    whole = [*shape[:place], pieces, *shape[place:]]
    several = len(shape) >= 1 and draw(st.integers(0, 2)) == 0
    if several:  # windows: two axes with an axis of the result before, between or behind them
        place = draw(st.sampled_from([(0, 2), (2, 0)]))
        pieces = draw(st.sampled_from([(2, 2), (3, 2)]))
        first, last = pieces if place == (0, 2) else pieces[::-1]
        whole = [first, shape[0], last, *shape[1:]]
    backward, counted = draw(st.booleans()), draw(st.booleans())
    case = MaxoutCase(
        operation="maxout_backward" if backward else "maxout",
        level=draw(st.integers(0, 2)),
        arrays=[draw(operands(shape if backward else whole, ANY_KIND))],
        pieces=0,
        axis=draw(st.sampled_from([place_in(AXES, place)] * 60 + [*range(len(AXES))])),
        out=[None],
        counted=counted and not backward,
    )
    some = st.one_of(st.none(), operands(whole if backward else shape, ANY_KIND))
    case.out = draw(st.lists(some, min_size=1, max_size=1))
    if draw(st.integers(0, 3)) == 0 or (case.counted and draw(st.booleans())):
        case.out = [*case.out, draw(some)]
    if backward:
        case.out = case.out[:1]
        case.arrays.append(draw(operands(shape, ANY_KIND)))
        case.arrays[1].dtype = draw(st.sampled_from([*"B" * 20, *"bhHiIlLqQ", *DTYPES]))
        known = place_in(PIECES, pieces if pieces != 6 else 8)
        case.pieces = draw(st.sampled_from([known] * 40 + [*range(len(PIECES))]))
    for out in filter(None, case.out):
        out.steps = [step or 1 for step in out.steps]  # NumPy's order of writing one element twice
        if draw(st.booleans()):
            out.dtype = case.arrays[0].dtype if out is case.out[0] else "B"
    # An element where operands overlap holds another dtype's bytes: no boolean, no longdouble.
    assume(are_disjoint(case) or not any(x.dtype in "?g" for x in case.operands))
    assume(all(x.stop < MOST_BYTES for x in case.operands))
    return case


@st.composite
def sums_cases(draw):
    shape = draw(SHAPES)
    kept = [n if draw(st.booleans()) else 1 for n in shape]
    case = SumsCase(
        operation=draw(st.sampled_from([*SUMS])),
        level=draw(st.integers(0, 2)),
        in_place=draw(st.booleans()),
        arrays=[draw(operands(s, ANY_KIND)) for s in (shape, shape, kept)],
        parameter=None,
        out=[],
    )
    dtype = draw(st.sampled_from(FLOATS))
    for operand in case.arrays:  # mostly what is computed
        if draw(st.integers(0, 3)):
            operand.dtype = dtype if draw(st.integers(0, 3)) else draw(st.sampled_from(FLOATS))
        if draw(st.integers(0, 3)):
            operand.shape = shape if operand is not case.arrays[2] else kept
            operand.steps, operand.axes = [1] * len(shape), [*range(len(shape))]
    if SUMS[case.operation][1] and draw(st.booleans()):
        few = [PARAMETERS.index(0), PARAMETERS.index(1), PARAMETERS.index(None)]
        case.parameter = draw(st.sampled_from([*few * 9, *range(len(PARAMETERS))]))
    if not case.in_place and draw(st.booleans()):
        case.out = [draw(st.one_of(st.none(), operands(s, ANY_KIND))) for s in (shape, kept)]
        if draw(st.integers(0, 20)) == 0:
            case.out = case.out[:1]
    for place, out in enumerate([*case.out, *case.arrays[: case.in_place]]):
        if out is not None:
            out.steps = [step or 1 for step in out.steps]  # see maxout_cases
            if draw(st.booleans()):
                out.dtype = case.arrays[2 if place == 1 else 0].dtype
    assume(are_disjoint(case) or not any(x.dtype in "?g" for x in case.operands))
    # ml_dtypes has no common dtype for bfloat16 and these, or only in some order.
    dtypes = {x.dtype for x in case.operands}
    assume("bfloat16" not in dtypes or not {"g", "e"} & dtypes)
    assume(all(x.stop < MOST_BYTES for x in case.operands))
    return case


def are_disjoint(case):
    return all(
        a.stop <= b.offset or b.stop <= a.offset
        for a, b in itertools.combinations(case.operands, 2)
    )


@st.composite
def cases(draw):
    family = draw(st.integers(0, 6))
    if family >= 5:
        return draw(maxout_cases() if family == 5 else sums_cases())
    operation = draw(st.sampled_from(samples.OPERATIONS))
    shape = draw(SHAPES)
    of_any_kind = operands(shape, ANY_KIND)
    arrays = [draw(of_any_kind) for _ in range(operation.arity)]
    parameter = None
    if operation.parameter:
        small = st.integers(0, len(PARAMETERS) - 1)
        parameter = draw(st.one_of(st.integers(0, 4), small, of_any_kind))
    in_place = draw(st.booleans())
    case = Case(
        operation=str(operation),
        level=draw(st.integers(0, 2)),
        in_place=in_place,
        arrays=arrays,
        parameter=parameter,
        out=None,
        where=0,
        keywords={},
        strict=draw(st.booleans()),
    )
    if not in_place:
        own = st.integers(0, operation.arity - 1)
        case.out = draw(st.one_of(st.none(), own, of_any_kind))
        if draw(st.integers(0, 5)) == 0:
            wheres = operands(shape, st.just("array"))
            case.where = draw(st.one_of(st.integers(0, len(WHERES) - 1), wheres))
            if isinstance(case.where, Operand):
                case.where.dtype = "?"
            for name, choices in KEYWORDS.items():
                case.keywords[name] = draw(st.sampled_from([0, 0, *range(len(choices))]))
    if draw(st.booleans()):  # one dtype for all, without which there is no shortcut
        for operand in case.operands:
            operand.dtype = arrays[0].dtype if operand is not case.where else "?"
    assume(all(x.stop < MOST_BYTES for x in case.operands))
    return case


def reads_signs(case):
    """Whether an x is read in its own dtype, which the ufunc casts."""
    return "backward" in case.operation and len({array.dtype for array in case.arrays}) > 1


def behaviours(case, outcome):
    """What a corpus is to have an example of: how each operation ends, and each kind of operand at
    each door."""
    return {(case.operation, *outcome)} | {(case.door, x.kind, *outcome) for x in case.operands}


def batches(first_seed, examples, seconds):
    """Functions that pass BATCH random cases each to another function."""
    begin, done = time.monotonic(), 0
    for number in itertools.count(first_seed):
        if done >= examples or time.monotonic() - begin >= seconds:
            return
        options = settings(
            max_examples=min(BATCH, examples - done),
            database=None,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        yield lambda run: seed(number)(options(given(cases())(run)))()  # noqa: B023, called at once
        done += options.max_examples


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--examples", type=int, default=sys.maxsize)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the first batch")
    parser.add_argument(
        "--last", type=Path, default=Path(tempfile.gettempdir(), "relu_ext_last_case.json")
    )
    parser.add_argument("--write-corpus", action="store_true")
    options = parser.parse_args()
    seen, corpus, ends, begin = set(), [], Counter(), time.monotonic()
    columns = TextColumn("{task.completed:,} cases"), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=None)

        def run(case):
            options.last.write_text(case.to_json())
            outcome = check(case)
            ends[outcome] += 1
            if new := behaviours(case, outcome) - seen:
                seen.update(new)
                corpus.append(case)
            progress.advance(task)

        for batch in batches(options.seed, options.examples, 60 * options.minutes):
            batch(run)
    if options.write_corpus:
        CORPUS.write_text("".join(case.to_json() + "\n" for case in corpus))
    for end, count in ends.most_common():
        print(f"{count:10,} {' '.join(end)}")
    print(
        f"{ends.total():,} cases, {len(seen):,} behaviours, no difference; "
        f"{time.monotonic() - begin:,.0f} s"
    )


if __name__ == "__main__":
    main()
