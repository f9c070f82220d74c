"""What a motion capture system would write of a body: the inverse of `limbs`, and .mat files."""

import io

import numpy as np
import scipy.io

from ige.hpe.data.human_eva.limbs import PELVIS_BEHIND, tilt, torso_radius
from ige.hpe.data.human_eva.mocap import Markers
from ige.hpe.data.human_eva.names import FRAME_RATES
from ige.hpe.skeleton import get_skeleton

SHOULDER_OFFSETS = {"left": 41.0, "right": 38.0}
"""Of everybody, mm."""

# In place of the date of writing: the same people, the same bytes.
_HEADER = b"MATLAB 5.0 MAT-file, generated motion".ljust(116)
_AXIS = 100.0  # mm, from the origin of a segment to the points on its axes
_SETTLED = 20  # rounds, each of which reduces the error to a tenth

# Joint of h36m_32 -> the markers that are there.
_NEAR = {
    "head_top": ("LFHD", "RFHD", "LBHD", "RBHD"),
    "thorax": ("C7", "CLAV", "RBAK"),
    "spine": ("T10", "STRN"),
    "pelvis": ("LASI", "RASI", "LPSI", "RPSI"),
    **{
        f"{side}_{joint}": tuple(side[0].upper() + marker for marker in markers)
        for side in ("left", "right")
        for joint, markers in {
            "shoulder": ("SHO", "UPA"),
            "elbow": ("ELB", "FRM"),
            "wrist": ("WRA", "WRB"),
            "hand": ("FIN",),
            "hip": ("THI",),
            "knee": ("KNE", "TIB"),
            "ankle": ("ANK", "HEE"),
            "toes": ("TOE",),
        }.items()
    },
}


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _length(vectors: np.ndarray) -> np.ndarray:
    return np.linalg.norm(vectors, axis=-1, keepdims=True)


def _across(x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Returns the direction of x (n, 3) at right angles to the unit vectors z (n, 3)."""
    return _unit(x - (x * z).sum(axis=-1, keepdims=True) * z)


class _Capture:
    """Collects markers by name."""

    def __init__(self, joints: np.ndarray):
        """Args:
        joints: (n, 32, 3) of h36m_32, mm.
        """
        self._body = dict(
            zip(get_skeleton("h36m_32").joints, np.moveaxis(joints, 1, 0), strict=True)
        )
        self.markers: dict[str, np.ndarray] = {
            marker: self._body[joint] for joint, names in _NEAR.items() for marker in names
        }

    def joint(self, name: str) -> np.ndarray:
        """Returns where a joint is, (n, 3)."""
        return self._body[name]

    def add(self, name: str, origin: np.ndarray, x: np.ndarray, z: np.ndarray, up: float) -> None:
        """Adds a segment: its origin, and points on its z (`up` mm away), its x and its y axis."""
        points = (origin, origin + up * z, origin + _AXIS * x, origin + _AXIS * np.cross(z, x))
        for end, point in zip("OPAL", points, strict=True):
            self.markers[name + end] = point

    def read(self) -> Markers:
        """Returns all markers."""
        return Markers(tuple(self.markers), np.stack(list(self.markers.values()), axis=1), "")


def capture(joints: np.ndarray) -> Markers:
    """Returns the markers of a body.

    `limbs.limb_ends` makes of them, to within rounding, the given hips, knees, ankles, shoulders,
    elbows, wrists and thorax (the base of the neck), the pelvis as lower end of the torso, and head
    and torso in the directions of head_top and thorax; how long these two are, it says itself.

    Args:
        joints: (n, 32, 3) of h36m_32, mm, world frame, z up; knees and elbows bent.
    """
    body = _Capture(joints)
    _add_trunk(body)
    for side in ("left", "right"):
        _add_leg(body, side)
        _add_arm(body, side)
    return body.read()


def _add_trunk(body: _Capture) -> None:
    pelvis, neck = body.joint("pelvis"), body.joint("thorax")
    left = body.joint("left_hip") - body.joint("right_hip")
    along = _unit(neck - pelvis)
    ahead = _unit(np.cross(left, along))
    radius = torso_radius(body.read())
    x = ahead
    for _ in range(_SETTLED):
        origin = pelvis + PELVIS_BEHIND * x
        sine, cosine = tilt(radius, _length(neck - origin))
        x = cosine * ahead - sine * along
    body.add("PEL", pelvis + PELVIS_BEHIND * x, x, sine * ahead + cosine * along, _AXIS)
    body.add("TRX", neck, ahead, along, _AXIS)
    up = _unit(body.joint("head_top") - neck)
    body.add("HED", neck, _across(body.joint("nose") - neck, up), up, _AXIS)


def _bent(first: np.ndarray, middle: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, ...]:
    """Returns x and z of the two segments of a bent limb: z back along each, y across the bend."""
    upper, lower = _unit(first - middle), _unit(middle - last)
    across = _unit(np.cross(upper, lower))
    return np.cross(across, upper), upper, np.cross(across, lower), lower


def _add_leg(body: _Capture, side: str) -> None:
    letter = side[0].upper()
    hip, knee, ankle = (body.joint(f"{side}_{joint}") for joint in ("hip", "knee", "ankle"))
    x, thigh, x_below, shank = _bent(hip, knee, ankle)
    body.add(f"{letter}FE", knee, x, thigh, _length(hip - knee))
    body.add(f"{letter}TI", ankle, x_below, shank, _length(knee - ankle))


def _add_arm(body: _Capture, side: str) -> None:
    letter = side[0].upper()
    shoulder, elbow, wrist = (
        body.joint(f"{side}_{joint}") for joint in ("shoulder", "elbow", "wrist")
    )
    x, z, x_below, z_below = _bent(shoulder, elbow, wrist)
    upper, fore = _length(shoulder - elbow), _length(elbow - wrist)
    sine, cosine = tilt(SHOULDER_OFFSETS[side], upper)
    # Tilted forth and back, so that reading them, which tilts back and forth, gives the joints.
    x, z = cosine * x + sine * z, cosine * z - sine * x
    x_below, z_below = cosine * x_below - sine * z_below, cosine * z_below + sine * x_below
    origin = shoulder - upper * z
    body.add(f"{letter}CL", shoulder, x, z, _AXIS)
    body.add(f"{letter}HU", origin, x, z, upper)
    body.add(f"{letter}RA", origin - fore * z_below, x_below, z_below, fore)


def mat_bytes(labels: tuple[str, ...], positions: np.ndarray) -> bytes:
    """Returns the .mat file of markers (n, markers, 3) mm, as the support code makes it of a .c3d.

    A marker that is NaN was not seen, which the file says with (0, 0, 0).
    """
    point = _structs(
        {"name": _cell("USED"), "datatype": 2.0, "dim": 1.0, "data": float(len(labels))},
        {
            "name": _cell("LABELS"),
            "datatype": -1.0,
            "dim": [4.0, float(len(labels))],
            "data": _cell(*labels),
        },
    )
    trial = _structs({"name": _cell("CAMERA_RATE"), "datatype": 4.0, "dim": 1.0, "data": 120.0})
    groups = _structs(
        {"name": _cell("TRIAL"), "description": _cell(""), "Parameter": trial},
        {"name": _cell("POINT"), "description": _cell(""), "Parameter": point},
    )
    content = {
        "Markers": np.nan_to_num(positions, nan=0.0),
        "VideoFrameRate": FRAME_RATES[3],
        "ParameterGroup": groups,
    }
    stream = io.BytesIO()
    scipy.io.savemat(stream, content, do_compression=True)
    return _HEADER + stream.getvalue()[len(_HEADER) :]


def _cell(*values: str) -> np.ndarray:
    """Returns a row of cells."""
    cells = np.empty((1, len(values)), object)
    cells[0, :] = values
    return cells


def _structs(*records: dict) -> np.ndarray:
    """Returns a row of structs that have the same fields."""
    structs = np.empty((1, len(records)), [(field, object) for field in records[0]])
    for number, record in enumerate(records):
        structs[0, number] = tuple(record.values())
    return structs
