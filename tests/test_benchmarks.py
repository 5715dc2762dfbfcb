"""The benchmarks are an instrument: what they measure, refuse and write down is tested here.

No test depends on how fast anything is.
"""

import copy
import importlib
import json
import os
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
pytest.importorskip("sklearn")
sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

import cases
import compare
import digits
import dying_relu
import machine
import measure
import report
import results
import run
import sklearn_mlp
import worker
from cases import FIGURES, IN_PLACE, MODES, NEW, OPERATIONS, OURS, OUT, Cell, Contender

TINY = {"L1": 4096, "L2": 8192}


class Here:
    """A worker that is this process."""

    def __init__(self, settings):
        assert settings["RELU_EXT_CPU_LEVEL"] == relu_ext.cpu_levels().active

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def visit(self, experiment, seconds, seed):
        experiment.visit(seconds, seed)


@pytest.fixture(autouse=True)
def small_and_short(monkeypatch):
    """Short of time, of numbers and of processes; threads as they were afterwards."""
    monkeypatch.setattr(run, "SECONDS", {"default": 0.2, "quick": 0.2, "self-check": 0.2})
    monkeypatch.setattr(run, "Worker", Here)
    monkeypatch.setattr(measure, "FRESH", 64)
    threads = relu_ext.get_num_threads()
    yield
    relu_ext.set_num_threads(threads)


def visited(cell, contenders, visits=2):
    experiment = measure.Experiment(cell, contenders, TINY)
    for seed in range(visits):
        experiment.visit(0.0, seed)
    return experiment


def statements(cell, libraries=("numpy", "scipy", OURS)):
    return [c for c in cell.contenders(large=True) if c.library in libraries]


def test_every_operation_has_a_case(monkeypatch):
    assert set(OPERATIONS) == set(ufuncs.__all__)
    for operation, case in OPERATIONS.items():
        assert {"float16", "float32", "float64"} <= set(cases.dtypes(operation))
        assert any(c.library == "numpy" for c in Cell(operation, "float32", 4, NEW).contenders(
            large=False)), operation  # fmt: skip
        assert getattr(ufuncs, operation).nin == len(case.operands) + (operation != "relu")
    monkeypatch.setattr(ufuncs, "__all__", [*ufuncs.__all__, "gelu"])
    specification = importlib.util.find_spec("cases")
    with pytest.raises(LookupError, match="gelu"):
        specification.loader.exec_module(importlib.util.module_from_spec(specification))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_contenders_equal_the_oracle(operation, mode):
    for dtype in cases.dtypes(operation):
        cell = Cell(operation, dtype, 67, mode)
        experiment = measure.Experiment(cell, statements(cell), TINY)
        ready = experiment.prepare()
        assert OURS in {contender.name for contender in ready}
        assert experiment.differs[OURS] == []
        assert all("refuses" in reason for reason in experiment.absent.values())


@pytest.mark.parametrize(
    ("mode", "statement"),
    [
        (IN_PLACE, "np.maximum(x, 1, out=x)"),
        (IN_PLACE, "np.maximum(x, 0)"),
        (OUT, "np.maximum(x, 0, out=x)"),
        (NEW, "np.minimum(x, 0)"),
    ],
)
def test_a_wrong_contender_is_not_timed(mode, statement):
    cell = Cell("relu", "float32", 100, mode)
    with pytest.raises(AssertionError, match="relu"):
        visited(cell, [statements(cell)[0], Contender("wrong", statement, 1)])


def test_departures_from_the_contract_are_listed():
    cell = Cell("relu", "float32", 10, NEW)
    found = visited(cell, statements(cell)).differs
    assert found["where"] == ["x = nan: 0, not nan"]
    assert found["maximum"] == []
    assert "x = -inf: nan, not 0" in found["multiply"]


def test_absent_and_refusing_contenders_are_listed(monkeypatch):
    monkeypatch.setitem(cases.LIBRARIES, "jax", ("there_is_no_such_module",))
    cell = Cell("relu", "float32", 10, NEW)
    found = visited(cell, statements(cell, ("jax", OURS))).results(np.random.default_rng(0))
    assert {c["name"]: c["status"] for c in found["contenders"]}["jax"] == "not installed"
    cell = Cell("relu_subgradient", "int8", 10, IN_PLACE)
    assert visited(cell, statements(cell)).absent["heaviside"].startswith("refuses int8: ")


@pytest.mark.parametrize("mode", MODES)
def test_input_is_fresh(mode, monkeypatch):
    monkeypatch.setattr(measure, "FRESH", 2**20)
    cell = Cell("relu", "float32", 100, mode)
    buffers = measure.Buffers(cell, {"L1": 0, "L2": 2**20})
    assert len(buffers.rows) > 2 and buffers.warm == 1 and buffers.resident == "L2"
    before = [row["x"].copy() for row in buffers.rows]
    for row in buffers.rows:
        relu_ext.relu_(row["x"])
    buffers.refill(7)
    for old, row in zip(before, buffers.rows, strict=True):
        assert (row["x"] < 0).any() and not np.array_equal(old, row["x"])
        assert row["x"].ctypes.data % 16 == 0


def test_torch_has_tensors_of_its_own():
    cell = Cell("relu", "float32", 100, IN_PLACE)
    names = [contender.name for contender in cell.contenders(large=False)]
    assert names.index(cases.OWN_TENSORS) == names.index(cases.TORCH) + 1
    buffers = measure.Buffers(cell, {"L1": 0, "L2": 2**20}, measure.TORCH_ALIGNMENT)
    assert all(row["x"].ctypes.data % 64 == 0 for row in buffers.rows)


def test_one_buffer_where_no_cache_holds_a_ring():
    buffers = measure.Buffers(Cell("relu_backward", "float64", 5000, OUT), TINY)
    assert (len(buffers.rows), buffers.warm, buffers.resident) == (1, 0, "memory")


def test_the_loop_calls_local_names_and_counts_every_buffer():
    cell = Cell("relu", "float32", 8, IN_PLACE)
    contender = statements(cell)[1]
    _, loop = measure.compile_statement(cell, contender, cell.size)
    assert "np_maximum" in loop.__code__.co_varnames and loop.__code__.co_names == ()
    ring = [np.full(8, -1, np.float32) for _ in range(5)]
    assert loop(ring[:1], ring[1:]) > 0
    assert not np.any(ring)


def test_caches_are_known_without_sysfs(tmp_path, monkeypatch):
    known, source = machine.caches()
    assert known["L1"] < known["L2"] and source in ("sysfs", "sysconf", "assumed")
    monkeypatch.setattr(machine, "SYSTEM", tmp_path)
    monkeypatch.setattr(machine.os, "sysconf", lambda name: -1)
    assert machine.caches() == (machine.ASSUMED_CACHES, "assumed")
    monkeypatch.setattr(machine.os, "sysconf", lambda name: 12_345)
    assert machine.caches() == (dict.fromkeys(("L1", "L2", "L3"), 12_345), "sysconf")


@pytest.mark.parametrize("visits", [measure.LEAST_VISITS, 10])
def test_intervals_cover_the_truth(visits):
    """As often as they say, where visits differ more than rounds do."""
    rng, covered = np.random.default_rng(0), 0
    for _ in range(300):
        effect = rng.normal(0, 0.05, (visits, 1))
        found = measure.summary(np.exp(effect + rng.normal(0, 0.03, (visits, 8))), rng)
        covered += found["low"] <= 1 <= found["high"]
    assert 0.92 * 300 <= covered < 300


def test_summary():
    rng = np.random.default_rng(0)
    found = measure.summary(3 + 0.1 * rng.standard_normal((5, 50)), rng)
    widest = 2 * np.hypot(0.05, 3 * measure.RUN)
    assert found["low"] < 3 < found["high"] and found["high"] - found["low"] < widest
    assert found["quartile_1"] < found["median"] < found["quartile_3"]
    apart = measure.summary(np.repeat([[1.0], [2.0], [3.0]], 50, axis=1), rng)
    reach = np.hypot(1, 2 * measure.RUN)  # visits that disagree widen the interval
    assert (apart["low"], apart["high"]) == pytest.approx((2 - reach, 2 + reach))
    alike = measure.summary(np.full((20, 3), 7.0), rng)
    reach = 7 * measure.RUN
    assert (alike["low"], alike["high"]) == pytest.approx((7 - reach, 7 + reach))


def test_every_figure_has_its_contenders():
    for cell, against in FIGURES.items():
        names = [contender.name for contender in cell.contenders(large=True)]
        for wanted in against:
            assert any(name == w or name.startswith(w) for name in names for w in wanted), cell


@pytest.mark.parametrize(
    ("arguments", "valid"),
    [
        (["--op", "gelu"], "relu_subgradient"),
        (["--dtype", "complex64"], "float32"),
        (["--size", "many"], "2^20"),
        (["--size", "0"], "2^20"),
        (["--against", "tensorflow"], "maximum"),
        (["--threads", "0"], "1 to"),
        (["--level", "v9"], relu_ext.cpu_levels().active),
        (["--json", "no/such/directory/out.json"], "a directory"),
        (["--json", "."], "a file"),
        (["--frobnicate"], "--frobnicate"),
        (["--op", "leaky_relu", "--dtype", "bool"], "takes a dtype"),
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
        patch.setattr(measure, "FRESH", 64)
        patch.setattr(run, "Worker", worker.Worker)
        sizes = ["16", "64", "2^8", "1,024", "16384"]  # in processes of their own
        arguments = ["--op", "relu", "leaky_relu", "--dtype", "float32", "float16", "--size"]
        assert run.main([*arguments, *sizes, "--against", "numpy", "--json", str(path)]) == 0
    return path


def test_a_run_writes_what_report_reads(tiny, tmp_path, capsys):
    data = json.loads(tiny.read_text())
    cells = results.measured(data)
    assert data["complete"] and len(cells) == 2 * 2 * 3 * 5
    for found in cells.values():
        ratio = found.contenders["maximum"]["ratio"]
        assert ratio["low"] <= ratio["median"] <= ratio["high"] and found.ours["ns"]["median"] > 0
        assert (cases.FLOOR in found.contenders) == (found.cell.size <= cases.SMALL)
    assert {"numpy", "scipy"} <= data["machine"]["versions"].keys()
    readme = tmp_path / "README.md"
    readme.write_text(f"above\n{report.BEGIN}\nold\n{report.END}\nbelow\n")
    pictures = tmp_path / "pictures"
    assert report.main([str(tiny), "--pictures", str(pictures), "--readme", str(readme)]) == 0
    written = readme.read_text()
    assert "`relu_(x)`" in written and "old" not in written
    assert written.startswith("above\n") and written.endswith("below\n")
    assert capsys.readouterr().out in written
    kinds = {f"{name}.{kind}" for name in ("time", "speedup", "heat", "functions")
             for kind in ("svg", "png")}  # fmt: skip
    assert {path.name for path in pictures.iterdir()} == kinds
    readme.write_text("no place")
    with pytest.raises(SystemExit):
        report.main([str(tiny), "--pictures", str(pictures), "--readme", str(readme)])
    assert readme.read_text() == "no place"


def test_compare_tells_a_change_from_none(tiny, tmp_path, capsys):
    assert compare.main([str(tiny), str(tiny)]) == 0
    same = capsys.readouterr().out
    assert "100.0% agree" in same and "faster" not in same and "slower" not in same
    data = json.loads(tiny.read_text())
    changed = copy.deepcopy(data)
    for contender in changed["cells"][0]["contenders"]:
        for name in ("median", "low", "high"):
            if "ratio" in contender:
                contender["ratio"][name] *= 10
    other = tmp_path / "other.json"
    other.write_text(json.dumps(changed))
    compare.main([str(tiny), str(other)])
    assert f"faster: {next(iter(results.measured(data)))}: 10.00 times" in capsys.readouterr().out
    compare.main([str(other), str(tiny)])
    assert "slower: " in capsys.readouterr().out


def test_losses_are_found(tiny):
    data = json.loads(tiny.read_text())
    contender = data["cells"][0]["contenders"][1]
    contender["ratio"] |= {"median": 0.5, "low": 0.4, "high": 0.6}
    cells = results.measured(data)
    assert [(m.cell, rival["name"]) for m, rival in results.lost(cells)].count(
        (next(iter(cells)), contender["name"])) == 1  # fmt: skip
    assert "0.50× against" in "\n".join(report.table(data, cells))


def test_interruption_keeps_what_was_measured(tmp_path, monkeypatch, capsys):
    path = tmp_path / "out.json"
    visit, visits = measure.Experiment.visit, []

    def interrupted(experiment, seconds, seed):
        if len(visits) == 2:
            raise KeyboardInterrupt
        visits.append(experiment.cell)
        visit(experiment, seconds, seed)

    monkeypatch.setattr(measure.Experiment, "visit", interrupted)
    arguments = ["--op", "relu", "--dtype", "float32", "--size", "16", "32", "--against", "clip"]
    assert run.main([*arguments, "--json", str(path)]) == 130
    data = json.loads(path.read_text())
    assert not data["complete"] and set(results.measured(data)) == set(visits)
    assert "interrupted: 2 of 6 cells measured" in capsys.readouterr().out


def test_a_closed_pipe_keeps_what_was_measured(tmp_path, monkeypatch):
    def closed(out, data):
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
    experiment = measure.Experiment(cell, statements(cell, ("numpy", OURS))[:2], TINY, seconds=1)

    def visit(experiment, seconds, seed):
        times = {OURS: [1.0], "maximum": [7 * (1 + spread * rng.uniform(-1, 1))]}
        experiment.visits.append(times)

    monkeypatch.setattr(measure.Experiment, "visit", visit)
    experiment.visit(0, 0)
    assert experiment.seconds_to_good() == measure.LEAST_VISITS - 1
    for _ in range(7):
        experiment.visit(0, 0)
    assert least <= experiment.seconds_to_good() <= most
    experiment.visits.clear()
    assert run.measure([experiment], "default")
    assert len(experiment.visits) >= run.SWEEPS["default"]
    assert experiment.seconds_to_good() == 0


def test_the_nearest_are_visited_first():
    cell = Cell("relu", "float32", 64, IN_PLACE)
    plan = [measure.Experiment(cell, [], TINY, seconds=seconds) for seconds in (3, 1, 2)]
    for seconds, names in ((0, []), (1, [1]), (3 * measure.LEAST_VISITS, [1, 2]), (100, [1, 2, 0])):
        assert run.within_reach(plan, seconds) == [plan[at] for at in names]


def test_slow_contenders_take_part_seldom():
    """In one round of a block, and are held against the median of the block."""
    cell = Cell("relu", "float32", 1024, IN_PLACE)
    ours, usual = statements(cell, ("numpy", OURS))[:2]
    slow = Contender("slow", "[np.maximum(x, 0, out=x) for _ in range(1000)]", 1)
    experiment = visited(cell, [ours, usual, slow])
    experiment.rounds, experiment.visits = 0, []
    experiment.visit(1e3, 0)
    assert experiment.rounds == measure.MOST_ROUNDS == experiment.times(OURS).size
    assert experiment.times("slow").size == measure.MOST_ROUNDS / measure.BLOCK
    experiment.visits = [{OURS: [*range(1, 9), *range(10, 18)], "slow": [45, 54]}]
    experiment.every = {OURS: 1, "slow": 8}
    assert experiment.ratios("slow").tolist() == [[10, 4]]
    assert experiment.ratios(OURS).shape == (1, 16)


def test_a_worker_is_another_process():
    cell = Cell("relu", "float32", 64, IN_PLACE)
    level = "__import__('relu_ext').cpu_levels().active"
    noisy = Contender("noisy", f"print({level}) or np.maximum(x, {level} != 'base', out=x)", 1)
    experiment = measure.Experiment(cell, [statements(cell)[0], noisy], TINY)
    processes = set()
    for seed in range(2):
        with worker.Worker({"RELU_EXT_CPU_LEVEL": "base"}) as there:
            there.visit(experiment, 0, seed)
            processes.add(there.process.pid)
        assert there.process.poll() is not None
    assert experiment.checked and experiment.rounds and len(experiment.visits) == len(processes)
    assert experiment.ratios("noisy").min() > 0 and os.getpid() not in processes


def test_a_worker_that_dies_is_an_error():
    cell = Cell("relu", "float32", 64, IN_PLACE)
    deadly = Contender("deadly", "__import__('os')._exit(7)", 1)
    experiment = measure.Experiment(cell, [deadly], TINY)
    with worker.Worker({}) as there, pytest.raises(RuntimeError, match="64 float32 ended with 7"):
        there.visit(experiment, 0, 0)


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent to groups of processes")
def test_control_c_keeps_what_was_measured(tmp_path):
    path = tmp_path / "out.json"
    arguments = ["--op", "relu", "--dtype", "float32", "--size", "16", "--json", str(path)]
    process = subprocess.Popen(
        [sys.executable, run.__file__, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"FORCE_COLOR": "1"},  # progress as on a terminal
    )
    shown = ""
    while "visit 2" not in shown and process.poll() is None:
        shown += process.stderr.read(1)
    os.killpg(process.pid, signal.SIGINT)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 130, shown + error
    assert "interrupted: 3 of 3 cells measured" in out and "Traceback" not in error
    assert not json.loads(path.read_text())["complete"]


def test_self_check_finds_what_beats_itself(monkeypatch):
    from rich.console import Console

    def pretend(ratio):
        def visit(experiment, seconds, seed):
            experiment.visits.append({c.name: [1.0] if c.name == OURS else [ratio]
                                      for c in experiment.contenders})  # fmt: skip

        return visit

    monkeypatch.setattr(measure.Experiment, "seconds_to_good", lambda experiment: 0.0)
    for ratio, good in ((1.0, True), (1.009, True), (1.02, False)):
        monkeypatch.setattr(measure.Experiment, "visit", pretend(ratio))
        assert run.self_check(Console(quiet=True)) is good


def test_rectified_input_is_rectified():
    cell = Cell("relu", "float32", 100, IN_PLACE)
    buffers = measure.Buffers(cell, TINY)
    buffers.rectify()
    buffers.refill(0, rectified=True)
    assert all((row["x"] >= 0).all() and row["x"].any() for row in buffers.rows)


def test_digits_learn_alike(monkeypatch):
    found = digits.compare(1)
    assert found["accuracy"] > 0.5
    assert all(found[name]["numpy"] > 0 for name in ("seconds", "seconds_in_activation"))
    monkeypatch.setattr(digits, "RELU_EXT", digits.leaky(0.5))
    with pytest.raises(AssertionError, match="differ"):
        digits.compare(1)


def test_relu_units_die_and_leaky_ones_return():
    found = dying_relu.runs()
    relu, leaky = found["ReLU"], found["Leaky ReLU"]
    assert relu.dead[-1] > 2 * leaky.dead[-1]
    assert relu.dead[-1] > 0.75 * sum(dying_relu.HIDDEN)
    assert any(later < earlier for earlier, later in zip(leaky.dead, leaky.dead[1:], strict=False))
    assert leaky.accuracy > relu.accuracy + 0.5


@pytest.mark.parametrize("solver", sklearn_mlp.SOLVERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scikit_learn_fits_alike(dtype, solver):
    found = sklearn_mlp.compare((20,), dtype, solver, epochs=2, repeats=1)
    assert found["bound"] > 1 and min(found.values()) > 0
    assert sklearn_mlp._base.ACTIVATIONS["relu"] is sklearn_mlp.THEIRS[0]
    assert sklearn_mlp._base.DERIVATIVES["relu"] is sklearn_mlp.THEIRS[1]
