import numpy as np

from ige.vox.frustum import frustum_depths, frustum_occupancy, frustum_points
from ige.vox.grids import cell_of
from ige.vox.rendering import render
from ige.vox.views import Views, look_at_origin, project, random_views
from ige.vox.voxels import voxelise


def one(views):
    return Views(*(field[0] for field in views))


def test_cells_are_centred_in_pixels_and_in_depth():
    view = one(random_views("a", 1))
    points = frustum_points(view, 4)
    at, depth = project(points.reshape(-1, 3), view)
    distance = np.linalg.norm(view.centre)
    expected = np.array([-0.375, -0.125, 0.125, 0.375]) + distance
    np.testing.assert_allclose(frustum_depths(view, 4), expected)
    np.testing.assert_allclose(depth.reshape(4, 4, 4), np.broadcast_to(expected, (4, 4, 4)))
    at = at.reshape(4, 4, 4, 2) * 4
    np.testing.assert_allclose(at[..., 0], np.broadcast_to(np.arange(4)[:, None] + 0.5, (4, 4, 4)))
    np.testing.assert_allclose(
        at[..., 1], np.broadcast_to(np.arange(4)[:, None, None] + 0.5, (4, 4, 4))
    )


def test_a_frustum_looked_into_from_far_away_is_the_grid(rng):
    """Along -x, with lines of sight that are all but parallel: rows are -y, columns -z."""
    solid = rng.random((6, 6, 6)) < 0.5
    far = 1e6
    fov = np.degrees(2 * np.arctan(0.5 / far))
    view = one(look_at_origin(np.zeros(1), np.zeros(1), np.array([far]), fov))
    seen = frustum_occupancy(solid, view, 6)
    np.testing.assert_array_equal(seen, solid.transpose(1, 2, 0)[::-1, ::-1, ::-1])


def test_columns_are_what_pixels_see(sphere):
    """The first solid cell of a column is at the depth of its pixel."""
    views = random_views("b", 1)
    view = one(views)
    solid = frustum_occupancy(voxelise(sphere, 64), view, 64)
    depth = render(sphere, views, 64)[1][0]
    both = solid.any(-1) & (depth > 0)
    assert both.sum() > 0.95 * (depth > 0).sum()
    first = frustum_depths(view, 64)[solid.argmax(-1)]
    assert abs(np.median(first[both] - depth[both])) < 1 / 64


def test_outside_of_the_grid_is_empty():
    view = one(random_views("c", 1))
    seen = frustum_occupancy(np.ones((3, 3, 3), bool), view, 8)
    points = frustum_points(view, 8)
    inside = (np.abs(points) < 0.5).all(-1)
    np.testing.assert_array_equal(seen, inside)
    assert 0 < inside.sum() < inside.size
    assert cell_of(points[inside], 3).max() == 2
