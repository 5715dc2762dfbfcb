"""Write results as text: a line for each cell, what is overhead, and remarks on the whole."""

import statistics
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from suite import cases, plan, results
from suite.cases import OURS, TORCH
from suite.experiment import Experiment
from suite.layouts import CONTIGUOUS
from suite.programs import COMPILED, EAGER, NUMPY, NUMPY_SUMS, is_part
from suite.results import Cells, Measured, Timing, number_text, time_text

Rows = list[list[str]]
OVERHEADS = {
    cases.FLOOR: "an empty call",
    cases.DENSE: "on contiguous arrays",
    cases.ONE_SLOPE: "with one slope",
    cases.PYTHON_NUMBER: "with a Python slope",
    cases.COPIED_FIRST: "as a copy first, then in place",
    cases.WITHOUT_ADDING: "without adding",
    cases.NDARRAY: "on an ndarray",
    cases.ONE_THREAD: "on one thread",
}
"""What relu_ext is compared with that is no rival."""
OVERHEAD = "Overhead: how many times as long relu_ext takes"
ZEROS = (
    "`zeros` is an array of zeros of x's shape, made beforehand: NumPy compares two arrays faster "
    "than an array and a number."
)


def machine_line(data: dict[str, Any]) -> str:
    machine, threads = data["machine"], data["settings"]["threads"]
    caches = ", ".join(f"{level} {size // 1024:,} KiB" for level, size in machine["caches"].items())
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"{machine['processor']}, {machine['cpus']} CPUs, {caches}; level "
        f"{data['settings']['level']}; {threads} thread{'s' * (threads > 1)} for every library "
        f"that has them; {machine['python']}, {versions}"
    )


def by_operation(cells: Cells) -> Iterator[tuple[str, list[Measured], list[str]]]:
    """Yield each operation, its cells, and what they are compared with."""
    ordered = sorted(cells.values(), key=lambda m: (
        m.cell.layout != CONTIGUOUS, cases.MODES.index(m.cell.mode),
        cases.DTYPES.index(m.cell.dtype), m.cell.size,
    ))  # fmt: skip
    for operation in cases.OPERATIONS:
        if found := [m for m in ordered if m.cell.operation == operation]:
            statements: dict[str, dict[str, None]] = {"NumPy": {}}
            for m in found:
                if m.usual:
                    statements["NumPy"][m.usual.contender.statement] = None
                best = m.fastest()
                if best and best is not m.usual and not (best.short == "chain" in statements):
                    statements.setdefault(best.short, {})[best.contender.statement] = None
            yield operation, found, [f"{name}: {' | '.join(f'`{text}`' for text in texts)}"
                                     for name, texts in statements.items() if texts]  # fmt: skip


def compared(m: Measured, *, interval: bool = False) -> list[str]:
    """The time of a cell, how many times as fast as NumPy it is, and as which best rival."""
    best = m.fastest()
    ratios = [timing.text(interval=interval) if timing else "–" for timing in (m.usual, best)]
    name = "" if not best else "NumPy" if best is m.usual else best.short
    return [time_text(m.ours.ns), *ratios, name]


def called(m: Measured) -> list[str]:
    """The function of a cell and its array, without what is usual."""
    function = m.ours.contender.statement.partition("(")[0]
    threads = f", {m.cell.threads} threads" if m.cell.threads > 1 else ""
    out = ", out=o" if m.cell.mode == cases.OUT else ""
    return [function + out, m.cell.array.removesuffix(" float32") + threads]


def overheads(cells: Cells) -> Rows:
    """How many times as long as without it relu_ext takes: the median, and the most and where."""
    rows = []
    for name, text in OVERHEADS.items():
        found = sorted((1 / m.timings[name].ratio, " ".join(called(m))) for m in cells.values()
                       if name in m.timings)  # fmt: skip
        if found:
            middle, (most, where) = statistics.median(ratio for ratio, _ in found), found[-1]
            rows.append([text, *(f"{number_text(n)}×" for n in (middle, most)), where])
    return rows


def named(timing: Timing) -> str:
    """A ratio, and the statement that relu_ext is compared with; of PyTorch, the library."""
    contender = timing.contender
    what = "PyTorch" if contender.library == TORCH else f"`{contender.statement}`"
    what = "a chain of `np.maximum`" if contender.name == "chain" else what
    return f"{timing.text()} {what}{contender.where}"


def call(m: Measured) -> str:
    return f"`{m.ours.contender.statement}`, {m.cell.array}"


def headlines(cells: Cells) -> list[Measured]:
    """The rows of the README's table of one CPU, as far as they were measured."""
    return [cells[cell] for cell in plan.HEADLINES if cell in cells]


def remarks(data: dict[str, Any], cells: Cells, most: int | None = None) -> Iterator[str]:
    """What the tables do not show; at most `most` of the cells that lose are named."""
    lost = results.lost(cells)
    rivals = sum(bool(m.rivals) for m in cells.values())
    worst = f"; the {most} worst" if most and most < len(lost) else ""
    passes = all(m.limit for m, _ in lost[:most]) * ", each before a pass that adds or copies"
    named_below = f"{worst}{passes}:" if lost[:most] else "."
    yield f"{len(lost)} of {rivals} cells lose to a rival{named_below}"
    for m, timing in lost[:most]:
        yield f"* {m.cell}: {named(timing)}{f'; {named(m.limit)}' if m.limit else ''}"
    bound = [cells[cell] for cell in plan.MEMORY_BOUND if cell in cells and cells[cell].limit]
    yield from ["Where memory is the limit:"] * bool(bound)
    yield from (f"* {m.cell}: {m.bandwidth:.1f} GB/s, {named(m.limit)}" for m in bound if m.limit)


def paragraphs(lines: Iterable[str]) -> Iterator[str]:
    """Lines of Markdown that are no tables, none of them long, nor begun with another mark."""
    before = ""
    for line in lines:
        if line.startswith("* ") != before.startswith("* "):
            yield ""
        kept = line.replace(" > ", "\0> ").replace(" + ", "\0+ ").replace(" * ", "\0* ")
        wrapped = textwrap.fill(kept, 100, subsequent_indent="  " * line.startswith("* "),
                                break_long_words=False, break_on_hyphens=False)  # fmt: skip
        yield wrapped.replace("\0", " ")
        before = line


def markdown(headings: Sequence[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    for row in (headings, ["---"] * len(headings), *rows):
        yield f"| {' | '.join(row)} |"


def programs(found: list[dict[str, Any]]) -> Iterator[str]:
    """The README's table of whole programs."""
    rows = []
    for program in found:
        if is_part(program):
            continue
        names = (("relu_ext", NUMPY), ("relu_ext", EAGER), ("relu_ext", COMPILED), ("numpy", EAGER))
        held = (program[whose].get(name) for whose, name in names)
        texts = ("{}× ({}–{})".format(*map(number_text, numbers)) if numbers else "–"
                 for numbers in held)  # fmt: skip
        time = time_text(1e9 * program["seconds"][OURS])
        rows.append([program["program"], time, *texts, f"{program['products']:.0%}"])
    yield from markdown(("program, one thread", "with relu_ext", "times as fast as NumPy alone",
                         "as PyTorch", "as PyTorch, compiled", "NumPy alone as PyTorch",
                         "matrix products"), rows)  # fmt: skip


def parts(found: list[dict[str, Any]]) -> Iterator[str]:
    """The table of what stands between the matrix products of a step."""
    rows = []
    for program in found:
        if is_part(program):
            held = (program["relu_ext"][name] for name in (NUMPY, NUMPY_SUMS))
            texts = ("{}× ({}–{})".format(*map(number_text, numbers)) for numbers in held)
            rows.append([program["program"], time_text(1e9 * program["seconds"][OURS]), *texts])
    yield from markdown(("one thread", "with relu_ext", "times as fast as NumPy alone",
                         "as `relu_backward_` and `grad.sum(axis=0)`"), rows)  # fmt: skip


def notes(experiments: Iterable[Experiment]) -> list[str]:
    """Which contenders differ from the contract, refuse a dtype or are missing, and where."""
    found: dict[str, dict[str, dict[str, None]]] = {}
    heads: dict[tuple[str, str], str] = {}
    for experiment in experiments:
        operation, dtype = experiment.cell.operation, experiment.cell.dtype
        for contender in experiment.contenders:
            name, reason = contender.name, experiment.absent.get(contender.name)
            if name == cases.OWN_TENSORS or not contender.computes:
                continue
            head = f"{operation} as `{contender.statement}` ({name})"
            head = heads.setdefault((operation, name), head)
            said = dict.fromkeys(experiment.differs.get(name, ()), head)
            if reason == "not installed":
                found[f"not installed: {contender.library}"] = {}
            elif reason:
                said[operation] = f"{name} does not take"
            for text, head in said.items():
                found.setdefault(head, {}).setdefault(text, {})[dtype] = None
    return sorted(": ".join(filter(None, (head, "; ".join(
        f"{text} ({', '.join(dtypes)})" for text, dtypes in texts.items()
    )))) for head, texts in found.items())  # fmt: skip


def print_table(out: Console, title: str, headings: list[str], rows: Rows, right: range) -> None:
    """Print a table, some of whose columns are aligned to the right."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for at, heading in enumerate(headings):
        side: Any = "right" if at in right else "left"
        whole = heading not in ("array", "in")
        table.add_column(heading, justify=side, overflow="fold", no_wrap=whole)
    for row in rows:
        table.add_row(*row)
    out.print(f"\n{title}", style="bold")
    out.print(table)


def print_all(out: Console, data: dict[str, Any], differences: bool = False) -> None:
    """Print a line for each cell, and what is in short last."""
    cells = results.measured(data)
    headings = ["call", "array", "time", "× NumPy", "× best", "rival"]

    def print_cells(title: str, found: Iterable[Measured]) -> None:
        rows = [[*called(m), *compared(m)] for m in found]
        print_table(out, title, headings, rows, range(2, 5))

    out.print(machine_line(data))
    out.print(f"{cases.LEGEND} {ZEROS} Arrays are float32 where no dtype stands.")
    for operation, found, statements in by_operation(cells):
        print_cells(operation, found)
        for line in statements:
            out.print(f"  {line}", style="dim")
    if rows := overheads(cells):
        print_table(out, OVERHEAD, ["as", "median", "most", "in"], rows, range(1, 3))
    out.print()
    asked = {timing.contender.library for m in cells.values() for timing in m.timings.values()}
    others = ", ".join(name for name in cases.LIBRARIES if name not in asked)
    out.print(f"Not measured: {others or 'none'}.")
    notes = data["notes"]
    if not differences and notes:
        out.print(f"{len(notes)} remarks on what other libraries do differently: --differences")
    for line in [*notes * differences, *data["left_out"]]:
        out.print(line)
    if found := headlines(cells):
        print_cells("In short", found)
    for line in remarks(data, cells, most=3):
        out.print(line)
    if not data["complete"]:
        out.print(f"interrupted: {len(cells)} of {len(data['cells'])} cells measured")
