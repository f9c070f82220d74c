import math

import numpy as np
import pytest

from ige.vox.views import (
    DISTANCE,
    FOV,
    LEGACY_FOV,
    Views,
    focal_length,
    look_at_origin,
    pixel_rays,
    project,
    random_views,
)


def one(views, index=0):
    return Views(*(field[index] for field in views))


def test_fields_of_view():
    assert pytest.approx(49.13, abs=0.005) == FOV
    assert pytest.approx(84.87, abs=0.005) == LEGACY_FOV
    assert focal_length(FOV) == pytest.approx(35 / 32)
    assert focal_length(90.0) == pytest.approx(0.5)
    assert pytest.approx(1.166, abs=0.0005) == DISTANCE


def test_a_camera_by_hand():
    """From azimuth 0 one looks along -x: y is up, and +z, Blender's -y, is to the left."""
    view = one(look_at_origin(np.array([0.0]), np.array([0.0]), np.array([2.0]), 90.0))
    np.testing.assert_allclose(view.centre, [2, 0, 0], atol=1e-12)
    at, depth = project(np.array([[0.0, 0, 0], [0, 0.5, 0], [0, 0, 0.5], [1.0, 0, 0]]), view)
    np.testing.assert_allclose(at, [[0.5, 0.5], [0.5, 0.375], [0.375, 0.5], [0.5, 0.5]], atol=1e-12)
    np.testing.assert_allclose(depth, [2, 2, 2, 1])


def test_azimuths_count_as_in_blender():
    """A camera at (0, 1, 0) of Blender is at (0, 0, -1) of the file."""
    view = one(look_at_origin(np.array([90.0]), np.array([0.0]), np.array([1.0]), 90.0))
    np.testing.assert_allclose(view.centre, [0, 0, -1], atol=1e-12)
    raised = one(look_at_origin(np.array([90.0]), np.array([30.0]), np.array([2.0]), 90.0))
    np.testing.assert_allclose(raised.centre, [0, 1, -math.sqrt(3)], atol=1e-12)


def test_random_views():
    views = random_views("fa407539c731deae31bb6333c7a45a9a", 500)
    distance = np.linalg.norm(views.centre, axis=-1)
    np.testing.assert_allclose(distance, DISTANCE)
    elevation = np.degrees(np.arcsin(views.centre[:, 1] / distance))
    assert 25 <= elevation.min() < 25.5
    assert 29.5 < elevation.max() <= 30
    azimuth = np.degrees(np.arctan2(-views.centre[:, 2], views.centre[:, 0])) % 360
    # Every twelfth of the circle has about 42 of 500.
    assert np.histogram(azimuth, 12, (0, 360))[0].min() > 20
    identity = views.rotation @ np.swapaxes(views.rotation, 1, 2)
    np.testing.assert_allclose(identity, np.tile(np.eye(3), (500, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(views.rotation), 1)
    assert (views.rotation[:, 0, 1] == 0).all()  # upright: the horizon is level
    assert (views.rotation[:, 1, 1] < 0).all()


def test_views_depend_on_the_model_and_the_seed_alone():
    """adler32 of 'a' is 97 * 65536 + 98 + ... = 6422626: RFC 1950, by hand."""
    random = np.random.RandomState(6422626)
    azimuth, polar = random.uniform(0, 360, 1), random.uniform(60, 65, 1)
    view = random_views("a", 1)
    eye = view.centre[0]
    assert np.degrees(np.arctan2(-eye[2], eye[0])) % 360 == pytest.approx(azimuth[0])
    assert np.degrees(np.arccos(eye[1] / DISTANCE)) == pytest.approx(polar[0])
    assert view.focal == pytest.approx(focal_length(FOV))
    assert random_views("a", 1, LEGACY_FOV).focal == pytest.approx(focal_length(LEGACY_FOV))
    np.testing.assert_array_equal(random_views("a", 3).centre, random_views("a", 3).centre)
    assert not np.allclose(random_views("a", 3).centre, random_views("b", 3).centre)
    assert not np.allclose(random_views("a", 3).centre, random_views("a", 3, seed=1).centre)


def test_rays_meet_the_centres_of_pixels():
    view = one(random_views("a", 1))
    rays = pixel_rays(view, 5)
    points = view.centre + 1.7 * rays.reshape(-1, 3)
    at, depth = project(points, view)
    np.testing.assert_allclose(depth, 1.7)
    row, column = np.divmod(np.arange(25), 5)
    np.testing.assert_allclose(at, np.stack([column + 0.5, row + 0.5], -1) / 5, atol=1e-12)
