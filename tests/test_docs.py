"""What is written: docstrings, the pages' Python blocks, the files that they name, the tree."""

import ast
import collections
import contextlib
import doctest
import importlib.util
import inspect
import io
import re
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import relu_ext
from relu_ext import ufuncs

import evidence

ROOT = Path(__file__).parents[1]
FUNCTIONS = [name for name in relu_ext.__all__ if callable(getattr(relu_ext, name))]
PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
PAGES += sorted(str(page.relative_to(ROOT)) for page in ROOT.glob("docs/**/*.md"))
WITHOUT_RESULT = {"set_num_threads", "show_config"}


def text_of(page):
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page, language):
    """The code blocks of a Markdown file."""
    text = text_of(page)
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
    """The top-level statements of a block; of an expression, with the comment behind it."""
    lines = block.encode().splitlines()
    for node in ast.parse(block).body:
        behind = lines[node.end_lineno - 1][node.end_col_offset :].decode().strip()
        want = behind if isinstance(node, ast.Expr) else ""
        yield doctest.Example(ast.get_source_segment(block, node), want, lineno=node.lineno - 1)


def packages(block):
    """What a block imports."""
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def why_not(block):
    """Why a block does not run here, or None."""
    for package in packages(block):
        if importlib.util.find_spec(package.partition(".")[0]) is None:
            return f"no {package}"
    if "out=..." in block and np.lib.NumpyVersion(np.__version__) < "2.3.0":
        return "NumPy 2.3 brought out=..."
    return None


@pytest.fixture(scope="module")
def pages():
    """What each page's blocks have defined so far, and which of them have run; what they change in
    scikit-learn is undone."""
    with contextlib.ExitStack() as changed:
        if importlib.util.find_spec("sklearn"):
            from sklearn.neural_network import _base

            changed.enter_context(mock.patch.dict(_base.ACTIVATIONS))
            changed.enter_context(mock.patch.dict(_base.DERIVATIVES))
        yield collections.defaultdict(lambda: ({"__name__": "__main__"}, set()))


@pytest.mark.parametrize(
    ("page", "number"),
    [(page, number) for page in PAGES for number in range(len(blocks(page, "python")))],
)
def test_block(page, number, pages):
    """After the blocks before it, which another process may have run: pytest-xdist deals them."""
    namespace, done = pages[page]
    for i, block in enumerate(blocks(page, "python")[: number + 1]):
        reason = why_not(block)
        if reason is None and i not in done:
            done.add(i)
            run(list(statements(block)), page, namespace, Comments())
    if reason:
        pytest.skip(reason)


def calls():
    """The calls in the README's table of functions, and those of the functions in place."""
    _, _, table = text_of("README.md").partition("\n| call | what it computes |")
    for call in re.findall(r"^\| `(.*?)` \|", table.partition("\n\n")[0], re.MULTILINE):
        yield call
        if not call.startswith("maxout"):
            yield call.replace("(", "_(", 1)


def test_the_table_has_every_function():
    named = {call.partition("(")[0] for call in calls()}
    others = {"cpu_levels", "get_num_threads", "set_num_threads", "show_config"}
    assert named == set(FUNCTIONS) - others


@pytest.mark.parametrize("call", list(calls()))
def test_a_call_of_the_table(call):
    """Each runs as it is printed, with the defaults that the function has."""
    x, slope = np.float32([[-2, 3], [1, -1]]), np.float32([0.5, 0.25])
    names = {"x": x, "y": slope, "grad": x.copy(), "output": abs(x), "slope": slope}
    names |= {"which": np.zeros((2, 2), np.uint8), "pieces": 2}
    eval(call, vars(relu_ext) | names)
    node = ast.parse(call, mode="eval").body
    parameters = inspect.signature(getattr(relu_ext, node.func.id)).parameters
    needed = [name for name, p in parameters.items() if p.default is p.empty]
    assert [argument.id for argument in node.args] == needed
    for keyword in node.keywords:
        assert ast.literal_eval(keyword.value) == parameters[keyword.arg].default


def test_the_reference_lists_every_function():
    listed = re.findall(r"^    ([\w.]+)$", text_of("docs/reference.rst"), re.MULTILINE)
    assert sorted(listed) == sorted([*FUNCTIONS, *(f"ufuncs.{name}" for name in ufuncs.__all__)])


PATH = re.compile(r"(?:\.ci|benchmarks|docs|examples|src|tests|tools)/[\w./-]*\w")
LINK = re.compile(r"\]\(([^)#]+)(#[\w-]+)?\)")


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_names_is_there(page):
    """The files in its commands, the links, and the headings to which links lead."""
    text, folder = text_of(page), (ROOT / page).parent
    named = PATH.findall(re.sub(r"[\w./]*<\w+>", "", text))  # a placeholder names no file
    assert {path for path in named if not (ROOT / path).exists()} <= {"docs/build"}
    for link, heading in LINK.findall(text):
        if "://" not in link:
            assert (folder / link).exists(), link
        if heading:
            titles = re.findall(r"^#+ (.*)$", text_of(folder / link), re.MULTILINE)
            slugs = [re.sub(r"[^\w-]", "", title.lower().replace(" ", "-")) for title in titles]
            assert heading[1:] in slugs


def test_the_commands_of_the_evidence():
    """Each names test files and, with -k, tests that exist."""
    commands = re.findall(r"\| `([^`]+)` \|", text_of("docs/evidence.md"))
    assert commands
    for command in commands:
        file, _, words = command.partition(" -k ")
        tests = text_of(PATH.search(file)[0])
        for word in words.strip('"').split(" or ") if words else []:
            assert re.search(rf"^def test_\w*{word}", tests, re.MULTILINE), word


def test_the_evidence_is_written_by_its_commands(tmp_path, monkeypatch):
    tables = """\
| tried | counted | command | version |
| --- | --- | --- | --- |
| one | old | `echo '== 1234 passed, 2 skipped, 3 deselected in 3.00s =='` | old |
| two | old | `echo '9,876 results, no difference; 3 s'` | old |
| three | old | `echo '== 5 passed in 3.00s =='; false` | old |

| machine | compiler | Python | NumPy | counted | command | version |
| --- | --- | --- | --- | --- | --- | --- |
| four | old | old | old | old | `printf '\\174 %s ' D GCC 3.13 2.5 '7000 passed' '' # echo` | old |
"""
    page = tmp_path / "evidence.md"
    page.write_text(tables)
    monkeypatch.setattr(evidence, "PAGE", page)
    assert evidence.main(["echo"])  # the third command fails
    _, one, two, three, *_, four = map(evidence.cells, page.read_text().splitlines()[1:])
    assert one[1] == "1,234 passed, 2 skipped"
    assert two[1] == "9,876 results, no difference"
    assert three[1] == "old"
    assert four[:5] == ["four", "GCC", "3.13", "2.5", "7,000 passed"]
    assert one[-1].startswith(f"{relu_ext.__version__}, ")


def test_the_release_has_one_version_and_date():
    version, date = re.search(
        r"^## \[([\d.]+)\] - (\S+)$", text_of("CHANGELOG.md"), re.MULTILINE
    ).groups()
    assert version == relu_ext.__version__
    citation = text_of("CITATION.cff")
    assert f"version: {version}\n" in citation and f'date-released: "{date}"' in citation


def test_lengths():
    """The README is read in a minute, and CONTRIBUTING keeps to what a contributor does."""
    for page, most in (("README.md", 170), ("CONTRIBUTING.md", 140)):
        assert len(text_of(page).splitlines()) <= most


def test_the_tree_names_every_file():
    source = r"[\w.]+\.(?:pyx|pxd|pxi|pyi|py|h|sh)"
    named = set(re.findall(source, blocks("docs/design.md", "text")[0]))
    folders = ("src/relu_ext", "tests", "tools", "benchmarks", "benchmarks/suite", "examples")
    there = {path.name for folder in folders for path in (ROOT / folder).glob("*")}
    assert named == {"setup.py", "conf.py"} | {n for n in there if re.fullmatch(source, n)}
