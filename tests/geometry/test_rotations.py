"""Rotations: quarter turns by hand, SciPy for the rest."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ige.geometry import rotations

QUARTER = np.pi / 2


@pytest.mark.parametrize(
    ("angles", "start", "end"),
    [
        ((QUARTER, 0, 0), (0, 1, 0), (0, 0, 1)),
        ((0, QUARTER, 0), (0, 0, 1), (1, 0, 0)),
        ((0, 0, QUARTER), (1, 0, 0), (0, 1, 0)),
        # Rx Ry Rz: z turns first, x to y; then x, y to z.
        ((QUARTER, 0, QUARTER), (1, 0, 0), (0, 0, 1)),
        ((0, 0, 0), (1, 2, 3), (1, 2, 3)),
    ],
)
def test_euler_xyz_turns_axes(angles, start, end):
    turned = rotations.euler_xyz(np.array(angles, float)).numpy() @ start
    np.testing.assert_allclose(turned, end, atol=1e-15)


def test_euler_xyz_agrees_with_scipy(rng):
    angles = rng.uniform(-np.pi, np.pi, size=(20, 3))
    expected = Rotation.from_euler("XYZ", angles).as_matrix()
    np.testing.assert_allclose(rotations.euler_xyz(angles), expected, atol=1e-14)


def test_quaternion_quarter_turn_about_z():
    # cos 45 deg + k sin 45 deg, of any length and sign.
    for quaternion in ([1.0, 0, 0, 1], [-3.0, 0, 0, -3]):
        matrix = rotations.quaternion_to_matrix(np.array(quaternion))
        np.testing.assert_allclose(matrix, [[0, -1, 0], [1, 0, 0], [0, 0, 1]], atol=1e-15)


def test_quaternions_agree_with_scipy(rng):
    quaternions = rng.normal(size=(2, 10, 4))
    matrices = rotations.quaternion_to_matrix(quaternions).numpy()
    assert matrices.shape == (2, 10, 3, 3)
    scipy_order = np.roll(quaternions, -1, axis=-1).reshape(-1, 4)
    expected = Rotation.from_quat(scipy_order).as_matrix()
    np.testing.assert_allclose(matrices.reshape(-1, 3, 3), expected, atol=1e-14)


def test_quaternion_of_zeros_is_the_identity():
    np.testing.assert_array_equal(rotations.quaternion_to_matrix(np.zeros(4)), np.eye(3))


def test_determinant_by_hand():
    # 1 (5 * 10 - 6 * 8) - 2 (4 * 10 - 6 * 7) + 3 (4 * 8 - 5 * 7)
    matrices = np.array([[[1.0, 2, 3], [4, 5, 6], [7, 8, 10]], np.diag([2.0, 3, -4])])
    np.testing.assert_allclose(rotations.determinant(matrices), [-3, -24])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_types_are_kept(dtype):
    assert rotations.euler_xyz(np.zeros(3, dtype)).dtype == dtype
    assert rotations.quaternion_to_matrix(np.ones(4, dtype)).dtype == dtype


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        (np.eye(3), True),
        (np.eye(3)[[1, 2, 0]], True),
        (np.eye(3)[[1, 0, 2]], False),  # a reflection
        (np.diag([1.0, 1.0, 1.001]), False),
        (np.diag([1.0, 1.0, 1.000001]), True),
        (np.zeros((3, 3)), False),
        (np.full((3, 3), np.nan), False),
    ],
)
def test_is_rotation(matrix, expected):
    assert rotations.is_rotation(matrix).numpy() == expected
    batch = np.stack([matrix, np.eye(3)])
    np.testing.assert_array_equal(rotations.is_rotation(batch), [expected, True])
