"""Other people's arrays: Dask, xarray and pandas, through both doors."""

import subprocess
import sys

import numpy as np
import pytest

import samples
from samples import assert_same_bits, each_operation


def doors(operation):
    return operation.front, operation.direct


def case(operation, dtype="f4", shape=(6, 8)):
    count = int(np.prod(shape))
    arrays = [a.reshape(shape) for a in samples.arrays(operation, np.dtype(dtype), count)]
    parameter = operation.parameter and 0.25
    return arrays, parameter, operation.expected(*arrays, parameter=parameter)


@pytest.fixture(scope="module")
def dask_array():
    return pytest.importorskip("dask.array")


@each_operation
def test_dask_stays_lazy(operation, dask_array):
    arrays, parameter, expected = case(operation)
    chunked = [dask_array.from_array(a, chunks=(3, 4)) for a in arrays]
    for door in doors(operation):
        result = door(*chunked, parameter=parameter)
        assert isinstance(result, dask_array.Array)
        assert result.dtype == np.float32 and result.chunks == chunked[0].chunks
        assert_same_bits(result.compute(scheduler="synchronous"), expected)


def test_dask_prelu(dask_array):
    x = samples.values(np.dtype("f4"), 60).reshape(3, 20)
    slopes = np.array([[0.1], [0], [1]], "f4")
    operation = samples.NAMED["leaky_relu"]
    for door in doors(operation):
        result = door(dask_array.from_array(x, chunks=(2, 7)), parameter=slopes)
        assert_same_bits(
            result.compute(scheduler="synchronous"), operation.expected(x, parameter=slopes)
        )


CLUSTER = """
import numpy as np, relu_ext, dask.array
from relu_ext import ufuncs
from distributed import Client, LocalCluster

if __name__ == "__main__":
    x = np.linspace(-1, 1, 4001, dtype="f4")
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None)
        as cluster,
        Client(cluster),
    ):
        lazy = dask.array.from_array(x, chunks=1000)
        for operation in ufuncs.descriptions:
            name, arrays = operation.name, len(operation.arrays)
            parameter = [] if operation.parameter is None else [np.float32(0.25)]
            ufunc = getattr(ufuncs, name)
            here = ufunc(*[x] * arrays, *parameter)
            there = ufunc(*[lazy] * arrays, *parameter).compute()
            assert there.tobytes() == here.tobytes(), name
            front = getattr(relu_ext, name)
            assert front(*[lazy] * arrays).compute().tobytes() == front(*[x] * arrays).tobytes()
            mapped = dask.array.map_blocks(front, *[lazy] * arrays, dtype="f4")
            assert mapped.compute().tobytes() == front(*[x] * arrays).tobytes(), name
    print("all")
"""


def test_dask_on_worker_processes(dask_array, tmp_path):
    """The ufuncs and the front door travel to the workers by pickle."""
    pytest.importorskip("distributed")
    script = tmp_path / "cluster.py"
    script.write_text(CLUSTER)
    finished = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert finished.stdout == "all\n", finished.stderr


@each_operation
def test_xarray(operation):
    xarray = pytest.importorskip("xarray")
    arrays, parameter, expected = case(operation)
    coordinates = {"row": list("abcdef"), "column": range(8)}
    labelled = [xarray.DataArray(a, coordinates, ["row", "column"]) for a in arrays]
    for door in doors(operation):
        result = door(*labelled, parameter=parameter)
        assert isinstance(result, xarray.DataArray) and result.dims == ("row", "column")
        assert result.coords.identical(labelled[0].coords)
        assert_same_bits(result.data, expected)
    if operation.parameter:
        slopes = xarray.DataArray(np.arange(6, dtype="f4"), {"row": list("abcdef")}, ["row"])
        result = operation.front(*labelled, parameter=slopes)
        expected = operation.expected(*arrays, parameter=slopes.data[:, None])
        assert_same_bits(result.transpose("row", "column").data, expected)
    dataset = xarray.Dataset({"one": labelled[0]})
    if operation.arity == 1:
        result = operation.front(dataset, parameter=parameter)
        assert isinstance(result, xarray.Dataset) and list(result) == ["one"]


@each_operation
def test_pandas(operation):
    """Index, columns and names stay."""
    pandas = pytest.importorskip("pandas")
    arrays, parameter, expected = case(operation)
    index, columns = pandas.Index(list("abcdef"), name="row"), [f"c{i}" for i in range(8)]
    frames = [pandas.DataFrame(a, index, columns) for a in arrays]
    column = [pandas.Series(a[:, 0], index, name="first") for a in arrays]
    # pandas takes the frames of a ufunc of several operands for plain arrays, a number for float64.
    parameter = parameter and np.float32(parameter)
    for door in doors(operation):
        result = door(*frames, parameter=parameter)
        assert isinstance(result, pandas.DataFrame)
        assert result.index.equals(index) and list(result.columns) == columns
        assert_same_bits(result.to_numpy(), expected)
        result = door(*column, parameter=parameter)
        assert isinstance(result, pandas.Series)
        assert result.name == "first" and result.index.name == "row"
        assert result.index.equals(index)
        assert_same_bits(result.to_numpy(), expected[:, 0])
