"""Every kernel: each operation, dtype and CPU level against the oracle, bit for bit."""

import timeit
from functools import partial

import numpy as np
import pytest

import samples
from samples import VECTOR, Guarded, assert_same_bits, each_kernel

# The grad of a backward is the pattern of x times an odd constant: every x meets NaNs, infinities,
# zeros and ordinary numbers, and every grad occurs once.
ODD_FACTORS = (1, 0x4F1B, 0x9E37)
PARAMETER_FACTOR = 0x9D


@each_kernel
def test_lengths_and_offsets(level, operation, dtype):
    """0 to 4 vectors and 1, in place and into a second buffer, wherever the buffers begin, and
    nothing outside them is written."""
    longest = 4 * VECTOR // dtype.itemsize + 1
    sources = samples.arrays(operation, dtype, longest)
    cases = [
        (parameter, operation.expected(*sources, parameter=parameter))
        for parameter in samples.parameters(operation, dtype)
    ]
    for length in range(longest + 1):
        parameter, expected = cases[length % len(cases)]
        expected = expected[:length]
        for offset in sorted({0, 1, dtype.itemsize, 37}):
            context = f"{length=} {offset=} {parameter=}"
            first, *others = [
                Guarded(source[:length], (offset + 5 * i) % VECTOR if offset % 2 else offset)
                for i, source in enumerate(sources)
            ]
            inputs = [first.array, *(other.array for other in others)]
            out = Guarded(np.zeros(length, dtype), offset)
            assert operation.front(*inputs, parameter=parameter, out=out.array) is out.array
            assert_same_bits(out.array, expected, context)
            assert_same_bits(first.array, sources[0][:length], context)

            assert operation.in_place(*inputs, parameter=parameter) is first.array
            assert_same_bits(first.array, expected, context)
            for other, source in zip(others, sources[1:], strict=True):
                assert_same_bits(other.array, source[:length], context)
            for buffer in (first, out, *others):
                buffer.assert_guarded(context)


def strided(source, step, fill):
    """`source` with `step - 1` elements of `fill` behind each of its own; reversed if step < 0."""
    memory = np.full(source.size * abs(step), fill, np.uint8).repeat(source.itemsize)
    view = memory.view(source.dtype)[::step]
    view[:] = source
    return memory, view


@each_kernel
def test_strides(level, operation, dtype):
    """Strided views take another path than contiguous arrays; the elements between stay."""
    lengths = (0, 1, 2, 7, 63, 64, 65, 130, 255, 257, 1023, 1025, 4099)
    sources = samples.arrays(operation, dtype, lengths[-1])
    cases = [
        (parameter, operation.expected(*sources, parameter=parameter))
        for parameter in samples.parameters(operation, dtype)
    ]
    steps = ((1, 2), (2, 1), (2, 2), (3, -1), (-1, 1), (-2, 3), (-1, -1))
    for turn, length in enumerate(lengths):
        parameter, expected = cases[turn % len(cases)]
        expected = expected[:length]
        for door in (operation.front, operation.direct):
            for step, out_step in steps:
                context = f"{length=} {step=} {out_step=} {parameter=} {door.__name__}"
                inputs = [strided(source[:length], step, 0xA5)[1] for source in sources]
                memory, out = strided(np.zeros(length, dtype), out_step, 0xA5)
                untouched = memory.copy()
                door(*inputs, parameter=parameter, out=out)
                assert_same_bits(out, expected, context)
                changed = np.ones(length * abs(out_step), bool)
                changed[::out_step] = False
                same = (memory == untouched).reshape(-1, dtype.itemsize).all(-1)
                assert same[changed].all(), context


@each_kernel
def test_in_place_on_a_strided_view(level, operation, dtype):
    sources = samples.arrays(operation, dtype, 1000)
    for parameter in samples.parameters(operation, dtype):
        expected = operation.expected(*sources, parameter=parameter)
        for step in (2, -1, -3):
            memory, first = strided(sources[0], step, 0xA5)
            between = np.ones(1000 * abs(step), bool)
            between[::step] = False
            elements = memory.reshape(-1, dtype.itemsize)
            before = elements[between].copy()
            assert operation.in_place(first, *sources[1:], parameter=parameter) is first
            assert_same_bits(first, expected, f"{step=} {parameter=}")
            np.testing.assert_array_equal(elements[between], before)


@pytest.mark.parametrize(
    ("operation", "dtype"), [k for k in samples.KERNELS if k.values[0].parameter is not None]
)
def test_one_parameter_per_element(level, operation, dtype):
    """An array in the parameter's place: contiguous, strided, per channel."""
    for length in (1, 3, 17, 64, 65, 200, 1025):
        sources = samples.arrays(operation, dtype, length)
        parameters = samples.values(dtype, length, seed=7)
        parameters[::3] = np.resize(np.array([0, 1], dtype), parameters[::3].size)
        expected = operation.expected(*sources, parameter=parameters)
        for step in (1, 2, -1):
            views = [strided(source, step, 0)[1] for source in (*sources, parameters)]
            *inputs, parameter = views
            for door in (operation.front, operation.direct):
                context = f"{length=} {step=} {door.__name__}"
                assert_same_bits(door(*inputs, parameter=parameter), expected, context)
        channels = np.array([source[: 17 * (length // 17)].reshape(17, -1) for source in sources])
        slopes = parameters[:17, None]
        if length >= 17:
            expected = operation.expected(*channels, parameter=slopes)
            assert_same_bits(operation.front(*channels, parameter=slopes), expected)


def every_pattern(operation, dtype):
    """Every x once for each grad of ODD_FACTORS; of one byte, every pair."""
    patterns = np.arange(256**dtype.itemsize, dtype=f"u{dtype.itemsize}")
    if operation.arity == 1:
        yield [patterns.view(dtype)]
    elif dtype.itemsize == 1:
        yield [np.repeat(patterns, 256).view(dtype), np.tile(patterns, 256).view(dtype)]
    else:
        for factor in ODD_FACTORS:
            yield [(patterns * patterns.dtype.type(factor)).view(dtype), patterns.view(dtype)]


SMALL_KERNELS = [
    k for k in samples.KERNELS if k.values[1].itemsize <= 2 and k.values[1].kind != "b"
]


@pytest.mark.parametrize(("operation", "dtype"), SMALL_KERNELS)
def test_every_bit_pattern(operation, dtype):
    """Through both doors, at every level; the last parameter is every pattern, too."""
    for arrays in every_pattern(operation, dtype):
        backwards = [array[::-1].copy()[::-1] for array in arrays]
        patterns = arrays[-1].view(f"u{dtype.itemsize}")
        parameters = samples.parameters(operation, dtype)
        if operation.parameter is not None:
            parameters.append((patterns * patterns.dtype.type(PARAMETER_FACTOR)).view(dtype))
        for parameter in parameters:
            number = parameter if parameter is None else np.asarray(parameter, dtype)
            expected = operation.expected(*arrays, parameter=parameter)
            for level in samples.LEVELS:
                with samples.at_level(level):
                    in_place = arrays[0].copy()
                    operation.in_place(in_place, *arrays[1:], parameter=parameter)
                    results = {
                        "in place": in_place,
                        "front door": operation.front(*arrays, parameter=parameter),
                        "ufunc": operation.direct(*arrays, parameter=number),
                        "ufunc, reversed": operation.direct(*backwards, parameter=number),
                    }
                for door, result in results.items():
                    assert_same_bits(result, expected, f"{level} {door} {parameter=}")


@pytest.mark.parametrize("operation", ["leaky_relu", "add_leaky_relu"])
def test_every_product_of_bytes(operation):
    """int8 is multiplied in pairs: every pair of neighbours, with every slope, at every level."""
    operation = samples.NAMED[operation]
    numbers = np.arange(-128, 128, dtype="i1")
    pairs = np.stack(np.meshgrid(numbers, numbers), axis=-1).ravel()
    arrays = [pairs, pairs[::-1].copy()][: operation.arity]
    for slope in numbers.tolist():
        expected = operation.expected(*arrays, parameter=slope)
        for level in samples.LEVELS:
            with samples.at_level(level):
                written, out = arrays[0].copy(), np.empty_like(pairs)
                operation.in_place(written, *arrays[1:], parameter=slope)
                operation.front(*arrays, parameter=slope, out=out)
            assert_same_bits(written, expected, f"{level} {slope=}")
            assert_same_bits(out, expected, f"{level} {slope=}")


def test_the_slots_of_a_table_all_differ(level):
    """Cython merges members of a fused type that share a base type without a word."""
    kernels, itemsizes = samples.slots(level)
    names = {d.name: d.itemsize for d in samples.loop_dtypes(samples.OPERATIONS[-1])}
    assert sorted(itemsizes) == sorted(names.values())
    assert kernels.all()
    assert np.unique(kernels).size == kernels.size


@pytest.mark.skipif(not samples.X87, reason="no padding in this machine's longdouble")
@pytest.mark.parametrize("order", "=>")
def test_padding_is_not_compared(order):
    """Six bytes of each x87 longdouble are nobody's, at the end that its byte order puts them."""
    x = np.full(3, 1.5, np.longdouble).astype(np.dtype("g").newbyteorder(order))
    y = x.copy()
    inside = y.view(np.uint8).reshape(3, 16)
    padding = slice(10, None) if order == "=" else slice(6)
    inside[:, padding] ^= 0xFF
    samples.assert_same_bits(y, x)
    inside[1, 9 if order == "=" else 6] ^= 0x80
    with pytest.raises(AssertionError, match="1 of 3 wrong"):
        samples.assert_same_bits(y, x)


@pytest.mark.parametrize("operation", ["relu", "leaky_relu", "relu_backward", "add_relu"])
def test_in_place_is_vectorised_too(operation):
    """In place a call touches less memory than with out=, and takes no longer; where a compiler's
    loops go number by number because an input is the output, it takes two to eight times as long.

    At the lowest level: at v3 Clang 22 makes masked stores, slow on AMD.
    """
    operation = samples.NAMED[operation]
    arrays = samples.arrays(operation, np.dtype("f4"), 16_384)
    parameter = operation.parameter and 0
    in_place = partial(operation.in_place, *arrays, parameter=parameter)
    apart = partial(operation.front, *arrays, parameter=parameter, out=np.empty_like(arrays[0]))
    with samples.at_level(samples.LEVELS[0]):  # in turn, so that both meet the same machine
        times = [[timeit.timeit(call, number=20) for call in (in_place, apart)] for _ in range(20)]
    one_array, two_arrays = np.min(times, axis=0)
    assert one_array < 1.5 * two_arrays
