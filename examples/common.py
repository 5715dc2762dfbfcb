"""What the examples share: the digits, a loss, and the comparison of two settings."""

import time

import numpy as np


def digits():
    """1,797 images of 8 x 8 pixels in 0 to 1, and what they show."""
    from sklearn.datasets import load_digits  # which the other programs do without

    images, labels = load_digits(return_X_y=True)
    return (images / 16).astype("f4"), labels


def cross_entropy(scores, labels):
    """The mean loss, and its gradient with respect to the scores."""
    grad = np.exp(scores - scores.max(axis=1, keepdims=True))
    grad /= grad.sum(axis=1, keepdims=True)
    shown = np.arange(len(labels)), labels
    loss = -np.log(grad[shown] + np.float32(1e-30)).mean()
    grad[shown] -= 1
    return loss, grad / len(labels)


def in_turn(program, settings, repeats=3, rtol=0.0):
    """Call the program with the setting of each name, and check that it returns the same numbers.

    The time of a name is the shortest of its repeats.
    """
    seconds, results = dict.fromkeys(settings, float("inf")), {}
    for _ in range(repeats):
        for name, setting in settings.items():
            start = time.perf_counter()
            results[name] = program(setting)
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    for name, result in results.items():
        np.testing.assert_allclose(result, results["NumPy"], rtol=rtol)
        print(f"{name:8} {1e3 * seconds[name]:10.2f} ms")
    how = "the same bits" if rtol == 0 else f"the same numbers but for rounding ({rtol:g})"
    ratio = seconds["NumPy"] / seconds["relu_ext"]
    print(f"{how}; with relu_ext {ratio:.2f} times as fast")
