"""What a camera sees of a sequence."""

import dataclasses

import numpy as np

from ige.geometry.cameras import Camera
from ige.hpe.skeleton import Skeleton


@dataclasses.dataclass(frozen=True)
class View:
    """What a camera sees of a sequence, and what is to be found out about it.

    Attributes:
        subject: who it is.
        action: what they do.
        name: of the sequence.
        camera_id: of the camera.
        camera: translation in metres.
        keypoints: (n, 2D joints, 2) pixels; NaN where a joint is not seen.
        keypoint_skeleton: their joints.
        frame_rate: frames per second.
        poses: (n, J, 3) metres, world frame, in the prior's skeleton; only to measure errors.
    """

    subject: str
    action: str
    name: str
    camera_id: str
    camera: Camera
    keypoints: np.ndarray
    keypoint_skeleton: Skeleton
    frame_rate: float
    poses: np.ndarray | None = None

    @property
    def key(self) -> str:
        """Name of the view, of which there is one per data set."""
        return f"{self.subject} {self.name} {self.camera_id}"
