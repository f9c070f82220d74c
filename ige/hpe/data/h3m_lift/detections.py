"""2D poses that detectors found in the videos: stacked hourglasses and VideoPose3D's archives."""

import abc
import pathlib
import re
import reprlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from ige.data.archives import Archive, Tar, open_archive
from ige.data.builds import MissingFilesError
from ige.data.damage import reading
from ige.data.npz import load_npz
from ige.errors import UserError, nearest
from ige.hpe.data.h3m_lift import checks, h5
from ige.hpe.data.h3m_lift.layouts import (
    BASELINE_ARCHIVE,
    describe,
    is_there,
    nested_arrays,
    search_folders,
)
from ige.hpe.data.h3m_lift.names import CAMERA_IDS, is_calibration, parse_name, split_of
from ige.hpe.skeleton import Skeleton, get_skeleton

EXCLUDED = {("S11", "Directions", "54138969"): "its video is corrupt"}
"""(subject, recording, camera) whose detections nobody uses -> why."""

HOURGLASS_FOLDERS = {
    "hourglass": "StackedHourglass",
    "finetuned": "StackedHourglassFineTuned240",
}
HOURGLASS_ARCHIVES = {
    "hourglass": "stacked_hourglass.tar.gz",
    "finetuned": "stacked_hourglass_fined_tuned_240.tar.gz",
}
_DETECTIONS = re.compile(r"data_2d_h36m_(.+)\.npz")
_LAYOUT_NAMES = {"h36m": "h36m_17", "coco": "coco_17", "mpii": "mpii_16"}

Key = tuple[str, str, str]  # subject, recording, camera


class Detections(abc.ABC):
    """2D poses of recordings, per camera.

    Attributes:
        name: the source, 'hourglass' or 'cpn_ft_h36m_dbb'.
        skeleton: their joints.
    """

    name: str
    skeleton: Skeleton

    @abc.abstractmethod
    def files(self) -> list[dict]:
        """Returns name and size of every file that is read, without opening any."""

    @abc.abstractmethod
    def load(self) -> None:
        """Opens the files, after which `skeleton`, `keys` and `read` answer.

        Raises:
            UserError: a damaged file.
        """

    @abc.abstractmethod
    def keys(self) -> set[Key]:
        """Returns (subject, recording, camera) of all there is, the `EXCLUDED` among them."""

    @abc.abstractmethod
    def read(self, key: Key, frames: int) -> np.ndarray:
        """Returns the 2D poses (frames, joints, 2) of one camera: float32, pixels.

        Raises:
            UserError: a damaged file, another shape, fewer frames, or a NaN.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Releases the files."""


class HourglassDetections(Detections):
    """`S*/StackedHourglass/NAME.CAMERA.h5` of 3d-pose-baseline, fine-tuned on Human3.6M or not.

    Args:
        root: folder that file names are given relative to.
        path: archive or folder.
        kind: 'hourglass' or 'finetuned'.
    """

    def __init__(self, root: pathlib.Path, path: pathlib.Path, kind: str):
        self.name = kind
        self.skeleton = get_skeleton("mpii_16")
        folder = HOURGLASS_FOLDERS[kind]
        self._root = root
        self._path = path
        self._patterns = hourglass_patterns(folder)
        self._entry = re.compile(rf"(?:.*/)?(S\d+)/(?:.*/)?{folder}/([^/]+)\.(\d+)\.h5")
        self._entries: dict[Key, str] = {}
        self._archive: Archive | None = None
        self._content: dict[str, bytes] = {}

    def files(self) -> list[dict]:
        return [describe(self._path, self._root, self._patterns)]

    def load(self) -> None:
        with reading(str(self._path)):
            self._archive = open_archive(self._path, self._patterns)
            names = self._archive.names()
        self._entries = {}
        for name in names:
            match = self._entry.fullmatch(name)
            if not match or h5.is_resource_fork(name) or is_calibration(match[2]):
                continue
            origin = f"{self._path}: {name}"
            split_of(match[1], origin)
            if match[3] not in CAMERA_IDS:
                raise UserError(
                    f"{origin}: camera: got {match[3]}, expected one of {', '.join(CAMERA_IDS)}; "
                    "remove it"
                )
            key = (match[1], str(parse_name(match[2], origin)), match[3])
            if key in self._entries:
                raise UserError(
                    f"{origin}: {' '.join(key)} is also in {self._entries[key]}; remove one of them"
                )
            self._entries[key] = name
        if isinstance(self._archive, Tar):
            # Recordings are asked for in another order, in which a tar file reads from the start.
            with reading(str(self._path)):
                self._content = {n: self._archive.read(n) for n in self._entries.values()}

    def keys(self) -> set[Key]:
        return set(self._entries)

    def read(self, key: Key, frames: int) -> np.ndarray:
        entry = self._entries[key]
        origin = f"{self._path}: {entry}"
        with reading(origin):
            data = self._content.get(entry) or self._archive.read(entry)
            with h5.opened(data) as file:
                poses = h5.read_dataset(file, "poses", origin)
        return checks.checked_keypoints(poses, self.skeleton.num_joints, frames, origin)

    def close(self) -> None:
        if self._archive is not None:
            self._archive.close()
        self._archive = None
        self._content = {}


class NpzDetections(Detections):
    """`data_2d_h36m_NAME.npz` in the layout of VideoPose3D.

    Args:
        root: folder that file names are given relative to.
        path: the archive.
        name: the NAME.
    """

    def __init__(self, root: pathlib.Path, path: pathlib.Path, name: str):
        self.name = name
        self._root = root
        self._path = path
        self._arrays: dict[Key, tuple[Any, str]] = {}

    def files(self) -> list[dict]:
        return [describe(self._path, self._root)]

    def load(self) -> None:
        members = load_npz(self._path)
        nested = nested_arrays(members, "positions_2d", self._path)
        origin = f"{self._path}: metadata"
        with reading(origin):
            self.skeleton = skeleton_of(members.get("metadata"), origin)
        self._arrays = {}
        for subject, recordings in nested.items():
            for text, views in recordings.items():
                origin = f"{self._path}: positions_2d[{subject!r}][{text!r}]"
                split_of(subject, origin)
                if is_calibration(text):
                    continue
                name = str(parse_name(text, origin))
                count = len(views) if isinstance(views, list | tuple | np.ndarray) else 0
                if count != len(CAMERA_IDS):
                    raise UserError(
                        f"{origin}: got {count} cameras, expected {len(CAMERA_IDS)}; "
                        "get the file again"
                    )
                for index, (camera, view) in enumerate(zip(CAMERA_IDS, views, strict=True)):
                    if (subject, name, camera) in self._arrays:
                        raise UserError(f"{origin}: {subject} {name} is there twice; remove one")
                    self._arrays[subject, name, camera] = (view, f"{origin}[{index}]")

    def keys(self) -> set[Key]:
        return set(self._arrays)

    def read(self, key: Key, frames: int) -> np.ndarray:
        view, origin = self._arrays[key]
        return checks.checked_keypoints(view, self.skeleton.num_joints, frames, origin)

    def close(self) -> None:
        self._arrays = {}


def _symmetry(skeleton: Skeleton) -> list[list[int]]:
    """Returns the joints of the left and of the right side."""
    return [
        [joint for joint, of in enumerate(skeleton.sides) if of == side]
        for side in ("left", "right")
    ]


def skeleton_of(metadata: Any, origin: str) -> Skeleton:
    """Returns the skeleton that the `metadata` of an archive of 2D poses describes.

    By its `layout_name` where it has one, otherwise by the number of joints and which of them are
    on the left and on the right.

    Raises:
        UserError: no known skeleton fits.
        ValueError, TypeError, LookupError: it is nothing of the kind.
    """
    metadata = metadata if isinstance(metadata, dict) else {}
    name, joints = metadata.get("layout_name"), metadata.get("num_joints")
    symmetry = metadata.get("keypoints_symmetry")
    sides = None if symmetry is None else [sorted(int(j) for j in side) for side in symmetry]
    for short, full in _LAYOUT_NAMES.items():
        skeleton = get_skeleton(full)
        by_name = name in (short, full) and joints in (None, skeleton.num_joints)
        by_sides = joints == skeleton.num_joints and sides == _symmetry(skeleton)
        if by_name or (name is None and by_sides):
            return skeleton
    raise UserError(
        f"{origin}: got layout_name {reprlib.repr(name)}, num_joints {reprlib.repr(joints)}, "
        f"keypoints_symmetry {reprlib.repr(symmetry)}, expected those of "
        f"{', '.join(_LAYOUT_NAMES.values())}; convert the file"
    )


def hourglass_patterns(folder: str) -> list[str]:
    """Returns where a release of the archive, extracted, keeps `NAME.CAMERA.h5`."""
    return [f"S*/{folder}/*.h5", f"S*/MyPoses/3D_positions/{folder}/*.h5"]


def find_hourglass(root: pathlib.Path, kind: str) -> Detections:
    """Returns the detections of kind 'hourglass' or 'finetuned' below `root`.

    Raises:
        MissingFilesError: there are none; says where they may be.
        UserError: a damaged archive.
    """
    folder, archive_name = HOURGLASS_FOLDERS[kind], HOURGLASS_ARCHIVES[kind]
    for place in search_folders(root):
        archive = place / BASELINE_ARCHIVE
        if is_there(archive):
            with reading(str(archive)), open_archive(archive) as opened:
                if any(f"/{folder}/" in name for name in opened.names()):
                    return HourglassDetections(root, archive, kind)
        if any(next(place.glob(pattern), None) for pattern in hourglass_patterns(folder)):
            return HourglassDetections(root, place, kind)
        if is_there(place / archive_name):
            return HourglassDetections(root, place / archive_name, kind)
    raise MissingFilesError(
        f"keypoints = {kind!r}: no S*/{folder}/*.h5 in {root}; put an {BASELINE_ARCHIVE} that has "
        f"them, {archive_name}, or the extracted folder there, or set keypoints = 'projection'"
    )


def detection_names(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """Returns NAME -> path of every `data_2d_h36m_NAME.npz` below `root`."""
    found: dict[str, pathlib.Path] = {}
    for folder in search_folders(root):
        for path in sorted(folder.glob("data_2d_h36m_*.npz")):
            if match := _DETECTIONS.fullmatch(path.name):
                found.setdefault(match[1], path)
    return found


def choose_detections(names: Sequence[str], root: pathlib.Path) -> str:
    """Returns the only one of `names`.

    Raises:
        MissingFilesError: there is none.
        UserError: there are several.
    """
    if not names:
        raise MissingFilesError(
            f"keypoints = 'detections': no data_2d_h36m_NAME.npz in {root}; put one there, such as "
            "data_2d_h36m_cpn_ft_h36m_dbb.npz, or set keypoints = 'projection'"
        )
    if len(names) > 1:
        raise UserError(
            f"detections: got None with {len(names)} files in {root}; set it to one of "
            f"{', '.join(repr(name) for name in sorted(names))}"
        )
    return next(iter(names))


def find_detections(root: pathlib.Path, name: str) -> Detections:
    """Returns the detections of `data_2d_h36m_<name>.npz` below `root`.

    Raises:
        MissingFilesError: there is no such file; names the nearest.
    """
    found = detection_names(root)
    if name not in found:
        hint = f"; {nearest(name, found)}" if found else ""
        raise MissingFilesError(
            f"detections = {name!r}: no data_2d_h36m_{name}.npz in {root}{hint}"
        )
    return NpzDetections(root, found[name], name)
