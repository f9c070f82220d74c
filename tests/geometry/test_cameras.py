"""Cameras: hand-worked points, inverses, broadcasting, gradients, and recorded projections."""

import io
import zipfile

import h5py
import numpy as np
import pytest
import tensorflow as tf

from ige.geometry import cameras
from ige.geometry.cameras import Camera
from ige.hpe.skeleton import convert, get_skeleton

# World z up, y forward; the camera looks along y, so its y axis is the world's -z.
UPRIGHT = Camera(
    rotation=np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
    translation=np.array([0.0, -5, 1]),
    focal_length=np.array([100.0, 200]),
    center=np.array([50.0, 60]),
    radial=np.zeros(3),
    tangential=np.zeros(2),
)
LENS = UPRIGHT._replace(radial=np.array([0.1, 0.2, 0.3]), tangential=np.array([0.01, 0.04]))


def batch(*several):
    return Camera(*(np.stack(fields) for fields in zip(*several, strict=True)))


def test_camera_frame_by_hand():
    # 1 to the right, 5 in front, 1 above the camera, which has y down.
    in_camera = cameras.world_to_camera(np.array([[1.0, 0, 2]]), UPRIGHT)
    np.testing.assert_allclose(in_camera, [[1, -1, 5]])


def test_camera_to_world_inverts_world_to_camera(rng):
    points = rng.normal(size=(7, 4, 3))
    back = cameras.camera_to_world(cameras.world_to_camera(points, UPRIGHT), UPRIGHT)
    np.testing.assert_allclose(back, points, atol=1e-12)


def test_pixels_by_hand():
    # x: 1 / 5 * 100 + 50, y: -1 / 5 * 200 + 60.
    pixels = cameras.project(np.array([[1.0, -1, 5]]), UPRIGHT)
    np.testing.assert_allclose(pixels, [[70, 20]])


def test_distortion_by_hand():
    # x = 0.5, y = -1, r^2 = 1.25: radial 1 + 0.125 + 0.3125 + 0.5859375, tangential factor
    # 0.01 * -1 + 0.04 * 0.5 = 0.01, then (0.04, 0.01) * 1.25 is added.
    factor = 2.0234375 + 0.01
    expected = [[0.5 * factor + 0.05, -factor + 0.0125]]
    point = np.array([[1.0, -2, 2]])
    np.testing.assert_allclose(cameras.project_normalised(point, LENS), expected)
    pixels = np.array(expected) * [100, 200] + [50, 60]
    np.testing.assert_allclose(cameras.project(point, LENS), pixels)
    np.testing.assert_allclose(cameras.normalise(pixels, LENS), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_undistort_inverts_distort(rng, dtype):
    """In all of an image of Human3.6M, whose corners are 0.63 from its centre."""
    radial = np.array([-0.2083, 0.2552, -0.0025], dtype)
    tangential = np.array([-0.0009, -0.0016], dtype)
    ideal = rng.uniform(-0.45, 0.45, size=(5, 40, 2)).astype(dtype)
    found = cameras.undistort(cameras.distort(ideal, radial, tangential), radial, tangential)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, ideal, atol=1e-6)


def test_undistort_by_hand():
    """What `distort` makes 1.1 times as large: r^2 = 0.25, 1 + 0.4 x 0.25."""
    none = np.zeros(2)
    found = cameras.undistort(np.array([[0.33, 0.44]]), np.array([0.4, 0, 0]), none)
    np.testing.assert_allclose(found, [[0.3, 0.4]], atol=1e-6)
    exact = np.array([[0.3, -0.7]])
    np.testing.assert_array_equal(cameras.undistort(exact, np.zeros(3), none), exact)


def test_cameras_broadcast_over_frames(rng):
    several = batch(UPRIGHT, LENS._replace(translation=np.array([1.0, -9, 0])))
    points = rng.uniform(size=(4, 6, 3))
    expanded = Camera(*(field[:, np.newaxis] for field in several))
    pixels = cameras.project(cameras.world_to_camera(points, expanded), expanded).numpy()
    assert pixels.shape == (2, 4, 6, 2)
    for index in range(2):
        one = Camera(*(field[index] for field in several))
        expected = cameras.project(cameras.world_to_camera(points, one), one)
        np.testing.assert_allclose(pixels[index], expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_have_the_type_of_the_points(dtype):
    points = np.ones((2, 3), dtype)
    for function in (cameras.world_to_camera, cameras.camera_to_world, cameras.project):
        assert function(points, LENS).dtype == dtype
    for function in (cameras.normalise, cameras.denormalise):
        assert function(points[:, :2], LENS).dtype == dtype
    assert cameras.distort(points[:, :2], LENS.radial, LENS.tangential).dtype == dtype


def test_denormalise_inverts_normalise(rng):
    pixels = rng.uniform(0, 1000, size=(5, 3, 2))
    back = cameras.denormalise(cameras.normalise(pixels, LENS), LENS)
    np.testing.assert_allclose(back, pixels)


def test_points_behind_the_camera_are_mirrored_through_its_centre():
    points = np.array([[1.0, -2, 4]])
    np.testing.assert_allclose(cameras.perspective(-points), cameras.perspective(points))


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_depth_zero_has_no_image_and_no_gradient(dtype):
    points = tf.constant([[1.0, -1, 5], [3, 2, 0], [0, 0, 0]], dtype)
    with tf.GradientTape() as tape:
        tape.watch(points)
        pixels = cameras.project(points, LENS)
    gradient = tape.gradient(pixels, points).numpy()
    np.testing.assert_allclose(pixels[1:], [[50, 60], [50, 60]])
    assert np.isfinite(gradient).all()
    assert (gradient[0] != 0).all()
    np.testing.assert_array_equal(gradient[1:], 0)


def test_gradient_of_projection_agrees_with_finite_differences(rng):
    points = rng.uniform([-1, -1, 3], [1, 1, 6], size=(1, 5, 3))
    weights = rng.normal(size=(1, 5, 2))
    variable = tf.constant(points)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        value = tf.reduce_sum(weights * cameras.project(variable, LENS))
    steps = 1e-6 * np.eye(15).reshape(15, 5, 3)
    up, down = (
        np.sum(weights * cameras.project(points + s, LENS).numpy(), (1, 2)) for s in (steps, -steps)
    )
    expected = (up - down) / 2e-6
    np.testing.assert_allclose(tape.gradient(value, variable)[0], expected.reshape(5, 3), atol=1e-6)


def test_projection_compiles(rng):
    points = rng.uniform([-1, -1, 3], [1, 1, 6], size=(8, 5, 3)).astype(np.float32)
    compiled = tf.function(lambda p: cameras.project(p, LENS), jit_compile=True)
    np.testing.assert_allclose(compiled(points), cameras.project(points, LENS), rtol=1e-5)


@pytest.mark.real_data
def test_projection_agrees_with_the_recorded_one(real_data):
    """Poses of one archive, cameras of a second, image points of a third."""
    poses, images = (
        np.load(real_data / "h3m" / name, allow_pickle=True)[key].item()
        for name, key in (
            ("data_3d_h36m.npz", "positions_3d"),
            ("data_2d_h36m_gt.npz", "positions_2d"),
        )
    )
    with zipfile.ZipFile(real_data / "h3m" / "h36m.zip") as archive:
        file = h5py.File(io.BytesIO(archive.read("h36m/cameras.h5")))
    checked = 0
    for subject, actions in images.items():
        for action, views in actions.items():
            world = convert(
                poses[subject][action], get_skeleton("h36m_32"), get_skeleton("h36m_17")
            )
            for number, expected in enumerate(views, start=1):
                group = file[f"subject{subject[1:]}/camera{number}"]
                vectors = (group[key][()].ravel() for key in "Tfckp")
                camera = Camera(group["R"][()].T, *vectors)
                in_camera = cameras.world_to_camera(1000 * world.astype(np.float64), camera)
                pixels = cameras.project(in_camera, camera)
                # float32 holds a pixel to 6e-5.
                np.testing.assert_allclose(pixels, expected, atol=2e-4)
                checked += 1
    assert checked
