"""The stubs: against the modules they describe, and as a user's type checker sees them."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import relu_ext
from numpy.typing import NDArray
from relu_ext import _api, _maxout, _sums

import stubs
import typing_sample

# Cython writes the first into its modules; the others are types, which the stubs alone have.
ALLOWED = r"""
relu_ext\..*\.__(test|pyx_capi)__
relu_ext\._(api|maxout|sums)\.[A-Z]\w*
"""
ARRAYS = {NDArray[scalar]: scalar for scalar in (np.float32, np.float64, np.int8, np.bool)}


def check(folder, *arguments):
    """Run a checker in `folder`, where it finds relu_ext as users do, installed."""
    finished = subprocess.run(
        [sys.executable, "-m", *arguments], check=False, cwd=folder, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr


@pytest.mark.parametrize("name", stubs.STUBS)
def test_stubs_are_as_the_script_writes_them(name):
    assert (stubs.PACKAGE / name).read_text(encoding="utf-8") == stubs.written(name)


def test_stubs_have_a_docstring_for_every_function():
    functions = [
        node
        for name in stubs.STUBS
        for node in ast.parse((stubs.PACKAGE / name).read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node)
    ]
    here = {node.name: ast.get_docstring(node) for node in functions}
    public = {name for name in relu_ext.__all__ if callable(getattr(relu_ext, name))}
    assert set(here) == public - {"show_config"}  # which is Python and needs no stub
    for name, docstring in here.items():
        whole = inspect.getdoc(getattr(relu_ext, name))
        assert whole.startswith(docstring.partition("\n")[0] + "\n")
        parameters = inspect.signature(getattr(relu_ext, name)).parameters
        assert all(re.search(rf"\b{parameter}\b", docstring) for parameter in parameters)


def test_stubs_describe_the_modules(tmp_path):
    allowed = tmp_path / "allowed"
    allowed.write_text(ALLOWED)
    check(tmp_path, "mypy.stubtest", "relu_ext", "--allowlist", str(allowed))


@pytest.mark.parametrize("module", [_api, _maxout, _sums], ids=lambda module: module.__name__)
def test_defaults_of_overloads(module):
    """Which stubtest does not compare."""
    stub = ast.parse(
        Path(module.__file__).with_name(module.__name__.partition(".")[2] + ".pyi").read_text()
    )
    functions = [node for node in stub.body if isinstance(node, ast.FunctionDef)]
    assert functions
    for function in functions:
        for node in ast.walk(function.args):
            if isinstance(node, ast.arg):
                node.annotation = None
        overload = inspect.signature(eval(f"lambda {ast.unparse(function.args)}: ..."))
        there = inspect.signature(getattr(module, function.name)).parameters
        for name, parameter in overload.parameters.items():
            assert parameter.default in (parameter.empty, there[name].default), function.name


def test_sample_of_user_code(tmp_path):
    check(tmp_path, "mypy", "--strict", "--cache-dir", str(tmp_path), typing_sample.__file__)


def test_static_types_are_those_at_run_time(monkeypatch):
    checked = []

    def assert_type(value, claimed):
        if claimed in ARRAYS:
            assert value.dtype == ARRAYS[claimed]
        elif isinstance(claimed, str):
            assert f"{type(value).__name__}[" in claimed
        elif claimed is not Any:
            assert isinstance(value, claimed)
        checked.append(claimed)

    monkeypatch.setattr(typing_sample, "assert_type", assert_type)
    typing_sample.accepted()
    assert checked
