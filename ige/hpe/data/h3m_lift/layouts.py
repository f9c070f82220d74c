"""The three file layouts in which people have Human3.6M's poses on disk.

`find_layout` says which one is there without reading any data.
"""

import abc
import dataclasses
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import numpy as np

from ige.data.archives import Archive, open_archive
from ige.data.damage import one_line, reading
from ige.data.finding import describe, is_there, search_folders
from ige.data.npz import load_npz
from ige.errors import UserError
from ige.geometry.units import MM_PER_METRE
from ige.hpe.data.h3m_lift import cdf, checks, h5
from ige.hpe.data.h3m_lift.cameras import (
    Cameras,
    published_cameras,
    read_cameras_h5,
    read_metadata_xml,
)
from ige.hpe.data.h3m_lift.names import SequenceName, is_calibration, parse_name, split_of

BASELINE_ARCHIVE = "h36m.zip"
VIDEOPOSE3D_ARCHIVE = "data_3d_h36m.npz"
_POSES = "S*/MyPoses/3D_positions/*.h5"
_OFFICIAL_ARCHIVES = "Poses_D3_Positions_S*.tgz"
_OFFICIAL_TREE = "S*/MyPoseFeatures/D3_Positions/*.cdf"


@dataclasses.dataclass(frozen=True)
class Record:
    """Where the poses of one recording are: a file and what it calls them."""

    subject: str
    name: SequenceName
    entry: str
    archive: pathlib.Path

    @property
    def origin(self) -> str:
        """Names the file and the record, for messages."""
        return f"{self.archive}: {self.entry}"


class Layout(abc.ABC):
    """Poses and cameras of Human3.6M in one file layout.

    Attributes:
        kind: name of the layout.
        skipped: recordings that `index` left out, with the reason.
    """

    kind: ClassVar[str]

    def __init__(self, root: pathlib.Path):
        """Args:
        root: folder that file names are given relative to.
        """
        self.root = root
        self.skipped: list[str] = []

    @abc.abstractmethod
    def files(self) -> list[dict]:
        """Returns name and size of every file that is read, without opening any."""

    @abc.abstractmethod
    def index(self) -> list[Record]:
        """Returns where every recording is, in the order in which reading is fastest.

        Raises:
            UserError: a damaged file, an unknown subject, a recording that is there twice.
        """

    @abc.abstractmethod
    def read(self, record: Record) -> np.ndarray:
        """Returns the poses (n, 32, 3) of a recording: float32, mm, world frame, z up.

        Raises:
            UserError: a damaged file, another shape, no frames, or a NaN.
        """

    @abc.abstractmethod
    def cameras(self, subject: str) -> Cameras:
        """Returns the four cameras during the recordings of a subject.

        Raises:
            UserError: a damaged file or a missing camera.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Releases the files."""

    def _records(self, found: Iterable[tuple[str, str, str, pathlib.Path]]) -> list[Record]:
        """Returns records of (subject, file's name of the recording, entry, archive)."""
        records: dict[tuple[str, SequenceName], Record] = {}
        self.skipped = []
        for subject, text, entry, archive in found:
            origin = f"{archive}: {entry}"
            split_of(subject, origin)
            if is_calibration(text):
                self.skipped.append(f"{subject} {text}: belongs to no action, no protocol uses it")
                continue
            name = parse_name(text, origin)
            if other := records.get((subject, name)):
                raise UserError(
                    f"{origin}: {subject} {name} is also in {other.origin}; remove one of them"
                )
            records[subject, name] = Record(subject, name, entry, archive)
        return list(records.values())


class BaselineLayout(Layout):
    """`h36m.zip` of 3d-pose-baseline, or the same tree extracted."""

    kind = "baseline"
    _entry = re.compile(r"(?:.*/)?(S\d+)/MyPoses/3D_positions/([^/]+)\.h5")

    def __init__(self, root: pathlib.Path, path: pathlib.Path):
        super().__init__(root)
        self._path = path
        self._opened: Archive | None = None

    @property
    def _archive(self) -> Archive:
        if self._opened is None:
            with reading(str(self._path)):
                self._opened = open_archive(self._path, [_POSES, "cameras.h5"])
        return self._opened

    def files(self) -> list[dict]:
        return [describe(self._path, self.root, [_POSES, "cameras.h5"])]

    def index(self) -> list[Record]:
        matches = [(self._entry.fullmatch(name), name) for name in self._archive.names()]
        return self._records(
            (match[1], match[2], name, self._path)
            for match, name in matches
            if match and not h5.is_resource_fork(name)
        )

    def read(self, record: Record) -> np.ndarray:
        with reading(record.origin):
            data = self._archive.read(record.entry)
            with h5.opened(data) as file:
                array = h5.read_dataset(file, "3D_positions", record.origin)
        if array.ndim != 2 or array.shape[0] != checks.NUM_JOINTS * 3:
            raise UserError(
                f"{record.origin}: 3D_positions: got shape {array.shape}, expected "
                f"({checks.NUM_JOINTS * 3}, frames); get the file again"
            )
        return checks.checked_poses(array.T.reshape(-1, checks.NUM_JOINTS, 3), record.origin)

    def cameras(self, subject: str) -> Cameras:
        entries = [
            name
            for name in self._archive.names()
            if pathlib.PurePosixPath(name).name == "cameras.h5"
        ]
        if not entries:
            raise UserError(f"{self._path}: cameras.h5 is missing; get the archive again")
        if len(entries) > 1:
            raise UserError(
                f"{self._path}: {entries[1]}: there is also {entries[0]}; remove one of them"
            )
        origin = f"{self._path}: {entries[0]}"
        with reading(origin):
            data = self._archive.read(entries[0])
        return read_cameras_h5(data, subject, origin)

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None


class OfficialLayout(Layout):
    """What the dataset's site hands out: `Poses_D3_Positions_S*.tgz`, or the tree inside them.

    Cameras come from `metadata.xml` where it is there; otherwise they are the published ones.
    """

    kind = "official"
    _entry = re.compile(r"(?:.*/)?(S\d+)/MyPoseFeatures/D3_Positions/([^/]+)\.cdf")

    def __init__(self, root: pathlib.Path, folder: pathlib.Path):
        super().__init__(root)
        self._folder = folder
        self._paths = sorted(folder.glob(_OFFICIAL_ARCHIVES)) or [folder]
        self._opened: dict[pathlib.Path, Archive] = {}
        self._metadata = folder / "metadata.xml"

    def _archive(self, path: pathlib.Path) -> Archive:
        if path not in self._opened:
            with reading(str(path)):
                self._opened[path] = open_archive(path, [_OFFICIAL_TREE])
        return self._opened[path]

    def files(self) -> list[dict]:
        paths = self._paths + [self._metadata] * os.path.lexists(self._metadata)
        return [describe(path, self.root, [_OFFICIAL_TREE]) for path in paths]

    def index(self) -> list[Record]:
        found = []
        for path in self._paths:
            with reading(str(path)):
                names = self._archive(path).names()
            matches = [(self._entry.fullmatch(name), name) for name in names]
            found += [(match[1], match[2], name, path) for match, name in matches if match]
        return self._records(found)

    def read(self, record: Record) -> np.ndarray:
        with reading(record.origin):
            data = self._archive(record.archive).read(record.entry)
            array = cdf.read_variable(data, "Pose")
        if array.ndim != 3 or array.shape[::2] != (1, checks.NUM_JOINTS * 3):
            raise UserError(
                f"{record.origin}: Pose: got shape {array.shape}, expected "
                f"(1, frames, {checks.NUM_JOINTS * 3}); get the file again"
            )
        return checks.checked_poses(array[0].reshape(-1, checks.NUM_JOINTS, 3), record.origin)

    def cameras(self, subject: str) -> Cameras:
        if os.path.lexists(self._metadata):
            return read_metadata_xml(self._metadata, subject)
        return published_cameras(subject)

    def close(self) -> None:
        for archive in self._opened.values():
            archive.close()
        self._opened.clear()


class VideoPose3dLayout(Layout):
    """`data_3d_h36m.npz` as VideoPose3D's preparation script makes it; the published cameras."""

    kind = "videopose3d"

    def __init__(self, root: pathlib.Path, path: pathlib.Path):
        super().__init__(root)
        self._path = path
        self._poses: dict[str, Any] = {}

    def files(self) -> list[dict]:
        return [describe(self._path, self.root)]

    def index(self) -> list[Record]:
        positions = nested_arrays(load_npz(self._path), "positions_3d", self._path)
        found = []
        for subject, actions in positions.items():
            for name, poses in actions.items():
                entry = f"positions_3d[{subject!r}][{name!r}]"
                self._poses[entry] = poses
                found.append((subject, name, entry, self._path))
        return self._records(found)

    def read(self, record: Record) -> np.ndarray:
        poses = self._poses[record.entry]
        if isinstance(poses, np.ndarray) and poses.dtype.kind in "fiu":
            with np.errstate(over="ignore"):
                poses = poses.astype(np.float64) * MM_PER_METRE
        return checks.checked_poses(poses, record.origin)

    def cameras(self, subject: str) -> Cameras:
        return published_cameras(subject)

    def close(self) -> None:
        self._poses = {}


def nested_arrays(members: dict[str, Any], key: str, path: pathlib.Path) -> dict[str, dict]:
    """Returns `members[key]`, a dict subject -> recording -> arrays.

    Raises:
        UserError: it is missing or something else.
    """
    if key not in members:
        raise UserError(
            f"{path}: {key!r} is missing, it has {one_line(', '.join(members)) or 'nothing'}; "
            "get the file again"
        )
    nested = members[key]
    if not isinstance(nested, dict) or not all(
        isinstance(subject, str) and isinstance(recordings, dict) and _are_names(recordings)
        for subject, recordings in nested.items()
    ):
        raise UserError(
            f"{path}: {key!r}: expected a dict of subjects of dicts of recordings; "
            "get the file again"
        )
    return nested


def _are_names(recordings: dict) -> bool:
    return all(isinstance(name, str) for name in recordings)


def _find_baseline(root: pathlib.Path, folder: pathlib.Path) -> Layout | None:
    if is_there(folder / BASELINE_ARCHIVE):
        return BaselineLayout(root, folder / BASELINE_ARCHIVE)
    if any(folder.glob(_POSES)):
        return BaselineLayout(root, folder)
    return None


def _find_official(root: pathlib.Path, folder: pathlib.Path) -> Layout | None:
    if any(folder.glob(_OFFICIAL_ARCHIVES)) or any(folder.glob(_OFFICIAL_TREE)):
        return OfficialLayout(root, folder)
    return None


def _find_videopose3d(root: pathlib.Path, folder: pathlib.Path) -> Layout | None:
    path = folder / VIDEOPOSE3D_ARCHIVE
    return VideoPose3dLayout(root, path) if is_there(path) else None


_FINDERS: dict[str, Callable[[pathlib.Path, pathlib.Path], Layout | None]] = {
    "baseline": _find_baseline,
    "official": _find_official,
    "videopose3d": _find_videopose3d,
}
LAYOUTS = tuple(_FINDERS)
"""Every layout, the preferred first: the archive comes with its own cameras and detections."""


def find_layout(root: pathlib.Path, kinds: Sequence[str] = LAYOUTS) -> Layout | None:
    """Returns the first of `kinds` that is in `root` or in a folder directly inside it."""
    for kind in kinds:
        for folder in search_folders(root):
            if layout := _FINDERS[kind](root, folder):
                return layout
    return None
