"""The same programs in PyTorch, with the same numbers, which benchmarks/run.py compares."""

import torch
from torch import nn
from torch.nn import functional

tensor = torch.from_numpy


def linear(weights, bias):
    layer = nn.Linear(*weights.shape)
    layer.weight.data, layer.bias.data = torch.tensor(weights.T.copy()), torch.tensor(bias)
    return layer


def dense(layers):
    """The network of dense_digits.py and of policy.py."""
    parts = [part for layer in layers for part in (linear(*layer), nn.ReLU())]
    return nn.Sequential(*parts[:-1])


def convolutional(layers):
    """The network of conv_digits.py; images are NCHW here, and so are the features."""
    kernel, bias, weights, shift = layers
    convolution = nn.Conv2d(1, len(bias), 3)
    convolution.weight.data = torch.tensor(kernel.T.reshape(-1, 1, 3, 3).copy())
    convolution.bias.data = torch.tensor(bias)
    weights = weights.reshape(-1, len(bias), len(shift)).swapaxes(0, 1).reshape(weights.shape)
    parts = nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), linear(weights, shift)
    return nn.Sequential(nn.Unflatten(-2, (1, 8)), convolution, *parts)


def inference(model, batch, wrap):
    """A function that computes the scores; `wrap` may be torch.compile."""
    batch = tensor(batch)
    return wrap(lambda: model(batch))


def training(model, batch, labels, rate, wrap):
    """A function that descends the gradient of the cross-entropy, which it returns."""
    batch, labels = tensor(batch), tensor(labels)
    loss_of = wrap(lambda: functional.cross_entropy(model(batch), labels))
    optimizer = torch.optim.SGD(model.parameters(), rate)

    def step():
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def pipeline(stored, slopes, wrap):
    """A function that computes what float16_prelu.py does, of the first batch."""
    weight, (batch, *_) = tensor(slopes.ravel()), stored
    return wrap(lambda: functional.max_pool2d(functional.prelu(batch, weight), 2)[None])
