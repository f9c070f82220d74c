"""Poses in a row, as every picture of them takes them."""

import dataclasses
import math

import numpy as np

from ige.hpe.skeleton import Skeleton

# Side -> colour in every picture. Okabe and Ito's, told apart by the colour-blind too.
COLOURS = {"left": "#0072B2", "right": "#D55E00", "centre": "#444444"}

# Browsers slow down GIFs of more than 50 frames per second; 25 look smooth and halve the file.
_MAX_FRAME_RATE = 25.0


def shown(frame_rate: float, max_frames: int) -> tuple[slice, float]:
    """Returns which frames of a motion to show, at most 25 per second of the first of it, and how
    many per second these are."""
    step = math.ceil(frame_rate / _MAX_FRAME_RATE)
    return slice(0, max_frames * step, step), frame_rate / step


@dataclasses.dataclass(frozen=True)
class Motion:
    """The poses of one person, frame by frame.

    Attributes:
        name: what they are, for a legend: 'ground truth', 'prediction'.
        poses: (frames, joints, 3) in metres, z up; or (frames, joints, 2) in an image, x right and
            y down. Those that a descent went through are (frames, iterates, joints, 3 or 2).
        skeleton: names and bones of the joints.
        errors: (frames, joints) or (frames, iterates, joints) mm, if they are known.
        unit: of 2D poses.
    """

    name: str
    poses: np.ndarray
    skeleton: Skeleton
    errors: np.ndarray | None = None
    unit: str = "px"

    def __post_init__(self):
        *_, joints, dimensions = self.poses.shape
        assert self.poses.ndim in (3, 4)
        assert joints == self.skeleton.num_joints
        assert dimensions in (2, 3)
        assert self.errors is None or self.errors.shape == self.poses.shape[:-1]

    def __len__(self) -> int:
        return len(self.poses)

    @property
    def iterates(self) -> int | None:
        """How many iterates each frame has, if it has any."""
        return self.poses.shape[1] if self.poses.ndim == 4 else None

    def __getitem__(self, frames: slice) -> "Motion":
        """Returns some of the frames."""
        errors = None if self.errors is None else self.errors[frames]
        return dataclasses.replace(self, poses=self.poses[frames], errors=errors)
