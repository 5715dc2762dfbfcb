"""Draw the pictures: time and speed-up over size, dtypes as a heat map, and whole programs."""

import io
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.figure import Figure
from PIL import Image

from suite import cases
from suite.cases import ELEMENTWISE, IN_PLACE, OURS, Cell
from suite.programs import EAGER, NUMPY, is_part
from suite.results import Cells, Measured, measured, number_text

HEAT_SIZE = 16_384
# Okabe and Ito's palette, which the colour-blind can tell apart. Each line has its own marker too.
BLUE, RED, *_ = COLOURS = (
    "#0072B2", "#D55E00", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#000000", "#999999",
)  # fmt: skip
mpl.rcParams.update({
    "font.size": 15, "axes.titlesize": 16, "axes.spines.top": False, "axes.spines.right": False,
    "lines.linewidth": 2.5, "lines.markersize": 7, "legend.fontsize": 12, "axes.grid": True,
    "grid.color": "#E5E5E5", "figure.constrained_layout.use": True,
    "axes.prop_cycle": cycler(color=COLOURS, marker="osD^vPX*"),
})  # fmt: skip
SHOWN = ("relu", "leaky_relu", "relu_backward")
LONGEST = 5
"""Where the bar of a program ends at the latest, in units of the time with relu_ext."""


def save(figure: Figure, directory: Path, name: str) -> None:
    """Save a PNG of 64 colours, with the same bytes for the same numbers."""
    directory.mkdir(exist_ok=True)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=130, metadata={"Software": None})
    image = Image.open(drawn).convert("RGB").quantize(64, dither=Image.Dither.NONE)
    image.save(directory / f"{name}.png", optimize=True)


def new_figure(height: float = 5.6) -> tuple[Figure, Any]:
    figure = Figure(figsize=(8, height))
    return figure, figure.subplots()


def label(operation: str, contender: str = "") -> str:
    """What a contender writes to work in place; NumPy's users, if none is named."""
    cell = Cell(operation, "float32", HEAT_SIZE, IN_PLACE)
    return next(str(c) for c in cell.contenders() if c.name == (contender or cell.usual))


def sweep(cells: Cells, operation: str) -> list[Measured]:
    """An operation in place on float32, over size."""
    found = (m for c, m in cells.items() if c == Cell(operation, "float32", c.size, IN_PLACE))
    return sorted(found, key=lambda m: m.cell.size)


def caption(data: dict[str, Any]) -> str:
    """What a reader needs to know of any measurement."""
    threads = data["settings"]["threads"]
    return (f"{data['machine']['processor']}, NumPy {data['machine']['versions']['numpy']}, "
            f"{threads} thread{'s' * (threads > 1)}")  # fmt: skip


def over_size(axes: Any, data: dict[str, Any], title: str, columns: int) -> None:
    """Make both axes logarithmic, mark the sizes of the caches, and add title and legend."""
    axes.set_xscale("log", base=2)  # which writes sizes as powers of two
    axes.set_yscale("log")
    axes.set_xlabel(f"elements (float32)\n{caption(data)}")
    for level, size in data["machine"]["caches"].items():
        axes.axvline(size / 4, color="#888888", linestyle=":", linewidth=1.5, zorder=1)
        above = axes.get_xaxis_transform()
        axes.text(size / 4, 1.0, level, ha="center", va="bottom", fontsize=13, transform=above)
    axes.set_title(title, pad=26)
    axes.figure.legend(ncols=columns, loc="outside lower center")


def speedup_picture(cells: Cells, data: dict[str, Any]) -> Figure:
    figure, axes = new_figure(6.8)
    for operation in SHOWN:
        found = {m.cell.size: m.usual[2:] for m in sweep(cells, operation) if m.usual}
        if found:
            middle, low, high = zip(*found.values(), strict=True)
            (line,) = axes.plot(found.keys(), middle, label=f"{operation}: {label(operation)}")
            shade = {"color": line.get_color(), "alpha": 0.2, "linewidth": 0}
            axes.fill_between(found.keys(), low, high, **shade)
    over_size(axes, data, "Times as fast as what NumPy's users write, in place", columns=1)
    ticks = [1, 2, 5, 10, 20, 50, 100]
    axes.set_yticks(ticks, [f"{tick}×" for tick in ticks])
    axes.minorticks_off()
    axes.set_ylabel("times as fast")
    return figure


def heat_picture(cells: Cells, data: dict[str, Any]) -> Figure | None:
    found = {c: m.usual for c, m in cells.items()
             if m.usual and c == Cell(c.operation, c.dtype, HEAT_SIZE, IN_PLACE)}  # fmt: skip
    dtypes = [name for name in cases.DTYPES if any(cell.dtype == name for cell in found)]
    operations = [name for name in ELEMENTWISE if any(cell.operation == name for cell in found)]
    if len(dtypes) < 2:
        return None
    ratios = np.full((len(dtypes), len(operations)), np.nan)
    for cell, usual in found.items():
        ratios[dtypes.index(cell.dtype), operations.index(cell.operation)] = usual.ratio
    figure, axes = new_figure(4.4 + 0.56 * len(dtypes))
    shades = np.log2(ratios)
    least, most = min(0.0, float(np.nanmin(shades))), float(np.nanmax(shades))
    axes.imshow(shades, cmap="Blues", vmin=least, vmax=most, aspect="auto")
    for (row, column), ratio in np.ndenumerate(ratios):
        text = "–" if np.isnan(ratio) else f"{number_text(ratio)}×"
        dark = not np.isnan(ratio) and np.log2(ratio) > 0.55 * most
        axes.text(column, row, text, ha="center", va="center", color="white" if dark else "black")
    short = (name.replace("leaky_relu", "leaky").replace("sub", "sub-_") for name in operations)
    labels = [name.replace("_", "\n") for name in short]
    axes.set_xticks(range(len(operations)), labels, fontsize=11)
    x86 = data["machine"]["architecture"] == "x86_64"
    longdouble = "longdouble\n(80 bits)" if x86 else "longdouble"
    axes.set_yticks(range(len(dtypes)), [n.replace("float128", longdouble) for n in dtypes])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    listed = "".join(f"\n{name}: {label(name)}" for name in operations)
    dashes = "\n–: the operation takes no array of this dtype" * bool(np.isnan(ratios).any())
    axes.set_title(f"Times as fast as NumPy, in place, {HEAT_SIZE:,} elements", pad=16)
    axes.set_xlabel(f"{caption(data)}{dashes}\nas what NumPy's users write:{listed}", fontsize=11,
                    loc="left", multialignment="left", labelpad=10)  # fmt: skip
    return figure


def programs_picture(data: dict[str, Any]) -> Figure:
    """A bar for the time of each program: with relu_ext, with NumPy alone, in PyTorch."""
    programs = [found for found in data["programs"] if not is_part(found)]
    figure, axes = new_figure(2.4 + 0.66 * len(programs))
    rows, height = np.arange(len(programs)), 0.27
    bars = {OURS: BLUE, NUMPY: COLOURS[2], EAGER: COLOURS[-1]}
    for at, (name, colour) in enumerate(bars.items()):
        times = [program["relu_ext"].get(name, [1.0])[0] for program in programs]
        text = {OURS: "NumPy with relu_ext", NUMPY: "NumPy alone"}.get(name, name)
        places = rows + (at - 1) * height
        drawn = axes.barh(places, np.minimum(times, LONGEST), height, color=colour, label=text)
        axes.bar_label(drawn, [f"{number_text(time)}×" for time in times], padding=3, fontsize=10)
    shares = [min(program["products"], 1) for program in programs]
    dark = {"color": "#003A5D", "label": "of which matrix products"}
    axes.barh(rows - height, shares, height, **dark)
    axes.set_yticks(rows, [program["program"].replace(": ", ":\n") for program in programs])
    axes.tick_params(axis="y", labelsize=11, length=0)
    axes.invert_yaxis()
    axes.set_xlim(0, LONGEST * 1.15)
    axes.grid(visible=False, axis="y")
    axes.set_axisbelow(True)
    axes.margins(y=0.02)
    axes.set_title("Whole programs: time, lower is better", pad=12)
    cut = f", bars end at {LONGEST}"
    axes.set_xlabel(f"times as long as with relu_ext{cut}\n{caption(data)}", fontsize=12)
    axes.figure.legend(ncols=2, loc="outside lower center")
    return figure


def draw(data: dict[str, Any]) -> dict[str, Figure | None]:
    """Every picture of a results file by name; None where the run has too few cells for it."""
    cells = measured(data)
    enough = len(sweep(cells, "relu")) >= 4
    return {
        "speedup": speedup_picture(cells, data) if enough else None,
        "heat": heat_picture(cells, data),
    }
