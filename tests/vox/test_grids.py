import numpy as np
import pytest

from ige.vox.grids import cell_centres, cell_of, pack, packed_size, unpack


def test_cells_are_centred():
    np.testing.assert_array_equal(cell_centres(4), [-0.375, -0.125, 0.125, 0.375])
    np.testing.assert_array_equal(cell_of(cell_centres(5), 5), range(5))
    np.testing.assert_array_equal(
        cell_of([-0.5, -0.26, 0.0, 0.49, 0.5, -0.51], 4), [0, 0, 2, 3, 4, -1]
    )


def test_the_first_cell_is_the_highest_bit():
    grid = np.zeros((2, 2, 3), bool)
    grid[0, 0, 0] = grid[1, 1, 2] = True
    np.testing.assert_array_equal(pack(grid), [0b10000000, 0b00010000])


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 5), (32, 32, 32), (7,)])
def test_packed_grids_come_back(shape, rng):
    grids = rng.random((3, *shape)) < 0.5
    packed = np.stack([pack(grid) for grid in grids])
    assert packed.shape == (3, packed_size(shape))
    np.testing.assert_array_equal(unpack(packed, shape), grids)
