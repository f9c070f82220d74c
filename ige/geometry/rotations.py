"""Rotation matrices from angles and quaternions; a check that a matrix is a rotation."""

import numpy as np
import tensorflow as tf

Array = tf.Tensor | np.ndarray


def _matrix(*rows: tuple[tf.Tensor, ...]) -> tf.Tensor:
    return tf.stack([tf.stack(row, axis=-1) for row in rows], axis=-2)


def euler_xyz(angles: Array) -> tf.Tensor:
    """Returns Rx(a) Ry(b) Rz(c), (..., 3, 3), of angles (a, b, c), (..., 3), in radians.

    Each factor turns column vectors counter-clockwise about its axis. The convention of the camera
    angles in Human3.6M's metadata.
    """
    angles = tf.convert_to_tensor(angles)
    cosines, sines = (tf.unstack(f(angles), axis=-1) for f in (tf.cos, tf.sin))
    zero, one = tf.zeros_like(cosines[0]), tf.ones_like(cosines[0])
    (ca, cb, cc), (sa, sb, sc) = cosines, sines
    about_x = _matrix((one, zero, zero), (zero, ca, -sa), (zero, sa, ca))
    about_y = _matrix((cb, zero, sb), (zero, one, zero), (-sb, zero, cb))
    about_z = _matrix((cc, -sc, zero), (sc, cc, zero), (zero, zero, one))
    return about_x @ about_y @ about_z


def quaternion_to_matrix(quaternion: Array) -> tf.Tensor:
    """Returns the rotation (..., 3, 3) of quaternions (w, x, y, z), (..., 4), of any length.

    q and -q are the same rotation; a quaternion of zeros gives the identity.
    """
    quaternion = tf.convert_to_tensor(quaternion)
    w, x, y, z = tf.unstack(quaternion, axis=-1)
    s = tf.math.divide_no_nan(tf.cast(2, quaternion.dtype), w * w + x * x + y * y + z * z)
    return _matrix(
        (1 - s * (y * y + z * z), s * (x * y - w * z), s * (x * z + w * y)),
        (s * (x * y + w * z), 1 - s * (x * x + z * z), s * (y * z - w * x)),
        (s * (x * z - w * y), s * (y * z + w * x), 1 - s * (x * x + y * y)),
    )


def determinant(matrix: Array) -> tf.Tensor:
    """Returns the determinants (...) of matrices (..., 3, 3); XLA cannot compile TensorFlow's."""
    first, second, third = tf.unstack(tf.convert_to_tensor(matrix), axis=-2)
    return tf.reduce_sum(tf.linalg.cross(first, second) * third, axis=-1)


def is_rotation(matrix: Array, tolerance: float = 1e-5) -> tf.Tensor:
    """Returns bool (...): matrices (..., 3, 3) that are orthogonal, with determinant +1.

    Args:
        matrix: the matrices.
        tolerance: largest difference of `R R^T` from the identity, per element.
    """
    matrix = tf.convert_to_tensor(matrix)
    difference = tf.matmul(matrix, matrix, transpose_b=True) - tf.eye(3, dtype=matrix.dtype)
    orthogonal = tf.reduce_all(tf.abs(difference) <= tolerance, axis=[-2, -1])
    return orthogonal & (determinant(matrix) > 0)
