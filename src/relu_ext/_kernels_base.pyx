"""The kernels at level base: the compiler's default target. The flags are in setup.py."""
include "_kernels.pxi"
