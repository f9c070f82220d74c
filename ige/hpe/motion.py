"""Poses in a row, as every picture of them takes them."""

import dataclasses

import numpy as np

from ige.hpe.skeleton import Skeleton

# Side -> colour in every picture. Okabe and Ito's, told apart by the colour-blind too.
COLOURS = {"left": "#0072B2", "right": "#D55E00", "centre": "#444444"}


@dataclasses.dataclass(frozen=True)
class Motion:
    """The poses of one person, frame by frame.

    Attributes:
        name: what they are, for a legend: 'ground truth', 'prediction'.
        poses: (frames, joints, 3) in metres, z up; or (frames, joints, 2) in an image, x right and
            y down.
        skeleton: names and bones of the joints.
        errors: (frames, joints) mm, if they are known.
        unit: of 2D poses.
    """

    name: str
    poses: np.ndarray
    skeleton: Skeleton
    errors: np.ndarray | None = None
    unit: str = "px"

    def __post_init__(self):
        frames, joints, dimensions = self.poses.shape
        assert joints == self.skeleton.num_joints
        assert dimensions in (2, 3)
        assert self.errors is None or self.errors.shape == (frames, joints)

    def __getitem__(self, frames: slice) -> "Motion":
        """Returns some of the frames."""
        errors = None if self.errors is None else self.errors[frames]
        return dataclasses.replace(self, poses=self.poses[frames], errors=errors)
