"""Arrays over the memory that other objects own: typed buffers, DLPack, PyTorch's tensors.

Contract: what is written is the object's own memory and never a copy of it.  Where that is not
possible there is an error that says what to call instead.
"""

import sys
from typing import Any

import numpy as np

from relu_ext._sparse import is_sparse
from relu_ext._tensors import array_over_capsule, check_tensor, has_buffer, is_torch_tensor

_CPU = 1
_ARRAY_PROTOCOLS = ("__array__", "__array_interface__", "__array_struct__")


def needs_dlpack(x: object) -> bool:
    """Whether `x` exports its memory by `__dlpack__` alone, so that NumPy would take it for a
    Python object."""
    kind = type(x)
    return (
        hasattr(kind, "__dlpack__")
        and not any(hasattr(kind, protocol) for protocol in _ARRAY_PROTOCOLS)
        and not has_buffer(x)
    )


def array_over(name: str, target: Any, *, writing: bool = False) -> np.ndarray[Any, Any]:
    """Return an ndarray over the memory of `target`, for the function `name`."""
    kind = type(target)  # isinstance would believe what the object says it is
    if issubclass(kind, np.ndarray):
        return target
    if hasattr(kind, "__dlpack__") and not issubclass(kind, np.generic):
        if (array := _over_tensor(name, target, writing)) is not None:
            return array
    elif has_buffer(target) and not issubclass(kind, np.generic):
        return _over_buffer(name, target)
    raise TypeError(
        f"{name}: {kind.__name__} cannot be written in place; "
        f"use {name.rstrip('_')}, which returns a new array, or pass a writeable ndarray"
    )


def array_of(name: str, argument: str, x: Any) -> np.ndarray[Any, Any]:
    """Return an exact ndarray: over the memory of a tensor, or what NumPy makes of another
    object."""
    array = np.asarray(array_over(name, x) if is_torch_tensor(x) else x)
    if array.dtype == object and array.ndim == 0:
        what = "x.toarray()" if is_sparse(x) else "an array of numbers"
        raise TypeError(f"{name}: {argument} is a {type(x).__name__}; use {what}")
    return array


def writeable_array(name: str, target: object) -> np.ndarray[Any, Any]:
    """Return an ndarray over the memory of `target`, for the function `name` to write."""
    array = array_over(name, target, writing=True)
    if not array.flags.writeable or (array is not target and _is_shown_read_only(target, array)):
        raise ValueError(
            f"{name}: this {type(target).__name__} is read-only; "
            f"use {name.rstrip('_')}, which returns a new array, or pass a writeable ndarray"
        )
    if is_torch_tensor(target) and array.size:  # PyTorch refuses this too; NumPy allows it.
        steps = zip(array.strides, array.shape, strict=True)
        if any(step == 0 and length > 1 for step, length in steps):
            raise ValueError(
                f"{name}: elements of this {type(target).__name__} share their memory; use a copy"
            )
    return array


def result_array(
    name: str,
    which: str,
    out: object,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    refused: str = "SUTmMOV",
) -> np.ndarray[Any, Any] | None:
    """Return an exact ndarray over the memory of `out`, into which a result may be copied, or None
    if `out` is None.  Of the kinds of dtypes that are refused, bfloat16 is none."""
    if out is None:
        return None
    if is_torch_tensor(out):
        out = writeable_array(name, out)
    elif not issubclass(type(out), np.ndarray):  # isinstance would believe what it says it is
        raise TypeError(f"{name}: {which} is a {type(out).__name__}, neither ndarray nor tensor")
    array = np.asarray(out)
    if array.shape != shape:
        raise ValueError(f"{name}: expected {which} of shape {shape}, not {array.shape}")
    if not array.flags.writeable:
        raise ValueError(f"{name}: {which} is read-only")
    # NumPy also allows a cast of a number to text and to any structure.
    if not np.can_cast(dtype, array.dtype, "same_kind") or (
        array.dtype.kind in refused and array.dtype.name != "bfloat16"
    ):
        raise TypeError(f"{name}: {which} of dtype {array.dtype} does not hold {dtype}")
    return array


def refuse_tensor(name: str, x: Any) -> None:
    """Raise if the memory of a tensor of PyTorch does not hold its value, or something else depends
    on it, with no Python of a subclass."""
    with sys.modules["torch"]._C.DisableTorchFunctionSubclass():
        _refuse_plainly(name, x)


def _refuse_plainly(name: str, x: Any) -> None:
    torch = sys.modules["torch"]
    if torch.jit.is_tracing() or torch._C._len_torch_dispatch_stack() > 0:
        raise BufferError(
            f"{name}: PyTorch records its operations (torch.jit.trace, torch.onnx.export, make_fx, "
            f"a dispatch mode) and would lose this one; use torch.nn.functional"
        )
    if x.is_nested:
        raise BufferError(f"{name}: the tensor is nested; use its parts, x.unbind()")
    if x.layout is not torch.strided:
        raise BufferError(f"{name}: the tensor is {x.layout}; use x.to_dense()")
    if x.device.type != "cpu":
        raise TypeError(f"{name}: the tensor is on the device {x.device}; use x.cpu()")
    if x.is_quantized:
        raise TypeError(
            f"{name}: dtype {x.dtype} is not supported; use x.dequantize() or x.int_repr()"
        )
    if x._is_zerotensor():
        raise BufferError(f"{name}: the zeros of this tensor are not in memory; use x.clone()")
    try:
        nowhere = x.untyped_storage().device.type != "cpu" or (x.data_ptr() == 0 and x.numel() > 0)
    except RuntimeError:
        nowhere = True
    if nowhere:
        raise BufferError(
            f"{name}: the tensor has no memory of its own (as under torch.func, torch.compile or a "
            f"FakeTensorMode); use torch.nn.functional"
        )
    if x.requires_grad:
        raise BufferError(f"{name}: the tensor requires a gradient; use x.detach()")
    if x.is_conj():
        raise BufferError(f"{name}: the tensor is a lazy conjugation; use x.resolve_conj()")
    if x.is_neg():
        raise BufferError(f"{name}: the tensor is a lazy negation; use x.resolve_neg()")
    if x.is_complex():
        raise TypeError(f"{name}: dtype {x.dtype} is not supported; use torch.view_as_real(x)")
    if x.is_floating_point() and x.element_size() == 1:
        raise TypeError(f"{name}: dtype {x.dtype} is not supported; use x.float()")
    unpack_dual = sys.modules["torch.autograd.forward_ad"].unpack_dual
    if unpack_dual(x).tangent is not None:
        raise BufferError(
            f"{name}: the tensor has a tangent; use torch.autograd.forward_ad.unpack_dual(x)"
        )


def _is_shown_read_only(target: object, array: np.ndarray[Any, Any]) -> bool:
    """Whether `target` shows the same memory to NumPy as read-only.  An array of JAX does, but its
    DLPack export hides that."""
    if is_torch_tensor(target) or not array.size or needs_dlpack(target):
        return False
    try:
        shown = np.asarray(target)
    except Exception:
        return False  # NumPy makes no array of it and so does not tell.
    addresses = [x.__array_interface__["data"][0] for x in (shown, array)]
    return not shown.flags.writeable and addresses[0] == addresses[1]


def _over_tensor(name: str, target: Any, writing: bool) -> np.ndarray[Any, Any] | None:
    """Return an ndarray, or None where the memory is not the CPU's, or a copy that is written."""
    if is_torch_tensor(target):
        check_tensor(name, target)
        torch = sys.modules["torch"]
        with torch._C.DisableTorchFunctionSubclass():  # no subclass runs Python of its own
            kept = torch.Tensor.detach(target)  # nobody can give other memory to this one
            return array_over_capsule(name, torch.utils.dlpack.to_dlpack(kept), False, kept)
    if _is_no_array_of_jax(target):
        return None
    device, _ = target.__dlpack_device__()
    if device != _CPU:
        return None
    try:
        capsule = target.__dlpack__(max_version=(1, 0))
    except TypeError:
        capsule = target.__dlpack__()  # for exporters older than DLPack 1
    return array_over_capsule(name, capsule, writing)


def _is_no_array_of_jax(x: Any) -> bool:
    """Whether `x` has the type of JAX's arrays but no memory: a tracer, or an array deleted."""
    jax = sys.modules.get("jax")
    if jax is None:
        return False
    kind = type(x)
    return issubclass(kind, jax.core.Tracer) or (issubclass(kind, jax.Array) and x.is_deleted())


def _over_buffer(name: str, target: Any) -> np.ndarray[Any, Any]:
    view = memoryview(target)
    is_bytes = view.format.lstrip("@=<>!") in ("B", "c")
    if is_bytes and not view.readonly and not _is_typed(target, view):
        raise TypeError(
            f"{name}: the bytes of {type(target).__name__} carry no dtype; "
            f"use {name}(np.frombuffer(x, dtype))"
        )
    return np.array(view, copy=False)


def _is_typed(target: object, view: memoryview) -> bool:
    """Whether unsigned bytes are what an object was made of, not what any memory consists of."""
    if view.format.endswith("c"):
        return False
    array, ctypes = sys.modules.get("array"), sys.modules.get("_ctypes")
    return (array is not None and issubclass(type(target), array.array)) or (
        ctypes is not None and issubclass(type(target), (ctypes.Array, ctypes._SimpleCData))
    )
