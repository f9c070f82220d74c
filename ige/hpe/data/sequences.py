"""Recordings of people, as every data set of poses hands them out and tfds stores them."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

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


class Info(tfds.core.DatasetInfo):
    """The description of a build that Google has no copy of."""

    def initialize_from_bucket(self) -> None:
        """Does nothing: tfds would look there, and leave a temporary folder behind."""


def as_bytes(*shape: int | None, dtype: type = np.float64) -> tfds.features.Tensor:
    """Returns a feature that is stored as raw bytes: exact, and much faster than numbers."""
    return tfds.features.Tensor(shape=shape, dtype=dtype, encoding=tfds.features.Encoding.BYTES)


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


def read_examples(
    folder: pathlib.Path, split: str, convert: Callable[[dict[str, Any]], PoseSequence]
) -> list[PoseSequence]:
    """Returns what `convert` makes of every example of a split of a build, in any order."""
    dataset = tfds.builder_from_directory(folder).as_dataset(
        split=split,
        shuffle_files=False,
        read_config=tfds.ReadConfig(try_autocache=False, add_tfds_id=False),
    )
    return [convert(example) for example in dataset.as_numpy_iterator()]
