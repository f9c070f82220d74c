"""The embedded data set: procedural people in the files of HumanEva-I.

Three bodies of `h3m_lift.body` do three actions before the published cameras. Written is what
HumanEva's authors hand out: .cal, .ofs, .mp and .mat files. There is motion capture where the
published partitions of trial 1 meet; before and after that no marker is seen.
"""

import dataclasses
import pathlib
import sys
import zlib
from collections.abc import Iterable

import numpy as np
import tqdm

from ige.data.builds import check_integer
from ige.geometry.cameras import Camera
from ige.hpe.data.h3m_lift.actions import ACTIONS
from ige.hpe.data.h3m_lift.body import BUILDS, pose
from ige.hpe.data.human_eva.cameras import published_cameras
from ige.hpe.data.human_eva.capture import SHOULDER_OFFSETS, capture, mat_bytes
from ige.hpe.data.human_eva.names import ALL_CAMERAS, FRAME_RATES, SUBJECTS, published_frames
from ige.hpe.data.human_eva.sync import Offset, Timeline, common_timeline

LONGEST = 350  # frames; every validation and training part of trial 1 has as many

_BODIES = dict(zip(SUBJECTS, ("S1", "S7", "S8"), strict=True))
_ACTIONS = {"Walking": "Walking", "Gestures": "Discussion", "Box": "Greeting"}
"""Action of HumanEva-I -> the motion of `h3m_lift.actions` that stands for it."""

_RATE = FRAME_RATES[3]


@dataclasses.dataclass(frozen=True)
class SyntheticSpec:
    """Which people to generate.

    Attributes:
        seed: other seeds give other recordings of the same three people.
        frames: frames with poses in every partition of trial 1, at 60 a second; trial 3 is as long.

    Raises:
        UserError: a number that is no integer or out of range.
    """

    seed: int = 0
    frames: int = 100

    def __post_init__(self) -> None:
        check_integer("hpe.human_eva.synthetic_seed", self.seed, 0, 2**63 - 1)
        check_integer("hpe.human_eva.synthetic_frames", self.frames, 1, LONGEST)

    @property
    def name(self) -> str:
        """Names the data set in folders and reports: 'synthetic-seed0-100'."""
        return f"synthetic-seed{self.seed}-{self.frames}"


def write_synthetic(folder: pathlib.Path, spec: SyntheticSpec) -> None:
    """Writes the folders S1, S2 and S3 to `folder`, the same bytes every time.

    Shows progress on a terminal.
    """
    for subject in SUBJECTS:
        for name in ("Calibration_Data", "Sync_Data", "Mocap_Data"):
            (folder / subject / name).mkdir(parents=True)
        for camera_id, camera in published_cameras(subject).items():
            path = folder / subject / "Calibration_Data" / f"{camera_id}.cal"
            path.write_text(cal_text(camera))
        measures = "".join(
            f"${side[0].upper()}ShoulderOffset = {offset:f}\n"
            for side, offset in SHOULDER_OFFSETS.items()
        )
        (folder / subject / "Mocap_Data" / f"{subject}.mp").write_text(measures)
    every = [(s, a, trial) for s in SUBJECTS for a in _ACTIONS for trial in FRAME_RATES]
    quiet = not sys.stderr.isatty()
    for subject, action, trial in tqdm.tqdm(
        every, desc=f"generating {spec.name}", unit="recording", disable=quiet
    ):
        name = f"{action}_{trial}"
        if trial == 1:
            for camera_id, offset in offsets(subject, action).items():
                path = folder / subject / "Sync_Data" / f"{name}_({camera_id}).ofs"
                path.write_text(_lines(offset))
        joints, first, total = recording(spec, subject, action, trial)
        seen = capture(joints)
        positions = np.full((total, *seen.positions.shape[1:]), np.nan)
        positions[first : first + len(joints)] = seen.positions
        path = folder / subject / "Mocap_Data" / f"{name}.mat"
        path.write_bytes(mat_bytes(seen.labels, positions))


def _lines(numbers: Iterable[float]) -> str:
    """Returns numbers as the support code writes them: one in a line."""
    return "".join(f"{number:f} \n" for number in numbers)


def cal_text(camera: Camera) -> str:
    """Returns the .cal file of a camera."""
    k1, k2, k3 = camera.radial
    distortion = (k1, k2, *camera.tangential, k3)
    translation = -camera.rotation @ camera.translation
    return _lines(
        (*camera.focal_length, *camera.center, 0, *distortion, *camera.rotation.flat, *translation)
    )


def offsets(subject: str, action: str) -> dict[str, Offset]:
    """Returns what the .ofs files of trial 1 say: cameras begin apart, at nearly half the rate."""
    rng = np.random.default_rng(zlib.crc32(f"{subject} {action}".encode()))
    return {
        camera: Offset(
            float(rng.integers(20, 60)), round(rng.uniform(150.0, 160.0), 3), 2.0 + 1e-4 * number
        )
        for number, camera in enumerate(ALL_CAMERAS)
    }


def recording(
    spec: SyntheticSpec, subject: str, action: str, trial: int
) -> tuple[np.ndarray, int, int]:
    """Returns what was captured of a recording.

    Returns:
        joints (n, 32, 3) of h36m_32 in mm, 120 a second; the frame of the motion capture, counted
        from 0, that the first of them is; the number of frames of the motion capture.
    """
    if trial == 3:
        first, last = 0, 2 * spec.frames - 1
    else:
        meet = published_frames(subject, action, trial, "test").last
        timeline = common_timeline(list(offsets(subject, action).values()))
        first, last = _around(timeline, meet - spec.frames + 1, meet + spec.frames)
    key = (SUBJECTS.index(subject), trial, zlib.crc32(action.encode()))
    rng = np.random.default_rng(np.random.SeedSequence(spec.seed, spawn_key=key))
    body = BUILDS[_BODIES[subject]]
    time = np.arange(last - first + 1) / _RATE
    return pose(body, ACTIONS[_ACTIONS[action]](rng, body, time)), first, last + 1


def _around(timeline: Timeline, first: int, last: int) -> tuple[int, int]:
    """Returns the frames of the motion capture around frames `first` to `last` of a recording."""
    positions = timeline.positions(first, last)
    return int(np.floor(positions[0])), int(np.ceil(positions[-1]))
