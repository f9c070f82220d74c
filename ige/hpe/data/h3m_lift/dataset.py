"""`h3m_lift`: finds the files, builds the tfds dataset when it has to, reads it back."""

import contextlib
import io
import json
import os
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from typing import Any, Literal

import gin
import tensorflow as tf
import tensorflow_datasets as tfds
from absl import logging
from tensorflow_datasets.core.dataset_info import json_format

from ige.data.damage import DAMAGE, one_line
from ige.errors import UserError, nearest
from ige.files import lock
from ige.hpe.data.h3m_lift import detections, sources
from ige.hpe.data.h3m_lift.builder import (
    H3mLift,
    H3mLiftConfig,
    PoseSequence,
    read_sequences,
    summary,
)
from ige.hpe.data.h3m_lift.checks import MissingFilesError
from ige.hpe.data.h3m_lift.layouts import LAYOUTS
from ige.hpe.data.h3m_lift.names import SPLITS
from ige.hpe.data.h3m_lift.sources import KEYPOINTS, Source
from ige.hpe.data.h3m_lift.synthetic import SyntheticSpec, write_synthetic
from ige.hpe.skeleton import Skeleton, get_skeleton

DATA = ("auto", *LAYOUTS, "synthetic")
_NAME = "h3m_lift"
_METADATA = "metadata.json"
_INFO = "dataset_info.json"
_UNFINISHED = ".unfinished-"


class H3mLiftDataset:
    """A build of `h3m_lift`, made on the first use. See `h3m_lift` for the arguments."""

    def __init__(
        self,
        keypoints: str,
        data: str,
        detections_name: str | None,
        data_dir: pathlib.Path,
        manual_dir: pathlib.Path,
        spec: SyntheticSpec | None,
    ):
        self._keypoints = keypoints
        self._data = data
        self._detections_name = detections_name
        self._data_dir = data_dir
        self._manual_dir = manual_dir
        self._spec = spec
        self._folder: pathlib.Path | None = None
        self._metadata: dict[str, Any] = {}

    def prepare(self) -> None:
        """Builds the dataset unless an up-to-date build is there; cheap when it is.

        One process builds at a time; others wait for it and use what it built.

        Raises:
            UserError: files are missing or damaged, or change meanwhile.
        """
        if self._folder is not None:
            return
        path = self._data_dir / _NAME / ".lock"
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
                _write_archives(self._manual_dir, self._spec)
            self._build(*self._locate())
            if not self._take_build():
                raise UserError(
                    f"h3m_lift: the files in {self._manual_dir} changed while they were read; run "
                    "the command again"
                )

    @property
    def _to_be_generated(self) -> bool:
        return self._spec is not None and not self._manual_dir.is_dir()

    def _take_build(self) -> bool:
        """Whether there is a whole build of the files that are there; from then on it is used."""
        try:
            source, folder = self._locate()
        except MissingFilesError:
            if self._to_be_generated:
                return False
            raise
        recorded = _recorded(folder)
        if source is not None and _difference(recorded, source):
            return False
        self._metadata, self._folder = recorded, folder
        return True

    def _say_held(self, holder: str) -> None:
        _notice(f"{holder} is building in {self._data_dir / _NAME}; waiting until it is done")

    def _remove_unfinished(self) -> None:
        """Removes what killed processes were building; called while no other one builds."""
        # tfds keeps a build, and a file beside the builds, under such a name until it is whole.
        for path in (self._data_dir / _NAME).glob("*/incomplete.*"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        if self._spec is not None:
            for path in self._manual_dir.parent.glob(f"{_UNFINISHED}*"):
                shutil.rmtree(path)

    def sequences(self, split: str) -> list[PoseSequence]:
        """Returns the recordings of a split, 'train' or 'test', by subject and name.

        Raises:
            UserError: an unknown split, or files are missing or damaged.
        """
        if split not in SPLITS:
            raise UserError(
                f"h3m_lift: split: got {split!r}, expected one of {', '.join(SPLITS)}; "
                f"{nearest(split, SPLITS)}"
            )
        self.prepare()
        try:
            with _quiet():
                sequences = read_sequences(self._folder, split)
        except (*DAMAGE, tf.errors.OpError, json_format.Error) as error:
            raise UserError(
                f"{self._folder}: cannot be read: {one_line(error)}; delete this folder to build "
                "it again"
            ) from error
        frames, recorded = sum(len(s.poses) for s in sequences), self._metadata["frames"].get(split)
        if frames != recorded:
            raise UserError(
                f"{self._folder}: got {frames} frames in the {split} split, expected {recorded}; "
                "delete this folder to build it again"
            )
        return sequences

    @property
    def keypoint_skeleton(self) -> Skeleton | None:
        """The joints of the 2D poses; None for 'projection', which stores none."""
        if self._keypoints == "projection":
            return None
        if self._keypoints in detections.HOURGLASS_FOLDERS:
            return get_skeleton("mpii_16")
        self.prepare()
        return get_skeleton(self._metadata["keypoints"]["skeleton"])

    @property
    def provenance(self) -> dict[str, Any]:
        """Which data this is: name, version, config, layout, files with sizes, counts."""
        self.prepare()
        return {
            "dataset": _NAME,
            "version": str(H3mLift.VERSION),
            "config": self._folder.parent.name,
            **self._metadata,
        }

    def _prefix(self) -> str:
        """Returns what comes before the source of the 2D poses in the name of the config."""
        if self._spec is not None:
            return f"{self._spec.name}-"
        return "" if self._data == "auto" else f"{self._data}-"

    def _build_folder(self, detections_name: str | None) -> pathlib.Path:
        config = self._prefix() + self._keypoints
        if self._keypoints == "detections":
            config += f"-{detections_name}"
        return self._data_dir / _NAME / config / str(H3mLift.VERSION)

    def _locate(self) -> tuple[Source | None, pathlib.Path]:
        """Returns the files, None if they are gone but a build exists, and the build's folder.

        Raises:
            MissingFilesError: there is neither.
            UserError: it is not clear which files are meant.
        """
        name = self._detections_name
        try:
            if self._to_be_generated:
                raise MissingFilesError("generated data has not been written")
            if name is None and self._keypoints == "detections":
                found = detections.detection_names(self._manual_dir)
                name = detections.choose_detections(list(found), self._manual_dir)
            return self._find_source(name), self._build_folder(name)
        except MissingFilesError:
            if folder := self._existing_build():
                return None, folder
            raise

    def _find_source(self, detections_name: str | None) -> Source:
        layouts = [self._data] if self._data in LAYOUTS else LAYOUTS
        return sources.find_source(self._manual_dir, layouts, self._keypoints, detections_name)

    def _existing_build(self) -> pathlib.Path | None:
        """Returns the folder of a whole build that fits, made from files that may be gone."""
        if self._keypoints != "detections" or self._detections_name is not None:
            folders = [self._build_folder(self._detections_name)]
        else:
            pattern = f"{self._prefix()}detections-*/{H3mLift.VERSION}"
            folders = sorted((self._data_dir / _NAME).glob(pattern))
        whole = [folder for folder in folders if _recorded(folder)]
        if len(whole) > 1:
            names = [f.parent.name.removeprefix(f"{self._prefix()}detections-") for f in whole]
            detections.choose_detections(names, whole[0].parent.parent)
        return whole[0] if whole else None

    def _build(self, source: Source, folder: pathlib.Path) -> None:
        """Builds into a temporary folder that takes the place of `folder` when it is whole."""
        if folder.exists():
            difference = _difference(_recorded(folder), source)
            _notice(f"{folder.parent.name}: {difference}; building it again")
            # Removed first: without it, what is left of the old build is no whole one.
            (folder / _METADATA).unlink(missing_ok=True)
            shutil.rmtree(folder)
        num_keypoints = None
        if source.detections is not None:
            source.detections.load()
            num_keypoints = source.detections.skeleton.num_joints
        config = folder.parent.name
        if config not in H3mLift.builder_configs:
            config = H3mLiftConfig(
                name=config,
                description=f"2D poses: {self._keypoints}",
                keypoints=self._keypoints,
                num_keypoints=num_keypoints,
            )
        try:
            with _quiet():
                builder = H3mLift(source=source, config=config, data_dir=str(self._data_dir))
                builder.download_and_prepare()
        finally:
            source.layout.close()
            if source.detections is not None:
                source.detections.close()
        _notice(summary(config if isinstance(config, str) else config.name, builder.info.metadata))


def _leave(holder: str) -> None:
    raise UserError(f"{holder} is building")


def _notice(text: str) -> None:
    """Says one line; not on standard output, which is for results."""
    print(f"{_NAME}: {text}", file=sys.stderr)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps from users what tfds says on the way; our own progress bar counts recordings."""
    tfds.disable_progress_bar()
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)


def _recorded(folder: pathlib.Path) -> dict[str, Any]:
    """Returns what a whole build recorded about itself; empty if there is none."""
    if not (folder / _INFO).is_file() or not (folder / _METADATA).is_file():
        return {}
    try:
        recorded = json.loads((folder / _METADATA).read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return {}
    return recorded if _is_record(recorded) else {}


def _is_record(recorded: Any) -> bool:
    """Whether `recorded` has what a whole build records about itself."""
    kinds = {
        "layout": str,
        "files": list,
        "recordings": dict,
        "frames": dict,
        "keypoints": dict,
        "skipped": list,
    }
    return (
        isinstance(recorded, dict)
        and all(isinstance(recorded.get(key), kind) for key, kind in kinds.items())
        and all(isinstance(entry, dict) and "name" in entry for entry in recorded["files"])
    )


def _difference(recorded: dict[str, Any], source: Source) -> str:
    """Returns how the files differ from those that a build was made from; empty if they do not."""
    if not recorded:
        return "there is no whole build"
    if recorded["layout"] != source.layout.kind:
        return f"made from {recorded['layout']} files, {source.layout.kind} files are there now"
    before = {entry["name"]: entry for entry in recorded["files"]}
    now = {entry["name"]: entry for entry in source.files()}
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return f"{', '.join(changed)} changed since it was made" if changed else ""


def _write_archives(folder: pathlib.Path, spec: SyntheticSpec) -> None:
    """Writes generated archives under a temporary name, then renames their folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=_UNFINISHED) as temporary:
        whole = pathlib.Path(temporary) / "whole"
        whole.mkdir()
        write_synthetic(whole, spec)
        whole.rename(folder)


def _choice(argument: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UserError(
            f"h3m_lift.{argument}: got {value!r}, expected one of {', '.join(known)}; "
            f"{nearest(str(value), known)}"
        )


def _folder(path: str | os.PathLike) -> pathlib.Path:
    return pathlib.Path(path).expanduser()


@gin.configurable(module="hpe")
def h3m_lift(
    keypoints: Literal["projection", "hourglass", "finetuned", "detections"] = "projection",
    data: Literal["auto", "baseline", "official", "videopose3d", "synthetic"] = "auto",
    detections: str | None = None,
    data_dir: str | None = None,
    manual_dir: str | None = None,
    synthetic_seed: int = 0,
    synthetic_sequences: int = 2,
    synthetic_frames: int = 200,
) -> H3mLiftDataset:
    """Human3.6M for lifting: poses, cameras, and 2D detections if asked for. Reads nothing yet.

    Args:
        keypoints: 2D poses to read: none, because they are projected from 3D ('projection'),
            stacked hourglasses trained on MPII ('hourglass') or fine-tuned ('finetuned'), or those
            of an archive in VideoPose3D's layout ('detections').
        data: layout of the files; 'auto' takes what is there, 'synthetic' generates people.
        detections: NAME of the archive data_2d_h36m_NAME.npz; None for the only one.
        data_dir: tfds folder; default: $TFDS_DATA_DIR, else ~/tensorflow_datasets.
        manual_dir: folder of the files; default: <data_dir>/downloads/manual/h3m_lift.
        synthetic_seed: seed of the generated people.
        synthetic_sequences: generated recordings per subject and action.
        synthetic_frames: frames of each.

    Raises:
        UserError: an unknown choice, or `detections` where none are read.
    """
    _choice("keypoints", keypoints, KEYPOINTS)
    _choice("data", data, DATA)
    if detections is not None and keypoints != "detections":
        raise UserError(
            f"h3m_lift.detections: got {detections!r} with keypoints = {keypoints!r}, expected "
            "keypoints = 'detections'; set that, or leave detections out"
        )
    root = _folder(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    spec = None
    if data == "synthetic":
        spec = SyntheticSpec(
            seed=synthetic_seed,
            sequences=synthetic_sequences,
            frames=synthetic_frames,
        )
        manual = root / "downloads" / "generated" / _NAME / spec.name
    else:
        manual = _folder(manual_dir or root / "downloads" / "manual" / _NAME)
        if manual_dir is not None and not manual.is_dir():
            raise UserError(
                f"h3m_lift.manual_dir: no folder {manual}; give the folder that holds the files"
            )
    return H3mLiftDataset(keypoints, data, detections, root, manual, spec)
