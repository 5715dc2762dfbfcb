"""ReLU, its subgradient and Leaky ReLU for NumPy arrays, in place and fast.

How a value is computed, from the ground up:

a. `_scalar.pxd`: what an operation means for one number, NaN and -0.0 included
b. `_kernels.pxi`: loops over contiguous memory, compiled once per CPU level
c. `_driver.pyx`: whole buffers: alignment, cache blocks, streaming stores, threads
d. `ufuncs.pyx`: NumPy ufuncs: every dtype, stride, shape and array type
e. `_api.pyx`: the front door: the common call at once, every other call through d

`_dispatch.pyx` chooses the CPU level of b; `_table.pxd` is the form in which a level exports it.
"""

from relu_ext import ufuncs
from relu_ext._api import (
    leaky_relu,
    leaky_relu_,
    leaky_relu_backward,
    leaky_relu_backward_,
    leaky_relu_subgradient,
    leaky_relu_subgradient_,
    relu,
    relu_,
    relu_backward,
    relu_backward_,
    relu_subgradient,
    relu_subgradient_,
)
from relu_ext._config import show_config
from relu_ext._dispatch import cpu_levels
from relu_ext._driver import get_num_threads, set_num_threads
from relu_ext._version import __version__

__all__ = [
    "__version__",
    "cpu_levels",
    "get_num_threads",
    "leaky_relu",
    "leaky_relu_",
    "leaky_relu_backward",
    "leaky_relu_backward_",
    "leaky_relu_subgradient",
    "leaky_relu_subgradient_",
    "relu",
    "relu_",
    "relu_backward",
    "relu_backward_",
    "relu_subgradient",
    "relu_subgradient_",
    "set_num_threads",
    "show_config",
    "ufuncs",
]
