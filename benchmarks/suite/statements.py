"""Compile statements: provide the names they use and each library's arrays, and write the loop."""

import hashlib
import importlib
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from textwrap import indent
from types import ModuleType
from typing import Any

import numpy as np
import relu_ext
from relu_ext import _api

from suite import cases
from suite.cases import IN_PLACE, NEW, OUT, TORCH, Cell, Contender

Call = Callable[..., Any]
Loop = Callable[[list[Any], list[Any]], int]


class Refused(Exception):
    """A library does not take the dtype."""


@contextmanager
def refusals() -> Iterator[None]:
    """Turn what a library raises into a refusal, unless the library is not installed."""
    try:
        yield
    except (ImportError, Refused):
        raise
    except Exception as error:
        raise Refused(str(error).strip().partition("\n")[0] or type(error).__name__) from error


def slopes(cell: Cell) -> np.ndarray:
    """The slope, or one per column or channel; for integers 0, the only one in [0, 1).

    Powers of two are exact in every floating dtype, so that rounding the slope before the product
    gives the same as rounding the product.
    """
    dtype = np.dtype(cell.dtype)
    if shape := cell.where.slopes:
        exponents = -1.0 - np.arange(np.prod(shape)) % 7
        return np.exp2(exponents).astype(dtype).reshape(shape)
    return np.array(0 if dtype.kind in "biu" else 2.0**-7, dtype)


def namespace(library: str, cell: Cell) -> dict[str, Any]:
    """The names that a library's statements use; ImportError if it is not installed."""
    dtype, where, slope = np.dtype(cell.dtype), cell.where, slopes(cell)
    names: dict[str, Any] = {"np": np, "_empty": _api._empty}
    names |= {name: getattr(relu_ext, name) for name in relu_ext.__all__}
    if library in cases.LIBRARIES:
        names[library] = importlib.import_module(library)
    s = slope if where.slopes else slope[()]
    scalars = {"zero": dtype.type(0), "one": dtype.type(1), "s": s}
    if library == TORCH:
        names["F"] = names["torch"].nn.functional
        scalars = {name: view(library, np.asarray(value)) for name, value in scalars.items()}
        scalars["weight"] = scalars["s"].reshape(-1)
    if library == "thinc":
        names["thinc_ops"] = importlib.import_module("thinc.api").NumpyOps()
    names["slope"] = scalars["s"] if where.slopes else slope.item()
    if where.other[0] == "slope" and library != TORCH:
        names["slope"] = cell.dtype_of("slope").type(slope)
    if where.slopes:
        shape = (1,) * (len(where.computed) - len(where.slopes)) + where.slopes
        names["along"] = tuple(at for at, length in enumerate(shape) if length == 1)
        letters = "ijkl"[: len(shape)]
        kept = "".join(letter for letter, length in zip(letters, shape, strict=True) if length > 1)
        names["subscripts"] = f"{letters},{letters}->{kept}"
    names["zeros"] = np.zeros(where.computed, dtype)
    if where.axis is not None:
        names |= {"axis": where.axis, "pieces": where.lengths, "shape": where.shape}
        names["computed"] = where.computed
        if isinstance(where.axis, tuple):
            above, below = where.axis
            first, second = (math.prod(where.shape[at - 1 : at + 1]) for at in where.axis)
            names["images"] = (*where.shape[: above - 1], first, second, *where.shape[below + 1 :])
            if library == TORCH:
                names["image"] = view(library, np.empty(names["images"], dtype))
        lengths = np.ones(len(where.shape), int)
        np.put(lengths, where.axis, where.lengths)
        names["numbers"] = np.arange(where.pieces, dtype=np.min_scalar_type(where.pieces)).reshape(
            lengths
        )
    return names | scalars


def surroundings(contender: Contender) -> AbstractContextManager[Any]:
    """The context of a contender: PyTorch's own tensors run without the bookkeeping of autograd."""
    own = contender.name == cases.OWN_TENSORS
    return importlib.import_module("torch").inference_mode() if own else nullcontext()


@refusals()
def view(library: str, array: np.ndarray) -> Any:
    """The array as the library's own type, over the same memory.

    JAX has only copies, which it may make in the background.
    """
    if library == "jax":
        jax = importlib.import_module("jax")
        jax.config.update("jax_enable_x64", True)
        return jax.numpy.array(array).block_until_ready()
    if library == "thinc" and array.dtype == np.uint8:
        return array.astype(np.int32)  # its type for the pieces that won
    if library == TORCH:
        torch = importlib.import_module("torch")
        if array.dtype.name == "bfloat16":
            return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
        return torch.from_numpy(array)
    return array


def as_arrays(result: Any) -> tuple[np.ndarray, ...]:
    """Any library's results as NumPy's arrays."""
    if isinstance(result, tuple):
        return tuple(array for part in result for array in as_arrays(part))
    if str(getattr(result, "dtype", "")) == "torch.bfloat16":
        torch = importlib.import_module("torch")
        return (result.view(torch.uint16).numpy().view("bfloat16"),)
    return (np.asarray(result),)


@cache
def _numba_kernel(source: str, parallel: bool) -> Any:
    """The kernel, compiled once for all processes that share NUMBA_CACHE_DIR.

    Numba caches what it has compiled only for functions of a module that is a file.
    """
    directory = os.environ["NUMBA_CACHE_DIR"]
    path = Path(directory, f"kernel_{hashlib.sha256(source.encode()).hexdigest()}.py")
    if not path.exists():
        path.write_text(source, encoding="utf-8")
    if directory not in sys.path:
        sys.path.append(directory)
    importlib.invalidate_caches()
    kernel = importlib.import_module(path.stem).kernel
    return importlib.import_module("numba").njit(kernel, parallel=parallel, cache=True)


def _numba_statement(expression: str, cell: Cell, names: dict[str, Any]) -> str:
    """A call of the nested loops that a numba user would write around the expression."""
    where, target = cell.where, cell.written if cell.mode == IN_PLACE else "out"
    expression = expression.replace("out[i]", target).replace("; ", "\n")
    total = where.bias or where.slopes if "total" in expression else ()
    inputs = [name for name in cell.operands if name != "o"] + ["s"] * bool(where.slopes)
    shapes = dict.fromkeys([*inputs, target], where.computed)
    own = (("y", where.bias), ("s", where.slopes), ("total", total))
    shapes |= {name: shape for name, shape in own if shape}
    letters = "ijkl"[: len(where.computed)]
    for name, shape in shapes.items():
        pairs = zip(letters[len(letters) - len(shape) :], shape, strict=True)
        index = ", ".join("0" if length == 1 else letter for letter, length in pairs)
        expression = re.sub(rf"\b{name}\b", f"{name}[{index}]", expression)
    loops = expression
    for depth, letter in reversed(list(enumerate(letters))):
        each = f"{'range' if depth else 'prange'}({target}.shape[{depth}])"
        loops = f"for {letter} in {each}:\n{indent(loops, ' ' * 4)}"
    numbers = {name: names[name] for name in ("zero", "one", "s") if name not in inputs}
    source = f"""
import numpy
from numba import prange
number = numpy.dtype("{cell.dtype}").type
{"; ".join(f"{name} = number({value})" for name, value in numbers.items())}

def kernel({", ".join(dict.fromkeys([*inputs, target]))}):
    total = numpy.zeros({total}, number)
{indent(loops, " " * 4)}
    return {target}{", total" * bool(total)}
"""
    names["kernel"] = _numba_kernel(source, cell.threads > 1)
    output = {IN_PLACE: "", OUT: ", o", NEW: f", np.empty({where.computed}, {inputs[0]}.dtype)"}
    return f"kernel({', '.join(inputs)}{output[cell.mode]})"


def _bind(statement: str, names: dict[str, Any]) -> str:
    """Look dotted names up beforehand, so that every contender calls a local variable."""

    def bound(match: re.Match[str]) -> str:
        path, name = match[0], match[0].replace(".", "_")
        if not isinstance(names.get(path.partition(".")[0]), ModuleType):
            return path
        with refusals():
            names[name] = eval(path, {}, names)
        return name

    return re.sub(r"\b[a-zA-Z_]\w*(\.\w+)+", bound, statement)


def compile_statement(cell: Cell, contender: Contender) -> tuple[Call, Loop]:
    """A function that calls the statement once, and the loop that is timed.

    The loop is the same for every contender. It subtracts what the same code takes over an empty
    ring: reading the clock added 30 ns on one machine and 700 on another, to as little as one call.
    Raise ImportError if the library is not installed.
    """
    names = namespace(contender.library, cell)
    statement = contender.statement
    if contender.library == "numba":
        statement = _numba_statement(statement, cell, names)
    statement, operands = _bind(statement, names).replace("; ", "\n"), ", ".join(cell.operands)
    bound = "".join(f", {name}={name}" for name in names if re.search(rf"\b{name}\b", statement))
    returns = cell.mode == NEW or cell.operation in cases.SUMS
    once = f"return {statement}" if returns else f"{statement}\nreturn {cell.written}"
    source = f"""
def call({operands}{bound}):
{indent(once, " " * 4)}

def loop(warm, ring, clock=clock{bound}):
    took = 0
    for part in (warm, (), ring):
        before, start = took, clock()
        for {operands} in part:
{indent(statement, " " * 12)}
        took = clock() - start
    return took - before
"""
    scope: dict[str, Any] = names | {"clock": time.perf_counter_ns}
    exec(source, scope)
    return scope["call"], scope["loop"]
