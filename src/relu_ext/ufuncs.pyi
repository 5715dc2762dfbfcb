# Written by tools/stubs.py.

import numpy as np

__all__ = [
    "add_leaky_relu",
    "add_relu",
    "leaky_relu",
    "leaky_relu_backward",
    "leaky_relu_subgradient",
    "relu",
    "relu_backward",
    "relu_subgradient",
]

relu: np.ufunc
relu_subgradient: np.ufunc
relu_backward: np.ufunc
leaky_relu: np.ufunc
leaky_relu_subgradient: np.ufunc
leaky_relu_backward: np.ufunc
add_relu: np.ufunc
add_leaky_relu: np.ufunc
