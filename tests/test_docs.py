"""What is written: docstrings, the README's Python blocks, the trees of files."""

import ast
import contextlib
import doctest
import importlib.util
import inspect
import io
import re
from pathlib import Path
from unittest import mock

import pytest
import relu_ext
from relu_ext import ufuncs

ROOT = Path(__file__).parents[1]
FUNCTIONS = [name for name in relu_ext.__all__ if callable(getattr(relu_ext, name))]
WITHOUT_RESULT = {"set_num_threads", "show_config"}


def blocks(file, language):
    """The code blocks of a Markdown file."""
    text = (ROOT / file).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


class Comments(doctest.OutputChecker):
    """The comment behind an expression ends with its value; the dtype may be left out."""

    def check_output(self, want, got, optionflags):
        value = got.strip()
        without_dtype = re.sub(r", dtype=\w+", "", value)
        ends = f" {value}", f" {without_dtype}"
        return not want or (value != "" and want.rstrip().endswith(ends))


def run(examples, name, namespace, checker=None):
    """Run doctest's examples; where one fails, with its report."""
    test = doctest.DocTest(examples, {}, name, name, 0, None)
    test.globs = namespace  # not a copy
    report = io.StringIO()
    runner = doctest.DocTestRunner(checker, optionflags=doctest.ELLIPSIS)
    if runner.run(test, out=report.write, clear_globs=False).failed:
        pytest.fail(report.getvalue(), pytrace=False)


def sections(docstring):
    """The sections of a numpydoc docstring by title."""
    _, *parts = re.split(r"^(\w[\w ]*)\n-+\n", inspect.cleandoc(docstring), flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_docstring(name):
    function = getattr(relu_ext, name)
    found = sections(function.__doc__)
    parameters = re.findall(r"^(\w.*?)(?: : .+)?$", found.get("Parameters", ""), re.MULTILINE)
    documented = [parameter for line in parameters for parameter in line.split(", ")]
    assert documented == list(inspect.signature(function).parameters)
    assert ("Returns" in found) == (name not in WITHOUT_RESULT)
    examples = doctest.DocTestParser().get_examples(found["Examples"])
    assert examples
    run(examples, name, {})


def test_example_of_the_ufuncs():
    examples = doctest.DocTestParser().get_examples(ufuncs.__doc__)
    assert examples
    run(examples, "ufuncs", {})


def statements(block):
    """The top-level statements of a README block; of an expression, with the comment behind it."""
    lines = block.encode().splitlines()
    for node in ast.parse(block).body:
        behind = lines[node.end_lineno - 1][node.end_col_offset :].decode().strip()
        want = behind if isinstance(node, ast.Expr) else ""
        yield doctest.Example(ast.get_source_segment(block, node), want, lineno=node.lineno - 1)


def packages(block):
    """What a README block imports."""
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


@pytest.fixture(scope="module")
def namespace():
    """What the README's blocks have defined so far; what they change in scikit-learn is undone."""
    with contextlib.ExitStack() as changed:
        if importlib.util.find_spec("sklearn"):
            from sklearn.neural_network import _base

            changed.enter_context(mock.patch.dict(_base.ACTIVATIONS))
            changed.enter_context(mock.patch.dict(_base.DERIVATIVES))
        yield {"__name__": "__main__"}


@pytest.mark.parametrize(
    "block", blocks("README.md", "python"), ids=lambda block: block.splitlines()[0]
)
def test_readme(block, namespace):
    for package in packages(block):
        pytest.importorskip(package)
    run(list(statements(block)), "README.md", namespace, Comments())


def test_the_tree_names_every_file():
    source = r"[\w.]+\.(?:pyx|pxd|pxi|pyi|py|h)"
    named = set(re.findall(source, blocks("CONTRIBUTING.md", "text")[0]))
    folders = ("src/relu_ext", "tests", "tools", "benchmarks", "benchmarks/suite")
    there = {path.name for folder in folders for path in (ROOT / folder).iterdir()}
    assert named == {"setup.py"} | {name for name in there if re.fullmatch(source, name)}
