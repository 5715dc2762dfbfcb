"""In place, without a copy, on what is not an ndarray."""

import array
import ctypes
import mmap
import sys
from multiprocessing.shared_memory import SharedMemory

import numpy as np
import pytest
import relu_ext

import reference
import samples
from samples import constant, each_of_two_arrays, each_operation, exporter, raising

NUMBERS = [-2, 3, 0, -1, 5]
BUFFER_CODES = "bhHiIlLqQfd"  # B and c are raw bytes


def expected(operation, code):
    """What becomes of NUMBERS, and the parameter that keeps the dtype."""
    x = buffer_numbers(code)
    parameter = operation.parameter and 1 + (code in "fd")
    return operation.expected(
        *[np.array(x, code)] * operation.arity, parameter=parameter
    ), parameter


def buffer_numbers(code):
    return [abs(n) for n in NUMBERS] if code.isupper() else NUMBERS


@pytest.mark.parametrize("code", BUFFER_CODES)
@each_operation
def test_array_array(operation, code):
    buffer = array.array(code, buffer_numbers(code))
    others = [array.array(code, buffer)] * (operation.arity - 1)
    values, parameter = expected(operation, code)
    assert operation.in_place(buffer, *others, parameter=parameter) is buffer
    assert buffer.tolist() == values.tolist()
    buffer.append(1)  # impossible while the memory is still exported


def bytearray_memory(size):
    return bytearray(size), lambda: None


def mmap_memory(size):
    memory = mmap.mmap(-1, size)
    return memory, memory.close


def shared_memory(size):
    memory = SharedMemory(create=True, size=size)

    def close():
        memory.close()
        memory.unlink()

    return memory.buf, close


@pytest.mark.parametrize("make", [bytearray_memory, mmap_memory, shared_memory])
@pytest.mark.parametrize("code", BUFFER_CODES)
@each_operation
def test_memoryview_cast(operation, code, make):
    """The memory behind the view is written, and let go of after the call."""
    size = 5 * np.dtype(code).itemsize
    memory, close = make(size)
    try:
        raw = memoryview(memory)[:size]
        view = raw.cast(code)
        for i, x in enumerate(buffer_numbers(code)):
            view[i] = x
        others = [view.tolist()] * (operation.arity - 1)
        values, parameter = expected(operation, code)
        others = [np.array(o, code) for o in others]
        assert operation.in_place(view, *others, parameter=parameter) is view
        assert bytes(raw) == values.tobytes()
        view.release()
        raw.release()
    finally:
        close()


@each_operation
def test_shapes_and_strides_of_a_memoryview(operation):
    source = np.array([-2, 3, -4, 5, -6, 7], "f4")
    others = [np.full(6, 9, "f4")] * (operation.arity - 1)
    after = operation.expected(source, *others, parameter=operation.parameter and 1)
    memory = bytearray(source.tobytes())
    view = memoryview(memory).cast("f", (2, 3))
    others = [other.reshape(2, 3) for other in others]
    assert operation.in_place(view, *others, parameter=operation.parameter and 1) is view
    assert bytes(memory) == after.tobytes()
    memory = bytearray(source.tobytes())
    view = memoryview(memory).cast("f")[::-2]
    others = [other[0] for other in others]
    assert (
        operation.in_place(view, *[o[:3] for o in others], parameter=operation.parameter and 1)
        is view
    )
    assert memoryview(memory).cast("f").tolist() == [
        x if i % 2 == 0 else after[i] for i, x in enumerate(source.tolist())
    ]


def test_bool_and_empty_and_scalar_buffers():
    view = memoryview(bytearray([1, 0, 1])).cast("?")
    assert relu_ext.relu_(view) is view and view.tolist() == [True, False, True]
    empty = array.array("f")
    assert relu_ext.relu_(empty) is empty and len(empty) == 0
    number = ctypes.c_double(-2)
    assert relu_ext.relu_(number) is number and number.value == 0
    numbers = (ctypes.c_float * 3)(-1, 2, -3)
    assert relu_ext.leaky_relu_(numbers, 0.5) is numbers and list(numbers) == [-0.5, 2, -1.5]
    table = (ctypes.c_int * 2 * 2)((-1, 2), (3, -4))
    assert relu_ext.relu_(table) is table and [list(row) for row in table] == [[0, 2], [3, 0]]
    of_array = memoryview(np.array([-1, 2], "f2"))
    assert relu_ext.relu_(of_array) is of_array and of_array.obj.tolist() == [0, 2]
    swapped = memoryview(np.array([-1, 2], ">f8"))
    assert relu_ext.relu_(swapped) is swapped and swapped.obj.tolist() == [0, 2]


def test_bytes_whose_type_is_known():
    for numbers in (array.array("B", [200, 1]), (ctypes.c_ubyte * 2)(200, 1)):  # of format <B
        assert relu_ext.relu_subgradient_(numbers) is numbers and list(numbers) == [1, 1]
        assert relu_ext.add_relu_(numbers, 255) is numbers and list(numbers) == [0, 0]
    number = ctypes.c_ubyte(3)
    assert relu_ext.leaky_relu_(number, 2) is number and number.value == 3


def raw_bytes():
    data = bytes([200, 1, 2, 3])
    memory = mmap.mmap(-1, 4)
    memory[:] = data
    return {
        "bytearray": bytearray(data),
        "memoryview": memoryview(bytearray(data)),
        "memoryview c": memoryview(bytearray(data)).cast("c"),
        "mmap": memory,
        "ctypes c": (ctypes.c_char * 4)(*data),
    }


@pytest.mark.parametrize("kind", raw_bytes())
@each_operation
def test_raw_bytes_carry_no_dtype(operation, kind):
    memory = raw_bytes()[kind]
    before = bytes(memory)
    with pytest.raises(TypeError, match=r"np\.frombuffer\("):
        operation.in_place(memory, *[np.ones(4, "u1")] * (operation.arity - 1))
    assert bytes(memory) == before
    numbers = np.frombuffer(bytearray(8), "f4")  # the advice
    assert operation.in_place(*[numbers] * operation.arity) is numbers


@each_operation
def test_read_only_buffers(operation):
    data = np.array([-1, 2], "f4").tobytes()
    view = memoryview(data).cast("f")
    read_only = np.frombuffer(data, "f4")
    for memory in (data, view, memoryview(bytearray(data)).cast("f").toreadonly(), read_only):
        with pytest.raises(ValueError, match="read-only"):
            operation.in_place(memory, *[read_only] * (operation.arity - 1))
        assert bytes(memory) == data


@each_operation
def test_read_only_file(operation, tmp_path):
    path = tmp_path / "numbers"
    path.write_bytes(np.array([-1, 2], "f4").tobytes())
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
        view = memoryview(memory).cast("f")
        others = [np.ones(2, "f4")] * (operation.arity - 1)
        with pytest.raises(ValueError, match="read-only"):
            operation.in_place(view, *others)
        view.release()
    mapped = np.memmap(path, "f4", mode="r+")
    assert operation.in_place(mapped, *[np.ones(2, "f4")] * (operation.arity - 1)) is mapped
    del mapped


@pytest.mark.parametrize(
    "x",
    [
        np.array([1 - 2j]), np.array([("a", -1)], [("name", "U1"), ("x", "f4")]),
        np.array(["2020"], "M8[Y]").view("V8"), np.array([b"text"]),
    ],
    ids=lambda x: x.dtype.str,
)  # fmt: skip
@each_operation
def test_buffers_of_unsupported_dtypes(operation, x):
    view, before = memoryview(x), x.tobytes()
    with pytest.raises(TypeError, match=operation.name):
        operation.in_place(view, *[np.ones(1)] * (operation.arity - 1))
    assert x.tobytes() == before


@pytest.mark.parametrize("code", [code for code in "uw" if code in array.typecodes])
@pytest.mark.filterwarnings("ignore:The 'u' type code is deprecated")
def test_text_is_no_number(code):
    text = array.array(code, "ab")
    with pytest.raises(TypeError, match="relu"):
        relu_ext.relu_(text)
    assert "".join(text) == "ab"


@each_of_two_arrays
def test_shape_mismatch_leaves_the_buffer(operation):
    grad = array.array("f", [1, 2, 3])
    with pytest.raises(ValueError):
        operation.in_place(grad, np.ones(2))
    assert grad.tolist() == [1, 2, 3]


def test_references_are_let_go():
    grad, x = array.array("f", [1, 2]), array.array("f", [-1, 2])
    before = sys.getrefcount(grad), sys.getrefcount(x)
    for _ in range(10):
        relu_ext.relu_backward_(grad, x)
    assert (sys.getrefcount(grad), sys.getrefcount(x)) == before


def old_exporter(array):
    """DLPack before its version 1, as PyTorch before 2.9 exports: no keyword but `stream`."""
    return exporter(array, __dlpack__=lambda self, stream=None: array.__dlpack__())


def copying_exporter(array):
    """Says so, as the specification asks."""
    return exporter(
        array, __dlpack__=lambda self, **keywords: array.__dlpack__(copy=True, **keywords)
    )


@pytest.mark.parametrize("make", [exporter, old_exporter])
@each_operation
def test_dlpack(operation, make):
    """Changed through its own memory, at any strides."""
    parameter = operation.parameter and 1
    for dtype in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"):
        flat = samples.arrays(operation, np.dtype(dtype), 24)
        for layout in ("contiguous", "every second", "C", "F"):
            arrays = [samples.LAYOUTS[layout](a) for a in flat]
            values = operation.expected(*(a.copy() for a in arrays), parameter=parameter)
            tensor = make(arrays[0])
            assert operation.in_place(tensor, *arrays[1:], parameter=parameter) is tensor
            samples.assert_same_bits(arrays[0], values, f"{dtype} {layout}")


@pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) < "2.1.0", reason="NumPy 2.1 introduced the two flags"
)
@each_operation
def test_dlpack_read_only_and_copied(operation):
    others = [np.ones(2)] * (operation.arity - 1)
    memory = np.array([-1.0, 2])
    with pytest.raises(TypeError, match=operation.name):
        operation.in_place(copying_exporter(memory), *others)
    memory.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        operation.in_place(exporter(memory), *others)
    assert memory.tolist() == [-1, 2]


@each_operation
def test_dlpack_that_cannot_be_written(operation):
    others = [np.ones(2)] * (operation.arity - 1)
    memory = np.array([-1.0, 2])
    with pytest.raises(TypeError, match=operation.name):
        operation.in_place(exporter(memory, __dlpack_device__=constant((2, 0))), *others)  # CUDA
    with pytest.raises(TypeError, match=operation.name):
        operation.in_place(exporter(np.array([1j, -1])), *others)
    with pytest.raises(ZeroDivisionError):
        operation.in_place(exporter(memory, __dlpack__=raising(ZeroDivisionError)), *others)
    assert memory.tolist() == [-1, 2]


# PyTorch, where it is installed


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@each_operation
def test_torch_tensor(operation, torch):
    for dtype in ("float16", "float32", "float64", "int8", "int32", "int64", "uint8"):
        numpy_dtype = np.dtype(dtype)
        flat = samples.arrays(operation, numpy_dtype, 24)
        parameter = operation.parameter and 1
        for layout in ("contiguous", "every second", "F"):
            arrays = [samples.LAYOUTS[layout](a) for a in flat]
            values = operation.expected(*(a.copy() for a in arrays), parameter=parameter)
            tensors = [torch.from_numpy(a) for a in arrays]
            address = tensors[0].data_ptr()
            assert operation.in_place(*tensors, parameter=parameter) is tensors[0]
            assert tensors[0].data_ptr() == address
            samples.assert_same_bits(arrays[0], values, f"{dtype} {layout}")


@each_operation
def test_torch_bfloat16(operation, torch):
    """NumPy's own DLPack knows no bfloat16, and `asarray` takes no such tensor."""
    arrays = samples.arrays(operation, reference.bfloat16, 100)
    values = operation.expected(*arrays, parameter=operation.parameter and 0.5)
    tensors = [torch.from_numpy(a.view("i2")).view(torch.bfloat16) for a in arrays]
    assert operation.in_place(*tensors, parameter=operation.parameter and 0.5) is tensors[0]
    samples.assert_same_bits(arrays[0], values)


def test_torch_tensor_that_cannot_be_written(torch):
    tensor = torch.tensor([-2.0, 3.0], requires_grad=True)
    with pytest.raises((TypeError, BufferError, RuntimeError)):
        relu_ext.relu_(tensor)
    assert tensor.tolist() == [-2, 3]
