"""The one registry: operation x dtype x size x mode x contender.

A contender is a statement that a user would write. In it, x and the gradient g are the input, o
is an output that exists, `slope` is a Python number, and zero, one, s are 0, 1 and the slope as
scalars of the array's dtype. `{out}` becomes nothing, `, out=o` or, in place, `, out=x`; `{to}`
becomes nothing, `o[...] = ` or `x[...] = `.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import relu_ext
from relu_ext import _api, ufuncs

IN_PLACE, OUT, NEW = MODES = ("in place", "out=", "new array")
OURS, FLOOR, ONE_THREAD, ROOFLINE = "relu_ext", "empty call", "one thread", "roofline: "
TORCH, OWN_TENSORS = "torch", "torch, own tensors"
"""Over NumPy's memory, as everybody else; and at its best: over tensors as it allocates them, in
inference mode."""
SMALL = 1024
"""Up to this many elements the empty call is shown beside the others."""
PERIOD = 2**22
"""After so many, random numbers repeat."""
SLOPE = 2.0**-7
"""Exact in every floating dtype: rounding the slope before the product or after is the same."""


def _modes(in_place: str, out: str, new: str) -> dict[str, str]:
    return dict(zip(MODES, (in_place, out, new), strict=True))


def _select(condition: str, value: str, otherwise: str) -> dict[str, str]:
    return {
        "where": f"{{to}}np.where({condition}, {value}, {otherwise})",
        "numexpr": f"numexpr.evaluate('where({condition}, {value}, {otherwise})'{{out}})",
        "numba": f"out[i] = {value} if {condition} else {otherwise}",
    }


@dataclass(frozen=True)
class Operation:
    """What one operation of relu_ext is called with, and what a user could write instead."""

    operands: str
    slope: bool
    spellings: Mapping[str, str | Mapping[str, str]]

    @property
    def target(self) -> str:
        """The operand that is overwritten in place."""
        return self.operands[0]

    def ours(self, name: str) -> dict[str, str]:
        arguments = ", ".join(self.operands) + (", slope" if self.slope else "")
        return _modes(
            f"{name}_({arguments})", f"{name}({arguments}, out=o)", f"{name}({arguments})"
        )


OPERATIONS = {
    "relu": Operation("x", False, {
        "maximum": "np.maximum(x, {zero}{out})",
        "zeros": "np.maximum(x, zeros{out})",
        "clip": "np.clip(x, {zero}, {top}{out})",
        **_select("x > 0", "x", "zero"),
        "multiply": _modes("x *= x > 0", "np.multiply(x, x > 0, out=o)", "x * (x > 0)"),
        "mask": {IN_PLACE: "x[x < 0] = 0"},
        "torch": _modes("torch.relu_(x)", "torch.clamp_min(x, 0, out=o)", "torch.relu(x)"),
        "jax": {NEW: "jax.nn.relu(x).block_until_ready()"},
        "sigmoid": "scipy.special.expit(x{out})",
        "tanh": "np.tanh(x{out})",
    }),
    "relu_subgradient": Operation("x", False, {
        "greater": _modes("np.greater(x, 0, out=x)", "np.greater(x, 0, out=o)",
                          "(x > 0).astype(x.dtype)"),
        "heaviside": "np.heaviside(x, 0{out})",
        **_select("x > 0", "one", "zero"),
        "torch": _modes("x.gt_(0)", "torch.gt(x, 0, out=o)", "(x > 0).to(x.dtype)"),
        "jax": {NEW: "(x > 0).astype(x.dtype).block_until_ready()"},
    }),
    "relu_backward": Operation("gx", False, {
        "multiply": _modes("np.multiply(g, x > 0, out=g)", "np.multiply(g, x > 0, out=o)",
                           "g * (x > 0)"),
        **_select("x > 0", "g", "zero"),
        "mask": {IN_PLACE: "g[x <= 0] = 0"},
        "torch": _modes("torch.ops.aten.threshold_backward.grad_input(g, x, 0, grad_input=g)",
                        "torch.ops.aten.threshold_backward.grad_input(g, x, 0, grad_input=o)",
                        "torch.ops.aten.threshold_backward(g, x, 0)"),
        "jax": {NEW: "jax.numpy.where(x > 0, g, zero).block_until_ready()"},
        # x stands for the forward's output, in which these derivatives are written.
        "sigmoid": "np.multiply(g, x * (1 - x){out})",
        "tanh": "np.multiply(g, 1 - x * x{out})",
    }),
    "leaky_relu": Operation("x", True, {
        "maximum": "np.maximum(x, x * slope{out})",
        "typed": "np.maximum(x, x * s{out})",
        **_select("x < 0", "x * s", "x"),
        "mask": {IN_PLACE: "x[x < 0] *= s"},
        "masked": {IN_PLACE: "np.multiply(x, s, out=x, where=x < 0)"},
        "torch": _modes("F.leaky_relu_(x, slope)",
                        "torch.ops.aten.leaky_relu.out(x, slope, out=o)",
                        "F.leaky_relu(x, slope)"),
        "jax": {NEW: "jax.nn.leaky_relu(x, slope).block_until_ready()"},
    }),
    "leaky_relu_subgradient": Operation("x", True, {
        "maximum": _modes("np.maximum(x > 0, s, out=x)", "np.maximum(x > 0, s, out=o)",
                          "np.maximum(x > 0, s)"),
        **_select("x > 0", "one", "s"),
        "torch": _modes("torch.where(x > 0, one, s, out=x)", "torch.where(x > 0, one, s, out=o)",
                        "torch.where(x > 0, one, s)"),
        "jax": {NEW: "jax.numpy.where(x > 0, one, s).block_until_ready()"},
    }),
    "leaky_relu_backward": Operation("gx", True, {
        **_select("x > 0", "g", "g * s"),
        "mask": {IN_PLACE: "g[x <= 0] *= s"},
        "masked": {IN_PLACE: "np.multiply(g, s, out=g, where=x <= 0)"},
        "torch": _modes(
            "torch.ops.aten.leaky_relu_backward.grad_input(g, x, slope, False, grad_input=g)",
            "torch.ops.aten.leaky_relu_backward.grad_input(g, x, slope, False, grad_input=o)",
            "torch.ops.aten.leaky_relu_backward(g, x, slope, False)"),
        "jax": {NEW: "jax.numpy.where(x > 0, g, g * s).block_until_ready()"},
    }),
}  # fmt: skip
if set(OPERATIONS) != set(ufuncs.__all__):
    raise LookupError(f"no case for {sorted(set(ufuncs.__all__) ^ set(OPERATIONS))}")

OTHER_FUNCTIONS: dict[tuple[str, str], Callable[..., np.ndarray]] = {
    ("relu", "sigmoid"): lambda x: 1 / (1 + np.exp(-x)),
    ("relu", "tanh"): lambda x: np.tanh(x),
    ("relu_backward", "sigmoid"): lambda g, x: g * x * (1 - x),
    ("relu_backward", "tanh"): lambda g, x: g * (1 - x * x),
}
"""The activations that ReLU is said to be much faster than: compared in time, not in value."""

ROOFLINES = {  # the same traffic as the operation, with as little arithmetic as there is
    IN_PLACE: {"scale": "np.multiply({target}, s, out={target})",
               "negate": "np.negative({target}, out={target})",
               "BLAS scale": "scipy.linalg.blas.{blas}scal(slope, {target})",
               "torch scale": "{target}.mul_(slope)"},
    OUT: {"copy": "np.copyto(o, {target})", "torch copy": "o.copy_({target})"},
    NEW: {"copy": "{target}.copy()"},
}  # fmt: skip

LIBRARIES = {  # to choose a contender by, and what has to be importable for it
    "scipy": ("scipy", "scipy.special", "scipy.linalg.blas"),
    "numexpr": ("numexpr",),
    "numba": ("numba",),
    "torch": ("torch", "torch.nn.functional"),
    "jax": ("jax", "jax.nn", "jax.numpy"),
    "numpy": ("numpy",),
}


SERIAL = ("numpy", "scipy")
"""Those whose element-wise functions have no threads."""


@dataclass(frozen=True)
class Contender:
    """One spelling in one cell."""

    name: str
    statement: str
    threads: int
    rectified: bool = False
    """Is given input that is rectified already, to show that this changes nothing."""

    @property
    def computes(self) -> bool:
        """Whether it has an answer to check: an empty call or a pass of the roofline has none."""
        return self.name != FLOOR and not self.name.startswith(ROOFLINE)

    @property
    def library(self) -> str:
        text = f"{self.name} {self.statement}"
        return OURS if self.name == OURS else next((k for k in LIBRARIES if k in text), "numpy")


@dataclass(frozen=True)
class Cell:
    """One experiment: contenders that are timed in turn, over the same buffers."""

    operation: str
    dtype: str
    size: int
    mode: str
    threads: int = 1

    def __str__(self) -> str:
        threads = f", {self.threads} threads" if self.threads > 1 else ""
        return f"{self.operation} {self.mode}, {size_text(self.size)} {self.dtype}{threads}"

    @property
    def operands(self) -> str:
        """The variables of a statement: input, and the output if there is one."""
        return OPERATIONS[self.operation].operands + ("o" if self.mode == OUT else "")

    @property
    def written(self) -> str:
        return "o" if self.mode == OUT else OPERATIONS[self.operation].target

    @property
    def nbytes(self) -> int:
        """The size of one array."""
        return self.size * numpy_dtype(self.dtype).itemsize

    @property
    def traffic(self) -> int:
        """The bytes that a call has to read and to write."""
        return self.nbytes * (len(OPERATIONS[self.operation].operands) + 1)

    def contenders(self, *, large: bool) -> list[Contender]:
        """Everyone who has a spelling for this mode; `large` adds the passes of the roofline."""
        operation = OPERATIONS[self.operation]
        rivals = dict(operation.spellings)
        if self.size <= SMALL:
            rivals[FLOOR] = "_empty({target})"
        if large:
            rivals |= {ROOFLINE + name: text for name, text in ROOFLINES[self.mode].items()}
        found = [Contender(OURS, operation.ours(self.operation)[self.mode], self.threads)]
        if self.threads > 1:
            found.append(Contender(ONE_THREAD, found[0].statement, 1))
        dtype = numpy_dtype(self.dtype)
        for name, forms in rivals.items():
            text = forms if isinstance(forms, str) else forms.get(self.mode)
            if text is None or ("{blas}" in text and dtype.char not in "fd"):
                continue  # BLAS would convert a copy of any other dtype
            if (self.operation, name) in OTHER_FUNCTIONS and dtype.kind in "biu":
                continue
            contender = Contender(name, self._fill(text), self.threads)
            serial = self.threads > 1 and contender.library in SERIAL
            found.append(replace(contender, threads=1) if serial else contender)
            if name == TORCH:
                found.append(replace(contender, name=OWN_TENSORS))
        return found

    def _fill(self, template: str) -> str:
        dtype, target = numpy_dtype(self.dtype), OPERATIONS[self.operation].target
        destination = {IN_PLACE: target, OUT: "o", NEW: ""}[self.mode]
        return template.format(
            target=target,
            out=destination and f", out={destination}",
            to=destination and f"{destination}[...] = ",
            zero="False" if dtype.kind == "b" else "0",
            top=np.iinfo(dtype).max if dtype.kind in "iu" else "np.inf",
            blas="d" if dtype == np.float64 else "s",
        )


Rivals = tuple[tuple[str, ...], ...]


def figure(
    operation: str, dtype: str, size: int, mode: str, *against: str | tuple[str, ...]
) -> tuple[Cell, Rivals]:
    cell = Cell(operation, dtype, size, mode)
    return cell, tuple((name,) if isinstance(name, str) else name for name in against)


FASTER_SPELLINGS = ("zeros", "clip")
FIGURES: dict[Cell, Rivals] = dict((
    figure("relu", "float32", 64, IN_PLACE, "maximum", TORCH, FASTER_SPELLINGS),
    figure("relu", "float32", 64, NEW, "maximum", TORCH),
    figure("leaky_relu", "float32", 64, IN_PLACE, "maximum", "typed", TORCH),
    figure("relu", "float32", 16_384, IN_PLACE, "maximum", TORCH, FASTER_SPELLINGS),
    figure("relu", "float32", 2**20, IN_PLACE, "maximum", TORCH, FASTER_SPELLINGS),
    figure("relu", "float32", 2**26, IN_PLACE, "maximum", TORCH, ROOFLINE),
    figure("relu", "float32", 2**25, OUT, "maximum", ROOFLINE + "copy"),
    figure("leaky_relu", "float32", 16_384, IN_PLACE, "maximum", "typed", TORCH),
    figure("relu_subgradient", "float32", 16_384, OUT, "greater", "heaviside"),
    figure("relu_backward", "float32", 16_384, IN_PLACE, "multiply", "mask", TORCH),
    figure("relu", "float16", 16_384, IN_PLACE, "maximum"),
    figure("relu", "bfloat16", 16_384, IN_PLACE, "maximum"),
    figure("relu", "int8", 16_384, IN_PLACE, "maximum"),
    figure("relu", "uint8", 16_384, IN_PLACE, "maximum"),
    figure("relu", "float64", 16_384, IN_PLACE, FASTER_SPELLINGS),
    figure("relu", "int64", 16_384, IN_PLACE, FASTER_SPELLINGS),
    figure("leaky_relu", "float16", 16_384, IN_PLACE, "maximum", TORCH),
    figure("relu_backward", "float16", 16_384, IN_PLACE, "multiply"),
    figure("relu_backward", "bfloat16", 16_384, IN_PLACE, "multiply"),
)) | {Cell("relu", "float32", 2**20, IN_PLACE, threads=2): ((ONE_THREAD,),)}  # fmt: skip
"""The cells that tell the story, and against whom: of a tuple the fastest, of a prefix too."""


def size_text(size: int) -> str:
    power = size.bit_length() - 1
    return f"2^{power}" if size > 2**16 and size == 2**power else f"{size:,}"


def numpy_dtype(name: str) -> np.dtype:
    return np.dtype(importlib.import_module("ml_dtypes").bfloat16 if name == "bfloat16" else name)


def slope_of(dtype: np.dtype) -> float:
    """SLOPE; for integers the only slope in [0, 1)."""
    return 0 if dtype.kind in "biu" else SLOPE


@cache
def dtypes(operation: str) -> tuple[str, ...]:
    """The dtypes of a ufunc's own loops, and bfloat16 where ml_dtypes is installed."""
    kinds = [types.replace("->", "") for types in getattr(ufuncs, operation).types]
    names = [np.dtype(kind[0]).name for kind in kinds if set(kind) == {kind[0]}]
    bfloat16 = ["bfloat16"] if importlib.util.find_spec("ml_dtypes") else []
    return tuple(dict.fromkeys([*names, *bfloat16]))


DTYPES = tuple(dict.fromkeys(name for operation in OPERATIONS for name in dtypes(operation)))


@cache
@np.errstate(under="ignore")  # a few are smaller than float16 has any
def _random(dtype: np.dtype) -> np.ndarray:
    rng = np.random.default_rng(0)
    if dtype.kind == "b":
        return rng.integers(2, size=PERIOD, dtype=np.uint8).astype(bool)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, PERIOD, dtype, endpoint=True)
    return rng.standard_normal(PERIOD, dtype=np.float32).astype(dtype)


def inputs(dtype: np.dtype, size: int) -> np.ndarray:
    """Random numbers of either sign, the same at every call: not to be written."""
    values = _random(dtype)
    return values[:size] if size <= PERIOD else np.resize(values, size)


def edges(dtype: np.dtype, finite: bool) -> dict[str, np.ndarray]:
    """Operands at the finite ends of a dtype's range; or zeros and what is not finite.

    Subnormal numbers go with the latter: a library may treat them as zero.
    """
    if dtype.kind in "biu":
        limits = [] if dtype.kind == "b" else [np.iinfo(dtype).min, np.iinfo(dtype).max]
        ends = np.array([0, 1, *limits] if finite else [], dtype)
        return {"g": ends[::-1], "x": ends}
    finfo = importlib.import_module("ml_dtypes").finfo if dtype.name == "bfloat16" else np.finfo
    top, least = finfo(dtype).max, finfo(dtype).smallest_subnormal
    if finite:
        ends = np.array([-top, -1, 0, 1, top], dtype)
        return {"g": ends[::-1], "x": ends}
    ends = np.array([np.nan, -0.0, 0.0, -np.inf, np.inf, -least, least], dtype)
    three, minus_one = np.full_like(ends, 3), np.full_like(ends, -1)
    return {"g": np.append(three, ends), "x": np.append(ends, minus_one)}


def namespace(library: str, dtype: np.dtype, size: int) -> dict[str, Any]:
    """The names that a library's statements use; ImportError where it is not installed."""
    names: dict[str, Any] = {"np": np, "_empty": _api._empty}
    names |= {name: getattr(relu_ext, name) for name in relu_ext.__all__}
    for module in LIBRARIES.get(library, ()):
        importlib.import_module(module)
        names[module.partition(".")[0]] = importlib.import_module(module.partition(".")[0])
    slope = slope_of(dtype)
    names |= {"slope": slope, "zeros": np.zeros(size, dtype)}
    scalars = {"zero": dtype.type(0), "one": dtype.type(1), "s": dtype.type(slope)}
    if library == "torch":
        names["F"] = names["torch"].nn.functional
        scalars = {name: view(library, np.array(value)) for name, value in scalars.items()}
    return names | scalars


def surroundings(contender: Contender) -> AbstractContextManager[Any]:
    """Where a contender is run: PyTorch's own tensors without the bookkeeping of autograd."""
    if contender.name == OWN_TENSORS:
        mode: AbstractContextManager[Any] = importlib.import_module("torch").inference_mode()
        return mode
    return nullcontext()


def view(library: str, array: np.ndarray) -> Any:
    """The array as the library's own type, over the same memory (JAX has only copies)."""
    if library == "jax":
        jax = importlib.import_module("jax")
        jax.config.update("jax_enable_x64", True)
        return jax.numpy.asarray(array)
    if library == "numexpr" and array.dtype.char == "g":
        raise TypeError("long double is computed in double")
    if library == "torch":
        torch = importlib.import_module("torch")
        if array.dtype.name == "bfloat16":
            return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
        return torch.from_numpy(array)
    return array


def as_numpy(result: Any) -> np.ndarray:
    """A result of any library, back in NumPy."""
    if type(result).__module__ == "torch":
        torch = importlib.import_module("torch")
        if result.dtype == torch.bfloat16:
            bits: np.ndarray = result.view(torch.uint16).numpy()
            return bits.view(numpy_dtype("bfloat16"))
    return np.asarray(result)


@cache
def _numba_kernel(source: str, parallel: bool) -> Any:
    """Compiled once for all processes that share NUMBA_CACHE_DIR: numba remembers by module."""
    numba = importlib.import_module("numba")
    directory = os.environ.get("NUMBA_CACHE_DIR")
    if not directory:
        scope: dict[str, Any] = {}
        exec(source, scope)
        return numba.njit(scope["kernel"], parallel=parallel)
    path = Path(directory, f"kernel_{hashlib.sha256(source.encode()).hexdigest()}.py")
    if not path.exists():
        path.write_text(source, encoding="utf-8")
    if directory not in sys.path:
        sys.path.append(directory)
    importlib.invalidate_caches()
    kernel = importlib.import_module(path.stem).kernel
    return numba.njit(kernel, parallel=parallel, cache=True)


def numba_statement(expression: str, cell: Cell, names: dict[str, Any]) -> str:
    """A call of the loop that a numba user would write around the expression."""
    operands = OPERATIONS[cell.operation].operands
    target = cell.written if cell.mode == IN_PLACE else "out"
    for name in operands:
        expression = re.sub(rf"\b{name}\b", f"{name}[i]", expression)
    expression = expression.replace("out[i]", f"{target}[i]")
    arguments = ", ".join(dict.fromkeys([*operands, target]))
    numbers = ", ".join(f"number({names[name]})" for name in ("zero", "one", "s"))
    names["kernel"] = _numba_kernel(
        f"""
import numpy
from numba import prange
number = numpy.dtype("{cell.dtype}").type
zero, one, s = {numbers}

def kernel({arguments}):
    for i in prange({target}.size):
        {expression}
    return {target}
""",
        cell.threads > 1,
    )
    output = {IN_PLACE: "", OUT: ", o", NEW: f", np.empty_like({operands[0]})"}[cell.mode]
    return f"kernel({', '.join(operands)}{output})"
