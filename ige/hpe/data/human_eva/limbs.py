"""The ends of HumanEva's ten limbs, from markers.

Vicon's model turns 39 markers into segments: an origin and three axes each, x ahead, y to the left
and z up along the limb. The support code of HumanEva's authors (version 1.1, the method
cur_frame of mocap_stream) defines the ends of the limbs from these, and so does this module, for
all frames at once.

Rotations about y turn the z axis towards -x here, as in that code, whose yRotation is left-handed.
A port to Python that is in use turns them the other way, which moves the upper end of the torso
forward, not back.
"""

import numpy as np
from scipy.spatial.transform import Rotation

from ige.hpe.data.human_eva.mocap import Markers
from ige.hpe.skeleton import get_skeleton

_SEEN = (
    *("LFHD", "RFHD", "LBHD", "RBHD", "C7", "T10", "CLAV", "STRN", "RBAK"),
    *("LSHO", "LUPA", "LELB", "LWRA", "LWRB", "LFIN"),
    *("RSHO", "RUPA", "RELB", "RWRA", "RWRB", "RFIN"),
    *("LASI", "RASI", "LPSI", "RPSI"),
    *("LTHI", "LKNE", "LTIB", "LANK", "LHEE", "LTOE"),
    *("RTHI", "RKNE", "RTIB", "RANK", "RHEE", "RTOE"),
)
_FOREARMS = (("LFRM", "LFRA"), ("RFRM", "RFRA"))
"""The 39 markers, of which none may be missing: two have two names each."""

_SIDES = {"left": "L", "right": "R"}
_JOINT_CENTRES = ("PELO", "TRXO", *(f"{s}{c}" for s in "LR" for c in ("FEP", "FEO", "TIO")))
_SEGMENTS = ("PELO", "HEDO", *(f"{s}{c}" for s in "LR" for c in ("FEO", "TIO", "HUO", "RAO")))
_ARM_CENTRES = tuple(f"{s}{c}" for s in "LR" for c in ("CLO", "HUO", "RAO"))

_TOLERANCE = 1e-4
"""Largest cosine between two axes of a segment; beyond it markers were mistaken for others."""

_HEAD = 316.103  # mm, from the base of the neck to the top of the head, of everybody
PELVIS_BEHIND = 50.0  # mm, the lower end of the torso behind the origin of the pelvis
_MARKER_RADIUS = 7.0  # mm


def torso_radius(markers: Markers) -> float:
    """Returns half the mean distance of the shoulders, less a marker's radius, mm.

    NaN if no frame has both.
    """
    across = np.linalg.norm(markers.at("LSHO") - markers.at("RSHO"), axis=-1)
    across = across[np.isfinite(across)]
    return float(across.mean() / 2.0 - _MARKER_RADIUS) if len(across) else np.nan


class _Moments:
    """Markers at moments between the frames of the motion capture.

    Attributes:
        valid: (k,) whether the frames before and after have all markers and proper axes.
    """

    def __init__(self, markers: Markers, positions: np.ndarray):
        """Args:
        markers: the motion capture.
        positions: (k,) moments in frames, counted from 0.
        """
        last = len(markers.positions) - 1
        self._markers = markers
        self._before = np.clip(np.floor(positions).astype(int), 0, last)
        self._after = np.clip(np.ceil(positions).astype(int), 0, last)
        self._share = (positions - self._before)[:, np.newaxis]
        proper = _is_whole(markers)
        for segment in _SEGMENTS:
            proper &= _are_axes(markers.axes(segment))
        self.valid = proper[self._before] & proper[self._after]
        self.valid &= (positions >= 0) & (positions <= last)

    def at(self, name: str) -> np.ndarray:
        """Returns where a joint centre is, (k, 3)."""
        track = self._markers.at(name)
        return (1.0 - self._share) * track[self._before] + self._share * track[self._after]

    def axes(self, segment: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns the x and the z axis of a segment, (k, 3) each, turned evenly between frames."""
        axes = self._markers.axes(segment)
        turned = np.full((len(self.valid), 3, 3), np.nan)
        before = Rotation.from_matrix(axes[self._before[self.valid]])
        after = Rotation.from_matrix(axes[self._after[self.valid]])
        step = (before.inv() * after).as_rotvec() * self._share[self.valid]
        turned[self.valid] = (before * Rotation.from_rotvec(step)).as_matrix()
        return turned[..., 0], turned[..., 2]

    def distance(self, first: str, second: str) -> np.ndarray:
        """Returns the distance (k, 1) of two joint centres: the mean before and after."""
        apart = np.linalg.norm(self._markers.at(first) - self._markers.at(second), axis=-1)
        return ((apart[self._before] + apart[self._after]) / 2.0)[:, np.newaxis]


def _is_whole(markers: Markers) -> np.ndarray:
    """Returns (n,) whether every marker and joint centre was seen."""
    names = [(name,) for name in (*_SEEN, *_JOINT_CENTRES, *_ARM_CENTRES)]
    used = [markers.index(*each) for each in (*names, *_FOREARMS)]
    return np.isfinite(markers.positions[:, used]).all(axis=(1, 2))


def _are_axes(axes: np.ndarray) -> np.ndarray:
    """Returns (n,) whether the columns of (n, 3, 3) are right-handed axes."""
    x, y, z = np.moveaxis(axes, -1, 0)
    with np.errstate(invalid="ignore"):
        slant = [np.abs((a * b).sum(axis=-1)) for a, b in ((x, y), (x, z), (y, z))]
        upright = (np.cross(x, y) * z).sum(axis=-1) > 0.0
        return (np.max(slant, axis=0) <= _TOLERANCE) & upright


def limb_ends(
    markers: Markers, positions: np.ndarray, radius: float, offsets: dict[str, float]
) -> np.ndarray:
    """Returns the joints of eva_20 at moments of the motion capture.

    Args:
        markers: the motion capture.
        positions: (k,) moments in frames, counted from 0, with a fraction.
        radius: of the torso, mm; see `torso_radius`.
        offsets: 'left' and 'right' -> $LShoulderOffset and $RShoulderOffset of the person, mm.

    Returns:
        (k, 20, 3) float64 mm; NaN where a marker is missing or the axes of a segment are none, in
        the frame before or after.

    Raises:
        UserError: a marker that there should be has no label.
    """
    moments = _Moments(markers, positions)
    ends = {**_torso_and_head(moments, radius)}
    for side, letter in _SIDES.items():
        ends |= _leg(moments, side, letter)
        ends |= _arm(moments, side, letter, offsets[side])
    poses = np.stack([ends[joint] for joint in get_skeleton("eva_20").joints], axis=1)
    poses[~moments.valid] = np.nan
    return poses


def tilt(across: float, length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns sine and cosine of the angle at which `length` gains half of `across`."""
    angle = np.arctan2(across / 2.0, length)
    return np.sin(angle), np.cos(angle)


def _torso_and_head(moments: _Moments, radius: float) -> dict[str, np.ndarray]:
    x, z = moments.axes("PELO")
    length = moments.distance("TRXO", "PELO")
    sine, cosine = tilt(radius, length)
    low, neck = moments.at("PELO") - PELVIS_BEHIND * x, moments.at("TRXO")
    return {
        "torso_distal": low,
        "torso_proximal": low + length * (cosine * z - sine * x),
        "head_proximal": neck,
        "head_distal": neck + _HEAD * moments.axes("HEDO")[1],
    }


def _leg(moments: _Moments, side: str, letter: str) -> dict[str, np.ndarray]:
    hip, knee, ankle = (letter + centre for centre in ("FEP", "FEO", "TIO"))
    thigh, shank = moments.axes(knee)[1], moments.axes(ankle)[1]
    return {
        f"{side}_upper_leg_proximal": moments.at(hip),
        f"{side}_upper_leg_distal": moments.at(hip) - moments.distance(hip, knee) * thigh,
        f"{side}_lower_leg_proximal": moments.at(knee),
        f"{side}_lower_leg_distal": moments.at(knee) - moments.distance(knee, ankle) * shank,
    }


def _arm(moments: _Moments, side: str, letter: str, offset: float) -> dict[str, np.ndarray]:
    """The upper arm is tilted back by half the shoulder's offset, the forearm forth again."""
    shoulder, elbow, wrist = (letter + centre for centre in ("CLO", "HUO", "RAO"))
    upper, fore = moments.distance(shoulder, elbow), moments.distance(elbow, wrist)
    sine, cosine = tilt(offset, upper)
    x, z = moments.axes(elbow)
    end = moments.at(shoulder) - upper * (cosine * z + sine * x)
    start = moments.at(elbow) + end - (moments.at(shoulder) - upper * z)
    x, z = moments.axes(wrist)
    return {
        f"{side}_upper_arm_proximal": moments.at(shoulder),
        f"{side}_upper_arm_distal": end,
        f"{side}_lower_arm_proximal": start,
        f"{side}_lower_arm_distal": start - fore * (cosine * z - sine * x),
    }
