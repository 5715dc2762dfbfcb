"""Maxout and its gradient: values, layouts, the edges of memory, bad input, leaks."""

import math
import sys
import threading

import numpy as np
import pytest
import relu_ext
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from relu_ext import maxout, maxout_backward

import reference
import samples
from samples import assert_same_bits, constant, raising, thing
from test_robustness import PAGE, Pages

DTYPES = samples.loop_dtypes(samples.OPERATIONS[0])  # bool too
# Each number of pieces with a kernel of its own, those between, and both sides of what a byte
# numbers.
PIECES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 17, 255, 256, 257, 500)
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: f"{d.name}-{d.char}")


def some(dtype, shape, seed=0):
    """Numbers of which many are special and many pairs equal, but for the signs of zeros."""
    x = samples.values(dtype, max(int(np.prod(shape)), 1), seed)
    return np.resize(x, shape)


def compare(x, axis, grad=None, layout=np.asarray, context=""):
    """All functions against the oracle; `layout` changes how arrays lie, not what they are."""
    y, which = reference.maxout(x, axis)
    several = isinstance(axis, tuple)
    pieces = tuple(x.shape[i] for i in axis) if several else x.shape[axis]
    there = layout(x)
    assert_same_bits(maxout(there, axis), y, context)
    ours, ours_which = maxout(there, axis, return_which=True)
    assert_same_bits(ours, y, context)
    numbers = np.min_scalar_type(np.prod(pieces) - 1)
    assert_same_bits(ours_which, which.astype(numbers), context)
    out = np.empty_like(y)
    assert maxout(there, axis, out=out) is out
    assert_same_bits(out, y, context)
    grad = y if grad is None else grad
    expected = reference.maxout_backward(grad, which, pieces, axis)
    for numbers in (ours_which, which):
        ours = maxout_backward(layout(grad), layout(numbers), pieces, axis)
        assert_same_bits(ours, expected, context)
    out = np.full_like(expected, 1)
    assert maxout_backward(layout(grad), ours_which, pieces, axis, out=out) is out
    assert_same_bits(out, expected, context)


# Values


@each_dtype
def test_every_number_of_pieces(level, dtype):
    """Last, first and between, with lengths around vectors, tiles and blocks."""
    for pieces in PIECES:
        lengths = (1, 3, 64, 67, 131) if pieces < 9 else (5, 130)
        for length in lengths:
            for shape, axis in (
                ((length, pieces), -1), ((pieces, length), 0), ((2, pieces, length), 1),
            ):  # fmt: skip
                x = some(dtype, shape, seed=pieces)
                grad = some(dtype, np.delete(shape, axis), seed=1)
                compare(x, axis, grad, context=f"{shape} {axis=}")


@each_dtype
def test_long_runs(level, dtype):
    """Blocks of rows and of elements, and a result of every kernel at any place."""
    for pieces in (2, 3, 4, 5, 6, 7, 8, 11):
        x = some(dtype, (1500, pieces))
        compare(x, -1)
        compare(x.T.copy(), 0)
        y = maxout(x)
        for start, stop in ((1, 1500), (17, 81), (700, 1437), (1499, 1500)):
            assert_same_bits(maxout(x[start:stop]), y[start:stop])


@each_dtype
def test_all_pairs_of_special_values(level, dtype):
    """Which of two wins: every pair, and the same with others behind."""
    special = samples.specials(dtype)
    first, second = (a.ravel() for a in np.meshgrid(special, special))
    for pieces in (2, 3, 4, 5, 8):
        x = np.stack([first, second, *[first] * (pieces - 2)], -1)
        compare(x, -1)
        compare(np.ascontiguousarray(x.T), 0)


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d.itemsize <= 2 and d.kind != "b"])
def test_every_bit_pattern(level, dtype):
    patterns = np.arange(256**dtype.itemsize, dtype=f"u{dtype.itemsize}")
    for factor in (1, 0x4F1B, 0x9E37):
        x = np.stack([patterns, patterns * patterns.dtype.type(factor % 256**dtype.itemsize)])
        compare(x.view(dtype), 0)
        compare(x.T.copy().view(dtype), -1)


@each_dtype
def test_shuffles_mean_what_one_number_means(level, dtype):
    """Runs as long as the shuffles of _pieces.h against runs that are too short for them, which
    apply _scalar.pxd to one number after the other."""
    for pieces in (5, 8):
        grad = some(dtype, 64 * 3 + 7)
        which = (np.arange(grad.size) * 7 // 3 % pieces).astype("u1")
        one_by_one = [
            maxout_backward(grad[i : i + 1], which[i : i + 1], pieces) for i in range(grad.size)
        ]
        assert_same_bits(maxout_backward(grad, which, pieces), np.concatenate(one_by_one))


WINDOWS = {
    "2 by 2, NCHW": ((3, 2, 12, 2, 13, 2), (3, 5)),
    "the other way": ((3, 2, 12, 2, 13, 2), (5, 3)),
    "negative axes": ((3, 2, 12, 2, 13, 2), (-3, -1)),
    "2 by 2, NHWC": ((3, 7, 2, 6, 2, 19), (2, 4)),
    "2 by 2, NHWC, wide": ((2, 3, 2, 3, 2, 130), (2, 4)),
    "3 by 3": ((2, 3, 8, 3, 9, 3), (3, 5)),
    "3 by 3, NHWC": ((2, 5, 3, 4, 3, 33), (2, 4)),
    "2 by 1": ((2, 3, 6, 2, 70), (3,)),
    "1 by 2": ((2, 3, 6, 1, 70, 2), (3, 5)),
    "4 by 4": ((2, 3, 5, 4, 5, 4), (3, 5)),
    "2 by 5": ((2, 3, 5, 2, 17, 5), (3, 5)),
    "8 by 8": ((2, 3, 3, 8, 5, 8), (3, 5)),
    "blocks": ((2, 3, 8, 8, 3, 3), (4, 5)),
    "plane": ((4, 30, 7, 7), (2, 3)),
    "plane, NHWC": ((4, 7, 7, 30), (1, 2)),
    "large plane": ((2, 3, 20, 20), (2, 3)),
    "large plane, NHWC": ((2, 20, 20, 3), (1, 2)),
    "a cube": ((2, 4, 2, 4, 2, 4, 2), (2, 4, 6)),
    "far apart": ((3, 40, 5, 6), (0, 2)),
    "all": ((3, 4, 5), (0, 1, 2)),
    "all, many": ((3, 40, 5), (2, 0, 1)),
    "as one axis": ((30, 40, 4), (2,)),
    "rows shorter than a vector": ((40, 2, 3, 2, 3), (1, 3)),
    "single window": ((2, 2), (0, 1)),
}


@pytest.mark.parametrize("windows", WINDOWS)
@each_dtype
def test_several_axes(level, dtype, windows):
    shape, axes = WINDOWS[windows]
    x = some(dtype, shape, seed=len(windows))
    compare(x, axes, context=windows)
    kept = np.delete(np.arange(x.ndim), axes)
    for order in (range(x.ndim)[::-1], [*axes, *kept], np.roll(range(x.ndim), 1)):
        order = [axis % x.ndim for axis in order]

        def layout(a, order=order):
            return (
                a
                if a.ndim != len(order)
                else np.ascontiguousarray(a.transpose(order)).transpose(np.argsort(order))
            )

        compare(x, axes, layout=layout, context=f"{windows} {order}")
    if windows == "2 by 2, NCHW":
        compare(np.repeat(x, 2, 4)[:, :, :, ::-1, ::2], axes, context="strided")


def test_the_gradient_of_windows_reshapes_to_the_image():
    grad, which = np.ones((2, 3, 4, 5), "f4"), np.full((2, 3, 4, 5), 3, "u1")
    for pieces, axes in (((2, 2), (3, 5)), ((2, 2), (-1, 3)), ((20, 20), (3, 5))):
        dx = maxout_backward(grad, which, pieces, axes)
        assert dx.flags.c_contiguous
        assert np.shares_memory(dx, dx.reshape(2, 3, 4 * pieces[0], 5 * pieces[1]))


def test_a_gradient_written_into_a_slice():
    """Odd sizes: the last row and column have no gradient, and nothing is written there."""
    x = some(np.dtype("f4"), (2, 3, 25, 25))

    def windows(a):
        return a[:, :, :24, :24].reshape(2, 3, 12, 2, 12, 2)

    y, which = maxout(windows(x), (3, 5), return_which=True)
    dx = np.full_like(x, 7)
    maxout_backward(y, which, (2, 2), (3, 5), out=windows(dx))
    expected = reference.maxout_backward(y, which.astype(int), (2, 2), (3, 5))
    assert_same_bits(dx[:, :, :24, :24].copy(), expected.reshape(2, 3, 24, 24))
    assert (dx[:, :, 24] == 7).all() and (dx[..., 24] == 7).all()


@pytest.mark.parametrize("pieces", [1, 4, 256, 257, 1000])
@each_dtype
def test_no_results(pieces, dtype):
    for shape, axis in (((2, 0, pieces), -1), ((pieces, 0), 0), ((0, pieces, 3, 2), (1, 3))):
        x = np.ones(shape, dtype)
        best, which = maxout(x, axis, return_which=True)
        expected = np.ones(shape).max(axis)
        assert best.shape == which.shape == expected.shape
        assert best.dtype == x.dtype and maxout(x, axis).shape == expected.shape
        lengths = tuple(shape[at] for at in axis) if isinstance(axis, tuple) else pieces
        assert maxout_backward(best, which, lengths, axis).shape == shape


@pytest.mark.parametrize("axes", [33, 63, 64])
@pytest.mark.parametrize("pieces", [2, 300])
def test_many_axes(axes, pieces):
    shape = [1] * axes
    shape[-1], shape[axes // 2] = 5, pieces
    x = some(np.dtype("f4"), shape)
    for axis in (axes // 2, (axes // 2, 0)):
        y, which = maxout(x, axis, return_which=True)
        expected = x.reshape(pieces, 5).argmax(0)
        assert which.shape == tuple(np.delete(shape, axis)) and (which.ravel() == expected).all()
        for numbers in (which, which.astype(int), which[..., :1]):
            several = isinstance(axis, tuple)
            back = maxout_backward(y, numbers, (pieces, 1) if several else pieces, axis)
            assert back.shape == x.shape
            assert (np.count_nonzero(back) == np.count_nonzero(y)) or numbers.size == 1


@pytest.mark.filterwarnings("ignore:Setting the (shape|dtype):DeprecationWarning")
@pytest.mark.parametrize("what", ["dtype", "shape", "resize"])
def test_an_axis_whose_index_changes_the_array(what):
    """Before anything of the array is read, so that the answer is that of the array as changed."""
    x = np.arange(24.0).reshape(2, 12).copy()  # its own memory, which resize needs

    class Axis:
        def __index__(self):
            if what == "dtype":
                x.dtype = np.int64
            elif what == "shape":
                x.shape = (24, 1)
            else:
                x.resize((1, 2), refcheck=False)
            return 1

    y = maxout(x, Axis())
    assert_same_bits(y, x.max(1))
    grad = np.ones((4, 2))

    class Pieces:
        def __index__(self):
            grad.shape = (8,)
            return 3

    assert maxout_backward(grad, np.zeros(8, "u1"), Pieces()).shape == (8, 3)


def test_zeros_and_nans(level):
    """Zeros are equal, and the first stays, wherever it stands; of NaNs, too."""
    for dtype in map(np.dtype, ("f2", reference.bfloat16, "f4", "f8", "g")):
        for first, sign in ((0.0, False), (-0.0, True)):
            x = np.array([[first, -first, first, -first]] * 100, dtype)
            y, which = maxout(x, return_which=True)
            assert (np.signbit(y) == sign).all() and not which.any()
    x = np.full((100, 3), np.inf, "f4")
    x[:, 1:].view("u4")[:] = 0xFFC00001, 0x7FC00002
    y, which = maxout(x, return_which=True)
    assert (y.view("u4") == 0xFFC00001).all() and (which == 1).all()


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "u1"])
def test_against_numpy(dtype):
    x = some(np.dtype(dtype), (40, 7, 9))
    for axis in range(3):
        y, which = maxout(x, axis, return_which=True)
        np.testing.assert_array_equal(y, x.max(axis))
        np.testing.assert_array_equal(which, x.argmax(axis))


def test_relu_is_the_case_of_a_piece_that_is_zero():
    x = samples.values(np.dtype("f4"), 1000)
    assert_same_bits(maxout(np.stack([np.zeros_like(x), x]), 0), relu_ext.relu(x))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_gradient_by_finite_differences(axis):
    generator = np.random.default_rng(axis)
    x, step = generator.permutation(5 * 4 * 3).reshape(5, 4, 3) / 7.0, 1e-3  # no two pieces close
    weights = generator.standard_normal(np.delete(x.shape, axis))

    def loss(x):
        return float((maxout(x, axis) * weights).sum())

    _, which = maxout(x, axis, return_which=True)
    numeric = np.empty_like(x)
    for place in np.ndindex(x.shape):
        change = np.zeros_like(x)
        change[place] = step
        numeric[place] = (loss(x + change) - loss(x - change)) / (2 * step)
    np.testing.assert_allclose(
        maxout_backward(weights, which, x.shape[axis], axis), numeric, atol=1e-9
    )


# Layouts


@st.composite
def views(draw):
    """An array, some view of a larger one, of any dtype, and an axis of it."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=9))
    steps = [draw(st.sampled_from([1, 1, 1, 2, -1, -3])) for _ in shape]
    order = draw(st.permutations(range(len(shape))))
    base = some(dtype, [n * abs(step) for n, step in zip(shape, steps, strict=True)])
    base = np.ascontiguousarray(base.transpose(order)).transpose(np.argsort(order))
    view = base[tuple(slice(None, None, step) for step in steps)]
    if draw(st.booleans()):
        repeated = draw(st.integers(0, view.ndim - 1))
        kept = [slice(None)] * view.ndim
        kept[repeated] = slice(0, 1)
        view = np.broadcast_to(view[tuple(kept)], view.shape)
    if draw(st.booleans()):
        bytes = np.zeros(view.nbytes + 1, np.uint8)[1:]
        unaligned = bytes.view(dtype).reshape(view.shape)
        unaligned[...] = view
        view = unaligned
    return view, draw(st.integers(-view.ndim, view.ndim - 1)), draw(st.sampled_from(samples.LEVELS))


@settings(deadline=None, max_examples=400)
@given(views())
def test_any_view(case):
    x, axis, level = case
    with samples.at_level(level):
        compare(x, axis)


LAYOUTS = {
    "F": np.asfortranarray,
    "every second": lambda a: np.repeat(a, 2, -1)[..., ::2],
    "outer axis strided": lambda a: np.repeat(a, 2, 0)[::2],
    "backwards": lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
    "window": lambda a: np.pad(a, 2)[2:-2, 2:-2, 2:-2],
    "byte-swapped": lambda a: a.byteswap().view(a.dtype.newbyteorder()),
    "list": lambda a: a.tolist(),
    "subclass": lambda a: a.view(samples.Labelled),
    "__array__": lambda a: thing(__array__=constant(a)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(level, layout):
    for pieces in (2, 3, 4, 5, 8, 20):
        for shape, axis in (((20, 31, pieces), -1), ((pieces, 20, 31), 0), ((20, pieces, 31), 1)):
            x = some(np.dtype("f8"), shape)
            compare(x, axis, layout=lambda a: a if a.ndim < 3 else LAYOUTS[layout](a))


def test_order_of_the_result():
    """As of NumPy's own reductions."""
    x = np.zeros((4, 5, 6, 7), "f4")
    for order in ((0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2)):
        view = x.transpose(order)
        for axis in range(4):
            y, which = maxout(view, axis, return_which=True)
            assert y.strides == view.max(axis).strides
            assert which.strides == tuple(stride // 4 for stride in y.strides)


def test_one_axis_gives_scalars():
    y, which = maxout([1.0, 3.0, 2.0], return_which=True)
    assert type(y) is np.float64 and y == 3
    assert type(which) is np.uint8 and which == 1
    assert type(maxout(np.float32([1, 2]))) is np.float32
    out = np.zeros(())
    assert maxout([1.0, 3.0], out=out) is out and out == 3
    x = maxout_backward(2.0, which, 3)
    assert_same_bits(x, np.array([0.0, 2.0, 0.0]))


def test_a_grad_that_broadcasts():
    which = np.array([[0, 1], [1, 1]])
    expected = reference.maxout_backward(np.array([[5.0, 6.0], [5.0, 6.0]]), which, 2, -1)
    assert_same_bits(maxout_backward([5.0, 6.0], which, 2), expected)
    assert_same_bits(maxout_backward(1, which, 2).sum(-1), np.ones((2, 2), int))


@pytest.mark.parametrize("integer", "bBhHiIlLqQ")
def test_which_of_any_integer(integer):
    for pieces in (3, 127, 128):
        which = (np.arange(1000) % pieces).astype(integer)
        grad = some(np.dtype("f4"), 1000)
        for numbers in (which, which[::-1].copy()[::-1], which.astype(which.dtype.newbyteorder())):
            assert_same_bits(
                maxout_backward(grad, numbers, pieces),
                reference.maxout_backward(grad, which.astype(int), pieces, -1),
            )


# Outputs


def test_out_of_other_dtypes_and_layouts():
    x = some(np.dtype("f4"), (30, 40, 3))
    x[~np.isfinite(x)] = 1
    y, which = reference.maxout(x, -1)
    for out in (
        np.zeros((30, 40)), np.zeros((40, 30), "f4").T, np.zeros((60, 80), "f4")[::2, ::-2],
        np.zeros((30, 40), ">f4"), np.zeros((30, 40), "f4").view(samples.Labelled),
        np.zeros(4801, np.uint8)[1:].view("f4").reshape(30, 40),
    ):  # fmt: skip
        for keywords in ({"out": out}, {"out": (out,)}):
            out[...] = 0
            assert maxout(x, **keywords) is out
            assert_same_bits(np.asarray(out), y.astype(out.dtype))
        for numbers in (np.zeros((30, 40), "u1"), np.zeros((30, 40), ">i8"), None):
            values, ours = maxout(x, out=(out, numbers), return_which=True)
            assert values is out and (numbers is None or ours is numbers)
            assert (ours == which).all()
    values, numbers = maxout(x, out=(None, which.astype("u1")), return_which=True)
    assert_same_bits(values, y)
    expected = reference.maxout_backward(y, which, 3, -1)
    for out in (
        np.ones((30, 40, 3)),
        np.ones((3, 40, 30), "f4").T,
        np.ones((30, 40, 6), "f4")[..., ::2],
    ):
        assert maxout_backward(y, which, 3, out=out) is out
        assert_same_bits(out, expected.astype(out.dtype))


def test_out_overlaps_an_input():
    """The answer of a copy."""
    for axis in (0, 1, 2):
        for start in (0, 1, 2):
            x = some(np.dtype("f4"), (12, 12, 12))
            y, which = reference.maxout(x, axis)
            out = np.moveaxis(x, axis, 0)[start]
            maxout(x, axis, out=out)
            assert_same_bits(out, y)
            x = some(np.dtype("f4"), (12, 12, 12))
            out = x.reshape(-1)[start : start + 144].reshape(12, 12)
            y, which = reference.maxout(x, axis)
            _, numbers = maxout(x, axis, out=(out, out.view("i4")), return_which=True)
            assert numbers.base is not None and (numbers == which).all()  # written last
            x = some(np.dtype("f4"), (12, 12, 12))
            grad = np.moveaxis(x, axis, 0)[start]
            expected = reference.maxout_backward(grad.copy(), which, 12, axis)
            maxout_backward(grad, which, 12, axis, out=x)
            assert_same_bits(x, expected)
    memory = np.zeros(8000, np.uint8)
    which = memory[37:1037]
    which[:] = np.arange(1000) % 8
    expected = reference.maxout_backward(np.full(1000, 7, "u1"), which.astype(int), 8, -1)
    maxout_backward(np.full(1000, 7, "u1"), which, 8, out=memory.reshape(1000, 8))
    assert_same_bits(memory.reshape(1000, 8), expected)


# Edges of memory


@each_dtype
def test_nothing_outside_is_touched(level, dtype):
    for pieces in (2, 3, 4, 5, 6, 7, 8, 13):
        x_pages = Pages.read_only(samples.values(dtype, 1000), 8 * PAGE)
        y_pages, x_out, which_pages = Pages(2 * PAGE), Pages(8 * PAGE), Pages(PAGE)
        for length in (1, 2, 3, 4, 5, 15, 63, 64, 65, 129, 130):
            for x, y, back, which in zip(
                x_pages.edges(dtype, length * pieces),
                y_pages.edges(dtype, length),
                x_out.edges(dtype, length * pieces),
                2 * list(which_pages.edges(np.dtype("u1"), length)),
                strict=False,
            ):  # fmt: skip
                for shape, axis in (((length, pieces), 1), ((pieces, length), 0)):
                    maxout(x.reshape(shape), axis, out=y)
                    maxout(x.reshape(shape), axis, out=(y, which), return_which=True)
                    maxout_backward(y, which, pieces, axis, out=back.reshape(shape))


@each_dtype
def test_short_rows_of_windows_stay_in_their_memory(level, dtype):
    """Kernels read and write rows as long as a vector: not the last ones."""
    x_pages = Pages.read_only(samples.values(dtype, 1000), 8 * PAGE)
    back_pages, y_pages, which_pages = Pages(8 * PAGE), Pages(4 * PAGE), Pages(PAGE)
    for height, width in ((2, 2), (3, 3), (2, 1), (1, 4), (1, 5), (4, 4), (4, 1)):
        for rows, n in ((1, 1), (2, 3), (5, 1), (3, 7), (4, 8), (9, 5), (6, 14), (2, 31)):
            for x, back, y, which in zip(
                x_pages.edges(dtype, rows * height * n * width),
                back_pages.edges(dtype, rows * height * n * width),
                y_pages.edges(dtype, rows * n),
                2 * list(which_pages.edges(np.dtype("u1"), rows * n)),
                strict=False,
            ):
                y, which = y.reshape(rows, n), which.reshape(rows, n)
                for flipped in ((), (2,), (0, 2), (1, 3)):
                    windows = np.flip(x.reshape(rows, height, n, width), flipped)
                    maxout(windows, (1, 3), out=(y, which), return_which=True)
                    values, numbers = reference.maxout(windows, (1, 3))
                    assert_same_bits(y.copy(), values)
                    assert (which == numbers).all()
                    gradient = np.flip(back.reshape(rows, height, n, width), flipped)
                    maxout_backward(y, which, (height, width), (1, 3), out=gradient)
                    expected = reference.maxout_backward(values, numbers, (height, width), (1, 3))
                    assert_same_bits(gradient.copy(), expected)


@each_dtype
def test_short_rows_stay_in_their_array(level, dtype):
    """Of short rows kernels read whole vectors, also of the next image's, but not behind the last
    one; and write none."""
    x_pages, y_pages = Pages.read_only(samples.values(dtype, 1000), 8 * PAGE), Pages(4 * PAGE)
    for shape, axes in (
        ((3, 4, 2, 4, 2, 3), (2, 4)),
        ((2, 3, 2, 5, 2, 9), (2, 4)),
        ((5, 7, 3, 4), (2,)),
        ((3, 4, 4, 7), (0,)),
        ((6, 5, 4), (2,)),
    ):
        for memory in x_pages.edges(dtype, math.prod(shape)):
            x = memory.reshape(shape)
            for view in (x, x[::-1], x[..., ::-1], x[..., :-1], x[:, 1::2], x.swapaxes(0, 1)):
                values, numbers = reference.maxout(view, axes)
                for y in y_pages.edges(dtype, values.size):
                    which = np.empty(values.shape, np.uint8)
                    out = y.reshape(values.shape)
                    maxout(view, axes, out=(out, which), return_which=True)
                    assert_same_bits(out.copy(), values)
                    assert (which == numbers).all()
                    maxout(view, axes, out=out)
                    assert_same_bits(out.copy(), values)


@pytest.mark.parametrize("pieces", [4, 10])
def test_which_that_others_change(pieces):
    """What another thread writes into it meanwhile harms nobody, where a kernel compares it with
    each piece (4) and where it is a place (10)."""
    length = 1 << 20
    which, grad = np.zeros(length, np.uint8), np.ones(length, "f4")
    pages = Pages(length * pieces * 4)
    out = pages.bytes[: length * pieces * 4].view("f4").reshape(length, pieces)
    over = threading.Event()

    def change():
        while not over.is_set():
            which[:] = 255
            which[:] = 0

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(30):
            try:
                maxout_backward(grad, which, pieces, out=out)
            except IndexError:
                continue
            assert np.isin(out.sum(-1), (0, 1)).all()
    finally:
        over.set()
        thread.join()


def test_threads_share(level, threads):
    for shape, axis in (
        ((70_001, 4), -1),
        ((3, 300_001), 0),
        ((101, 5, 700), 1),
        ((2, 90_001, 3), -1),
    ):
        x = some(np.dtype("f8"), shape)
        compare(x, axis)
        compare(x, axis, layout=lambda a: a[::-1].copy()[::-1])


# Bad input


BAD = {
    "axis too large": (np.exceptions.AxisError, lambda: maxout(np.ones((2, 3)), 2)),
    "axis too small": (np.exceptions.AxisError, lambda: maxout(np.ones((2, 3)), -3)),
    "axis of a list": (np.exceptions.AxisError, lambda: maxout([1.0], 1)),
    "no axis": (np.exceptions.AxisError, lambda: maxout(1.0)),
    "axis a float": (TypeError, lambda: maxout(np.ones((2, 3)), 1.0)),
    "axis too large for C": (np.exceptions.AxisError, lambda: maxout(np.ones((2, 3)), 2**31)),
    "axis far too small": (np.exceptions.AxisError, lambda: maxout(np.ones((2, 3)), -(2**70))),
    "an axis of two": (np.exceptions.AxisError, lambda: maxout(np.ones((2, 3)), (0, 2**70))),
    "axis empty": (ValueError, lambda: maxout(np.ones((2, 3)), ())),
    "axis twice": (ValueError, lambda: maxout(np.ones((2, 3)), (1, -1))),
    "axis a list": (TypeError, lambda: maxout(np.ones((2, 3)), [0, 1])),
    "axis a float of two": (TypeError, lambda: maxout(np.ones((2, 3)), (0, 1.0))),
    "axis None": (TypeError, lambda: maxout(np.ones((2, 3)), None)),
    "no pieces": (ValueError, lambda: maxout(np.ones((2, 0)))),
    "no pieces, no elements": (ValueError, lambda: maxout(np.ones((0, 0)))),
    "no pieces, axis 0": (ValueError, lambda: maxout(np.ones((0, 2)), 0)),
    "complex": (TypeError, lambda: maxout(np.ones((2, 2), "D"))),
    "object": (TypeError, lambda: maxout(np.ones((2, 2), object))),
    "text": (TypeError, lambda: maxout(["a", "b"])),
    "datetime": (TypeError, lambda: maxout(np.zeros((2, 2), "M8[s]"))),
    "structured": (TypeError, lambda: maxout(np.zeros((2, 2), "f4,f4"))),
    "ragged": (ValueError, lambda: maxout([[1.0], [1.0, 2.0]])),
    "out a list": (TypeError, lambda: maxout(np.ones((2, 2)), out=[0.0, 0.0])),
    "two outs": (ValueError, lambda: maxout(np.ones((2, 2)), out=(np.ones(2), np.ones(2)))),
    "one out of two": (
        ValueError, lambda: maxout(np.ones((2, 2)), out=(np.ones(2),), return_which=True)),
    "which keeps no numbers": (
        TypeError,
        lambda: maxout(np.ones((2, 2)), out=(None, np.ones(2)), return_which=True)),
    "which too narrow": (
        TypeError,
        lambda: maxout(np.ones((2, 129)), out=(None, np.ones(2, "i1")), return_which=True)),
    "raises": (ZeroDivisionError, lambda: maxout(thing(__array__=raising(ZeroDivisionError)))),
    "complex grad": (TypeError, lambda: maxout_backward(np.ones(2, "D"), np.zeros(2, int), 2)),
    "object grad": (TypeError, lambda: maxout_backward(np.ones(2, object), np.zeros(2, int), 2)),
    "float which": (TypeError, lambda: maxout_backward(np.ones(2), np.zeros(2), 2)),
    "bool which": (TypeError, lambda: maxout_backward(np.ones(2), np.zeros(2, bool), 2)),
    "object which": (TypeError, lambda: maxout_backward(np.ones(2), np.zeros(2, object), 2)),
    "which of another shape": (
        ValueError, lambda: maxout_backward(np.ones((2, 3)), np.zeros((3, 2), int), 2)),
    "an object": (TypeError, lambda: maxout(object())),
    "a DLPack-only object": (TypeError, lambda: maxout(samples.exporter(np.ones((2, 2))))),
    "an object for grad": (TypeError, lambda: maxout_backward(object(), 0, 2)),
    "an object for which": (TypeError, lambda: maxout_backward(1.0, object(), 2)),
    "pieces of one axis, two axes": (
        TypeError, lambda: maxout_backward(np.ones(2), np.zeros(2, int), 2, (1, 2))),
    "pieces of two axes, one axis": (
        TypeError, lambda: maxout_backward(np.ones(2), np.zeros(2, int), (2, 2), 1)),
    "pieces of two axes, three axes": (
        ValueError, lambda: maxout_backward(np.ones(2), np.zeros(2, int), (2, 2), (0, 1, 2))),
    "pieces None": (TypeError, lambda: maxout_backward(np.ones(2), np.zeros(2, int), None)),
    "no axes backward": (ValueError, lambda: maxout_backward(1.0, 0, (), ())),
    "a gradient axis twice": (ValueError, lambda: maxout_backward(1.0, 0, (2, 2), (1, 1))),
    "backward axis too large for C": (
        np.exceptions.AxisError, lambda: maxout_backward(1.0, 0, 2, 2**70)),
    "too many pieces": (ValueError, lambda: maxout_backward(1.0, 0, 2**70)),
    "more pieces than a float holds": (ValueError, lambda: maxout_backward(1.0, 0, 10**400)),
    "too many axes": (
        ValueError, lambda: maxout_backward(np.ones((1,) * 64), np.zeros((1,) * 64, int), 2)),
    "negative pieces": (ValueError, lambda: maxout_backward(np.ones(2), np.zeros(2, int), -1)),
    "pieces a float": (TypeError, lambda: maxout_backward(np.ones(2), np.zeros(2, int), 2.0)),
    "backward axis": (
        np.exceptions.AxisError, lambda: maxout_backward(np.ones(2), np.zeros(2, int), 2, 2)),
    "backward out a list": (
        TypeError, lambda: maxout_backward(np.ones(2), np.zeros(2, int), 2, out=[1])),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_bad_input(kind):
    """What NumPy raises, and words that name the function or, where NumPy refuses, its own."""
    error, call = BAD[kind]
    with pytest.raises(error) as caught:
        call()
    own = ("ragged", "raises")
    assert kind in own or "maxout" in str(caught.value)


def test_the_offending_value_is_named():
    with pytest.raises(TypeError, match="complex128"):
        maxout(np.ones((2, 2), "D"))
    with pytest.raises(np.exceptions.AxisError, match=r"maxout: axis 7 .* dimension 2"):
        maxout(np.ones((2, 2)), 7)
    with pytest.raises(ValueError, match=r"\(2,\).*\(3,\)"):
        maxout(np.ones((2, 2)), out=np.ones(3))


@pytest.mark.parametrize("wrong", [3, 200, 255, -1, 2**40])
@pytest.mark.parametrize("place", [0, 99, 199])
@pytest.mark.parametrize("pieces", [3, 300])
def test_which_out_of_range(wrong, place, pieces):
    """Found before anything is written."""
    if 0 <= wrong < pieces:
        wrong = pieces
    for dtype in ("u1", "i2", "i8"):
        info = np.iinfo(dtype)
        if info.min <= wrong <= info.max:
            which = np.zeros(200, dtype)
            which[place] = wrong
            out = np.full((200, pieces), 7.0)
            with pytest.raises(IndexError, match=f"{wrong}.*{pieces} pieces"):
                maxout_backward(np.ones(200), which, pieces, out=out)
            assert (out == 7).all()
            with pytest.raises(IndexError):
                maxout_backward(np.ones(200), which, pieces)


def test_bad_out():
    x = np.arange(12.0).reshape(3, 4)
    _, which = maxout(x, return_which=True)
    read_only = np.full(3, 7.0)
    read_only.flags.writeable = False
    for error, out in (
        (ValueError, read_only), (ValueError, np.full(4, 7.0)), (ValueError, np.full((3, 1), 7.0)),
        (ValueError, np.full((), 7.0)), (TypeError, np.full(3, 7)), (TypeError, np.full(3, "7")),
        (TypeError, np.full(3, "7", np.dtypes.StringDType())),
    ):  # fmt: skip
        before = out.copy()
        with pytest.raises(error, match="maxout"):
            maxout(x, out=out)
        with pytest.raises(error, match="maxout"):
            maxout(x, out=(out, None), return_which=True)
        assert (out == before).all()
    for error, out in (
        (ValueError, np.broadcast_to(7.0, (3, 4))), (ValueError, np.full((4, 3), 7.0)),
        (TypeError, np.full((3, 4), 7)),
    ):  # fmt: skip
        with pytest.raises(error, match="maxout_backward"):
            maxout_backward(np.ones(3), which, 4, out=out)
        assert (out == 7).all()


def test_what_says_that_it_is_an_array_is_none():
    liar = thing(__class__=np.ndarray, __array__=constant(np.zeros(2)))
    for call in (
        lambda: maxout(np.ones((2, 3)), out=liar),
        lambda: maxout(np.ones((2, 3)), out=(None, liar), return_which=True),
        lambda: maxout_backward(1.0, 0, 2, out=liar),
    ):
        with pytest.raises(TypeError, match="neither ndarray nor tensor"):
            call()


def test_no_elements(level):
    for shape, axis in (((0, 3), 1), ((2, 0, 3), 0), ((0, 3, 2), 1), ((4, 0), 0)):
        for x in (np.ones(shape, "f4"), np.ones(shape[::-1], "f4").T):
            y, which = maxout(x, axis, return_which=True)
            assert_same_bits(y, x.max(axis))
            assert which.shape == y.shape and which.dtype == np.uint8
            back = maxout_backward(y, which, shape[axis], axis)
            assert back.shape == shape and back.dtype == y.dtype
    assert maxout_backward(np.ones((0, 3)), np.ones((0, 3), "u1"), 0).shape == (0, 3, 0)


# First use, references


def test_bfloat16_may_come_first():
    finished = samples.run_python("""
import ml_dtypes, numpy as np, relu_ext
x = np.array([[1, 3, 2]], ml_dtypes.bfloat16)
print(relu_ext.maxout(x), relu_ext.relu(x))
""")
    assert finished.stdout == "[3] [[1 3 2]]\n", finished.stderr


def test_an_output_is_not_kept():
    x, out = np.ones((4, 3)), np.empty(4)
    before = sys.getrefcount(out)
    maxout(x, out=out)
    assert sys.getrefcount(out) == before
