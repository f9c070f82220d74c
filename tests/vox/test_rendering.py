import math

import numpy as np
import pytest

from ige.vox.grids import cell_of
from ige.vox.meshes import Mesh
from ige.vox.rendering import render
from ige.vox.views import (
    FOV,
    LEGACY_FOV,
    Views,
    focal_length,
    look_at_origin,
    pixel_rays,
    random_views,
)
from ige.vox.voxels import voxelise


def views_from(azimuth, elevation=0.0, distance=2.0, fov=FOV):
    return look_at_origin(*(np.array([v]) for v in (azimuth, elevation, distance)), fov)


def test_a_sphere_by_hand(sphere):
    """Its outline is where lines of sight touch it: at an angle of asin(r / d) from the axis."""
    images, depths = render(sphere, views_from(30.0, 20.0), 129)
    assert (images.dtype, images.shape) == (np.uint8, (1, 129, 129, 3))
    assert (depths.dtype, depths.shape) == (np.float32, (1, 129, 129))
    assert depths[0, 64, 64] == pytest.approx(2.0 - 0.4, abs=1e-3)
    radius = math.tan(math.asin(0.4 / 2.0)) * focal_length(FOV) * 129
    seen = depths[0] > 0
    assert seen.sum() == pytest.approx(math.pi * radius**2, rel=0.01)
    assert (images[0][~seen] == 255).all()
    # The farthest point that is seen, where the line of sight touches: at a depth of d - r^2 / d.
    assert depths[0].max() == pytest.approx(2.0 - 0.4**2 / 2.0, abs=0.02)


def test_depth_of_a_slanted_plane(rng):
    """Every pixel's point is in the plane again."""
    corners = np.array([[-0.5, -0.2, -0.5], [0.5, -0.2, -0.5], [0.5, 0.2, 0.5], [-0.5, 0.2, 0.5]])
    plane = Mesh(corners, np.array([[0, 1, 2], [0, 2, 3]]), np.zeros((2, 3), np.uint8))
    views = random_views("plane", 1)
    _, depths = render(plane, views, 64)
    view = Views(*(field[0] for field in views))
    points = view.centre + pixel_rays(view, 64) * depths[0][..., np.newaxis]
    points = points[depths[0] > 0]
    assert len(points) > 200
    np.testing.assert_allclose(points[:, 1], 0.4 * points[:, 2], atol=1e-6)
    assert np.abs(points).max() <= 0.5 + 1e-6


def test_what_is_nearer_hides_the_rest(cube):
    near = Mesh(cube.vertices * 0.2 + (0.4, 0, 0), cube.faces, np.full_like(cube.colours, 250))
    both = Mesh(
        np.concatenate([cube.vertices * 0.5, near.vertices]),
        np.concatenate([cube.faces, near.faces + len(cube.vertices)]),
        np.concatenate([np.zeros_like(cube.colours), near.colours]),
    )
    front, _ = render(both, views_from(0.0), 33)
    back, _ = render(both, views_from(180.0), 33)
    assert front[0, 16, 16].min() > 150
    assert back[0, 16, 16].max() == 0


def test_colours_and_both_sides_of_faces(cube):
    images, _ = render(cube, views_from(40.0, 25.0), 32)
    turned = cube._replace(faces=cube.faces[:, ::-1])
    np.testing.assert_array_equal(render(turned, views_from(40.0, 25.0), 32)[0], images)
    seen = images[0][(images[0] != 255).any(-1)]
    assert np.ptp(seen[:, 0]) > 20  # sides differ
    ratio = seen.astype(float) / seen.astype(float)[:, :1]
    np.testing.assert_allclose(ratio, np.tile([1, 0.2, 0.2], (len(seen), 1)), atol=0.01)  # as RED


def test_light_by_hand():
    """A square that faces the camera, and one that lies, at the corners of the image too.

    The sun is at (.48, .8, .36) and the camera looks along -x, so its light on what faces it is
    .35 + .35 + .3 * .48; that from where one looks gets less with the angle.
    """
    corners = np.array([[0, -0.5, -0.5], [0, 0.5, -0.5], [0, 0.5, 0.5], [0, -0.5, 0.5]])
    colours = np.full((2, 3), 200, np.uint8)
    upright = Mesh(corners, np.array([[0, 1, 2], [0, 2, 3]]), colours)
    view = views_from(0.0)
    images, _ = render(upright, view, 33)
    assert images[0, 16, 16, 0] == round(200 * (0.7 + 0.3 * 0.48))
    row, column = (found.min() for found in np.nonzero((images[0] != 255).any(axis=-1)))
    x, y = ((np.array([column, row]) + 0.5) / 33 - 0.5) / focal_length(FOV)
    slant = 1 / math.sqrt(1 + x**2 + y**2)
    assert images[0, row, column, 0] == round(200 * (0.35 + 0.35 * slant + 0.3 * 0.48))
    lying = upright._replace(vertices=corners[:, [1, 0, 2]])
    above, below = (render(lying, views_from(0.0, side * 60.0), 33)[0] for side in (1, -1))
    slant = math.sin(math.radians(60))
    assert above[0, 16, 16, 0] == round(200 * (0.35 + 0.35 * slant + 0.3 * 0.8))
    assert below[0, 16, 16, 0] == round(200 * (0.35 + 0.35 * slant))


def test_the_legacy_field_of_view_makes_objects_small(sphere):
    pixels = [
        (render(sphere, views_from(0.0, fov=fov), 65)[1] > 0).sum() for fov in (FOV, LEGACY_FOV)
    ]
    assert pixels[0] / pixels[1] == pytest.approx(4, rel=0.05)  # half the focal length


@pytest.mark.parametrize("shape", ["sphere", "cube", "torus"])
def test_silhouettes_agree_with_the_projected_voxels(request, shape):
    mesh = request.getfixturevalue(shape)
    solid = voxelise(mesh, 128)
    views = random_views(shape, 1)
    seen = render(mesh, views, 128)[1][0] > 0
    view = Views(*(field[0] for field in views))
    rays = pixel_rays(view, 128)
    projected = np.zeros((128, 128), bool)
    for depth in np.arange(0.4, 2.0, 0.004):  # half a cell
        cells = cell_of(view.centre + depth * rays, 128)
        inside = ((cells >= 0) & (cells < 128)).all(-1)
        projected |= inside & solid[tuple(np.moveaxis(cells.clip(0, 127), -1, 0))]
    assert (seen & projected).sum() / (seen | projected).sum() > 0.95
