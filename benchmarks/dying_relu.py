#!/usr/bin/env python3
"""Show how ReLU units die: train a network at too high a rate with ReLU and with Leaky ReLU.

The network is that of examples/dense_digits.py, and the means of several seeds are shown.
"""

from functools import partial
from pathlib import Path

import numpy as np
import relu_ext
from matplotlib.figure import Figure

from suite import files, pictures
from suite.programs import dense_digits

HIDDEN, BATCH, SLOPE = 64, 256, 0.1
LEAKY = relu_ext.add_leaky_relu_, relu_ext.add_leaky_relu_backward_
ACTIVATIONS = {"ReLU": dense_digits.RELU_EXT,
               "Leaky ReLU": tuple(partial(f, negative_slope=SLOPE) for f in LEAKY)}  # fmt: skip


def run(name: str, rate: float, epochs: int, seed: int) -> list[tuple[int, float]]:
    """After each epoch, the units that are positive for no image at all, and the accuracy."""
    (images, labels), activation = dense_digits.digits(), ACTIVATIONS[name]
    found, sizes = [], (images.shape[1], HIDDEN, 10)
    for layers, _ in dense_digits.train(
        activation, (images, labels), sizes, BATCH, epochs, rate, seed
    ):
        _, hidden, scores = dense_digits.outputs(layers, activation, images)
        silent = int((hidden <= 0).all(axis=0).sum())
        found.append((silent, float((scores.argmax(axis=1) == labels).mean())))
    return found


def picture(found: dict[str, np.ndarray], rate: float) -> Figure:
    """The mean over the seeds, and the middle half of them, of [seed, epoch, quantity]."""
    figure = Figure(figsize=(8, 7))
    panels = figure.subplots(2, sharex=True)
    for (name, values), colour in zip(found.items(), (pictures.RED, pictures.BLUE), strict=True):
        epochs = range(1, values.shape[1] + 1)
        for axes, column in zip(panels, np.moveaxis(values, 2, 0), strict=True):
            axes.plot(epochs, column.mean(axis=0), color=colour, label=name, clip_on=False)
            shade = {"color": colour, "alpha": 0.2, "linewidth": 0}
            axes.fill_between(epochs, *np.quantile(column, (0.25, 0.75), axis=0), **shade)
    title = f"Learning rate {rate:g}: mean and middle half of {len(values)} seeds"
    panels[0].set_title(title, pad=12)
    panels[0].set(ylabel=f"units silent on\nevery image, of {HIDDEN}", ylim=(0, HIDDEN))
    panels[1].set(xlabel="epoch", ylabel="accuracy", ylim=(0, 1))
    panels[1].yaxis.set_major_formatter("{x:.0%}")
    panels[0].legend()
    return figure


def main(argv: list[str] | None = None) -> int:
    parser = files.Parser(prog="dying_relu.py", description=__doc__)
    add = parser.add_argument
    add("--learning-rate", type=float, default=2.0, metavar="RATE")
    add("--epochs", type=int, default=30, metavar="N")
    add("--seeds", type=int, default=10, metavar="N", help="how many trainings are averaged")
    where = "draw DIR/dying_relu.png (without this option nothing is drawn)"
    add("--pictures", type=Path, metavar="DIR", help=where)
    args = parser.parse_args(argv)
    if min(args.epochs, args.seeds) < 1 or not 0 < args.learning_rate < float("inf"):
        parser.error("out of range; valid: epochs and seeds from 1, a learning rate above 0")
    if args.pictures:
        parser.output(args.pictures / "_" if args.pictures.exists() else args.pictures)
    with np.errstate(all="ignore"):  # at too high a rate all may happen
        options, seeds = (args.learning_rate, args.epochs), range(args.seeds)
        found = {name: np.array([run(name, *options, seed) for seed in seeds])
                 for name in ACTIVATIONS}  # fmt: skip
    if args.pictures:  # before anything is printed, because the reader may close standard output
        pictures.save(picture(found, args.learning_rate), args.pictures, "dying_relu")
    print(f"Hidden units of {HIDDEN} that are positive for no image, and accuracy: "
          f"means of {args.seeds} seeds, learning rate {args.learning_rate}")  # fmt: skip
    print("epoch" + "".join(f"{name:>16}" for name in found))
    for epoch in range(args.epochs):
        means = (values[:, epoch].mean(axis=0) for values in found.values())
        print(f"{epoch + 1:5}" + "".join(f"{silent:8.1f}{good:8.1%}" for silent, good in means))
    if args.pictures:
        print(f"drawn: {args.pictures / 'dying_relu.png'}")
    return 0


if __name__ == "__main__":
    files.run(main)
