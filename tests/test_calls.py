"""Calls that the front door does not take: what they return, and errors that say what to mend."""

import warnings
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
import relu_ext

from samples import assert_same_bits, each_operation, exporter

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)

IMAGES = np.ones((2, 3, 5, 4), np.float32)
ROWS = np.ones((64, 10), np.float32)

MISTAKES = [
    (
        lambda: relu_ext.leaky_relu_(np.array([-1, 2])),
        TypeError,
        (
            "leaky_relu_: int64 with negative_slope 0.01 gives float64; use leaky_relu, an integer "
            "negative_slope, or x.astype(np.float32)"
        ),
    ),
    (
        lambda: relu_ext.relu_subgradient_(np.array([True]), at_zero=0.5),
        TypeError,
        (
            "relu_subgradient_: bool with at_zero 0.5 gives float64; use relu_subgradient, an "
            "integer at_zero, or x.astype(np.float32)"
        ),
    ),
    (
        lambda: relu_ext.add_relu_(np.array([1]), np.array([0.5])),
        TypeError,
        (
            "add_relu_: the result has dtype float64, which x, of dtype int64, cannot hold; use "
            "add_relu, or x.astype(np.float64)"
        ),
    ),
    (
        lambda: relu_ext.leaky_relu(IMAGES, np.ones(3)),
        ValueError,
        (
            "leaky_relu: x (2, 3, 5, 4) and negative_slope (3,) do not broadcast; for one per "
            "channel, use negative_slope[:, np.newaxis, np.newaxis]"
        ),
    ),
    (
        lambda: relu_ext.add_leaky_relu_(IMAGES, np.ones(3, np.float32)),
        ValueError,
        (
            "add_leaky_relu_: x (2, 3, 5, 4) and y (3,) do not broadcast; for one per channel, use "
            "y[:, np.newaxis, np.newaxis]"
        ),
    ),
    (
        lambda: relu_ext.relu_backward_(ROWS, np.ones((64, 20))),
        ValueError,
        "relu_backward_: grad (64, 10) and x (64, 20) do not broadcast",
    ),
    (
        lambda: relu_ext.relu_backward_(ROWS, np.ones((3, 64, 10), np.float32)),
        ValueError,
        "relu_backward_: x (3, 64, 10) does not broadcast to the shape of grad, (64, 10)",
    ),
    (
        lambda: relu_ext.leaky_relu_(ROWS[0], np.ones((2, 10), np.float32)),
        ValueError,
        "leaky_relu_: negative_slope (2, 10) does not broadcast to the shape of x, (10,)",
    ),
    (
        lambda: relu_ext.leaky_relu_(ROWS, None),
        TypeError,
        "leaky_relu_: negative_slope is None; it must be a number or an array of numbers",
    ),
    (
        lambda: relu_ext.relu({}),
        TypeError,
        "relu: x is a dict; it must be a number or an array of numbers",
    ),
    (
        lambda: relu_ext.relu_backward(ROWS, (row for row in ROWS)),
        TypeError,
        "relu_backward: x is a generator; it must be a number or an array of numbers",
    ),
    (
        lambda: relu_ext.leaky_relu(ROWS, Fraction(1, 2)),
        TypeError,
        "leaky_relu: negative_slope is a Fraction; it must be a number or an array of numbers",
    ),
    (
        lambda: relu_ext.relu([1, None]),
        TypeError,
        "relu: x has dtype object; it must be a number or an array of numbers",
    ),
    (
        lambda: relu_ext.relu(ROWS, out=[0] * 4),
        TypeError,
        "relu: out is of type list; it must be an ndarray",
    ),
    (
        lambda: relu_ext.relu(ROWS, dtype=complex),
        TypeError,
        "relu: dtype complex128 is not supported; use a floating or an integer dtype",
    ),
    (
        lambda: relu_ext.leaky_relu(ROWS, dtype=object),
        TypeError,
        "leaky_relu: dtype object_ is not supported; use a floating or an integer dtype",
    ),
    (
        lambda: relu_ext.relu_subgradient_(np.array(["a"])),
        TypeError,
        "relu_subgradient_: dtype str_ of x is not supported; use a floating or an integer dtype",
    ),
    (
        lambda: relu_ext.relu_(ROWS, out=ROWS),
        TypeError,
        "relu_ext.relu_() takes no keyword arguments",
    ),
]


@pytest.mark.parametrize(("call", "error", "words"), MISTAKES, ids=[m[2][:40] for m in MISTAKES])
def test_the_error_says_what_to_mend(call, error, words):
    images, rows = IMAGES.copy(), ROWS.copy()
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error and str(caught.value) == words
    assert_same_bits(IMAGES, images)
    assert_same_bits(ROWS, rows)


@each_operation
def test_where_without_out_does_not_warn(operation):
    """`out=None` says that the rest may be left as it is, and is the default here."""
    arrays = [np.array([-1.0, 2, -3])] * operation.arity
    parameter = operation.parameter and 0.5
    mask = np.array([True, False, True])
    expected = operation.expected(*arrays, parameter=parameter)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for keywords in ({}, {"out": None}):
            result = operation.front(*arrays, parameter=parameter, where=mask, **keywords)
            assert_same_bits(result[mask], expected[mask])


def scalars(dtype):
    """NumPy's scalars of other dtypes, most of which `dtype` holds exactly."""
    for value in (0.5, 0.0, -2.0, 3.0, 0.1, 1e-30, 1e30):
        for kind in (np.float16, np.float32, np.float64, np.longdouble):
            yield kind(value)
    yield from (np.int8(3), np.int64(-2), np.uint64(2**53 + 1), np.int64(2049), np.uint16(65535))


@pytest.mark.parametrize("dtype", [np.dtype("f2"), np.dtype("f4"), np.dtype("f8"), BFLOAT16])
@each_operation
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_numpy_scalars_in_place_as_the_ufunc(operation, dtype):
    """Those that the dtype holds become Python numbers; the result has the ufunc's bits."""
    rng = np.random.default_rng(0)
    with np.errstate(all="ignore"):
        arrays = [
            (rng.standard_normal(500) * 2.0 ** rng.integers(-10, 10, 500)).astype(dtype)
            for _ in range(operation.arity)
        ]
        for scalar in scalars(dtype):
            if operation.parameter is not None:
                expected = arrays[0].copy()
                operation.ufunc(*arrays, scalar, out=expected)
                result = operation.in_place(arrays[0].copy(), *arrays[1:], parameter=scalar)
                assert_same_bits(result, expected, f"{scalar!r}")
            if operation.name.startswith("add"):
                rest = [] if operation.parameter is None else [0.5]
                expected = arrays[0].copy()
                operation.ufunc(arrays[0], scalar, *rest, out=expected)
                result = arrays[0].copy()
                operation.function_in_place(result, scalar, *rest)
                assert_same_bits(result, expected, f"{scalar!r}")


def test_what_exports_by_dlpack_alone_is_read():
    """NumPy would take it for a Python object."""
    array = np.array([-1.0, 2])
    thing = exporter(array)
    assert relu_ext.relu(thing).tolist() == [0, 2]
    assert relu_ext.add_relu(array, thing).tolist() == [0, 4]
    assert relu_ext.leaky_relu(array, exporter(np.array([0.5, 1]))).tolist() == [-0.5, 2]


@each_operation
def test_an_out_that_does_not_fit(operation):
    """The words name the function as it was called, and out."""
    read_only = np.ones(3)
    read_only.flags.writeable = False
    x = [np.ones(3)] * operation.arity
    parameter = operation.parameter and 0.5
    for error, out, where, words in (
        (ValueError, np.ones(4), True, r"out has shape \(4,\), and the result has shape \(3,\)"),
        (ValueError, np.ones(3), np.ones((2, 3), bool), r"out .*\(3,\).* result .*\(2, 3\)"),
        (ValueError, (read_only,), [True], "out is read-only"),
        (TypeError, np.ones(3, int), True, f"'{operation.name}'.*float64.*int64"),
    ):
        with pytest.raises(error, match=words) as caught:
            operation.front(*x, parameter=parameter, out=out, where=where)
        assert str(caught.value).startswith(f"{operation.name}: ") or error is TypeError


def test_a_numpy_number_keeps_no_payload_of_bfloat16():
    """The same bits as by the ufunc, also once the dtype was met beside a Python number."""
    bits = np.array([0x7FC1, 0xFFC2, 0xBF80], np.uint16)
    expected = bits.copy().view(BFLOAT16)
    relu_ext.ufuncs.leaky_relu(expected, np.float32(0.5), out=expected)
    for _ in range(2):
        x = bits.copy().view(BFLOAT16)
        relu_ext.leaky_relu_(x, np.float32(0.5))
        assert_same_bits(x, expected)
        relu_ext.leaky_relu_(x, 0.5)


def test_a_number_of_threads_that_is_no_integer():
    with pytest.raises(TypeError, match="set_num_threads: num_threads has to be an integer"):
        relu_ext.set_num_threads("2")
