"""A small multilayer perceptron in plain NumPy that learns scikit-learn's handwritten digits."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import relu_ext

HIDDEN, BATCH, EPOCHS, LEARNING_RATE = (512, 256), 256, 5, 0.3


class Activation(NamedTuple):
    """What a layer does after its product, in place: forward(z, bias) turns z into the layer's
    output, backward(g, output) turns g into the gradient with respect to z."""

    forward: Callable[[np.ndarray, np.ndarray], object]
    backward: Callable[[np.ndarray, np.ndarray], object]


def numpy_forward(z: np.ndarray, bias: np.ndarray) -> None:
    z += bias
    np.maximum(z, 0, out=z)


def leaky(slope: float) -> Activation:
    return Activation(
        partial(relu_ext.add_leaky_relu_, negative_slope=slope),
        partial(relu_ext.leaky_relu_backward_, negative_slope=slope),
    )


NUMPY = Activation(numpy_forward, lambda g, z: np.multiply(g, z > 0, out=g))
RELU_EXT = Activation(relu_ext.add_relu_, relu_ext.relu_backward_)
TIMES = {
    "forward": "bias and ReLU, forward",
    "activation": "bias and ReLU, forward and backward",
    "training": "whole training",
}


@dataclass
class Training:
    """What a training leaves behind."""

    weights: list[np.ndarray]
    losses: list[float] = field(default_factory=list)
    dead: list[int] = field(default_factory=list)
    """After each epoch, the hidden units that are positive for no image at all."""
    accuracy: float = 0.0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(TIMES, 0.0))
    """What each of TIMES took in all."""


@cache
def data() -> tuple[np.ndarray, np.ndarray]:
    """1,797 images of 8 x 8 pixels in 0 to 1, and what they show."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return (images / 16).astype(np.float32), labels


@np.errstate(under="ignore")  # a softmax may underflow
def train(
    activation: Activation,
    *,
    hidden: tuple[int, ...] = HIDDEN,
    epochs: int = EPOCHS,
    learning_rate: float = LEARNING_RATE,
    seed: int = 0,
) -> Training:
    """Stochastic gradient descent on the cross-entropy, the same steps for the same seed."""
    images, labels = data()
    rng = np.random.default_rng(seed)
    widths = (images.shape[1], *hidden, labels.max() + 1)
    weights = [
        (rng.standard_normal(shape, np.float32) * np.float32((2 / shape[0]) ** 0.5))
        for shape in pairwise(widths)
    ]
    biases = [np.zeros(width, np.float32) for width in widths[1:]]
    run, clock, step = Training(weights), time.perf_counter, np.float32(learning_rate)

    def timed(names: str, function: Callable[..., object], *arrays: np.ndarray) -> None:
        start = clock()
        function(*arrays)
        for name in names.split():
            run.seconds[name] += clock() - start

    def forward(layers: list[np.ndarray]) -> np.ndarray:
        for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
            z = layers[-1] @ weight
            timed("forward activation", activation.forward, z, bias)
            layers.append(z)
        scores = layers[-1] @ weights[-1] + biases[-1]
        scores -= scores.max(axis=1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=1, keepdims=True)
        return np.asarray(scores)

    for _ in range(epochs):
        start, loss = clock(), 0.0
        order = rng.permutation(len(images))
        for batch in np.split(order, range(BATCH, len(order), BATCH)):
            layers, rows = [images[batch]], np.arange(len(batch))
            delta = forward(layers)
            loss -= float(np.log(delta[rows, labels[batch]] + 1e-30).sum())
            delta[rows, labels[batch]] -= 1
            delta *= np.float32(1 / len(batch))
            for index in reversed(range(len(weights))):
                gradient, shift = layers[index].T @ delta, delta.sum(axis=0)
                if index:
                    delta = delta @ weights[index].T
                    timed("activation", activation.backward, delta, layers[index])
                weights[index] -= step * gradient
                biases[index] -= step * shift
        run.seconds["training"] += clock() - start
        inside = dict(run.seconds)
        layers = [images]
        run.accuracy = float((forward(layers).argmax(axis=1) == labels).mean())
        run.seconds = inside
        run.losses.append(loss / len(images))
        run.dead.append(int(sum((layer <= 0).all(axis=0).sum() for layer in layers[1:])))
    run.weights += biases
    return run


def compare(repeats: int) -> dict[str, Any]:
    """Train with NumPy's two calls and with relu_ext in turn; the results must be identical."""
    pairs = []
    for repeat in range(repeats + 1):
        order = (NUMPY, RELU_EXT) if repeat % 2 else (RELU_EXT, NUMPY)
        runs = {activation: train(activation) for activation in order}
        theirs, ours = runs[NUMPY], runs[RELU_EXT]
        assert theirs.losses == ours.losses, "the losses differ"
        for a, b in zip(theirs.weights, ours.weights, strict=True):
            assert np.array_equal(a, b), "the weights differ"
        if repeat:  # the first pair has warmed the caches
            pairs.append((theirs, ours))
    found: dict[str, Any] = {"hidden": HIDDEN, "batch": BATCH, "epochs": EPOCHS}
    found |= {"repeats": repeats, "loss": ours.losses[-1], "accuracy": ours.accuracy}
    found["seconds"] = {}
    for name in TIMES:
        times = np.array([(theirs.seconds[name], ours.seconds[name]) for theirs, ours in pairs])
        numpy, relu_ext = np.median(times, axis=0).tolist()
        ratio = float(np.median(times[:, 0] / times[:, 1]))
        found["seconds"][name] = {"numpy": numpy, "relu_ext": relu_ext, "ratio": ratio}
    return found


def describe(found: dict[str, Any]) -> str:
    parts = [f"{TIMES[name]} {1e3 * times['relu_ext']:.2f} ms, {times['ratio']:.2f}× NumPy's speed"
             for name, times in found["seconds"].items()]  # fmt: skip
    layers = "-".join(map(str, found["hidden"]))
    return (f"A network with hidden layers of {layers} units learns handwritten digits, with "
            f"identical results: {'; '.join(parts)}.")  # fmt: skip
