"""Masks: as `where`, which says what is written, and as the x of a backward function, of whose
numbers only the signs are read, in their own dtype."""

import itertools
import warnings

import numpy as np
import pytest
import relu_ext

import reference
import samples
from samples import Guarded, assert_same_bits, each_operation, quiet

SHAPE = (12, 35)
DTYPES = [np.dtype(c) for c in "fdegbhq"] + [reference.bfloat16]
FLAT = np.random.default_rng(5).random(SHAPE) < 0.5
MASKS = {
    "scattered": FLAT,
    "none": np.zeros(SHAPE, bool),
    "all": np.ones(SHAPE, bool),
    "row": FLAT[:1],
    "row of one axis": FLAT[0],
    "column": FLAT[:, :1],
    "one": np.array(True),
    "F": np.asfortranarray(FLAT),
    "every third": np.repeat(FLAT, 3, axis=1)[:, ::3],
    "reversed": FLAT[::-1, ::-1],
}
OUTPUTS = {
    "C": lambda a: a.copy(),
    "F": lambda a: a.copy(order="F"),
    "every second": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "window": lambda a: np.pad(a, 2)[2:-2, 2:-2],
}


def inputs_of(operation, dtype, shape=SHAPE):
    size = int(np.prod(shape))
    return [a.reshape(shape) for a in samples.arrays(operation, dtype, size)]


@each_operation
def test_where(level, threads, operation):
    for dtype, (name, mask), (layout, lay_out) in itertools.product(
        DTYPES, MASKS.items(), OUTPUTS.items()
    ):
        context = f"{dtype} {name} {layout}"
        parameter = samples.parameters(operation, dtype)[0]
        sources = inputs_of(operation, dtype)
        before = samples.values(dtype, FLAT.size, seed=9).reshape(SHAPE)
        result = operation.expected(*sources, parameter=parameter)
        expected = np.where(mask, result.view(f"V{dtype.itemsize}"),
                            before.view(f"V{dtype.itemsize}")).view(dtype)  # fmt: skip
        out = lay_out(before)
        assert operation.front(*sources, parameter=parameter, out=out, where=mask) is out
        assert_same_bits(out, expected, context)
        first = lay_out(sources[0])
        expected = np.where(mask, result.view(f"V{dtype.itemsize}"),
                            sources[0].view(f"V{dtype.itemsize}")).view(dtype)  # fmt: skip
        operation.front(first, *sources[1:], parameter=parameter, out=first, where=mask)
        assert_same_bits(first, expected, context)
        new = operation.front(*sources, parameter=parameter, where=mask)
        number = None if parameter is None else dtype.type(parameter)
        direct = operation.direct(*sources, parameter=number, where=mask, out=None)
        everywhere = np.broadcast_to(mask, SHAPE)
        assert new.strides == direct.strides and new.dtype == direct.dtype
        assert_same_bits(new[everywhere], result[everywhere], context)


@each_operation
def test_where_of_large_arrays(level, threads, operation):
    """Shared by threads."""
    dtype, count = np.dtype("f4"), (3 << 20) // 4 + 5
    sources = [np.resize(part, count) for part in samples.arrays(operation, dtype, 997)]
    parameter = samples.parameters(operation, dtype)[0]
    mask = np.resize(FLAT, count)
    out = Guarded(np.full(count, 7, dtype), 4)
    result = operation.expected(*sources, parameter=parameter)
    operation.front(*sources, parameter=parameter, out=out.array, where=mask)
    assert_same_bits(out.array[mask], result[mask])
    assert (out.array[~mask] == 7).all()
    out.assert_guarded(operation)


@pytest.mark.parametrize("shape", [(70, 131), (3, 50, 67), (9, 33, 5, 41)], ids=str)
def test_where_in_each_order_beyond_a_tile(level, shape):
    mask = np.random.default_rng(3).random(shape) < 0.5
    for dtype, axes in itertools.product(DTYPES, itertools.permutations(range(len(shape)))):
        memory = samples.values(dtype, mask.size).reshape([shape[axis] for axis in axes])
        x = memory.transpose(np.argsort(axes))
        out = np.full(shape, 7, dtype)
        relu_ext.relu(x, out=out, where=mask)
        with np.errstate(invalid="ignore"):  # the oracle compares signalling NaNs
            expected = reference.relu(x[mask])
        assert_same_bits(out[mask], expected, f"{dtype} {axes}")
        assert (out[~mask] == 7).all()


@each_operation
def test_where_with_operands_of_other_dtypes(level, operation):
    """As the ufunc, over an operand and elsewhere, and not a byte beside the output."""
    for dtype, other, over in itertools.product(DTYPES, DTYPES, (True, False)):
        first, *others = [part.ravel() for part in inputs_of(operation, dtype)]
        with np.errstate(all="ignore"):
            others = [array.astype(other) for array in others]
        if operation.parameter:
            others.append(other.type(1))
        outs = [Guarded(first, 4), Guarded(first, 4)]
        ended = []
        for function, out in zip((operation.function, operation.ufunc), outs, strict=True):
            operands = [out.array if over else first, *others]
            keywords = {"out": out.array, "where": FLAT.ravel()}
            if operation.parameter and function is operation.function:
                keywords[operation.parameter] = operands.pop()
            try:
                with np.errstate(all="ignore"):
                    ended.append(function(*operands, **keywords) is out.array)
            except TypeError:
                ended.append(TypeError)
        context = f"{dtype} {other} {over}"
        assert ended[0] == ended[1], context
        assert_same_bits(*(quiet(out.array) for out in outs), context)
        for out in outs:
            out.assert_guarded(context)


@pytest.mark.parametrize("operands", [1, 2], ids=["relu", "relu_backward"])
def test_elements_outside_of_the_mask_belong_to_others(level, operands):
    """Another thread writes them meanwhile; none of its numbers is lost."""
    memory = np.full((512, 300), -1, "f4")
    mask = np.random.default_rng(3).random(memory.shape) < 0.5
    flat = np.flatnonzero(~mask)[::53]
    with samples.written_meanwhile(memory.reshape(-1), flat):
        for _ in range(60):
            if operands == 1:
                relu_ext.relu(memory, out=memory, where=mask)
            else:
                relu_ext.relu_backward(memory, np.full_like(memory, -1), out=memory, where=mask)
    assert not memory[mask].any()


@each_operation
def test_what_is_no_mask_is_refused_as_by_the_ufunc(operation):
    sources = inputs_of(operation, np.dtype("f4"))
    parameter = None if operation.parameter is None else 0.5
    for mask in (np.ones(SHAPE, "i1"), np.ones((3, *SHAPE), bool), np.ones(5, bool), FLAT.tolist(),
                 "mask", FLAT.astype("f4")):  # fmt: skip
        out = np.full(SHAPE, 7, "f4")
        outcomes = []
        for function in (operation.front, operation.direct):
            try:
                function(*sources, parameter=parameter, out=out, where=mask)
                outcomes.append(out.copy())
                out[...] = 7
            except (TypeError, ValueError) as error:
                outcomes.append(samples.public_class(error))
                assert (out == 7).all()
        if isinstance(outcomes[0], np.ndarray):
            assert_same_bits(*outcomes)
        else:
            assert outcomes[0] is outcomes[1]


def test_a_mask_in_the_memory_of_the_output():
    for dtype in (np.dtype("f4"), np.dtype("i1")):
        for shift in (0, 1, 100):
            memory = np.random.default_rng(1).integers(0, 2, 4000, "u1")
            out = memory[400:1600].view(dtype)
            mask = memory[400 + shift : 400 + shift + out.size].view(bool)
            x = samples.values(dtype, out.size)
            expected = out.copy()
            np.copyto(expected, samples.NAMED["relu"].expected(x), where=mask.copy())
            relu_ext.relu(x, out=out, where=mask)
            assert_same_bits(out, expected, f"{dtype} {shift=}")


@each_operation
def test_where_with_tensors(level, operation):
    """As with ndarrays, whether the tensors are walked or go through the ufunc."""
    torch = pytest.importorskip("torch", exc_type=ImportError)
    for dtype, (name, mask) in itertools.product((np.dtype(c) for c in "fehd"), MASKS.items()):
        parameter = samples.parameters(operation, dtype)[0]
        sources = inputs_of(operation, dtype)
        before = samples.values(dtype, FLAT.size, seed=9).reshape(SHAPE)
        masks = [mask]
        if min(mask.strides, default=0) >= 0:
            masks.append(torch.from_numpy(mask.copy()))
        for (layout, lay_out), chosen in itertools.product(OUTPUTS.items(), masks):
            context = f"{dtype} {name} {layout} {type(chosen)}"
            expected = before.copy()
            operation.front(*sources, parameter=parameter, out=expected, where=mask)
            tensors = [torch.from_numpy(lay_out(source)) for source in sources]
            out = torch.from_numpy(lay_out(before))
            result = operation.front(*tensors, parameter=parameter, out=out, where=chosen)
            assert result is out
            assert_same_bits(out.numpy(), expected, context)
            array = lay_out(before)
            result = operation.front(*tensors, parameter=parameter, out=array, where=chosen)
            assert result is array
            assert_same_bits(array, expected, context)
            new = operation.front(*tensors, parameter=parameter, where=chosen)
            assert type(new) is torch.Tensor
            everywhere = np.broadcast_to(mask, SHAPE)
            assert_same_bits(new.numpy()[everywhere], expected[everywhere], context)


# The signs of x.

BACKWARD = [o for o in samples.OPERATIONS if o.name.endswith("backward")]
EACH_BACKWARD = pytest.mark.parametrize("operation", BACKWARD, ids=str)
ALL_DTYPES = [np.dtype(c) for c in "?bBhHiIqQefdg"] + [reference.bfloat16]


def signs(dtype, count):
    """Every value where the format ends, and random ones."""
    return np.resize(np.concatenate([samples.specials(dtype), samples.values(dtype, 100)]), count)


@EACH_BACKWARD
def test_each_dtype_of_x(level, operation):
    """The bits of the ufunc and of the oracle, which casts x; the result's dtype takes in that of
    x, so that no sign is lost."""
    walked = 0
    for grad_dtype, x_dtype in itertools.product(ALL_DTYPES[1:], ALL_DTYPES):
        grad, x = samples.values(grad_dtype, 420), signs(x_dtype, 420)
        for parameter in samples.parameters(operation, grad_dtype)[:4]:
            context = f"{grad_dtype} {x_dtype} {parameter=}"
            try:
                expected = operation.expected(grad, x, parameter=parameter)
            except TypeError:  # NumPy promotes float16 and bfloat16 to nothing
                continue
            with np.errstate(invalid="ignore"):  # of the ufunc's casts, where grad's is narrower
                result = operation.front(grad, x, parameter=parameter)
            assert_same_bits(result, expected, context)
            if expected.dtype != grad_dtype:
                continue
            walked += x_dtype != grad_dtype
            in_place = grad.copy()
            operation.in_place(in_place, x, parameter=parameter)
            assert_same_bits(in_place, expected, context)
    assert walked > 100


def test_wider_x_in_place(level, threads):
    """Where grad or 0 is chosen, x is not cast to grad's dtype, in which some of its signs end, nor
    grad to that of x, which would quiet a NaN."""
    below = 0
    for grad_dtype, x_dtype in itertools.product(map(np.dtype, "efdg"), ALL_DTYPES[:-1]):
        for count, shift in itertools.product((1, 420, 5000), (0, 1)):
            grad, x = samples.values(grad_dtype, count + shift)[shift:], signs(x_dtype, count)
            with np.errstate(all="ignore"):
                narrow = x.astype(grad_dtype)
            below += np.count_nonzero((narrow == 0) & (x != 0))
            passes = {0: ~(x <= 0), 1: ~(x < 0)}
            for at_zero, laid in itertools.product((0, 1, 0.0, 1.0), (x, x[::-1].copy()[::-1])):
                expected = np.where(passes[at_zero], grad, grad_dtype.type(0))
                target = Guarded(grad, 4)
                relu_ext.relu_backward_(target.array, laid, at_zero=at_zero)
                context = f"{grad_dtype} {x_dtype} {count} {at_zero=}"
                assert_same_bits(quiet(target.array), quiet(expected), context)
                target.assert_guarded(context)
    assert below > 100


@EACH_BACKWARD
def test_layouts_of_x(level, threads, operation):
    for grad_dtype, x_dtype in (("f4", "?"), ("f8", "f4"), ("e", "b"), ("h", "?"), ("f4", "e")):
        dtype = np.dtype(grad_dtype)
        grad = samples.values(dtype, FLAT.size).reshape(SHAPE)
        x = signs(np.dtype(x_dtype), FLAT.size).reshape(SHAPE)
        parameter = samples.parameters(operation, dtype)[0]
        layouts = [x, x.copy(order="F"), np.repeat(x, 3, axis=1)[:, ::3], x[::-1], x[:1], x[:, :1],
                   x[0], samples.LAYOUTS["field"](x.ravel()).reshape(SHAPE)]  # fmt: skip
        for number, laid in enumerate(layouts):
            context = f"{grad_dtype} {x_dtype} {number}"
            whole = np.broadcast_to(laid, SHAPE)
            expected = operation.expected(grad, whole, parameter=parameter)
            assert_same_bits(operation.front(grad, laid, parameter=parameter), expected, context)
            for lay_out in OUTPUTS.values():
                target = lay_out(grad)
                operation.in_place(target, laid, parameter=parameter)
                assert_same_bits(target, expected, context)
                operation.front(grad, laid, parameter=parameter, out=target, where=FLAT)
                assert_same_bits(target, expected, context)


def test_large_masks(level, threads):
    mask = np.resize(FLAT, 1 << 20)
    grad = np.resize(samples.values(np.dtype("f4"), 997), 1 << 20)
    expected = np.where(mask, grad, np.float32(0))
    assert_same_bits(relu_ext.relu_backward(grad, mask), expected)
    relu_ext.relu_backward_(grad, mask)
    assert_same_bits(grad, expected)


def test_false_is_zero():
    """So `at_zero` decides there."""
    grad = np.array([1.5, -2.0, 3.0], "f4")
    mask = np.array([True, False, False])
    assert_same_bits(relu_ext.relu_backward(grad, mask), np.array([1.5, 0, 0], "f4"))
    assert_same_bits(relu_ext.relu_backward(grad, mask, at_zero=1), grad)


def test_x_in_the_memory_of_grad():
    """Of the same size as grad's elements, or not."""
    for dtype, shift in itertools.product(("?", "b", "e", "h", "d"), (0, 4, 400)):
        memory = np.random.default_rng(2).integers(0, 2, 4000, "u1")
        grad = memory[400:1600].view("f4")
        x = np.ndarray(grad.size, dtype, memory, 400 + shift)
        expected = samples.NAMED["relu_backward"].expected(grad.copy(), x.copy(), parameter=0)
        relu_ext.relu_backward_(grad, x)
        assert_same_bits(grad, expected.astype("f4"), f"{dtype} {shift=}")


# float32 in place with float64.

ORDINARY = [np.dtype("f4"), np.dtype("f8")]


def outcome(function, *operands, **keywords):
    """What a call returns and warns of, under every setting."""
    with np.errstate(all="warn"), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = function(*operands, **keywords)
    return result, sorted({str(warning.message) for warning in caught})


@each_operation
def test_float32_in_place_with_float64(level, threads, operation):
    """The ufunc's bits and warnings: computed in float64, rounded once."""
    x = samples.values(np.dtype("f4"), FLAT.size).reshape(SHAPE)
    walked = 0
    for seed, y_dtype, parameter_dtype in itertools.product((1, 2), ORDINARY, (*ORDINARY, None)):
        wide = samples.values(y_dtype, FLAT.size, seed).reshape(SHAPE)
        tame = (np.random.default_rng(seed).standard_normal(SHAPE) * 3).astype(y_dtype)
        for other, cut in itertools.product(
            (wide, tame), (np.s_[:], np.s_[0], np.s_[:, :1], np.s_[::-1])
        ):
            parameter = None
            if operation.parameter:
                parameter = 0.3
                if parameter_dtype is not None:
                    parameter = tame[0].astype(parameter_dtype)
                    if seed == 2:
                        parameter = parameter_dtype.type(0.1)
            inputs = [other[cut]] if operation.arity == 2 else []
            direct = [*inputs] if parameter is None else [*inputs, parameter]
            for lay_out in OUTPUTS.values():
                ours, theirs = lay_out(x), lay_out(x)
                got = outcome(operation.in_place, ours, *inputs, parameter=parameter)
                want = outcome(operation.ufunc, theirs, *direct, out=theirs)
                assert got[0] is ours
                assert_same_bits(ours, theirs, f"{y_dtype} {parameter_dtype} {cut}")
                private, public = operation.ufunc.__name__, operation.function.__name__
                named = [
                    [words.replace(private, public) for words in one] for one in (got[1], want[1])
                ]
                assert named[0] == named[1]
                walked += 1
    assert walked


@EACH_BACKWARD
def test_float32_in_place_with_float64_and_each_dtype_of_x(level, operation):
    """Only float32 is widened to float64 where it lies; an x of any other dtype is read as such,
    to the edge of its memory, whatever the shape of the slope."""
    slopes = (np.float64(0.1), np.array(0.1), np.full(5, 0.1), [0.1])
    for dtype, count, slope in itertools.product(ALL_DTYPES[:-1], (1, 3000), slopes):
        x = np.zeros((count, 5), dtype)
        x[:, 1:] = signs(dtype, count * 4).reshape(count, 4)
        for laid in (x, x[:, :1], x[::-1]):
            ours, theirs = (samples.values(np.dtype("f4"), x.size).reshape(x.shape) for _ in "12")
            with np.errstate(all="ignore"):
                operation.ufunc(theirs, laid, slope, out=theirs)
                operation.in_place(ours, laid, parameter=slope)
            assert_same_bits(ours, theirs, f"{dtype} {count} {slope}")
        with np.errstate(all="ignore"):
            grad = np.full((count, 5), 7, "f4")
            expected = operation.expected(grad, x, parameter=np.asarray(slope)).astype("f4")
            assert_same_bits(operation.in_place(grad, x, parameter=slope), expected)


def test_warnings_of_rounding():
    for value, message in ((1e300, "overflow"), (1e-300, "underflow")):
        with np.errstate(all="ignore", **{message[:5].removesuffix("f"): "raise"}):
            x = np.ones(100, "f4") * 0
            with pytest.raises(FloatingPointError, match=f"{message} encountered in add_relu"):
                relu_ext.add_relu_(x, np.full(100, value))


def test_large_float32_with_float64(level, threads):
    x = np.resize(samples.values(np.dtype("f4"), 997), (1024, 1000))
    bias = np.random.default_rng(1).standard_normal(1000)
    with np.errstate(all="ignore"):
        expected = np.maximum(np.where(x != x, x, x + bias), 0).astype("f4")
        relu_ext.add_relu_(x, bias)
    assert_same_bits(x, expected)


def test_float32_in_the_memory_of_float64():
    for shift in (0, 4, 8, 1200):
        memory = np.random.default_rng(1).standard_normal(1000)
        x = memory.view("f4")[100:400]
        y = np.ndarray(300, "f8", memory, 400 + shift)
        with np.errstate(all="ignore"):
            expected = samples.NAMED["add_relu"].expected(x.copy(), y.copy()).astype("f4")
            relu_ext.add_relu_(x, y)
        assert_same_bits(x, expected, shift)
