"""Builds of tfds data sets: made on the first use, taken as they are, made again, or refused."""

import abc
import contextlib
import io
import json
import operator
import os
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Protocol

import tensorflow as tf
import tensorflow_datasets as tfds
from absl import logging
from tensorflow_datasets.core.dataset_info import json_format

from ige.data.damage import DAMAGE, one_line
from ige.errors import UserError, nearest
from ige.files import lock

_METADATA = "metadata.json"
_INFO = "dataset_info.json"
_UNFINISHED = ".unfinished-"
_REPLACED = "replaced."
_KINDS = {"layout": str, "files": list, "skipped": list}


class MissingFilesError(UserError):
    """Files that somebody has to get first; not raised for files that are there but damaged."""


class Source(Protocol):
    """The files of one build.

    Attributes:
        kind: name of their layout.
    """

    kind: str

    def files(self) -> list[dict]:
        """Returns name and size of every file, without opening any."""

    def close(self) -> None:
        """Releases the files."""


class BuiltDataset(abc.ABC):
    """A build of a tfds data set, made on the first use.

    One whose files have changed is made again; one whose files are gone is taken as it is.

    Attributes:
        name: name of the data set.
        builder: the tfds builder. What it records about itself (`metadata`) has at least a layout,
            files, and what was skipped.
        recorded: what else it records, by name, with the type of each.
        splits: names of the splits.
    """

    name: ClassVar[str]
    builder: ClassVar[type[tfds.core.GeneratorBasedBuilder]]
    recorded: ClassVar[dict[str, type]]
    splits: ClassVar[Sequence[str]]

    def __init__(self, data_dir: pathlib.Path, manual_dir: pathlib.Path, generated: bool):
        """Args:
        data_dir: tfds folder.
        manual_dir: folder of the files.
        generated: whether the files are generated when their folder is missing.
        """
        self._data_dir = data_dir
        self._manual_dir = manual_dir
        self._generated = generated
        self._folder: pathlib.Path | None = None
        self._metadata: dict[str, Any] = {}

    @abc.abstractmethod
    def _find(self) -> tuple[Source, pathlib.Path]:
        """Returns the files, and the folder of the build that belongs to them.

        Raises:
            MissingFilesError: there are none.
            UserError: it is not clear which files are meant.
        """

    @abc.abstractmethod
    def _existing_build(self) -> pathlib.Path | None:
        """Returns the folder of a whole build that fits, made from files that may be gone."""

    @abc.abstractmethod
    def _make_builder(self, source: Source, config: str) -> tfds.core.GeneratorBasedBuilder:
        """Returns the builder of the config of that name, which reads `source`."""

    @abc.abstractmethod
    def _read(self, folder: pathlib.Path, split: str, **how: Any) -> list[Any]:
        """Returns every example of a split of a build, in the order of the data set."""

    @abc.abstractmethod
    def _summary(self, config: str, metadata: dict[str, Any]) -> str:
        """Returns what a build is made of, in one line."""

    def _download_config(self) -> tfds.download.DownloadConfig | None:
        """Returns how tfds is to build; None for its defaults."""
        return None

    def _generate(self, folder: pathlib.Path) -> None:
        """Writes generated files into an empty folder, for data sets that have such."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Builds the data set unless an up-to-date build is there; cheap when it is.

        One process builds at a time; others wait for it and use what it built.

        Raises:
            UserError: files are missing or damaged, or change meanwhile.
        """
        if self._folder is not None:
            return
        path = self._data_dir / self.name / ".lock"
        if self._take_build():
            if path.exists():
                # Of a killed process, unless one is building something else just now.
                with contextlib.suppress(UserError), lock(path, _leave):
                    self._remove_unfinished()
            return
        with lock(path, self._say_held):
            self._remove_unfinished()
            if self._take_build():  # another process built it meanwhile
                return
            if self._to_be_generated:
                self._write_generated()
            self._build(*self._locate())
            if not self._take_build():
                raise UserError(
                    f"{self.name}: the files in {self._manual_dir} changed while they were read; "
                    "run the command again"
                )

    def _examples(self, split: str, **how: Any) -> list[Any]:
        """Returns every example of a split, and builds before if it has to.

        Args:
            split: its name.
            **how: for `_read`.

        Raises:
            UserError: an unknown split, or files are missing or damaged.
        """
        if split not in self.splits:
            raise UserError(
                f"{self.name}: split: got {split!r}, expected one of {', '.join(self.splits)}; "
                f"{nearest(split, self.splits)}"
            )
        self.prepare()
        try:
            with _quiet():
                return self._read(self._folder, split, **how)
        except (*DAMAGE, tf.errors.OpError, json_format.Error) as error:
            raise UserError(
                f"{self._folder}: cannot be read: {one_line(error)}; delete this folder to build "
                "it again"
            ) from error

    def _check_count(self, split: str, unit: str, count: int) -> None:
        """Raises a UserError unless a split has as many frames, say, as were built."""
        recorded = self._metadata[unit].get(split)
        if count != recorded:
            raise UserError(
                f"{self._folder}: got {count} {unit} in the {split} split, expected {recorded}; "
                "delete this folder to build it again"
            )

    @property
    def provenance(self) -> dict[str, Any]:
        """Which data this is: name, version, config, layout, files with sizes, counts."""
        self.prepare()
        return {
            "dataset": self.name,
            "version": str(self.builder.VERSION),
            "config": self._folder.parent.name,
            **self._metadata,
        }

    @property
    def _to_be_generated(self) -> bool:
        return self._generated and not self._manual_dir.is_dir()

    def _build_folder(self, config: str) -> pathlib.Path:
        return self._data_dir / self.name / config / str(self.builder.VERSION)

    def _whole(self, folder: pathlib.Path) -> dict[str, Any]:
        """Returns what the build in a folder recorded about itself; empty if none is whole."""
        return read_record(folder, self.recorded)

    def _take_build(self) -> bool:
        """Whether there is a whole build of the files that are there; from then on it is used."""
        try:
            source, folder = self._locate()
        except MissingFilesError:
            if self._to_be_generated:
                return False
            raise
        recorded = self._whole(folder)
        if source is not None and difference(recorded, source):
            return False
        self._metadata, self._folder = recorded, folder
        return True

    def _locate(self) -> tuple[Source | None, pathlib.Path]:
        """Returns the files, None if they are gone but a build exists, and the build's folder.

        Raises:
            MissingFilesError: there is neither.
            UserError: it is not clear which files are meant.
        """
        try:
            if self._to_be_generated:
                raise MissingFilesError("generated data has not been written")
            return self._find()
        except MissingFilesError:
            if folder := self._existing_build():
                return None, folder
            raise

    def _build(self, source: Source, folder: pathlib.Path) -> None:
        """Builds into a temporary folder that takes the place of `folder` when it is whole; if that
        fails, or is interrupted, the old build stays."""
        config = folder.parent.name
        replaced = folder.with_name(f"{_REPLACED}{folder.name}")
        if folder.exists():
            self._notice(f"{config}: {difference(self._whole(folder), source)}; building it again")
            folder.rename(replaced)
        try:
            with _quiet():
                builder = self._make_builder(source, config)
                builder.download_and_prepare(download_config=self._download_config())
        finally:
            source.close()
            _settle(replaced)
        self._notice(self._summary(config, builder.info.metadata))

    def _write_generated(self) -> None:
        """Writes generated files under a temporary name, then renames their folder."""
        self._manual_dir.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            dir=self._manual_dir.parent, prefix=_UNFINISHED
        ) as temporary:
            whole = pathlib.Path(temporary) / "whole"
            whole.mkdir()
            self._generate(whole)
            whole.rename(self._manual_dir)

    def _remove_unfinished(self) -> None:
        """Removes what killed processes were building, and puts back what they were replacing;
        called while no other one builds."""
        for path in (self._data_dir / self.name).glob(f"*/{_REPLACED}*"):
            _settle(path)
        # tfds keeps a build, and a file beside the builds, under such a name until it is whole.
        for path in (self._data_dir / self.name).glob("*/incomplete.*"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        if self._generated:
            for path in self._manual_dir.parent.glob(f"{_UNFINISHED}*"):
                shutil.rmtree(path)

    def _say_held(self, holder: str) -> None:
        self._notice(
            f"{holder} is building in {self._data_dir / self.name}; waiting until it is done"
        )

    def _notice(self, text: str) -> None:
        """Says one line; not on standard output, which is for results."""
        print(f"{self.name}: {text}", file=sys.stderr)


def _leave(holder: str) -> None:
    raise UserError(f"{holder} is building")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps from users what tfds says on the way; our own progress bars count examples."""
    tfds.disable_progress_bar()
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)


def read_record(folder: pathlib.Path, more: dict[str, type]) -> dict[str, Any]:
    """Returns what a whole build recorded about itself; empty if there is none.

    Args:
        folder: the build, `<data_dir>/<name>/<config>/<version>`.
        more: what this data set records beside what all of them do, and the type of each.
    """
    if not (folder / _INFO).is_file() or not (folder / _METADATA).is_file():
        return {}
    try:
        recorded = json.loads((folder / _METADATA).read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return {}
    return recorded if _is_record(recorded, _KINDS | more) else {}


def _is_record(recorded: Any, kinds: dict[str, type]) -> bool:
    return (
        isinstance(recorded, dict)
        and all(isinstance(recorded.get(key), kind) for key, kind in kinds.items())
        and all(isinstance(entry, dict) and "name" in entry for entry in recorded["files"])
    )


def difference(recorded: dict[str, Any], source: Source) -> str:
    """Returns how the files differ from those that a build was made from; empty if they do not."""
    if not recorded:
        return "there is no whole build"
    if recorded["layout"] != source.kind:
        return f"made from {recorded['layout']} files, {source.kind} files are there now"
    before = {entry["name"]: entry for entry in recorded["files"]}
    now = {entry["name"]: entry for entry in source.files()}
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return f"{', '.join(changed)} changed since it was made" if changed else ""


def check_choice(parameter: str, value: str, known: Sequence[str]) -> None:
    """Raises a UserError unless `value` is among those known of a parameter, 'h3m_lift.data'."""
    if value not in known:
        raise UserError(
            f"{parameter}: got {value!r}, expected one of {', '.join(known)}; "
            f"{nearest(str(value), known)}"
        )


def _settle(replaced: pathlib.Path) -> None:
    """Removes an old build if another took its place; else puts it back."""
    folder = replaced.with_name(replaced.name.removeprefix(_REPLACED))
    if not replaced.exists():
        return
    if not folder.exists():
        replaced.rename(folder)
        return
    # Removed first: without it, what is left of the old build is no whole one.
    (replaced / _METADATA).unlink(missing_ok=True)
    shutil.rmtree(replaced)


def check_integer(name: str, value: int, low: int, high: int) -> None:
    """Raises UserError unless `value` is an integer from `low` to `high`."""
    try:
        within = not isinstance(value, bool) and low <= operator.index(value) <= high
    except TypeError:
        within = False
    if not within:
        raise UserError(
            f"{name}: got {value!r}, expected an integer from {low} to {high}; set {name} to one"
        )


def choose_folders(
    name: str, data_dir: str | None, manual_dir: str | None, generated: str | None
) -> tuple[pathlib.Path, pathlib.Path]:
    """Returns the tfds folder and the folder of the files of a data set.

    Args:
        name: name of the data set.
        data_dir: tfds folder; None for $TFDS_DATA_DIR, or ~/tensorflow_datasets.
        manual_dir: folder of the files; None for the one that tfds has for them.
        generated: name of the generated data, None for real data.

    Raises:
        UserError: there is no folder `manual_dir`.
    """
    root = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    root = pathlib.Path(root).expanduser()
    if generated is not None:
        return root, root / "downloads" / "generated" / name / generated
    manual = pathlib.Path(manual_dir or root / "downloads" / "manual" / name).expanduser()
    if manual_dir is not None and not manual.is_dir():
        raise UserError(
            f"{name}.manual_dir: no folder {manual}; give the folder that holds the files"
        )
    return root, manual
