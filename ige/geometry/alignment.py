"""Alignment of predicted to true poses: by root, by scale, by a similarity transform."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from ige.geometry.rotations import determinant

Array = tf.Tensor | np.ndarray


def midpoint(poses: Array, joints: Sequence[int]) -> tf.Tensor:
    """Returns the mean (..., 1, d) of some joints of poses (..., J, d)."""
    chosen = tf.gather(tf.convert_to_tensor(poses), list(joints), axis=-2)
    return tf.reduce_mean(chosen, axis=-2, keepdims=True)


def root_aligned(poses: Array, root: Sequence[int]) -> tf.Tensor:
    """Returns poses (..., J, d) moved so that the midpoint of the `root` joints is the origin."""
    return poses - midpoint(poses, root)


def scale_aligned(predictions: Array, truth: Array, allow_negative: bool = True) -> tf.Tensor:
    """Returns s * predictions with the s that brings each pose nearest to the truth.

    s = <p, g> / <p, p> over joints and coordinates: the pose is scaled about the origin of its
    coordinates, be that the root (N-MPJPE) or the camera centre. s is negative when the mirror
    image through the origin is nearer. A prediction of zeros stays as it is, without a gradient.

    Args:
        predictions: (..., J, d).
        truth: (..., J, d), of the same type; leading dimensions broadcast.
        allow_negative: if not, |s| is used, for training: minimising with s alone, a network may
            settle on mirrored poses in one part of its input space and proper ones in another,
            with useless ones where they meet; with |s| a mirrored pose costs more than any other.

    Returns:
        (..., J, d). The gradient flows through s too.
    """
    inner = tf.reduce_sum(predictions * truth, axis=[-2, -1], keepdims=True)
    square = tf.reduce_sum(tf.square(predictions), axis=[-2, -1], keepdims=True)
    scale = tf.math.divide_no_nan(inner, square)
    return predictions * (scale if allow_negative else tf.abs(scale))


@tf.custom_gradient
def nearest_rotation(matrix: tf.Tensor) -> tf.Tensor:
    """Returns the rotations R (..., 3, 3), det +1, that maximise <R, M> for M (..., 3, 3).

    R = U diag(1, 1, det(U V^T)) V^T with M = U S V^T (Umeyama 1991). Where R is not unique (M of
    rank below 2), it is one of the maximisers.

    The gradient is that of R itself, not of U and V, so equal singular values do no harm. With
    M = R H, H symmetric with eigenvectors V and eigenvalues l (S, the last with the sign of the
    determinant): dR = R W, and V^T W V has the elements of V^T (R^T dM - dM^T R) V divided by
    l_i + l_j. Where such a sum is 0, R is not unique, and that part of the gradient is left out.
    """
    singular, left, right = tf.linalg.svd(matrix)
    sign = tf.where(determinant(left) * determinant(right) < 0, -1.0, 1.0)
    last = tf.cast(sign, matrix.dtype)[..., tf.newaxis]
    signs = tf.concat([tf.ones_like(last), tf.ones_like(last), last], axis=-1)
    rotation = tf.matmul(left * signs[..., tf.newaxis, :], right, transpose_b=True)

    def gradient(upstream: tf.Tensor) -> tf.Tensor:
        eigenvalues = singular * signs
        sums = eigenvalues[..., tf.newaxis] + eigenvalues[..., tf.newaxis, :]
        tiny = 1e-12 * singular[..., :1, tf.newaxis]
        sums = tf.where(sums > tiny, sums, tf.zeros_like(sums))
        inner = tf.matmul(rotation, upstream, transpose_a=True)
        inner = tf.matmul(right, tf.matmul(inner, right), transpose_a=True)
        inner = tf.math.divide_no_nan(inner, sums)
        inner -= tf.linalg.matrix_transpose(inner)
        return rotation @ right @ tf.matmul(inner, right, transpose_b=True)

    return rotation, gradient


def procrustes_aligned(predictions: Array, truth: Array) -> tf.Tensor:
    """Returns predictions moved, turned and scaled to be nearest to the truth, never mirrored.

    The similarity transform of least squared distance (Umeyama 1991): rotation of determinant +1,
    scale >= 0, translation. Computed in float64. For one transform of a whole sequence, stack its
    frames: (frames * J, 3).

    Where the rotation is not unique (collinear or coincident points, all zeros) one of the best is
    taken; the distance is the same for all. Coincident predicted points all land on the mean of
    the truth.

    Args:
        predictions: (..., J, 3), any unit.
        truth: (..., J, 3), of the same shape.

    Returns:
        (..., J, 3) in the type of the predictions, in the frame and unit of the truth.
    """
    predictions, truth = tf.convert_to_tensor(predictions), tf.convert_to_tensor(truth)
    dtype = predictions.dtype
    predictions, truth = tf.cast(predictions, tf.float64), tf.cast(truth, tf.float64)
    truth_mean = tf.reduce_mean(truth, axis=-2, keepdims=True)
    predictions -= tf.reduce_mean(predictions, axis=-2, keepdims=True)
    covariance = tf.matmul(predictions, truth - truth_mean, transpose_a=True)
    rotation = nearest_rotation(covariance)
    inner = tf.reduce_sum(rotation * covariance, axis=[-2, -1], keepdims=True)
    square = tf.reduce_sum(tf.square(predictions), axis=[-2, -1], keepdims=True)
    scale = tf.math.divide_no_nan(inner, square)
    return tf.cast(scale * tf.matmul(predictions, rotation) + truth_mean, dtype)
