"""Tensors of PyTorch by both of its doors, exporters that must not be written, and scipy.sparse.

The doors are DLPack's table of C functions and, where a type does not offer one, a capsule.
"""

import io
import json
import sys
import warnings
from functools import partial
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pytest
import relu_ext
from relu_ext._operations import OPERATIONS

import reference
import samples
import test_robustness
from samples import (
    assert_same_bits,
    each_operation,
    exporter,
    raising,
)

DTYPES = "float16 bfloat16 float32 float64 int8 int16 int32 int64".split()
DTYPES += "uint8 uint16 uint32 uint64".split()
HERE = str(Path(__file__).parent)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", exc_type=ImportError)


def numpy_dtype(name):
    return reference.bfloat16 if name == "bfloat16" else np.dtype(name)


def tensor_over(torch, array):
    """A tensor over an array's memory; `from_numpy` knows no bfloat16."""
    if array.dtype == reference.bfloat16:
        return torch.from_numpy(array.view("i2")).view(torch.bfloat16)
    return torch.from_numpy(array)


def array_of(torch, tensor):
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(reference.bfloat16)
    return tensor.numpy()


# Values


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_numbers_of_half_precision(dtype, torch, monkeypatch):
    """Each number is rounded as NumPy rounds it, and a tensor needs no ndarray for that."""

    def fail(*arguments):
        raise AssertionError

    rng = np.random.default_rng(0)
    numbers = rng.standard_normal(3000) * 10.0 ** rng.integers(-7, 5, 3000)
    ties = rng.integers(0, 0x7800, 3000).astype("u2").view("f2") * (1 + 2.0**-11)
    array = np.array([-1], numpy_dtype(dtype))
    relu_ext.relu(array)  # From now on bfloat16 is known.
    monkeypatch.setattr("relu_ext._calls.call_ufunc_in_place", fail)
    for number in [*numbers.tolist(), *ties.tolist(), 65504, -3, 0, np.inf, 0.0, -0.0]:
        right = np.array(number, array.dtype).reshape(1)
        if number != 0 and right == 0:
            continue  # An underflow is reported where the cast reports it.
        for written in (array.copy(), tensor_over(torch, array.copy())):
            relu_ext.leaky_relu_subgradient_(written, number)
            result = written if type(written) is np.ndarray else array_of(torch, written)
            assert_same_bits(result, right)


LAYOUTS = ["contiguous", "C", "F", "transposed", "every second", "column", "window", "0-d"]
LAYOUTS += ["one element", "empty", "empty 2-d"]


@pytest.mark.parametrize("dtype", DTYPES)
@each_operation
def test_in_place(operation, dtype, torch):
    """Tensors of each dtype and layout, written in their own memory."""
    flat = samples.arrays(operation, numpy_dtype(dtype), 24)
    for layout in LAYOUTS:
        arrays = [samples.LAYOUTS[layout](a) for a in flat]
        parameter = operation.parameter and 1
        expected = operation.expected(*(a.copy() for a in arrays), parameter=parameter)
        tensors = [tensor_over(torch, a) for a in arrays]
        assert operation.in_place(*tensors, parameter=parameter) is tensors[0]
        assert_same_bits(arrays[0], expected, layout)


def operands(operation, dtype="f4"):
    """Arrays, and an array for the parameter."""
    arrays = samples.arrays(operation, numpy_dtype(dtype), 24)
    parameter = operation.parameter and samples.values(numpy_dtype(dtype), 24, seed=9)
    return arrays, parameter


def mixtures(torch, arrays, parameter):
    """The arrays and the parameter, each as an ndarray or as a tensor; at least one a tensor."""
    number = len(arrays) + (parameter is not None)
    for choice in range(1, 1 << number):
        mixed = [
            tensor_over(torch, a) if choice >> i & 1 else a
            for i, a in enumerate([*arrays, parameter][:number])
        ]
        yield mixed[: len(arrays)], mixed[len(arrays)] if parameter is not None else None


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32"])
@each_operation
def test_each_operand_may_be_a_tensor(operation, dtype, torch):
    fresh, parameter = operands(operation, dtype)
    expected = operation.expected(*fresh, parameter=parameter)
    for i in range(len(list(mixtures(torch, fresh, parameter)))):
        arrays = [a.copy() for a in fresh]
        mixed, mixed_parameter = list(mixtures(torch, arrays, parameter))[i]
        assert operation.in_place(*mixed, parameter=mixed_parameter) is mixed[0]
        assert_same_bits(arrays[0], expected)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32"])
@each_operation
def test_out_may_be_a_tensor(operation, dtype, torch):
    arrays, parameter = operands(operation, dtype)
    expected = operation.expected(*arrays, parameter=parameter)
    cases = [(arrays, parameter), *mixtures(torch, arrays, parameter)]
    for mixed, mixed_parameter in cases:
        for wrap in (lambda out: out, lambda out: (out,)):
            memory = np.zeros_like(expected)
            out = tensor_over(torch, memory)
            result = operation.front(*mixed, parameter=mixed_parameter, out=wrap(out))
            assert result is out
            assert_same_bits(memory, expected)
    memory = np.zeros_like(expected)
    if dtype != "bfloat16":
        assert operation.front(*mixed, parameter=mixed_parameter, out=memory) is memory
        assert_same_bits(memory, expected)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32"])
@each_operation
def test_a_result_is_a_tensor_where_an_operand_is(operation, dtype, torch):
    arrays, parameter = operands(operation, dtype)
    expected = operation.expected(*arrays, parameter=parameter)
    for mixed, mixed_parameter in mixtures(torch, arrays, parameter):
        result = operation.front(*mixed, parameter=mixed_parameter)
        assert type(result) is torch.Tensor
        assert_same_bits(array_of(torch, result), expected)
    numbers = [torch.tensor(-2.0)] * operation.arity
    result = operation.front(*numbers)
    assert type(result) is torch.Tensor and result.shape == ()


@each_operation
def test_a_result_is_shaped_by_all_operands(operation, torch):
    """Also where the first is not the largest; its memory is laid out as the first's."""
    wide, narrow = torch.arange(-6.0, 6).reshape(3, 4), torch.arange(-2.0, 2)
    if operation.arity == 2:
        for x, y in ((wide, narrow), (narrow, wide)):
            expected = operation.front(x.numpy(), y.numpy())
            assert_same_bits(operation.front(x, y).numpy(), expected)
    if operation.parameter:
        x = [narrow] * operation.arity
        expected = operation.front(*[narrow.numpy()] * operation.arity, parameter=wide.numpy())
        assert_same_bits(operation.front(*x, parameter=wide).numpy(), expected)
    for x in (wide.T, wide[:, ::2], narrow.expand(3, 4), wide[:0]):
        result = operation.front(*[x] * operation.arity)
        assert_same_bits(result.numpy(), operation.front(*[x.numpy()] * operation.arity))
        assert result.stride() == torch.empty_like(x).stride()


def test_results_of_subclasses_and_of_bool(torch):
    class Plain(torch.Tensor):
        pass

    x = torch.tensor([-1.0, 2])
    assert type(relu_ext.relu(x.as_subclass(Plain))) is Plain
    assert type(relu_ext.relu(torch.nn.Parameter(x, requires_grad=False))) is torch.Tensor
    assert relu_ext.relu(x > 0).tolist() == [False, True]
    flags = x > 0
    assert relu_ext.relu_(flags) is flags and flags.tolist() == [False, True]
    masked = np.ma.array([-1.0, 2], mask=[True, False])
    assert isinstance(relu_ext.relu_backward(x, np.ones(2, "f4")), torch.Tensor)
    assert isinstance(relu_ext.relu(masked, out=None), np.ma.MaskedArray)


def test_keywords_with_tensors(torch):
    x, out = torch.tensor([-1.0, 2, -3]), torch.full((3,), 9.0)
    mask = np.array([True, True, False])
    assert relu_ext.relu(x, out=out, where=mask) is out and out.tolist() == [0, 2, 9]
    assert relu_ext.relu(x, dtype="f8").dtype == torch.float64
    with pytest.raises(ValueError):
        relu_ext.relu(x, out=torch.zeros(2))
    with pytest.raises(TypeError):
        relu_ext.relu(x, out=torch.zeros(3, dtype=torch.int32))
    with pytest.raises((TypeError, ValueError)):
        relu_ext.relu(x, out=(out, out))
    assert out.tolist() == [0, 2, 9]


def test_overlapping_tensors_as_if_copied(torch):
    memory = torch.arange(-4.0, 4)
    expected = relu_ext.relu_backward(memory[:-1].clone(), memory[1:].clone())
    relu_ext.relu_backward_(memory[:-1], memory[1:])
    assert torch.equal(memory[:-1], expected)
    memory = torch.arange(-4.0, 4)
    expected = relu_ext.relu(memory[:-1].clone())
    relu_ext.relu(memory[:-1], out=memory[1:])
    assert torch.equal(memory[1:], expected)


def test_promotion_leaves_an_integer_tensor(torch):
    x = torch.tensor([-2, 3])
    with pytest.raises(TypeError):
        relu_ext.leaky_relu_(x, 0.5)
    assert x.tolist() == [-2, 3]


def test_copy_on_write_parts_before_it_is_written(torch):
    x = torch.tensor([-1.0, 2])
    lazy = torch._lazy_clone(x)
    relu_ext.relu_(lazy)
    assert lazy.tolist() == [0, 2] and x.tolist() == [-1, 2]


def test_inference_tensors(torch):
    """Autograd saves none of them, so that no change goes unnoticed."""
    with torch.inference_mode():
        x = torch.tensor([-1.0, 2])
    assert relu_ext.relu_(x) is x and x.tolist() == [0, 2]
    with torch.inference_mode():
        assert relu_ext.leaky_relu_(x - 1, 0.5).tolist() == [-0.5, 1]


def test_parameter_without_a_gradient(torch):
    x = torch.nn.Parameter(torch.tensor([-1.0, 2]), requires_grad=False)
    assert relu_ext.relu_(x) is x and x.tolist() == [0, 2]


def test_detached_tensor(torch):
    """As the error advises."""
    x = torch.tensor([-1.0, 2], requires_grad=True)
    relu_ext.relu_(x.detach())
    assert x.tolist() == [0, 2] and x.requires_grad


def test_a_refusal_without_memory(torch):
    """An error, wherever it is that there is no memory."""
    hooks = pytest.importorskip("_testcapi")
    x = torch.ones(3, requires_grad=True)
    for allocation in range(300):
        hooks.set_nomemory(allocation, allocation + 1)
        try:
            relu_ext.relu_(x)
        except Exception as caught:
            hooks.remove_mem_hooks()
            error = caught
        finally:
            hooks.remove_mem_hooks()
        assert isinstance(error, (MemoryError, BufferError, RuntimeError, SystemError)), error


def test_increment_version_shows_autograd_the_change(torch):
    """As the README advises."""
    x, weight = torch.tensor([-1.0, 2]), torch.ones(2, requires_grad=True)
    product = (weight * x).sum()
    relu_ext.relu_(x)
    torch.autograd.graph.increment_version(x)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()


# Tensors whose memory is not their value.  Each case hands a tensor on, and a plain tensor over the
# memory that must not change.


def numbers():
    import torch

    return torch.tensor([-1.0, 2, -3, 4])


def gradient(use):
    memory = numbers()
    use(memory.clone().requires_grad_(), memory)
    leaf = numbers().requires_grad_()
    use(leaf, leaf.detach())


def gradient_in_no_grad(use):
    import torch

    leaf = numbers().requires_grad_()
    with torch.no_grad():
        use(leaf, leaf.detach())
        use(leaf[1:], leaf.detach())


def parameter(use):
    import torch

    memory = numbers()
    use(torch.nn.Parameter(memory), memory)


def result_of_a_graph(use):
    result = numbers().requires_grad_() * 2
    use(result, result.detach())


def conjugate(use):
    import torch

    memory = torch.complex(numbers(), numbers())
    use(memory.conj(), memory)


def negative(use):
    import torch

    memory = torch.complex(numbers(), numbers())
    use(memory.conj().imag, memory)
    use(memory.conj().imag[1:].detach(), memory)
    with torch.inference_mode():
        use(memory.conj().imag, memory)


def negative_integers(use):
    import torch

    memory = torch.tensor([-1, 2])
    use(torch._neg_view(memory), memory)


def complex_numbers(use):
    import torch

    memory = torch.complex(numbers(), numbers())
    use(memory, memory)


def sparse(layout):
    def case(use):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the layout is in beta
            tensor = getattr(numbers().reshape(2, 2), f"to_{layout}")()
        use(tensor, tensor.to_dense())
        values = tensor.to_dense()
        assert values.tolist() == [[-1, 2], [-3, 4]]

    return case


def nested(use):
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that nested tensors are a prototype
        tensor = torch.nested.nested_tensor([numbers(), numbers()[:2]])
    use(tensor, tensor.unbind()[0])


def meta(use):
    import torch

    use(torch.empty(4, device="meta"), numbers())


def quantised(use):
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that quantised tensors are deprecated
        tensor = torch.quantize_per_tensor(numbers(), 0.1, 0, torch.qint8)
    use(tensor, tensor.int_repr())
    assert tensor.dequantize().tolist() == pytest.approx([-1, 2, -3, 4])


def float8(use):
    import torch

    for dtype in (torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e8m0fnu):
        tensor = numbers().to(dtype)
        use(tensor, tensor.view(torch.uint8))


def zero_tensor(use):
    import torch

    zeros = torch._efficientzerotensor(1 << 20)
    use(zeros, numbers())
    use(zeros[1:], numbers())
    use(zeros[1 << 19 :], numbers())


def freed(use):
    memory = numbers()
    tensor = memory.clone()
    tensor.untyped_storage().resize_(0)
    use(tensor, memory)
    tensor = numbers()[1:]
    tensor.untyped_storage().resize_(0)
    use(tensor, memory)


def fake(use):
    from torch._subclasses.fake_tensor import FakeTensorMode

    memory = numbers()
    use(FakeTensorMode().from_tensor(memory), memory)


def functional(use):
    import torch

    memory = numbers()
    use(torch._to_functional_tensor(memory), memory)


def transformed(name):
    def case(use):
        import torch

        memory = numbers()

        def function(x):
            use(x, memory)
            return x.sum()

        transform = getattr(torch.func, name)
        if name != "jvp":
            transform(function)(memory.reshape(2, 2))
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that PyTorch's own torch.jit.script is deprecated
            transform(function, (memory,), (memory,))

    return case


def dual(use):
    import torch.autograd.forward_ad as forward_ad

    memory = numbers()
    with forward_ad.dual_level(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that PyTorch's own torch.jit.script is deprecated
        use(forward_ad.make_dual(memory, memory + 1), memory)
        use(forward_ad.make_dual(memory, memory + 1)[1:], memory)


def expanded(use):
    memory = numbers()[:1]
    use(memory.expand(4), memory)
    memory = numbers()
    use(memory[:, None].expand(4, 3), memory)


REFUSED = {
    "a gradient": (gradient, BufferError, r"x\.detach\(\)"),
    "a gradient, under no_grad": (gradient_in_no_grad, BufferError, r"x\.detach\(\)"),
    "a parameter": (parameter, BufferError, r"x\.detach\(\)"),
    "a result of a graph": (result_of_a_graph, BufferError, r"x\.detach\(\)"),
    "conjugate": (conjugate, BufferError, r"x\.resolve_conj\(\)"),
    "negative": (negative, BufferError, r"x\.resolve_neg\(\)"),
    "negative integers": (negative_integers, BufferError, r"x\.resolve_neg\(\)"),
    "complex": (complex_numbers, TypeError, "complex64 .*view_as_real"),
    "sparse": (sparse("sparse"), BufferError, r"sparse_coo.*x\.to_dense\(\)"),
    "sparse_csr": (sparse("sparse_csr"), BufferError, r"sparse_csr.*x\.to_dense\(\)"),
    "mkldnn": (sparse("mkldnn"), BufferError, r"mkldnn.*x\.to_dense\(\)"),
    "nested": (nested, BufferError, r"x\.unbind\(\)"),
    "meta": (meta, TypeError, "device meta"),
    "quantised": (quantised, TypeError, r"qint8 .*x\.dequantize\(\)"),
    "float8": (float8, TypeError, r"float8_\w+ is not supported; use x\.float\(\)"),
    "zeros that are nowhere": (zero_tensor, BufferError, r"x\.clone\(\)"),
    "freed": (freed, BufferError, "no memory"),
    "fake": (fake, BufferError, "no memory of its own"),
    "functional": (functional, BufferError, "no memory of its own"),
    "vmap": (transformed("vmap"), BufferError, "no memory of its own"),
    "grad": (transformed("grad"), BufferError, "no memory of its own"),
    "jvp": (transformed("jvp"), BufferError, "no memory of its own"),
    "functionalize": (transformed("functionalize"), BufferError, "no memory of its own"),
    "dual": (dual, BufferError, "unpack_dual"),
}


@pytest.mark.parametrize("case", [*REFUSED, "expanded"])
@each_operation
def test_refused_in_place(operation, case, torch):
    """The same error whatever the operation, and nothing is written."""
    hand_on, error, words = {**REFUSED, "expanded": (expanded, ValueError, "share")}[case]
    used = []

    def use(tensor, memory):
        before = memory.clone()
        with pytest.raises(error, match=f"^{operation.name}_: .*{words}"):
            operation.in_place(*[tensor] * operation.arity)
        assert torch.equal(memory, before)
        used.append(tensor)

    hand_on(use)
    assert used


@pytest.mark.parametrize("case", REFUSED)
@each_operation
def test_refused_elsewhere(operation, case, torch):
    """As the operand of an operation out of place, as the last one in place, and as `out`."""
    hand_on, error, words = REFUSED[case]
    used = []

    def use(tensor, memory):
        before = memory.clone()
        ours = [np.ones(4, "f4")] * operation.arity
        calls = [lambda: operation.front(*[tensor] * operation.arity)]
        calls += [lambda: operation.front(*ours, out=tensor)]
        if operation.arity == 2:
            calls += [lambda: operation.in_place(ours[0].copy(), tensor)]
        if operation.parameter:
            calls += [lambda: operation.in_place(*[a.copy() for a in ours], parameter=tensor)]
        for call in calls:
            with pytest.raises(error, match=f"^{operation.name}_?: .*{words}"):
                call()
        assert torch.equal(memory, before)
        used.append(tensor)

    hand_on(use)
    assert used


# Maxout


def mixed_with_tensors(torch, *arrays):
    """Fresh arrays, each as an ndarray or as a tensor; at least one a tensor."""
    for mixed, _ in mixtures(torch, arrays, None):
        yield [a.clone() if isinstance(a, torch.Tensor) else a.copy() for a in mixed]


def assert_results(torch, results, expected, is_new_tensor, outs):
    """Each result is the one of `outs` or, where that is None, a new tensor or ndarray."""
    for result, values, out in zip(results, expected, outs, strict=True):
        if out is not None:
            assert result is out
        else:
            assert (type(result) is torch.Tensor) == is_new_tensor
        there = array_of(torch, result) if isinstance(result, torch.Tensor) else result
        assert_same_bits(there, values)


def outs_for(torch, values):
    """No `out`, and memory for these values as an ndarray and as a tensor, also strided."""
    memory = np.zeros((*values.shape, 2), values.dtype)
    yield None
    yield np.zeros_like(values)
    yield tensor_over(torch, np.zeros_like(values))
    yield tensor_over(torch, memory)[..., 1]


@pytest.mark.parametrize("pieces", [3, 300])
@pytest.mark.parametrize("dtype", ["bool", *DTYPES])
def test_maxout(dtype, pieces, torch):
    """Tensors for x, the maximum and the numbers of the pieces, alone and with ndarrays."""
    x = samples.values(numpy_dtype(dtype), 4 * pieces).reshape(2, 2, pieces)
    y, which = reference.maxout(x, -1)
    which = which.astype(np.min_scalar_type(pieces - 1))
    there = tensor_over(torch, x)
    for arrays in (x, there, tensor_over(torch, x.T.copy()).permute(2, 1, 0)):
        is_tensor = arrays is not x
        for out in outs_for(torch, y):
            result = relu_ext.maxout(arrays, out=out)
            assert_results(torch, [result], [y], is_tensor, [out])
            for numbers in outs_for(torch, which):
                outs = (out, numbers)
                results = relu_ext.maxout(arrays, out=outs, return_which=True)
                assert_results(torch, results, (y, which), is_tensor, outs)
    results = relu_ext.maxout(there[0, 0], return_which=True)
    assert_results(torch, results, (y[0, 0], which[0, 0]), True, (None, None))


@pytest.mark.parametrize("pieces", [3, 300])
@pytest.mark.parametrize("dtype", ["bool", *DTYPES])
def test_maxout_backward(dtype, pieces, torch):
    grad = samples.values(numpy_dtype(dtype), 6).reshape(2, 3)
    for which in (np.arange(6).reshape(2, 3) % 3, np.array([[0, 2, 1]])):
        expected = reference.maxout_backward(grad, np.broadcast_to(which, (2, 3)), pieces, 1)
        which = which.astype(np.min_scalar_type(pieces - 1))
        for mixed in [[grad, which], *mixed_with_tensors(torch, grad, which)]:
            is_tensor = any(isinstance(a, torch.Tensor) for a in mixed)
            for out in outs_for(torch, expected):
                result = relu_ext.maxout_backward(*mixed, pieces, 1, out=out)
                assert_results(torch, [result], [expected], is_tensor, [out])


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("window", [(2, 2), (3, 3), (2, 1), (24, 24)], ids=str)
def test_pooling_is_pytorchs(window, layout, torch):
    """Values, places and gradients of max_pool2d with windows that do not overlap; of odd sizes a
    slice; padding by -inf.  With NaN, its last one wins and our first, so the value is NaN."""
    pool = torch.nn.functional.max_pool2d
    for dtype, size in ((np.float32, 24), (np.float64, 24)):
        generator = np.random.default_rng(size)
        image = generator.integers(-9, 9, (3, 5, size, size)).astype(dtype)  # equal pieces too
        height, width = (size // length for length in window)
        windows = image.reshape(3, 5, height, window[0], width, window[1])
        axes = (3, 5)
        if layout == "NHWC":
            windows = np.ascontiguousarray(windows.transpose(0, 2, 3, 4, 5, 1))
            axes = (2, 4)
        y, which = relu_ext.maxout(windows, axes, return_which=True)
        there = torch.from_numpy(image).requires_grad_()
        expected, places = pool(there, window, return_indices=True)
        expected.backward(expected.detach() + 1)
        dx = relu_ext.maxout_backward(y + 1, which, window, axes)
        which = which.astype(np.intp)
        if layout == "NHWC":
            y, which = (np.moveaxis(array, -1, 1) for array in (y, which))
            dx = np.moveaxis(dx, -1, 1)
        assert_same_bits(np.ascontiguousarray(y), expected.detach().numpy())
        rows, columns = np.mgrid[:height, :width]
        rows = rows * window[0] + which // window[1]
        columns = columns * window[1] + which % window[1]
        assert (rows * size + columns == places.numpy()).all()
        assert_same_bits(np.ascontiguousarray(dx).reshape(image.shape), there.grad.numpy())


def test_pooling_recipes_are_pytorchs(torch):
    """Odd sizes, padding, windows that overlap, and NaN."""
    pool = torch.nn.functional.max_pool2d
    x = np.random.default_rng(0).standard_normal((2, 3, 25, 25), np.float32)
    there = torch.from_numpy(x)
    cut = x[:, :, :24, :24].reshape(2, 3, 12, 2, 12, 2)
    assert_same_bits(relu_ext.maxout(cut, (3, 5)), pool(there, 2).numpy())
    padded = np.pad(x, ((0, 0), (0, 0), (1, 0), (1, 0)), constant_values=-np.inf)
    windows = padded.reshape(2, 3, 13, 2, 13, 2)
    assert_same_bits(relu_ext.maxout(windows, (3, 5)), pool(there, 2, padding=1).numpy())
    overlapping = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3))[:, :, ::2, ::2]
    assert_same_bits(relu_ext.maxout(overlapping, (-2, -1)), pool(there, 3, 2).numpy())
    cut = cut.copy()
    cut[0, 0, 0, 0, 0] = np.array([0x7FC00001, 0x7FC00002], "u4").view("f4")
    y, which = relu_ext.maxout(cut, (3, 5), return_which=True)
    expected, places = pool(torch.from_numpy(cut.reshape(2, 3, 24, 24)), 2, return_indices=True)
    assert y[0, 0, 0, 0].view("u4") == 0x7FC00001 and which[0, 0, 0, 0] == 0
    assert np.isnan(expected.numpy()[0, 0, 0, 0]) and places[0, 0, 0, 0] == 1
    assert_same_bits(y.ravel()[1:], expected.numpy().ravel()[1:])


def test_maxout_of_subclasses(torch):
    class Plain(torch.Tensor):
        pass

    x = torch.tensor([[1.0, 5.0], [4.0, 3.0]])
    y, which = relu_ext.maxout(x.as_subclass(Plain), return_which=True)
    assert type(y) is type(which) is type(relu_ext.maxout_backward(y, which, 2)) is Plain
    assert type(relu_ext.maxout(torch.nn.Parameter(x, requires_grad=False))) is torch.Tensor
    assert which.tolist() == [1, 0] and y.tolist() == [5, 4]


def test_maxout_into_tensors_that_overlap(torch):
    """The answer of a copy."""
    for wrap in (np.asarray, torch.from_numpy):
        x = np.arange(12, dtype="f4").reshape(4, 3) % 5
        y, which = reference.maxout(x, -1)
        out = wrap(x.reshape(-1)[1:5])
        assert relu_ext.maxout(torch.from_numpy(x), out=out) is out
        assert_same_bits(np.asarray(out), y)
        x[:, 2] = y
        expected = reference.maxout_backward(y, which, 3, -1)
        out = wrap(x)
        assert relu_ext.maxout_backward(torch.from_numpy(x)[:, 2], which, 3, out=out) is out
        assert_same_bits(x, expected)


def test_maxout_refuses_outs(torch):
    """Before anything is written, the first of two results too."""
    x, which = torch.ones(2, 3), np.zeros(2, int)
    y, numbers = torch.full((2,), 9.0), torch.full((2,), 9, dtype=torch.uint8)
    back = torch.full((2, 3), 9.0)
    for error, out in (
        (ValueError, y[:1]), (ValueError, y[:1].expand(2)), (TypeError, numbers),
        (BufferError, torch._neg_view(y)),
    ):  # fmt: skip
        with pytest.raises(error, match=r"^maxout: "):
            relu_ext.maxout(x, out=out)
        with pytest.raises(error, match=r"^maxout: "):
            relu_ext.maxout(x, out=(out, numbers), return_which=True)
    for error, out in (
        (ValueError, numbers[:1]), (ValueError, numbers[:1].expand(2)), (TypeError, y),
        (BufferError, torch._neg_view(numbers.view(torch.int8))),
    ):  # fmt: skip
        with pytest.raises(error, match=r"^maxout: "):
            relu_ext.maxout(x, out=(y, out), return_which=True)
    for error, out in (
        (ValueError, back.T), (ValueError, back[:, :1].expand(2, 3)),
        (TypeError, back.view(torch.int32)), (BufferError, torch._neg_view(back)),
    ):  # fmt: skip
        with pytest.raises(error, match=r"^maxout_backward: "):
            relu_ext.maxout_backward(np.ones(2, "f4"), which, 3, out=out)
    assert (y == 9).all() and (numbers == 9).all() and (back == 9).all()


@pytest.mark.parametrize("case", [*REFUSED, "expanded"])
def test_refused_by_maxout(case, torch):
    """Of a tensor that is expanded only writing is refused."""
    hand_on, error, words = {**REFUSED, "expanded": (expanded, ValueError, "share")}[case]
    used = []

    def use(tensor, memory):
        before = memory.clone()
        x, which, zeros = np.ones((4, 2), "f4"), np.zeros(4, int), np.zeros(4)
        calls = [lambda: relu_ext.maxout(x, out=tensor)]
        calls += [lambda: relu_ext.maxout(x, out=(tensor, None), return_which=True)]
        calls += [lambda: relu_ext.maxout(x, out=(zeros, tensor), return_which=True)]
        calls += [lambda: relu_ext.maxout_backward(0.0, 0, 4, out=tensor)]
        if case != "expanded":
            calls += [lambda: relu_ext.maxout(tensor), lambda: relu_ext.maxout(tensor, out=zeros)]
            calls += [lambda: relu_ext.maxout_backward(tensor, which, 2)]
            calls += [lambda: relu_ext.maxout_backward(zeros, tensor, 2)]
        for call in calls:
            with pytest.raises(error, match=f"^maxout(_backward)?: .*{words}"):
                call()
        assert torch.equal(memory, before) and not zeros.any()
        used.append(tensor)

    hand_on(use)
    assert used


# Sums

SUMS = ["add_relu_backward", "add_leaky_relu_backward", "prelu_backward"]
each_sum = pytest.mark.parametrize("name", SUMS)


@pytest.mark.parametrize("case", [*REFUSED, "expanded"])
@each_sum
def test_refused_by_sums(name, case, torch):
    """Beside ndarrays and beside tensors.  Of a tensor that is expanded only writing is refused."""
    hand_on, error, words = {**REFUSED, "expanded": (expanded, ValueError, "share")}[case]
    function, in_place = getattr(relu_ext, name), getattr(relu_ext, name + "_")
    used = []

    def use(tensor, memory):
        before = memory.clone()
        try:
            shape = tuple(tensor.shape)
        except RuntimeError:  # of a nested tensor
            shape = (4,)
        for ones in (np.ones(shape, "f4"), torch.ones(shape)):
            calls = [lambda ones=ones: in_place(tensor, ones, ones)]
            calls += [lambda ones=ones: function(ones, ones, ones[:1], out=(tensor, None))]
            calls += [lambda ones=ones: function(ones, ones, ones, out=(None, tensor))]
            if case != "expanded":
                calls += [lambda ones=ones: function(tensor, ones, ones[:1])]
                calls += [lambda ones=ones: function(ones, tensor, ones[:1])]
                calls += [lambda ones=ones: in_place(ones, tensor, ones[:1])]
                if name == "prelu_backward":
                    calls += [lambda ones=ones: function(ones, ones, tensor)]
            for call in calls:
                with pytest.raises(error, match=f"^{name}_?: .*{words}"):
                    call()
            assert (ones == 1).all()
        assert torch.equal(memory, before)
        used.append(tensor)

    hand_on(use)
    assert used


@each_sum
def test_tensors_take_the_kernels_as_they_are(name, torch, monkeypatch):
    """Without becoming ndarrays: new results, in place, and into `out`."""

    def fail(*arguments):
        raise AssertionError

    monkeypatch.setattr("relu_ext._sum_calls.backward", fail)
    function, in_place = getattr(relu_ext, name), getattr(relu_ext, name + "_")
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        for shape, kept in (((64, 10), (10,)), ((2, 3, 20, 30), (3, 1, 1)), ((5, 7), ())):
            if name == "add_leaky_relu_backward" and dtype.itemsize == 2:
                continue  # It takes no slope as a number.
            grad, x, y = (torch.randn(some).to(dtype) for some in (shape, shape, kept))
            new = function(grad, x, y)
            buffers = torch.empty_like(grad), torch.empty_like(y)
            assert function(grad, x, y, out=buffers)[1] is buffers[1]
            written = in_place(grad, x, y)
            assert written[0] is grad
            for results in (new, buffers, written):
                for result, right in zip(results, buffers, strict=True):
                    assert type(result) is torch.Tensor and result.dtype is dtype
                    assert torch.equal(result, right)


def test_a_bias_may_require_a_gradient(torch):
    """Its memory is not read, so that this and other things that it may be do not matter."""
    grad, x = torch.randn(64, 10), torch.randn(64, 10)
    right = relu_ext.add_relu_backward(grad, x, torch.zeros(10))[1]
    for y in (
        torch.nn.Parameter(torch.zeros(10)), torch.zeros(10, requires_grad=True) * 2,
        torch.zeros(1).expand(10), torch._neg_view(torch.zeros(10)), torch.zeros(20)[::2],
    ):  # fmt: skip
        grad_y = relu_ext.add_relu_backward(grad, x, y)[1]
        assert type(grad_y) is torch.Tensor and not grad_y.requires_grad
        assert torch.equal(grad_y, right)


def test_sums_into_memory_that_is_shared(torch):
    """Elements of an ndarray that share memory, and results that overlap operands."""
    grad, x = np.random.default_rng(0).standard_normal((2, 30, 20)).astype("f4")
    for kept in ((20,), (30, 1), (30, 20)):
        y = np.ones(kept, "f4")
        expected = relu_ext.prelu_backward(grad, x, y)
        one = np.lib.stride_tricks.as_strided(np.zeros(1, "f4"), kept, (0,) * len(kept))
        relu_ext.prelu_backward(grad, x, y, out=(None, one))
        assert one.flat[0] in expected[1]
        tensors = [torch.from_numpy(a.copy()) for a in (grad, x, y)]
        memory = tensors[1].view(-1)[: y.size].view(kept)
        results = relu_ext.prelu_backward(*tensors, out=(None, memory))
        assert results[1] is memory
        assert_results(torch, results, expected, True, (None, memory))
        with pytest.raises(ValueError, match=r"^prelu_backward: elements .* share"):
            relu_ext.prelu_backward(*tensors, out=(None, torch.zeros(()).expand(kept)))


def outcomes():
    """What becomes of each case: the type and the words of each error, and what comes back."""
    import torch

    found = {}
    for case, (hand_on, *_) in {**REFUSED, "expanded": (expanded,)}.items():

        def use(tensor, memory, case=case):
            before = memory.clone()
            try:
                relu_ext.relu_(tensor)
                outcome = "written"
            except Exception as error:
                outcome = f"{type(error).__name__}: {error}"
            outcome += "" if torch.equal(memory, before) else ", and the memory has changed"
            found.setdefault(case, []).append(outcome)

        hand_on(use)
    return found


FRESH = f"""
import sys
sys.path.insert(0, {HERE!r})
import warnings
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import torch
calls = []
exported = torch.utils.dlpack.to_dlpack
def export(tensor):
    calls.append(1)
    return exported(tensor)
torch.utils.dlpack.to_dlpack = export
"""


def run_fresh(program):
    """In a new interpreter, which counts the capsules that PyTorch makes."""
    finished = samples.run_python(FRESH + program, PYTHONPATH=":".join(sys.path))
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_both_doors_refuse_alike(torch):
    """A PyTorch before the table of C functions is one whose table is taken away."""
    program = """
del torch.Tensor.__dlpack_c_exchange_api__
import json, test_tensors
print(json.dumps(test_tensors.outcomes()))
relu = test_tensors.relu_ext.relu_
x = torch.tensor([-1.0, 2])
assert relu(x) is x and x.tolist() == [0, 2] and calls
"""
    slow = json.loads(run_fresh(program))
    assert slow == outcomes()
    for outcome in chain.from_iterable(slow.values()):
        assert "changed" not in outcome and "written" not in outcome


def test_a_subclass_goes_by_the_slow_door(torch):
    program = """
import relu_ext
class Plain(torch.Tensor): pass
x = torch.tensor([-1.0, 2])
relu_ext.relu_(x)
relu_ext.relu_(torch.nn.Parameter(torch.tensor([-1.0, 2]), requires_grad=False))
relu_ext.relu_(torch.tensor([-1, 2]))
relu_ext.relu(torch.tensor([-1.0, 2]))
assert not calls
y = torch.tensor([-1.0, 2]).as_subclass(Plain)
relu_ext.relu_(y)
assert calls and y.tolist() == [0, 2]
"""
    run_fresh(program)


FORGE = """
import ctypes, relu_ext
class Table(ctypes.Structure):
    _fields_ = [("major", ctypes.c_uint32), ("minor", ctypes.c_uint32)]
    names = "previous allocate own adopt borrow stream".split()
    _fields_ += [(name, ctypes.c_void_p) for name in names]
get, new = ctypes.pythonapi.PyCapsule_GetPointer, ctypes.pythonapi.PyCapsule_New
get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
address = get(torch.Tensor.__dlpack_c_exchange_api__, b"dlpack_exchange_api")
honest = Table.from_buffer_copy(Table.from_address(address))
def forge(name=b"dlpack_exchange_api", **fields):
    global kept
    kept = Table.from_buffer_copy(honest)
    for field, value in fields.items():
        setattr(kept, field, value)
    torch.Tensor.__dlpack_c_exchange_api__ = new(ctypes.addressof(kept), name, None)
x = torch.tensor([-1.0, 2])
"""


def test_a_table_that_we_do_not_know(torch):
    """Is left alone: the tensor goes by the slow door."""
    program = """
later = Table.from_buffer_copy(honest)
later.major = 3
for fields in ({"major": 2}, {"major": 0}, {"borrow": None}, {"name": b"dltensor"},
               {"major": 2, "previous": ctypes.addressof(later)}):
    forge(**fields)
    calls.clear()
    x[0] = -1
    assert relu_ext.relu_(x) is x and x.tolist() == [0, 2] and len(calls) == 1, fields
"""
    run_fresh(FORGE + program)


def test_an_earlier_version_of_a_later_table(torch):
    program = """
forge(major=2, borrow=None, previous=address)
assert relu_ext.relu_(x) is x and x.tolist() == [0, 2] and not calls
"""
    run_fresh(FORGE + program)


def test_a_torch_that_we_do_not_know(torch):
    """Is asked by nothing but what it exports; whether rightly is its own business."""
    program = """
import relu_ext
x = torch.tensor([-1.0, 2])
forward_ad = sys.modules["torch.autograd.forward_ad"]
modes = sys.modules["torch.utils._python_dispatch"]
for owner, name, lie in (
    (torch.Tensor, "__dlpack_c_exchange_api__", None),
    (torch.Tensor, "__dlpack_c_exchange_api__", 3),
    (torch.nn, "Parameter", None),
    (torch.nn, "Parameter", 3),
    (torch._C, "_is_tracing", None),
    (modes, "_is_in_torch_dispatch_mode", None),
    (forward_ad, "_current_level", None),
):
    honest = getattr(owner, name)
    own = name in vars(owner)
    setattr(owner, name, lie)
    calls.clear()
    try:
        relu_ext.relu_(x)
        assert calls, (name, lie)
    except (TypeError, AttributeError, BufferError):
        pass
    setattr(owner, name, honest) if own else delattr(owner, name)
calls.clear()
assert relu_ext.relu_(x) is x and not calls
"""
    run_fresh(program)


def test_something_else_named_torch():
    program = """
import sys, types, numpy as np, relu_ext
class Meta(type):
    __dlpack_c_exchange_api__ = property(lambda self: 1 / 0)
class Tensor(metaclass=Meta):
    __dlpack_c_exchange_api__ = None
class Thing:
    pass
for module in (types.ModuleType("torch"), types.SimpleNamespace(Tensor=Tensor, nn=3),
               types.SimpleNamespace(Tensor=Tensor, nn=types.SimpleNamespace(Parameter=Tensor)),
               None, 3, np.ones(3)):
    sys.modules["torch"] = module
    for x in (Tensor(), Thing()):
        try:
            relu_ext.relu_(x)
        except TypeError as error:
            assert "cannot be written in place" in str(error), error
        else:
            raise AssertionError
    assert relu_ext.relu([-1, 2]).tolist() == [0, 2]
print("all")
"""
    finished = samples.run_python(program, PYTHONPATH=":".join(sys.path))
    assert finished.stdout == "all\n", finished.stderr


def test_the_first_tensors_of_several_threads(torch):
    program = """
import threading, relu_ext
barrier, wrong = threading.Barrier(8), []
def work():
    x = torch.tensor([-1.0, 2])
    barrier.wait()
    for _ in range(100):
        x[0] = -1
        relu_ext.relu_(x)
        if x.tolist() != [0, 2]:
            wrong.append(x)
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert not wrong and not calls
"""
    run_fresh(program)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, MemoryError])
def test_a_mode_that_raises(error, torch):
    """The caller's own exception, from within the questions that a tensor is asked."""
    from torch.overrides import TorchFunctionMode

    class Raises(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            raise error("the caller's own")

    x = torch.tensor([-1.0, 2])
    for call in (
        lambda: relu_ext.relu_(x),
        lambda: relu_ext.relu(x),
        lambda: relu_ext.relu_backward_(np.ones(2, "f4"), x),
        lambda: relu_ext.maxout(x),
        lambda: relu_ext.maxout(np.ones((2, 2), "f4"), out=x),
        lambda: relu_ext.maxout_backward(np.ones(2, "f4"), x, 2),
        lambda: relu_ext.add_relu_backward_(x, x, x),
        lambda: relu_ext.prelu_backward(np.ones(2, "f4"), np.ones(2, "f4"), x),
    ):
        with Raises(), pytest.raises(error, match="the caller's own"):
            call()
    assert x.tolist() == [-1, 2]


def test_a_mode_that_answers_nonsense(torch):
    from torch.overrides import TorchFunctionMode

    class Nonsense(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            return None

    x = torch.tensor([-1.0, 2])
    with Nonsense(), pytest.raises((TypeError, ValueError, AttributeError, BufferError)):
        relu_ext.relu(x)
    assert x.tolist() == [-1, 2]


def test_a_default_device_changes_nothing(torch):
    """It is a TorchFunctionMode."""
    x = torch.tensor([-1.0, 2])
    with torch.device("meta"):
        assert relu_ext.relu_(x) is x
    assert x.tolist() == [0, 2]


RELEASED = """
import gc, torch, relu_ext
class Releases:
    def __del__(self):
        x.set_(torch.zeros(1))
x = torch.ones(1)
{call}
for _ in range(3):
    x = torch.full((1 << 22,), -1.0)
    garbage = Releases()
    garbage.itself = garbage
    del garbage
    gc.set_threshold(1)
    result = {call}
    gc.set_threshold(700)
    assert result.numel() in (1, 1 << 22) and torch.isfinite(result).all()
"""


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "relu_subgradient", *SUMS])
def test_an_operand_that_a_finalizer_releases(name, torch):
    """The allocation of a new result starts a collection, whose finalizer takes x's memory away."""
    operands = "x, x, x)[0]" if name in SUMS else "x)"
    run_fresh(RELEASED.format(call=f"relu_ext.{name}({operands}"))


def test_tensors_that_take_each_others_memory_away(torch):
    test_robustness.test_operands_that_take_each_others_memory_away()


def traced(function, x, torch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # It is deprecated.
        return torch.jit.trace(function, x, check_trace=False)


def exported(function, x, torch):
    class Module(torch.nn.Module):
        def forward(self, x):
            return function(x) + 1

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(Module(), (x,), io.BytesIO(), dynamo=False)


def made_fx(function, x, torch):
    from torch.fx.experimental.proxy_tensor import make_fx

    return make_fx(function)(x)


def in_a_dispatch_mode(function, x, torch):
    from torch.utils._python_dispatch import TorchDispatchMode

    class Logs(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            return function(*args, **(kwargs or {}))

    with Logs():
        return function(x)


@pytest.mark.parametrize(
    "name", ["relu", "relu_", "leaky_relu_", "relu_subgradient", *SUMS, "prelu_backward_"]
)
@pytest.mark.parametrize("record", [traced, exported, made_fx, in_a_dispatch_mode])
def test_what_pytorch_records_is_refused(record, name, torch):
    """It would be missing in the record."""
    x = torch.tensor([3.0, -2.0])
    function = getattr(relu_ext, name)

    def call(x):
        return function(x, x, x)[0] if "backward" in name else function(x)

    with pytest.raises(
        BufferError, match=rf"^{name}: PyTorch records .* use torch\.nn\.functional"
    ):
        record(call, x, torch)
    assert x.tolist() == [3, -2]
    assert call(x).tolist()  # no longer


def test_a_jagged_tensor_is_told_what_works(torch):
    x = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged)
    for function in (relu_ext.relu, relu_ext.relu_):
        with pytest.raises(BufferError, match=r"nested; use its parts, x\.unbind\(\)"):
            function(x)
    assert [relu_ext.relu(part).tolist() for part in x.unbind()] == [[1, 1], [1, 1, 1]]


def test_nothing_is_kept_of_a_tensor(torch):
    x, other = torch.tensor([-1.0, 2]), np.array([1.0, 2])
    before = sys.getrefcount(x)
    for _ in range(100):
        relu_ext.relu_(x)
        relu_ext.relu_backward_(x, other)  # of another dtype, so by the ufunc
        relu_ext.relu(x)
        relu_ext.maxout(x, return_which=True)
        relu_ext.maxout_backward(x, [0, 1], 2, out=torch.empty(2, 2))
        relu_ext.maxout([[1, 2], [3, 4]], out=x)
        relu_ext.add_relu_backward(x, x, x)
        relu_ext.add_relu_backward_(x, x, x[:1])
        relu_ext.prelu_backward(x, x, x[:1], out=(x, None))
        relu_ext.prelu_backward_(x, x, other)
        with pytest.raises(TypeError):
            relu_ext.leaky_relu_(x, "text")
    assert sys.getrefcount(x) == before


def test_what_the_table_exports_is_freed(torch):
    resource = pytest.importorskip("resource")
    other = np.ones(1, "f8")
    for i in range(60):
        x = torch.ones(1 << 22)  # 16 MiB
        relu_ext.relu_backward_(x, other)
        if i == 10:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10


# Exporters that must not be written


def test_jax():
    """Its export by DLPack does not say that it is read-only."""
    jax = pytest.importorskip("jax.numpy")
    for dtype in ("float32", "bfloat16", "int32", "bool"):
        x = jax.array([-1, 2, -3]).astype(dtype)
        shared = x[:]
        before = np.array(shared)
        for operation in samples.OPERATIONS:
            with pytest.raises(ValueError, match=f"read-only; use {operation.name}, "):
                operation.in_place(*[x] * operation.arity)
        with pytest.raises(TypeError):
            relu_ext.relu(np.ones(3), out=x)
        assert_same_bits(np.asarray(x), before)
        assert_same_bits(np.asarray(shared), before)
    x = jax.array([-1.0, 2], "float32")
    assert_same_bits(relu_ext.relu(x), np.array([0, 2], "f4"))
    grad = np.ones(2, "f4")
    assert relu_ext.relu_backward_(grad, x) is grad and grad.tolist() == [0, 1]


@pytest.mark.parametrize("name", ["relu_", "leaky_relu_"])
def test_jax_arrays_without_memory(name):
    """The tracers of a compiled function, and an array that was deleted."""
    jax = pytest.importorskip("jax")
    function = getattr(relu_ext, name)
    deleted = jax.numpy.ones(3)
    deleted.delete()
    for call in (lambda: function(deleted), lambda: jax.jit(function)(jax.numpy.ones(3))):
        with pytest.raises(TypeError, match=f"^{name}: .* cannot be written in place; use "):
            call()


def test_pyarrow():
    pyarrow = pytest.importorskip("pyarrow")
    x = pyarrow.array([-1.0, 2])
    read_only = np.array([-1.0, 2])
    read_only.flags.writeable = False
    for immutable in (x, pyarrow.Tensor.from_numpy(read_only)):
        with pytest.raises(ValueError, match="read-only"):
            relu_ext.relu_(immutable)
        with pytest.raises(TypeError):
            relu_ext.relu(np.ones(2), out=immutable)
        assert np.asarray(immutable).tolist() == [-1, 2]
    assert_same_bits(relu_ext.relu(x), np.array([0.0, 2]))
    memory = np.array([-1.0, 2])
    mutable = pyarrow.Tensor.from_numpy(memory)
    assert relu_ext.relu_(mutable) is mutable and memory.tolist() == [0, 2]


def read_only(array):
    view = array.view()
    view.flags.writeable = False
    return view


@each_operation
def test_what_numpy_is_shown_as_read_only(operation):
    memory = np.array([-1.0, 2])
    others = [np.ones(2)] * (operation.arity - 1)
    for members in (
        {"__array__": lambda self, **keywords: read_only(memory)},
        {"__array_interface__": property(lambda self: read_only(memory).__array_interface__)},
    ):
        with pytest.raises(ValueError, match="read-only"):
            operation.in_place(exporter(memory, **members), *others)
        assert memory.tolist() == [-1, 2]


def test_what_numpy_is_shown_of_other_memory():
    """A copy says nothing of the memory, and neither does an error."""
    for members in (
        {"__array__": lambda self, **keywords: read_only(np.zeros(2))},
        {"__array__": raising(TypeError("not to be converted"))},
        {"__array__": raising(RuntimeError("not to be converted"))},
    ):
        memory = np.array([-1.0, 2])
        x = exporter(memory, **members)
        assert relu_ext.relu_(x) is x and memory.tolist() == [0, 2]
    memory = np.array([-1.0, 2])
    with pytest.raises(KeyboardInterrupt):
        relu_ext.relu_(exporter(memory, __array__=raising(KeyboardInterrupt)))
    assert memory.tolist() == [-1, 2]


def test_read_only_arrays_by_dlpack(torch):
    """NumPy says so itself, and PyTorch takes none by DLPack."""
    memory = read_only(np.array([-1.0, 2]))
    with pytest.raises(ValueError, match="read-only"):
        relu_ext.relu_(exporter(memory))
    old = exporter(memory, __dlpack__=lambda self: memory.__dlpack__())
    with pytest.raises((ValueError, BufferError)):
        relu_ext.relu_(old)
    with pytest.raises(ValueError, match="read-only"):
        relu_ext.relu(torch.ones(2, dtype=torch.float64), out=memory)
    assert memory.tolist() == [-1, 2]


# scipy.sparse

SPARSE = ["relu", "leaky_relu"]  # what keeps 0
FORMATS = ["csr", "csc", "coo", "bsr", "dia"]


def operation_named(name):
    return next(operation for operation in samples.OPERATIONS if operation.name == name)


@pytest.fixture(scope="module")
def scipy_sparse():
    return pytest.importorskip("scipy.sparse")


def sparse_arrays(scipy_sparse, kind):
    dense = np.array([[-1, 0, 2, 0], [0, -3, 0, 4], [0, 0, 0, 0], [5, 0, 0, -6]], "f4")
    for name in FORMATS:
        yield getattr(scipy_sparse, f"{name}_{kind}")(dense), dense


@pytest.mark.parametrize("kind", ["array", "matrix"])
@pytest.mark.parametrize("name", SPARSE)
def test_sparse(name, kind, scipy_sparse):
    operation = operation_named(name)
    for dtype in ("f4", "f8", "i4"):
        for x, dense in sparse_arrays(scipy_sparse, kind):
            x, dense = x.astype(dtype), dense.astype(dtype)
            parameter = operation.parameter and 1
            expected = operation.expected(dense, parameter=parameter)
            result = operation.front(x, parameter=parameter)
            assert type(result) is type(x) and result.dtype == dtype and result.nnz == x.nnz
            np.testing.assert_array_equal(result.toarray(), expected)
            np.testing.assert_array_equal(x.toarray(), dense)
            assert operation.in_place(x, parameter=parameter) is x
            np.testing.assert_array_equal(x.toarray(), expected)


@pytest.mark.parametrize("name", SPARSE)
def test_sparse_duplicates_count_as_their_sum(name, scipy_sparse):
    operation = operation_named(name)
    rows, columns, numbers = [0, 0, 1, 1], [1, 1, 0, 0], np.array([-5.0, 3, 2, -1])
    parameter = operation.parameter and 0.5
    for make in ("coo", "csr", "csc"):
        x = scipy_sparse.coo_array((numbers.copy(), (rows, columns)), shape=(2, 2))
        if make != "coo":
            compressed = (numbers.copy(), [1, 1, 0, 0], [0, 2, 4])
            x = getattr(scipy_sparse, f"{make}_array")(compressed, shape=(2, 2))
        dense = x.toarray()
        expected = operation.expected(dense, parameter=parameter)
        assert x.nnz == 4
        result = operation.front(x, parameter=parameter)
        np.testing.assert_array_equal(result.toarray(), expected)
        assert x.nnz == 4 and (x.toarray() == dense).all()
        assert operation.in_place(x, parameter=parameter) is x
        np.testing.assert_array_equal(x.toarray(), expected)


def test_sparse_promotes_as_an_array_does(scipy_sparse):
    x = scipy_sparse.csr_array(np.array([[-2, 0, 3]]))
    assert relu_ext.leaky_relu(x, 0.5).dtype == np.float64
    assert relu_ext.relu(x, dtype="f4").dtype == np.float32
    with pytest.raises(TypeError):
        relu_ext.leaky_relu_(x, 0.5)
    assert x.toarray().tolist() == [[-2, 0, 3]]


def test_the_slope_of_a_sparse_array_becomes_a_number(scipy_sparse, torch):
    """Or the stored elements would become an array of the slope's library."""
    matrix = scipy_sparse.csr_array(np.array([[0.0, -2], [3, 0]]))
    slopes = [torch.tensor(0.5), torch.tensor(0.5, dtype=torch.bfloat16), np.array(0.5)]
    for slope in [*slopes, np.float64(0.5), 0.5]:
        for function in (relu_ext.leaky_relu, relu_ext.leaky_relu_):
            result = function(matrix.copy(), slope)
            assert type(result.data) is np.ndarray and result.data.dtype == np.float64
            assert result.toarray().tolist() == [[0, -1], [3, 0]]
    refused = [(torch.nn.Parameter(torch.tensor(0.5)), BufferError, r"use x\.detach\(\)")]
    refused += [(np.ma.masked, TypeError, "masked"), (np.ma.array(0.5), TypeError, "masked")]
    for slope, error, words in refused:
        for name in ("leaky_relu", "leaky_relu_"):
            with pytest.raises(error, match=rf"^{name}: .*{words}"):
                getattr(relu_ext, name)(matrix.copy(), slope)


def test_a_subclass_that_detaches_a_copy(torch):
    """What is written is the tensor's own memory."""

    class Copied(torch.Tensor):
        def detach(self):
            return super().detach().clone()

    def tensor(*numbers):
        return torch.tensor(numbers).as_subclass(Copied)

    x, y, grad = tensor(-1.0, 2.0), tensor(0.0, 0.0), tensor(1.0, 2.0)
    relu_ext.relu_(x)
    relu_ext.maxout(np.ones((2, 2), "f4"), out=y)
    relu_ext.add_relu_backward_(grad, np.array([-1, 1], "f4"), np.ones(2, "f4"))
    assert [x.tolist(), y.tolist(), grad.tolist()] == [[0, 2], [1, 1], [0, 2]]


def test_a_dual_tensor_beside_a_plain_one_is_refused(torch):
    from torch.autograd import forward_ad

    with forward_ad.dual_level():
        x = forward_ad.make_dual(torch.ones(3), torch.ones(3))
        for function in (relu_ext.relu_backward_, relu_ext.add_relu):
            grad = torch.full((3,), 2.0)
            with pytest.raises(BufferError):
                function(grad, x)
            assert grad.tolist() == [2, 2, 2]


def test_a_float64_tensor_as_the_x_of_a_float32_gradient(torch):
    x = torch.tensor([0.1, -0.1, 1e-60, -1e-60], dtype=torch.float64)
    for at_zero in (0, 1):
        grad = np.arange(1, 5, dtype="f4")
        assert relu_ext.relu_backward_(grad, x, at_zero=at_zero).tolist() == [1, 0, 3, 0]


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("x", lambda dense, sparse: relu_ext.maxout(sparse)),
        ("grad", lambda dense, sparse: relu_ext.maxout_backward(sparse, [0] * 3, 2)),
        ("which", lambda dense, sparse: relu_ext.maxout_backward(dense, sparse, 2)),
        ("output", lambda dense, sparse: relu_ext.add_relu_backward_(dense, sparse, dense[0])),
        ("slope", lambda dense, sparse: relu_ext.prelu_backward(dense, dense, sparse)),
    ],
)
def test_a_sparse_argument_that_is_not_taken_is_named(argument, call, scipy_sparse):
    dense = np.eye(3)
    for wrong, words in (
        (scipy_sparse.csr_array(dense), r"x\.toarray\(\)"),
        (object(), "an array"),
    ):
        with pytest.raises(TypeError, match=rf": {argument} is a \w+; use {words}"):
            call(dense, wrong)
    assert dense.tolist() == np.eye(3).tolist()


@pytest.mark.parametrize("name", ["add_relu_", "relu_backward_", "leaky_relu_", "add_relu"])
def test_a_sparse_operand_beside_a_dense_one_is_named(name, scipy_sparse):
    dense = np.eye(3)
    with pytest.raises(TypeError, match=rf"^{name}: .* sparse array, .*x\.toarray\(\)"):
        getattr(relu_ext, name)(dense, scipy_sparse.csr_array(dense))
    assert dense.tolist() == np.eye(3).tolist()


@each_operation
def test_sparse_refused(operation, scipy_sparse):
    dense = np.array([[-2.0, 0, 3]])
    x = scipy_sparse.coo_array(([-3.0, 1, 3], ([0, 0, 0], [0, 0, 2])), shape=(1, 3))
    calls = []
    if operation.name not in SPARSE:
        calls += [lambda: operation.front(*[x] * operation.arity)]
        calls += [lambda: operation.in_place(*[x] * operation.arity)]
    if operation.arity == 2:
        calls += [lambda: operation.front(dense, x), lambda: operation.front(x, dense)]
        calls += [lambda: operation.in_place(x, dense)]
        with pytest.raises(TypeError):
            operation.in_place(dense, x)
    if operation.parameter:
        calls += [lambda: operation.front(*[x] * operation.arity, parameter=dense)]
        calls += [lambda: operation.in_place(*[x] * operation.arity, parameter=dense)]
    calls += [lambda: operation.front(*[x] * operation.arity, out=dense)]
    calls += [lambda: operation.front(*[x] * operation.arity, where=dense > 0)]
    for call in calls:
        with pytest.raises(TypeError, match=r"x\.toarray\(\), or x\.data"):
            call()
    assert x.nnz == 3 and x.toarray().tolist() == dense.tolist() == [[-2, 0, 3]]


@pytest.mark.parametrize("name", SPARSE)
def test_sparse_formats_and_dtypes_refused(name, scipy_sparse):
    operation = operation_named(name)
    for make in (scipy_sparse.lil_array, scipy_sparse.dok_array):
        x = make(np.array([[-2.0, 0, 3]]))
        for call in (operation.front, operation.in_place):
            with pytest.raises(TypeError, match=r"x\.tocsr\(\)"):
                call(x)
        assert x.toarray().tolist() == [[-2, 0, 3]]
    x = scipy_sparse.csr_array(np.array([[-2j, 0, 3]]))
    for call in (operation.front, operation.in_place):
        with pytest.raises(TypeError, match="complex128"):
            call(x)
    assert x.toarray().tolist() == [[-2j, 0, 3]]


# Arguments whose Python takes the memory of a tensor, which is another argument


def taking(tensor, array, kind):
    """Something that NumPy makes the array of, once its Python has taken the memory of a tensor."""

    def take(self, *arguments, **keywords):
        tensor.untyped_storage().resize_(0)
        return array if kind is object else kind(array[0])

    methods = {float: "__float__", int: "__int__", bool: "__bool__", object: "__array__"}
    made = type("Taking", (object if kind is bool else kind,), {methods[kind]: take})
    return made(0.5) if kind is float else made(2) if kind is int else made()


def calls_on(tensor):
    """Calls of which one argument is the tensor, and the others are array_likes that take it."""
    ones = np.ones(tensor.shape, np.float32)
    anything = taking(tensor, ones, object)
    number = taking(tensor, ones, float)
    mask = taking(tensor, ones > 0, object)
    truth = taking(tensor, ones, bool)
    whole = taking(tensor, ones.astype(int), int)
    for operation in OPERATIONS:
        function = getattr(relu_ext, operation.name)
        in_place = getattr(relu_ext, f"{operation.name}_")
        arrays = [tensor] * len(operation.arrays)
        for where in (mask, truth, [truth]):
            yield partial(function, *arrays, out=tensor.clone(), where=where)
        yield partial(function, anything, *arrays[1:], out=tensor)
        if operation.parameter:
            for one in (anything, number, whole):
                named = {operation.parameter: one}
                yield partial(function, *arrays, **named)
                yield partial(in_place, *arrays, **named)
        if len(operation.arrays) > 1:
            yield partial(function, tensor, anything)
            yield partial(function, anything, tensor)
            yield partial(function, tensor, [anything])
            yield partial(in_place, tensor, anything)
    for name in ("add_relu_backward", "add_leaky_relu_backward", "prelu_backward"):
        for suffix in ("", "_"):
            function = getattr(relu_ext, name + suffix)
            yield partial(function, tensor, anything, 1.0)
            yield partial(function, tensor, tensor, anything)
        yield partial(getattr(relu_ext, name), anything, tensor, 1.0)
        yield partial(getattr(relu_ext, name), ones, anything, 1.0, out=(tensor, None))
    for one in (anything, number):
        yield partial(relu_ext.add_leaky_relu_backward, tensor, tensor, 1.0, one)
    yield partial(relu_ext.prelu_backward, tensor, tensor, number)
    which = taking(tensor, ones.astype(np.int64), object)
    yield partial(relu_ext.maxout_backward, tensor, which, 2)
    yield partial(relu_ext.maxout_backward, tensor, [which], 2)


def test_memory_taken_by_an_argument(torch):
    """It is an error: Python of the arguments runs before a tensor is looked at."""
    count = sum(1 for _ in calls_on(torch.ones(1)))
    for i in range(count):
        tensor = -torch.ones(1 << 16)
        call = next(islice(calls_on(tensor), i, None))
        with pytest.raises(BufferError, match="memory of"):
            call()


@pytest.mark.parametrize("kind", ["list", "tuple", "bool", "uint8", "float32"])
def test_where_beside_a_tensor(kind, torch):
    """It is the truth of each element, as NumPy takes it from a list or a tensor."""
    chosen = [1, 0, 1]
    where = {"list": chosen, "tuple": tuple(chosen)}.get(kind)
    if where is None:
        where = torch.tensor(chosen, dtype=getattr(torch, kind))
    out = torch.full((3,), 9.0)
    assert relu_ext.relu(torch.tensor([-1.0, 2, 3]), out=out, where=where) is out
    assert out.tolist() == [0, 9, 3]


def test_a_subclass_of_float_beside_a_tensor(torch):
    """It is an array_like, whose dtype takes part as beside an ndarray."""
    slope = type("Slope", (float,), {})(0.1)
    x = np.linspace(-3, 3, 1000, dtype=np.float32)
    expected = relu_ext.leaky_relu(x, slope)
    result = relu_ext.leaky_relu(torch.from_numpy(x), slope)
    assert_same_bits(array_of(torch, result), expected)


def test_a_bias_that_is_an_unusual_tensor(torch):
    """It is refused by its own message, although it is not read."""
    grad = torch.ones(2, 3)
    with pytest.raises(BufferError, match="add_relu_backward: the tensor is"):
        relu_ext.add_relu_backward(grad, grad, torch.ones(3).to_sparse())


def test_an_object_beside_a_tensor_is_named(torch):
    for function in (relu_ext.add_relu, relu_ext.add_relu_):
        with pytest.raises(TypeError, match="y is None; it must be a number"):
            function(torch.ones(3), None)
