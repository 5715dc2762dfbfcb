"""Which cells a run measures, and which contenders take part in them."""

from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any

from suite import cases
from suite.cases import ELEMENTWISE, IN_PLACE, NEW, OPERATIONS, OUT, TORCH, Cell, Contender
from suite.layouts import CONTIGUOUS, SIZED, TENSORS, VIEWS, layout, size_of

LIBRARIES = {"quick": ("numpy",), "default": ("numpy", "scipy", TORCH), "full": cases.LIBRARIES}
FEW = 2**27
"""From this many bytes on, only the contenders that a reader looks for take part."""
TABLE_SIZES = (64, 16_384, 2**20)
SWEEP_SIZES = tuple(2**power for power in range(4, 25, 2))
FLOAT32, HALVES = ("float32",), ("float16", "bfloat16")
COMMON = ("float64", *HALVES)
FIRST_ROWS = next(label for label, view in VIEWS.items() if view.kind == "rows")
BIAS = "(64, 128), bias (128,)"
MAXOUT = "(64, 50, 4), axis -1"
POOLING = "(50, 30, 12, 2, 12, 2), axis (3, 5)"
BASIC = ("relu", "leaky_relu", "relu_backward")

HEADLINES = (
    Cell("relu", "float32", 64, IN_PLACE),
    Cell("relu", "float32", 16_384, IN_PLACE),
    Cell("relu", "float16", 16_384, IN_PLACE),
    Cell("leaky_relu", "float32", 16_384, IN_PLACE),
    Cell("relu_backward", "float32", 16_384, IN_PLACE),
    Cell.of("add_relu", "float32", BIAS, IN_PLACE),
    Cell.of("add_relu_backward", "float32", BIAS, IN_PLACE),
    Cell.of("maxout", "float32", MAXOUT, NEW),
    Cell.of("maxout", "float32", POOLING, NEW),
)
"""The rows of the README's table."""
MEMORY_BOUND = (
    Cell("relu", "float32", 2**26, IN_PLACE),
    *(Cell(name, "float32", 2**power, OUT) for name in BASIC for power in (25, 23, 22)),
)
"""Cells whose roofline says more than their rivals."""
THREADS = Cell("relu", "float32", 2**20, IN_PLACE, threads=2)

ADDING = tuple(name for name in ELEMENTWISE if "y" in OPERATIONS[name].operands)
MAXOUTS = ("maxout", "maxout_which", "maxout_backward")
VIEWED = (  # in a full run: a layout or a kind of layouts, operations, dtypes and modes
    ("rows", BASIC, FLOAT32, (IN_PLACE,)),
    ("rows", ("relu",), (*COMMON, "int8"), (IN_PLACE,)),
    ("rows", ("relu",), FLOAT32, (NEW,)),
    ("inside", BASIC, FLOAT32, (IN_PLACE,)),
    ("steps", BASIC, FLOAT32, (IN_PLACE,)),
    *((kind, tuple(OPERATIONS), FLOAT32, (IN_PLACE, NEW)) for kind in (
        "columns", "channels", "bias", "pieces", "many pieces", "windows", "mask", "wider x",
        "wider bias", "scalar",
    )),
    ("conv output", BASIC, ("float32", "float64"), (IN_PLACE, OUT)),
    ("transposed", BASIC, FLOAT32, (IN_PLACE,)),
    (BIAS, ADDING, HALVES, (IN_PLACE,)),
    (BIAS, cases.SUMS[:1], COMMON, (IN_PLACE,)),
    (MAXOUT, MAXOUTS, HALVES, (NEW,)),
    ("many pieces", MAXOUTS, ("int8",), (NEW,)),
    ("where", ("relu_where",), ("float32", "float16"), (OUT,)),
)  # fmt: skip


def whole() -> Iterator[Cell]:
    """The contiguous cells of a full run."""
    for name in ELEMENTWISE:
        places = [
            *((dtype, 16_384, IN_PLACE) for dtype in cases.dtypes(name)),
            *(("float32", size, IN_PLACE) for size in SWEEP_SIZES),
            *product((*COMMON, "int8", "int64"), (2**20,), (IN_PLACE,)),
            *product(FLOAT32, (*TABLE_SIZES, 2**24), (OUT,)),
            *product(COMMON, (16_384, 2**20), (OUT,)),
            *product(FLOAT32, TABLE_SIZES, (NEW,)),
            *product(COMMON, (16_384,), (NEW,)),
        ]
        yield from (Cell(name, *place) for place in places)


def views() -> Iterator[Cell]:
    """The cells of a full run whose layout is a view, or PyTorch's tensors."""
    for layouts, names, dtypes, modes in VIEWED:
        for name, (label, view), dtype, mode in product(names, VIEWS.items(), dtypes, modes):
            if layouts in (label, view.kind) and mode in cases.modes(name, view.kind):
                yield Cell.of(name, dtype, label, mode)
    for name, size in product(BASIC, TABLE_SIZES[:2]):
        yield Cell(name, "float32", size, IN_PLACE, layout=TENSORS)


def small() -> Iterator[Cell]:
    """A table for each elementwise operation."""
    for name, mode, size in product(ELEMENTWISE, (IN_PLACE, NEW), TABLE_SIZES):
        yield Cell(name, "float32", size, mode)


def usual() -> Iterator[Cell]:
    """The cells of a run without arguments, with one view of each kind in each mode."""
    yield from (*HEADLINES, *MEMORY_BOUND[:2], THREADS, *small())
    yield from (Cell(name, "float64", 16_384, IN_PLACE) for name in ELEMENTWISE)
    chosen: dict[tuple[str, str], Cell] = {}
    for cell in views():
        chosen.setdefault((cell.where.kind, cell.mode), cell)
    yield from chosen.values()


def asked_for(args: Any) -> Iterator[Cell]:
    """Every cell of the operations, dtypes, sizes and layouts that the user names."""
    wanted = {*(args.layout or (CONTIGUOUS, "pieces"))}
    sized = product(SIZED, args.size or TABLE_SIZES)
    own_size = () if args.size else ((label, size_of(label)) for label in VIEWS)
    names, dtypes, places = args.op or OPERATIONS, args.dtype or FLOAT32, (*sized, *own_size)
    for name, dtype, (label, size) in product(names, dtypes, places):
        where = layout(label, size)
        if {label, where.kind} & wanted and dtype in cases.dtypes(name):
            for mode in cases.modes(name, where.kind):
                yield Cell(name, dtype, size, mode, args.threads, label)


def cells(args: Any) -> list[Cell]:
    """The cells of a run, each once."""
    if args.narrowed or args.threads > 1:
        found: Iterable[Cell] = asked_for(args)
    elif args.extent == "full":
        found = (*HEADLINES, *MEMORY_BOUND, THREADS, *whole(), *views())
    elif args.extent == "quick":
        found = (*small(), *HEADLINES[-4:])
    else:
        found = usual()
    return list(dict.fromkeys(found))


def taking_part(cell: Cell, args: Any) -> Iterator[Contender]:
    """relu_ext and the contenders that were asked for, but only a few where a call takes long."""
    asked = {*(args.against or LIBRARIES[args.extent])}
    few = (cell.usual, TORCH, cases.OWN_TENSORS, "numba")
    for contender in cell.contenders():
        name, library = contender.name, contender.library
        if library == cases.OURS or name == cases.FLOOR:
            yield contender
        elif cell.threads != args.threads:
            continue  # relu_ext against itself
        elif name.startswith(cases.ROOFLINE):
            if library in ("numpy", *asked):
                yield contender
        elif {name, library} & asked and (cell.nbytes < FEW or name in few):
            yield contender
