import numpy as np
import pytest

from ige.geometry import cameras
from ige.geometry.cameras import Camera
from ige.hpe.prior import normalisation
from ige.hpe.prior.levelled import level


def rotation_z(angle):
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])


def camera(frames, place=(1.0, 2, 1.5), heading=0.4, tilt=0.15, roll=0.05, lens=True):
    """World to camera of one that looks `heading` to the left of y, `tilt` down, rolled."""
    ahead = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0.0]])
    down = np.array([[1, 0, 0], [0, np.cos(tilt), np.sin(tilt)], [0, -np.sin(tilt), np.cos(tilt)]])
    fields = (
        rotation_z(roll) @ down.T @ ahead @ rotation_z(heading).T,
        np.array(place),
        np.array([1145.0, 1143.0]),
        np.array([512.0, 515.0]),
        np.array([-0.2, 0.24, -0.002]) * lens,
        np.array([-0.0009, -0.0016]) * lens,
    )
    return Camera(*(np.stack([field] * frames) for field in fields))


@pytest.fixture
def people(rng):
    """Points (6, 5, 3) about a person some 4 m before the camera."""
    far = np.array([1.0, 2, 0]) + rotation_z(0.4) @ [0.5, 4, 0.9]
    return far + rng.normal(scale=0.3, size=(6, 5, 3))


def seen_by(people, view):
    return cameras.project(cameras.world_to_camera(people, view), view).numpy()


def test_directions_are_those_of_the_points(people):
    """Whatever the tilt, the roll and the lens."""
    view = camera(6)
    found = level(seen_by(people, view), np.ones((6, 5)), view)
    x, y, z = np.moveaxis(found.from_world(people), -1, 0)
    expected = np.stack([x / y, (z - found.camera_height) / y], axis=-1)
    np.testing.assert_allclose(found.directions, expected, atol=1e-5)
    np.testing.assert_allclose(found.camera_height, 1.5)
    np.testing.assert_allclose(found.camera, [[1, 2]] * 6)
    # The person is straight ahead.
    assert np.abs(found.directions[..., 0].mean(axis=1)).max() < 0.02


def test_levelling_by_hand():
    """At (0, 0, 1), looks along x, untilted: a point is ahead to its left, on the floor."""
    view = camera(1, (0, 0, 1.0), -np.pi / 2, 0, 0, lens=False)
    people = np.array([[[3.0, 4, 0]]])
    found = level(seen_by(people, view), np.ones((1, 1)), view)
    np.testing.assert_allclose(found.directions, [[[0, -1 / 5]]], atol=1e-9)
    np.testing.assert_allclose(found.from_world(people), [[[0, 5, 0]]], atol=1e-9)
    # From y to (3, 4): clockwise.
    np.testing.assert_allclose(found.azimuth, [-np.arctan2(3, 4)])


def test_there_and_back(people, rng):
    view = camera(6)
    found = level(seen_by(people, view), np.ones((6, 5)), view)
    before = people.copy()
    np.testing.assert_allclose(found.poses_to_world(found.from_world(people)), people)
    np.testing.assert_array_equal(people, before)
    # A pose that is turned and put somewhere here, is turned and put there in the world.
    poses, heading, place = rng.normal(size=(6, 5, 3)), rng.normal(size=6), rng.normal(size=(6, 2))
    here = normalisation.turn(poses, heading)
    here[..., :2] += place[:, np.newaxis]
    heading_there, place_there = found.to_world(heading, place)
    there = normalisation.turn(poses, heading_there)
    there[..., :2] += place_there[:, np.newaxis]
    np.testing.assert_allclose(found.poses_to_world(here), there)


def test_turning_and_moving_all_about_the_vertical_changes_nothing(people):
    turned = people @ rotation_z(2.0).T + [7, -5, 0]
    moved = rotation_z(2.0) @ [1, 2, 1.5] + [7, -5, 0]
    found = []
    for points, view in ((people, camera(6)), (turned, camera(6, tuple(moved), 0.4 + 2.0))):
        found.append(level(seen_by(points, view), np.ones((6, 5)), view))
    np.testing.assert_allclose(found[0].directions, found[1].directions, atol=1e-9)
    difference = found[1].azimuth - found[0].azimuth - 2.0
    np.testing.assert_allclose(np.cos(difference), 1, atol=1e-9)


def test_what_is_not_seen_is_where_the_rest_is(people):
    view = camera(6)
    pixels, seen = seen_by(people, view), np.ones((6, 5))
    seen[:, 3] = 0
    seen[5] = 0
    found = []
    for garbage in (0.0, 1e6):
        hidden = np.where(seen[..., np.newaxis] > 0, pixels, garbage)
        found.append(level(hidden, seen, view))
    for here, there in zip(*found, strict=True):
        np.testing.assert_array_equal(here, there)
    assert all(np.isfinite(field).all() for field in found[0])
    some = level(pixels[:5, [0, 1, 2, 4]], np.ones((5, 4)), camera(5))
    np.testing.assert_allclose(found[0].directions[:5, 3, 0], 0, atol=1e-9)
    # The mean of the images turns the frame, which here is a mean of rays.
    np.testing.assert_allclose(found[0].azimuth[:5], some.azimuth, atol=1e-12)
    # Nothing is seen: ahead.
    np.testing.assert_allclose(np.ptp(found[0].directions[5], axis=0), 0)
