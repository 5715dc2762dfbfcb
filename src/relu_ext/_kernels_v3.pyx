"""The kernels at level v3: x86-64-v3 (AVX2, F16C). The flags are in setup.py."""
include "_kernels.pxi"
