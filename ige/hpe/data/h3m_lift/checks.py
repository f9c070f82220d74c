"""What every reader checks, in one place: bad data stops with file, record and reason."""

import contextlib
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from xml.etree.ElementTree import ParseError

import numpy as np

from ige.errors import UserError
from ige.geometry.cameras import Camera

NUM_JOINTS = 32

# What h5py, cdflib, zipfile, tarfile and the XML parser raise on a damaged file.
_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    RuntimeError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    tarfile.TarError,
    ParseError,
)


@contextlib.contextmanager
def reading(origin: str) -> Iterator[None]:
    """Turns what a parser raises inside the block into one line about `origin`.

    Raises:
        UserError: the block failed on a damaged file.
    """
    try:
        yield
    except UserError:
        raise
    except _DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{origin}: cannot be read: {reason}; get the file again") from error


def _refuse_non_finite(array: np.ndarray, what: str, origin: str) -> None:
    """Raises a UserError that names the first frame with a NaN or an infinity."""
    bad = ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
    if bad.any():
        raise UserError(
            f"{origin}: {what}: frame {int(bad.argmax())} is not finite ({int(bad.sum())} of "
            f"{len(array)} frames); get the file again"
        )


def checked_poses(poses: np.ndarray, origin: str) -> np.ndarray:
    """Returns poses (n, 32, 3) as float32.

    Raises:
        UserError: another shape, not numbers, no frames, or a NaN.
    """
    if poses.dtype.kind not in "fiu":
        raise UserError(f"{origin}: poses: got {poses.dtype}, expected numbers; get the file again")
    if poses.ndim != 3 or poses.shape[1:] != (NUM_JOINTS, 3):
        raise UserError(
            f"{origin}: poses: got shape {poses.shape}, expected (frames, {NUM_JOINTS}, 3); "
            "get the file again"
        )
    if not len(poses):
        raise UserError(f"{origin}: poses: got 0 frames, expected at least 1; get the file again")
    _refuse_non_finite(poses, "poses", origin)
    return poses.astype(np.float32)


def checked_keypoints(
    keypoints: np.ndarray, num_joints: int, frames: int, origin: str
) -> np.ndarray:
    """Returns the first `frames` of keypoints (n, num_joints, 2) as float32.

    Detectors ran over the videos, which go on for a few frames after the motion capture.

    Raises:
        UserError: another shape, not numbers, fewer frames than poses, or a NaN.
    """
    if keypoints.dtype.kind not in "fiu":
        raise UserError(
            f"{origin}: keypoints: got {keypoints.dtype}, expected numbers; get the file again"
        )
    if keypoints.ndim != 3 or keypoints.shape[1:] != (num_joints, 2):
        raise UserError(
            f"{origin}: keypoints: got shape {keypoints.shape}, expected (frames, {num_joints}, 2);"
            " get the file again"
        )
    if len(keypoints) < frames:
        raise UserError(
            f"{origin}: keypoints: got {len(keypoints)} frames, expected at least the {frames} of "
            "the poses; get the file again"
        )
    keypoints = keypoints[:frames]
    _refuse_non_finite(keypoints, "keypoints", origin)
    return keypoints.astype(np.float32)


def checked_camera(camera: Camera, origin: str) -> Camera:
    """Returns the camera.

    Raises:
        UserError: a number is not finite, or the rotation is none, or mirrors.
    """
    for field, array in camera._asdict().items():
        if not np.isfinite(array).all():
            raise UserError(f"{origin}: {field} is not finite; get the file again")
    rotation = np.asarray(camera.rotation)
    error = np.abs(rotation @ rotation.T - np.eye(3)).max()
    if error > 1e-4 or np.linalg.det(rotation) < 0.0:
        raise UserError(
            f"{origin}: rotation: got a matrix that is {error:.2g} from orthonormal with "
            f"determinant {np.linalg.det(rotation):.3g}, expected a rotation; get the file again"
        )
    return camera


class MissingFilesError(UserError):
    """Files that somebody has to get first; not raised for files that are there but damaged."""
