"""The kernels at level v4: x86-64-v4 (AVX-512). The flags are in setup.py."""
include "_kernels.pxi"
