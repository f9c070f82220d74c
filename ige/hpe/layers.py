"""Layers around a lifting network: what its poses are, and what turns its output into metres."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from ige.errors import UserError
from ige.hpe.skeleton import Skeleton


class PoseSpec(keras.layers.InputSpec):
    """Spec of a 3D pose (joints, 3) that says what the numbers are.

    Args:
        skeleton: the joints.
        to_metres: network's outputs, name of a layer -> the same in metres; None if a network is
            asked for something else: root-relative or standardised poses, or such of any scale.
    """

    def __init__(
        self,
        skeleton: Skeleton,
        to_metres: Callable[[keras.KerasTensor, str], keras.KerasTensor] | None,
    ):
        super().__init__(shape=(skeleton.num_joints, 3), dtype="float32")
        self.skeleton = skeleton
        self.to_metres = to_metres


class _Description(keras.layers.Layer):
    """Passes poses on as they are, and has a saved network say which joints they have.

    Args:
        skeleton: the joints, a `Skeleton` or its attributes.
    """

    def __init__(self, skeleton: Skeleton | dict[str, Any], **kwargs):
        super().__init__(**kwargs)
        if isinstance(skeleton, dict):
            skeleton = Skeleton(
                skeleton["name"], tuple(skeleton["joints"]), tuple(skeleton["parents"])
            )
        self.skeleton = skeleton

    def call(self, poses):
        """(batch, joints, dimensions) -> the same."""
        return poses

    def get_config(self):
        return super().get_config() | {"skeleton": dataclasses.asdict(self.skeleton)}


@keras.saving.register_keras_serializable(package="ige")
class ObservedPose(_Description):
    """The 2D poses that a network was trained on: intrinsics-normalised, (pixels - centre) / focal
    length.

    Args:
        skeleton: their joints.
        centers: [[x, y], [x, y]]: between these the mean joint of almost all of them lay.
        sizes: [smallest, largest]: between these was the root mean square distance of the joints
            from the mean joint.
    """

    def __init__(
        self,
        skeleton: Skeleton | dict[str, Any],
        centers: list[list[float]],
        sizes: list[float],
        **kwargs,
    ):
        super().__init__(skeleton, **kwargs)
        self.centers = centers
        self.sizes = sizes

    def get_config(self):
        return super().get_config() | {"centers": self.centers, "sizes": self.sizes}


@keras.saving.register_keras_serializable(package="ige")
class PredictedPose(_Description):
    """The 3D poses that a network predicts: camera frame, metres; absolute or root-relative."""


def _descriptions(layer: keras.layers.Layer) -> Iterator[_Description]:
    """Yields the descriptions in a model, those of models inside it too."""
    if isinstance(layer, _Description):
        yield layer
    for inner in getattr(layer, "layers", ()):
        yield from _descriptions(inner)


def description(model: keras.Model) -> tuple[ObservedPose, PredictedPose]:
    """Returns what a lifting network takes and what it predicts.

    Raises:
        UserError: it does not say.
    """
    found = {type(layer): layer for layer in _descriptions(model)}
    if found.keys() != {ObservedPose, PredictedPose}:
        raise UserError(
            "the network does not say which joints it takes and predicts: an earlier version of "
            "ige trained it, or a model_fn that does not use problem.build_model; train it again "
            'with --gin_param="train.overwrite=True"'
        )
    return found[ObservedPose], found[PredictedPose]


def extent(pose_2d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean joint (..., 2) and the size (...) of poses (..., joints, 2).

    The size is the root mean square distance of the joints from the mean joint.
    """
    joints = pose_2d.shape[-2]
    # Several times as fast as numpy's means along the last axis but one.
    center = np.einsum("...jd->...d", pose_2d) / joints
    spread = pose_2d - center[..., np.newaxis, :]
    return center, np.sqrt(np.einsum("...jd,...jd->...", spread, spread) / joints)


def bone_lengths(poses: keras.KerasTensor, bones: list[list[int]]) -> keras.KerasTensor:
    """Returns the summed length (...) of `bones`, [[child, parent], ...], of poses (..., J, 3)."""
    child, parent = zip(*bones, strict=True)
    difference = ops.take(poses, child, axis=-2) - ops.take(poses, parent, axis=-2)
    # The gradient of a square root at zero is infinite: two coincident joints are 1e-12 apart.
    return ops.sum(ops.sqrt(ops.sum(ops.square(difference), axis=-1) + 1e-24), axis=-1)


@keras.saving.register_keras_serializable(package="ige")
class BoneLengthScale(keras.layers.Layer):
    """Scales each pose about the camera centre to a given total bone length.

    A loss after optimal scaling (`opt_scale`) leaves the scale of a prediction free, and a camera
    cannot see it either. This layer fixes it to the mean of the training subjects, which changes
    neither that loss nor its gradient, and makes the output metric.

    Args:
        bones: [[child, parent], ...] joint indices.
        length: summed length of the bones, metres.
    """

    def __init__(self, bones: list[list[int]], length: float, **kwargs):
        super().__init__(**kwargs)
        self.bones = [list(map(int, bone)) for bone in bones]
        self.length = float(length)

    def call(self, poses):
        """(batch, ..., joints, 3), any unit -> the same in metres."""
        scale = self.length / bone_lengths(poses, self.bones)
        return poses * scale[..., None, None]

    def get_config(self):
        return super().get_config() | {"bones": self.bones, "length": self.length}


def standardise(mean: np.ndarray, std: np.ndarray, invert: bool, name: str) -> keras.layers.Layer:
    """Returns a layer (x - mean) / std over (joints, dimensions), or its inverse."""
    return keras.layers.Normalization(
        axis=(1, 2), mean=mean, variance=np.square(std), invert=invert, name=name
    )
