"""Recordings of people, as every data set of poses hands them out and tfds stores them."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from ige.data.examples import as_bytes
from ige.geometry.cameras import Camera

_CAMERA_SHAPES = {
    "rotation": (3, 3),
    "translation": (3,),
    "focal_length": (2,),
    "center": (2,),
    "radial": (3,),
    "tangential": (2,),
}


@dataclasses.dataclass(frozen=True)
class PoseSequence:
    """One recording.

    Attributes:
        subject: 'S9'.
        action: 'Walking'.
        name: 'Walking 1'.
        frame_rate: poses per second.
        poses: (n, joints, 3) float32, mm, world frame, z up, of the data set's `skeleton`.
        cameras: camera id -> camera, float64 arrays, mm; in the order of the data set.
        keypoints: camera id -> (n, joints, 2) float32 pixels, for the cameras that have detections.
    """

    subject: str
    action: str
    name: str
    frame_rate: float
    poses: np.ndarray
    cameras: dict[str, Camera]
    keypoints: dict[str, np.ndarray]

    @property
    def recording(self) -> str:
        """Name of what was recorded without a break, of which this may be a part: 'Walking 1'."""
        return self.name.partition(" chunk")[0]


def camera_features(count: int) -> dict[str, tfds.features.Tensor]:
    """Returns the features of what `stack_cameras` makes of `count` cameras."""
    fields = {field: as_bytes(count, *shape) for field, shape in _CAMERA_SHAPES.items()}
    return {"id": tfds.features.Tensor(shape=(count,), dtype=np.str_), **fields}


def stack_cameras(cameras: dict[str, Camera]) -> dict[str, Any]:
    """Returns the ids and, by field, the arrays (cameras, ...) of all cameras, float64."""
    fields = {
        field: np.stack([np.asarray(getattr(c, field), np.float64) for c in cameras.values()])
        for field in _CAMERA_SHAPES
    }
    return {"id": list(cameras), **fields}


def unstack_cameras(stacked: dict[str, Any]) -> dict[str, Camera]:
    """Returns the cameras that `stack_cameras` made `stacked` of."""
    return {
        camera.decode(): Camera(**{field: stacked[field][i] for field in _CAMERA_SHAPES})
        for i, camera in enumerate(stacked["id"])
    }
