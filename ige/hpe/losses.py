"""Distance between poses after an alignment: a function, and a Keras loss and metric of it."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import gin
import keras
import tensorflow as tf

from ige.errors import UserError
from ige.geometry import alignment as align
from ige.geometry.units import MM_PER_METRE

Alignment = Literal["none", "origin", "opt_scale"]
JointReduction = Literal["mean", "sum"]
BatchReduction = Literal["sum_over_batch_size", "sum", "mean", "mean_with_sample_weight", "none"]


def _power_of_norm(differences: tf.Tensor, order: float) -> tf.Tensor:
    """Returns |d| ** order, (..., J), of d (..., J, 3); the gradient at d = 0 is 0."""
    square = tf.reduce_sum(tf.square(differences), axis=-1)
    if order == 2:
        return square
    positive = square > 0
    return tf.where(positive, tf.where(positive, square, 1.0) ** (order / 2), 0.0)


def pose_error(
    y_true: tf.Tensor,
    y_pred: tf.Tensor,
    alignment: Alignment = "none",
    order: float = 2.0,
    joint_reduction: JointReduction = "mean",
    rescale_labels: bool = False,
    root: Sequence[int] = (0,),
    append_root: bool = False,
    allow_negative_scale: bool = False,
    std: Sequence[Sequence[float]] | None = None,
) -> tf.Tensor:
    """Returns the error (...) of predicted poses (..., J, 3), in the camera frame.

    The steps, in this order: append the root, rescale the labels, align, divide by `std`, raise the
    distance of every joint to `order`, reduce over joints.

    Args:
        y_true: true poses (..., J, 3).
        y_pred: predicted poses (..., J, 3) in the same unit; the result has their type.
        alignment: "none"; "origin": both have their root at the origin; "opt_scale": the prediction
            is scaled about the origin of its coordinates, which for absolute poses is the camera
            centre, by the factor nearest to the truth.
        order: power of the distance: 1 distance, 2 squared distance.
        joint_reduction: "mean" or "sum" over joints.
        rescale_labels: divide each true pose by the distance of its root from the camera centre, as
            the published IGE loss does: a person's weight is then independent of the distance.
        root: indices of the joints whose midpoint is the root.
        append_root: the midpoint of the root joints is one joint more, as in Human3.6M, where
            the pelvis is the midpoint of the hips. A single root joint is there already and is not
            appended again.
        allow_negative_scale: use negative factors of "opt_scale" as they are, as the published IGE
            loss does, not their magnitude; see `ige.geometry.alignment.scale_aligned`.
        std: (J, 3), errors are divided by it (one row more if the root is appended). With order 2
            and alignment "none" this is the loss of Martinez et al. 2017, the squared error of
            standardised coordinates, summed over x, y and z.
    """
    y_pred = tf.convert_to_tensor(y_pred)
    y_true = tf.cast(y_true, y_pred.dtype)
    if append_root and len(root) > 1:
        y_true, y_pred = (
            tf.concat([poses, align.midpoint(poses, root)], axis=-2) for poses in (y_true, y_pred)
        )
    if rescale_labels:
        distance = tf.norm(align.midpoint(y_true, root), axis=-1, keepdims=True)
        y_true = tf.math.divide_no_nan(y_true, distance)
    if alignment == "origin":
        y_true, y_pred = align.root_aligned(y_true, root), align.root_aligned(y_pred, root)
    elif alignment == "opt_scale":
        y_pred = align.scale_aligned(y_pred, y_true, allow_negative_scale)
    differences = y_pred - y_true
    if std is not None:
        differences /= tf.constant(std, differences.dtype)
    errors = _power_of_norm(differences, order)
    reduce = tf.reduce_mean if joint_reduction == "mean" else tf.reduce_sum
    return reduce(errors, axis=-1)


def _checked_root(owner: str, root: Sequence[int]) -> list[int]:
    root = [int(joint) for joint in root]
    if not root or min(root) < 0:
        raise UserError(f"{owner}.root: got {root}, expected indices of one or more joints")
    return root


def _check_choice(parameter: str, value: Any, choices: Any) -> None:
    if value not in get_args(choices):
        listed = ", ".join(get_args(choices))
        raise UserError(f"{parameter}: got {value!r}, expected one of {listed}")


@gin.configurable(module="hpe", denylist=["root", "std", "name", "dtype"])
@keras.saving.register_keras_serializable(package="ige")
class PoseLoss(keras.losses.Loss):
    """`pose_error` as a loss; of iterates (batch, n, J, 3) the mean, with weights decay^-t.

    Args:
        alignment: see `pose_error`, as for the next seven.
        order: power of the distance, > 0.
        joint_reduction: "mean" or "sum" over joints.
        rescale_labels: divide labels by their distance from the camera centre.
        root: indices of the joints whose midpoint is the root.
        append_root: the midpoint of several root joints counts as a joint.
        allow_negative_scale: let "opt_scale" mirror a pose through the camera centre.
        std: None or (J, 3), errors are divided by it.
        iterate_decay: the weight of an iterate is that of the next one times this, above 0; the
            weights add up to 1. IGE-Net has 0.9: later ones weigh more.
        reduction: over the batch: "sum_over_batch_size" (the mean), "sum", "none" ...; see Keras.
            With "sum" Keras's average over batches weighs the examples of a partial last batch
            less: judge a network by `PoseMetric`, or by another reduction.
        name: name of the loss.
        dtype: Keras's type of the computation.

    Raises:
        UserError: a value is not one of those above.
    """

    def __init__(
        self,
        alignment: Alignment = "none",
        order: float = 2.0,
        joint_reduction: JointReduction = "mean",
        rescale_labels: bool = False,
        root: Sequence[int] = (0,),
        append_root: bool = False,
        allow_negative_scale: bool = False,
        std: Sequence[Sequence[float]] | None = None,
        iterate_decay: float = 0.9,
        reduction: BatchReduction = "sum_over_batch_size",
        name: str = "pose_loss",
        dtype: Any = None,
    ):
        _check_choice("hpe.PoseLoss.alignment", alignment, Alignment)
        _check_choice("hpe.PoseLoss.joint_reduction", joint_reduction, JointReduction)
        _check_choice("hpe.PoseLoss.reduction", reduction, BatchReduction)
        if not order > 0:
            raise UserError(f"hpe.PoseLoss.order: got {order}, expected a number above 0")
        if not iterate_decay > 0:
            raise UserError(
                f"hpe.PoseLoss.iterate_decay: got {iterate_decay}, expected a number above 0"
            )
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self._iterate_decay = float(iterate_decay)
        self._options = {
            "alignment": alignment,
            "order": float(order),
            "joint_reduction": joint_reduction,
            "rescale_labels": bool(rescale_labels),
            "root": _checked_root("hpe.PoseLoss", root),
            "append_root": bool(append_root),
            "allow_negative_scale": bool(allow_negative_scale),
            "std": None if std is None else [[float(value) for value in row] for row in std],
        }

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Returns the error of every pose (batch,); the base class reduces it."""
        if len(y_pred.shape) == len(y_true.shape):
            return pose_error(y_true, y_pred, **self._options)
        errors = pose_error(y_true[:, tf.newaxis], y_pred, **self._options)
        steps_to_last = tf.range(tf.shape(errors)[1] - 1, -1, -1)
        weights = self._iterate_decay ** tf.cast(steps_to_last, errors.dtype)
        return tf.linalg.matvec(errors, weights / tf.reduce_sum(weights))

    def get_config(self) -> dict[str, Any]:
        options = self._options | {"iterate_decay": self._iterate_decay}
        return super().get_config() | {"dtype": self.dtype} | options


def _error_mm(y_true: tf.Tensor, y_pred: tf.Tensor, iterate: int, **options) -> tf.Tensor:
    if len(y_pred.shape) > len(y_true.shape):
        y_pred = y_pred[:, iterate]
    # The factor may be negative, as in the report of an evaluation.
    options |= {"order": 1.0, "allow_negative_scale": True}
    return MM_PER_METRE * pose_error(y_true, y_pred, **options)


@keras.saving.register_keras_serializable(package="ige")
class PoseMetric(keras.metrics.MeanMetricWrapper):
    """Mean distance of the joints in millimetres, of poses (batch, J, 3) in metres.

    Every pose weighs the same, in a last partial batch too.

    Args:
        alignment: see `pose_error`, as for the next two; "origin" is MPJPE.
        root: indices of the joints whose midpoint is the root.
        append_root: the midpoint of several root joints counts as a joint.
        iterate: which of the iterates (batch, n, J, 3), if they are given; -1 is the last.
        name: name of the metric.
        dtype: Keras's type of the computation.

    Raises:
        UserError: a value is not one of those above.
    """

    def __init__(
        self,
        alignment: Alignment = "origin",
        root: Sequence[int] = (0,),
        append_root: bool = False,
        iterate: int = -1,
        name: str = "mpjpe_mm",
        dtype: Any = None,
    ):
        _check_choice("PoseMetric.alignment", alignment, Alignment)
        self._options = {
            "alignment": alignment,
            "root": _checked_root("PoseMetric", root),
            "append_root": bool(append_root),
            "iterate": iterate,
        }
        super().__init__(_error_mm, name=name, dtype=dtype, **self._options)

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": self.dtype} | self._options
