"""Pinhole cameras with lens distortion: world frame <-> camera frame <-> pixels."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

Array = tf.Tensor | np.ndarray

_UNDISTORT_ITERATIONS = 15


class Camera(NamedTuple):
    """A batch of calibrated cameras; every field has the same leading dimensions.

    Attributes:
        rotation: (..., 3, 3) world to camera: `x_camera = rotation @ (x_world - translation)`.
        translation: (..., 3) camera centre in the world frame, in the unit of the points.
        focal_length: (..., 2) pixels.
        center: (..., 2) principal point, pixels.
        radial: (..., 3) radial distortion coefficients of r^2, r^4, r^6.
        tangential: (..., 2) tangential distortion coefficients.
    """

    rotation: Array
    translation: Array
    focal_length: Array
    center: Array
    radial: Array
    tangential: Array


def safe_divide(numerator: Array, denominator: Array) -> tf.Tensor:
    """Returns numerator / denominator, and 0 with gradient 0 where the denominator is 0."""
    return tf.math.divide_no_nan(numerator, denominator)


def _per_joint(field: Array, points: tf.Tensor) -> tf.Tensor:
    """Returns a camera's vector (..., d) as (..., 1, d), in the type of the points."""
    return tf.cast(field, points.dtype)[..., tf.newaxis, :]


def world_to_camera(points: Array, camera: Camera) -> tf.Tensor:
    """Transforms points (..., J, 3) from the world to the camera frame.

    Leading dimensions of points and camera broadcast; the result has the type of the points.
    """
    points = tf.convert_to_tensor(points)
    centred = points - _per_joint(camera.translation, points)
    return tf.matmul(centred, tf.cast(camera.rotation, points.dtype), transpose_b=True)


def camera_to_world(points: Array, camera: Camera) -> tf.Tensor:
    """Transforms points (..., J, 3) from the camera to the world frame; see `world_to_camera`."""
    points = tf.convert_to_tensor(points)
    rotated = tf.matmul(points, tf.cast(camera.rotation, points.dtype))
    return rotated + _per_joint(camera.translation, points)


def perspective(points: Array) -> tf.Tensor:
    """Returns (x / z, y / z), (..., J, 2), of points (..., J, 3) in the camera frame.

    A point at depth 0 has no image: it gives (0, 0), and no gradient, so that a padded point does
    not spoil a batch. A point behind the camera gives its mirror image through the camera centre:
    whoever optimises depths has to keep them positive.
    """
    points = tf.convert_to_tensor(points)
    return safe_divide(points[..., :2], points[..., 2:])


def distort(coordinates: Array, radial: Array, tangential: Array) -> tf.Tensor:
    """Applies the lens distortion to ideal normalised coordinates (..., J, 2).

    With r^2 = x^2 + y^2, radial k and tangential p: (x, y) (1 + k0 r^2 + k1 r^4 + k2 r^6
    + p0 y + p1 x) + (p1, p0) r^2. This is the model of Human3.6M's own code and of
    3d-pose-baseline; Brown's model has 2 (p0 y + p1 x) in place of p0 y + p1 x.

    Args:
        coordinates: (..., J, 2).
        radial: (..., 3), see `Camera`.
        tangential: (..., 2), see `Camera`.
    """
    x, y = tf.unstack(tf.convert_to_tensor(coordinates), axis=-1)
    return tf.stack(distort_coordinates(x, y, radial, tangential), axis=-1)


def distort_coordinates(
    x: tf.Tensor, y: tf.Tensor, radial: Array, tangential: Array
) -> tuple[tf.Tensor, tf.Tensor]:
    """`distort` of the two coordinates (..., J), each by itself."""
    k0, k1, k2 = (tf.cast(radial[..., i, tf.newaxis], x.dtype) for i in range(3))
    p0, p1 = (tf.cast(tangential[..., i, tf.newaxis], x.dtype) for i in range(2))
    square = tf.square(x) + tf.square(y)
    factor = 1 + square * (k0 + square * (k1 + square * k2)) + p0 * y + p1 * x
    return x * factor + p1 * square, y * factor + p0 * square


def undistort(coordinates: Array, radial: Array, tangential: Array) -> tf.Tensor:
    """Returns what `distort` makes the given coordinates (..., J, 2) of, by fixed-point iteration.

    It converges where the distortion is smaller than what it distorts, as in the images of
    Human3.6M (to 1e-6).
    """
    distorted = tf.convert_to_tensor(coordinates)
    ideal = distorted
    for _ in range(_UNDISTORT_ITERATIONS):
        ideal = distorted - (distort(ideal, radial, tangential) - ideal)
    return ideal


def project_normalised(points: Array, camera: Camera) -> tf.Tensor:
    """Projects points (..., J, 3) of the camera frame to distorted normalised coordinates.

    Returns:
        (..., J, 2): what `normalise` makes of the pixels. See `perspective` for depths <= 0.
    """
    return distort(perspective(points), camera.radial, camera.tangential)


def project(points: Array, camera: Camera) -> tf.Tensor:
    """Projects points (..., J, 3) of the camera frame to pixels (..., J, 2).

    See `perspective` for depths <= 0.
    """
    return denormalise(project_normalised(points, camera), camera)


def normalise(pixels: Array, camera: Camera) -> tf.Tensor:
    """Returns (pixels - centre) / focal length, (..., J, 2); a distortion stays in."""
    pixels = tf.convert_to_tensor(pixels)
    return (pixels - _per_joint(camera.center, pixels)) / _per_joint(camera.focal_length, pixels)


def denormalise(coordinates: Array, camera: Camera) -> tf.Tensor:
    """Returns coordinates * focal length + centre, pixels (..., J, 2)."""
    coordinates = tf.convert_to_tensor(coordinates)
    focal_length = _per_joint(camera.focal_length, coordinates)
    return coordinates * focal_length + _per_joint(camera.center, coordinates)
