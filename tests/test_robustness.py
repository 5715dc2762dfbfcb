"""What the library survives: the edges of memory, hostile objects, forks, signals, leaks."""

import array
import contextlib
import ctypes
import gc
import mmap
import re
import sys
from functools import partial
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import relu_ext
from numpy.lib.stride_tricks import as_strided

import fuzz
import leaks
import reference
import samples
from samples import (
    VECTOR,
    assert_same_bits,
    constant,
    each_kernel,
    each_operation,
    exporter,
    raising,
    thing,
)

TESTS = Path(__file__).parent


def run_python(program, **environment):
    return samples.run_python(program, PYTHONPATH=str(TESTS), **environment)


# Memory: to touch a byte outside the buffers, or to write an input, ends the process.

PAGE = mmap.PAGESIZE
PROT_NONE = 0


def protect(memory, protection):
    mprotect = ctypes.CDLL(None, use_errno=True).mprotect
    if mprotect(ctypes.c_void_p(memory.ctypes.data), ctypes.c_size_t(memory.size), protection):
        raise OSError(ctypes.get_errno(), "mprotect")


class Pages:
    """Memory for `count` bytes, rounded up, between two pages that nobody may touch."""

    def __init__(self, count):
        size = -(-count // PAGE) * PAGE
        memory = np.frombuffer(mmap.mmap(-1, size + 2 * PAGE), np.uint8)
        self.bytes = memory[PAGE:-PAGE]
        for guard in (memory[:PAGE], memory[-PAGE:]):
            protect(guard, PROT_NONE)

    @classmethod
    def read_only(cls, source, count):
        """`source` over and over."""
        pages = cls(count)
        elements = pages.bytes.view(source.dtype)
        elements[:] = np.resize(source, elements.size)
        protect(pages.bytes, mmap.PROT_READ)
        return pages

    def edges(self, dtype, length, step=1):
        """The first and the last `length` elements, `step` apart, and the same a byte short of an
        element away from the edge."""
        count = ((length - 1) * abs(step) + 1) * dtype.itemsize if length else 0
        for gap in {0, dtype.itemsize - 1}:
            stop = self.bytes.size - gap
            for memory in (self.bytes[gap : gap + count], self.bytes[stop - count : stop]):
                yield memory.view(dtype)[::step]


def edges(pages, dtype, length, step=1):
    """An array in each of `pages`, all at the same edge."""
    return zip(*(page.edges(dtype, length, step) for page in pages), strict=True)


def guarded_pages(operation, dtype, count):
    """Read-only pages for each input, others for a result; and a parameter that keeps `dtype`."""
    sources = samples.arrays(operation, dtype, 1000)
    parameter = samples.parameters(operation, dtype)[0]
    return [Pages.read_only(source, count) for source in sources], Pages(count), parameter


CRIMES = {
    "writes an input": "x.flags.writeable = True; relu_ext.relu_(x)",
    "reads behind": "relu_ext.relu(as_strided(last, (9,)))",
    "reads before": "relu_ext.relu(as_strided(first, (9,), (-4,)))",
}


@pytest.mark.parametrize("crime", CRIMES)
def test_the_guards_are_awake(crime):
    """What the tests below would not survive."""
    finished = run_python(f"""
import numpy as np, relu_ext
from numpy.lib.stride_tricks import as_strided
from test_robustness import Pages
pages = Pages.read_only(np.float32([-1, 2]), 100)
first, last, *_ = pages.edges(np.dtype("f4"), 8)
x = first.view()
for x in (first, last):
    relu_ext.relu(x)
print("alive", flush=True)
{CRIMES[crime]}
print("unseen")
""")
    assert finished.stdout == "alive\n", finished.stderr
    assert finished.returncode != 0


@each_kernel
def test_nothing_outside_is_touched(level, operation, dtype):
    """Every length to a vector and 1, around more vectors and the walker's sizes; each door."""
    vector = VECTOR // dtype.itemsize
    longer = [k * vector + i for k in (2, 3, 4, 16, 17, 140) for i in (-1, 0, 1)]
    inputs, output, parameter = guarded_pages(operation, dtype, 3 * PAGE)
    number = parameter if parameter is None else dtype.type(parameter)
    for length in (*range(vector + 2), *longer):
        for *arrays, out in edges([*inputs, output], dtype, length):
            operation.front(*arrays, parameter=parameter, out=out)
            operation.front(*arrays, parameter=parameter)
            operation.direct(*arrays, parameter=number, out=out)
            operation.in_place(out, *arrays[1:], parameter=parameter)


@each_kernel
def test_nothing_outside_a_strided_view_is_touched(level, operation, dtype):
    inputs, output, parameter = guarded_pages(operation, dtype, 16 * PAGE)
    for length in (0, 1, 2, 63, 65, 255, 1027):
        for step in (2, -1, -3):
            for *arrays, out in edges([*inputs, output], dtype, length, step):
                operation.front(*arrays, parameter=parameter, out=out)
                operation.in_place(out, *arrays[1:], parameter=parameter)


@pytest.mark.parametrize("columns", [1, 3, 16, 17, 33, 70, 300])
@each_operation
def test_nothing_outside_a_matrix_is_touched(level, operation, columns):
    """Rows with gaps, columns, the other memory order, an input of one row; at both ends."""
    for dtype in (np.dtype(c) for c in "efdbhg"):
        inputs, output, parameter = guarded_pages(operation, dtype, 64 * PAGE)
        for rows, gap in ((1, 0), (2, 1), (7, 5), (40, 30)):
            width = columns + gap
            length = (rows - 1) * width + columns
            for *flat, out in edges([*inputs, output], dtype, length):
                *arrays, written = [
                    as_strided(a, (rows, columns), (width * a.itemsize, a.itemsize))
                    for a in [*flat, out]
                ]
                operation.front(*arrays, parameter=parameter, out=written)
                operation.front(*arrays, parameter=parameter)
                operation.in_place(written, *arrays[1:], parameter=parameter)
                columnwise = [array.T for array in arrays]
                operation.front(*columnwise, parameter=parameter, out=written.T)
                crossed = np.empty((columns, rows), dtype)
                operation.front(*columnwise, parameter=parameter, out=crossed)
                row = [arrays[0], *(array[0] for array in arrays[1:])]
                operation.front(*row, parameter=parameter, out=written)
                second = [array[:, ::2] for array in arrays]
                operation.front(*second, parameter=parameter, out=written[:, ::2])


@pytest.mark.parametrize(
    ("operation", "dtype"), [k for k in samples.KERNELS if k.values[0].parameter is not None]
)
def test_nothing_outside_the_parameters_is_touched(level, operation, dtype):
    """An array of them, one for all, one per row."""
    inputs, output, _ = guarded_pages(operation, dtype, 2 * PAGE)
    parameters = Pages.read_only(np.arange(4).astype(dtype), 2 * PAGE)
    pages = [*inputs, output, parameters]
    for length in (*range(1, VECTOR // dtype.itemsize + 2), 130):
        for *arrays, out, parameter in edges(pages, dtype, length):
            for some in (parameter, parameter[:1], parameter[-1:], parameter[-1:].reshape(())):
                operation.front(*arrays, parameter=some, out=out)
                operation.in_place(out, *arrays[1:], parameter=some)


@each_operation
def test_nothing_outside_a_large_array_is_touched(level, operation, threads):
    """Where results are streamed past the caches and inputs prefetched."""
    dtype = np.dtype("f4")
    inputs, output, parameter = guarded_pages(operation, dtype, 17 << 20)
    for size in (5 << 20, 17 << 20):
        for *arrays, out in edges([*inputs, output], dtype, size // dtype.itemsize - 3):
            operation.front(*arrays, parameter=parameter, out=out)
            operation.in_place(out, *arrays[1:], parameter=parameter)


def test_more_threads_than_pay():
    """Each that computes gets at least half of THREAD_BYTES: 2, 3 and 4 of them share a number of
    elements that they do not divide."""
    finished = run_python(
        """
import numpy as np, relu_ext
from test_robustness import Pages
relu_ext.set_num_threads(600)
dtype = np.dtype(np.longdouble)
for bytes in (1 << 20, 3 << 19, 2 << 20):
    length = bytes // dtype.itemsize + 7
    for x in Pages((length + 1) * dtype.itemsize).edges(dtype, length):
        x[:] = -1
        assert not relu_ext.relu_(x).any()
print("all")
""",
        OMP_NUM_THREADS="600",
        OMP_WAIT_POLICY="passive",
    )
    assert finished.stdout == "all\n", (finished.returncode, finished.stderr)


def test_more_threads_than_rows():
    """Fifteen threads share rows that lie end to end, in axes of which none is as long."""
    finished = run_python(
        """
import numpy as np, relu_ext
relu_ext.set_num_threads(600)
shape = (10, 10, 10, 10, 10, 10, 8)
x = np.arange(8 * 10**6, dtype=np.int32).astype(np.int8).reshape(shape)
bias = np.arange(8000, dtype=np.int16).astype(np.int8).reshape(10, 1, 10, 1, 10, 1, 8)
expected = np.maximum(x + bias, 0)
assert np.array_equal(relu_ext.add_relu_(x, bias), expected)
print("equal")
""",
        OMP_NUM_THREADS="600",
        OMP_WAIT_POLICY="passive",
    )
    assert finished.stdout == "equal\n", (finished.returncode, finished.stderr)


# Leaks


def test_operands_that_take_each_others_memory_away():
    """With whatever of ndarrays and tensors there is; what is released leaves the process."""
    program = "import runpy; runpy.run_module('hostile', run_name='__main__')"
    finished = run_python(program, MALLOC_MMAP_THRESHOLD_="65536")
    counted = re.fullmatch(r"(\d+) calls, of which (\d+) computed\n", finished.stdout)
    assert finished.returncode == 0 and counted, finished.stderr
    every, computed = map(int, counted.groups())
    assert every > 300 and computed > every // 4


def test_no_call_leaks():
    """In a process of its own, whose few objects are counted ten times as fast."""
    program = "import leaks; print(*[leaks.leak(call, 300) for call in leaks.calls()], sep='\\n')"
    finished = run_python(program)
    assert finished.returncode == 0, finished.stderr
    found = finished.stdout.splitlines()
    assert len(found) > 1000 and {*found} == {"None"}


@pytest.fixture
def frozen():
    """What the process holds so far is no garbage, and no collection looks at it again."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("frozen")
def test_a_leak_is_found():
    kept = []
    for word, function, *arguments in (
        ("blocks", lambda: kept.append(object())),
        ("reference counts", kept.append, np.ones(3)),
        # More in all than malloc would ever serve from what it kept resident: 32 MiB.
        ("resident", bytearray().extend, b"." * 500_000),
    ):
        assert word in leaks.leak(leaks.Call("", function, tuple(arguments)), 300)
    assert leaks.leak(leaks.Call("", print), 300) is None
    with pytest.raises(AssertionError, match="no TypeError"):
        leaks.leak(leaks.Call("", print, error=TypeError), 300)


# Hostile objects: an exception or the right answer


class Hook:
    """An array through __array__ that does something else first."""

    def __init__(self, act):
        self.act = act

    def __array__(self, dtype=None, copy=None):
        self.act()
        return np.ones(8)


def in_place_calls(operation, written, hook):
    """Calls with `hook` instead of each operand but the written one."""
    others = [np.ones(8)] * (operation.arity - 1)
    if others:
        yield partial(operation.in_place, written, hook, parameter=operation.parameter and 1)
    if operation.parameter:
        yield partial(operation.in_place, written, *others, parameter=hook)
    if isinstance(written, np.ndarray):
        yield partial(operation.function, written, *others, where=hook, out=written)


@pytest.mark.parametrize("size", [0, 1, 7, 9, 100_000])
@each_operation
def test_an_operand_that_resizes_the_array(operation, size):
    """What comes out is computed on the new memory, or the shapes do not fit."""
    x = np.ones(8)
    hook = Hook(lambda: x.resize(size, refcheck=False))
    for call in in_place_calls(operation, x, hook):
        x.resize(8, refcheck=False)
        x[:] = 1
        with contextlib.suppress(ValueError, TypeError):
            call()
        assert x.shape == (size,) and np.isin(x, [0, 0.01, 1]).all()


EXPORTERS = {
    "array": (lambda: array.array("d", [1] * 8), lambda memory: memory.append(1)),
    "bytearray": (
        lambda: memoryview(bytearray(np.ones(8))).cast("d"),
        lambda view: view.obj.clear(),
    ),
    "mmap": (lambda: memoryview(mmap.mmap(-1, 64)).cast("d"), lambda view: view.obj.close()),
    "mmap, resized": (
        lambda: memoryview(mmap.mmap(-1, 64)).cast("d"),
        lambda view: view.obj.resize(8192),
    ),
}


@pytest.mark.parametrize("exporter", EXPORTERS)
@each_operation
def test_an_operand_that_takes_the_memory_away(operation, exporter):
    """The exporter's own BufferError, and nothing is written."""
    make, take_away = EXPORTERS[exporter]
    memory = make()
    before = memory.tolist()
    for call in in_place_calls(operation, memory, Hook(lambda: take_away(memory))):
        with pytest.raises(BufferError):
            call()
        assert memory.tolist() == before


class Mutates:
    """Changes the other inputs before it computes."""

    def __array_ufunc__(self, ufunc, method, *inputs, **keywords):
        for x in inputs:
            if x is not self:
                x[...] = -2
        inputs = [np.full(8, -2.0) if x is self else x for x in inputs]
        return getattr(ufunc, method)(*inputs, **keywords)


@each_operation
def test_an_operand_that_mutates_the_others(operation):
    others = [np.ones(8) for _ in range(operation.arity - 1)]
    parameter = operation.parameter and np.full(8, -2.0)
    expected = operation.expected(*[np.full(8, -2.0)] * operation.arity, parameter=parameter)
    calls = [[Mutates(), *others, parameter]]
    calls += [[np.ones(8), Mutates(), parameter]] if others else []
    calls += [[np.ones(8), *others, Mutates()]] if operation.parameter else []
    for *arrays, number in calls:
        parameter = number.copy() if isinstance(number, np.ndarray) else number
        assert_same_bits(operation.front(*arrays, parameter=parameter), expected)
        if arrays[0] is not calls[0][0]:
            arrays[0][:] = 1
            operation.in_place(*arrays, parameter=parameter)
            assert_same_bits(arrays[0], expected)


@pytest.mark.parametrize("dtype", ["S960000", "V960000", "f4", "u1"])
@pytest.mark.parametrize("asked", ["__float__", "__class__"])
def test_a_number_that_gives_the_array_another_dtype(asked, dtype):
    """Whichever number it is, none is written or read in the dtype of which the array was."""
    result = samples.run_python(
        f"""
import itertools
import warnings
import numpy as np
import relu_ext
from relu_ext._operations import OPERATIONS

def change(self=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x.dtype = {dtype!r}
    return np.float64 if {asked!r} == "__class__" else 0.5

class Asked({"object" if asked == "__class__" else "np.float32"}):
    {asked} = {"property(change)" if asked == "__class__" else "change"}

arguments = () if {asked!r} == "__class__" else (0.5,)
others = [0, 2, 0.5, np.float16(0.5), np.float64(0.5), np.bytes_(b"0.5"), np.void(b"0.5"),
          np.zeros((), {dtype!r})]
for own in "g", "d", "f", "e", "q":
    for operation in OPERATIONS:
        function = getattr(relu_ext, f"{{operation.name}}_")
        number = len(operation.operands) - 1
        for operands in itertools.product([Asked, *others], repeat=number):
            x = np.ones(960000 // np.dtype(own).itemsize, own)
            operands = [one(*arguments) if one is Asked else one for one in operands]
            keywords = {{operation.parameter: operands.pop()}} if operation.parameter else {{}}
            try:
                function(x, *operands, **keywords)
            except (TypeError, ValueError, AttributeError):
                pass
"""
    )
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("error", [TypeError, ValueError, OSError, MemoryError, KeyboardInterrupt])
@pytest.mark.parametrize("protocol", ["__array__", "__array_ufunc__"])
@each_operation
def test_an_operand_that_raises(operation, protocol, error):
    """The caller's own exception, and nothing is written."""
    error, x = error("the caller's own"), np.arange(-4.0, 4)
    for call in in_place_calls(operation, x, thing(**{protocol: raising(error)})):
        with pytest.raises(type(error)) as caught:
            call()
        assert caught.value is error
        assert_same_bits(x, np.arange(-4.0, 4))


@pytest.mark.parametrize("error", [TypeError, BufferError, KeyboardInterrupt])
@pytest.mark.parametrize("protocol", ["__dlpack__", "__dlpack_device__"])
def test_an_exporter_that_raises(protocol, error):
    error = error("the exporter's own")
    with pytest.raises(type(error)) as caught:
        relu_ext.relu_(exporter(np.ones(3), **{protocol: raising(error)}))
    assert caught.value is error


@pytest.mark.parametrize("hook", ["__array_finalize__", "__array_wrap__"])
@each_operation
def test_a_subclass_that_raises(operation, hook):
    error, armed = ZeroDivisionError("the caller's own"), []

    def fail(self, *arguments, **keywords):
        if armed:
            raise error
        return self

    x = np.full((2, 3), -1.0).view(type("Subclass", (np.ndarray,), {hook: fail}))
    armed.append(True)
    with pytest.raises(ZeroDivisionError) as caught:
        operation.function(*[x] * operation.arity)
    assert caught.value is error


class Liar:
    """Says that it is an array."""

    __class__ = np.ndarray
    flags = property(lambda self: np.ones(1).flags)


@each_operation
def test_an_object_that_lies_about_its_type(operation):
    for arrays in ([Liar()] * operation.arity, [np.ones(1), Liar()][: operation.arity]):
        if operation.arity == 2 or type(arrays[0]) is Liar:
            with pytest.raises((TypeError, AttributeError)):
                operation.in_place(*arrays)
            with pytest.raises(TypeError):
                operation.front(*arrays)
    with pytest.raises(TypeError):
        operation.front(*[np.ones(1)] * operation.arity, out=Liar())


@pytest.mark.parametrize(
    "call",
    [
        lambda x, thing: relu_ext.leaky_relu_subgradient(x, at_zero=thing),
        lambda x, thing: relu_ext.leaky_relu_backward_(x, x, at_zero=thing),
        lambda x, thing: relu_ext.prelu_backward(x, x, x, at_zero=thing),
        lambda x, thing: relu_ext.prelu_backward(x, x, thing),
    ],
)
def test_an_object_that_does_not_tell_its_type(call):
    """The caller's own exception."""
    error, x = ZeroDivisionError("the caller's own"), np.ones(3)
    with pytest.raises(ZeroDivisionError) as caught:
        call(x, thing(__class__=property(raising(error))))
    assert caught.value is error
    assert_same_bits(x, np.ones(3))


@each_operation
def test_out_is_the_base_of_an_input(operation):
    """The answer is that of a copy."""
    views = [lambda b: b[:], lambda b: b.T, lambda b: b[::-1], lambda b: b[:, ::-1], np.rot90]
    for view in [*views, lambda b: np.broadcast_to(b[7], b.shape)]:
        for which in range(operation.arity):
            base, *others = samples.arrays(operation, np.dtype("f4"), 1600)
            base = base.reshape(40, 40)
            arrays = [other.reshape(40, 40) for other in others]
            arrays.insert(which, view(base))
            parameter = samples.parameters(operation, base.dtype)[0]
            expected = operation.expected(*(a.copy() for a in arrays), parameter=parameter)
            assert operation.front(*arrays, parameter=parameter, out=base) is base
            assert_same_bits(base, expected)


@each_operation
def test_files_that_may_only_be_read(operation, tmp_path):
    """A mapping is an input as any other, and never written."""
    path = tmp_path / "numbers"
    numbers = samples.values(np.dtype("f4"), 5000)
    path.write_bytes(numbers.tobytes())
    parameter = samples.parameters(operation, numbers.dtype)[0]
    expected = operation.expected(*[numbers] * operation.arity, parameter=parameter)
    with path.open("rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    for x in (np.frombuffer(mapping, "f4"), np.memmap(path, "f4", mode="r")):
        arrays = [x] * operation.arity
        assert_same_bits(operation.front(*arrays, parameter=parameter), expected)
        for call in (operation.function_in_place, partial(operation.function, out=x)):
            with pytest.raises(ValueError, match="read-only"):
                call(*arrays)
        with pytest.raises(ValueError):
            x.flags.writeable = True
    private = np.memmap(path, "f4", mode="c")
    arrays = [private, numbers][: operation.arity]
    assert operation.in_place(*arrays, parameter=parameter) is private
    assert_same_bits(private, expected)
    assert path.read_bytes() == numbers.tobytes()


# Random calls


def corpus():
    return fuzz.CORPUS.read_text().splitlines()


@pytest.mark.parametrize("line", corpus())
def test_corpus(line):
    fuzz.check(fuzz.from_json(line))
    assert fuzz.from_json(line).to_json() == line


def test_the_fuzzer_finds_a_wrong_bit(monkeypatch):
    cases = [fuzz.from_json(line) for line in corpus()]
    compared = [case for case in cases if fuzz.check(case)[1] == "oracle"]
    maxout, maxout_backward = reference.maxout, reference.maxout_backward
    public = {o.name for o in samples.OPERATIONS if o.description.at_zero is None}
    assert {case.operation for case in compared} >= {*public, "maxout", "maxout_backward"}
    for name, right in reference.OPERATIONS.items():
        monkeypatch.setitem(reference.OPERATIONS, name, lambda *x, right=right: right(*x) + 1)
    monkeypatch.setattr(reference, "maxout", lambda *x: (maxout(*x)[0] + 1, maxout(*x)[1]))
    monkeypatch.setattr(reference, "maxout_backward", lambda *x: maxout_backward(*x) + 1)
    found = 0
    for case in compared:
        try:
            fuzz.check(case)
        except AssertionError:
            found += 1
    assert found > len(compared) / 2  # others are empty, or NaN


# DLPack whose C structures are wrong


class Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class VersionedTensor(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("manager_context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", Tensor),
    ]


class Forger:
    """Exports `numbers` by a structure written here, with some of its fields changed."""

    def __init__(self, numbers, name=b"dltensor_versioned", shape=None, strides=None, **fields):
        integers = ctypes.c_int64 * numbers.ndim
        self.numbers, self.name = numbers, name
        self.shape = integers(*(shape or numbers.shape))
        self.strides = strides and integers(*strides)
        self.struct = VersionedTensor(
            major=1,
            tensor=Tensor(
                data=numbers.ctypes.data,
                device_type=1,
                ndim=numbers.ndim,
                code={"i": 0, "u": 1, "f": 2, "V": 4, "c": 5, "b": 6}[numbers.dtype.kind],
                bits=8 * numbers.itemsize,
                lanes=1,
                shape=self.shape,
                strides=self.strides,
            ),
        )
        for field, value in fields.items():
            holder = self.struct if hasattr(self.struct, field) else self.struct.tensor
            setattr(holder, field, value)

    def __dlpack_device__(self):
        return 1, 0

    def __dlpack__(self, **keywords):
        new = ctypes.pythonapi.PyCapsule_New
        new.restype = ctypes.py_object
        new.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        struct = self.struct if b"versioned" in self.name else self.struct.tensor
        return new(ctypes.addressof(struct), self.name, None)


def numbers_for_dlpack():
    return np.array([[-1, 2, -3], [4, -5, 6]], "f4")


HONEST = {
    "versioned": {},
    "version 0": {"name": b"dltensor"},
    "a later minor version": {"minor": 99},
    "strides": {"strides": (3, 1)},
}


@pytest.mark.parametrize("fields", HONEST)
def test_a_dlpack_structure_of_our_own(fields):
    x = numbers_for_dlpack()
    forger = Forger(x, **HONEST[fields])
    assert relu_ext.relu_(forger) is forger
    assert x.tolist() == [[0, 2, 0], [4, 0, 6]]


def test_dlpack_strides_offset_and_dtypes():
    x = numbers_for_dlpack()
    relu_ext.relu_(Forger(x, shape=(1, 2), strides=(1, 2), byte_offset=8))
    assert x.tolist() == [[-1, 2, 0], [4, 0, 6]]
    bfloat16 = np.array([-1, 2], ml_dtypes.bfloat16)
    relu_ext.relu_(Forger(bfloat16))
    assert bfloat16.tolist() == [0, 2]
    for dtype in "?bhilBHILefdg":
        x = np.array([1, 0, 1]).astype(dtype)
        relu_ext.relu_(Forger(x))
        assert x.tolist() == [1, 0, 1]
    nothing = np.empty((2, 0), "f4")
    assert type(relu_ext.relu_(Forger(nothing, data=None))) is Forger


FORGERIES = {
    "read-only": ({"flags": 1}, ValueError),
    "a copy": ({"flags": 2}, TypeError),
    "version 2": ({"major": 2}, BufferError),
    "another device": ({"device_type": 2}, TypeError),
    "fewer than no dimensions": ({"ndim": -1}, BufferError),
    "65 dimensions": ({"ndim": 65}, BufferError),
    "negative length": ({"shape": (2, -3)}, ValueError),
    "lengths beyond the address space": ({"shape": (2**40, 2**40)}, ValueError),
    "lengths whose product wraps to 0": ({"shape": (2**32, 2**32)}, ValueError),
    "no memory": ({"data": None}, (BufferError, ValueError)),
    "complex": ({"code": 5, "bits": 64}, TypeError),
    "used": ({"name": b"used_dltensor_versioned"}, ValueError),
    "misnamed": ({"name": b"tensor"}, ValueError),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_forged_dlpack(forgery):
    """An error, never an answer that goes nowhere."""
    x = numbers_for_dlpack()
    fields, error = FORGERIES[forgery]
    with pytest.raises(error):
        relu_ext.relu_(Forger(x, **fields))
    assert_same_bits(x, numbers_for_dlpack())


UNKNOWN_DTYPES = {
    "vectors": {"lanes": 4},
    "nibbles": {"bits": 4},
    "no bits": {"bits": 0},
    "odd bits": {"bits": 24},
    "a float of 8 bits": {"bits": 8},
    "an integer of 128 bits": {"code": 0, "bits": 128},
    "unknown code": {"code": 99},
    "bfloat16 without ml_dtypes": {"code": 4, "bits": 16},
}


@pytest.mark.parametrize("dtype", UNKNOWN_DTYPES)
def test_dlpack_of_unknown_dtypes(dtype, monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    x = numbers_for_dlpack()
    names = "ml_dtypes" if "ml_dtypes" in dtype else "DLPack dtype"
    with pytest.raises(TypeError, match=f"^relu_: .*{names}"):
        relu_ext.relu_(Forger(x, **UNKNOWN_DTYPES[dtype]))
    assert_same_bits(x, numbers_for_dlpack())


@pytest.mark.parametrize("capsule", [None, 3, "text", ..., np.ones(2)], ids=repr)
def test_dlpack_without_a_capsule(capsule):
    with pytest.raises(ValueError):
        relu_ext.relu_(exporter(np.ones(2), __dlpack__=constant(capsule)))


@pytest.mark.parametrize("device", [None, (), 1, "11", (None, 0), ("1", 0)], ids=repr)
def test_dlpack_without_a_device(device):
    x = np.array([-1.0])
    with pytest.raises((TypeError, ValueError)):
        relu_ext.relu_(exporter(x, __dlpack_device__=constant(device)))
    assert x == -1


# Processes, threads, signals

POOL = """
import multiprocessing, warnings, numpy as np, relu_ext
# What Python says of every process that forks beside threads, OpenMP's too; 3.15 raises it here.
warnings.filterwarnings("ignore", "This process .*is multi-threaded", DeprecationWarning)
x = np.resize(np.float32([-1, 2]), 1 << 21)
if {threads}:
    relu_ext.set_num_threads({threads})
    relu_ext.relu(x)
with multiprocessing.get_context({method!r}).Pool(3) as pool:
    for result in pool.map_async(relu_ext.relu, [x, x[:64], x[::3]] * 4).get(100):
        assert result.sum() == result.size - result.size % 2
    assert set(pool.map(relu_ext.leaky_relu_subgradient, [-1, -2])) == {{0.01}}
assert relu_ext.relu(x).sum() == x.size
print("all")
"""


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_pools_of_processes(method, threads):
    finished = run_python(POOL.format(method=method, threads=threads))
    assert finished.stdout == "all\n", finished.stderr


INTERRUPT = """
import os, signal, threading, time
import numpy as np, relu_ext
relu_ext.set_num_threads({threads})
grad, x = np.ones(1 << 23, np.float32), -np.ones(1 << 23, np.float32)
# A shell's background job inherits that SIGINT is ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
calls = 0
def interrupt():
    while calls < 3:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt).start()
try:
    while True:
        relu_ext.leaky_relu_backward_(grad, x, -1)
        calls += 1
except KeyboardInterrupt:
    pass
assert abs(grad[0]) == 1 and (grad == grad[0]).all()
assert not relu_ext.relu(x).any()
print("all")
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_interrupted_by_a_signal(threads):
    """Ctrl-C arrives between calls: no array is half written, and the process goes on."""
    finished = run_python(INTERRUPT.format(threads=threads))
    assert finished.stdout == "all\n", finished.stderr


FIRST_USE = """
import threading
barrier, errors = threading.Barrier(8), []
def run():
    try:
        barrier.wait()
        import relu_ext, ml_dtypes, numpy as np
        x = np.array([-1, 2] * 500, ml_dtypes.bfloat16)
        for result in (relu_ext.relu(x), relu_ext.relu(x[::2]), relu_ext.leaky_relu(x[::2], 0.5)):
            assert result.dtype == ml_dtypes.bfloat16
    except BaseException as error:
        errors.append(repr(error))
threads = [threading.Thread(target=run) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(*errors or ["all"])
"""


def test_first_used_by_several_threads_at_once():
    """Which import the module, and give the ufuncs their bfloat16 loops."""
    finished = run_python(FIRST_USE)
    assert finished.stdout == "all\n", finished.stdout + finished.stderr


IMPORTED_MEANWHILE = """
import sys, threading
class Meanwhile:
    def find_spec(self, name, path=None, target=None):
        if name == "numpy":  # the first import of relu_ext
            sys.meta_path.remove(self)
            thread.start()
            thread.join(0.2)  # it waits for NumPy, which this thread imports
errors = []
def run():
    try:
        import relu_ext.ufuncs
    except BaseException as error:
        errors.append(repr(error))
thread = threading.Thread(target=run)
sys.meta_path.insert(0, Meanwhile())
import relu_ext
thread.join()
print(*errors or ["all"])
"""


def test_a_module_is_imported_while_another_thread_imports_the_package():
    finished = run_python(IMPORTED_MEANWHILE)
    assert finished.stdout == "all\n", finished.stdout + finished.stderr
