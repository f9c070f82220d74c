"""The layouts in which people have ShapeNetCore on disk: archives or folders, one per synset.

Version 1 has SYNSET/MODEL/model.obj; version 2, which Hugging Face has, one zip per synset too, has
SYNSET/MODEL/models/model_normalized.obj. Either may be zipped or extracted.
"""

import abc
import csv
import dataclasses
import io
import pathlib
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

from ige.data.archives import Archive, Bounds, Folder, Zip, read_file
from ige.data.builds import MissingFilesError
from ige.data.damage import reading
from ige.data.finding import describe, is_there, search_folders
from ige.errors import UserError
from ige.vox.data.names import EXCLUDED
from ige.vox.observations import ModelFiles

SPLIT_FILE = "all.csv"
BOUNDS = Bounds(archive=2**37, members=2_000_000)
"""128 GiB: a zip of tables expands to more than ten, textures included."""

# Ids become names of files.
_MODEL = re.compile(
    r"(?:[^/]+/)?(\d{8})/([\w.-]{1,200})/(?:models/)?(?:model|model_normalized)\.obj", re.ASCII
)
_SYNSET = "[0-9]" * 8
_COLUMNS = ("synsetId", "modelId", "split")
_SPLITS = {"train": "train", "val": "validation", "test": "test"}
"""Name in all.csv -> name of the split."""


@dataclasses.dataclass(frozen=True)
class Record:
    """A model that belongs to a split.

    Attributes:
        synset: '03001627'.
        model: its id.
        split: 'train', 'validation' or 'test'.
        entry: name of its .obj file in the archive.
        archive: the archive or folder.
    """

    synset: str
    model: str
    split: str
    entry: str
    archive: pathlib.Path

    @property
    def origin(self) -> str:
        """Names the file, for messages."""
        return f"{self.archive}: {self.entry}"


class Layout(abc.ABC):
    """Models of ShapeNetCore, and the file that says which split they belong to.

    Attributes:
        kind: name of the layout.
        skipped: what `index` left out, with the reason, counted.
    """

    kind: ClassVar[str]

    def __init__(self, root: pathlib.Path, folder: pathlib.Path, csv_path: pathlib.Path):
        """Args:
        root: folder that file names are given relative to.
        folder: where the synsets are.
        csv_path: all.csv.
        """
        self._root = root
        self._folder = folder
        self._csv = csv_path
        self.skipped: list[str] = []
        self._opened: dict[str, tuple[Archive, dict[str, list[str]]]] = {}

    @cached_property
    @abc.abstractmethod
    def _paths(self) -> dict[str, pathlib.Path]:
        """Synset -> its archive or folder, in order."""

    @abc.abstractmethod
    def _describe(self, path: pathlib.Path) -> dict:
        """Returns name and size of an archive or folder."""

    @abc.abstractmethod
    def _open(self, path: pathlib.Path) -> Archive:
        """Returns the archive of a synset, names beginning with the synset."""

    def files(self) -> list[dict]:
        """Returns name and size of every file that is read, without opening any."""
        return [describe(self._csv, self._root), *map(self._describe, self._paths.values())]

    def _archive(self, synset: str) -> tuple[Archive, dict[str, list[str]]]:
        """Returns the archive of a synset, opened, and its .mtl files by their folder."""
        if synset not in self._opened:
            path = self._paths[synset]
            with reading(str(path)):
                archive = self._open(path)
                materials: dict[str, list[str]] = {}
                for name in archive.names():
                    if name.endswith(".mtl"):
                        materials.setdefault(name.rpartition("/")[0], []).append(name)
            self._opened[synset] = archive, materials
        return self._opened[synset]

    def index(self, synsets: Sequence[str]) -> list[Record]:
        """Returns the models that are there and have a split, by synset and id.

        Args:
            synsets: those to take; none for all that are there.

        Raises:
            UserError: a damaged file, a model that is there twice, or a synset that is not there.
        """
        self.skipped = []
        splits = read_splits(self._csv)
        if unknown := sorted(set(synsets) - set(self._paths)):
            raise UserError(
                f"shapenet_core.synsets: got {', '.join(unknown)}, expected some of "
                f"{', '.join(self._paths)}, which are in {self._folder}; choose of these, or get "
                "the missing files"
            )
        records, without = [], 0
        for synset in sorted(set(synsets)) or self._paths:
            found = self._models(synset)
            for model in sorted(found):
                if (synset, model) in EXCLUDED:
                    self.skipped.append(f"{synset}/{model}: published as empty or broken")
                elif (synset, model) in splits:
                    split = splits[synset, model]
                    records.append(Record(synset, model, split, found[model], self._paths[synset]))
                else:
                    without += 1
            missing = [m for s, m in splits if s == synset and m not in found]
            if missing:
                self.skipped.append(
                    f"{len(missing)} of {synset} that {SPLIT_FILE} has and {self.kind} have not, "
                    f"the first {missing[0]}"
                )
        if not synsets:
            absent = sorted({synset for synset, _ in splits} - set(self._paths))
            models = sum(synset in absent for synset, _ in splits)
            if absent:
                self.skipped.append(
                    f"{models:,} of {len(absent)} synsets that {SPLIT_FILE} has and {self.kind} "
                    f"have not, the first {absent[0]}"
                )
        if without:
            self.skipped.append(f"{without} that {SPLIT_FILE} has not")
        return records

    def _models(self, synset: str) -> dict[str, str]:
        """Returns model -> .obj file of a synset."""
        found: dict[str, str] = {}
        path = self._paths[synset]
        names = self._archive(synset)[0].names()
        for match in filter(None, map(_MODEL.fullmatch, names)):
            if match[1] == synset and found.setdefault(match[2], match[0]) != match[0]:
                raise UserError(
                    f"{path}: {match[0]}: there is also {found[match[2]]}; remove one of them"
                )
        if not found:
            raise UserError(
                f"{path}: got no {synset}/MODEL/model.obj, expected ShapeNetCore's models; get it "
                "again"
            )
        return found

    def read(self, record: Record) -> ModelFiles:
        """Returns the files of a model.

        Raises:
            UserError: a damaged archive.
        """
        archive, materials = self._archive(record.synset)
        beside = materials.get(record.entry.rpartition("/")[0], ())
        with reading(record.origin):
            return ModelFiles(
                record.synset,
                record.model,
                archive.read(record.entry),
                {name.rpartition("/")[2]: archive.read(name) for name in beside},
            )

    def close(self) -> None:
        """Releases the archives."""
        for archive, _ in self._opened.values():
            archive.close()
        self._opened = {}

    def __getstate__(self) -> dict[str, Any]:
        """Returns what another process opens the same archives with."""
        return self.__dict__ | {"_opened": {}}


class ZipLayout(Layout):
    """SYNSET.zip, one for each synset."""

    kind = "zips"

    @cached_property
    def _paths(self) -> dict[str, pathlib.Path]:
        return {path.stem: path for path in sorted(self._folder.glob(f"{_SYNSET}.zip"))}

    def _describe(self, path: pathlib.Path) -> dict:
        return describe(path, self._root)

    def _open(self, path: pathlib.Path) -> Archive:
        return Zip(path, BOUNDS)


class FolderLayout(Layout):
    """SYNSET/, one for each synset."""

    kind = "folders"
    _patterns = tuple(
        f"{_SYNSET}/*/{below}*.{suffix}" for below in ("", "models/") for suffix in ("obj", "mtl")
    )

    @cached_property
    def _paths(self) -> dict[str, pathlib.Path]:
        found = sorted(path for path in self._folder.glob(_SYNSET) if path.is_dir())
        return {path.name: path for path in found}

    def _describe(self, path: pathlib.Path) -> dict:
        return describe(path, self._root, [p.partition("/")[2] for p in self._patterns])

    def _open(self, path: pathlib.Path) -> Archive:
        return Folder(path.parent, [p.replace(_SYNSET, path.name) for p in self._patterns])


_LAYOUTS = {layout.kind: layout for layout in (ZipLayout, FolderLayout)}
LAYOUTS = tuple(_LAYOUTS)

_WANTED = {
    "zips": "02691156.zip and so on, the archives of ShapeNetCore.v1, from https://shapenet.org or "
    "its organisation on Hugging Face (registration required)",
    "folders": "02691156/ and so on, the same extracted",
}


def missing_message(folder: pathlib.Path, layouts: Sequence[str] = LAYOUTS) -> str:
    """Returns what to say when `folder` has none of the files that `layouts` need."""
    wanted = "".join(f"\n  {_WANTED[layout]}" for layout in layouts)
    either = "one of these" if len(layouts) > 1 else "this"
    return (
        f"shapenet_core: no models of ShapeNetCore in {folder}; put {either} there:{wanted}\n"
        f"with {SPLIT_FILE}, the splits of SHREC16, from https://shapenet.org\n"
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
            pattern = f"{_SYNSET}.zip" if kind == "zips" else f"{_SYNSET}/*/"
            if not any(folder.glob(pattern)):
                continue
            for beside in (folder, root):
                if is_there(beside / SPLIT_FILE):
                    return _LAYOUTS[kind](root, folder, beside / SPLIT_FILE)
            raise MissingFilesError(
                f"shapenet_core: {folder / SPLIT_FILE} is missing: it has the splits; get it from "
                "https://shapenet.org (SHREC16) and put it there"
            )
    raise MissingFilesError(missing_message(root, kinds))


def read_splits(path: pathlib.Path) -> dict[tuple[str, str], str]:
    """Returns (synset, model) -> split of an all.csv.

    Raises:
        UserError: a damaged file, an unknown split, or a model that is there twice.
    """
    with reading(str(path)):
        text = read_file(path).decode("utf-8-sig")
        rows = csv.reader(io.StringIO(text), strict=True)
        return _splits([(rows.line_num, row) for row in rows if row], str(path))


def _splits(rows: list[tuple[int, list[str]]], path: str) -> dict[tuple[str, str], str]:
    header = [name.strip() for name in rows[0][1]] if rows else []
    if missing := [name for name in _COLUMNS if name not in header]:
        raise UserError(
            f"{path}: got no column {', '.join(missing)}, expected the header "
            "id,synsetId,subSynsetId,modelId,split; get the file again"
        )
    columns = [header.index(name) for name in _COLUMNS]
    splits: dict[tuple[str, str], str] = {}
    for line, row in rows[1:]:
        if len(row) != len(header):
            raise UserError(
                f"{path}: line {line}: got {len(row)} columns, expected {len(header)}; get the "
                "file again"
            )
        synset, model, split = (row[column].strip() for column in columns)
        synset = synset.zfill(8)  # of which spreadsheets take the zeros
        if split not in _SPLITS:
            raise UserError(
                f"{path}: line {line}: split: got {split!r:.60}, expected one of "
                f"{', '.join(_SPLITS)}; get the file again"
            )
        if splits.setdefault((synset, model), _SPLITS[split]) != _SPLITS[split]:
            raise UserError(
                f"{path}: line {line}: {synset}/{model} is in two splits; get the file again"
            )
    return splits
