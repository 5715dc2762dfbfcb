"""Options and fixtures that all tests share."""

import os

import hypothesis
import numpy as np
import pytest
import relu_ext

import samples

# Hypothesis keeps failing examples in the folder that the tests run in, and warns where it cannot.
hypothesis.settings.register_profile("nothing kept", database=None)
if not os.access(".", os.W_OK):
    hypothesis.settings.load_profile("nothing kept")

# Threads that wait for each other would take the CPU from those of another pytest process.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Before PyTorch is imported: its copy of OpenMP's runtime would be shared, and the benchmarks let
# PyTorch use one thread only.
relu_ext.set_num_threads(2)
relu_ext.set_num_threads(1)


def pytest_addoption(parser):
    parser.addoption(
        "--large-memory", action="store_true", help="also the tests that need several GiB"
    )
    parser.addoption("--builds", action="store_true", help="also the tests that build for minutes")


@pytest.fixture
def large_memory(request):
    if not request.config.getoption("--large-memory"):
        pytest.skip("needs several GiB: --large-memory")


@pytest.fixture(params=samples.LEVELS)
def level(request):
    """Each CPU level that this machine can run, active during the test."""
    with samples.at_level(request.param):
        yield request.param


@pytest.fixture(params=[1, 2])
def threads(request):
    """The number of threads that share large arrays."""
    relu_ext.set_num_threads(request.param)
    try:
        if relu_ext.get_num_threads() < request.param:
            pytest.skip("no OpenMP, or its settings allow one thread only")
        yield request.param
    finally:
        relu_ext.set_num_threads(1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """No value of an array makes the library raise or warn, whatever the caller's errstate."""
    with np.errstate(all="raise"):
        return (yield)
