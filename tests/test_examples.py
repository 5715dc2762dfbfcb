"""The examples run as they stand, are short, and compute the same with NumPy and with relu_ext."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SMALL = {"conv_digits": "1", "dense_digits": "2", "float16_prelu": "2", "policy": "50"}


def test_every_example_is_tested():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {*SMALL, "common", "in_pytorch"}


@pytest.mark.parametrize(("name", "setting"), SMALL.items())
def test_an_example_runs(name, setting):
    pytest.importorskip("sklearn")
    path = EXAMPLES / f"{name}.py"
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 80
    arguments = [sys.executable, "-W", "error", str(path), setting]
    said = subprocess.check_output(arguments, text=True)
    assert re.fullmatch(
        r"NumPy +[\d.]+ ms\nrelu_ext +[\d.]+ ms\n"
        r"the same .*; with relu_ext [\d.]+ times as fast\n",
        said,
    ), said


def test_an_example_notices_a_difference():
    sys.path.append(str(EXAMPLES))
    pytest.importorskip("sklearn")
    import common

    with pytest.raises(AssertionError):
        common.in_turn(lambda how: [how], {"NumPy": 1.0, "relu_ext": 1.0 + 1e-15})
