"""What a camera sees, as a level camera that looks at the person would: free of where the camera
stands, where it looks, and of its lens.

The levelled frame is the world's, moved along the ground and turned about the vertical so that the
camera is over the origin and y points horizontally at the person; z is up, 0 on the floor, metres.
"""

from typing import NamedTuple

import numpy as np

from ige.geometry import cameras
from ige.geometry.cameras import Camera
from ige.hpe.prior import normalisation


class Levelled(NamedTuple):
    """Views of n frames.

    Attributes:
        directions: (n, 2D joints, 2) x / y and z / y of the ray from the camera to each joint; the
            mean of the others for a joint that is not seen.
        camera_height: (n, 1) metres.
        azimuth: (n,) radians by which the frame is turned from the world's.
        camera: (n, 2) where the camera is on the ground, world frame, metres.
    """

    directions: np.ndarray
    camera_height: np.ndarray
    azimuth: np.ndarray
    camera: np.ndarray

    def from_world(self, poses: np.ndarray) -> np.ndarray:
        """Returns poses (n, J, 3) of the world frame in the levelled frame, metres."""
        moved = poses.copy()
        moved[..., :2] -= self.camera[:, np.newaxis]
        return normalisation.turn(moved, -self.azimuth)

    def poses_to_world(self, poses: np.ndarray) -> np.ndarray:
        """Returns poses (n, J, 3) of this frame in the world's, metres."""
        turned = normalisation.turn(poses, self.azimuth)
        turned[..., :2] += self.camera[:, np.newaxis]
        return turned

    def to_world(self, heading: np.ndarray, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns headings (n,) and places on the ground (n, 2) of this frame in the world's."""
        lifted = np.concatenate([position, np.zeros((len(position), 1))], axis=1)
        turned = normalisation.turn(lifted[:, np.newaxis], self.azimuth)
        return heading + self.azimuth, turned[:, 0, :2] + self.camera


def level(keypoints: np.ndarray, seen: np.ndarray, camera: Camera) -> Levelled:
    """Levels the views of frames.

    Args:
        keypoints: (n, 2D joints, 2) pixels.
        seen: (n, 2D joints) whether a joint is; at least one in a frame, or its view is straight
            ahead.
        camera: fields (n, ...), translation in metres.
    """
    camera = Camera(*(np.asarray(field, np.float64) for field in camera))
    seen = np.asarray(seen, bool)
    distorted = cameras.normalise(np.asarray(keypoints, np.float64), camera)
    ideal = cameras.undistort(distorted, camera.radial, camera.tangential).numpy()
    # A joint that is not seen may be anywhere, at infinity after the distortion is removed.
    weights = seen / np.maximum(seen.sum(axis=1, keepdims=True), 1)
    ideal = np.where(seen[..., np.newaxis], ideal, 0)
    mean = np.einsum("nk,nkd->nd", weights, ideal)
    ideal = np.where(seen[..., np.newaxis], ideal, mean[:, np.newaxis])
    rays = np.concatenate([ideal, np.ones_like(ideal[..., :1])], axis=-1) @ camera.rotation
    x, y = rays[..., :2].mean(axis=1).T
    azimuth = np.arctan2(-x, y)
    turned = normalisation.turn(rays, -azimuth)
    directions = turned[..., ::2] / turned[..., 1:2]
    place = camera.translation
    return Levelled(directions, place[:, 2:], azimuth, place[:, :2])
