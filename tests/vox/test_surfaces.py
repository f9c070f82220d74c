"""The surfaces of grids: by hand, and by what any closed surface satisfies."""

import numpy as np
import pytest
import trimesh

from ige.vox.grids import cell_centres, iou
from ige.vox.rendering import render
from ige.vox.surfaces import DIRECTIONS, cells_mesh, sides, smooth_mesh
from ige.vox.views import Views, project, random_views


def test_sides_of_one_cell_and_of_two():
    occupancy = np.zeros((16, 16, 16), bool)
    occupancy[3, 4, 5] = True
    seen = sides(occupancy)
    np.testing.assert_array_equal(seen.cell, [[3, 4, 5]] * 6)
    np.testing.assert_array_equal(seen.direction, range(6))
    occupancy[4, 4, 5] = True  # the next along x: what is between them is not seen
    seen = sides(occupancy)
    assert len(seen.cell) == 10
    assert not (seen.cell[seen.direction == 0] == [3, 4, 5]).all(axis=-1).any()
    assert not (seen.cell[seen.direction == 1] == [4, 4, 5]).all(axis=-1).any()


def test_a_full_grid_is_seen_from_outside_only():
    seen = sides(np.ones((4, 4, 4), bool))
    assert len(seen.cell) == 6 * 16
    for axis in range(3):
        assert (seen.cell[seen.direction == 2 * axis, axis] == 3).all()
        assert (seen.cell[seen.direction == 2 * axis + 1, axis] == 0).all()


def test_corners_are_darker_than_edges():
    """A block on a floor: the floor beside it gets less light than what is flat about it."""
    occupancy = np.zeros((32, 32, 32), bool)
    occupancy[:, :8] = True
    occupancy[12:20, 8:20, 12:20] = True
    seen = sides(occupancy)
    up = seen.direction == 2

    def light(*cell):
        (found,) = np.flatnonzero(up & (seen.cell == cell).all(axis=-1))
        return seen.light[found]

    # Of the cube of 5 cells before the floor beside the block, 2 layers are in it.
    assert light(11, 7, 16) == pytest.approx(1 - 0.9 * 2 / 5)
    assert light(10, 7, 16) == pytest.approx(1 - 0.9 * 1 / 5)
    assert light(9, 7, 16) == pytest.approx(1)
    assert light(0, 7, 0) == pytest.approx(1)


def test_cells_are_a_closed_surface_around_their_volume(rng):
    occupancy = rng.random((6, 6, 6)) < 0.4
    mesh = cells_mesh(occupancy, (200, 100, 50))
    cells = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    assert cells.volume == pytest.approx(occupancy.sum() / 6**3)
    # Of every cell by itself: where it is, and how large.
    assert np.abs(mesh.vertices).max() <= 0.5
    normals = np.repeat(DIRECTIONS[sides(occupancy).direction], 2, axis=0)
    np.testing.assert_allclose(cells.face_normals, normals, atol=1e-9)
    assert (mesh.colours[:, 0] >= mesh.colours[:, 1]).all()


def test_cells_are_drawn_where_they_are():
    """The middle of a lone cell is in the middle of what is seen of it."""
    occupancy = np.zeros((32, 32, 32), bool)
    occupancy[28, 5, 9] = True
    views = random_views("cell", 3)
    _, depths = render(cells_mesh(occupancy, (255, 255, 255)), views, 512)
    point = cell_centres(32)[[28, 5, 9]][np.newaxis]
    for i, depth in enumerate(depths):
        (place,), (far,) = project(point, Views(*(field[i] for field in views)))
        rows, columns = np.nonzero(depth)
        middle = (np.array([columns.mean(), rows.mean()]) + 0.5) / 512
        np.testing.assert_allclose(middle, place, atol=0.004)
        assert depth[depth > 0].mean() == pytest.approx(far, abs=0.03)


def test_marching_cubes_of_a_sphere():
    """Where the probability falls through the threshold, at a tenth of a cell."""
    centres = cell_centres(32)
    radius = np.sqrt(sum(axis**2 for axis in np.meshgrid(centres, centres, centres)))
    mesh = smooth_mesh((0.8 - radius).clip(0), 0.4)
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices, axis=-1), 0.4, atol=0.1 / 32)
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(
        4 / 3 * np.pi * 0.4**3, rel=0.01
    )  # outwards: it is positive


def test_marching_cubes_at_the_end_of_the_grid():
    """A full grid is closed, half a cell at most from where its cells end."""
    mesh = smooth_mesh(np.ones((8, 8, 8)), 0.5)
    assert mesh.is_watertight
    np.testing.assert_allclose(mesh.bounds, [[-0.5] * 3, [0.5] * 3], atol=1e-6)


def test_marching_cubes_knows_the_axes():
    probabilities = np.zeros((16, 16, 16), np.float32)
    probabilities[2, 7, 13] = 1
    mesh = smooth_mesh(probabilities, 0.5)
    np.testing.assert_allclose(mesh.bounds.mean(axis=0), cell_centres(16)[[2, 7, 13]], atol=1e-6)


def test_iou_by_hand():
    first, second = np.array([1, 1, 1, 0], bool), np.array([0, 1, 1, 1], bool)
    assert iou(first, second) == 0.5
    assert iou(first, first) == 1
    assert iou(first & False, second) == 0
    assert iou(first & False, second & False) == 1
