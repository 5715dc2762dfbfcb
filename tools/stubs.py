"""Write the static types of what computes, from the operations' descriptions and from signatures,
and what functions do into every stub.

    python tools/stubs.py

A test fails where the files are not what this writes.
"""

import importlib
import inspect
import re
from pathlib import Path

import relu_ext
from relu_ext import _sums
from relu_ext._operations import OPERATIONS, Operation

PACKAGE = Path(__file__).parents[1] / "src/relu_ext"

HEAD = """\
# Written by tools/stubs.py.
#
# The overloads of an operation: plain calls on arrays, which keep their dtype; all others.  With a
# parameter only floating dtypes are kept, and to a type checker np.float64 is a float, although it
# promotes float32.  Without, there is one more, because mypy would else take a result of the wrong
# dtype for Any.

from typing import Any, Literal, Protocol, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from typing_extensions import Buffer, TypeVar

class DLPack(Protocol):
    def __dlpack__(self, *arguments: Any, **keywords: Any) -> Any: ...
    def __dlpack_device__(self) -> tuple[Any, int]: ...

T = TypeVar("T")
Scalar = TypeVar("Scalar", bound=np.generic)
Float = TypeVar("Float", bound=np.floating[Any])
Out = TypeVar("Out", bound=NDArray[Any] | DLPack, default=Any)
Written = TypeVar("Written", bound=NDArray[Any] | Buffer | DLPack)

"""
SUMS_HEAD = """\
# Written by tools/stubs.py.

from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import TypeVar

from relu_ext._api import DLPack, Float, Written

Learned = TypeVar("Learned", bound=np.floating[Any])
First = TypeVar("First", bound=NDArray[Any] | DLPack, default=Any)
Second = TypeVar("Second", bound=NDArray[Any] | DLPack, default=Any)

def add(grad: NDArray[Any], x: NDArray[Any], learned: NDArray[Any], of_slope: bool) -> bool: ...
"""
MAXOUT_HEAD = """\
# Written by tools/stubs.py.

from typing import Any, Literal, SupportsIndex, TypeAlias, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import TypeVar

from relu_ext._api import Out, Scalar

Which = TypeVar("Which", bound=NDArray[np.integer[Any]], default=Any)
Axis: TypeAlias = SupportsIndex | tuple[SupportsIndex, ...]

"""
PRELU = Operation("prelu", ("x",), "slope")
"""A name of leaky_relu's body, which is no operation of its own."""
KEYWORDS = {
    "out": "Out | tuple[Out] | None",
    "where": "ArrayLike",
    "casting": 'Literal["no", "equiv", "safe", "same_kind", "unsafe"]',
    "order": 'Literal["K", "A", "C", "F"]',
    "dtype": "DTypeLike | None",
    "subok": "bool",
}
TYPES = {"at_zero": "Literal[0, 1] | None", "axis": "Axis", "pieces": "Axis"}
"""Those of parameters that have no other; the rest are like arrays."""
FLOATS = dict.fromkeys(("grad", "output", "x"), "NDArray[Float]")
LEARNED = dict.fromkeys(("y", "slope"), "NDArray[Learned]")
NEW = (
    (FLOATS | LEARNED | {"negative_slope": "float"}, "tuple[NDArray[Float], NDArray[Learned]]"),
    ({"out": "tuple[First | None, Second | None] | None"}, "tuple[First, Second]"),
)
IN_PLACE = (
    ({"grad": "Written"} | LEARNED, "tuple[Written, NDArray[Learned]]"),
    ({"grad": "Written"}, "tuple[Written, Any]"),
)
SUMS = {
    name: IN_PLACE if name.endswith("_") else NEW
    for name in relu_ext.__all__
    if hasattr(_sums, name)
}
ARRAYS = {"grad": "NDArray[Scalar]", "which": "NDArray[np.integer[Any]]", "out": "None"}
PAIR = "tuple[Out | None, Which | None] | None"
MAXOUT = {
    "maxout": (
        ({"out": KEYWORDS["out"], "return_which": "Literal[False]"}, "Out"),
        ({"out": PAIR, "return_which": "Literal[True]"}, "tuple[Out, Which]"),
        ({"out": "None", "return_which": "bool"}, "Any"),
    ),
    "maxout_backward": (
        (ARRAYS, "NDArray[Scalar]"),
        ({"out": "Out | tuple[Out]"}, "Out"),
        ({"out": "None"}, "NDArray[Any]"),
    ),
}


def function(name, parameters, result):
    """As ruff formats it."""
    line = f"def {name}({', '.join(parameters)}) -> {result}: ...\n"
    if len(line) <= 101:
        return line
    inner = f"    {', '.join(parameters)}\n"
    if len(inner) > 101 or len(parameters) > 5:
        inner = "".join(f"    {parameter},\n" for parameter in parameters)
    return f"def {name}(\n{inner}) -> {result}: ...\n"


def typed(name, types):
    """The parameters of a function with their types, without keywords that have none here and
    without defaults of other types."""
    types = TYPES | types
    parts, before = [], None
    for parameter in inspect.signature(getattr(relu_ext, name)).parameters.values():
        if before == parameter.POSITIONAL_ONLY != parameter.kind:
            parts.append("/")
        keyword = parameter.kind == parameter.KEYWORD_ONLY
        if not keyword or parameter.name in types:
            if keyword and "*" not in parts:
                parts.append("*")
            default, annotation = parameter.default, types.get(parameter.name, "ArrayLike")
            text = f'"{default}"' if isinstance(default, str) else repr(default)
            listed = default is None or "Literal" in annotation
            refused = default is parameter.empty or (listed and text not in annotation)
            parts.append(f"{parameter.name}: {annotation}" + ("" if refused else f" = {text}"))
        before = parameter.kind
    return [*parts, "/"] if before == parameter.POSITIONAL_ONLY else parts


def overloads(functions):
    """Functions, each with the types of its parameters and of its result in each overload."""
    return "".join(
        "@overload\n" + function(name, typed(name, types), result)
        for name, each in functions.items()
        for types, result in each
    )


def of_operation(operation):
    """The types of the parameters and of the result in each overload."""
    if operation.parameter:
        kept = {"NDArray[Float]": "NDArray[Float]"}
    else:
        kept = {"NDArray[Scalar]": "NDArray[Scalar]", "NDArray[Any]": "NDArray[np.generic]"}
    plain = [(array, "float", result, {}) for array, result in kept.items()]
    for array, number, result, others in (*plain, ("ArrayLike", "ArrayLike", "Out", KEYWORDS)):
        types = dict.fromkeys(operation.arrays, array) | {operation.parameter: number}
        yield types | others, result


def exported(names):
    """The statement of `__all__`."""
    return "__all__ = [\n" + "".join(f'    "{name}",\n' for name in sorted(names)) + "]\n"


def api():
    """_api.pyi."""
    operations = [*OPERATIONS, PRELU]
    names = [operation.name for operation in operations]
    parts = [HEAD, exported([*names, *(name + "_" for name in names)])]
    parts.append("\ndef _empty(x: T, /) -> T: ...\n")
    for operation in operations:
        parts.append(overloads({operation.name: of_operation(operation)}))
        name, types = operation.name + "_", {operation.parameter: "ArrayLike"}
        types[operation.arrays[0]] = "Written"
        parts.append(function(name, typed(name, types), "Written"))
    return "".join(parts)


def ufuncs():
    """ufuncs.pyi."""
    names = [operation.name for operation in OPERATIONS]
    types = "".join(f"{name}: np.ufunc\n" for name in names)
    head = "# Written by tools/stubs.py.\n\nimport numpy as np\n"
    return f"{head}\n{exported(names)}\n{types}"


def docstring(function):
    """The first line and the parameters, as the body of a function in a stub."""
    first, _, rest = inspect.getdoc(function).partition("\n\n")
    found = re.search(r"^Parameters\n-+\n(?:.+\n)*", rest, re.MULTILINE)
    lines = ['"""' + first, *(["", *found[0].splitlines(), '"""'] if found else [])]
    text = "".join(f"    {line}".rstrip() + "\n" for line in lines)
    return text if found else text.rstrip("\n") + '"""\n'


def described(module, text):
    """A stub in which the first signature of each public function has a docstring, and nothing else
    has one."""
    text = re.sub(r':\n    """(?:[^"]|"(?!""))*"""\n+', ": ...\n", text)
    for name in {*re.findall(r"^def (\w+)\(", text, re.MULTILINE)} & {*relu_ext.__all__}:
        head = re.search(rf"^def {name}\((?:.|\n)*?\) -> .*?:( \.\.\.\n)", text, re.MULTILINE)
        body = f"\n{docstring(getattr(module, name))}\n"
        text = text[: head.start(1)] + body + text[head.end(1) :]
    return text.rstrip("\n") + "\n"


def written(stub):
    """What a stub is to be, and so what this writes."""
    text = GENERATED[stub]() if stub in GENERATED else (PACKAGE / stub).read_text("utf-8")
    return described(importlib.import_module(f"relu_ext.{stub.removesuffix('.pyi')}"), text)


GENERATED = {
    "_api.pyi": api,
    "_maxout.pyi": lambda: MAXOUT_HEAD + overloads(MAXOUT),
    "_sums.pyi": lambda: SUMS_HEAD + overloads(SUMS),
    "ufuncs.pyi": ufuncs,
}
STUBS = sorted({*GENERATED, *(path.name for path in PACKAGE.glob("*.pyi"))})

if __name__ == "__main__":
    for stub in STUBS:
        (PACKAGE / stub).write_text(written(stub), encoding="utf-8")
