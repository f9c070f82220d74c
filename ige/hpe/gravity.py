"""Which way is up: from the frame of a camera to one whose z is against gravity."""

import itertools

import numpy as np

from ige.errors import UserError
from ige.hpe.skeleton import Skeleton, convert, get_skeleton

# Least distance of thorax and ankles, as a part of the bones between, of a body that stands: who
# sits with a straight back reaches about 0.75.
_STRETCHED = 0.85
# Degrees. A body farther than that from upright in the picture rather lies than that the camera
# is held so.
_FARTHEST = 60.0
# Frames of a standing person that an estimate takes.
_ENOUGH = 10
# Least length to divide by.
_TINY = 1e-9
# The lowest joint of a pose is above the ground in all but this part of the frames.
_BELOW_GROUND = 0.05
# Camera (x right, y down, z forward) to upright frame (x right, y forward, z up), if it is level.
_LEVEL = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])


def camera_to_upright(
    poses: np.ndarray,
    skeleton: Skeleton,
    pitch: float | None = None,
    roll: float | None = None,
) -> tuple[np.ndarray, str]:
    """Returns the rotation from the camera frame to an upright one, and how it was found.

    Upright: x right, y forward (away from the camera), z up; `poses @ rotation.T` are the poses
    there. If neither angle is given, up is the median direction from the ankles to the thorax while
    the person stands, legs and back stretched, not lying down. People lean forward when they walk
    or play ball, and so does the estimate. If they hardly ever stand, the camera is taken as level.

    Args:
        poses: (frames, joints, 3) in the camera frame (x right, y down, z forward), in any unit.
        skeleton: that of the poses.
        pitch: degrees that the camera looks down; up if negative. 0 if only `roll` is given.
        roll: degrees that the camera is turned clockwise, its right side down. 0 if only `pitch`
            is given.

    Returns:
        (3, 3) rotation and a line for the user.

    Raises:
        UserError: an angle is out of range; the skeleton has no legs or trunk.
    """
    if pitch is not None or roll is not None:
        pitch, roll = _angle("pitch", pitch, 90), _angle("roll", roll, 180)
        return _rotation(pitch, roll), f"{_held(pitch, roll)}, as given"
    if not len(poses):
        return (
            _LEVEL.copy(),
            "camera taken as level: the legs are never seen; see hpe.predict.pitch",
        )
    up, stretch = _bodies(poses, skeleton)
    standing = (stretch > _STRETCHED) & (-up[:, 1] > np.cos(np.radians(_FARTHEST)))
    frames = f"{standing.sum()} of {len(standing)} frames"
    if standing.sum() < _ENOUGH:
        return _LEVEL.copy(), (
            f"camera taken as level: the person stands upright in {frames}, too few to tell; "
            "give pitch and roll if it is not"
        )
    x, y, z = np.median(up[standing], axis=0)
    pitch = np.degrees(np.arctan2(-z, np.hypot(x, y)))
    roll = np.degrees(np.arctan2(-x, -y))
    return _rotation(pitch, roll), f"{_held(pitch, roll)}, as the person stands in {frames}"


def place_on_ground(poses: np.ndarray) -> np.ndarray:
    """Returns the translation (3,) along z that puts poses (frames, joints, 3), z up, on z = 0.

    The lowest joint of a pose is a foot on the ground in most frames: that height, less the lowest
    twentieth of the frames, so that a few failed poses do not lift all others off the ground.
    """
    lowest = np.asarray(poses)[..., 2].min(axis=-1)
    return np.array([0.0, 0.0, -np.quantile(lowest, _BELOW_GROUND)])


def _angle(name: str, degrees: float | None, most: float) -> float:
    if degrees is None:
        return 0.0
    if not -most <= degrees <= most:
        raise UserError(f"{name}: got {degrees}, expected degrees from -{most} to {most}")
    return degrees


def _held(pitch: float, roll: float) -> str:
    looks, turned = "down" if pitch >= 0 else "up", "clockwise" if roll >= 0 else "anticlockwise"
    return f"camera looks {abs(pitch):.1f}° {looks}, turned {abs(roll):.1f}° {turned}"


def _rotation(pitch: float, roll: float) -> np.ndarray:
    """Returns the rotation (3, 3) of a camera held like this, in degrees."""
    (cp, cr), (sp, sr) = (f(np.radians([pitch, roll])) for f in (np.cos, np.sin))
    about_forward = np.array([[cr, -sr, 0.0], [sr, cr, 0.0], [0.0, 0.0, 1.0]])
    about_right = np.array([[1.0, 0.0, 0.0], [0.0, cp, sp], [0.0, -sp, cp]])
    return about_right @ _LEVEL @ about_forward


def _bodies(poses: np.ndarray, skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray]:
    """Returns unit vectors (frames, 3) from ankles to thorax, and how stretched that is, 0 to 1.

    Bones have their median lengths, so that a limb that is foreshortened by mistake counts as bent.
    """
    target = get_skeleton("h36m_17")
    poses = convert(np.asarray(poses, np.float64), skeleton, target)

    def joint(name: str) -> np.ndarray:
        return poses[:, target.index(name)]

    def length(*names: str) -> float:
        return sum(
            np.median(np.linalg.norm(joint(a) - joint(b), axis=-1))
            for a, b in itertools.pairwise(names)
        )

    legs = (length(f"{side}_hip", f"{side}_knee", f"{side}_ankle") for side in ("left", "right"))
    whole = sum(legs) / 2 + length("pelvis", "thorax")
    body = joint("thorax") - (joint("left_ankle") + joint("right_ankle")) / 2
    height = np.linalg.norm(body, axis=-1)
    # A pose of no extent does not stand: it gets 0 for both.
    up = body / np.maximum(height, _TINY)[:, np.newaxis]
    return up, height / max(whole, _TINY)
