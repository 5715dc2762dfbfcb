"""Train a dense network on handwritten digits, with NumPy alone and with relu_ext.

python examples/dense_digits.py [EPOCHS]
"""

import sys
from itertools import pairwise

import numpy as np
import relu_ext
from common import cross_entropy, digits, in_turn


def numpy_forward(z, bias):
    z += bias
    return np.maximum(z, 0, out=z)


def numpy_backward(grad, output, bias):
    np.multiply(grad, output > 0, out=grad)
    return grad, grad.sum(axis=0)


NUMPY = numpy_forward, numpy_backward
RELU_EXT = relu_ext.add_relu_, relu_ext.add_relu_backward_
SETTINGS = {"NumPy": NUMPY, "relu_ext": RELU_EXT}
"""What a hidden layer does after its matrix product, in place, and the gradients of that."""


def network(sizes, seed=0):
    """Weights and bias of each layer."""
    draw = np.random.default_rng(seed).normal
    return [(draw(0, (2 / rows) ** 0.5, (rows, columns)).astype("f4"), np.zeros(columns, "f4"))
            for rows, columns in pairwise(sizes)]  # fmt: skip


def outputs(layers, activation, batch):
    """The batch, the output of each hidden layer, and the scores of the classes."""
    found, (forward, _) = [batch], activation
    for weights, bias in layers[:-1]:
        found.append(forward(found[-1] @ weights, bias))
    weights, bias = layers[-1]
    return [*found, found[-1] @ weights + bias]


def scores(layers, activation, batch):
    """How likely the network finds each class, as a logarithm that is not normalised."""
    return outputs(layers, activation, batch)[-1]


def step(layers, activation, batch, labels, rate):
    """One step of gradient descent on the cross-entropy, which is returned."""
    (*inputs, last), (_, backward) = outputs(layers, activation, batch), activation
    loss, grad = cross_entropy(last, labels)
    grad_bias = grad.sum(axis=0)
    for index in reversed(range(len(layers))):
        (weights, bias), shift = layers[index], rate * grad_bias
        change = rate * (inputs[index].T @ grad)
        if index:
            grad, grad_bias = backward(grad @ weights.T, inputs[index], layers[index - 1][1])
        weights -= change
        bias -= shift
    return loss


def train(activation, data, sizes=(64, 128, 10), batch=64, epochs=20, rate=0.1, seed=0):
    """Yield the layers and the mean loss after each epoch."""
    (images, labels), layers, rng = data, network(sizes, seed), np.random.default_rng(seed)
    for _ in range(epochs):
        parts = np.array_split(rng.permutation(len(images)), len(images) // batch)
        losses = [step(layers, activation, images[at], labels[at], rate) for at in parts]
        yield layers, float(np.mean(losses))


if __name__ == "__main__":
    epochs, data = int((sys.argv[1:] or [50])[0]), digits()
    in_turn(lambda how: [loss for _, loss in train(how, data, epochs=epochs)], SETTINGS, rtol=1e-4)
