"""Write the package's names, and the static types of the front door and of the ufuncs, from the
operations' descriptions.

    python tools/stubs.py

A test fails where the files are not what this writes.
"""

import ast
from pathlib import Path

import relu_ext
from relu_ext._operations import OPERATIONS

PACKAGE = Path(__file__).parents[1] / "src/relu_ext"

HEAD = """\
# Written by tools/stubs.py.
#
# The overloads of an operation: calls with a NumPy scalar, which promotes, although np.float64 is a
# float to a type checker; plain calls, whose dtype is known; of other dtypes, an array, without
# which mypy would take a result of the wrong dtype for Any; `out`, which is returned; all others.

from typing import Any, Literal, Protocol, TypeAlias, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from typing_extensions import Buffer

class _DLPack(Protocol):
    def __dlpack__(self, *arguments: Any, **keywords: Any) -> Any: ...
    def __dlpack_device__(self) -> tuple[Any, int]: ...

_T = TypeVar("_T")
_Scalar = TypeVar("_Scalar", bound=np.generic)
_Float = TypeVar("_Float", bound=np.floating[Any])
_Int = TypeVar("_Int", bound=np.integer[Any])
_Out = TypeVar("_Out", bound=NDArray[Any])
_Written = TypeVar("_Written", bound=NDArray[Any] | Buffer | _DLPack)
_Casting: TypeAlias = Literal["no", "equiv", "safe", "same_kind", "unsafe"]
_Order: TypeAlias = Literal["K", "A", "C", "F"]

"""
PACKAGE_HEAD = """\
# Written by tools/stubs.py: mypy does not read `__all__ += _api.__all__`.
# ruff: noqa: F401, F403, F405
"""
KEYWORDS = [
    "where: ArrayLike = True",
    'casting: _Casting = "same_kind"',
    'order: _Order = "K"',
    "dtype: DTypeLike | None = None",
    "subok: bool = True",
]


def function(name, parameters, result):
    """As ruff formats it."""
    line = f"def {name}({', '.join(parameters)}) -> {result}: ...\n"
    if len(line) <= 101:
        return line
    inner = f"    {', '.join(parameters)}\n"
    if len(inner) > 101 or len(parameters) > 5:
        inner = "".join(f"    {parameter},\n" for parameter in parameters)
    return f"def {name}(\n{inner}) -> {result}: ...\n"


def signature(operation, array, number, first=None):
    """The parameters, of which arrays are typed `array`, the first `first`, and the number
    `number`."""
    rest = operation.signature[1:-1].split(", ")
    typed = []
    for i, part in enumerate(rest):
        name, _, default = part.partition("=")
        if name in operation.arrays:
            typed.append(f"{name}: {first if first and i == 0 else array}")
        elif name == operation.parameter:
            typed.append(f"{name}: {number}" + f" = {default}" * (number != "np.generic"))
        else:
            typed.append(name)
    return typed


def overloads(operation):
    if operation.parameter is None:
        yield signature(operation, "NDArray[_Scalar]", ""), "NDArray[_Scalar]"
        yield signature(operation, "NDArray[Any]", ""), "NDArray[np.generic]"
    else:
        keeps_integers = isinstance(operation.default, int)
        yield signature(operation, "ArrayLike", "np.generic"), "Any"
        yield signature(operation, "NDArray[_Float]", "float"), "NDArray[_Float]"
        integer = signature(operation, "NDArray[_Int]", "int")
        if not keeps_integers:
            integer = [part.removesuffix(f" = {operation.default}") for part in integer]
            yield integer, "NDArray[_Int]"
            some = signature(operation, "NDArray[np.integer[Any]]", "float")
            yield some, "NDArray[np.float64]"
        else:
            yield integer, "NDArray[_Int]"
        yield signature(operation, "NDArray[Any]", "float"), "NDArray[np.generic]"
    anything = signature(operation, "ArrayLike", "ArrayLike")
    star = [] if "*" in anything else ["*"]
    yield [*anything, *star, "out: _Out | tuple[_Out]", *KEYWORDS], "_Out"
    yield [*anything, *star, "out: None = None", *KEYWORDS], "Any"


def exported(names):
    """The statement of `__all__`."""
    return "__all__ = [\n" + "".join(f'    "{name}",\n' for name in sorted(names)) + "]\n"


def api():
    """_api.pyi."""
    names = [operation.name for operation in OPERATIONS]
    parts = [HEAD, exported([*names, *(name + "_" for name in names)])]
    parts.append("\ndef _empty(x: _T, /) -> _T: ...\n")
    for operation in OPERATIONS:
        for parameters, result in overloads(operation):
            parts.append("@overload\n" + function(operation.name, parameters, result))
        parameters = signature(operation, "ArrayLike", "ArrayLike", first="_Written")
        parts.append(function(operation.name + "_", parameters, "_Written"))
    return "".join(parts)


def ufuncs():
    """ufuncs.pyi."""
    names = [operation.name for operation in OPERATIONS]
    types = "".join(f"{name}: np.ufunc\n" for name in names)
    head = "# Written by tools/stubs.py.\n\nimport numpy as np\n"
    return f"{head}\n{exported(names)}\n{types}"


def package():
    """__init__.pyi: the imports of __init__.py, and every name."""
    statements = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8")).body
    imports = [ast.unparse(node) for node in statements if isinstance(node, ast.ImportFrom)]
    return "\n".join([PACKAGE_HEAD, *imports, "", exported(relu_ext.__all__)])


STUBS = {"__init__.pyi": package, "_api.pyi": api, "ufuncs.pyi": ufuncs}

if __name__ == "__main__":
    for file, write in STUBS.items():
        (PACKAGE / file).write_text(write(), encoding="utf-8")
