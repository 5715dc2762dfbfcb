"""What the tests iterate and feed in: the registries of operations, dtypes and levels, the values
that matter, the layouts of an array; and how results are compared."""

import ctypes
import functools
import importlib
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest
import relu_ext
from relu_ext import _dispatch, _operations, ufuncs

import reference

VECTOR = 64  # bytes, the widest that any level works with
LEVELS = relu_ext.cpu_levels().available
X87 = np.finfo(np.longdouble).nmant == 63
"""Whether a longdouble is one of 80 bits, with padding."""


@contextmanager
def at_level(level):
    active = relu_ext.cpu_levels().active
    _dispatch.use(level)
    try:
        yield
    finally:
        _dispatch.use(active)


def slots(level):
    """The kernels of a level's table by operation and dtype, and the dtypes' itemsizes. Writing to
    them changes the table."""
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype = ctypes.c_void_p
    get_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    table = importlib.import_module(f"relu_ext._kernels_{level}").kernel_table
    address = get_pointer(table, b"relu_ext.KernelTable")
    dtypes = len({dtype.name for dtype in loop_dtypes(OPERATIONS[-1])})  # no bool, unlike relu
    each_kernel = ctypes.c_size_t * dtypes * len(OPERATIONS)

    class Table(ctypes.Structure):
        _fields_ = [("kernel", each_kernel), ("itemsize", ctypes.c_ssize_t * dtypes)]

    found = Table.from_address(address)
    return [np.ctypeslib.as_array(getattr(found, name)) for name, _ in Table._fields_]


def run_python(program, **environment):
    """A fresh interpreter without this one's RELU_EXT_* variables; its output is text."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("RELU_EXT_")}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@dataclass(frozen=True)
class Operation:
    """One operation and its three doors, each taking the arrays and then the parameter."""

    description: _operations.Operation

    def __str__(self):
        """The name of its oracle, which says what it chooses."""
        return self.description.ufunc_name.removeprefix("_")

    @property
    def name(self):
        """That of its functions, and in errors."""
        return self.description.name

    @property
    def ufunc(self):
        return getattr(ufuncs, self.description.ufunc_name)

    @property
    def function(self):
        return self._with_choice(getattr(relu_ext, self.description.name))

    @property
    def function_in_place(self):
        return self._with_choice(getattr(relu_ext, self.description.name + "_"))

    def _with_choice(self, function):
        """The public function, with the operation's choice of at_zero, if it has one."""
        if self.description.at_zero is None:
            return function
        chosen = functools.partial(function, at_zero=self.description.at_zero)
        return functools.update_wrapper(chosen, function)

    @property
    def parameter(self):
        """The name of the number that the operation takes beside its arrays, or None."""
        return self.description.parameter

    @property
    def arity(self):
        """How many arrays: x, or grad and x, or x and y."""
        return len(self.description.arrays)

    def _keywords(self, parameter):
        return {} if parameter is None else {self.parameter: parameter}

    def front(self, *arrays, parameter=None, **keywords):
        return self.function(*arrays, **self._keywords(parameter), **keywords)

    def in_place(self, *arrays, parameter=None):
        return self.function_in_place(*arrays, **self._keywords(parameter))

    def direct(self, *arrays, parameter=None, **keywords):
        return self.ufunc(*arrays, *self._keywords(parameter).values(), **keywords)

    def expected(self, *arrays, parameter=None):
        return reference.evaluate(str(self), arrays, parameter)


OPERATIONS = [
    Operation(description) for description in (*_operations.OPERATIONS, *_operations.AT_ZERO)
]
NAMED = {str(operation): operation for operation in OPERATIONS}


def loop_dtypes(operation):
    """The dtypes that `operation` computes in. `types` does not list a user's dtype."""
    return [np.dtype(loop[-1]) for loop in operation.ufunc.types] + [reference.bfloat16]


KERNELS = [
    pytest.param(operation, dtype, id=f"{operation}-{dtype.name}{'-q' * (dtype.char in 'qQ')}")
    for operation in OPERATIONS
    for dtype in loop_dtypes(operation)
]
each_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=str)
each_of_two_arrays = pytest.mark.parametrize(
    "operation", [o for o in OPERATIONS if o.arity == 2], ids=str
)
each_with_parameter = pytest.mark.parametrize(
    "operation", [o for o in OPERATIONS if o.parameter is not None], ids=str
)
each_kernel = pytest.mark.parametrize(("operation", "dtype"), KERNELS)


def parameters(operation, dtype):
    """Python numbers for the operation's parameter that keep `dtype`."""
    if operation.parameter is None:
        return [None]
    if not reference.is_floating(dtype):
        return [0, 1, 3] if dtype.kind == "u" else [0, 1, -3]
    if operation.parameter == "at_zero":
        return [0, 1, 0.5, -2.0, float("inf"), float("nan")]
    return [0.01, 0, 1, -0.25, 1e4, float("inf"), float("nan")]


def specials(dtype):
    """The values where formats end, and their neighbours."""
    if dtype.kind == "b":
        return np.array([False, True])
    if dtype.kind in "iu":
        least, most = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
        values = {least, least + 1, least // 2, -1, 0, 1, 2, most // 2, most - 1, most}
        return np.array(sorted(value for value in values if value >= least), dtype)
    if dtype == np.longdouble:
        info = np.finfo(dtype)
        some = [0, info.smallest_subnormal, info.tiny, 1, info.max, np.inf, np.nan]
        found = np.concatenate([np.array(some, dtype), -np.array(some, dtype)])
        return np.concatenate([found, no_numbers()]) if X87 else found
    mantissa = {2: 10, 4: 23, 8: 52}[dtype.itemsize] if dtype != reference.bfloat16 else 7
    word = np.dtype(f"u{dtype.itemsize}")
    least_normal, sign = 1 << mantissa, 1 << (8 * dtype.itemsize - 1)
    infinity = sign - least_normal
    one, quiet = (infinity >> 1) & ~(least_normal - 1), least_normal >> 1
    bits = [0, 1, least_normal - 1, least_normal, one, one + 3, infinity - 1, infinity]
    bits += [infinity + 1, infinity + quiet - 1, infinity + quiet, infinity + quiet + 5, sign - 1]
    return np.array([sign * s + b for b in bits for s in (0, 1)], word).view(dtype)


def no_numbers():
    """Bits of x87 whose exponent and leading bit contradict each other; all but the first, the
    pseudo-denormal, compare as NaN does."""
    words = np.zeros((10, 8), "u2")
    words[:, 4] = np.repeat([0, 1, 0x3FFF, 0x7FFF, 0x7FFF], 2) | np.tile([0, 0x8000], 5)
    words[:, 3] = np.repeat([0x8000, 0x4000, 0, 0, 0x4000], 2)
    return words.view(np.longdouble).ravel()


def values(dtype, count, seed=0):
    """`count` numbers of any bit pattern, every second one special."""
    generator = np.random.default_rng([seed, count, dtype.num])
    if dtype.kind == "b":
        return generator.integers(0, 2, count).astype(bool)
    if dtype == np.longdouble:  # of random bits, most are no number at all
        scale = np.ldexp(np.longdouble(1), generator.integers(-16000, 16000, count))
        some = generator.standard_normal(count).astype(dtype) * scale
    else:
        some = np.frombuffer(generator.bytes(count * dtype.itemsize), dtype).copy()
    special = specials(dtype)
    some[::2] = special[generator.integers(0, special.size, some[::2].size)]
    return some


def arrays(operation, dtype, count, seed=0):
    """Fresh x, or grad and x."""
    return [values(dtype, count, seed + i) for i in range(operation.arity)]


def bits(array):
    """The bytes of each element, without the padding of an x87 longdouble."""
    array = np.ascontiguousarray(array)
    if array.dtype.hasobject:
        return array.astype("f8").view("u8")[..., None]
    used = slice(None)
    if array.dtype.char == "g" and X87:  # the padding is at the most significant end
        used = slice(10) if array.dtype.isnative else slice(-10, None)
    return array.view(np.uint8).reshape(*array.shape, array.itemsize)[..., used]


def quiet(array):
    """NaNs without what a cast of the ufunc changes in them."""
    if array.dtype.kind in "iu":
        return array
    with np.errstate(all="ignore"):
        return np.where(array == array, array, np.array(np.nan, array.dtype))


def assert_same_bits(actual, expected, context=""):
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype, context
    assert actual.shape == expected.shape, context
    wrong = bits(actual) != bits(expected)
    if wrong.any():
        wrong = wrong.reshape(*actual.shape, -1).any(-1)
        first = tuple(int(i) for i in np.argwhere(wrong)[0])
        got, want = actual[first], expected[first]
        raise AssertionError(
            f"{context} {wrong.sum()} of {wrong.size} wrong, the first at {first}: "
            f"{got!r} ({got.tobytes().hex()}) instead of {want!r} ({want.tobytes().hex()})"
        )


def assert_same_array(actual, expected, context=""):
    """The same in every respect: type, dtype, shape, strides, bits; of a masked array the mask."""
    assert type(actual) is type(expected), context
    assert actual.dtype == expected.dtype, context
    # Of an axis of one element NumPy's own step depends on the way through its iterator.
    steps = zip(actual.shape, actual.strides, expected.strides, strict=True)
    assert all(length == 1 or one == other for length, one, other in steps), context
    if isinstance(actual, np.ma.MaskedArray):
        np.testing.assert_array_equal(actual.mask, expected.mask)
    assert_same_bits(actual, expected, context)


def aligned_bytes(count):
    """`count` bytes at a multiple of VECTOR."""
    memory = np.empty(count + VECTOR, np.uint8)
    start = -memory.ctypes.data % VECTOR
    return memory[start : start + count]


class Guarded:
    """A copy of `source`, `offset` bytes past a multiple of VECTOR, between two rows of guards."""

    GUARDS = np.full(VECTOR, 0xA5, np.uint8)

    def __init__(self, source, offset):
        start, stop = VECTOR + offset, VECTOR + offset + source.nbytes
        memory = aligned_bytes(stop + VECTOR)
        self.before, self.after = memory[start - VECTOR : start], memory[stop:]
        self.before[:] = self.after[:] = self.GUARDS
        self.array = memory[start:stop].view(source.dtype)
        self.array[:] = source

    def assert_guarded(self, context):
        guards = self.GUARDS.tobytes()
        assert self.before.tobytes() == guards and self.after.tobytes() == guards, context


class Labelled(np.ndarray):
    """An ndarray subclass with an attribute that views inherit."""

    def __array_finalize__(self, source):
        self.label = getattr(source, "label", None)


def _field(a):
    """Elements an odd number of bytes apart, most of them unaligned."""
    records = np.zeros(a.size, [("pad", "u1"), ("x", a.dtype)])
    records["x"] = a
    return records["x"]


def _unaligned(a):
    array = np.empty(a.nbytes + 1, np.uint8)[1:].view(a.dtype)
    array[:] = a
    return array


def _labelled(a):
    array = a.copy().view(Labelled)
    array.label = "kept"
    return array


# What a flat array of 24 elements can look like; each entry makes a fresh array.
LAYOUTS = {
    "contiguous": lambda a: a.copy(),
    "C": lambda a: a.reshape(4, 6).copy(),
    "F": lambda a: a.reshape(4, 6).copy(order="F"),
    "transposed": lambda a: a.reshape(2, 3, 4).copy().transpose(2, 0, 1),
    "reversed": lambda a: a.copy()[::-1],
    "reversed twice": lambda a: a.reshape(4, 6).copy()[::-1, ::-1],
    "every second": lambda a: np.repeat(a, 2)[::2],
    "every third, reversed": lambda a: np.repeat(a, 3)[::-3],
    "column": lambda a: np.repeat(a, 3).reshape(-1, 3)[:, 1],
    "window": lambda a: np.pad(a.reshape(4, 6), 2)[2:-2, 2:-2],
    "unaligned": _unaligned,
    "field": _field,
    "byte-swapped": lambda a: a.byteswap().view(a.dtype.newbyteorder()),
    "0-d": lambda a: a[3:4].copy().reshape(()),
    "one element": lambda a: a[3:4].copy(),
    "one element, 3-d": lambda a: a[3:4].copy().reshape(1, 1, 1),
    "empty": lambda a: a[:0].copy(),
    "empty 2-d": lambda a: a[:0].copy().reshape(3, 0),
    "subclass": _labelled,
    "subclass, F": lambda a: _labelled(a).reshape(4, 6, order="F"),
    "masked": lambda a: np.ma.array(a.copy(), mask=np.arange(a.size) % 3 == 0),
    "masked, nowhere": lambda a: np.ma.array(a.copy()),
}
READ_ONLY_LAYOUTS = {
    "broadcast": lambda a: np.broadcast_to(a, (3, a.size)),
    "broadcast scalar": lambda a: np.broadcast_to(a[0], (2, 3)),
    "broadcast column": lambda a: np.broadcast_to(a[:, None], (a.size, 2)),
}


# Numbers that are not exactly Python's


class Float(float):
    pass


class Integer(int):
    pass


# Objects with special methods


def thing(**members):
    return type("Thing", (), members)()


def constant(value):
    return lambda self, *arguments, **keywords: value


def raising(error):
    def fail(self, *arguments, **keywords):
        raise error

    return fail


@contextmanager
def written_meanwhile(array, places):
    """Another thread writes elements of a flat array, again and again; none may be lost."""
    stop, lost = threading.Event(), []

    def write():
        number = 0.0
        while not stop.is_set():
            number += 1
            array[places] = number
            if (array[places] != number).any():
                lost.append(number)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert not lost


def exporter(array, **members):
    """Nothing but DLPack, as an array of another library."""
    dlpack = {
        "__dlpack__": lambda self, **keywords: array.__dlpack__(**keywords),
        "__dlpack_device__": constant((1, 0)),
    }
    return thing(**dlpack | members)


def public_class(error):
    """The class that Python or NumPy documents; NumPy raises private ones derived from it."""
    public = ("builtins", "numpy.exceptions")
    return next(c for c in type(error).__mro__ if c.__module__ in public)
