"""The front door: a shortcut, never a second meaning."""

import inspect
import platform
from functools import partial

import numpy as np
import pytest
import relu_ext
from relu_ext import ufuncs

import reference
import samples
from samples import (
    LAYOUTS,
    OPERATIONS,
    READ_ONLY_LAYOUTS,
    Float,
    Integer,
    Labelled,
    assert_same_array,
    assert_same_bits,
    constant,
    each_of_two_arrays,
    each_operation,
    each_with_parameter,
    public_class,
    raising,
    thing,
)

UFUNC_KEYWORDS = {
    "out": None,
    "where": True,
    "casting": "same_kind",
    "order": "K",
    "dtype": None,
    "subok": True,
}
DTYPES = [np.dtype(c) for c in "?bBhHiIlLqQefdg"] + [reference.bfloat16]
FLAT = 24  # elements, as LAYOUTS expect


def number(operation, dtype):
    """A parameter that keeps `dtype`."""
    if operation.parameter is None:
        return None
    return 0.5 if reference.is_floating(dtype) else 3


def takes(operation, dtype):
    """bool, unless a parameter promotes it, is for the operations that keep it."""
    return (
        dtype.kind != "b" or operation.parameter is not None or "?" in operation.description.dtypes
    )


def outcome(function, *arguments, **keywords):
    """What the call returns, or the public class of what it raises."""
    try:
        return function(*arguments, **keywords)
    except Exception as error:
        return public_class(error)


def assert_alike(one, other, context=""):
    if isinstance(one, type) or isinstance(other, type):
        assert one is other, context
    else:
        assert_same_array(one, other, context)


# Signatures


@each_operation
def test_signatures(operation):
    if operation.description.at_zero is not None:
        return  # the functions of another operation
    in_place = inspect.signature(operation.function_in_place)
    out_of_place = inspect.signature(operation.function)
    described = operation.description
    words = [*described.arrays, "/", *["*"] * described.keyword_only]
    words += [f"{described.parameter}={described.default}"] * (described.parameter is not None)
    words += ["*", "at_zero=None"] * described.chooses
    assert str(in_place) == f"({', '.join(words)})"
    own = {n: p for n, p in out_of_place.parameters.items() if n not in UFUNC_KEYWORDS}
    added = {n: p for n, p in out_of_place.parameters.items() if n in UFUNC_KEYWORDS}
    assert own == dict(in_place.parameters)
    assert {n: p.default for n, p in added.items()} == UFUNC_KEYWORDS
    assert {p.kind for p in added.values()} == {inspect.Parameter.KEYWORD_ONLY}


@each_operation
def test_wrong_arguments(operation):
    x = [np.array([-1.0, 2])] * operation.arity
    for f in (operation.function, operation.function_in_place):
        for positional, keywords in (
            (x[1:], {}),
            ([], {}),
            ([*x, 0.5, np.zeros(2)], {}),
            (x, {"nonsense": 1}),
            (x[1:], {"x": x[0]}),
        ):
            with pytest.raises(TypeError):
                f(*positional, **keywords)
    np.testing.assert_array_equal(x[0], [-1, 2])
    with pytest.raises(TypeError):
        operation.function_in_place(*x, out=x[0])


# Layouts and dtypes


@pytest.mark.parametrize("layout", LAYOUTS | READ_ONLY_LAYOUTS)
@each_operation
def test_layouts_out_of_place(operation, layout):
    make = (LAYOUTS | READ_ONLY_LAYOUTS)[layout]
    for dtype in DTYPES:
        if not takes(operation, dtype):
            continue
        flat = samples.arrays(operation, dtype, FLAT)
        arrays = [make(a) for a in flat]
        parameter = number(operation, dtype)
        front = operation.front(*arrays, parameter=parameter)
        assert_same_array(front, operation.direct(*arrays, parameter=parameter), f"{dtype}")
        native = [a.astype(a.dtype.newbyteorder("=")) for a in arrays]
        expected = operation.expected(*native, parameter=parameter)
        if isinstance(front, np.ma.MaskedArray):
            shown = ~np.ma.getmaskarray(front)
            expected = expected[shown]
            front = front.data[shown]
        assert_same_bits(front, expected, f"{dtype}")
        for array, source in zip(arrays, flat, strict=True):
            assert_same_bits(array, make(source))


@pytest.mark.parametrize("layout", LAYOUTS)
@each_operation
def test_layouts_in_place(operation, layout):
    for dtype in DTYPES:
        if dtype.kind == "b" and "?" not in operation.description.dtypes:
            continue
        flat = samples.arrays(operation, dtype, FLAT)
        parameter = number(operation, dtype)
        fronts, directs = ([LAYOUTS[layout](a) for a in flat] for _ in range(2))
        assert operation.in_place(*fronts, parameter=parameter) is fronts[0]
        out = directs[0]
        assert operation.direct(*directs, parameter=parameter, out=out) is out
        assert_same_array(fronts[0], directs[0], f"{dtype}")
        native = [np.asarray(LAYOUTS[layout](a)) for a in flat]
        native = [a.astype(a.dtype.newbyteorder("=")) for a in native]
        expected = operation.expected(*native, parameter=parameter)
        actual = np.asarray(fronts[0]).astype(expected.dtype)
        if isinstance(fronts[0], np.ma.MaskedArray):
            shown = ~np.ma.getmaskarray(fronts[0])
            expected = expected[shown]
            actual = actual[shown]
        assert_same_bits(actual, expected, f"{dtype}")
        for other, source in zip(fronts[1:], flat[1:], strict=True):
            assert_same_bits(other, LAYOUTS[layout](source))


@each_operation
def test_layouts_of_grad_and_x_and_out_may_differ(operation):
    shapes = ("C", "F", "reversed twice", "window", "subclass, F")
    flat = samples.arrays(operation, np.dtype("f4"), FLAT)
    for i, out_layout in enumerate(shapes):
        arrays = [LAYOUTS[shapes[(i + j + 1) % len(shapes)]](a) for j, a in enumerate(flat)]
        parameter = number(operation, np.dtype("f4"))
        expected = operation.expected(*arrays, parameter=parameter)
        out = LAYOUTS[out_layout](np.zeros(FLAT, "f4"))
        assert operation.front(*arrays, parameter=parameter, out=out) is out
        assert_same_bits(out, expected)
        assert_alike(
            operation.front(*arrays, parameter=parameter),
            operation.direct(*arrays, parameter=parameter),
        )
        assert operation.in_place(*arrays, parameter=parameter) is arrays[0]
        assert_same_bits(arrays[0], expected)


@each_of_two_arrays
def test_grad_and_x_broadcast(operation):
    grad = samples.values(np.dtype("f4"), 12).reshape(3, 4)
    parameter = operation.parameter and 0
    for x in (np.float32(-1), np.array([-1, 0, 2, np.nan], "f4"), np.array([[-1], [0], [3]], "f4")):
        expected = operation.expected(grad, x, parameter=parameter)
        assert_same_bits(operation.front(grad, x, parameter=parameter), expected)
        swapped = operation.front(x, grad, parameter=parameter)
        assert_same_bits(swapped, operation.expected(x, grad, parameter=parameter))
        written = grad.copy()
        assert operation.in_place(written, x, parameter=parameter) is written
        assert_same_bits(written, expected)
    for grad_shape, x_shape in (((4,), (3, 4)), ((), (2,)), ((3,), (4,)), ((0,), (2,))):
        grad, x = np.ones(grad_shape), -np.ones(x_shape)
        with pytest.raises(ValueError):
            operation.in_place(grad, x)
        np.testing.assert_array_equal(grad, np.ones(grad_shape))


@each_of_two_arrays
def test_one_array_for_grad_and_x(operation):
    for dtype in DTYPES[1:]:
        x = samples.values(dtype, 100)
        parameter = number(operation, dtype)
        expected = operation.expected(x, x, parameter=parameter)
        assert_same_bits(operation.front(x, x, parameter=parameter), expected)
        assert operation.in_place(x, x, parameter=parameter) is x
        assert_same_bits(x, expected)


@each_operation
def test_what_numpys_casts_report(operation):
    """Passes, be it one of NumPy's buffers or more; a product's own overflow stays silent."""
    for count in (3, np.getbufsize() + 1):
        x = [np.full(count, 1e300)] * operation.arity
        for function in (partial(np.positive, x[0]), partial(operation.function, *x)):
            with pytest.raises(FloatingPointError, match="overflow"):
                function(dtype="f4")
        x = [np.full(count, -1e38)] * operation.arity
        operation.front(*x, parameter=operation.parameter and 1e4, dtype="f4")


# Python numbers, lists, scalars


@each_operation
@pytest.mark.parametrize(
    "x",
    [
        -3, 0, 7, 2**63, -2.5, -0.0, float("nan"), True, [-2, -1, 0, 1, 2], [[-1.5, 2.0]], [],
        (1, -1), range(-2, 3), np.float32(-2), np.float64(3), np.int8(-5), np.bool(True),
        np.float16(-0.0), np.longdouble(-1),
    ],
    ids=repr,
)  # fmt: skip
def test_scalars_and_lists(operation, x):
    """The same value, dtype, type or error as through the ufunc and NumPy's own."""
    for parameter in (None,) if operation.parameter is None else (0, 1, 0.5):
        arrays = [x] * operation.arity
        front = outcome(operation.front, *arrays, parameter=parameter)
        assert_alike(front, outcome(operation.direct, *arrays, parameter=parameter))
        if isinstance(front, type):
            adds = operation.arity == 2 and parameter is None
            if adds and np.asarray(x).dtype.kind == "b":
                assert front is TypeError  # where NumPy's sum of two bools is their union
                continue
            assert front is (outcome(np.add, x, x) if adds else outcome(np.multiply, x, parameter))
        else:
            assert_same_bits(front, operation.expected(*arrays, parameter=parameter))


@each_operation
def test_nothing_else_can_be_written(operation):
    """Numbers, lists and tuples: a TypeError that says what to call instead."""
    for x in (
        -3,
        2.5,
        [-1.0, 2.0],
        (1, 2),
        np.float32(-2),
        None,
        "text",
        range(3),
        {1: 2},
        object(),
    ):
        others = [np.ones(1)] * (operation.arity - 1)
        with pytest.raises(TypeError, match=rf"\b{operation.name}\b"):
            operation.in_place(x, *others)
    assert outcome(relu_ext.relu_, [-1.0]) is TypeError
    numbers = [-1.0, 2.0]
    with pytest.raises(TypeError):
        operation.in_place(numbers, *[[1.0, 1.0]] * (operation.arity - 1))
    assert numbers == [-1.0, 2.0]


@each_operation
def test_defaults(operation):
    x = [np.array([-2, -0.0, 0, 3, np.nan], "f4")] * operation.arity
    expected = operation.expected(*x, parameter=operation.description.default)
    assert_same_bits(operation.function(*x), expected)
    assert_same_bits(operation.function_in_place(*(a.copy() for a in x)), expected)
    if operation.parameter == "negative_slope":
        assert_same_bits(operation.function(*x, 0.01), expected)
        assert_same_bits(operation.function_in_place(x[0].copy(), *x[1:], 0.01), expected)
    if operation.parameter == "at_zero":
        with pytest.raises(TypeError):
            operation.function(*x, 0)


# The parameter: which dtype results, and what a bad one raises


PARAMETERS = [
    0, 1, -2, 300, 2**40, 10**400, 0.0, -0.0, 0.5, 1e300, 1e-300, float("inf"), float("nan"), True,
    Float(0.3), Integer(2), 1j, None, "0.5", [0.1, 0.2, 0.3], [0.1, 0.2], ..., np.float16(0.3),
    np.float32(0.3), np.float64(0.3), np.longdouble(0.3), np.int8(3), np.int64(3), np.bool(True),
    np.complex64(1), np.array(0.3), np.array(0.3, "f4"), np.array([0.3]), np.array([[0.3], [2]]),
    np.array([1, 0, 3], "f4"), np.array([1, 2, 3], "i2"), np.array([]), np.array(2, ">f4"),
    reference.bfloat16.type(0.5),
]  # fmt: skip


@pytest.mark.parametrize("parameter", PARAMETERS, ids=repr)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.char)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_kinds_of_parameter(dtype, parameter):
    """Contiguous (the kernel), strided and 0-d (the ufunc): one dtype, one value, one error."""
    keeps = type(parameter) in (int, float) and reference.is_floating(dtype)
    for operation in OPERATIONS:
        if operation.parameter is None:
            continue
        keyword = {operation.parameter: parameter}
        arrays = samples.arrays(operation, dtype, 3)
        strided = [np.repeat(a, 2)[::2] for a in arrays]
        kept, other = arrays[0].copy(), np.repeat(arrays[0], 2)[::2]
        with np.errstate(all="ignore"):
            front = outcome(operation.function, *arrays, **keyword)
            apart = outcome(operation.function, *strided, **keyword)
            assert_alike(front, apart, operation)
            assert_alike(front, outcome(operation.ufunc, *arrays, parameter), operation)
            in_place = operation.function_in_place
            written = outcome(in_place, kept, *arrays[1:], **keyword)
            apart = outcome(in_place, other, *strided[1:], **keyword)
        if isinstance(written, type):
            assert written is apart
            assert_same_bits(kept, arrays[0])
            assert_same_bits(other, arrays[0])
        else:
            assert written is kept and apart is other
            assert_same_bits(other, kept)
        if isinstance(front, type):
            assert front in (TypeError, ValueError, OverflowError), operation
        elif keeps:
            assert front.dtype == dtype
            assert_same_bits(written, front)
        if not isinstance(front, type) and parameter is not None:
            given = np.array(parameter) if type(parameter) is list else parameter
            assert_same_bits(front, operation.expected(*arrays, parameter=given), operation)


@each_operation
def test_integers_and_their_parameter(operation):
    """An int keeps the dtype and wraps; a float promotes, which nothing can be written back as."""
    for dtype in (np.dtype(c) for c in "bBhHiIlLqQ"):
        arrays = samples.arrays(operation, dtype, 50)
        if operation.parameter is None:
            assert_same_bits(operation.front(*arrays), operation.expected(*arrays))
            continue
        assert operation.front(*arrays, parameter=3).dtype == dtype
        assert_same_bits(
            operation.front(*arrays, parameter=3), operation.expected(*arrays, parameter=3)
        )
        assert operation.front(*arrays, parameter=0.5).dtype == np.float64
        written = arrays[0].copy()
        with pytest.raises(TypeError, match=r"gives|cannot hold"):
            operation.in_place(written, *arrays[1:], parameter=0.5)
        assert_same_bits(written, arrays[0])
        if dtype.kind == "u":
            assert_alike(
                outcome(operation.front, *arrays, parameter=-1),
                outcome(np.multiply, arrays[0], -1),
            )
    if operation.parameter == "negative_slope":
        assert operation.function(*arrays).dtype == np.float64
    elif operation.parameter == "at_zero":
        assert operation.function(*arrays).dtype == dtype


@each_operation
def test_bool(operation):
    """relu keeps bool; those with a parameter give what ``bool * parameter`` gives."""
    arrays = [np.array([True, False])] * operation.arity
    if "?" in operation.description.dtypes:
        assert_same_bits(operation.front(*arrays), arrays[0])
        return
    if operation.parameter is None:
        for door in (operation.front, operation.in_place, operation.direct):
            with pytest.raises(TypeError, match=r"dtype bool of \w+.* is not supported"):
                door(*arrays)
        return
    for parameter in (0, 1, 0.5, np.float32(0.5), np.int8(2)):
        front = operation.front(*arrays, parameter=parameter)
        assert front.dtype == (arrays[0] * parameter).dtype
        assert_same_bits(front, operation.expected(*arrays, parameter=parameter))
        with pytest.raises(TypeError, match=r"gives|cannot hold"):
            operation.in_place(*(a.copy() for a in arrays), parameter=parameter)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "g", reference.bfloat16], ids=str)
@each_with_parameter
def test_prelu_per_channel(operation, dtype):
    """An array in the parameter's place broadcasts: one slope per channel, in any layout."""
    dtype = np.dtype(dtype)
    arrays = [a.reshape(8, 3, 5, 7) for a in samples.arrays(operation, dtype, 840)]
    slopes = np.array([0, 0.25, 1], dtype).reshape(3, 1, 1)
    for layout in (np.array, np.asfortranarray, lambda a: np.moveaxis(a, 1, -1).copy()):
        inputs = [layout(a) for a in arrays]
        channels = slopes if inputs[0].shape[1] == 3 else slopes.reshape(3)
        expected = operation.expected(*inputs, parameter=channels)
        front = operation.front(*inputs, parameter=channels)
        assert_same_array(front, operation.direct(*inputs, parameter=channels))
        assert_same_bits(front, expected)
        assert operation.in_place(*inputs, parameter=channels) is inputs[0]
        assert_same_bits(inputs[0], expected)
    small = arrays[0][:, 0, 0, 0].copy()
    with pytest.raises(ValueError):
        operation.in_place(small, *[small] * (operation.arity - 1), parameter=slopes)
    assert_same_bits(small, arrays[0][:, 0, 0, 0])


# NumPy's keywords


def keyword_calls():
    """Keywords of calls on 4 by 6 float32; each entry makes fresh operands."""
    odd = np.arange(24).reshape(4, 6) % 2 == 1
    out = lambda dtype="f4", **k: np.full((4, 6), 7, dtype, **k)  # noqa: E731
    return {
        "out": lambda: {"out": out()},
        "out in a tuple": lambda: {"out": (out(),)},
        "out None": lambda: {"out": None},
        "out in a tuple, None": lambda: {"out": (None,)},
        "out F": lambda: {"out": out(order="F")},
        "out reversed": lambda: {"out": out()[::-1]},
        "out byte-swapped": lambda: {"out": out(">f4")},
        "out wider": lambda: {"out": out("f8")},
        "out narrower": lambda: {"out": out("f2")},
        "out int": lambda: {"out": out("i4")},
        "out int, unsafe": lambda: {"out": out("i4"), "casting": "unsafe"},
        "out complex": lambda: {"out": out("c8")},
        "out object": lambda: {"out": out("O")},
        "out larger": lambda: {"out": np.full((2, 4, 6), 7, "f4")},
        "out too small": lambda: {"out": np.full((4, 5), 7, "f4")},
        "out 0-d": lambda: {"out": np.full((), 7, "f4")},
        "out transposed": lambda: {"out": np.full((6, 4), 7, "f4")},
        "out a list": lambda: {"out": [[7.0] * 6] * 4},
        "out two": lambda: {"out": (out(), out())},
        "out subclass": lambda: {"out": out().view(Labelled)},
        "out masked": lambda: {"out": np.ma.array(out())},
        "where": lambda: {"out": out(), "where": odd},
        "where row": lambda: {"out": out(), "where": odd[0]},
        "where True": lambda: {"out": out(), "where": True},
        "where False": lambda: {"out": out(), "where": False},
        "where larger": lambda: {
            "out": np.full((2, 4, 6), 7, "f4"),
            "where": np.array([odd, ~odd]),
        },
        "where wrong shape": lambda: {"out": out(), "where": odd[:2]},
        "where int": lambda: {"out": out(), "where": odd.astype(int)},
        "where list": lambda: {"out": out(), "where": odd.tolist()},
        "where None": lambda: {"out": out(), "where": None},
        "casting no": lambda: {"casting": "no"},
        "casting equiv": lambda: {"casting": "equiv"},
        "casting safe": lambda: {"casting": "safe", "dtype": "f8"},
        "casting safe, narrower": lambda: {"casting": "safe", "dtype": "f2"},
        "casting unknown": lambda: {"casting": "nonsense"},
        "casting 3": lambda: {"casting": 3},
        "dtype": lambda: {"dtype": np.float64},
        "dtype name": lambda: {"dtype": "float32"},
        "dtype swapped": lambda: {"dtype": ">f4"},
        "dtype int": lambda: {"dtype": int},
        "dtype int, unsafe": lambda: {"dtype": int, "casting": "unsafe"},
        "dtype complex": lambda: {"dtype": complex},
        "dtype unknown": lambda: {"dtype": "nonsense"},
        "dtype and out": lambda: {"dtype": "f8", "out": out()},
        "order C": lambda: {"order": "C"},
        "order F": lambda: {"order": "F"},
        "order A": lambda: {"order": "A"},
        "order unknown": lambda: {"order": "Q"},
        "order None": lambda: {"order": None},
        "subok False": lambda: {"subok": False},
        "subok 0": lambda: {"subok": 0},
    }


@pytest.mark.parametrize("keywords", keyword_calls())
@each_operation
def test_keywords(operation, keywords):
    """Alike through both doors, whether the front door takes its short way or not; an exception is
    of the type that NumPy's own ufunc raises, and then neither x nor out is written."""
    make = keyword_calls()[keywords]
    for layout in ("C", "F", "transposed", "reversed twice", "subclass", "masked"):
        flat = samples.arrays(operation, np.dtype("f4"), FLAT)
        with np.errstate(all="ignore"):  # so that every cast of a value is possible
            flat = [np.nan_to_num(a, posinf=9, neginf=-9).clip(-1e4, 1e4) for a in flat]
        for a in flat:
            a[np.abs(a) < 0.125] = 0
        arrays = [LAYOUTS[layout](a) for a in flat]
        parameter = None if operation.parameter is None else 1
        front, direct = make(), make()
        context = f"{layout} {keywords}"
        one = outcome(operation.front, *arrays, parameter=parameter, **front)
        other = outcome(operation.direct, *arrays, parameter=parameter, **direct)
        assert_alike(one, other, context)
        targets = [target(keywords) for keywords in (front, direct)]
        if isinstance(one, type):
            numpy_call = (
                (np.positive, arrays[0]) if parameter is None else (np.multiply, arrays[0], 1)
            )
            numpy_error = outcome(*numpy_call, **make())
            if layout in ("C", "F") and "complex" not in keywords and "object" not in keywords:
                assert one is numpy_error, context
            if isinstance(targets[0], np.ndarray):
                assert_same_array(targets[0], target(make()), context)
        elif isinstance(targets[0], np.ndarray):
            assert one is targets[0] and other is targets[1], context
        for a, source in zip(arrays, flat, strict=True):
            assert_same_bits(a, LAYOUTS[layout](source), context)


def target(keywords):
    out = keywords.get("out")
    return out[0] if type(out) is tuple else out


@each_operation
def test_where_leaves_the_rest(operation):
    arrays = samples.arrays(operation, np.dtype("f4"), 100)
    where = samples.values(np.dtype(bool), 100)
    parameter = number(operation, np.dtype("f4"))
    expected = operation.expected(*arrays, parameter=parameter)
    out = np.full(100, 7, "f4")
    assert operation.front(*arrays, parameter=parameter, out=out, where=where) is out
    assert_same_bits(out, np.where(where, expected, np.float32(7)))


@pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) < "2.3.0", reason="NumPy 2.3 introduced out=..."
)
@each_operation
def test_out_ellipsis_gives_an_array(operation):
    arrays = [np.array(-1.0)] * operation.arity
    front = operation.front(*arrays, parameter=operation.parameter and 1, out=...)
    assert isinstance(front, np.ndarray) and front.shape == ()
    direct = operation.direct(*arrays, parameter=operation.parameter and 1, out=...)
    assert_same_array(front, direct)


# Overlap


@pytest.mark.parametrize("count", [9, 1000, 70000])
@each_operation
def test_overlapping_out(operation, count):
    """The answer is that of a copy."""
    parameter = number(operation, np.dtype("f4"))
    for shift in (-17, -3, -1, 0, 1, 2, 16):
        for which in range(operation.arity):
            for step in (1, -1):
                memory = samples.values(np.dtype("f4"), count + 40)
                arrays = samples.arrays(operation, np.dtype("f4"), count, seed=3)
                arrays[which] = memory[20 : 20 + count][::step]
                out = memory[20 + shift : 20 + shift + count]
                expected = operation.expected(*(a.copy() for a in arrays), parameter=parameter)
                assert operation.front(*arrays, parameter=parameter, out=out) is out
                assert_same_bits(out, expected, f"{shift=} {which=} {step=}")


@pytest.mark.parametrize("count", [9, 1000])
@each_operation
def test_overlapping_and_interleaved_views(operation, count):
    """Every second element, the others between; fields of one record; steps that differ."""
    parameter = number(operation, np.dtype("f4"))
    for shift in range(-4, 5):
        for step, out_step in ((2, 2), (3, 3), (2, -2), (-2, -2), (1, 2), (3, 1)):
            for which in range(operation.arity):
                memory = samples.values(np.dtype("f4"), 3 * count + 40)
                arrays = samples.arrays(operation, np.dtype("f4"), count, seed=3)
                arrays[which] = memory[20:][: count * abs(step)][::step]
                out = memory[20 + shift :][: count * abs(out_step)][::out_step]
                expected = operation.expected(*(a.copy() for a in arrays), parameter=parameter)
                assert operation.front(*arrays, parameter=parameter, out=out) is out
                assert_same_bits(out, expected, f"{shift=} {step=} {out_step=} {which=}")
    records = np.zeros(count, [("x", "f4"), ("pad", "u1"), ("y", "f4")])
    arrays = samples.arrays(operation, np.dtype("f4"), count)
    records["x"] = arrays[0]
    operation.front(records["x"], *arrays[1:], parameter=parameter, out=records["y"])
    assert_same_bits(records["y"], operation.expected(*arrays, parameter=parameter))
    assert_same_bits(records["x"], arrays[0])


@pytest.mark.parametrize("count", [9, 1000, 70000])
@each_of_two_arrays
def test_overlapping_grad_and_x_in_place(operation, count):
    parameter = operation.parameter and 0
    for shift in (-17, -1, 0, 1, 16):
        for step in (1, -1):
            memory = samples.values(np.dtype("f4"), count + 40)
            grad, x = memory[20 : 20 + count], memory[20 + shift : 20 + shift + count][::step]
            expected = operation.expected(grad.copy(), x.copy(), parameter=parameter)
            assert operation.in_place(grad, x, parameter=parameter) is grad
            assert_same_bits(grad, expected, f"{shift=} {step=}")


@each_with_parameter
def test_out_overlaps_the_parameter(operation):
    for count in (5, 1000):
        for shift in (0, 1, -1):
            arrays = samples.arrays(operation, np.dtype("f4"), count)
            memory = np.resize(np.array([0, 1, 0.5], "f4"), count + 2)
            out, parameter = memory[1 + shift : 1 + shift + count], memory[1 : 1 + count]
            expected = operation.expected(*arrays, parameter=parameter.copy())
            assert operation.front(*arrays, parameter=parameter, out=out) is out
            assert_same_bits(out, expected)


@each_operation
def test_array_that_overlaps_itself(operation):
    """Every row of it is the same memory: whatever NumPy's rule gives, both doors give."""
    for shape, strides in (((3, 4), (0, 4)), ((3, 4), (4, 4))):
        made = []
        for door in ("front", "direct"):
            memory = np.array([-2, 3, -4, 5, -6, 7], "f4")
            x = np.lib.stride_tricks.as_strided(memory, shape, strides)
            others = [np.full(shape, -1, "f4")] * (operation.arity - 1)
            if door == "front":
                assert operation.in_place(x, *others, parameter=operation.parameter and 0) is x
            else:
                operation.direct(x, *others, parameter=operation.parameter and 0, out=x)
            made.append(memory)
        assert_same_bits(*made)


# Values that only a test of their own shows


def test_the_contract_at_the_special_values():
    """The table as it is printed, without the oracle."""
    x = np.array([2, np.inf, -2, -np.inf, 0.0, -0.0, np.nan])
    inf_grad, nan = np.full(7, np.inf), np.nan
    nan_grad, four = np.full(7, np.nan), np.full(7, 4.0)
    table = [
        (relu_ext.relu(x), [2, np.inf, 0, 0, 0, 0, nan]),
        (relu_ext.relu_subgradient(x), [1, 1, 0, 0, 0, 0, nan]),
        (relu_ext.relu_subgradient(x, at_zero=0.5), [1, 1, 0, 0, 0.5, 0.5, nan]),
        (relu_ext.relu_backward(inf_grad, x), [np.inf, np.inf, 0, 0, 0, 0, np.inf]),
        (relu_ext.relu_backward(inf_grad, x, at_zero=1), [np.inf, np.inf, 0, 0] + [np.inf] * 3),
        (relu_ext.relu_backward(nan_grad, x), [nan, nan, 0, 0, 0, 0, nan]),
        (relu_ext.leaky_relu(x, 0.5), [2, np.inf, -1, -np.inf, 0, -0.0, nan]),
        (relu_ext.leaky_relu_subgradient(x, 0.5), [1, 1, 0.5, 0.5, 0.5, 0.5, nan]),
        (relu_ext.leaky_relu_backward(four, x, 0.5), [4, 4, 2, 2, 2, 2, 2]),
    ]
    for actual, expected in table:
        np.testing.assert_array_equal(actual, expected)
        np.testing.assert_array_equal(np.signbit(actual[:-1]), np.signbit(expected[:-1]))


@pytest.mark.parametrize("dtype", ["f4", "f8", "i1", "i8", "u8"])
def test_relu_is_maximum(dtype):
    with np.errstate(all="ignore"):
        x = samples.values(np.dtype(dtype), 3000)
        if platform.machine() == "aarch64":
            x *= 1  # where maximum makes signalling NaN quiet, so does this
        assert_same_bits(relu_ext.relu(x), np.maximum(x, 0))


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "g"])
def test_leaky_relu_is_where(dtype):
    x = samples.values(np.dtype(dtype), 3000)
    with np.errstate(all="ignore"):
        assert_same_bits(relu_ext.leaky_relu(x, 0.3), np.where(x < 0, x * 0.3, x))


def test_backward_from_the_output():
    """The output may be given instead of x only for at_zero = 0 and for a slope > 0."""
    grad, x = samples.values(np.dtype("f4"), 3000), samples.values(np.dtype("f4"), 3000, seed=1)
    output = relu_ext.relu(x)
    same = relu_ext.relu_backward(grad, x)
    assert_same_bits(relu_ext.relu_backward(grad, output), same)
    for slope in (1e-30, 0.01, 1, 3.0):
        output = relu_ext.leaky_relu(x, slope)
        same = relu_ext.leaky_relu_backward(grad, x, slope)
        assert_same_bits(relu_ext.leaky_relu_backward(grad, output, slope), same)
    grad, x = np.ones(1), np.array([-2.0])
    assert relu_ext.relu_backward(grad, x, at_zero=1) == 0
    assert relu_ext.relu_backward(grad, relu_ext.relu(x), at_zero=1) == 1
    assert relu_ext.leaky_relu_backward(grad, x, -3.0) == -3
    assert relu_ext.leaky_relu_backward(grad, relu_ext.leaky_relu(x, -3.0), -3.0) == 1


# Bad input: the documented error, and nothing written

UNSUPPORTED = [
    np.array([1 - 2j]),
    np.array([1j], "c8"),
    np.array(["2020-01-01"], "M8[D]"),
    np.array([-3], "m8[s]"),
    np.zeros(1, [("a", "f4"), ("b", "i4")]),
    np.array(["text"]),
    np.array([b"text"]),
    np.array([-1, None], object)[:1],
    np.array([-1.5], object),
    np.zeros(1, "V4"),
    np.array(["text"], np.dtypes.StringDType()),
]


@pytest.mark.parametrize("x", UNSUPPORTED, ids=lambda x: x.dtype.str)
@pytest.mark.parametrize("shape", [(1,), (), (2, 3), (0,)], ids=str)
@each_operation
def test_unsupported_dtypes(operation, x, shape):
    x = np.resize(x, shape) if shape else x.reshape(())
    before = x.copy()
    arrays = [[x]] if operation.arity == 1 else [[x, x], [np.ones(shape), x], [x, np.ones(shape)]]
    for inputs in arrays:
        for f in (operation.function, operation.function_in_place):
            with pytest.raises(TypeError) as error:
                f(*inputs)
            assert operation.name in str(error.value), error.value
            names = (str(x.dtype), x.dtype.name, x.dtype.type.__name__)
            assert any(name in str(error.value) for name in names), error.value
        with pytest.raises(TypeError):
            operation.direct(*inputs, parameter=operation.parameter and 0)
        with pytest.raises(TypeError):
            operation.front(*inputs, out=np.ones(shape, x.dtype))
    assert x.dtype == before.dtype and x.tobytes() == before.tobytes()


@each_operation
def test_dtypes_of_the_newer_kind(operation):
    """Which have no number of their own, as this one that NumPy tests itself with."""
    scaled = np._core._multiarray_umath._get_sfloat_dtype()(1.0)
    x = np.array([-1.0, 2]).view(scaled)
    for door in (operation.front, operation.in_place, operation.direct):
        with pytest.raises(TypeError, match=rf"\b{operation.name}_?:"):
            door(*[x] * operation.arity, parameter=operation.parameter and 1)
    assert x.view("f8").tolist() == [-1, 2]


@each_with_parameter
def test_the_unsupported_dtype_is_named(operation):
    """That one alone, with its argument."""
    words = rf"\b{operation.name}_?: dtype str_ of {operation.parameter} is"
    for door in (operation.front, operation.in_place, operation.direct):
        with pytest.raises(TypeError, match=words):
            door(*[np.ones(2)] * operation.arity, parameter="a")


@pytest.mark.parametrize("x", [-0.1, 1e-320, 2.0**128, -(2.0**128), np.nan, 0.25, -1.0, 0.0])
@pytest.mark.parametrize("at_zero", [0, 1, 0.1])
def test_a_float64_scalar_as_the_x_of_a_gradient(x, at_zero):
    """In place on float32: its own sign decides, and a number beside it is a float64."""
    grad = np.random.default_rng(0).standard_normal(1000).astype("f4")
    for function in ("relu_backward", "leaky_relu_backward"):
        ufunc = getattr(relu_ext.ufuncs, function)
        with np.errstate(all="ignore"):
            expected = ufunc(grad, np.float64(x), at_zero, out=grad.copy())
        written = grad.copy()
        keywords = {"at_zero" if function == "relu_backward" else "negative_slope": at_zero}
        getattr(relu_ext, function + "_")(written, np.float64(x), **keywords)
        assert_same_bits(written, expected)


def test_what_a_subclass_of_a_scalar_returns_is_not_taken_for_x():
    class Number(np.float64):
        def __array_ufunc__(self, *inputs, **keywords):
            return 5

    x = np.array([1.0, -2.0], "f4")
    for function in (relu_ext.leaky_relu_, relu_ext.add_relu_, relu_ext.prelu_):
        with pytest.raises(TypeError, match="returned an object other than the one to write"):
            function(x, Number(0.1))


@pytest.mark.skipif(np.finfo("g").nmant < 63, reason="longdouble holds no more than float64")
@pytest.mark.parametrize("slope", [np.uint64(2**63 + 1), np.array(2**63 + 1, "Q")])
def test_a_slope_keeps_the_digits_that_longdouble_holds(slope):
    x = np.array([-1, 2], "g")
    for result in (relu_ext.leaky_relu(x, slope), relu_ext.leaky_relu_(x.copy(), slope)):
        assert result.tolist() == [-np.longdouble(2**63 + 1), 2]


@each_operation
def test_no_elements_broadcast(operation):
    for x, other in (((3, 0), (0,)), ((3, 0, 5), (1, 0, 1)), ((5, 0), (5, 1)), ((0, 5), (5,))):
        arrays = [np.empty(x, "f4"), *[np.empty(other, "f4")] * (operation.arity - 1)]
        parameter = operation.parameter and np.empty(other, "f4")
        assert operation.front(*arrays, parameter=parameter).shape == x
        assert operation.in_place(*arrays, parameter=parameter) is arrays[0]


@pytest.mark.parametrize(
    "layout", ["contiguous", "reversed", "0-d", "empty", "byte-swapped", "masked"]
)
@each_operation
def test_read_only(operation, layout):
    for dtype in DTYPES[1:]:
        flat = samples.arrays(operation, dtype, FLAT)
        arrays = [LAYOUTS[layout](a) for a in flat]
        arrays[0].flags.writeable = False
        parameter = number(operation, dtype)
        with pytest.raises(ValueError, match="read-only"):
            operation.in_place(*arrays, parameter=parameter)
        with pytest.raises(ValueError, match="read-only"):
            operation.front(*arrays, parameter=parameter, out=arrays[0])
        assert_same_bits(arrays[0], LAYOUTS[layout](flat[0]))
    readable = np.ones(3)
    readable.flags.writeable = False
    if operation.arity == 2:
        operation.in_place(np.ones(3), readable)


# Other array types


class Recorder:
    """Takes part through __array_ufunc__, and returns what it was called with."""

    def __array_ufunc__(self, ufunc, method, *inputs, **keywords):
        return ufunc, method, inputs, keywords


@each_operation
def test_array_ufunc(operation):
    """Protocols go through unchanged, the parameter and `out` included."""
    recorder, parameter = Recorder(), operation.parameter and 0.25
    plain = np.ones(2)
    for i in range(operation.arity):
        arrays = [plain] * operation.arity
        arrays[i] = recorder
        front = operation.front(*arrays, parameter=parameter)
        direct = operation.direct(*arrays, parameter=parameter)
        assert front[:2] == direct[:2] == (operation.ufunc, "__call__")
        assert front[3] == direct[3] == {}
        assert len(front[2]) == len(direct[2])
        assert all(a is b or a == b for a, b in zip(front[2], direct[2], strict=True))
        assert operation.front(*arrays, parameter=parameter, dtype="f4")[3] == {"dtype": "f4"}
        arrays[i] = thing(__array_ufunc__=None)
        with pytest.raises(TypeError):
            operation.front(*arrays, parameter=parameter)
        arrays[i] = thing(__array_ufunc__=raising(ZeroDivisionError))
        for door in (operation.front, operation.direct):
            with pytest.raises(ZeroDivisionError):
                door(*arrays, parameter=parameter)
    out = operation.front(*[plain] * operation.arity, parameter=parameter, out=recorder)
    assert out[0] is operation.ufunc and out[3]["out"] == (recorder,)
    with pytest.raises(TypeError, match="cannot be written in place"):
        operation.in_place(recorder, *[plain] * (operation.arity - 1), parameter=parameter)


class Wraps(np.ndarray):
    """Returns another object than it was given to return."""

    def __array_wrap__(self, array, context=None, return_scalar=False):
        return "another"


@each_operation
def test_another_object_in_the_place_of_the_result(operation):
    """What others make of a call in place is no success of it."""
    calls = [[np.ones(2).view(Wraps), *[np.ones(2)] * (operation.arity - 1)]]
    if operation.arity == 2:
        calls.append([np.ones(2), thing(__array_ufunc__=constant("another"))])
    for arrays in calls:
        with pytest.raises(TypeError, match=rf"^{operation.name}_: .*__array_wrap__"):
            operation.in_place(*arrays)


@each_operation
def test_array_interface(operation):
    for dtype in DTYPES[1:]:
        flat = samples.arrays(operation, dtype, FLAT)
        parameter = number(operation, dtype)
        front = operation.front(*(thing(__array__=constant(a)) for a in flat), parameter=parameter)
        assert type(front) is np.ndarray
        assert_same_bits(front, operation.expected(*flat, parameter=parameter))


@each_operation
def test_subclass_keeps_its_attributes(operation):
    arrays = [LAYOUTS["subclass"](a) for a in samples.arrays(operation, np.dtype("f4"), FLAT)]
    result = operation.function(*arrays)
    assert type(result) is Labelled and result.label == "kept"
    assert type(operation.function(*arrays, subok=False)) is np.ndarray
    out = np.zeros(FLAT, "f4")
    assert operation.function(*arrays, out=out) is out


@each_operation
def test_masked_arrays(operation):
    mask = [False, True, False, True]
    arrays = [np.ma.array([-1.0, -2, 3, np.nan], mask=mask) for _ in range(operation.arity)]
    result = operation.function(*arrays)
    assert isinstance(result, np.ma.MaskedArray)
    np.testing.assert_array_equal(result.mask, mask)
    assert operation.function_in_place(*arrays) is arrays[0]
    np.testing.assert_array_equal(arrays[0].mask, mask)


@pytest.mark.usefixtures("large_memory")
def test_more_than_two_to_the_31_elements():
    count = 2**31 + 9
    x = np.zeros(count, np.int8)
    marks = [0, 1, 2**31 - 1, 2**31, 2**31 + 7, count - 1]
    x[marks], x[5 :: 2**20] = -3, 4
    relu = relu_ext.relu(x)
    assert not relu[marks].any() and (relu[5 :: 2**20] == 4).all()
    assert relu_ext.leaky_relu(x[::-1], 2)[::-1][marks].tolist() == [-6] * len(marks)
    assert relu_ext.relu_(x) is x
    assert not x[marks].any() and (x[5 :: 2**20] == 4).all()
    assert np.count_nonzero(x) == len(range(5, count, 2**20))


def test_the_map_of_names():
    for name in ufuncs.__all__:
        assert callable(getattr(relu_ext, name)) and callable(getattr(relu_ext, name + "_"))
    public = {n for n in relu_ext.__all__ if not n.startswith("__")}
    doors = {n for name in ufuncs.__all__ for n in (name, name + "_")}
    pairs = {
        n for name in ("prelu", "prelu_backward", "add_relu_backward", "add_leaky_relu_backward")
        for n in (name, name + "_")
    }  # fmt: skip
    assert public == doors | pairs | {
        "maxout", "maxout_backward", "set_num_threads", "get_num_threads", "cpu_levels",
        "show_config", "ufuncs",
    }  # fmt: skip
