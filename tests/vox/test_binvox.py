import io
import re

import numpy as np
import pytest
import trimesh

from ige.errors import UserError
from ige.vox.binvox import Binvox, read_binvox, write_binvox

# 2 x 1 x 3 cells (x, y, z), y fastest, then z, then x: those of x = 0 are 0 1 1, of x = 1 1 0 0.
RUNS = bytes([0, 1, 1, 3, 0, 2])
CELLS = np.array([[[0, 1, 1]], [[1, 0, 0]]], bool)
HEADER = b"#binvox 1\ndim 2 1 3\ntranslate -0.5 -1 2\nscale 2.5\ndata\n"


def test_cells_are_in_the_published_order():
    grid = read_binvox(HEADER + RUNS, "a.binvox")
    np.testing.assert_array_equal(grid.occupancy, CELLS)
    np.testing.assert_array_equal(grid.translate, [-0.5, -1, 2])
    assert grid.scale == 2.5


@pytest.mark.parametrize(
    "header",
    [
        b"#binvox 1\nscale 2.5\ntranslate -0.5 -1 2\ndim 2 1 3\ndata\n",
        b"#binvox 1\n# by hand\n  dim 2 1 3\n\n\ttranslate -0.5 -1 2\r\n#\n scale 2.5 \n data \n",
        b"\n #binvox 1\ndim 2 1 3\ntranslate -0.5 -1 2\nscale 2.5\ndata\n",
        b"#binvox 2\ntype voxels\ndim  2  1  3\ntranslate -.5 -1e0 2.\nscale 2.5\ndata\n",
    ],
)
def test_any_header_is_read(header):
    grid = read_binvox(header + RUNS, "a.binvox")
    np.testing.assert_array_equal(grid.occupancy, CELLS)
    np.testing.assert_array_equal(grid.translate, [-0.5, -1, 2])
    assert grid.scale == 2.5


def test_what_trimesh_writes_is_read_identically(rng):
    for fill in (0.0, 0.02, 0.5, 1.0):
        cells = rng.random((9, 9, 9)) < fill
        theirs = trimesh.voxel.VoxelGrid(cells).export(file_type="binvox")
        np.testing.assert_array_equal(read_binvox(theirs, "a.binvox").occupancy, cells)


def test_trimesh_reads_what_is_written(rng):
    cells = rng.random((9, 9, 9)) < 0.02
    data = write_binvox(Binvox(cells, np.zeros(3), 1.0))
    theirs = trimesh.load(io.BytesIO(data), file_type="binvox")
    np.testing.assert_array_equal(theirs.matrix, cells)


def test_runs_of_no_cells_change_nothing():
    grid = read_binvox(HEADER + bytes([1, 0]) + RUNS, "a.binvox")
    np.testing.assert_array_equal(grid.occupancy, CELLS)


@pytest.mark.parametrize("length", [1, 254, 255, 256, 510, 511, 1000])
def test_runs_of_any_length_come_back(length):
    cells = np.zeros((1, 1024, 1), bool)
    cells[0, :length] = True
    grid = Binvox(cells, np.array([0.1, -0.2, 1e-9]), 0.3)
    read = read_binvox(write_binvox(grid), "a.binvox")
    np.testing.assert_array_equal(read.occupancy, cells)
    np.testing.assert_array_equal(read.translate, grid.translate)
    assert read.scale == grid.scale


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (HEADER + RUNS[:-2], "got 4 cells in 4 bytes, expected 6; get the file again"),
        (HEADER + RUNS[:-1], "got 4 cells in 5 bytes, expected 6; get the file again"),
        (HEADER + RUNS + b"\1\1", "got 7 cells in 8 bytes, expected 6; get the file again"),
        (HEADER, "got 0 cells in 0 bytes, expected 6; get the file again"),
        (
            HEADER.replace(b"2 1 3", b"1024 1024 1024") + RUNS,
            "got 6 cells in 6 bytes, expected 1,073,741,824; get the file again",
        ),
        (
            HEADER.replace(b"2 1 3", b"100000 100000 100000") + RUNS,
            "dim: got 100000 100000 100000, expected three integers from 1 to 1024; get the file "
            "again",
        ),
        (
            HEADER.replace(b"2 1 3", b"2 1 1.5") + RUNS,
            "dim: got 2 1 1.5, expected three integers from 1 to 1024; get the file again",
        ),
        (
            HEADER.replace(b"2 1 3", b"2 1") + RUNS,
            "dim: got '2 1', expected 3 finite numbers; get the file again",
        ),
        (
            HEADER.replace(b"2.5", b"nan") + RUNS,
            "scale: got 'nan', expected 1 finite number; get the file again",
        ),
        (
            HEADER.replace(b"2.5", b"-1") + RUNS,
            "scale: got -1, expected more than 0; get the file again",
        ),
        (
            HEADER.replace(b"2.5", b"0") + RUNS,
            "scale: got 0, expected more than 0; get the file again",
        ),
        (
            HEADER.replace(b"-0.5 -1 2", b"0 0 1e300") + RUNS,
            "translate: got '0 0 1e300', expected 3 finite numbers; get the file again",
        ),
        (
            HEADER.replace(b"2 1 3", b"2 -1 3") + RUNS,
            "dim: got 2 -1 3, expected three integers from 1 to 1024; get the file again",
        ),
        (
            HEADER.replace(b"dim 2 1 3\n", b"") + RUNS,
            "dim: missing, expected a line 'dim 32 32 32'; get it again",
        ),
        (
            HEADER + RUNS + b"\0",
            "got 6 cells in 7 bytes, expected 6; get the file again",
        ),
        (
            HEADER.replace(b"data", b"#" * 70_000 + b"\ndata") + RUNS,
            "the header has no line 'data'; get the file again",
        ),
        (HEADER[:-5] + RUNS, "the header has no line 'data'; get the file again"),
        (b"", "got no '#binvox' at the start; expected a .binvox file"),
        (b"PK\3\4", "got no '#binvox' at the start; expected a .binvox file"),
        (
            HEADER + b"\2\1" + RUNS[2:],
            "got a cell of value 2, expected 0 or 1; get the file again",
        ),
    ],
)
def test_damaged_files_are_refused(data, message):
    with pytest.raises(UserError, match=f"^{re.escape(f'a.binvox: {message}')}$"):
        read_binvox(data, "a.binvox")
