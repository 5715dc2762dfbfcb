"""Train a small convolutional network on handwritten digits, with NumPy alone and with relu_ext.

python examples/conv_digits.py [EPOCHS]
"""

import sys
from functools import partial

import numpy as np
import relu_ext
from common import cross_entropy, digits, in_turn
from dense_digits import NUMPY, RELU_EXT


def numpy_pool(x):
    """The maxima of windows of (N, H/2, 2, W/2, 2, C), and where they are."""
    windows = np.moveaxis(x, (2, 4), (-2, -1)).reshape(*x.shape[:2], x.shape[3], x.shape[5], 4)
    which = windows.argmax(axis=-1)
    return np.take_along_axis(windows, which[..., None], axis=-1)[..., 0], which


def numpy_unpool(grad, which):
    windows = np.zeros((*grad.shape, 4), grad.dtype)
    np.put_along_axis(windows, which[..., None], grad[..., None], axis=-1)
    return np.moveaxis(windows.reshape(*grad.shape, 2, 2), (-2, -1), (2, 4))


def unpool(grad, which):
    return relu_ext.maxout_backward(grad, which, (2, 2), axis=(2, 4))


pool = partial(relu_ext.maxout, axis=(2, 4), return_which=True)
SETTINGS = {"NumPy": (*NUMPY, numpy_pool, numpy_unpool), "relu_ext": (*RELU_EXT, pool, unpool)}


def network(channels=16, classes=10, seed=0):
    """The kernel of 3 x 3 pixels and its bias, the weights of the dense layer and its bias."""
    draw, features = np.random.default_rng(seed).normal, 3 * 3 * channels
    kernel, dense = draw(0, 0.5, (9, channels)), draw(0, features**-0.5, (features, classes))
    return [a.astype("f4") for a in (kernel, np.zeros(channels), dense, np.zeros(classes))]


def forward(layers, functions, images):
    """The scores, and what the backward pass needs: the convolution is a product with patches."""
    (kernel, bias, dense, shift), (add_relu, _, pool, _) = layers, functions
    windows = np.lib.stride_tricks.sliding_window_view(images, (3, 3), axis=(1, 2))
    n, h, w, *_ = windows.shape
    patches = windows.reshape(n * h * w, 9)
    features = add_relu(patches @ kernel, bias)
    pooled, which = pool(features.reshape(n, h // 2, 2, w // 2, 2, len(bias)))
    flat = pooled.reshape(n, -1)
    return flat @ dense + shift, (patches, features, which, flat)


def step(layers, functions, images, labels, rate):
    """One step of gradient descent on the cross-entropy, which is returned."""
    (_, bias, dense, _), (_, backward, _, unpool) = layers, functions
    scores, (patches, features, which, flat) = forward(layers, functions, images)
    loss, grad = cross_entropy(scores, labels)
    unpooled = unpool((grad @ dense.T).reshape(which.shape), which).reshape(features.shape)
    grad_features, grad_bias = backward(unpooled, features, bias)
    gradients = patches.T @ grad_features, grad_bias, flat.T @ grad, grad.sum(axis=0)
    for parameter, gradient in zip(layers, gradients, strict=True):
        parameter -= rate * gradient
    return loss


def train(functions, data, batch=50, epochs=5, rate=0.2):
    """The loss of each step."""
    images, labels, layers, losses = data[0].reshape(-1, 8, 8), data[1], network(), []
    for epoch in range(epochs):
        order = np.random.default_rng(epoch).permutation(len(images))
        parts = np.array_split(order, len(order) // batch)
        losses += [step(layers, functions, images[at], labels[at], rate) for at in parts]
    return losses


if __name__ == "__main__":
    epochs, data = int((sys.argv[1:] or [10])[0]), digits()
    in_turn(lambda how: train(how, data, epochs=epochs), SETTINGS, rtol=1e-3)
