"""Let a saved policy answer one observation at a time, with NumPy alone and with relu_ext.

python examples/policy.py [OBSERVATIONS]

A policy is a small network, here with two hidden layers of 64 units, that a program asks in every
step of a game or of a controller: what its calls cost before their first element is most of the
time. Its parameters are loaded from a file, as a library for training would have saved them.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import relu_ext
from common import in_turn

OBSERVED, HIDDEN, ACTIONS = 8, 64, 4


def save(path, seed=0):
    """Write a policy, which stands for a trained one."""
    rng = np.random.default_rng(seed)
    shapes = {"w1": (OBSERVED, HIDDEN), "b1": HIDDEN, "w2": (HIDDEN, HIDDEN), "b2": HIDDEN,
              "w3": (HIDDEN, ACTIONS), "b3": ACTIONS}  # fmt: skip
    np.savez(path, **{name: rng.normal(0, 0.2, shape).astype("f4")
                      for name, shape in shapes.items()})  # fmt: skip


def load(path):
    """The weights and the bias of each layer."""
    with np.load(path) as saved:
        return [(saved[f"w{layer}"], saved[f"b{layer}"]) for layer in (1, 2, 3)]


def numpy_add_relu_(x, bias):
    x += bias
    return np.maximum(x, 0, out=x)


SETTINGS = {"NumPy": numpy_add_relu_, "relu_ext": relu_ext.add_relu_}


def scores(policy, add_relu_, observation):
    """How good each action looks."""
    (w1, b1), (w2, b2), (w3, b3) = policy
    hidden = add_relu_(observation @ w1, b1)
    hidden = add_relu_(hidden @ w2, b2)
    return hidden @ w3 + b3


def play(policy, add_relu_, observations):
    """Answer every observation with the number of an action."""
    return [scores(policy, add_relu_, observation).argmax() for observation in observations]


if __name__ == "__main__":
    count = int((sys.argv[1:] or [20_000])[0])
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder, "policy.npz"))
        policy = load(Path(folder, "policy.npz"))
    observations = np.random.default_rng(1).standard_normal((count, OBSERVED), np.float32)
    in_turn(lambda how: play(policy, how, observations), SETTINGS)
