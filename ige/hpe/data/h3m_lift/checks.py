"""What every reader checks, in one place: bad data stops with file, record and reason."""

from typing import Any

import numpy as np

from ige.errors import UserError
from ige.geometry.cameras import Camera, world_to_camera
from ige.geometry.rotations import is_rotation

NUM_JOINTS = 32

MAX_ARRAY_BYTES = 2**26
"""Bound of the poses of one recording, 64 MiB: the longest of Human3.6M takes 5 MiB as float64."""

# Users of VideoPose3D met a video that is twice as long as its motion capture.
_MAX_SURPLUS = 3
_FREE_SURPLUS = 100


def _as_float32(array: Any, what: str, origin: str) -> np.ndarray:
    """Returns an array as float32; what is too large for it becomes infinite.

    Raises:
        UserError: not an array of numbers.
    """
    if not isinstance(array, np.ndarray):
        raise UserError(
            f"{origin}: {what}: got {type(array).__name__}, expected an array; get the file again"
        )
    if array.dtype.kind not in "fiu":
        raise UserError(
            f"{origin}: {what}: got {array.dtype}, expected numbers; get the file again"
        )
    with np.errstate(over="ignore"):
        return np.asarray(array, np.float32)


def _refuse_non_finite(array: np.ndarray, what: str, origin: str) -> None:
    """Raises a UserError that names the first frame with a NaN or an infinity."""
    bad = ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
    if bad.any():
        raise UserError(
            f"{origin}: {what}: frame {int(bad.argmax())} is not finite ({int(bad.sum())} of "
            f"{len(array)} frames); get the file again"
        )


def checked_poses(poses: Any, origin: str, num_joints: int = NUM_JOINTS) -> np.ndarray:
    """Returns poses (n, num_joints, 3) as float32.

    Raises:
        UserError: no array of numbers, another shape, no frames, or a NaN.
    """
    poses = _as_float32(poses, "poses", origin)
    if poses.ndim != 3 or poses.shape[1:] != (num_joints, 3):
        raise UserError(
            f"{origin}: poses: got shape {poses.shape}, expected (frames, {num_joints}, 3); "
            "get the file again"
        )
    if not len(poses):
        raise UserError(f"{origin}: poses: got 0 frames, expected at least 1; get the file again")
    _refuse_non_finite(poses, "poses", origin)
    return poses


def checked_keypoints(keypoints: Any, num_joints: int, frames: int, origin: str) -> np.ndarray:
    """Returns the first `frames` of keypoints (n, num_joints, 2) as float32.

    Detectors ran over the videos, which go on after the motion capture.

    Raises:
        UserError: no array of numbers, another shape, fewer frames than poses or far more, or a
            NaN.
    """
    keypoints = _as_float32(keypoints, "keypoints", origin)
    if keypoints.ndim != 3 or keypoints.shape[1:] != (num_joints, 2):
        raise UserError(
            f"{origin}: keypoints: got shape {keypoints.shape}, expected (frames, {num_joints}, 2);"
            " get the file again"
        )
    most = _MAX_SURPLUS * frames + _FREE_SURPLUS
    if not frames <= len(keypoints) <= most:
        raise UserError(
            f"{origin}: keypoints: got {len(keypoints)} frames, expected at least the {frames} of "
            f"the poses and at most {most}; get the file again"
        )
    keypoints = keypoints[:frames]
    _refuse_non_finite(keypoints, "keypoints", origin)
    return keypoints


def checked_camera(camera: Camera, origin: str) -> Camera:
    """Returns the camera.

    Raises:
        UserError: a number is not finite, a focal length is not positive, or the rotation is none,
            or mirrors.
    """
    for field, array in camera._asdict().items():
        if not np.isfinite(array).all():
            raise UserError(f"{origin}: {field} is not finite; get the file again")
    if np.min(camera.focal_length) <= 0.0:
        raise UserError(
            f"{origin}: focal_length: got {np.min(camera.focal_length):.6g}, expected more than 0; "
            "get the file again"
        )
    rotation = np.asarray(camera.rotation)
    if not is_rotation(rotation, tolerance=1e-4):
        with np.errstate(over="ignore", invalid="ignore"):
            error = np.abs(rotation @ rotation.T - np.eye(3)).max()
            determinant = np.linalg.det(rotation)
        raise UserError(
            f"{origin}: rotation: got a matrix that is {error:.2g} from orthonormal with "
            f"determinant {determinant:.3g}, expected a rotation; get the file again"
        )
    return camera


def refuse_behind_camera(poses: np.ndarray, cameras: dict[str, Camera], origin: str) -> None:
    """Raises a UserError if a joint of poses (n, J, 3), world frame, is not before a camera."""
    for camera_id, camera in cameras.items():
        depth = world_to_camera(poses, camera).numpy()[..., 2]
        if depth.min() <= 0.0:
            frame, joint = np.unravel_index(depth.argmin(), depth.shape)
            raise UserError(
                f"{origin}: poses: frame {frame}, joint {joint} has depth {depth.min():.0f} mm in "
                f"camera {camera_id}, expected more than 0; get poses and cameras again that "
                "belong together"
            )
