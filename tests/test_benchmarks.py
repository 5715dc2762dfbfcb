"""The benchmarks are an instrument: what they measure, refuse and write down is tested here.

No test depends on how fast anything is.
"""

import contextlib
import dataclasses
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import relu_ext
from relu_ext import ufuncs

pytest.importorskip("rich")
pytest.importorskip("matplotlib")
pytest.importorskip("ml_dtypes")
pytest.importorskip("scipy")
pytest.importorskip("threadpoolctl")
pytest.importorskip("sklearn")
sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

import compare
import dying_relu
import report
import run
import sklearn_mlp
from suite import (
    buffers,
    cases,
    experiment,
    files,
    layouts,
    machine,
    plan,
    programs,
    results,
    statements,
    tables,
)
from suite.cases import IN_PLACE, MODES, NEW, OPERATIONS, OURS, OUT, Cell, Contender

TINY = {"L1": 4096, "L2": 8192}


@contextlib.contextmanager
def here(level, kernels):
    """A worker that is this process."""
    assert level == relu_ext.cpu_levels().active and Path(kernels).is_dir()
    yield lambda found, seconds, seed: found.visit(seconds, seed)


@pytest.fixture(scope="session")
def kernels(tmp_path_factory):
    """A folder for what numba compiles, which a worker has otherwise."""
    return str(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(autouse=True)
def small_and_short(monkeypatch, kernels):
    """Little time, few numbers, one process; and the number of threads as it was before."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", kernels)
    monkeypatch.setattr(run, "SECONDS", {"default": 0.2, "quick": 0.2})
    monkeypatch.setattr(run, "worker", here)
    monkeypatch.setattr(buffers, "FRESH", 64)
    threads = relu_ext.get_num_threads()
    yield
    relu_ext.set_num_threads(threads)


def visited(cell, contenders, visits=2):
    found = experiment.Experiment(cell, contenders, TINY)
    for seed in range(visits):
        found.visit(0.0, seed)
    return found


def contenders(cell, libraries=("numpy", "scipy", OURS)):
    return [c for c in cell.contenders() if c.library in libraries]


def test_every_operation_has_a_case():
    others = "__version__ cpu_levels get_num_threads set_num_threads show_config ufuncs".split()
    public = {name.removesuffix("_") for name in {*relu_ext.__all__}.difference(others)}
    assert public - {"prelu"} == {operation.function for operation in OPERATIONS.values()}
    assert {*ufuncs.__all__} == {*cases.ELEMENTWISE}


def smallest_cells():
    """Every operation in every mode, of each kind of layout the smallest array."""
    smallest = dict.fromkeys(layouts.SIZED, 67)
    for kind in layouts.KINDS[len(layouts.SIZED) :]:
        labels = [label for label, view in layouts.VIEWS.items() if view.kind == kind]
        size, label = min((layouts.size_of(label), label) for label in labels)
        smallest[label] = size
    for name, (label, size) in itertools.product(OPERATIONS, smallest.items()):
        for mode in cases.modes(name, layouts.layout(label, size).kind):
            yield Cell(name, "float32", size, mode, layout=label)


@pytest.mark.parametrize("cell", list(smallest_cells()), ids=str)
def test_contenders_equal_the_oracle(cell):
    for dtype in (
        cases.dtypes(cell.operation) if cell.layout == layouts.CONTIGUOUS else ("float32",)
    ):
        cell = dataclasses.replace(cell, dtype=dtype)
        if cell.layout == layouts.TENSORS:
            pytest.importorskip("torch")
        found = experiment.Experiment(cell, contenders(cell), TINY)
        ready = found.prepare()
        assert OURS in {contender.name for contender in ready}
        assert found.differs[OURS] == []
        assert all("refuses" in reason for reason in found.absent.values())


@pytest.mark.parametrize(
    ("mode", "statement"),
    [
        (IN_PLACE, "np.maximum(x, 1, out=x)"),
        (IN_PLACE, "np.maximum(x, 0)"),
        (OUT, "np.maximum(x, 0, out=x)"),
        (NEW, "np.minimum(x, 0)"),
        (IN_PLACE, "x = np.minimum(x, 0)"),
    ],
)
def test_a_wrong_contender_is_not_timed(mode, statement):
    cell = Cell("relu", "float32", 100, mode)
    with pytest.raises(AssertionError, match="relu"):
        visited(cell, [contenders(cell)[0], Contender("wrong", statement)])


def test_a_contender_may_rebind_its_operand():
    cell = Cell("relu", "float32", 100, IN_PLACE)
    found = visited(cell, [contenders(cell)[0], Contender("new", "x = np.maximum(x, 0)")])
    assert found.absent == {} and found.ratios("new").min() > 0


@pytest.mark.parametrize(
    ("operation", "label", "name"),
    [
        ("relu", plan.FIRST_ROWS, cases.DENSE),
        ("leaky_relu", "(128, 256), slopes (256,)", cases.ONE_SLOPE),
        ("add_relu", plan.BIAS, cases.WITHOUT_ADDING),
    ],
)
def test_relu_ext_is_compared_with_itself(operation, label, name):
    """In buffers of its own: what the condition of the cell costs is a ratio like any other."""
    cell = Cell.of(operation, "float32", label, IN_PLACE)
    ours, itself, *_ = contenders(cell)
    assert itself.name == name and itself.cell.layout == cell.where.dense.label
    found = experiment.Experiment(cell, [ours, itself], TINY)
    views = {c.name: views[0] for c, (_, views, _) in found.prepare().items()}
    assert views[OURS] is not views[name]
    found.visit(0, 0)
    assert found.ratios(name).min() > 0


@pytest.mark.parametrize(
    ("operation", "label"),
    [
        ("relu_backward", "(8, 16, 34, 34)[:, :, 1:-1, 1:-1]"),
        ("leaky_relu", "(8, 32, 28, 28), slopes (32, 1, 1)"),
        ("add_relu", plan.BIAS),
        ("add_relu_backward", plan.BIAS),
        ("prelu_backward", "(8, 32, 28, 28), slopes (32, 1, 1)"),
        ("relu_backward", "(100, 100), x bool"),
        ("add_relu", "(128, 256), bias (256,), y float64"),
        ("leaky_relu", "(64, 128), slope float64"),
        ("relu_where", "(16384,), m bool"),
        ("maxout", plan.POOLING),
        ("maxout_which", "(50, 12, 2, 12, 2, 30), axis (2, 4)"),
        ("maxout_backward", "(50, 12, 2, 12, 2, 30), axis (2, 4)"),
        ("maxout_backward", plan.POOLING),
    ],
)
@pytest.mark.parametrize("library", ["numba", cases.TORCH])
def test_other_libraries_run_over_layouts(operation, label, library):
    pytest.importorskip(library)
    for mode in cases.modes(operation, layouts.layout(label, 0).kind):
        if library == "numba" and "maxout" in operation:
            continue
        cell = Cell.of(operation, "float32", label, mode)
        found = experiment.Experiment(cell, contenders(cell, (OURS, library)), TINY)
        names = {contender.name for contender in found.prepare()}
        assert {OURS, library} <= names and not found.absent


def test_a_layout_selects_what_is_computed_and_refills_all():
    cell = Cell.of("relu_backward", "float32", plan.FIRST_ROWS, IN_PLACE)
    made = buffers.Buffers(cell, TINY)
    for name in "gx":
        assert made.rows[0][name].shape == (64, 100) and made.rows[0][name].strides == (512, 4)
    before = made.arena.copy()
    made.refill(7)
    assert (made.arena[:32_768].view(np.float32) != before[:32_768].view(np.float32)).mean() > 0.9
    transposed = Cell.of("relu_backward", "float32", "(1000, 1000), g.T", IN_PLACE)
    row = buffers.Buffers(transposed, TINY).rows[0]
    assert row["g"].strides == (4, 4000) and row["x"].strides == (4000, 4)


def test_departures_from_the_contract_are_listed():
    cell = Cell("relu", "float32", 10, NEW)
    found = visited(cell, contenders(cell)).differs
    assert found["where"] == ["x = nan gives 0 instead of nan"]
    assert found["maximum"] == []
    assert "x = -inf gives nan instead of 0" in found["multiply"]


def test_absent_and_refusing_contenders_are_listed(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)  # importing it fails
    cell = Cell("relu", "float32", 10, NEW)
    found = visited(cell, contenders(cell, ("jax", OURS)))
    assert found.absent == {"jax": "not installed"}
    assert tables.notes([found]) == ["not installed: jax"]
    cell = Cell("relu_subgradient", "int8", 10, IN_PLACE)
    assert visited(cell, contenders(cell)).absent["heaviside"].startswith("refuses int8: ")


@pytest.mark.parametrize(
    ("dtype", "units", "expected"),
    [("f2", 0, True), ("f2", 1, True), ("f2", 2, False), ("i2", 1, False), ("f4", 1, False)],
)
def test_only_narrow_formats_round_otherwise(dtype, units, expected):
    right = np.array([1, -(2**-20), 3]).astype(dtype)
    integers = f"i{right.itemsize}"
    found = (right.view(integers) + np.array(units, integers)).view(dtype)
    assert experiment.rounds_otherwise(found, right) is expected
    assert not experiment.rounds_otherwise(-right, right)


@pytest.mark.parametrize("name", ["compile_statement", "slopes", "_bind"])
def test_a_mistake_of_the_suite_is_no_refusal(name, monkeypatch):
    def mistaken(*arguments):
        raise TypeError("a mistake")

    cell = Cell("relu", "float32", 10, NEW)
    found = experiment.Experiment(cell, contenders(cell)[1:2], TINY)
    monkeypatch.setattr(statements, name, mistaken)
    with pytest.raises(TypeError, match="a mistake"):
        found.prepare()


@pytest.mark.parametrize("mode", MODES)
def test_input_is_fresh(mode, monkeypatch):
    monkeypatch.setattr(buffers, "FRESH", 2**20)
    cell = Cell("relu", "float32", 100, mode)
    made = buffers.Buffers(cell, {"L1": 0, "L2": 2**20})
    assert len(made.rows) > 2 and made.warm == 1 and made.resident == "L2"
    before = [row["x"].copy() for row in made.rows]
    for row in made.rows:
        relu_ext.relu_(row["x"])
    made.refill(7)
    for old, row in zip(before, made.rows, strict=True):
        assert (row["x"] < 0).any() and not np.array_equal(old, row["x"])
        assert row["x"].ctypes.data % 16 == 0


def test_torch_has_tensors_of_its_own():
    cell = Cell("relu", "float32", 100, IN_PLACE)
    names = [contender.name for contender in cell.contenders()]
    assert names.index(cases.OWN_TENSORS) == names.index(cases.TORCH) + 1
    made = buffers.Buffers(cell, {"L1": 0, "L2": 2**20}, buffers.TORCH_ALIGNMENT)
    assert all(row["x"].ctypes.data % 64 == 0 for row in made.rows)


@pytest.mark.parametrize("library", [cases.TORCH, "jax"])
def test_buffers_that_share_memory_are_filled_before_a_check(library, monkeypatch):
    """Where the memory of another contender is aligned otherwise, and where one takes a copy."""
    pytest.importorskip("torch")
    pytest.importorskip(library)
    monkeypatch.setattr(buffers, "FRESH", 1000)
    cell = Cell("relu", "float32", 40_000, NEW)
    own = Contender(cases.OWN_TENSORS, "torch.relu(x)")
    (last,) = contenders(cell, (library,))[:1]
    found = experiment.Experiment(cell, [contenders(cell)[0], own, last], {"L1": 4096})
    assert len(found.prepare()) == 3


def test_masks_are_refilled_and_hold_no_other_numbers():
    for label in ("(256, 512), x bool", "(256, 512), x int8"):
        made = buffers.Buffers(Cell.of("relu_backward", "float32", label, IN_PLACE), TINY)
        (row,) = made.rows
        before = row["x"].copy()
        made.refill(7)
        assert {*np.unique(row["x"].view(np.uint8))} == {0, 1}
        assert 0.4 < (row["x"] != before).mean() < 0.6 and row["g"].dtype == np.float32


def test_one_buffer_where_no_cache_holds_a_ring():
    made = buffers.Buffers(Cell("relu_backward", "float64", 5000, OUT), TINY)
    assert (len(made.rows), made.warm, made.resident) == (1, 0, "memory")


def test_the_loop_calls_local_names_and_counts_every_buffer():
    cell = Cell("relu", "float32", 8, IN_PLACE)
    contender = contenders(cell)[1]
    _, loop = statements.compile_statement(cell, contender)
    assert "np_maximum" in loop.__code__.co_varnames and loop.__code__.co_names == ()
    ring = [np.full(8, -1, np.float32) for _ in range(5)]
    assert loop(ring[:1], ring[1:]) > 0
    assert not np.any(ring)


@pytest.mark.parametrize("calls", [1, 2, 30])
def test_what_the_loop_adds_is_subtracted(calls, monkeypatch):
    """Whatever reading the clock takes, a call of 7 ns is timed as 7 ns."""
    now = itertools.count(step=700)
    monkeypatch.setattr(statements.time, "perf_counter_ns", lambda: next(now) + 7 * len(done))
    done = []
    cell = Cell("relu", "float32", 8, IN_PLACE)
    names = statements.namespace("numpy", cell) | {"done": done}
    monkeypatch.setattr(statements, "namespace", lambda library, cell: names)
    _, loop = statements.compile_statement(cell, Contender("counts", "done.append(x)"))
    assert loop([None], [None] * calls) == 7 * calls


def test_caches_are_read_or_assumed(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "SYSTEM", tmp_path)
    assert machine.caches() == machine.ASSUMED_CACHES
    index = tmp_path / "index2"
    index.mkdir()
    for name, value in (("type", "Unified"), ("level", "2"), ("size", "1280K")):
        (index / name).write_text(value)
    assert machine.caches() == {"L2": 1280 * 1024}


def test_a_processor_is_told_by_its_microarchitecture():
    assert machine.microarchitecture("AuthenticAMD", 26, 2) == "Zen 5"
    assert machine.microarchitecture("AuthenticAMD", 25, 17) == "Zen 4"
    assert machine.microarchitecture("AuthenticAMD", 25, 1) == "Zen 3"
    assert machine.microarchitecture("GenuineIntel", 6, 106) == "Ice Lake"
    assert machine.microarchitecture("GenuineIntel", 6, 1) == "family 6, model 1"
    assert machine.file_name("Intel Xeon (Ice Lake)") == "intel-xeon-ice-lake.json"


@pytest.mark.parametrize("visits", [experiment.LEAST_VISITS, 10])
def test_intervals_cover_the_truth(visits):
    """As often as they say, where visits differ more than rounds do."""
    rng, covered = np.random.default_rng(0), 0
    for _ in range(300):
        effect = rng.normal(0, 0.05, (visits, 1))
        times = np.exp(effect + rng.normal(0, 0.03, (visits, 8)))
        _, low, high = experiment.summary(times, rng)
        covered += low <= 1 <= high
    assert 0.92 * 300 <= covered < 300


def test_summary():
    rng = np.random.default_rng(0)
    _, low, high = experiment.summary(3 + 0.1 * rng.standard_normal((5, 50)), rng)
    assert low < 3 < high and high - low < 2 * np.hypot(0.05, 3 * experiment.RUN)
    apart = experiment.summary(np.repeat([[1.0], [2.0], [3.0]], 50, axis=1), rng)
    reach = np.hypot(1, 2 * experiment.RUN)  # visits that disagree widen the interval
    assert apart == pytest.approx((2, 2 - reach, 2 + reach))
    alike = experiment.summary(np.full((20, 3), 7.0), rng)
    reach = 7 * experiment.RUN
    assert alike == pytest.approx((7, 7 - reach, 7 + reach))


def test_a_full_run_measures_what_is_shown(tmp_path):
    args = run.arguments(["--full", "--json", str(tmp_path / "out.json")])
    cells = plan.cells(args)
    assert {*plan.HEADLINES, *plan.MEMORY_BOUND, *plan.usual()} <= {*cells}
    assert len(plan.HEADLINES) <= 9 and len(cells) * run.SECONDS_PER_FULL_CELL < 20 * 60
    for cell in (*plan.HEADLINES, *plan.MEMORY_BOUND):
        names = [contender.name for contender in plan.taking_part(cell, args)]
        assert cell.usual in names and cases.OWN_TENSORS in names
        small = cell.size <= cases.SMALL or cell.operation == "maxout"
        assert small != any(name.startswith(cases.ROOFLINE) for name in names)


def test_processors_are_compared_with_what_users_write():
    """A pass over the same memory is the baseline only where memory is the limit."""
    for path in files.RESULTS.glob("*.json"):
        data = json.loads(path.read_text(encoding="utf-8"))
        cells, rows = results.measured(data), "\n".join(report.machines([data]))
        for cell in report.SHARED:
            if m := cells.get(cell):
                baseline = m.limit if cell in plan.MEMORY_BOUND else m.usual
                assert f"{baseline.text()} |" in rows.partition(tables.call(m))[2].split("\n")[0]


@pytest.mark.parametrize("mark", [">", "+", "*"])
def test_no_wrapped_line_begins_with_a_mark(mark):
    """It would begin a quotation or a list."""
    line = f"* {'word ' * 18}`x {mark} y {mark} z {mark} 0`, {'word ' * 30}end"
    for shift in range(30):
        (text,) = [*tables.paragraphs([line[: 20 + shift] + "x" + line[20 + shift :]])][1:]
        lines = text.splitlines()
        assert len(lines) > 2 and max(map(len, lines)) <= 100
        assert not any(part.lstrip().startswith(mark + " ") for part in lines[1:])


def test_a_pass_that_a_library_refuses_is_left_out():
    pytest.importorskip("torch")
    cell = cases.Cell("add_relu", "uint64", 2 * cases.SMALL, cases.IN_PLACE)
    measured = experiment.Experiment(cell, cell.contenders(), machine.caches())
    measured.visit(0.01, 0)
    assert "add_stub" in measured.absent[cases.ROOFLINE + "torch add"]
    assert cases.ROOFLINE + "add" in measured.visits[0]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["--layout", "bias", "--op", "add_relu"],
            {"(64, 128), bias (128,)", "(1000, 1000), bias (1000,)"},
        ),
        (["--layout", plan.FIRST_ROWS, "--dtype", "int8"], {plan.FIRST_ROWS}),
        (["--op", "maxout"], {plan.MAXOUT, "(4, 64, 50), axis 0"}),
        (["--op", "relu"], {"contiguous"}),
        (["--layout", "tensors", "--size", "64"], {"tensors"}),
    ],
)
def test_layouts_are_chosen(arguments, expected, tmp_path):
    cells = plan.cells(run.arguments([*arguments, "--json", str(tmp_path / "out.json")]))
    found = {cell.layout for cell in cells}
    assert expected <= found and len({layouts.layout(name, 1).kind for name in found}) == 1


@pytest.mark.parametrize(
    ("arguments", "recorded"),
    [
        (["--json", "relu", "--op", "relu", "add_relu"], ["--op", "relu", "add_relu"]),
        (["--op", "relu", "--js", "./relu", "--threads", "1"], ["--op", "relu", "--threads", "1"]),
        (["--quick", "--j=relu"], ["--quick"]),
        (["--layout", "(64, 128)[:, :100]", "--json", "relu"], ["--layout", "(64, 128)[:, :100]"]),
    ],
)
def test_the_command_is_recorded_without_the_file(arguments, recorded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = run.arguments(arguments)
    assert args.command == ["run.py", *recorded] and args.json == Path("relu")


@pytest.mark.parametrize("full", ["--full", "--ful"])
def test_only_a_full_run_is_for_publication(full, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(files, "PROGRAMS", tmp_path / "results" / "programs")
    monkeypatch.setattr(files, "LAST", tmp_path / "last.json")
    files.PROGRAMS.mkdir(parents=True)
    assert run.arguments([full]).json.parent == files.RESULTS
    assert run.arguments(["--programs"]).json.parent == files.PROGRAMS
    for arguments in ([full, "--threads", "1"], ["--quick"], []):
        assert run.arguments(arguments).json == files.LAST


def test_what_is_asked_for_by_name_has_to_be_installed(monkeypatch, capsys):
    monkeypatch.setattr(run, "find_spec", lambda name: name != "jax")
    with pytest.raises(SystemExit):
        run.arguments(["--against", "numpy", "jax"])
    assert "jax is not installed" in capsys.readouterr().err
    assert run.arguments(["--against", "numpy"]).against == ["numpy"]


def test_tensors_are_left_out_without_pytorch(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "find_spec", lambda name: None)
    found, left_out = run.experiments(run.arguments(["--json", str(tmp_path / "out.json")]))
    assert found and "tensors" not in {experiment.cell.layout for experiment in found}
    assert [why for why in left_out if "PyTorch" in why]


@pytest.mark.parametrize(
    ("arguments", "valid"),
    [
        (["--op", "gelu"], "relu_subgradient"),
        (["--dtype", "complex64"], "float32"),
        (["--layout", "diagonal"], "rows"),
        (["--size", "many"], "2^20"),
        (["--size", "0"], "2^20"),
        (["--against", "tensorflow"], "maximum"),
        (["--threads", "0"], "choose from"),
        (["--level", "v9"], relu_ext.cpu_levels().active),
        (["--json", "no/such/directory/out.json"], "a directory"),
        (["--json", "."], "a file"),
        (["--frobnicate"], "--frobnicate"),
        (["--op", "leaky_relu", "--dtype", "bool"], "has such a dtype"),
        (["--programs", "--op", "relu"], "valid: --json and --level"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(arguments, valid, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("out.json").write_text("precious")
    with pytest.raises(SystemExit) as stopped:
        run.main(["--json", "out.json", *arguments])
    error = capsys.readouterr()
    assert stopped.value.code == 2 and error.out == ""
    assert error.err.count("\n") == 1 and valid in error.err
    assert Path("out.json").read_text() == "precious" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("command", [report.main, compare.main])
@pytest.mark.parametrize("content", [None, "{", '{"schema": 0}', "[]"])
def test_bad_results_file(command, content, tmp_path, capsys):
    path = tmp_path / "results.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SystemExit) as stopped:
        command([str(path)] * (1 + (command is compare.main)))
    assert stopped.value.code == 2
    assert "valid: " in (error := capsys.readouterr().err) and error.count("\n") == 1


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A results file of a run over a few small cells."""
    path = tmp_path_factory.mktemp("results") / "tiny.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "SECONDS", {"default": 0.2})
        patch.setattr(buffers, "FRESH", 64)
        patch.setattr(run, "worker", experiment.worker)
        sizes = ["16", "64", "2^8", "1,024", "16384"]  # in processes of their own
        arguments = ["--op", "relu", "leaky_relu", "--dtype", "float32", "float16", "--size"]
        assert run.main([*arguments, *sizes, "--against", "numpy", "--json", str(path)]) == 0
    return path


def test_a_run_writes_what_report_reads(tiny, tmp_path, monkeypatch, capsys):
    data = json.loads(tiny.read_text())
    cells = results.measured(data)
    assert data["complete"] and len(cells) == 2 * 2 * 3 * 5
    for found in cells.values():
        assert found.usual.low <= found.usual.ratio <= found.usual.high and found.ours.ns > 0
        assert (cases.FLOOR in found.timings) == (found.cell.size <= cases.SMALL)
    assert {"numpy", "scipy"} <= data["machine"]["versions"].keys()
    root, folder = made_root(tmp_path), tmp_path / "results"
    folder.mkdir()
    (folder / "a-cpu.json").write_text(tiny.read_text())
    monkeypatch.setattr(files, "RESULTS", folder)
    monkeypatch.setattr(files, "PROGRAMS", folder / "programs")
    assert report.main(["--root", str(root)]) == 0
    written = (root / "README.md").read_text()
    assert "| `relu_(x)`, 64 float32 |" in written and written.count("old") == 1
    assert written.startswith("above\n") and written.endswith("below\n")
    assert "| `relu_(x)`, 64 float32 |" in capsys.readouterr().out
    assert "<br>" not in written and max(line.count("|") for line in written.splitlines()) == 6
    assert "| `relu_(x)`, 64 float32 |" in (root / "docs" / "speed.md").read_text()
    page = (folder / "a-cpu.md").read_text()
    assert "## relu\n" in page and "## leaky_relu\n" in page
    assert page.count("\n| 16 float32 | in place |") == 2
    assert max(line.count("|") for line in page.splitlines() if "`" not in line) == 6
    assert "| an empty call |" in page and "zeros: `np.maximum(x, zeros, out=x)`" in page
    drawn = {path.stem for path in (root / "benchmarks" / "pictures").iterdir()}
    assert drawn == {"speedup", "heat"}


def made_root(tmp_path):
    """A folder with the files into which report.py writes."""
    root = tmp_path / "root"
    (root / "benchmarks").mkdir(parents=True)
    (root / "docs").mkdir()
    for name in {*report.PLACES.values()}:
        marks = [f"<!-- {mark}: begin -->\nold\n<!-- {mark}: end -->\n"
                 for mark, path in report.PLACES.items() if path == name]  # fmt: skip
        (root / name).write_text("above\n" + "".join(marks) + "below\n")
    return root


@pytest.mark.parametrize("lacking", ["cells", "a place"])
def test_report_checks_before_it_writes(lacking, tiny, tmp_path, monkeypatch, capsys):
    root, data = made_root(tmp_path), json.loads(tiny.read_text())
    monkeypatch.setattr(files, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(files, "PROGRAMS", tmp_path / "results")
    given = tmp_path / "given.json"
    if lacking == "cells":
        data["cells"] = data["cells"][:3]
    else:
        (root / "docs" / "speed.md").write_text("no place")
    given.write_text(json.dumps(data))
    before = {path: path.is_file() and path.read_text() for path in tmp_path.rglob("*")}
    with pytest.raises(SystemExit):
        report.main([str(given), "--root", str(root)])
    message = "too few cells for " if lacking == "cells" else "no place in "
    assert message in (error := capsys.readouterr().err) and error.count("\n") == 1
    assert before == {path: path.is_file() and path.read_text() for path in tmp_path.rglob("*")}


@pytest.mark.parametrize(
    ("arguments", "count"), [(["--size", "64"], 6), (["--layout", "inside", "channels"], 12)]
)
def test_a_run_prints_a_line_of_80_columns_for_each_cell(arguments, count, tmp_path, capsys):
    path = str(tmp_path / "out.json")
    asked = ["--op", "relu", "leaky_relu", "--against", "numpy", "--json", path]
    assert run.main([*asked, *arguments]) == 0
    out = capsys.readouterr().out
    assert max(len(line.rstrip()) for line in out.splitlines()) <= 80
    tables, _, summary = out.partition("\nOverhead")
    lines = [line for line in tables.splitlines() if line.startswith(("relu", "leaky_relu"))]
    assert sum("×" in line and "s  " in line for line in lines) == count
    assert ("In short" in summary) == (count == 6) and "cells lose to a rival" in summary
    assert "instead of" not in out and "--differences" in summary


def test_differences_are_sentences(tiny):
    said = json.loads(tiny.read_text())["notes"]
    expected = (
        r"relu as `.*np\.where\(x > 0, x, zero\)` \(where\): .*x = nan gives 0 instead of nan"
    )
    assert any(re.match(expected, line) for line in said)


RECORDED = sorted(Path(__file__).with_name("runs").glob("*.json"))
"""Runs of one build with `run.py --quick`, two on an idle machine and two on a busy one, which were
recorded after the rule of compare.py was written."""


def recorded(path, times=1.0):
    """The cells of a recorded run, as they would be if relu_ext took so many times as long."""
    data = json.loads(path.read_text())
    for cell in data["cells"]:
        for name, numbers in cell["times"].items():
            numbers[0] *= times if name == OURS else 1
            numbers[1:] = [number / (1 if name == OURS else times) for number in numbers[1:]]
    return results.measured(data)


def test_runs_of_one_build_differ_by_noise():
    words = []
    for old, new in itertools.permutations(map(recorded, RECORDED), 2):
        words += compare.judged([(old[cell], new[cell]) for cell in old])
    assert len(words) == 12 * 52
    assert sum(map(bool, words)) <= compare.ERROR * len(words)


@pytest.mark.parametrize(("times", "word"), [(1.25, "slower"), (0.8, "faster")])
def test_a_change_of_a_quarter_is_beyond_the_noise(times, word):
    """Of an idle machine."""
    first, second = (path for path in RECORDED if path.stem.startswith("idle"))
    old, new = recorded(first), recorded(second, times)
    words = compare.judged([(old[cell], new[cell]) for cell in old if cell.size <= 16_384])
    assert words.count(word) > 0.9 * len(words)


def test_too_few_rivals_tell_no_change_from_noise():
    old, new = recorded(RECORDED[0]), recorded(RECORDED[0], 10)
    pairs = [(old[cell], new[cell]) for cell in old]
    assert compare.judged(pairs[:2]) == ["", ""] and compare.judged(pairs)[:2] == ["slower"] * 2


def test_compare_says_what_changed(tiny, tmp_path, capsys):
    assert compare.main([str(tiny), str(tiny)]) == 0
    same = capsys.readouterr().out
    assert same == "60 cells, 0 beyond the noise\n"

    def changed(cells, own, theirs):
        """Against the first file, what compare.py says if some times were so many times as long."""
        data = json.loads(tiny.read_text())
        for cell in data["cells"][:cells]:
            for name, numbers in cell["times"].items():
                numbers[0] *= own if name == OURS else theirs
                numbers[1:] = [n * (1 if name == OURS else theirs / own) for n in numbers[1:]]
        other = tmp_path / "other.json"
        other.write_text(json.dumps(data))
        compare.main([str(tiny), str(other)])
        return capsys.readouterr().out

    first = next(iter(results.measured(json.loads(tiny.read_text()))))
    assert f"faster: {first}\n  10.00× the speed against rivals" in changed(1, 0.1, 1)
    assert f"slower: {first}\n  0.10× the speed against rivals" in changed(1, 10, 1)
    out = changed(1, 1, 0.1)
    assert f"slower against rivals alone: {first}\n  0.10×" in out and "1.00× by its own" in out
    assert changed(60, 10, 1).count("slower: ") == 60
    assert changed(60, 10, 10).count("slower") == 0


def test_losses_are_found(tiny):
    data = json.loads(tiny.read_text())
    data["cells"][0]["times"]["maximum"][1:] = [0.5, 0.4, 0.6]
    cells = results.measured(data)
    first = next(iter(cells))
    assert (first, "maximum") in [(m.cell, t.contender.name) for m, t in results.lost(cells)]
    assert f"* {first}: 0.50× `" in "\n".join(tables.remarks(data, cells))


def test_overhead_is_told_apart_from_rivals():
    cell = Cell.of("relu", "float32", plan.FIRST_ROWS, IN_PLACE)
    times = {OURS: [100.0, 1.0, 1.0, 1.0], cases.DENSE: [30.0, 0.25, 0.2, 0.3],
             "maximum": [200.0, 2.0, 1.9, 2.1], "zeros": [90.0, 0.9, 0.8, 1.1]}  # fmt: skip
    cells = {cell: results.Measured(cell, times)}
    where = "relu_ (64, 128)[:, :100]"
    assert tables.overheads(cells) == [["on contiguous arrays", "4.00×", "4.00×", where]]
    ((_, (found,), statements),) = tables.by_operation(cells)
    assert tables.compared(found) == ["100 ns", "2.00×", "0.90×", "zeros"]
    zeros = "zeros: `np.maximum(x, zeros, out=x)`"
    assert statements == ["NumPy: `np.maximum(x, 0, out=x)`", zeros]


def test_interruption_keeps_what_was_measured(tmp_path, monkeypatch, capsys):
    path = tmp_path / "out.json"
    visit, visits = experiment.Experiment.visit, []

    def interrupted(self, seconds, seed):
        if len(visits) == 2:
            raise KeyboardInterrupt
        visits.append(self.cell)
        visit(self, seconds, seed)

    monkeypatch.setattr(experiment.Experiment, "visit", interrupted)
    arguments = ["--op", "relu", "--dtype", "float32", "--size", "16", "32", "--against", "clip"]
    assert run.main([*arguments, "--json", str(path)]) == 130
    data = json.loads(path.read_text())
    assert not data["complete"] and set(results.measured(data)) == set(visits)
    assert "interrupted: 2 of 6 cells measured" in capsys.readouterr().out


def test_a_closed_pipe_keeps_what_was_measured(tmp_path, monkeypatch):
    def closed(*arguments):
        raise BrokenPipeError

    monkeypatch.setattr(run.tables, "print_all", closed)
    path = tmp_path / "out.json"
    arguments = ["--op", "relu", "--dtype", "float32", "--size", "16", "--against", "clip"]
    with pytest.raises(BrokenPipeError):
        run.main([*arguments, "--json", str(path)])
    assert json.loads(path.read_text())["complete"]


@pytest.mark.parametrize(("spread", "least", "most"), [(0, 0, 0), (0.2, 5, 95), (1, 0, 0)])
def test_wide_intervals_are_visited_again(spread, least, most, monkeypatch):
    """Unless that would take too many visits."""
    rng = np.random.default_rng(0)
    cell = Cell("relu", "float32", 64, IN_PLACE)
    found = experiment.Experiment(cell, contenders(cell, ("numpy", OURS))[:2], TINY, seconds=1)

    def visit(self, seconds, seed):
        times = {OURS: [1.0], "maximum": [7 * (1 + spread * rng.uniform(-1, 1))]}
        self.visits.append(times)

    monkeypatch.setattr(experiment.Experiment, "visit", visit)
    found.visit(0, 0)
    assert found.seconds_to_good() == experiment.LEAST_VISITS - 1
    for _ in range(7):
        found.visit(0, 0)
    assert least <= found.seconds_to_good() <= most
    found.visits.clear()
    assert run.measure([found], "default")
    assert len(found.visits) >= run.SWEEPS["default"]
    assert found.seconds_to_good() == 0


def test_the_nearest_are_visited_first():
    cell = Cell("relu", "float32", 64, IN_PLACE)
    found = [experiment.Experiment(cell, [], TINY, seconds=seconds) for seconds in (3, 1, 2)]
    for seconds, names in (
        (0, []),
        (1, [1]),
        (3 * experiment.LEAST_VISITS, [1, 2]),
        (100, [1, 2, 0]),
    ):
        assert run.within_reach(found, seconds) == [found[at] for at in names]


def test_slow_contenders_take_part_seldom():
    """In one round of a block, and are held against the median of the block."""
    cell = Cell("relu", "float32", 1024, IN_PLACE)
    ours, usual = contenders(cell, ("numpy", OURS))[:2]
    slow = Contender("slow", "[np.maximum(x, 0, out=x) for _ in range(1000)]")
    found = visited(cell, [ours, usual, slow])
    found.rounds, found.visits = 0, []
    found.visit(1e3, 0)
    assert found.rounds == experiment.MOST_ROUNDS == found.times(OURS).size
    assert found.times("slow").size == experiment.MOST_ROUNDS / experiment.BLOCK
    found.visits = [{OURS: [*range(1, 9), *range(10, 18)], "slow": [45, 54]}]
    found.every = {OURS: 1, "slow": 8}
    assert found.ratios("slow").tolist() == [[10, 4]]
    assert found.ratios(OURS).shape == (1, 16)


def test_a_worker_is_another_process(tmp_path):
    cell = Cell("relu", "float32", 64, IN_PLACE)
    level, lowest = "__import__('relu_ext').cpu_levels().active", relu_ext.cpu_levels().available[0]
    noisy = Contender("noisy", f"print({level}) or np.maximum(x, {level} != '{lowest}', out=x)")
    pid = Contender("pid", f"assert __import__('os').getpid() != {os.getpid()}; relu_(x)")
    found = experiment.Experiment(cell, [contenders(cell)[0], noisy, pid], TINY)
    for seed in range(2):
        with experiment.worker(lowest, str(tmp_path)) as visit:
            visit(found, 0, seed)
    assert found.rounds and len(found.visits) == 2
    assert min(found.ratios("noisy").min(), found.ratios("pid").min()) > 0


def test_a_worker_that_dies_is_an_error():
    cell = Cell("relu", "float32", 64, IN_PLACE)
    deadly = Contender("deadly", "__import__('os')._exit(7)")
    found = experiment.Experiment(cell, [deadly], TINY)
    with (
        experiment.worker(relu_ext.cpu_levels().active, "") as visit,
        pytest.raises(RuntimeError, match="64 float32 ended with 7"),
    ):
        visit(found, 0, 0)


@pytest.fixture
def run_of_three_cells(tmp_path):
    """run.py in a group of processes of its own, and the file that it writes.

    SIGINT has a handler while it starts: one that this process ignores would be ignored there too.
    """
    path = tmp_path / "out.json"
    arguments = ["--op", "relu", "--dtype", "float32", "--size", "16", "--json", str(path)]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [sys.executable, run.__file__, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        yield process, path
        process.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent to groups of processes")
def test_control_c_keeps_what_was_measured(run_of_three_cells):
    process, path = run_of_three_cells
    # Every cell has been visited once, and at least as many visits are to come.
    said = [*itertools.takewhile(lambda line: "sweep 2" not in line, process.stderr)]
    os.killpg(process.pid, signal.SIGINT)
    out, error = process.communicate()
    assert process.returncode == 130, "".join(said) + error
    assert "interrupted: 3 of 3 cells measured" in out and "Traceback" not in error
    assert not json.loads(path.read_text())["complete"]


SMALL_PROGRAMS = (
    programs.Program(programs.POLICY, 1, (8, 64, 64, 4)),
    programs.Program(programs.INFERENCE, 8, (8, 16, 4)),
    programs.Program(programs.TRAINING, 8, (8, 16, 4)),
    programs.Program(programs.PART, 8, (8, 16, 4)),
    programs.Program(programs.CONVOLUTION, 4),
    programs.Program(programs.FLOAT16, 8),
)


def test_programs_are_measured_and_shown(tiny, tmp_path, monkeypatch, capsys):
    """Without PyTorch's compiler, which takes 20 seconds."""
    assert {p.kind for p in SMALL_PROGRAMS} == {program.kind for program in programs.PROGRAMS}
    if programs.find_spec("torch"):
        monkeypatch.setattr("torch.compile", lambda function, dynamic: function)
    monkeypatch.setattr(programs, "PROGRAMS", SMALL_PROGRAMS)
    monkeypatch.setattr(run, "SECONDS", {"programs": 1.0})
    whole = tmp_path / "programs" / "a-cpu.json"
    whole.parent.mkdir()
    assert run.main(["--programs", "--json", str(whole)]) == 0
    out, data = capsys.readouterr().out, json.loads(whole.read_text())
    for program, found in zip(SMALL_PROGRAMS, data["programs"], strict=True):
        ratio, low, high = found["relu_ext"]["NumPy"]
        assert f"| {program} | " in out and 0 < low < ratio < high
        part = program.kind == programs.PART
        assert ("PyTorch" in found["numpy"]) == bool(programs.find_spec("torch") and not part)
        assert (found["products"] > 0) == (program.kind != programs.FLOAT16 and not part)
        assert (programs.NUMPY_SUMS in found["relu_ext"]) == part
    monkeypatch.setattr(files, "RESULTS", tmp_path)
    monkeypatch.setattr(files, "PROGRAMS", whole.parent)
    root = made_root(tmp_path)
    assert report.main([str(tiny), "--root", str(root)]) == 0
    written = (root / "README.md").read_text()
    assert written.count("| 8-16-4, batch 8: a step of training |") == 1 and "old" not in written
    written = (root / "docs" / "speed.md").read_text()
    assert written.count(f"| {SMALL_PROGRAMS[3]} |") == 1 and "old" not in written
    assert (root / "benchmarks" / "pictures" / "programs.png").exists()


def test_a_wrong_program_is_not_timed(monkeypatch):
    monkeypatch.setattr(programs, "find_spec", lambda name: None)
    wrong = (relu_ext.add_relu_, lambda grad, output, bias: (grad, grad.sum(axis=0)))
    monkeypatch.setitem(programs.dense_digits.SETTINGS, OURS, wrong)
    with pytest.raises(AssertionError, match="a step of training: relu_ext"):
        programs.Run(SMALL_PROGRAMS[2]).visit(0.0, 0)


@np.errstate(all="ignore")
def test_relu_units_die_and_leaky_ones_return():
    """On average: a single training at such a rate hangs on the last bits of its sums."""
    found = {name: np.array([dying_relu.run(name, 2.0, 30, seed) for seed in range(4)])
             for name in dying_relu.ACTIVATIONS}  # fmt: skip
    (relu, good), (leaky, better) = (values.mean(axis=0).T for values in found.values())
    assert relu[-1] > 1.4 * leaky[-1] and relu[-1] > 0.75 * dying_relu.HIDDEN
    assert leaky[-1] < leaky.max() - 5 and better[-1] > good[-1] + 0.4


def test_dying_relu_says_where_the_picture_is(tmp_path, capsys):
    assert dying_relu.main(["--epochs", "2", "--seeds", "2", "--pictures", str(tmp_path)]) == 0
    path = tmp_path / "dying_relu.png"
    assert path.exists() and f"drawn: {path}" in capsys.readouterr().out


@pytest.mark.parametrize("solver", sklearn_mlp.SOLVERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scikit_learn_fits_alike(dtype, solver):
    found = sklearn_mlp.compare((20,), dtype, solver, epochs=2, repeats=2)
    assert found.shape == (2, 3) and found.min() > 0
    assert sklearn_mlp._base.ACTIVATIONS["relu"] is sklearn_mlp.THEIRS[0]
    assert sklearn_mlp._base.DERIVATIVES["relu"] is sklearn_mlp.THEIRS[1]


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGPIPE")
@pytest.mark.parametrize(
    "command",
    [
        [dying_relu.__file__, "--epochs", "1", "--seeds", "1", "--pictures"],
        [sklearn_mlp.__file__, "--epochs", "1", "--repeats", "1"],
    ],
)
def test_a_closed_pipe_is_no_error(command, tmp_path):
    drawn = command[-1] == "--pictures"
    process = subprocess.Popen(
        [sys.executable, *command, *([str(tmp_path)] if drawn else [])],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    with process:
        assert b"Traceback" not in process.stderr.read()
    assert process.returncode == -signal.SIGPIPE
    assert (tmp_path / "dying_relu.png").exists() == drawn
