"""Properties of values and pairs, found by hypothesis: what a result may never depend on."""

import numpy as np
import pytest
import relu_ext
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy

import reference
import samples
from samples import LEVELS, OPERATIONS, assert_same_bits, each_operation

WIDE = [np.dtype(c) for c in "dgiIlLqQf"]


def elements(dtype):
    """Any number of `dtype`; of every three, two are special or next to one."""
    special = st.sampled_from([*samples.specials(dtype)])
    if dtype.char in "iIlLqQ":
        return st.one_of(special, special, hypothesis_numpy.from_dtype(dtype))
    if dtype.char == "g":
        return st.one_of(special, special, st.floats().map(dtype.type))
    pattern = st.integers(0, 256**dtype.itemsize - 1)
    number = pattern.map(lambda bits: np.array(bits, f"u{dtype.itemsize}").view(dtype)[()])
    return st.one_of(special, special, number)


def pairs(dtype, most=70):
    """Arrays (grad, x) of one length; the bits of every element are drawn, NaNs' too."""
    return st.lists(st.tuples(elements(dtype), elements(dtype)), max_size=most).map(
        lambda drawn: [np.array([pair[i] for pair in drawn], dtype) for i in (0, 1)]
    )


def python_parameters(operation, dtype):
    if operation.parameter is None:
        return st.none()
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return st.one_of(st.sampled_from([0, 1]), st.integers(int(info.min), int(info.max)))
    most = float(np.finfo(np.float32 if dtype.char == "f" else np.float64).max)
    return st.one_of(st.sampled_from([0, 1, 0.0, -0.0, 0.5, 0.01]), st.floats(-most, most))


@each_operation
@pytest.mark.parametrize("dtype", WIDE, ids=lambda d: d.char)
def test_values(operation, dtype):
    """The oracle's bits, through both doors, at every level."""

    @settings(max_examples=60, deadline=None)
    @given(pairs(dtype), python_parameters(operation, dtype))
    def check(pair, parameter):
        arrays = pair[2 - operation.arity :]
        expected = operation.expected(*arrays, parameter=parameter)
        number = parameter if parameter is None else dtype.type(parameter)
        for level in LEVELS:
            with samples.at_level(level):
                backwards = [a[::-1] for a in arrays]
                assert_same_bits(operation.front(*arrays, parameter=parameter), expected, level)
                apart = operation.direct(*backwards, parameter=number)[::-1]
                assert_same_bits(apart, expected, level)
                in_place = arrays[0].copy()
                assert operation.in_place(in_place, *arrays[1:], parameter=parameter) is in_place
                assert_same_bits(in_place, expected, level)

    check()


FLOATS = [np.dtype(c) for c in "efd"] + [reference.bfloat16]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_independence(data):
    """Position, length, alignment, strides, level and door leave no trace in a result."""
    operation = data.draw(st.sampled_from(OPERATIONS))
    dtype = data.draw(st.sampled_from([*FLOATS, np.dtype("i1"), np.dtype("i8")]))
    parameter = data.draw(st.sampled_from(samples.parameters(operation, dtype)))
    numbers = samples.arrays(operation, dtype, 1, seed=data.draw(st.integers(0, 10**6)))
    [alone] = operation.front(*numbers, parameter=parameter)
    length = data.draw(st.integers(1, 400), "length")
    position = data.draw(st.integers(0, length - 1), "position")
    crowds = samples.arrays(operation, dtype, length, seed=data.draw(st.integers(0, 10**6)))
    placed = []
    for crowd, number in zip(crowds, numbers, strict=True):
        crowd[position] = number[0]
        offset = data.draw(st.integers(0, 63), "offset")
        step = data.draw(st.sampled_from([1, 1, 2, 3, -1, -2]), "step")
        memory = np.zeros(offset + length * abs(step) * dtype.itemsize, np.uint8)
        array = memory[offset:].view(dtype)[::step]
        array[:] = crowd
        placed.append(array)
    door = data.draw(st.sampled_from(["front", "direct", "in_place"]), "door")
    if door == "direct" and parameter is not None:
        parameter = dtype.type(parameter)
    with samples.at_level(data.draw(st.sampled_from(LEVELS), "level")):
        result = getattr(operation, door)(*placed, parameter=parameter)
    assert_same_bits(result[position], alone)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_shapes_and_broadcasting(data):
    """Any shapes that broadcast, in any memory order: as NumPy broadcasts, and both doors alike."""
    operation = data.draw(st.sampled_from(OPERATIONS))
    count = operation.ufunc.nin
    shapes = data.draw(
        hypothesis_numpy.mutually_broadcastable_shapes(num_shapes=count, max_dims=4, max_side=5)
    )
    dtype = data.draw(st.sampled_from([np.dtype("f4"), np.dtype("f8"), np.dtype("i2")]))
    operands = []
    for i, shape in enumerate(shapes.input_shapes):
        operand = samples.values(dtype, int(np.prod(shape)), seed=i).reshape(shape)
        axes = data.draw(st.permutations(range(operand.ndim)))
        order = np.argsort(np.array(axes, int))
        operand = operand.transpose(axes).copy().transpose(order)
        flips = data.draw(st.tuples(*[st.booleans()] * operand.ndim))
        operands.append(operand[tuple(slice(None, None, -1 if flip else 1) for flip in flips)])
    parameter = operands.pop() if operation.parameter else None
    expected = operation.expected(*operands, parameter=parameter)
    front = operation.front(*operands, parameter=parameter)
    assert_same_bits(front, expected)
    direct = operation.direct(*operands, parameter=parameter)
    assert type(front) is type(direct) and np.shape(front) == shapes.result_shape
    samples.assert_same_array(np.asarray(front), np.asarray(direct))


@settings(max_examples=100, deadline=None)
@given(pairs(np.dtype("d")))
def test_algebra(pair):
    """What holds of the functions themselves, whatever the oracle says."""
    grad, x = pair
    relu = relu_ext.relu(x)
    assert_same_bits(relu_ext.relu(relu), relu)
    assert not np.signbit(relu[~np.isnan(relu)]).any()
    assert_same_bits(relu_ext.leaky_relu(x, 1)[x >= 0], x[x >= 0])
    assert_same_bits(relu_ext.relu_backward(grad, x)[x > 0], grad[x > 0])
    assert not relu_ext.relu_backward(grad, x)[x <= 0].view("u8").any()
    numbers = ~np.isnan(x)
    ones = np.ones_like(x)
    for at_zero in (0, 1, 0.25):
        subgradient = relu_ext.relu_subgradient(x, at_zero=at_zero)
        backward = relu_ext.relu_backward(ones, x, at_zero=at_zero)
        assert_same_bits(backward[numbers], subgradient[numbers])
