"""A kinematic human body: joint angles and foot placements -> the 32 joints of Human3.6M.

World frame: millimetres, z up, floor at z = 0. Body frame: x forward, y to the person's left, z up.
The legs are solved from where the feet stand (so that standing feet do not slide); everything else
follows from joint angles, in degrees, held inside `LIMITS`.
"""

import dataclasses

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

LIMITS = {
    "pelvis_pitch": (-20.0, 60.0),
    "pelvis_roll": (-15.0, 15.0),
    "spine_flexion": (-30.0, 75.0),
    "spine_bending": (-35.0, 35.0),
    "spine_twist": (-45.0, 45.0),
    "neck_flexion": (-45.0, 50.0),
    "neck_bending": (-35.0, 35.0),
    "neck_twist": (-70.0, 70.0),
    "shoulder_flexion": (-50.0, 170.0),
    "shoulder_abduction": (-25.0, 170.0),
    "shoulder_rotation": (-95.0, 80.0),
    "elbow_flexion": (3.0, 148.0),
    "forearm_pronation": (-85.0, 85.0),
    "wrist_flexion": (-60.0, 70.0),
    "knee_flexion": (10.0, 150.0),
    "hip_flexion": (-30.0, 140.0),
    "hip_abduction": (-35.0, 45.0),
    "ankle_dorsiflexion": (-55.0, 50.0),
}
"""Range of every joint angle, degrees. Flexion is forward; the knee alone bends backward.

Knees stop short of straight, where the least change of height would jerk them. Hip and ankle follow
from the placement of the feet, which the motions keep in range."""

SPINE = ("spine_flexion", "spine_bending", "spine_twist")
NECK = ("neck_flexion", "neck_bending", "neck_twist")
ARM = (
    "shoulder_flexion",
    "shoulder_abduction",
    "shoulder_rotation",
    "elbow_flexion",
    "forearm_pronation",
    "wrist_flexion",
)

_DUPLICATES = {11: 0, 16: 13, 20: 19, 23: 22, 24: 13, 28: 27, 31: 30}
# The average body, as the segments below add up: sole to ankle, ankle to hip, pelvis to crown.
_LEG, _TRUNK = 443.0 + 454.2, 233.4 + 257.1 + 107.0 + 113.0
_STATURE = 85.0 + _LEG + _TRUNK


@dataclasses.dataclass(frozen=True)
class Build:
    """A person: `stature` in millimetres, and ratios to the limb lengths usual for that stature."""

    stature: float
    leg: float = 1.0
    arm: float = 1.0
    shoulders: float = 1.0
    hips: float = 1.0

    def segment(self, x: float, y: float, z: float, part: str = "") -> np.ndarray:
        """Returns an offset (3,) of the average body scaled to this one; `part` names a ratio."""
        return np.array([x, y, z]) * getattr(self, part, 1.0) * self.stature / _STATURE

    @property
    def trunk(self) -> float:
        """Ratio of spine and head: long legs make a short trunk, so that the stature holds."""
        return 1.0 + _LEG * (1.0 - self.leg) / _TRUNK

    @property
    def thigh(self) -> float:
        return 443.0 * self.leg * self.stature / _STATURE

    @property
    def shank(self) -> float:
        return 454.2 * self.leg * self.stature / _STATURE

    @property
    def leg_length(self) -> float:
        """Hip to ankle with a straight knee, millimetres."""
        return self.thigh + self.shank


BUILDS = {
    "S1": Build(1650.0, leg=0.98, arm=0.97, shoulders=0.93, hips=1.06),
    "S5": Build(1580.0, leg=0.99, arm=0.98, shoulders=0.90, hips=1.10),
    "S6": Build(1760.0, leg=1.02, arm=1.02, shoulders=1.04, hips=0.96),
    "S7": Build(1900.0, leg=1.03, arm=1.01, shoulders=1.06, hips=0.98),
    "S8": Build(1820.0, leg=0.98, arm=0.99, shoulders=1.12, hips=1.02),
    "S9": Build(1720.0, leg=1.01, arm=1.00, shoulders=1.00, hips=1.00),
    "S11": Build(1780.0, leg=0.99, arm=1.03, shoulders=0.98, hips=1.03),
}
"""The seven people who carry the names of Human3.6M's subjects."""


@dataclasses.dataclass
class Foot:
    """Where a foot is: `ball` (n, 3) mm, `yaw` and `pitch` (n,) degrees, heel up positive."""

    ball: np.ndarray
    yaw: np.ndarray
    pitch: np.ndarray


@dataclasses.dataclass
class Motion:
    """What a body does over n frames; lengths in millimetres, angles in degrees.

    Attributes:
        root: (n, 2) pelvis over the floor. Its height follows: as high as both legs reach.
        heading: (n,) direction of the pelvis, counter-clockwise from the world's x axis.
        tilt: (n, 2) pelvis pitch (forward) and roll (to the right).
        sink: (n,) in [0, 1], 0 standing, 1 with the pelvis at the height `low`.
        low: height of the pelvis at full sink.
        feet: left, right.
        spine, neck: (n, 3) in the order of `SPINE` and `NECK`.
        arms: left, right; each (n, 6) in the order of `ARM`.
    """

    root: np.ndarray
    heading: np.ndarray
    tilt: np.ndarray
    sink: np.ndarray
    low: float
    feet: tuple[Foot, Foot]
    spine: np.ndarray
    neck: np.ndarray
    arms: tuple[np.ndarray, np.ndarray]


def ball_height(build: Build) -> float:
    """Returns the height of the ball of a foot that stands, millimetres."""
    return float(build.segment(0.0, 0.0, 20.0)[2])


def soft_clip(x: np.ndarray, low: float, high: float, softness: float = 3.0) -> np.ndarray:
    """Returns `x` bent smoothly into [low, high]: unchanged a few `softness` inside."""
    x = low + softness * np.logaddexp(0.0, (x - low) / softness)
    return np.maximum(high - softness * np.logaddexp(0.0, (high - x) / softness), low)


def _limited(angles: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """Holds the columns of `angles` (n, len(names)) inside their limits."""
    return np.stack(
        [soft_clip(column, *LIMITS[name]) for column, name in zip(angles.T, names, strict=True)], -1
    )


def _rotation(axes: str, *angles: np.ndarray) -> np.ndarray:
    """Returns intrinsic rotations (n, 3, 3) about body axes such as "ZYX"; angles in degrees."""
    columns = np.stack(np.broadcast_arrays(*angles), axis=-1)
    return Rotation.from_euler(axes, columns, degrees=True).as_matrix()


def _pelvis_height(
    build: Build, motion: Motion, hips: tuple[np.ndarray, ...], ankles: tuple[np.ndarray, ...]
) -> np.ndarray:
    """Returns (n,) the smooth height at which no leg has to stretch beyond its length.

    A minimum over a window, then a weighted mean over the same window: every frame stays at or
    below its own bound, because that frame lies in every window the mean runs over.
    """
    longest = _reach(build, LIMITS["knee_flexion"][0])
    bounds = []
    for hip, ankle in zip(hips, ankles, strict=True):
        across = np.sum((ankle[:, :2] - motion.root - hip[:, :2]) ** 2, axis=-1)
        up = np.sqrt(np.maximum(longest**2 - across, (0.2 * longest) ** 2))
        bounds.append(ankle[:, 2] - hip[:, 2] + up)
    window = 13  # a quarter of a second
    weights = np.hanning(window + 2)[1:-1]
    height = ndimage.minimum_filter1d(np.minimum(*bounds), window, mode="nearest")
    height = ndimage.convolve1d(height, weights / weights.sum(), mode="nearest")
    return height + motion.sink * np.minimum(motion.low - height, 0.0)


def _reach(build: Build, knee_flexion: float) -> float:
    """Returns the distance from hip to ankle at a knee angle in degrees."""
    cosine = np.cos(np.radians(knee_flexion))
    return float(
        np.sqrt(build.thigh**2 + build.shank**2 + 2.0 * build.thigh * build.shank * cosine)
    )


def _leg(
    build: Build, hip: np.ndarray, ankle: np.ndarray, facing: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns knee and ankle (n, 3): two bones from hip to ankle, the knee forward of the line.

    `facing` (n,) radians is the direction of the plane in which the leg bends.
    """
    gap = ankle - hip
    distance = np.linalg.norm(gap, axis=-1, keepdims=True)
    axis = gap / distance
    # Nearer than the knee can fold: the foot gives way, never the bone.
    distance = np.maximum(distance, _reach(build, LIMITS["knee_flexion"][1]))
    to_left = np.stack([-np.sin(facing), np.cos(facing), np.zeros_like(facing)], axis=-1)
    ahead = np.cross(axis, to_left)
    ahead /= np.linalg.norm(ahead, axis=-1, keepdims=True)
    along = (build.thigh**2 - build.shank**2 + distance**2) / (2.0 * distance)
    knee = hip + along * axis + np.sqrt(np.maximum(build.thigh**2 - along**2, 0.0)) * ahead
    return knee, hip + distance * axis


def _arm(
    build: Build, chest: np.ndarray, base: np.ndarray, angles: np.ndarray, side: float
) -> list[np.ndarray]:
    """Returns shoulder, elbow, wrist, thumb, little finger (n, 3); `side`: 1 left, -1 right."""
    flexion, abduction, rotation, elbow, pronation, wrist = _limited(angles, ARM).T
    upper = chest @ _rotation("YXZ", -flexion, side * abduction, -side * rotation)
    fore = upper @ _rotation("Y", -elbow)
    hand = fore @ _rotation("ZY", -side * pronation, -wrist)
    shoulder = base + chest @ build.segment(-8.0, side * 148.0, -22.0, "shoulders")
    at_elbow = shoulder + upper @ build.segment(0.0, 0.0, -279.0, "arm")
    at_wrist = at_elbow + fore @ build.segment(0.0, 0.0, -252.0, "arm")
    thumb = at_wrist + hand @ build.segment(60.0, -side * 15.0, -75.0, "arm")
    finger = at_wrist + hand @ build.segment(-25.0, 0.0, -105.0, "arm")
    return [shoulder, at_elbow, at_wrist, thumb, finger]


def _sole(build: Build, foot: Foot) -> tuple[np.ndarray, np.ndarray]:
    """Returns where `foot` asks the ankle to be, and its toes (n, 3), which bend up only."""
    ankle = foot.ball + _rotation("ZY", foot.yaw, foot.pitch) @ build.segment(-149.0, 0.0, 65.0)
    upward = -np.logaddexp(0.0, -foot.pitch)
    return ankle, foot.ball + _rotation("ZY", foot.yaw, upward) @ build.segment(75.0, 0.0, 0.0)


def pose(build: Build, motion: Motion) -> np.ndarray:
    """Returns the joints (n, 32, 3) of Human3.6M, float64 mm in the world frame, for a motion."""
    pitch = soft_clip(motion.tilt[:, 0], *LIMITS["pelvis_pitch"])
    roll = soft_clip(motion.tilt[:, 1], *LIMITS["pelvis_roll"])
    pelvis = _rotation("ZYX", motion.heading, pitch, roll)
    hips = tuple(pelvis @ build.segment(0.0, side * 133.0, 0.0, "hips") for side in (1.0, -1.0))
    soles = [_sole(build, foot) for foot in motion.feet]
    height = _pelvis_height(build, motion, hips, tuple(ankle for ankle, _ in soles))
    joints = np.zeros((len(height), 32, 3))
    joints[:, 0] = root = np.concatenate([motion.root, height[:, None]], axis=-1)
    for first, hip, foot, (ankle, toes) in zip((6, 1), hips, motion.feet, soles, strict=True):
        both = np.radians([motion.heading, foot.yaw])
        facing = np.arctan2(np.sin(both).sum(axis=0), np.cos(both).sum(axis=0))
        knee, heel = _leg(build, root + hip, ankle, facing)
        given_way = heel - ankle
        leg = [root + hip, knee, heel, foot.ball + given_way, toes + given_way]
        joints[:, first : first + 5] = np.stack(leg, axis=1)
    flexion, bending, twist = _limited(motion.spine, SPINE).T / 2.0
    half = _rotation("ZYX", twist, flexion, bending)
    joints[:, 12] = root + pelvis @ half @ build.segment(0.0, 0.0, 233.4, "trunk")
    chest = pelvis @ half @ half
    joints[:, 13] = joints[:, 12] + chest @ build.segment(0.0, 0.0, 257.1, "trunk")
    flexion, bending, twist = _limited(motion.neck, NECK).T
    neck = chest @ _rotation("ZYX", twist, flexion, bending)
    joints[:, 14] = joints[:, 13] + neck @ build.segment(50.0, 0.0, 107.0, "trunk")
    joints[:, 15] = joints[:, 14] + neck @ build.segment(-22.0, 0.0, 113.0, "trunk")
    for first, side, angles in ((17, 1.0, motion.arms[0]), (25, -1.0, motion.arms[1])):
        arm = _arm(build, chest, joints[:, 13], angles, side)
        joints[:, [first, first + 1, first + 2, first + 4, first + 5]] = np.stack(arm, axis=1)
    for duplicate, joint in _DUPLICATES.items():
        joints[:, duplicate] = joints[:, joint]
    return joints
