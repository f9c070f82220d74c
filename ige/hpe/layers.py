"""Layers around a lifting network that turn its output into metres."""

import keras
import numpy as np
from keras import ops


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
        """(batch, joints, 3), any unit -> (batch, joints, 3) metres."""
        scale = self.length / bone_lengths(poses, self.bones)
        return poses * scale[:, None, None]

    def get_config(self):
        return super().get_config() | {"bones": self.bones, "length": self.length}


def standardise(mean: np.ndarray, std: np.ndarray, invert: bool, name: str) -> keras.layers.Layer:
    """Returns a layer (x - mean) / std over (joints, dimensions), or its inverse."""
    return keras.layers.Normalization(
        axis=(1, 2), mean=mean, variance=np.square(std), invert=invert, name=name
    )
