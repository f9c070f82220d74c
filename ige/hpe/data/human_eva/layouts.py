"""The two file layouts in which people have HumanEva-I's poses on disk."""

import abc
import dataclasses
import pathlib
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from ige.data.archives import Folder
from ige.data.builds import MissingFilesError
from ige.data.damage import reading
from ige.data.finding import describe, is_there, search_folders
from ige.data.npz import load_npz
from ige.errors import UserError
from ige.geometry.cameras import Camera
from ige.geometry.units import MM_PER_METRE
from ige.hpe.data.h3m_lift.checks import checked_poses
from ige.hpe.data.h3m_lift.layouts import nested_arrays
from ige.hpe.data.human_eva import names
from ige.hpe.data.human_eva.cameras import published_cameras, read_cal
from ige.hpe.data.human_eva.checks import Reading, cut
from ige.hpe.data.human_eva.limbs import limb_ends, torso_radius
from ige.hpe.data.human_eva.mocap import Markers, measurement, read_mat, read_mp
from ige.hpe.data.human_eva.names import Frames, published_frames
from ige.hpe.data.human_eva.sync import Timeline, common_timeline, read_ofs
from ige.hpe.skeleton import Skeleton, get_skeleton

VIDEOPOSE3D_ARCHIVE = "data_3d_humaneva15.npz"
_STATIC = "Static.mat"

_WANTED = {
    "human_eva": (
        "S1, S2 and S3 of HumanEva-I, extracted, with the folders Calibration_Data, Sync_Data "
        "(after the critical update of the .ofs files) and Mocap_Data (.mp, and .mat, which the "
        "support code makes of .c3d), from http://humaneva.is.tue.mpg.de (registration required)"
    ),
    "videopose3d": f"{VIDEOPOSE3D_ARCHIVE} as made by VideoPose3D's preparation script",
}


@dataclasses.dataclass(frozen=True)
class Record:
    """A published part of a recording.

    Attributes:
        subject: 'S1'.
        action: 'Walking'.
        trial: 1 or 3.
        split: 'train' or 'test'.
        origin: names the file and the entry, for messages.
    """

    subject: str
    action: str
    trial: int
    split: str
    origin: str

    @property
    def frames(self) -> Frames:
        return published_frames(self.subject, self.action, self.trial, self.split)


class Layout(abc.ABC):
    """Poses and cameras of HumanEva-I in one file layout.

    Attributes:
        kind: name of the layout.
        skeleton: the joints of its poses.
        skipped: recordings that `index` left out, with the reason.
    """

    kind: ClassVar[str]
    skeleton: ClassVar[Skeleton]

    def __init__(self, root: pathlib.Path, path: pathlib.Path):
        """Args:
        root: folder that file names are given relative to.
        path: the file or folder.
        """
        self._root = root
        self._path = path
        self.skipped: list[str] = []

    @abc.abstractmethod
    def files(self) -> list[dict]:
        """Returns name and size of every file that is read, without opening any."""

    @abc.abstractmethod
    def index(self) -> list[Record]:
        """Returns every part of a recording that is there.

        Raises:
            UserError: a damaged file, or a recording that HumanEva-I has not.
        """

    @abc.abstractmethod
    def read(self, record: Record) -> Reading:
        """Returns the poses of a part of a recording.

        Raises:
            UserError: a damaged or missing file.
        """

    @abc.abstractmethod
    def cameras(self, subject: str) -> dict[str, Camera]:
        """Returns the colour cameras, by `names.CAMERA_IDS`.

        Raises:
            UserError: a damaged or missing file.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Releases what was read."""

    def _leave_out(self, subject: str, action: str, trial: int) -> bool:
        """Whether a recording is one that nobody uses; then `skipped` says why."""
        reason = names.EXCLUDED.get((subject, action, trial))
        text = f"{subject} {action} {trial}: {reason}"
        if reason and text not in self.skipped:
            self.skipped.append(text)
        return reason is not None


class HumanEvaLayout(Layout):
    """HumanEva-I as its authors hand it out: markers, from which joints follow."""

    kind = "human_eva"
    skeleton = get_skeleton("eva_20")
    _patterns = tuple(f"S[123]/*/*.{suffix}" for suffix in ("cal", "ofs", "mp", "mat"))
    _folders = {".cal": "Calibration_Data", ".ofs": "Sync_Data", ".mp": "Mocap_Data"}
    # Copies differ in the case of the folders' names.
    _entry = re.compile(r"(S\d)/(?i:Calibration_Data|Sync_Data|Mocap_Data)/([^/]+)")

    def __init__(self, root: pathlib.Path, path: pathlib.Path):
        super().__init__(root, path)
        self._radii: dict[str, float] = {}

    @cached_property
    def _entries(self) -> dict[tuple[str, str], str]:
        """(subject, name of a file) -> the file, below the layout's folder."""
        entries: dict[tuple[str, str], str] = {}
        for match in map(self._entry.fullmatch, Folder(self._path, self._patterns).names()):
            if match and entries.setdefault((match[1], match[2]), match[0]) != match[0]:
                other = entries[match[1], match[2]]
                raise UserError(
                    f"{self._path / match[0]}: there is also {other}; remove one of them"
                )
        return entries

    def _origin(self, subject: str, name: str) -> str:
        folder = self._folders.get(pathlib.PurePath(name).suffix, "Mocap_Data")
        usual = f"{subject}/{folder}/{name}"
        return str(self._path / self._entries.get((subject, name), usual))

    def _content(self, subject: str, name: str, why: str) -> tuple[bytes, str]:
        """Returns the content of a file and how messages call it.

        Raises:
            UserError: it is missing, which `why` makes a fault, or cannot be read.
        """
        origin = self._origin(subject, name)
        if (subject, name) not in self._entries:
            raise UserError(f"{origin} is missing: {why}; put it there")
        with reading(origin):
            return Folder(self._path).read(self._entries[subject, name]), origin

    def files(self) -> list[dict]:
        return [describe(self._path, self._root, self._patterns)]

    def index(self) -> list[Record]:
        self.skipped = []
        records, missing = [], []
        for subject in names.SUBJECTS:
            for action in names.ACTIONS:
                for trial in names.FRAME_RATES:
                    name = f"{action}_{trial}.mat"
                    if self._leave_out(subject, action, trial):
                        continue
                    if (subject, name) not in self._entries:
                        missing.append(f"{subject} {action} {trial}")
                        continue
                    records += [
                        Record(subject, action, trial, split, self._origin(subject, name))
                        for split in names.SPLITS
                        if published_frames(subject, action, trial, split)
                    ]
        if missing:
            self.skipped.append(f"{', '.join(missing)}: no .mat files")
        return records

    def read(self, record: Record) -> Reading:
        markers = self._markers(record.subject, f"{record.action}_{record.trial}.mat")
        timeline = Timeline()
        if record.trial == 1:
            timeline = self._timeline(record.subject, f"{record.action}_{record.trial}")
        frames = record.frames
        poses = limb_ends(
            markers,
            timeline.positions(*frames),
            self._radius(record.subject, markers),
            self._offsets(record.subject),
        )
        return Reading(cut(poses), frames.length)

    def _radius(self, subject: str, markers: Markers) -> float:
        """Returns the radius of the torso, measured as the person stood still if that is there."""
        if (subject, _STATIC) not in self._entries:
            return torso_radius(markers)
        if subject not in self._radii:
            radius = torso_radius(self._markers(subject, _STATIC))
            if np.isnan(radius):
                raise UserError(
                    f"{self._origin(subject, _STATIC)}: Markers: no frame has both LSHO and RSHO; "
                    "get the file again, or remove it to measure the torso in each recording"
                )
            self._radii[subject] = radius
        return self._radii[subject]

    def _markers(self, subject: str, name: str) -> Markers:
        data, origin = self._content(subject, name, "it has the markers")
        return read_mat(data, origin)

    def _timeline(self, subject: str, name: str) -> Timeline:
        why = "frames are counted from the camera that began first"
        contents = [
            self._content(subject, f"{name}_({camera}).ofs", why) for camera in names.ALL_CAMERAS
        ]
        return common_timeline([read_ofs(*content) for content in contents])

    def _offsets(self, subject: str) -> dict[str, float]:
        data, origin = self._content(subject, f"{subject}.mp", "it has the person's measures")
        measures = read_mp(data, origin)
        return {
            side: measurement(measures, f"{side[0].upper()}ShoulderOffset", origin)
            for side in ("left", "right")
        }

    def cameras(self, subject: str) -> dict[str, Camera]:
        why = "poses are projected with it"
        return {
            camera: read_cal(*self._content(subject, f"{camera}.cal", why))
            for camera in names.CAMERA_IDS
        }

    def close(self) -> None:
        """Does nothing: no file stays open."""


class VideoPose3dLayout(Layout):
    """`data_3d_humaneva15.npz` as VideoPose3D's preparation script makes it; published cameras.

    It has trial 1, cut into runs of valid frames.
    """

    kind = "videopose3d"
    skeleton = get_skeleton("eva_15")
    _splits = {"Train": "train", "Validate": "test"}

    def __init__(self, root: pathlib.Path, path: pathlib.Path):
        super().__init__(root, path)
        self._chunks: dict[Record, dict[int, tuple[str, Any]]] = {}

    def files(self) -> list[dict]:
        return [describe(self._path, self._root)]

    def index(self) -> list[Record]:
        self.skipped, self._chunks = [], {}
        for key, recordings in nested_arrays(
            load_npz(self._path), "positions_3d", self._path
        ).items():
            part, _, subject = key.partition("/")
            if part not in self._splits or subject not in names.SUBJECTS:
                raise UserError(
                    f"{self._path}: subject: got {key!r:.60}, expected Train or Validate with one "
                    f"of {', '.join(names.SUBJECTS)}, such as 'Train/S1'; get the file again"
                )
            for text, poses in recordings.items():
                entry = f"{self._path}: positions_3d[{key!r}][{text!r}]"
                name = names.parse_name(text, entry)
                recording = (subject, *name[:2])
                if self._leave_out(*recording):
                    continue
                split = self._splits[part]
                if published_frames(*recording, split) is None:
                    raise UserError(f"{entry}: trial 3 is for training; get the file again")
                origin = f"{self._path}: positions_3d[{key!r}]: {name.action} {name.trial}"
                record = Record(*recording, split, origin)
                self._chunks.setdefault(record, {})[name.chunk] = (entry, poses)
        return list(self._chunks)

    def read(self, record: Record) -> Reading:
        chunks = {}
        for number, (entry, poses) in sorted(self._chunks[record].items()):
            if isinstance(poses, np.ndarray) and poses.dtype.kind in "fiu":
                with np.errstate(over="ignore"):
                    poses = poses.astype(np.float64) * MM_PER_METRE
            chunks[number] = checked_poses(poses, entry, self.skeleton.num_joints)
        published = record.frames.length
        if (count := sum(map(len, chunks.values()))) > published:
            raise UserError(
                f"{record.origin}: got {count} frames, expected at most the {published} that are "
                "published; get the file again"
            )
        return Reading(chunks, published)

    def cameras(self, subject: str) -> dict[str, Camera]:
        return published_cameras(subject)

    def close(self) -> None:
        self._chunks = {}


def _find_human_eva(root: pathlib.Path, folder: pathlib.Path) -> Layout | None:
    return HumanEvaLayout(root, folder) if any(folder.glob("S[123]/*/*.mat")) else None


def _find_videopose3d(root: pathlib.Path, folder: pathlib.Path) -> Layout | None:
    path = folder / VIDEOPOSE3D_ARCHIVE
    return VideoPose3dLayout(root, path) if is_there(path) else None


_FINDERS = {"human_eva": _find_human_eva, "videopose3d": _find_videopose3d}
LAYOUTS = tuple(_FINDERS)
"""Every layout, the preferred first: the distribution has trial 3 and its own cameras."""


def missing_message(folder: pathlib.Path, layouts: Sequence[str] = LAYOUTS) -> str:
    """Returns what to say when `folder` has none of the files that `layouts` need."""
    wanted = "".join(f"\n  {_WANTED[layout]}" for layout in layouts)
    either = "one of these" if len(layouts) > 1 else "this"
    return (
        f"human_eva: no HumanEva-I poses in {folder}; put {either} there:{wanted}\n"
        "or run on generated data, which needs no files: --gin_param=\"data='synthetic'\""
    )


def find_layout(root: pathlib.Path, kinds: Sequence[str] = LAYOUTS) -> Layout:
    """Returns the first of `kinds` that is in `root` or directly inside a folder in it.

    Reads no data.

    Raises:
        MissingFilesError: says which file to get and where to put it.
    """
    for kind in kinds:
        for folder in search_folders(root):
            if layout := _FINDERS[kind](root, folder):
                return layout
    raise MissingFilesError(missing_message(root, kinds))
