"""Write results as text: a table for each operation, and remarks on what tables do not show."""

import statistics
from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

from suite import cases, digits, plan, results
from suite.cases import LEGEND, OURS, TORCH
from suite.experiment import Experiment
from suite.layouts import CONTIGUOUS
from suite.results import Cells, Measured, Timing, time_text

Rows = list[list[str]]


def machine_line(data: dict[str, Any]) -> str:
    machine, threads = data["machine"], data["settings"]["threads"]
    caches = ", ".join(f"{level} {size // 1024:,} KiB" for level, size in machine["caches"].items())
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"{machine['processor']}, {machine['cpus']} CPUs, {caches}; level "
        f"{data['settings']['level']}; {threads} thread{'s' * (threads > 1)} for every library "
        f"that has them; {machine['python']}, {versions}"
    )


def by_operation(
    cells: Cells, *, intervals: bool = False
) -> Iterator[tuple[str, list[str], Rows, list[str]]]:
    """Yield each operation's name, the headings, a row for each cell, and every statement."""
    ordered = sorted(cells.values(), key=lambda m: (
        m.cell.layout != CONTIGUOUS, cases.MODES.index(m.cell.mode),
        cases.DTYPES.index(m.cell.dtype), m.cell.size,
    ))  # fmt: skip
    for operation in cases.OPERATIONS:
        rows, statements = [], {OURS: dict[str, None]()}
        found = [m for m in ordered if m.cell.operation == operation]
        for m in found:
            for name, timing in m.timings.items():
                statements.setdefault(name, {})[timing.contender.statement] = None
        _, *names = statements
        for m in found:
            others = [m.timings.get(name) for name in names]
            texts = [t.text(interval=intervals) if t else "" for t in others]
            threads = f" ({m.cell.threads} threads)" if m.cell.threads > 1 else ""
            rows.append([m.cell.array, m.cell.mode + threads, time_text(m.ours.ns), *texts])
        listed = [f"{name}: {' | '.join(texts)}" for name, texts in statements.items()]
        if found:
            yield operation, ["array", "mode", OURS, *names], rows, listed


def named(timing: Timing) -> str:
    """A ratio, and the statement that relu_ext is compared with; of PyTorch, the library."""
    contender = timing.contender
    what = "PyTorch" if contender.library == TORCH else f"`{contender.statement}`"
    what = "a chain of `np.maximum`" if contender.name == "chain" else what
    return f"{timing.text()} {what}{contender.where}"


def call(m: Measured) -> str:
    return f"`{m.ours.contender.statement}`, {m.cell.array}"


def headlines(cells: Cells) -> tuple[list[str], Rows]:
    """Headings and rows of the README's table of one CPU."""
    rows = []
    for m in (cells[cell] for cell in plan.HEADLINES if cell in cells):
        held = (m.usual, m.fastest(TORCH), m.fastest())
        rows.append([call(m), time_text(m.ours.ns), *(named(t) if t else "–" for t in held)])
    return ["call", "time", "times as fast as NumPy", "as PyTorch", "as the fastest rival"], rows


def remarks(data: dict[str, Any], cells: Cells, most: int | None = None) -> Iterator[str]:
    """What the tables do not show; at most `most` of the cells that lose are named."""
    lost = results.lost(cells)
    worst = "; ".join(f"{m.cell} ({named(timing)})" for m, timing in lost[:most])
    yield f"{len(lost)} of {len(cells)} cells lose to a rival{': ' if worst else ''}{worst}."
    for what, m, timing in results.worst_layouts(cells):
        yield f"The layout that {what}: {m.cell} ({named(timing)})."
    bound = (cells[cell] for cell in plan.MEMORY_BOUND if cell in cells)
    limits = [f"{m.cell}: {m.bandwidth:.1f} GB/s, {named(m.limit)}" for m in bound if m.limit]
    if limits:
        yield f"Where memory is the limit: {'; '.join(limits)}."
    if data["import_ms"]:
        yield f"`import relu_ext` takes {statistics.median(data['import_ms']):.2f} ms after NumPy."
    if data["digits"]:
        yield digits.describe(data["digits"])


def notes(experiments: Iterable[Experiment]) -> dict[str, dict[str, list[str]]]:
    """Which contenders differ from the contract, refuse a dtype or are missing, and where."""
    found: dict[str, dict[str, list[str]]] = {}

    def note(head: str, text: str, dtype: str) -> None:
        dtypes = found.setdefault(head, {}).setdefault(text, [])
        dtypes += [] if dtype in dtypes else [dtype]

    for experiment in experiments:
        operation, dtype = experiment.cell.operation, experiment.cell.dtype
        for name, texts in experiment.differs.items():
            for text in texts:
                note(f"differs: {operation}, {name}", text, dtype)
        for contender in experiment.contenders:
            reason = experiment.absent.get(contender.name)
            if reason == "not installed":
                found[f"not installed: {contender.library}"] = {}
            elif reason:
                note(f"does not take: {contender.name}", operation, dtype)
    return dict(sorted(found.items()))


def listed(data: dict[str, Any]) -> Iterator[str]:
    """A line for each note and for each cell that was left out."""
    for head, texts in data["notes"].items():
        text = "; ".join(f"{text} ({', '.join(where)})" for text, where in texts.items())
        yield f"{head}{': ' if text else ''}{text}"
    yield from data["left_out"]


def print_table(out: Console, title: str, headings: list[str], rows: Rows, left: int) -> None:
    """Print a table whose first columns are aligned to the left."""
    table = Table(box=None, header_style="bold")
    for at, heading in enumerate(headings):
        table.add_column(heading, justify="left" if at < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    out.print(f"\n{title}", style="bold")
    out.print(table)


def print_all(out: Console, data: dict[str, Any]) -> None:
    cells = results.measured(data)
    out.print(machine_line(data), soft_wrap=True)
    for operation, headings, rows, statements in by_operation(cells):
        title = f"{operation}: relu_ext's time, and how many times as fast it is"
        print_table(out, title, headings, rows, left=2)
        for line in statements:
            out.print(f"  {line}", style="dim", soft_wrap=True)
    headings, rows = headlines(cells)
    if rows:
        print_table(out, "In short", headings, rows, left=len(headings))
    out.print()
    asked = {timing.contender.library for m in cells.values() for timing in m.timings.values()}
    others = ", ".join(name for name in cases.LIBRARIES if name not in asked)
    for line in (LEGEND, *listed(data), f"not measured: {others or 'none'}", *remarks(data, cells)):
        out.print(line, soft_wrap=True)
    if not data["complete"]:
        out.print(f"interrupted: {len(cells)} of {len(data['cells'])} cells measured")
