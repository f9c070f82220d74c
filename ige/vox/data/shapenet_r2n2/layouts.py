"""The voxels and renderings of 3D-R2N2: two archives, or the same extracted."""

import pathlib
import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

from ige.data.archives import Bounds, Folder, Tar
from ige.data.builds import MissingFilesError
from ige.data.damage import reading
from ige.data.finding import describe, is_there, search_folders
from ige.errors import UserError
from ige.vox.r2n2 import METADATA_NAME, PNG_NAMES, R2n2Files

VOXELS, RENDERINGS = "ShapeNetVox32", "ShapeNetRendering"
BOUNDS = {
    VOXELS: Bounds(member=2**20, members=200_000),
    RENDERINGS: Bounds(member=2**24, archive=2**36, members=3_000_000),
}
"""Voxels take 64 KiB at most, and are kept in memory until the build is whole; the renderings are
12 GB of PNG files, more than a million."""

MAX_WAITING = 2**30
"""Bytes of views that are kept in memory until all of their model are there."""

_VOXEL_FILE = re.compile(rf"(?:.*/)?{VOXELS}/(\d{{8}})/([^/]+)/model\.binvox")
_RENDERING_FILE = re.compile(rf"(?:.*/)?{RENDERINGS}/(\d{{8}})/([^/]+)/rendering/([^/]+)")
_WANTED_FILES = frozenset((*PNG_NAMES, METADATA_NAME))
_TRAINING_SHARE = 0.8
_VALIDATION_SHARE = 0.1
"""Of the training part."""


class Record(NamedTuple):
    """A model.

    Attributes:
        synset: '03001627'.
        model: its id.
        split: 'train', 'validation' or 'test'.
    """

    synset: str
    model: str
    split: str


class Layout:
    """Voxels and renderings in archives or folders.

    Attributes:
        kind: 'archives' or 'folders'.
    """

    def __init__(self, root: pathlib.Path, voxels: pathlib.Path, renderings: pathlib.Path):
        """Args:
        root: folder that file names are given relative to.
        voxels: ShapeNetVox32 or its archive.
        renderings: ShapeNetRendering or its archive.
        """
        self._root = root
        self._voxels = voxels
        self._renderings = renderings
        self._binvox: dict[tuple[str, str], bytes] = {}

    @property
    def kind(self) -> str:
        return "folders" if self._voxels.is_dir() else "archives"

    def files(self) -> list[dict]:
        """Returns name and size of every file, without opening any."""
        return [
            describe(self._voxels, self._root, ["*/*/model.binvox"]),
            describe(self._renderings, self._root, ["*/*/rendering/*"]),
        ]

    def index(self) -> list[Record]:
        """Returns every model that has voxels, by synset and id, and reads the voxels.

        The first 80 % of a synset's ids, sorted, are the published training part; of those, the
        last tenth is for validation.

        Raises:
            UserError: a damaged archive, or none of the files.
        """
        self._binvox = {}
        with reading(str(self._voxels)):
            for name, data in _stream(self._voxels, "*/*/model.binvox", BOUNDS[VOXELS]):
                if match := _VOXEL_FILE.fullmatch(name):
                    self._binvox[match[1], match[2]] = data
        if not self._binvox:
            raise UserError(
                f"{self._voxels}: got no {VOXELS}/SYNSET/MODEL/model.binvox, expected the voxels "
                "of 3D-R2N2; get it again"
            )
        by_synset: dict[str, list[str]] = {}
        for synset, model in sorted(self._binvox):
            by_synset.setdefault(synset, []).append(model)
        return [
            Record(synset, model, split)
            for synset, models in by_synset.items()
            for model, split in zip(models, split_names(len(models)), strict=True)
        ]

    def read(self, records: Collection[Record]) -> Iterator[tuple[Record, R2n2Files]]:
        """Yields the files of models, in the order in which the archive has them.

        A model whose views are not all there comes last, with those that are.

        Raises:
            UserError: a damaged archive, or one whose views are not beside those of their model.
        """
        waiting = 0
        wanted = {(record.synset, record.model): record for record in records}
        begun: dict[tuple[str, str], dict[str, bytes]] = {}
        with reading(str(self._renderings)):
            for name, data in _stream(self._renderings, "*/*/rendering/*", BOUNDS[RENDERINGS]):
                match = _RENDERING_FILE.fullmatch(name)
                key = (match[1], match[2]) if match else None
                if key not in wanted or match[3] not in _WANTED_FILES:
                    continue
                files = begun.setdefault(key, {})
                files[match[3]] = data
                waiting += len(data)
                if len(files) == len(_WANTED_FILES):
                    waiting -= sum(map(len, files.values()))
                    yield wanted.pop(key), R2n2Files(self._binvox[key], begun.pop(key))
                elif waiting > MAX_WAITING:
                    raise UserError(
                        f"{self._renderings}: got {waiting:,} bytes of views of {len(begun):,} "
                        f"models before any of these has all, expected at most {MAX_WAITING:,}; "
                        "get it again, or pack it model by model"
                    )
        for key, record in wanted.items():
            yield record, R2n2Files(self._binvox[key], begun.get(key, {}))

    def close(self) -> None:
        """Releases what was read."""
        self._binvox = {}


def _stream(path: pathlib.Path, pattern: str, bounds: Bounds) -> Iterator[tuple[str, bytes]]:
    """Yields name and content of the files of an archive or a folder, names with its top."""
    if not path.is_dir():
        with Tar(path, bounds) as archive:
            yield from archive.stream()
        return
    folder = Folder(path.parent, [f"{path.name}/{pattern}"])
    for name in folder.names():
        yield name, folder.read(name)


def split_names(count: int) -> list[str]:
    """Returns the split of each of a synset's models, sorted by id."""
    training = int(_TRAINING_SHARE * count)
    validation = -(-training // round(1 / _VALIDATION_SHARE))
    test = count - training
    return ["train"] * (training - validation) + ["validation"] * validation + ["test"] * test


def missing_message(folder: pathlib.Path) -> str:
    """Returns what to say when `folder` has none of the files."""
    return (
        f"shapenet_r2n2: no voxels and renderings of 3D-R2N2 in {folder}; put {VOXELS}.tgz and "
        f"{RENDERINGS}.tgz there, or the same extracted, from http://3d-r2n2.stanford.edu"
    )


def find_layout(root: pathlib.Path) -> Layout:
    """Returns what is in `root` or directly inside a folder in it; reads no data.

    Raises:
        MissingFilesError: says which file to get and where to put it.
    """
    for folder in search_folders(root):
        found = [_find(folder, name) for name in (VOXELS, RENDERINGS)]
        if all(found):
            return Layout(root, *found)
        if any(found):
            missing = (VOXELS, RENDERINGS)[found.index(None)]
            raise MissingFilesError(
                f"shapenet_r2n2: {folder / missing}.tgz is missing; get it from "
                "http://3d-r2n2.stanford.edu and put it there"
            )
    raise MissingFilesError(missing_message(root))


def _find(folder: pathlib.Path, name: str) -> pathlib.Path | None:
    if is_there(folder / f"{name}.tgz"):
        return folder / f"{name}.tgz"
    return folder / name if (folder / name).is_dir() else None
