"""Run stored float16 features through PReLU and pooling, with NumPy alone and with relu_ext.

python examples/float16_prelu.py [BATCHES]

Features are stored as float16 to halve their size. Each channel has a slope of its own, which was
learned elsewhere; `prelu` broadcasts it like any NumPy operand. NumPy converts every float16 to
float32 and back by itself, number by number.
"""

import sys

import numpy as np
import relu_ext
from common import in_turn

SHAPE = BATCH, CHANNELS, HEIGHT, WIDTH = 8, 32, 28, 28


def numpy_prelu_(x, slopes):
    return np.multiply(x, slopes, out=x, where=x < 0)


def numpy_pool(x):
    return x.max(axis=(3, 5))


def pool(x):
    return relu_ext.maxout(x, axis=(3, 5))


SETTINGS = {"NumPy": (numpy_prelu_, numpy_pool), "relu_ext": (relu_ext.prelu_, pool)}


def features(prelu_, pool, batch, slopes):
    """Activate a batch in place, and halve its height and width."""
    n, c, h, w = batch.shape
    return pool(prelu_(batch, slopes).reshape(n, c, h // 2, 2, w // 2, 2))


def pipeline(stored, functions, slopes):
    """The features of all batches as they are stored again, a quarter as large."""
    return [features(*functions, np.array(batch), slopes) for batch in stored]


def inputs(batches, seed=0):
    """Batches as they would be read from a file, and a slope for each channel."""
    rng = np.random.default_rng(seed)
    slopes = rng.uniform(0, 0.3, (CHANNELS, 1, 1)).astype(np.float16)
    return rng.standard_normal((batches, *SHAPE), np.float32).astype(np.float16), slopes


if __name__ == "__main__":
    stored, slopes = inputs(int((sys.argv[1:] or [10])[0]))
    in_turn(lambda how: pipeline(stored, how, slopes), SETTINGS)
