#!/usr/bin/env python3
"""Make the README's table and the pictures out of a results file of run.py."""

from __future__ import annotations

import re
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import relu_ext
from matplotlib.figure import Figure

import cases
import cli
import results
import tables
from cases import IN_PLACE, OPERATIONS, OURS, ROOFLINE, Cell
from results import Measured, interval_text, number_text, ratio_text, time_text

BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
HEAT_SIZE = 16_384
# Okabe and Ito's palette, told apart by the colour-blind; every line has a marker of its own too.
BLUE, RED, ORANGE, GREEN, PURPLE, SKY = COLOURS = (
    "#0072B2", "#D55E00", "#E69F00", "#009E73", "#CC79A7", "#56B4E9",
)  # fmt: skip
MARKERS = "osD^vP"
STYLE: dict[Any, Any] = {
    "font.size": 15, "axes.titlesize": 16, "axes.spines.top": False, "axes.spines.right": False,
    "lines.linewidth": 2.5, "lines.markersize": 7, "legend.fontsize": 13, "axes.grid": True,
    "grid.color": "#E5E5E5", "svg.hashsalt": "relu_ext", "figure.constrained_layout.use": True,
}  # fmt: skip
RELU_LABELS = {
    OURS: "relu_ext", "maximum": "np.maximum(x, 0)", "zeros": "np.maximum(x, zeros)",
    "clip": "np.clip(x, 0, inf)", "torch": "torch.relu_", "tanh": "np.tanh",
}  # fmt: skip

Cells = dict[Cell, Measured]


def save(figure: Figure, directory: Path, name: str) -> None:
    """As SVG and PNG, the same bytes for the same numbers."""
    directory.mkdir(exist_ok=True)
    figure.savefig(directory / f"{name}.svg", metadata={"Date": None})
    figure.savefig(directory / f"{name}.png", dpi=150, metadata={"Software": None})


def new_figure(height: float = 5.6) -> tuple[Figure, Any]:
    figure = Figure(figsize=(8, height))
    return figure, figure.subplots()


def usual(operation: str) -> str:
    """The contender that people write."""
    return next(iter(OPERATIONS[operation].spellings))


def sweep(cells: Cells, operation: str) -> list[Measured]:
    """An operation in place on float32, over size."""
    found = (m for c, m in cells.items() if c == Cell(operation, "float32", c.size, IN_PLACE))
    return sorted(found, key=lambda m: m.cell.size)


def over_size(axes: Any, series: list[Measured], caches: dict[str, int], title: str) -> None:
    """Both axes logarithmic, the sizes of the caches marked, the title above their names."""
    sizes = [m.cell.size for m in series]
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sizes[::2], [cases.size_text(size) for size in sizes[::2]])
    axes.set_xlabel("elements (float32)")
    for level, size in caches.items():
        axes.axvline(size / 4, color="#888888", linestyle=":", linewidth=1.5, zorder=1)
        above = axes.get_xaxis_transform()
        axes.text(size / 4, 1.0, level, ha="center", va="bottom", fontsize=13, transform=above)
    axes.set_title(title, pad=26)


def time_picture(cells: Cells, caches: dict[str, int]) -> Figure | None:
    series = sweep(cells, "relu")
    if len(series) < 4:
        return None
    figure, axes = new_figure()
    for (name, label), colour, marker in zip(RELU_LABELS.items(), COLOURS, MARKERS, strict=False):
        points = {m.cell.size: m.contenders[name]["ns"]["median"] / m.cell.size
                  for m in series if name in m.contenders}  # fmt: skip
        style = {"linewidth": 4, "zorder": 3} if name == OURS else {}
        axes.plot(
            points.keys(), points.values(), marker, ls="-", color=colour, label=label, **style
        )
    over_size(axes, series, caches, "ReLU in place: time, lower is better")
    axes.set_ylabel("nanoseconds per element")
    axes.legend()
    return figure


def speedup_picture(cells: Cells, caches: dict[str, int]) -> Figure | None:
    series = sweep(cells, "relu")
    if len(series) < 4:
        return None
    figure, axes = new_figure(6.4)
    for operation, colour, marker in zip(OPERATIONS, COLOURS, MARKERS, strict=True):
        ratios = {m.cell.size: m.contenders[usual(operation)]["ratio"]
                  for m in sweep(cells, operation) if usual(operation) in m.contenders}  # fmt: skip
        low, middle, high = ([r[k] for r in ratios.values()] for k in ("low", "median", "high"))
        axes.plot(list(ratios), middle, marker, ls="-", color=colour, label=operation)
        axes.fill_between(list(ratios), low, high, color=colour, alpha=0.2)
    over_size(axes, series, caches, "In place, against the usual NumPy spelling")
    ticks = [1, 2, 5, 10, 20, 50, 100]
    axes.set_yticks(ticks, [f"{tick}×" for tick in ticks])
    axes.minorticks_off()
    axes.set_ylabel("times as fast")
    figure.legend(ncols=2, loc="outside lower center")
    return figure


def heat_picture(cells: Cells) -> Figure | None:
    found = {cell: m for cell, m in cells.items()
             if cell == Cell(cell.operation, cell.dtype, HEAT_SIZE, IN_PLACE)}  # fmt: skip
    dtypes = [name for name in cases.DTYPES if any(cell.dtype == name for cell in found)]
    if len(dtypes) < 2:
        return None
    ratios = np.full((len(dtypes), len(OPERATIONS)), np.nan)
    for cell, m in found.items():
        if rival := m.fastest(usual(cell.operation)):
            place = dtypes.index(cell.dtype), list(OPERATIONS).index(cell.operation)
            ratios[place] = rival["ratio"]["median"]
    figure, axes = new_figure(1.9 + 0.62 * len(dtypes))
    limit = max(2.0, float(np.nanmax(np.abs(np.log2(ratios)))))
    axes.imshow(np.log2(ratios), cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto")
    for (row, column), ratio in np.ndenumerate(ratios):
        text = "–" if np.isnan(ratio) else f"{number_text(ratio)}×"
        colour = "white" if abs(np.log2(ratio)) > 0.55 * limit else "black"
        axes.text(column, row, text, ha="center", va="center", color=colour)
    labels = [name.replace("leaky_relu", "leaky").replace("_", "\n") for name in OPERATIONS]
    axes.set_xticks(range(len(OPERATIONS)), labels, fontsize=13)
    axes.set_yticks(range(len(dtypes)), dtypes)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(f"times as fast as the usual NumPy spelling\n{HEAT_SIZE:,} elements in place")
    return figure


def functions_picture() -> Figure:
    """The functions themselves, computed by the library."""
    x, slope = np.linspace(-10, 10, 2001), 0.1
    step = np.where(x == 0, np.nan, relu_ext.relu_subgradient(x))  # a gap where it jumps
    curves = {"ReLU": relu_ext.relu(x), "Its subgradient": step,
              f"Leaky ReLU, slope {slope}": relu_ext.leaky_relu(x, slope)}  # fmt: skip
    figure = Figure(figsize=(8, 4.2))
    panels = figure.subplots(1, len(curves))
    for axes, (name, y) in zip(panels, curves.items(), strict=True):
        axes.plot(x, y, color=BLUE)
        axes.axhline(0, color="black", linewidth=0.8, zorder=1)
        axes.axvline(0, color="black", linewidth=0.8, zorder=1)
        axes.set_title(name, fontsize=14)
        axes.set_xlabel("x")
    panels[1].plot(0, 1, "o", color=BLUE, markerfacecolor="white", zorder=3)
    panels[1].plot(0, relu_ext.relu_subgradient(0.0), "o", color=BLUE, zorder=4)
    return figure


def table(data: dict[str, Any], cells: Cells) -> Iterator[str]:
    """The README's table: the figures, the losses, and what they were measured on."""
    yield "| operation | array | time | in place of | times as fast | 95 % interval |"
    yield "|---|---|--:|---|--:|--:|"
    for m, rivals in results.figures(cells):
        threads = f", {m.cell.threads} threads" if m.cell.threads > 1 else ""
        columns = (
            [results.spelling(rival, quote="`") for rival in rivals],
            [f"**{ratio_text(rival['ratio'])}**" for rival in rivals],
            [interval_text(rival["ratio"]) for rival in rivals],
        )
        array = f"{cases.size_text(m.cell.size)} {m.cell.dtype}{threads}"
        head = f"`{m.ours['statement']}` | {array} | {time_text(m.ours['ns']['median'])}"
        yield f"| {head} | {' | '.join(map('<br>'.join, columns))} |"
    yield ""
    for m in cells.values():
        if m.cell in cases.FIGURES and (roofline := m.fastest(ROOFLINE)):
            share = f"{m.share_of_roofline():.0%} of `{roofline['statement']}`"
            yield f"{m.cell}: {m.bandwidth(m.ours):.1f} GB/s, {share}.  "
    lost = [f"{m.cell} ({ratio_text(rival['ratio'])} against {results.spelling(rival, quote='`')})"
            for m, rival in results.lost(cells)]  # fmt: skip
    yield f"Cells that lose to anybody, of {len(cells)}: {'; '.join(lost) or 'none'}.  "
    if data["import_ms"]:
        yield f"`import relu_ext` after NumPy: {statistics.median(data['import_ms']):.2f} ms."
    yield ""
    commit, date = data["machine"]["commit"], data["machine"]["date"][:10]
    yield f"{tables.machine_line(data)}. Medians of paired ratios on fresh input, measured by"
    yield f"`{' '.join(data['settings']['command'])}` on {date} at commit {commit or 'unknown'}."


def main(argv: list[str] | None = None) -> int:
    parser = cli.Parser(prog="report.py", description=__doc__)
    parser.add_argument("results", type=Path, help="a file written by run.py")
    pictures = Path(__file__).with_name("pictures")
    where = "where the pictures go (default: pictures beside report.py)"
    parser.add_argument("--pictures", type=Path, default=pictures, metavar="DIR", help=where)
    between = f"put the table between '{BEGIN}' and '{END}'"
    parser.add_argument("--readme", type=Path, metavar="FILE", help=between)
    args = parser.parse_args(argv)
    data = parser.results(args.results)
    parser.output(args.pictures / "time.svg" if args.pictures.exists() else args.pictures)
    parser.output(args.readme)
    cells, caches = results.measured(data), data["machine"]["caches"]
    text = "\n".join(table(data, cells))
    if args.readme:
        old = args.readme.read_text(encoding="utf-8") if args.readme.exists() else ""
        place = re.compile(f"(?<={re.escape(BEGIN)}\n).*?(?={re.escape(END)})", re.DOTALL)
        if not place.search(old):
            parser.error(f"no place in {args.readme}; valid: a file with '{BEGIN}' and '{END}'")
        cli.write(args.readme, place.sub(lambda _: f"{text}\n", old))
    print(text)
    with mpl.rc_context(STYLE):
        drawn = {"time": time_picture(cells, caches), "speedup": speedup_picture(cells, caches),
                 "heat": heat_picture(cells), "functions": functions_picture()}  # fmt: skip
        for name, figure in drawn.items():
            if figure:
                save(figure, args.pictures, name)
            else:
                print(f"report.py: too few cells for '{name}': use run.py --full", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
