"""A small multilayer perceptron in plain NumPy that learns scikit-learn's handwritten digits."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import relu_ext
from scipy.special import softmax

HIDDEN, BATCH, EPOCHS, LEARNING_RATE = (512, 256), 256, 5, 0.3
TIMES = {
    "forward": "bias and ReLU, forward",
    "activation": "bias and ReLU, forward and backward",
    "training": "whole training",
}
Function = Callable[..., object]


class Activation(NamedTuple):
    """What a layer does after its product, in place: forward(z, bias) turns z into the layer's
    output, backward(g, output) turns g into the gradient with respect to z."""

    forward: Function
    backward: Function


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


@dataclass
class Training:
    """A network, and what is known about its training."""

    weights: list[np.ndarray]
    biases: list[np.ndarray]
    losses: list[float] = field(default_factory=list)
    dead: list[int] = field(default_factory=list)
    """After each epoch, the hidden units that are positive for no image at all."""
    accuracy: float = 0.0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(TIMES, 0.0))
    """What each of TIMES took in all."""

    def layers(self, activation: Activation, images: np.ndarray) -> list[np.ndarray]:
        """The images, the output of each hidden layer, and the probabilities of the digits."""
        found = [images]
        for weights, bias in zip(self.weights[:-1], self.biases, strict=False):
            z = found[-1] @ weights
            activation.forward(z, bias)
            found.append(z)
        scores = found[-1] @ self.weights[-1] + self.biases[-1]
        return [*found, softmax(scores, axis=1)]


@cache
def data() -> tuple[np.ndarray, np.ndarray]:
    """1,797 images of 8 x 8 pixels in 0 to 1, and what they show."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return (images / 16).astype(np.float32), labels


def timed(function: Function, seconds: dict[str, float], *names: str) -> Function:
    """The function, which also adds what it takes to the seconds under each of these names."""

    def call(*arrays: np.ndarray) -> None:
        start = time.perf_counter()
        function(*arrays)
        for name in names:
            seconds[name] += time.perf_counter() - start

    return call


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
    rng, rate = np.random.default_rng(seed), np.float32(learning_rate)
    shapes = list(pairwise((images.shape[1], *hidden, labels.max() + 1)))
    weights = [rng.standard_normal(shape, np.float32) * np.float32((2 / shape[0]) ** 0.5)
               for shape in shapes]  # fmt: skip
    run = Training(weights, [np.zeros(width, np.float32) for _, width in shapes])
    forward = timed(activation.forward, run.seconds, "forward", "activation")
    clocked = Activation(forward, timed(activation.backward, run.seconds, "activation"))
    for _ in range(epochs):
        start, loss = time.perf_counter(), 0.0
        order = rng.permutation(len(images))
        for batch in np.split(order, range(BATCH, len(order), BATCH)):
            *layers, delta = run.layers(clocked, images[batch])
            shown = np.arange(len(batch)), labels[batch]
            loss -= float(np.log(delta[shown] + 1e-30).sum())
            delta[shown] -= 1
            delta *= np.float32(1 / len(batch))
            for index in reversed(range(len(shapes))):
                gradient, shift = layers[index].T @ delta, delta.sum(axis=0)
                if index:
                    delta = delta @ weights[index].T
                    clocked.backward(delta, layers[index])
                weights[index] -= rate * gradient
                run.biases[index] -= rate * shift
        run.seconds["training"] += time.perf_counter() - start
        _, *outputs, probabilities = run.layers(activation, images)
        run.accuracy = float((probabilities.argmax(axis=1) == labels).mean())
        run.losses.append(loss / len(images))
        run.dead.append(int(sum((output <= 0).all(axis=0).sum() for output in outputs)))
    return run


def compare(repeats: int) -> dict[str, Any]:
    """Train with NumPy's two calls and with relu_ext in turn; the results must be identical."""
    pairs = []
    for repeat in range(repeats + 1):
        order = (NUMPY, RELU_EXT) if repeat % 2 else (RELU_EXT, NUMPY)
        runs = {activation: train(activation) for activation in order}
        theirs, ours = runs[NUMPY], runs[RELU_EXT]
        assert theirs.losses == ours.losses, "the losses differ"
        for a, b in zip(theirs.weights + theirs.biases, ours.weights + ours.biases, strict=True):
            assert np.array_equal(a, b), "the weights differ"
        pairs.append([[run.seconds[name] for name in TIMES] for run in (theirs, ours)])
    times = np.array(pairs[1:])  # the first pair has warmed the caches
    ratios = np.median(times[:, 0] / times[:, 1], axis=0)
    columns = zip(TIMES, *np.median(times, axis=0).tolist(), ratios.tolist(), strict=True)
    return {
        "hidden": HIDDEN, "batch": BATCH, "epochs": EPOCHS, "repeats": repeats,
        "loss": ours.losses[-1], "accuracy": ours.accuracy,
        "seconds": {name: {"numpy": a, "relu_ext": b, "ratio": c} for name, a, b, c in columns},
    }  # fmt: skip


def describe(found: dict[str, Any]) -> str:
    parts = [f"{TIMES[name]} {1e3 * times['relu_ext']:.2f} ms, {times['ratio']:.2f}× NumPy's speed"
             for name, times in found["seconds"].items()]  # fmt: skip
    layers = "-".join(map(str, found["hidden"]))
    return (f"A network with hidden layers of {layers} units learns handwritten digits, with "
            f"identical results: {'; '.join(parts)}.")  # fmt: skip
