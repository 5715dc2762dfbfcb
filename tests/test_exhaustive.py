"""The exhaustive script itself: it counts what it compares, and a wrong bit does not escape it."""

import numpy as np
import pytest

import exhaustive
import reference
import samples


@pytest.mark.parametrize("pattern", [0, 0x3F800000, 0x7F800000, 0x80000000, 0xFF800000, 0xFFFFFFFF])
def test_parts_with_the_special_values(pattern):
    compared, difference = exhaustive.compare(pattern // exhaustive.PART)
    assert difference is None
    assert set(compared) == set(reference.OPERATIONS)
    ways = len(samples.LEVELS) * len(exhaustive.PATHS) * exhaustive.PART
    for operation in samples.OPERATIONS:
        cases = exhaustive.PARAMETERS[operation.parameter]
        assert compared[str(operation)] == ways * len(cases)


@pytest.mark.parametrize("operation", samples.OPERATIONS, ids=str)
def test_one_wrong_bit_is_found(monkeypatch, operation):
    right = reference.OPERATIONS[str(operation)]

    def wrong(*operands):
        values = right(*operands)
        values.view(np.uint32)[1234] ^= 1
        return values

    monkeypatch.setitem(reference.OPERATIONS, str(operation), wrong)
    compared, difference = exhaustive.compare(0, [str(operation)])
    assert set(compared) == {str(operation)}
    assert difference.startswith(str(operation)) and f"x {1234:#010x}" in difference
    assert compared[str(operation)] == exhaustive.PART


def test_sums_of_float16():
    """16 numbers with all 65,536; the script takes 2,048."""
    assert exhaustive.compare_sums(1, count=16) is None


def test_one_wrong_sum_is_found(monkeypatch):
    right = reference.OPERATIONS["add_relu"]

    def wrong(x, y):
        values = right(x, y)
        values.view(np.uint16)[0x1234] ^= 1
        return values

    monkeypatch.setitem(reference.OPERATIONS, "add_relu", wrong)
    assert exhaustive.compare_sums(1, count=1).endswith("and 0x1234")
