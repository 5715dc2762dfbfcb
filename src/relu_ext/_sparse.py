"""scipy.sparse: 0 stays 0, so only the stored elements change."""

import sys
from typing import Any

import numpy as np


def is_sparse(x: object) -> bool:
    """Whether `x` is an array or matrix of scipy.sparse."""
    module = sys.modules.get("scipy.sparse")
    return module is not None and bool(module.issparse(x))


def _refuse(name: str, operands: tuple[Any, ...], keywords: dict[str, Any]) -> None:
    matrix = operands[0]
    if (
        name.rstrip("_") not in ("relu", "leaky_relu")
        or not is_sparse(matrix)
        or any(is_sparse(x) or np.ndim(x) > 0 for x in operands[1:])
        or not keywords.keys() <= {"casting", "dtype"}
    ):
        raise TypeError(
            f"{name}: only relu and leaky_relu with a single slope take a sparse array, without "
            f"`out` or `where`; use x.toarray(), or x.data for the stored elements"
        )
    if matrix.format in ("lil", "dok"):
        raise TypeError(
            f"{name}: a sparse array of format {matrix.format} is not supported; use x.tocsr()"
        )


def _sum_duplicates(matrix: Any) -> None:
    """Add up elements that are stored twice, because the function acts on their sum."""
    if matrix.format != "dia":  # It stores nothing twice.
        matrix.sum_duplicates()


def _numbers(name: str, operands: tuple[Any, ...]) -> list[Any]:
    """The operands after the first as numbers of Python or NumPy.  Those of another library would
    make the stored elements an array of that library."""
    for x in operands:
        if isinstance(x, np.ma.MaskedArray):
            raise TypeError(f"{name}: a masked slope of a sparse array is not supported")
    return [x if type(x) in (int, float) else np.asarray(x)[()] for x in operands]


def call_on_sparse(
    name: str, ufunc: np.ufunc, operands: tuple[Any, ...], keywords: dict[str, Any]
) -> Any:
    """Return a new sparse array with a function of each stored element."""
    _refuse(name, operands, keywords)
    result = operands[0].copy()
    _sum_duplicates(result)
    result.data = ufunc(result.data, *_numbers(name, operands[1:]), **keywords)
    return result


def write_sparse(name: str, ufunc: np.ufunc, operands: tuple[Any, ...]) -> None:
    """Write a function of a sparse array over the elements that the array stores."""
    _refuse(name, operands, {})
    matrix, others = operands[0], _numbers(name, operands[1:])
    none = matrix.data[:0]
    ufunc(none, *others, out=none)  # an error comes before duplicates are summed
    _sum_duplicates(matrix)
    ufunc(matrix.data, *others, out=matrix.data)
