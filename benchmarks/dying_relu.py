#!/usr/bin/env python3
"""Show how ReLU units die: train a network at too high a rate with ReLU and with Leaky ReLU."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from suite import digits, files, pictures

LEARNING_RATE, EPOCHS, HIDDEN, SLOPE = 1.5, 30, (64,), 0.1


def runs(**options: Any) -> dict[str, digits.Training]:
    """Both trainings, from the same weights over the same batches."""
    options = {"learning_rate": LEARNING_RATE, "epochs": EPOCHS} | options
    activations = {"ReLU": digits.RELU_EXT, "Leaky ReLU": digits.leaky(SLOPE)}
    return {name: digits.train(function, hidden=HIDDEN, **options)
            for name, function in activations.items()}  # fmt: skip


def picture(found: dict[str, digits.Training], learning_rate: float) -> Figure:
    figure, axes = pictures.new_figure(4.6)
    for (name, run), colour in zip(found.items(), (pictures.RED, pictures.BLUE), strict=True):
        epochs = range(1, len(run.dead) + 1)
        axes.plot(epochs, run.dead, color=colour, label=name, clip_on=False)
    title = f"Units silent on every image, learning rate {learning_rate}"
    axes.set(title=title, xlabel="epoch", ylabel=f"silent units of {sum(HIDDEN)}")
    axes.set_ylim(0, sum(HIDDEN))
    axes.legend()
    return figure


def main(argv: list[str] | None = None) -> int:
    parser = files.Parser(prog="dying_relu.py", description=__doc__)
    parser.add_argument("--learning-rate", type=float, default=LEARNING_RATE, metavar="RATE")
    parser.add_argument("--epochs", type=int, default=EPOCHS, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="draw dying_relu.png")
    args = parser.parse_args(argv)
    if args.epochs < 1 or not 0 < args.learning_rate < float("inf") or args.seed < 0:
        parser.error("out of range; valid: epochs from 1, a learning rate above 0, a seed from 0")
    if args.pictures:
        parser.output(args.pictures / "_" if args.pictures.exists() else args.pictures)
    found = runs(learning_rate=args.learning_rate, epochs=args.epochs, seed=args.seed)
    if args.pictures:  # before anything is printed, because the reader may close standard output
        pictures.save(picture(found, args.learning_rate), args.pictures, "dying_relu")
    print(f"Hidden units, of {sum(HIDDEN)}, that are positive for no image, "
          f"learning rate {args.learning_rate}")  # fmt: skip
    print("epoch" + "".join(f"{name:>14}" for name in found))
    for epoch, dead in enumerate(zip(*(run.dead for run in found.values()), strict=True), 1):
        print(f"{epoch:5}" + "".join(f"{count:14}" for count in dead))
    for name, run in found.items():
        print(f"{name}: accuracy {run.accuracy:.1%}")
    return 0


if __name__ == "__main__":
    files.run(main)
