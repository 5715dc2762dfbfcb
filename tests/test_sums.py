"""The gradients of biases and slopes: values, the order of adding, layouts, the edges of memory."""

import math
import threading
from fractions import Fraction

import numpy as np
import pytest
import relu_ext
from hypothesis import given, settings
from hypothesis import strategies as st

import reference
import samples
from reference import bfloat16
from samples import assert_same_bits, raising, thing
from test_robustness import PAGE, PROT_NONE, Pages, protect

DTYPES = [np.dtype(c) for c in "efdg"] + [bfloat16]
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.name)
# The shapes of x, and of a bias or a slope.
SHAPES = [
    ((64, 10), (10,)), ((1, 7), (7,)), ((17, 33), (33,)), ((3, 300), (300,)),
    ((50, 40), (1, 40)), ((40, 50), (40, 1)), ((5, 1030), (5, 1)), ((1030,), (1,)), ((1030,), ()),
    ((3, 4, 5, 6), (4, 1, 1)), ((3, 4, 5, 6), (4, 1, 6)), ((3, 4, 5, 6), (1, 1, 5, 6)),
    ((3, 4, 5, 6), (3, 1, 5, 1)), ((2, 3, 20, 30), (3, 1, 1)), ((2, 3, 20, 30), ()),
    ((4, 6), (4, 6)), ((1, 6), (6,)), ((4, 1), (4, 1)), ((1, 1), (1,)), ((), ()), ((3,), (3,)),
]  # fmt: skip
ORDERS = {
    "C": lambda a: a.copy(),
    "F": lambda a: np.array(a, order="F"),
    "channels last": lambda a: (
        np.moveaxis(np.moveaxis(a, 1, -1).copy(), -1, 1) if a.ndim > 2 else a.copy()
    ),
}


def normal(dtype, shape, seed=0):
    with np.errstate(under="ignore"):
        return np.asarray(np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def some(dtype, shape, seed=0):
    """Ordinary numbers, and a few special ones."""
    x = normal(dtype, shape, seed).reshape(-1)
    special = samples.specials(dtype)[: x.size]
    x[: special.size : 3] = special[::3]
    return np.random.default_rng(seed).permutation(x).reshape(shape)


def rectified(dtype, shape, seed=0):
    return np.maximum(normal(dtype, shape, seed), np.zeros((), dtype))


class Bias:
    """`add_relu_backward` as the tests call it: of grad, x, and what is learned."""

    name = "add_relu_backward"
    third = "y"

    def __str__(self):
        return self.name

    def __call__(self, grad, x, y, **keywords):
        return getattr(relu_ext, self.name)(grad, x, y, **keywords)

    def in_place(self, grad, x, y):
        return getattr(relu_ext, self.name + "_")(grad, x, y)

    def expected(self, grad, x, y):
        return reference.add_backward("relu_backward", grad, x, y, 0)


class LeakyBias(Bias):
    name = "add_leaky_relu_backward"

    def expected(self, grad, x, y):
        return reference.add_backward("leaky_relu_backward", grad, x, y, 0.01)


class Slope(Bias):
    name = "prelu_backward"
    third = "slope"

    def expected(self, grad, x, y):
        return reference.prelu_backward(grad, x, y)


KINDS = [Bias(), LeakyBias(), Slope()]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=str)


def arguments(kind, dtype, shape, kept, order=np.array, seed=0):
    return (
        order(some(dtype, shape, seed)),
        order(some(dtype, shape, seed + 1)),
        normal(dtype, kept, seed + 2),
    )


def check(results, expected, context=""):
    for result, right in zip(results, expected, strict=True):
        assert_same_bits(result, right, context)


def compare(kind, grad, x, y, context=""):
    """All ways of calling, against the oracle."""
    expected = kind.expected(grad, x, y)
    check(kind(grad, x, y), expected, context)
    out = np.empty_like(grad, expected[0].dtype), np.empty_like(y)
    results = kind(grad, x, y, out=out)
    assert results[0] is out[0] and results[1] is out[1]
    check(out, expected, context)
    target = grad.copy(order="K")
    results = kind.in_place(target, x, y)
    assert results[0] is target
    assert not np.shares_memory(*map(np.asarray, results))
    check(results, expected, context)


# Values and the order of adding.


@each_kind
@each_dtype
@pytest.mark.parametrize("columns", [600, 1000, 1024, 1087, 1088])
def test_many_columns_over_either_operand(level, kind, dtype, columns):
    grad, x, y = arguments(kind, dtype, (35, columns), (columns,))
    expected = kind.expected(grad, x, y)
    for i in range(2):
        operands = [grad.copy(), x.copy()]
        check(kind(*operands, y, out=(operands[i], None)), expected, i)


@each_kind
@each_dtype
@pytest.mark.parametrize("columns", [99, 100, 128, 133, 255, 256, 520])
def test_every_alignment_of_rows(level, kind, dtype, columns):
    grad, x, y = arguments(kind, dtype, (17, columns), (columns,))
    expected = kind.expected(grad, x, y)
    for offset in range(0, samples.VECTOR, dtype.itemsize):
        target, other = samples.Guarded(grad.ravel(), offset), samples.Guarded(x.ravel(), 16)
        results = kind.in_place(target.array.reshape(grad.shape), other.array.reshape(x.shape), y)
        check(results, expected, offset)
        target.assert_guarded(offset)
        other.assert_guarded(offset)


@each_dtype
@pytest.mark.parametrize("shape", [(64, 7), (33, 1100)])
def test_a_view_of_one_slope_for_all_columns(level, dtype, shape):
    grad, x, _ = arguments(KINDS[2], dtype, shape, shape[1:])
    compare(KINDS[2], grad, x, np.broadcast_to(normal(dtype, ()), shape[1:]))


@each_kind
@each_dtype
def test_every_shape_and_order(level, kind, dtype):
    for shape, kept in SHAPES:
        for name, order in ORDERS.items():
            compare(kind, *arguments(kind, dtype, shape, kept, order), f"{shape} {kept} {name}")


@each_kind
def test_every_number_of_rows(level, kind):
    for rows in range(71):
        for columns in (1, 5, 33, 300):
            context = f"{rows} x {columns}"
            compare(kind, *arguments(kind, np.dtype("f"), (rows, columns), (columns,)), context)
            compare(kind, *arguments(kind, np.dtype("f"), (2, rows), (1,)), context)


@each_kind
@each_dtype
def test_lengths_around_each_block(level, kind, dtype):
    for length in (31, 32, 33, 65, 511, 512, 513, 600, 1025, 4097, 8191, 8192, 8193, 17_000):
        compare(kind, *arguments(kind, dtype, (length,), ()), length)
        compare(kind, *arguments(kind, dtype, (2, length), (2, 1)), length)
    for rows in (255, 256, 257, 1000):
        compare(kind, *arguments(kind, dtype, (rows, 3), (3,)), rows)
    for columns in (127, 128, 129, 255, 257, 1023, 1025, 4100, 5000):
        compare(kind, *arguments(kind, dtype, (21, columns), (columns,)), columns)
    for length in (3, 40, 600, 1100):
        compare(kind, *arguments(kind, dtype, (7, 70, length), (70, 1)), length)


@pytest.mark.parametrize("threads", [1, 2, 3, 4, 5])
@each_kind
def test_threads_change_no_bit(kind, threads):
    for shape, kept in (
        ((3000, 130), (130,)), ((300_001,), ()), ((9, 40_000), (40_000,)), ((7, 6, 9000), (6, 1)),
        ((20, 6, 3000), (20, 1, 3000)), ((1, 300_000), (300_000,)), ((600, 600), (600, 1)),
        ((400_001, 1), (1,)), ((100_000, 3), (3,)), ((2, 6000, 60), (6000, 1)),
    ):  # fmt: skip
        for dtype in (np.dtype("f"), np.dtype("d"), np.dtype("e")):
            grad, x, y = arguments(kind, dtype, shape, kept)
            expected = kind(grad, x, y)
            try:
                relu_ext.set_num_threads(threads)
                check(kind(grad, x, y), expected, shape)
                check(kind.in_place(grad, x, y), expected, shape)
            finally:
                relu_ext.set_num_threads(1)


LAYOUTS = {
    "reversed": lambda a: a[::-1].copy()[::-1],
    "reversed along the rows": lambda a: a[..., ::-1].copy()[..., ::-1],
    "every second": lambda a: np.repeat(a, 2, -1)[..., ::2],
    "every second row": lambda a: np.repeat(a, 2, 0)[::2],
    "window": lambda a: np.pad(a, 2)[(slice(2, -2),) * a.ndim],
    "unaligned": lambda a: samples.LAYOUTS["unaligned"](a.ravel()).reshape(a.shape),
    "field": lambda a: samples.LAYOUTS["field"](a.ravel()).reshape(a.shape),
    "byte-swapped": lambda a: samples.LAYOUTS["byte-swapped"](a),
    "subclass": lambda a: a.copy().view(samples.Labelled),
}


@each_kind
@each_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
def test_steps_change_no_bit(kind, dtype, layout):
    lay = LAYOUTS[layout]
    for shape, kept in SHAPES:
        if not shape:
            continue
        grad, x, y = arguments(kind, dtype, shape, kept)
        expected = kind.expected(grad, x, y)
        context = f"{shape} {kept}"
        check(kind(lay(grad), x, y), expected, context)
        check(kind(grad, lay(x), y), expected, context)
        target = lay(grad)
        results = kind.in_place(target, lay(x), y)
        assert results[0] is target
        check([np.asarray(target).astype(dtype), results[1]], expected, context)
        if kept:
            out = lay(np.empty_like(y))
            assert kind(grad, x, lay(y), out=(None, out))[1] is out
            assert_same_bits(np.asarray(out).astype(dtype), expected[1], context)


@pytest.mark.parametrize("kind", KINDS[::2], ids=str)
@pytest.mark.parametrize("third", DTYPES, ids=lambda d: d.name)
@each_dtype
def test_mixed_dtypes(kind, dtype, third):
    """A bias has its own dtype, and so has its gradient."""
    if {dtype, third} == {bfloat16, np.dtype("e")} or (
        bfloat16 in (dtype, third) and np.dtype("g") in (dtype, third)
    ):
        return  # They have no common dtype, or ml_dtypes does not convert them.
    for shape, kept in (((70, 33), (33,)), ((5, 700), (5, 1)), ((600,), ()), ((3, 4), (3, 4))):
        grad, x, _ = arguments(kind, dtype, shape, kept)
        y = normal(third, kept, 2)
        expected = kind.expected(grad, x, y)
        check(kind(grad, x, y), expected, f"{shape} {kept}")
        wider = normal(third, shape, 5)
        check(kind(grad, wider, y), kind.expected(grad, wider, y), f"{shape} {kept}")


@pytest.mark.parametrize("kind", KINDS[:2], ids=str)
@pytest.mark.parametrize("dtype", [np.dtype("e"), bfloat16], ids=lambda d: d.name)
def test_a_bias_of_the_other_half(kind, dtype):
    """Of a bias only the shape and the dtype of its gradient count: they need no common dtype."""
    other = bfloat16 if dtype == "e" else np.dtype("e")
    for shape, kept in (((70, 33), (33,)), ((3, 4), (3, 4)), ((5, 3), ())):
        grad, x, _ = arguments(kind, dtype, (shape[0], 2 * shape[1]), kept)
        y = np.zeros(kept, other)
        for view in (slice(None, shape[1]), slice(None, None, 2)):
            compare(kind, grad[:, view], x[:, view], y, f"{shape} {kept} {view}")
            compare(kind, grad[:, view].copy(), x[:, view].copy(), y, f"{shape} {kept} {view}")


@each_kind
def test_operands_without_a_common_dtype_are_refused(kind):
    grad, x, y = arguments(kind, np.dtype("e"), (3, 4), (4,))
    before, out = grad.copy(), (np.zeros_like(grad), None)
    with pytest.raises(TypeError, match="no common dtype"):
        kind.in_place(grad, x.astype(bfloat16), y)
    with pytest.raises(TypeError, match="no common dtype"):
        kind(grad, x.astype(bfloat16), y, out=out)
    assert_same_bits(grad, before)
    assert not out[0].any()


@each_dtype
def test_a_slope_that_is_nan_warns_of_nothing(dtype):
    grad, x, y = arguments(KINDS[1], dtype, (3, 4), (4,))
    for slope in (math.nan, dtype.type(math.nan)):
        expected = reference.add_backward("leaky_relu_backward", grad, x, y, dtype.type(slope))
        check(relu_ext.add_leaky_relu_backward(grad, x, y, slope), expected)


def test_a_float32_bias_of_float16_is_not_rounded_to_float16():
    grad = np.ones((4099, 2), "e")
    _, grad_y = relu_ext.add_relu_backward(grad, grad, np.zeros(2, "f"))
    assert_same_bits(grad_y, np.full(2, 4099, "f"))


def test_sums_are_rounded_once():
    """A longdouble on its way to float16, or a float64 to bfloat16, is no tie in between."""
    for wide, narrow, base, tiny in (
        ("d", bfloat16, 2**-8, 2**-40), ("g", np.dtype("e"), 2**-11, 2**-60),
        ("g", np.dtype("f"), 2**-24, 2**-60), ("g", bfloat16, 2**-8, 2**-60),
    ):  # fmt: skip
        if wide == "g" and np.finfo("g").nmant < 63:
            continue
        for sign in (1, -1):
            grad = sign * np.array([[1], [base], [tiny]], wide)
            _, grad_y = relu_ext.add_relu_backward(grad, abs(grad), np.zeros(1, narrow))
            following = 1 + 2 * base
            assert float(grad_y[0]) == sign * following, (wide, narrow)


@each_kind
def test_exact_sums(kind):
    """Integers that every order adds exactly."""
    generator = np.random.default_rng(0)
    for shape, kept in SHAPES:
        grad, x, y = (generator.integers(-8, 9, s).astype("f") for s in (shape, shape, kept))
        _, learned = kind(grad, x, y)
        grad, x = grad.astype(int), x.astype(int)
        terms = grad * (x > 0) * 100 + (kind.name == "add_leaky_relu_backward") * grad * (x <= 0)
        if kind.third == "slope":
            terms = 100 * grad * x * (x < 0)
        axes = tuple(reference.summed_axes(shape, kept))
        exact = terms.sum(axes).reshape(kept) / 100
        if kind.name == "add_leaky_relu_backward":
            np.testing.assert_allclose(learned, exact, rtol=1e-5, atol=1e-5)
        else:
            np.testing.assert_array_equal(learned, exact)


@pytest.mark.parametrize("shape", [(700, 3), (3, 700), (3, 2, 600), (2000, 1), (9, 8)])
def test_errors_are_small(shape):
    """At most (32 + log2 n) eps times the terms' magnitudes, and as NumPy's sums on average."""
    kept = (shape[-1],) if len(shape) == 2 and shape[0] > shape[1] else (shape[-2], 1)
    axes = tuple(reference.summed_axes(shape, kept))
    ours, theirs = [], []
    eps = np.finfo("f").eps
    for seed in range(1000):
        grad = normal("f", shape, seed)
        _, learned = relu_ext.add_relu_backward(grad, np.ones_like(grad), np.zeros(kept, "f"))
        exact = grad.astype("g").sum(axes).reshape(kept)
        magnitude = abs(grad).astype("g").sum(axes).reshape(kept)
        n = grad.size // exact.size
        error = abs(learned - exact)
        assert (error <= (32 + math.log2(n)) * eps * magnitude).all()
        ours.append(error)
        theirs.append(abs(grad.sum(axes).reshape(kept) - exact))
    assert np.sqrt(np.mean(np.square(ours))) <= 1.1 * np.sqrt(np.mean(np.square(theirs)))


@each_dtype
def test_nan_and_zeros(level, dtype):
    """A sum that is NaN is the positive quiet one, and none is -0."""
    quiet = {"float16": "007e", "bfloat16": "c07f", "float32": "0000c07f"}
    for rows in (1, 2, 17, 40):
        for shape, kept in (((rows, 3), (3,)), ((3, rows), (3, 1))):
            grad = -np.zeros(shape, dtype)
            x = np.full(shape, -1, dtype)
            for learned in (
                relu_ext.add_relu_backward(grad, -x, np.ones(kept, dtype))[1]
                if rows > 1
                else np.zeros(kept, dtype),
                relu_ext.prelu_backward(-grad, x, np.ones(kept, dtype))[1],
            ):
                assert_same_bits(learned, np.zeros(kept, dtype))
            with np.errstate(invalid="ignore"):
                nans = samples.specials(dtype)[np.isnan(samples.specials(dtype))]
            for nan in nans:
                grad[...] = nan
                learned = relu_ext.prelu_backward(grad, x, np.ones(kept, dtype))[1]
                assert np.isnan(learned).all() and not np.signbit(learned).any()
                if dtype.name in quiet:
                    assert learned.tobytes().hex() == quiet[dtype.name] * 3


def test_infinities_that_are_not_chosen_are_not_added():
    grad = np.array([[np.inf, np.nan, -np.inf, np.nan, 2]], "f").repeat(3, 0)
    x = np.array([[1, 0, -0.0, 3, -4]], "f").repeat(3, 0)
    _grad_x, learned = relu_ext.prelu_backward(grad, x, np.ones(5, "f"))
    np.testing.assert_array_equal(learned, np.array([0, 0, 0, 0, -24], "f"))
    _, learned = relu_ext.add_relu_backward(grad, -x, np.ones(5, "f"))
    np.testing.assert_array_equal(learned, np.array([0, 0, 0, 0, 6], "f"))


def test_where_nothing_is_summed_bits_stay():
    for dtype in DTYPES:
        grad = samples.specials(dtype)
        one = np.ones_like(grad)
        for shape in ((-1,), (1, -1), (-1, 1)):
            grad_x, grad_y = relu_ext.add_relu_backward(
                grad.reshape(shape), one.reshape(shape), one.reshape(shape)
            )
            assert_same_bits(grad_x, grad.reshape(shape))
            assert_same_bits(grad_y, grad.reshape(shape))
            assert not np.shares_memory(grad_x, grad_y)


def test_no_rows():
    for kind in KINDS:
        for shape, kept in (((0, 3), (3,)), ((3, 0), (3, 1)), ((0,), ()), ((3, 0), (0,))):
            grad = np.empty(shape, "f")
            out = np.full(kept, 7, "f")
            results = kind(grad, grad, np.ones(kept, "f"), out=(None, out))
            assert results[0].shape == shape
            assert_same_bits(out, np.zeros(kept, "f"))


# at_zero


@each_dtype
@pytest.mark.parametrize("at_zero", [None, 0, 1])
def test_prelu_at_zero(level, dtype, at_zero):
    for shape, kept in SHAPES:
        grad, x, slope = arguments(None, dtype, shape, kept)
        x.reshape(-1)[::3] = 0
        expected = reference.prelu_backward(grad, x, slope, at_zero)
        check(relu_ext.prelu_backward(grad, x, slope, at_zero=at_zero), expected)
        check(relu_ext.prelu_backward_(grad, x, slope, at_zero=at_zero), expected)


@pytest.mark.parametrize(
    "at_zero", [0.5, 2, -1, "0", [0], np.array([0, 1]), math.nan, 1j, np.complex64(1)]
)
def test_no_other_at_zero(at_zero):
    grad = np.ones(3, "f")
    for function in (relu_ext.prelu_backward, relu_ext.prelu_backward_):
        with pytest.raises(ValueError, match=f"^{function.__name__}: .*at_zero"):
            function(grad, grad, 0.5, at_zero=at_zero)
    assert (grad == 1).all()


# Arguments


def test_numbers_as_slopes():
    grad, x = normal("f", (5, 6)), normal("f", (5, 6), 1)
    expected = reference.prelu_backward(grad, x, np.array(0.25, "f"))
    for slope in (0.25, np.array(0.25, "f"), np.float32(0.25)):
        grad_x, grad_slope = relu_ext.prelu_backward(grad, x, slope)
        assert type(grad_slope) is np.float32
        check((grad_x, grad_slope), expected)
    grad_x, grad_slope = relu_ext.prelu_backward(grad, x, np.float64(0.25))
    assert grad_x.dtype == grad_slope.dtype == np.float64
    assert relu_ext.prelu_backward(grad, x, 0)[1].dtype == np.float32
    out = np.empty((), "f")
    assert relu_ext.prelu_backward(grad, x, 0.25, out=(None, out))[1] is out
    assert_same_bits(out, expected[1])
    grad_x, grad_y = relu_ext.add_relu_backward(grad, x, 1.0)
    assert type(grad_y) is np.float32


@each_dtype
@pytest.mark.parametrize("number", [0.3, 0, 1, 2, -0.0, 1e-9, 1e-40, 65505.0, 1e300, math.inf])
def test_numbers_of_every_dtype(level, dtype, number):
    """A Python number is rounded to the dtype once, as NumPy rounds it, whatever its size."""
    grad, x, y = arguments(KINDS[0], dtype, (40, 30), (30,))
    with np.errstate(all="ignore"):
        slope = np.asarray(float(number)).astype(dtype)
    expected = reference.prelu_backward(grad, x, slope)
    check(relu_ext.prelu_backward(grad, x, number), expected)
    check(relu_ext.prelu_backward(grad, x, slope[()]), expected)
    check(relu_ext.prelu_backward_(grad.copy(), x, number), expected)
    out = np.empty_like(grad), np.empty((), dtype)
    assert relu_ext.prelu_backward(grad, x, number, out=out)[1] is out[1]
    check(out, expected)
    expected = reference.add_backward("leaky_relu_backward", grad, x, y, slope)
    check(relu_ext.add_leaky_relu_backward(grad, x, y, number), expected)
    check(relu_ext.add_leaky_relu_backward_(grad, x, y, slope[()]), expected)


@each_dtype
def test_slopes_that_are_nan(level, dtype):
    """They make their own NaN of grad, and none of their gradient."""
    for shape, kept in (
        ((40, 30), (30,)),
        ((40, 30), ()),
        ((40, 30), (40, 1)),
        ((2, 30, 33), (30, 1)),
    ):
        grad, x, slope = arguments(KINDS[2], dtype, shape, kept)
        slope = np.resize(some(dtype, 60, 3), kept)
        expected = reference.prelu_backward(grad, x, slope)
        check(relu_ext.prelu_backward(grad, x, slope), expected, f"{shape} {kept}")
        check(relu_ext.prelu_backward_(grad, x, slope), expected, f"{shape} {kept}")


@each_kind
def test_memory_of_y_is_not_read(kind):
    if kind.third == "slope":
        return
    pages = Pages(PAGE)
    y = pages.bytes[:40].view("f")
    grad, x, _ = arguments(kind, np.dtype("f"), (64, 10), (10,))
    protect(pages.bytes, PROT_NONE)
    check(kind(grad, x, y), kind.expected(grad, x, np.zeros(10, "f")))
    check(kind.in_place(grad.copy(), x, y), kind.expected(grad, x, np.zeros(10, "f")))


@each_kind
def test_operands_that_overlap(kind):
    """The answer is that of copies, wherever the results are written."""
    memory = normal("f", 4000)
    for shape, kept in (((40, 30), (30,)), ((30, 40), (30, 1)), ((40, 30), (40, 30)), ((40,), ())):
        size, small = math.prod(shape), math.prod(kept)
        for shift in (0, 1, 7, 30, 1200):
            for place in (0, 5, 1200, 1230):
                room = memory.copy()
                grad = room[1000 : 1000 + size].reshape(shape)
                x = room[1000 + shift : 1000 + shift + size].reshape(shape)
                learned = room[1000 + place : 1000 + place + small].reshape(kept)
                expected = kind.expected(grad.copy(), x.copy(), learned.copy())
                _, result = kind(grad, x, learned, out=(None, learned))
                assert result is learned
                assert_same_bits(learned, expected[1], f"{shift} {place}")

                room[:] = memory
                expected = kind.expected(grad.copy(), x.copy(), learned.copy())
                results = kind.in_place(grad, x, learned)
                check(results, expected, f"{shift} {place}")

                room[:] = memory
                results = kind(grad, x, learned, out=(x, None))
                check(results, expected, f"{shift} {place}")


def test_in_place_by_out_needs_no_memory():
    for kind in KINDS:
        grad, x, y = arguments(kind, np.dtype("f"), (64, 10), (10,))
        expected = kind.expected(grad, x, y)
        buffer = np.empty_like(y)
        results = kind(grad, x, y, out=(grad, buffer))
        assert results[0] is grad and results[1] is buffer
        check(results, expected)


ROWS, WIDE = np.ones((4, 3), "f"), np.ones((4, 3), "d")
READ_ONLY = ROWS.copy()
READ_ONLY.flags.writeable = False
BAD = {
    "an integer grad": ((ROWS.astype(int), ROWS, ROWS[0]), {}, TypeError, "int64 of grad"),
    "an integer x": ((ROWS, ROWS.astype("i4"), ROWS[0]), {}, TypeError, "int32 of (x|output)"),
    "an integer third": ((ROWS, ROWS, np.ones(3, bool)), {}, TypeError, "bool of (y|slope)"),
    "complex": ((ROWS.astype("D"), ROWS, ROWS[0]), {}, TypeError, "complex128 of grad"),
    "objects": ((ROWS, ROWS.astype(object), ROWS[0]), {}, TypeError, "object_ of"),
    "None": ((ROWS, ROWS, None), {}, TypeError, "(y|slope)"),
    "another shape": ((ROWS, ROWS[:2], ROWS[0]), {}, ValueError, r"\(4, 3\).*\(2, 3\)"),
    "an x that broadcasts": ((ROWS, ROWS[0], ROWS[0]), {}, ValueError, r"\(4, 3\).*\(3,\)"),
    "no broadcast": ((ROWS, ROWS, np.ones(4, "f")), {}, ValueError, r"\(4,\)"),
    "more axes": ((ROWS, ROWS, np.ones((1, 4, 3), "f")), {}, ValueError, r"\(1, 4, 3\)"),
    "a broadcast x": ((ROWS[:1], ROWS[:1], ROWS), {}, ValueError, r"\(4, 3\)"),
    "out an array": ((ROWS, ROWS, ROWS[0]), {"out": ROWS.copy()}, TypeError, "tuple"),
    "out of three": ((ROWS, ROWS, ROWS[0]), {"out": (None,) * 3}, ValueError, "2 arrays"),
    "out a list": ((ROWS, ROWS, ROWS[0]), {"out": ([1.0], None)}, TypeError, r"out\[0\]"),
    "out of a shape": (
        (ROWS, ROWS, ROWS[0]), {"out": (None, np.ones(4, "f"))}, ValueError, r"out\[1\].*\(3,\)",
    ),
    "out read-only": ((ROWS, ROWS, ROWS[0]), {"out": (READ_ONLY, None)}, ValueError, "read-only"),
    "out of integers": (
        (ROWS, ROWS, ROWS[0]), {"out": (np.ones((4, 3), int), None)}, TypeError, "int64",
    ),
    "out of text": (
        (ROWS, ROWS, ROWS[0]), {"out": (np.full((4, 3), "", np.dtypes.StringDType()), None)},
        TypeError, "StringDType",
    ),
    "raises": ((ROWS, thing(__array__=raising(ZeroDivisionError)), ROWS[0]), {},
               ZeroDivisionError, ""),
}  # fmt: skip


@each_kind
@pytest.mark.parametrize("label", BAD)
def test_bad_input(kind, label):
    operands, keywords, error, words = BAD[label]
    before = [x.copy() for x in operands if isinstance(x, np.ndarray)]
    with pytest.raises(error, match=f"^{kind.name}: .*{words}" if words else None):
        kind(*operands, **keywords)
    if not keywords and isinstance(operands[0], np.ndarray):
        with pytest.raises(error, match=f"^{kind.name}_: .*{words}" if words else None):
            kind.in_place(*operands)
    after = [x for x in operands if isinstance(x, np.ndarray)]
    for was, now in zip(before, after, strict=True):
        np.testing.assert_array_equal(was, now)


def test_a_sum_that_is_rounded_to_zero_keeps_its_sign():
    tiny = np.full((4, 3), 6e-8, "e")
    _, learned = relu_ext.prelu_backward(tiny, -tiny, tiny[0])
    assert_same_bits(learned, np.full(3, -0.0, "e"))
    _, learned = relu_ext.add_relu_backward(np.full((4, 3), -1e-10, "f"), ROWS, tiny[0])
    assert_same_bits(learned[1:], np.full(2, -0.0, "e"))


def test_results_that_share_memory_are_refused():
    memory = np.zeros((5, 3), "f")
    for kind in KINDS:
        with pytest.raises(ValueError, match="share"):
            kind(ROWS, ROWS, ROWS[0], out=(memory[:4], memory[3]))
        kind(ROWS, ROWS, ROWS[0], out=(memory[:4], memory[4]))


def test_grad_that_cannot_be_written():
    for kind in KINDS:
        for grad, error in (
            (READ_ONLY, ValueError), ([[1.0]], TypeError), (bytearray(12), TypeError),
            (np.broadcast_to(ROWS[0], (4, 3)), ValueError),
        ):  # fmt: skip
            with pytest.raises(error):
                kind.in_place(grad, ROWS, ROWS[0])


@pytest.mark.parametrize("slope", [-0.5, -1, np.array([0.5, -0.5, 1], "f"), np.float32(-1)])
def test_negative_slopes_are_refused(slope):
    for name in ("add_leaky_relu_backward", "add_leaky_relu_backward_"):
        with pytest.raises(ValueError, match=f"^{name}: negative_slope"):
            getattr(relu_ext, name)(ROWS, ROWS, ROWS[0], slope)
    assert (ROWS == 1).all()


@pytest.mark.parametrize("slope", [None, "0.5", 1j, True])
def test_slopes_that_are_no_numbers_are_refused(slope):
    for name in ("add_leaky_relu_backward", "add_leaky_relu_backward_"):
        with pytest.raises(TypeError, match=f"^{name}: .*negative_slope"):
            getattr(relu_ext, name)(ROWS, ROWS, ROWS[0], slope)
    assert (ROWS == 1).all()


def test_slopes_of_a_leaky_bias():
    """A number in any form, or one for each column, row or element."""
    grad, output = normal("f", (40, 700)), normal("f", (40, 700), 1)
    for kept in ((700,), (40, 1)):
        y = np.zeros(kept, "f")
        for slope in (0, 0.5, 2, np.float32(0.5), abs(normal("f", 700)), abs(normal("f", (40, 1))),
                      abs(normal("f", (40, 700)))):  # fmt: skip
            results = relu_ext.add_leaky_relu_backward(grad, output, y, slope)
            expected = reference.add_backward("leaky_relu_backward", grad, output, y, slope)
            check(results, expected)


# Memory


@each_kind
@each_dtype
def test_nothing_outside_is_touched(level, kind, dtype):
    """Neither read nor written: each array ends at a page that nobody may touch."""
    pages = [Pages(24 * PAGE) for _ in range(5)]
    for i, memory in enumerate(pages):
        elements = memory.bytes.view(dtype)
        elements[:] = np.resize(normal(dtype, 1000, i), elements.size)
    for shape, kept in (*SHAPES, ((70, 9), (9,)), ((3, 700), (3, 1)), ((16, 64), (64,))):
        if shape and 0 not in shape:
            size, small = math.prod(shape), math.prod(kept)
            for grad, x, y, grad_x, learned in zip(
                *(page.edges(dtype, size) for page in pages[:2]), pages[2].edges(dtype, small),
                pages[3].edges(dtype, size), pages[4].edges(dtype, small), strict=True,
            ):  # fmt: skip
                grad, x, grad_x = (a.reshape(shape) for a in (grad, x, grad_x))
                y, learned = y.reshape(kept), learned.reshape(kept)
                kind(grad, x, y, out=(grad_x, learned))
                kind.in_place(grad, x, y)


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_views(data):
    """Any shape, order, gap, broadcast and overlap, and not a byte changed but the results'."""
    draw = data.draw
    kind = draw(st.sampled_from(KINDS))
    dtype = draw(st.sampled_from([np.dtype(c) for c in "efd"]))
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=4)))
    kept = tuple(n if draw(st.booleans()) else 1 for n in shape)
    kept = kept[draw(st.integers(0, len(shape))) :] if draw(st.booleans()) else kept
    memory = normal(dtype, 1 << 18, draw(st.integers(0, 5)))  # 3000 + (2 * 9 + 3) ** 4 fit in

    def view(lengths, start):
        axes = draw(st.permutations(range(len(lengths))))
        strides, span = [0] * len(lengths), 1
        for axis in axes:
            step = draw(st.sampled_from([1, 1, 1, 2, -1]))
            strides[axis] = span * step
            span *= max(1, lengths[axis] * abs(step)) + draw(st.sampled_from([0, 0, 3]))
        start -= sum(min(0, s * (n - 1)) for s, n in zip(strides, lengths, strict=True))
        itemsize = dtype.itemsize
        return np.ndarray(lengths, dtype, memory.data, start * itemsize,
                          [s * itemsize for s in strides])  # fmt: skip

    places = [draw(st.integers(0, 3000)) for _ in range(3)]
    x, y = view(shape, places[0]), view(kept, places[1])
    grad = view(shape, places[2])
    before = memory.copy()
    expected = kind.expected(grad.copy(order="K"), x.copy(), y.copy())
    written = np.zeros(memory.shape, bool)
    addresses = (grad.__array_interface__["data"][0] - memory.ctypes.data) // dtype.itemsize
    offsets = np.zeros(shape, int)
    for axis, stride in enumerate(grad.strides):
        steps = np.arange(shape[axis]) * (stride // dtype.itemsize)
        offsets += steps.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    written[addresses + offsets] = True
    strides = [abs(s) for s in grad.strides]
    results = kind.in_place(grad, x, y)
    assert results[0] is grad
    check(results, expected, f"{shape} {kept} {strides}")
    assert_same_bits(memory[~written], before[~written])


def test_calls_at_the_same_time():
    """Each call has its own sums."""
    kind = KINDS[2]
    operands = arguments(kind, np.dtype("f"), (2000, 200), (200,))
    expected = kind.expected(*operands)
    wrong = []

    def work():
        for _ in range(20):
            results = kind(*operands)
            if results[1].tobytes() != expected[1].tobytes():
                wrong.append(results)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# The mathematics


@pytest.mark.parametrize(("shape", "kept"), [s for s in SHAPES if s[0] and math.prod(s[0]) < 400])
def test_finite_differences(shape, kept):
    """Of a weighted sum of the outputs, with respect to every learned number."""
    x, y, weights = normal("d", shape), normal("d", kept, 1), normal("d", shape, 2)
    h = 1e-6
    x[abs(x) < 1e-3] = 1
    for forward, backward in (
        (relu_ext.add_relu,
         lambda: relu_ext.add_relu_backward(weights, relu_ext.add_relu(x, y), y)),
        (relu_ext.add_leaky_relu,
         lambda: relu_ext.add_leaky_relu_backward(weights, relu_ext.add_leaky_relu(x, y), y)),
        (relu_ext.leaky_relu, lambda: relu_ext.prelu_backward(weights, x, y)),
    ):  # fmt: skip
        grad_x, learned = backward()
        for array, gradient in ((x, grad_x), (y, np.asarray(learned))):
            for i in list(np.ndindex(array.shape))[:40]:
                middle = array[i]
                array[i] = middle + h
                above = np.sum(weights * forward(x, y))
                array[i] = middle - h
                below = np.sum(weights * forward(x, y))
                array[i] = middle
                assert abs((above - below) / (2 * h) - gradient[i]) < 1e-4


@pytest.fixture
def torch():
    return pytest.importorskip("torch", exc_type=ImportError)


def test_against_autograd(torch):
    for shape, kept in (((64, 10), (10,)), ((4, 3, 5, 6), (3, 1, 1)), ((40, 7), (1,))):
        grad, x = (torch.from_numpy(normal("d", shape, i)) for i in range(2))
        y = torch.from_numpy(normal("d", kept, 2)).requires_grad_()
        z = x.clone().requires_grad_()
        output = torch.relu(z + y)
        output.backward(grad)
        grad_x, grad_y = relu_ext.add_relu_backward(grad, output.detach(), y)
        assert type(grad_x) is type(grad_y) is torch.Tensor
        torch.testing.assert_close(grad_x, z.grad)
        torch.testing.assert_close(grad_y, y.grad)
        target = grad.clone()
        results = relu_ext.add_relu_backward_(target, output.detach(), y)
        assert results[0] is target
        torch.testing.assert_close(results[1], y.grad)

        slope = torch.from_numpy(normal("d", kept, 3)).requires_grad_()
        z = x.clone().requires_grad_()
        torch.where(z > 0, z, z * slope).backward(grad)
        grad_x, grad_slope = relu_ext.prelu_backward(grad, x, slope.detach())
        torch.testing.assert_close(grad_x, z.grad)
        torch.testing.assert_close(grad_slope, slope.grad)
    x, slope = torch.from_numpy(normal("f", (4, 3, 5, 6))), torch.rand(3)
    x.requires_grad_()
    slope.requires_grad_()
    torch.nn.functional.prelu(x, slope).sum().backward()
    ones = torch.ones_like(x)
    grad_x, grad_slope = relu_ext.prelu_backward(ones, x.detach(), slope.detach()[:, None, None])
    torch.testing.assert_close(grad_x, x.grad)
    torch.testing.assert_close(grad_slope[:, 0, 0], slope.grad)


def tensor_of(array, torch):
    if array.dtype == bfloat16:
        return torch.from_numpy(array.view("i2")).view(torch.bfloat16)
    return torch.from_numpy(array)


@each_kind
def test_tensors_have_the_bits_of_arrays(kind, torch):
    for dtype in DTYPES:
        if dtype == np.dtype("g"):
            continue
        for shape, kept in SHAPES:
            if not shape or not kept:
                continue
            arrays = [normal(dtype, s, i) for i, s in enumerate((shape, shape, kept))]
            tensors = [tensor_of(a, torch) for a in arrays]
            expected = kind.expected(*arrays)
            for results in (kind(*tensors), kind.in_place(*tensors)):
                check([array_of(result, torch) for result in results], expected)


def array_of(result, torch):
    """The memory of a tensor."""
    assert type(result) is torch.Tensor
    if result.dtype == torch.bfloat16:
        return result.view(torch.int16).numpy().view(bfloat16)
    return result.numpy()


@each_dtype
def test_numbers_beside_tensors(dtype, torch):
    """A gradient of a number is a scalar, and every other one is a tensor."""
    if dtype == np.dtype("g"):
        return
    grad, x, y = arguments(KINDS[0], dtype, (40, 30), (30,))
    tensors = [tensor_of(a, torch) for a in (grad, x, y)]
    for slope in (0.3, 1, np.asarray(0.3).astype(dtype)[()]):
        expected = relu_ext.prelu_backward(grad, x, slope)
        for results in (
            relu_ext.prelu_backward(*tensors[:2], slope),
            relu_ext.prelu_backward_(tensors[0].clone(), tensors[1], slope),
        ):
            assert type(results[1]) is dtype.type
            check([array_of(results[0], torch), results[1]], expected)
        expected = relu_ext.add_leaky_relu_backward(grad, x, y, slope)
        results = relu_ext.add_leaky_relu_backward(*tensors, slope)
        check([array_of(result, torch) for result in results], expected)
    assert type(relu_ext.add_relu_backward(*tensors[:2], 1.0)[1]) is dtype.type


def test_fractions_agree():
    """The oracle's order, by exact arithmetic rounded once for each addition."""
    terms = normal("f", 37)

    def rounded(value):
        return np.float32(float(value))

    numbers = [Fraction(float(t)) for t in terms]
    while len(numbers) > 1:
        half = 1 << (len(numbers) - 1).bit_length() - 1
        numbers += [Fraction(0)] * (2 * half - len(numbers))
        pairs = zip(numbers[:half], numbers[half:], strict=True)
        numbers = [Fraction(float(rounded(lower + upper))) for lower, upper in pairs]
    assert reference.fold(terms) == np.float32(float(numbers[0]))
