"""What is distributed: the files that should be there and no others; and that it builds alone."""

import importlib
import importlib.machinery
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import relu_ext
from relu_ext import _threads

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "src" / "relu_ext"
SUFFIX = importlib.machinery.EXTENSION_SUFFIXES[0]


def package_files(levels, openmp):
    """Those of the package, in a wheel and where it is installed."""
    python = {path.name for path in SOURCES.iterdir() if path.suffix in (".py", ".pyi", ".typed")}
    modules = {"_core"} | ({"_openmp"} if openmp else set())
    modules |= {f"_kernels_{level}" for level in levels}
    return {f"relu_ext/{name}" for name in python | {module + SUFFIX for module in modules}}


def without_metadata(names):
    """Neither the .dist-info nor the libraries that auditwheel adds nor Python's own caches."""
    names = {name for name in names if not re.match(r"relu_ext(-[^/]+\.dist-info|\.libs)/", name)}
    return {name for name in names if "__pycache__" not in name}


def test_installed_files():
    distribution = importlib.metadata.distribution("relu_ext")
    files = [file.locate() for file in distribution.files if "__pycache__" not in str(file)]
    assert all(map(Path.is_file, map(Path, files)))
    names = without_metadata(map(str, distribution.files))
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):  # whose modules stand among the sources
        suffixes = (".py", ".pyi", ".typed", SUFFIX)
        names = {
            f"relu_ext/{path.name}" for path in SOURCES.iterdir() if path.name.endswith(suffixes)
        }
    built = relu_ext.cpu_levels().built
    assert names == package_files(built, _threads.has_openmp())


def test_one_file_of_modules():
    names = {path.stem for path in SOURCES.glob("*.pyx")} - {"_kernels", "_openmp"}
    for name in names:
        module = importlib.import_module(f"relu_ext.{name}")
        assert module is getattr(relu_ext, name)
        assert Path(module.__file__).name == f"_core{SUFFIX}"
        assert importlib.reload(module) is module
    finders = list(sys.meta_path)
    assert importlib.reload(relu_ext) is relu_ext
    assert sys.meta_path == finders


def test_metadata():
    metadata = importlib.metadata.metadata("relu_ext")
    assert metadata["Version"] == relu_ext.__version__
    assert metadata["License-Expression"] == "BSD-3-Clause"
    run_time = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    assert [re.match(r"\w+", line).group() for line in run_time] == ["numpy"]


def run(*command, **environment):
    finished = subprocess.run(
        [str(word) for word in command],
        check=False,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.fixture(scope="session")
def distributions(tmp_path_factory, request):
    """The source distribution and the wheel built from it, each in an environment that has the
    declared requirements alone."""
    if not request.config.getoption("--builds"):
        pytest.skip("takes minutes and a package index: --builds")
    folder = tmp_path_factory.mktemp("distributions")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    [source], [wheel] = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return source, wheel


def test_source_distribution(distributions):
    """What git tracks, but for the tree's own hidden files; nothing that is generated."""
    with tarfile.open(distributions[0]) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    made = {"PKG-INFO", "setup.cfg"} | {name for name in names if ".egg-info/" in name}
    listed = run("git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard")
    tracked = {name for name in listed.splitlines() if (ROOT / name).exists()}
    assert names - made == {name for name in tracked if not name.startswith(".")}


def test_wheel(distributions):
    with zipfile.ZipFile(distributions[1]) as archive:
        names = set(archive.namelist())
    built = relu_ext.cpu_levels().built
    assert without_metadata(names) == package_files(built, _threads.has_openmp())
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


COMPILER = """#!/bin/sh
for word; do [ "$word" != {flag} ] || exit 1; done
exec gcc "$@"
"""
COMPILERS = {"-fopenmp": ("OpenMP: no", ())} | {
    f"-march=x86-64-{level}": (f"{level}: not built: the compiler does not take", (level,))
    for level in relu_ext.cpu_levels().built[1:]
}


@pytest.mark.parametrize("flag", COMPILERS)
def test_a_compiler_that_knows_less(distributions, tmp_path, flag):
    """The build succeeds, says what is missing, and computes the same."""
    shown, missing = COMPILERS[flag]
    compiler, site = tmp_path / "cc", tmp_path / "site"
    compiler.write_text(COMPILER.format(flag=flag))
    compiler.chmod(0o755)
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-cache-dir")
    run(*pip, "--target", site, distributions[0], CC=str(compiler))
    installed = {str(path.relative_to(site)) for path in site.rglob("*") if path.is_file()}
    levels = [level for level in relu_ext.cpu_levels().built if level not in missing]
    assert without_metadata(installed) == package_files(levels, flag != "-fopenmp")
    program = "import relu_ext; relu_ext.show_config(); print(relu_ext.relu([-1.0, 2.0]))"
    output = run(sys.executable, "-c", program, PYTHONPATH=str(site), RELU_EXT_NUM_THREADS="2")
    assert shown in output and output.endswith("[0. 2.]\n")
