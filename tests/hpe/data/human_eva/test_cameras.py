import re

import numpy as np
import pytest

from ige.errors import UserError
from ige.geometry import cameras
from ige.hpe.data.human_eva.cameras import published_cameras, read_cal
from ige.hpe.data.human_eva.synthetic import cal_text

# A quarter turn: the camera's x is the world's -y, its y is the world's -z, its z the world's x.
ROTATION = (0, -1, 0, 0, 0, -1, 1, 0, 0)
NUMBERS = [700, 710, 320, 240, 0, -0.25, 0.125, 0.001, -0.002, 0.5, *ROTATION, 10, 20, 3000]


def cal(numbers):
    return "".join(f"{number:f} \n" for number in numbers).encode()


def test_a_calibration_file():
    camera = read_cal(cal(NUMBERS), "C1.cal")
    np.testing.assert_array_equal(camera.focal_length, [700, 710])
    np.testing.assert_array_equal(camera.center, [320, 240])
    np.testing.assert_array_equal(camera.radial, [-0.25, 0.125, 0.5])
    np.testing.assert_array_equal(camera.tangential, [0.001, -0.002])
    # x_camera = R x_world + t is 0 there: -y + 10 = 0, -z + 20 = 0, x + 3000 = 0.
    np.testing.assert_array_equal(camera.translation, [-3000, 10, 20])
    point = np.array([[100.0, -30.0, 5.0]])
    np.testing.assert_allclose(
        cameras.world_to_camera(point, camera), [[30 + 10, -5 + 20, 100 + 3000]], atol=1e-9
    )
    assert {array.dtype for array in camera} == {np.dtype(np.float64)}


def test_distortion_is_browns_but_for_half_the_cross_terms():
    """Terms of r^2 are exact; of 2 (p1 y + p2 x), as in Brown's model, half is there."""
    camera = read_cal(cal(NUMBERS), "C1.cal")
    x, y, (k1, k2, k3), (p1, p2) = 0.25, -0.5, camera.radial, camera.tangential
    square = x * x + y * y
    radial = 1 + k1 * square + k2 * square**2 + k3 * square**3
    brown = np.array(
        [
            x * radial + 2 * p1 * x * y + p2 * (square + 2 * x * x),
            y * radial + p1 * (square + 2 * y * y) + 2 * p2 * x * y,
        ]
    )
    ours = cameras.distort(np.array([[x, y]]), camera.radial, camera.tangential).numpy()[0]
    np.testing.assert_allclose(brown - ours, np.array([x, y]) * (p1 * y + p2 * x), atol=1e-15)


@pytest.mark.parametrize(
    ("subject", "rotation", "translation"),
    [
        (
            "S1",
            [
                [-0.143362, 0.989627, 0.009217],
                [0.167173, 0.033395, -0.985362],
                [-0.975449, -0.139723, -0.170226],
            ],
            [-88.085494, 804.781346, 4315.339452],
        ),
        (
            "S2",
            [
                [-0.152389, 0.988262, 0.010755],
                [0.170400, 0.036991, -0.984680],
                [-0.973520, -0.148222, -0.174037],
            ],
            [-8.996069, 797.610556, 4365.802204],
        ),
    ],
)
def test_published_cameras_are_those_of_the_files(subject, rotation, translation):
    """R and t of C1.cal, as quoted elsewhere."""
    camera = published_cameras(subject)["C1"]
    np.testing.assert_allclose(camera.rotation, rotation, rtol=0, atol=2e-6)
    theirs = -camera.rotation @ camera.translation
    np.testing.assert_allclose(theirs, translation, rtol=0, atol=0.02)


@pytest.mark.parametrize("subject", ["S1", "S2", "S3"])
def test_the_published_cameras_look_at_the_same_place_from_three_sides(subject):
    found = published_cameras(subject)
    assert list(found) == ["C1", "C2", "C3"]
    for camera in found.values():
        (centre,) = cameras.world_to_camera(np.array([[0.0, 0.0, 1000.0]]), camera).numpy()
        assert centre[2] > 3000
        assert np.abs(cameras.project(centre[np.newaxis], camera)[0] - [320, 240]).max() < 160


def test_written_and_read():
    camera = published_cameras("S2")["C3"]
    camera = camera._replace(
        radial=np.array([0.1, -0.2, 0.25]), tangential=np.array([0.001, 0.002])
    )
    read = read_cal(cal_text(camera).encode(), "C3.cal")
    for ours, theirs in zip(read, camera, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=0.01)


def _with(index, value):
    return cal([*NUMBERS[:index], value, *NUMBERS[index + 1 :]])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (cal(NUMBERS[:-1]), "C1.cal: got 21 numbers, expected 22; get the file again"),
        (cal([*NUMBERS, 0]), "C1.cal: got 23 numbers, expected 22; get the file again"),
        (
            b"seven hundred",
            "C1.cal: cannot be read: could not convert string to float: 'seven'; get the file "
            "again",
        ),
        (_with(0, np.nan), "C1.cal: a number is not finite; get the file again"),
        (
            _with(4, 0.5),
            "C1.cal: skew: got 0.5, expected 0: no camera here has skewed pixels; get the file "
            "again",
        ),
        (
            _with(1, 0),
            "C1.cal: focal_length: got 0, expected more than 0; get the file again",
        ),
        (
            _with(11, 1),
            "C1.cal: rotation: got a matrix that is 0 from orthonormal with determinant -1, "
            "expected a rotation; get the file again",
        ),
    ],
)
def test_other_files_are_refused(data, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        read_cal(data, "C1.cal")
