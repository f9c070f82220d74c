"""Values of a camera's frustum grid at the cells of the object frame, and back; differentiable.

The grids are those of `ige.vox.grids` (x, y, z) and `ige.vox.frustum` (row, column, depth), the
cameras those of `ige.vox.views.from_grid`: the object frame is here that of the grid. Both grids
have their values at the centres of the cells, so that neither way shifts by half a cell. All is
batched, and in the graph.
"""

import itertools
import math
from collections.abc import Callable

import keras
import tensorflow as tf

from ige.vox.views import Cameras

EMPTY = -8.0
"""Logit of what the camera does not see."""

_NEAREST = 1e-3
"""What is nearer is in front of every frustum, or behind the camera."""


def _centres(resolution: int, dtype: tf.DType) -> tf.Tensor:
    return (tf.range(resolution, dtype=dtype) + 0.5) / resolution - 0.5


def _grid(*axes: tf.Tensor) -> tf.Tensor:
    """Returns the points (n * m * k, 3) of three axes, in row-major order."""
    return tf.reshape(tf.stack(tf.meshgrid(*axes, indexing="ij"), axis=-1), (-1, 3))


def cells_in_frustum(cameras: Cameras, resolution: int, frustum_resolution: int) -> tf.Tensor:
    """Returns where the cells of the object frame are in the frustum grids.

    Args:
        cameras: of the batch. The depths of cells behind them are below zero, as of all that is
            nearer than the frustum.
        resolution: R of the object frame.
        frustum_resolution: r of the frustum grids.

    Returns:
        (batch, R^3, 3) row, column and depth, counted in cells: i is the centre of cell i.
    """
    rotation, centre, focal, planes = cameras
    near, far = tf.split(planes, 2, axis=-1)
    centres = _centres(resolution, rotation.dtype)
    points = _grid(centres, centres, centres) - centre[:, tf.newaxis]
    x, y, z = tf.unstack(tf.matmul(points, rotation, transpose_b=True), axis=-1)
    scale = focal[:, tf.newaxis] / tf.maximum(z, _NEAREST)
    depth = (z - near) / (far - near)
    fractions = tf.stack([y * scale + 0.5, x * scale + 0.5, depth], axis=-1)
    return fractions * frustum_resolution - 0.5


def frustum_in_cells(cameras: Cameras, frustum_resolution: int, resolution: int) -> tf.Tensor:
    """Returns where the cells of the frustum grids are in the object frame.

    Args:
        cameras: of the batch.
        frustum_resolution: r of the frustum grids.
        resolution: R of the object frame.

    Returns:
        (batch, r^3, 3) x, y and z, counted in cells: i is the centre of cell i.
    """
    rotation, centre, focal, planes = cameras
    near, far = tf.split(planes, 2, axis=-1)
    centres = _centres(frustum_resolution, rotation.dtype)
    rows, columns, depths = tf.unstack(_grid(centres, centres, centres), axis=-1)
    depth = near + (depths + 0.5) * (far - near)
    scale = depth / focal[:, tf.newaxis]
    points = tf.stack([columns * scale, rows * scale, depth], axis=-1)
    points = tf.matmul(points, rotation) + centre[:, tf.newaxis]
    return (points + 0.5) * resolution - 0.5


def trilinear(values: tf.Tensor, at: tf.Tensor, outside: float) -> tf.Tensor:
    """Returns values between the cells of grids.

    Args:
        values: (batch, n, m, k, channels).
        at: (batch, points, 3) counted in cells along the three axes; no gradient.
        outside: the value of the cells that are not there.

    Returns:
        (batch, points, channels).
    """
    sizes = values.shape[1:4]
    # A border of what is outside, and nothing to be asked of any corner.
    padding = [[0, 0], *([1, 1] for _ in sizes), [0, 0]]
    padded = tf.pad(values, padding, constant_values=outside)
    flat = tf.reshape(
        padded, (-1, (sizes[0] + 2) * (sizes[1] + 2) * (sizes[2] + 2), values.shape[-1])
    )
    limits = tf.constant([float(size) for size in sizes], at.dtype)
    at = tf.stop_gradient(tf.clip_by_value(at, -1.0, limits)) + 1
    low = tf.minimum(tf.floor(at), limits)
    fraction = at - low
    low = tf.cast(low, tf.int32)
    strides = ((sizes[1] + 2) * (sizes[2] + 2), sizes[2] + 2, 1)
    first = sum(low[..., axis] * stride for axis, stride in enumerate(strides))
    result = 0.0
    for corner in itertools.product((0, 1), repeat=3):
        weight = 1.0
        for axis, far in enumerate(corner):
            weight *= fraction[..., axis] if far else 1 - fraction[..., axis]
        shift = sum(far * stride for far, stride in zip(corner, strides, strict=True))
        corners = tf.gather(flat, first + shift, batch_dims=1)
        result += tf.cast(weight, values.dtype)[..., tf.newaxis] * corners
    return result


def nearest(values: tf.Tensor, at: tf.Tensor, outside: float) -> tf.Tensor:
    """Returns the values of the cells that points are in; for arguments and shapes see `trilinear`,
    which does eight times the work."""
    sizes = values.shape[1:4]
    cells = tf.cast(tf.round(tf.stop_gradient(at)), tf.int32)
    inside = tf.reduce_all((cells >= 0) & (cells < tf.constant([*sizes])), axis=-1)
    strides = tf.constant([sizes[1] * sizes[2], sizes[2], 1])
    # One long list of cells: gathering is quicker from it than from one for each example.
    first = tf.range(tf.shape(values)[0])[:, tf.newaxis] * math.prod(sizes)
    rows = first + tf.where(inside, tf.reduce_sum(cells * strides, axis=-1), 0)
    found = tf.gather(tf.reshape(values, (-1, values.shape[-1])), rows)
    return tf.where(inside[..., tf.newaxis], found, tf.cast(outside, values.dtype))


def to_object(
    values: tf.Tensor, cameras: Cameras, resolution: int, outside: float = 0.0
) -> tf.Tensor:
    """Returns the values of frustum grids at the cells of the object frame.

    Args:
        values: (batch, row, column, depth, channels), r cells along each axis.
        cameras: of the batch.
        resolution: R of the object frame.
        outside: value of what no camera sees.

    Returns:
        (batch, x, y, z, channels).
    """
    sampled = trilinear(values, cells_in_frustum(cameras, resolution, values.shape[1]), outside)
    return tf.reshape(sampled, (-1, *[resolution] * 3, values.shape[-1]))


def to_frustum(
    values: tf.Tensor,
    cameras: Cameras,
    resolution: int,
    outside: float = 0.0,
    sample: Callable[[tf.Tensor, tf.Tensor, float], tf.Tensor] = trilinear,
) -> tf.Tensor:
    """Returns the values of grids (batch, x, y, z, channels) at the cells of frustum grids: (batch,
    row, column, depth, channels), `resolution` cells along each axis. See `to_object`; `sample` may
    be `nearest` too."""
    sampled = sample(values, frustum_in_cells(cameras, resolution, values.shape[1]), outside)
    return tf.reshape(sampled, (-1, *[resolution] * 3, values.shape[-1]))


@keras.saving.register_keras_serializable(package="vox")
class ToObjectFrame(keras.layers.Layer):
    """Logits of frustum grids (batch, r, r, r) -> logits of the object frame (batch, R, R, R). What
    the camera does not see is empty.

    Args:
        resolution: R of the object frame.
        outside: logit of what the camera does not see.
    """

    def __init__(self, resolution: int, outside: float = EMPTY, **kwargs):
        super().__init__(**kwargs)
        self.resolution = resolution
        self.outside = outside

    def call(self, logits, rotation, centre, focal, planes):
        cameras = Cameras(rotation, centre, focal, planes)
        return to_object(logits[..., tf.newaxis], cameras, self.resolution, self.outside)[..., 0]

    def compute_output_spec(self, logits, rotation, centre, focal, planes):
        return keras.KerasTensor((logits.shape[0], *[self.resolution] * 3), logits.dtype)

    def get_config(self):
        return super().get_config() | {"resolution": self.resolution, "outside": self.outside}
