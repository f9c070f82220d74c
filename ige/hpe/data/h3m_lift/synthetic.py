"""The embedded data set: procedural people in the files of Human3.6M's users.

Seven bodies (`body.BUILDS`) do nine actions (`actions.ACTIONS`) before the four published cameras.
Written is what 3d-pose-baseline reads, `h36m.zip`, and what VideoPose3D reads beside it,
`data_2d_h36m_synthetic.npz`.
"""

import dataclasses
import pathlib
import sys
import zipfile
import zlib
from collections.abc import Iterator

import h5py
import numpy as np
import tqdm

from ige.data.builds import check_integer
from ige.geometry import cameras
from ige.hpe.data.h3m_lift.actions import ACTIONS
from ige.hpe.data.h3m_lift.body import BUILDS, pose
from ige.hpe.data.h3m_lift.cameras import published_cameras
from ige.hpe.data.h3m_lift.names import FRAME_RATE
from ige.hpe.skeleton import get_skeleton

ARCHIVE = "h36m.zip"
DETECTIONS = "data_2d_h36m_synthetic.npz"
IMAGE_SIZE = 1000.0
LONGEST = 6400  # frames; the longest recording of Human3.6M is about as long

HOURGLASS_JOINTS = (3, 2, 1, 6, 7, 8, 0, 12, 13, 15, 27, 26, 25, 17, 18, 19)
"""The joint of Human3.6M in each of the 16 slots of the stacked hourglass.

3d-pose-baseline's convention: Human3.6M's spine (12) and thorax (13) stand in the slots that MPII
calls thorax and upper neck."""

DETECTORS = {"StackedHourglass": 8.0, "StackedHourglassFineTuned240": 4.0}
"""Folder of a detector's files -> standard deviation of its error, pixels."""

_NPZ_ERROR = 4.0
_NO_VIDEO = ("S11", "Directions", "54138969")  # as in the original: this video is corrupt
_SYMMETRY = [[4, 5, 6, 11, 12, 13], [1, 2, 3, 14, 15, 16]]  # left, right
_ATTEMPTS = 50
_FLOOR = -10.0  # mm
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the date of every entry: the same people, the same bytes


@dataclasses.dataclass(frozen=True)
class SyntheticSpec:
    """Which people to generate.

    Attributes:
        seed: Other seeds give other recordings of the same seven people.
        sequences: Recordings per subject and action. More of them leave the first ones as they are.
        frames: Length of every recording, at 50 frames a second.

    Raises:
        UserError: a number that is no integer or out of range.
    """

    seed: int = 0
    sequences: int = 2
    frames: int = 200

    def __post_init__(self) -> None:
        check_integer("hpe.h3m_lift.synthetic_seed", self.seed, 0, 2**63 - 1)
        check_integer("hpe.h3m_lift.synthetic_sequences", self.sequences, 1, 1000)
        check_integer("hpe.h3m_lift.synthetic_frames", self.frames, 1, LONGEST)

    @property
    def name(self) -> str:
        """Names the data set in folders and reports: 'synthetic-seed0-2x200'."""
        return f"synthetic-seed{self.seed}-{self.sequences}x{self.frames}"


def write_synthetic(folder: pathlib.Path, spec: SyntheticSpec) -> None:
    """Writes `h36m.zip` and `data_2d_h36m_synthetic.npz` to `folder`, the same bytes every time.

    Shows progress on a terminal.
    """
    folder.mkdir(parents=True, exist_ok=True)
    positions_2d: dict[str, dict[str, list[np.ndarray]]] = {}
    body_17 = [get_skeleton("h36m_32").index(joint) for joint in get_skeleton("h36m_17").joints]
    with zipfile.ZipFile(folder / ARCHIVE, "w") as archive:
        _add(archive, "h36m/cameras.h5", _cameras_file())
        for subject, action, index in _progress(spec):
            key = (spec.seed, int(subject[1:]), zlib.crc32(action.encode()), index)
            poses, pixels = _recording(key, subject, action, spec.frames)
            name = f"{action} {index}" if index else action
            flat = poses.reshape(len(poses), -1).T
            entry = f"h36m/{subject}/MyPoses/3D_positions/{name}.h5"
            _add(archive, entry, _hdf5({"3D_positions": flat.astype(np.float32)}))
            views = positions_2d.setdefault(subject, {}).setdefault(name, [])
            for number, (camera, view) in enumerate(pixels.items()):
                rng = _generator(key, 1, number)
                for detector, error in DETECTORS.items():
                    found = _detect(rng, view[:, HOURGLASS_JOINTS], error)
                    entry = f"h36m/{subject}/{detector}/{name.replace(' ', '_')}.{camera}.h5"
                    if (subject, name, camera) != _NO_VIDEO:
                        _add(archive, entry, _hdf5({"poses": found}))
                views.append(_detect(rng, view[:, body_17], _NPZ_ERROR))
    metadata = {"layout_name": "h36m", "num_joints": 17, "keypoints_symmetry": _SYMMETRY}
    np.savez_compressed(folder / DETECTIONS, positions_2d=positions_2d, metadata=metadata)


def _progress(spec: SyntheticSpec) -> Iterator[tuple[str, str, int]]:
    """Yields (subject, action, index) of every recording."""
    every = [(s, a, i) for s in BUILDS for a in ACTIONS for i in range(spec.sequences)]
    quiet = not sys.stderr.isatty()
    yield from tqdm.tqdm(every, desc=f"generating {spec.name}", unit="sequence", disable=quiet)


def _generator(key: tuple[int, ...], *purpose: int) -> np.random.Generator:
    """Returns the generator of one recording (seed, subject, action, index), for one purpose.

    No recording shares a generator with another, so none depends on how many there are.
    """
    return np.random.default_rng(np.random.SeedSequence(key[0], spawn_key=(*key[1:], *purpose)))


def _recording(
    key: tuple[int, ...], subject: str, action: str, frames: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Returns poses (n, 32, 3) in mm, and the pixels (n, 32, 2) of every camera.

    Draws again, rarely, when a hand leaves an image or a joint would be under the floor.
    """
    t = np.arange(frames) / FRAME_RATE
    views = published_cameras(subject)
    for attempt in range(_ATTEMPTS):
        rng = _generator(key, 0, attempt)
        poses = pose(BUILDS[subject], ACTIONS[action](rng, BUILDS[subject], t))
        if poses[..., 2].min() < _FLOOR:
            continue
        pixels = {name: _project(poses, camera) for name, camera in views.items()}
        if all(view.min() >= 0.0 and view.max() < IMAGE_SIZE for view in pixels.values()):
            return poses, pixels
    raise AssertionError(f"{subject} {action}: no recording of {frames} frames stays in view")


def _project(poses: np.ndarray, camera: cameras.Camera) -> np.ndarray:
    """Returns the pixels (n, 32, 2) of poses in the world frame, with distortion."""
    return np.asarray(cameras.project(cameras.world_to_camera(poses, camera), camera))


def _detect(rng: np.random.Generator, pixels: np.ndarray, error: float) -> np.ndarray:
    """Returns what a detector with that `error` finds at `pixels` (n, J, 2), float32.

    Detectors are off by a constant (what they take for the joint), shake from frame to frame, and
    now and then slip. They read a grid, here of a quarter pixel.
    """
    constant = 0.4 * rng.normal(size=pixels.shape[1:])
    shake = 0.8 * rng.normal(size=pixels.shape)
    slip = 3.0 * rng.normal(size=pixels.shape) * (rng.random(pixels.shape[:2]) < 0.02)[..., None]
    return (np.round((pixels + error * (constant + shake + slip)) * 4.0) / 4.0).astype(np.float32)


def _cameras_file() -> bytes:
    """Returns `cameras.h5`: R is stored transposed and Name as character codes, as MATLAB does."""
    datasets = {}
    for subject in BUILDS:
        for index, (name, camera) in enumerate(published_cameras(subject).items(), start=1):
            fields = {
                "R": np.asarray(camera.rotation).T,
                "T": np.reshape(camera.translation, (3, 1)),
                "f": np.reshape(camera.focal_length, (2, 1)),
                "c": np.reshape(camera.center, (2, 1)),
                "k": np.reshape(camera.radial, (3, 1)),
                "p": np.reshape(camera.tangential, (2, 1)),
                "Name": np.array([[ord(digit)] for digit in name], np.uint16),
            }
            for field, value in fields.items():
                datasets[f"subject{subject[1:]}/camera{index}/{field}"] = value
    return _hdf5(datasets)


def _hdf5(datasets: dict[str, np.ndarray]) -> bytes:
    """Returns an HDF5 file with these data sets; those of many frames are compressed."""
    with h5py.File("memory", "w", driver="core", backing_store=False) as file:
        for name, value in datasets.items():
            packing = {"compression": "gzip", "shuffle": True} if value.size > 100 else {}
            file.create_dataset(name, data=value, track_times=False, **packing)
        file.flush()
        return file.id.get_file_image()


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    """Adds an entry that carries no date of its own."""
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, content, compresslevel=1)
