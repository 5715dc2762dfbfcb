# Written by tools/stubs.py: mypy does not read `__all__ += _api.__all__`.
# ruff: noqa: F401, F403, F405

from relu_ext import _api, ufuncs
from relu_ext._api import *
from relu_ext._config import show_config
from relu_ext._dispatch import cpu_levels
from relu_ext._maxout import maxout, maxout_backward
from relu_ext._threads import get_num_threads, set_num_threads
from relu_ext._version import __version__

__all__ = [
    "__version__",
    "add_leaky_relu",
    "add_leaky_relu_",
    "add_relu",
    "add_relu_",
    "cpu_levels",
    "get_num_threads",
    "leaky_relu",
    "leaky_relu_",
    "leaky_relu_backward",
    "leaky_relu_backward_",
    "leaky_relu_subgradient",
    "leaky_relu_subgradient_",
    "maxout",
    "maxout_backward",
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
