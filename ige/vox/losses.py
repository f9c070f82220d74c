"""How unlike predicted and true grids are: a function, and a Keras loss and metric of it."""

from typing import Any, Literal

import gin
import keras
import tensorflow as tf

from ige.errors import UserError

Reduction = Literal["sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", "none"]


def cross_entropy(y_true: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Returns the mean cross-entropy (...) of the cells of grids (..., R, R, R)."""
    labels = tf.broadcast_to(tf.cast(y_true, logits.dtype), tf.shape(logits))
    cells = tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)
    return tf.reduce_mean(cells, axis=(-3, -2, -1))


def overlap(y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
    """Returns the intersection over the union (...) of grids (..., R, R, R).

    Of probabilities it is differentiable: their products with the truth over the cells' expected
    union. Two empty grids have 1.

    Args:
        y_true: occupied cells, of any type.
        y_pred: probabilities, or 0 and 1.
    """
    labels = tf.cast(y_true, y_pred.dtype)
    cells = (-3, -2, -1)
    common = tf.reduce_sum(labels * y_pred, axis=cells)
    union = tf.reduce_sum(labels + y_pred, axis=cells) - common
    return tf.where(union > 0, common / tf.where(union > 0, union, 1.0), 1.0)


@gin.configurable(module="vox", denylist=["name", "dtype"])
@keras.saving.register_keras_serializable(package="vox")
class VoxelLoss(keras.losses.Loss):
    """`cross_entropy` and 1 - `overlap`, weighted, of logits (batch, R, R, R).

    Of iterates (batch, n, R, R, R) the mean, with weights decay^-t. Cross-entropy alone is content
    with thin parts left out, of which there are few cells; the overlap is what is measured.

    Args:
        cross_entropy_weight: at least 0.
        overlap_weight: at least 0, one of both above it.
        iterate_decay: the weight of an iterate is that of the next one times this, above 0; the
            weights add up to 1.
        reduction: over the batch; see Keras.
        name: name of the loss.
        dtype: Keras's type of the computation.

    Raises:
        UserError: a number that makes no sense.
    """

    def __init__(
        self,
        cross_entropy_weight: float = 1.0,
        overlap_weight: float = 1.0,
        iterate_decay: float = 0.9,
        reduction: Reduction = "sum_over_batch_size",
        name: str = "voxel_loss",
        dtype: Any = None,
    ):
        weights = (cross_entropy_weight, overlap_weight)
        if min(weights) < 0 or not max(weights) > 0:
            raise UserError(
                f"vox.VoxelLoss: got cross_entropy_weight={cross_entropy_weight}, overlap_weight="
                f"{overlap_weight}, expected numbers from 0 on, one of them above it"
            )
        if not iterate_decay > 0:
            raise UserError(
                f"vox.VoxelLoss.iterate_decay: got {iterate_decay}, expected a number above 0"
            )
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self._weights = tuple(map(float, weights))
        self._iterate_decay = float(iterate_decay)

    def call(self, y_true, y_pred):
        """Returns the loss of every example (batch,); the base class reduces it."""
        several = len(y_pred.shape) > len(y_true.shape)
        if several:
            y_true = y_true[:, tf.newaxis]
        losses = self._weights[0] * cross_entropy(y_true, y_pred)
        losses += self._weights[1] * (1 - overlap(y_true, tf.sigmoid(y_pred)))
        if not several:
            return losses
        steps_to_last = tf.range(tf.shape(losses)[1] - 1, -1, -1)
        weights = self._iterate_decay ** tf.cast(steps_to_last, losses.dtype)
        return tf.linalg.matvec(losses, weights / tf.reduce_sum(weights))

    def get_config(self):
        cross_entropy_weight, overlap_weight = self._weights
        return super().get_config() | {
            "dtype": self.dtype,
            "cross_entropy_weight": cross_entropy_weight,
            "overlap_weight": overlap_weight,
            "iterate_decay": self._iterate_decay,
        }


def _overlap_at_half(y_true: tf.Tensor, y_pred: tf.Tensor, iterate: int) -> tf.Tensor:
    if len(y_pred.shape) > len(y_true.shape):
        y_pred = y_pred[:, iterate]
    return overlap(y_true, tf.cast(y_pred > 0, y_pred.dtype))


@keras.saving.register_keras_serializable(package="vox")
class IouMetric(keras.metrics.MeanMetricWrapper):
    """Mean intersection over union of the cells with probabilities above one half.

    Args:
        iterate: which of the iterates (batch, n, R, R, R), if they are given; -1 is the last.
        name: name of the metric.
        dtype: Keras's type of the computation.
    """

    def __init__(self, iterate: int = -1, name: str = "iou", dtype: Any = None):
        self._iterate = iterate
        super().__init__(_overlap_at_half, name=name, dtype=dtype, iterate=iterate)

    def get_config(self):
        return {"name": self.name, "dtype": self.dtype, "iterate": self._iterate}
