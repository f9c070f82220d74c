"""`h3m_lift`: finds the files, builds the tfds dataset when it has to, reads it back."""

import pathlib
from typing import Any, Literal

import gin

from ige.data.builds import check_choice, choose_folders
from ige.errors import UserError
from ige.hpe.data.builds import RECORDED, PoseDataset
from ige.hpe.data.h3m_lift import detections, sources
from ige.hpe.data.h3m_lift.builder import H3mLift, H3mLiftConfig, read_sequences, summary
from ige.hpe.data.h3m_lift.layouts import LAYOUTS
from ige.hpe.data.h3m_lift.names import SPLITS
from ige.hpe.data.h3m_lift.sources import KEYPOINTS, Source
from ige.hpe.data.h3m_lift.synthetic import SyntheticSpec, write_synthetic
from ige.hpe.data.sequences import PoseSequence
from ige.hpe.skeleton import Skeleton, get_skeleton

DATA = ("auto", *LAYOUTS, "synthetic")


class H3mLiftDataset(PoseDataset):
    """A build of `h3m_lift`, made on the first use. See `h3m_lift` for the arguments."""

    name = "h3m_lift"
    builder = H3mLift
    recorded = RECORDED | {"keypoints": dict}
    splits = tuple(SPLITS)

    def __init__(
        self,
        keypoints: str,
        data: str,
        detections_name: str | None,
        data_dir: pathlib.Path,
        manual_dir: pathlib.Path,
        spec: SyntheticSpec | None,
    ):
        super().__init__(data_dir, manual_dir, generated=spec is not None)
        self._keypoints = keypoints
        self._data = data
        self._detections_name = detections_name
        self._spec = spec

    @property
    def skeleton(self) -> Skeleton:
        return get_skeleton("h36m_32")

    @property
    def keypoint_skeleton(self) -> Skeleton | None:
        """The joints of the 2D poses; None for 'projection', which stores none."""
        if self._keypoints == "projection":
            return None
        if self._keypoints in detections.HOURGLASS_FOLDERS:
            return get_skeleton("mpii_16")
        self.prepare()
        return get_skeleton(self._metadata["keypoints"]["skeleton"])

    def _prefix(self) -> str:
        """Returns what comes before the source of the 2D poses in the name of the config."""
        if self._spec is not None:
            return f"{self._spec.name}-"
        return "" if self._data == "auto" else f"{self._data}-"

    def _config(self, detections_name: str | None) -> str:
        config = self._prefix() + self._keypoints
        return f"{config}-{detections_name}" if self._keypoints == "detections" else config

    def _find(self) -> tuple[Source, pathlib.Path]:
        name = self._detections_name
        if name is None and self._keypoints == "detections":
            found = detections.detection_names(self._manual_dir)
            name = detections.choose_detections(list(found), self._manual_dir)
        layouts = [self._data] if self._data in LAYOUTS else LAYOUTS
        source = sources.find_source(self._manual_dir, layouts, self._keypoints, name)
        return source, self._build_folder(self._config(name))

    def _existing_build(self) -> pathlib.Path | None:
        if self._keypoints != "detections" or self._detections_name is not None:
            folders = [self._build_folder(self._config(self._detections_name))]
        else:
            pattern = f"{self._prefix()}detections-*/{H3mLift.VERSION}"
            folders = sorted((self._data_dir / self.name).glob(pattern))
        whole = [folder for folder in folders if self._whole(folder)]
        if len(whole) > 1:
            names = [f.parent.name.removeprefix(f"{self._prefix()}detections-") for f in whole]
            detections.choose_detections(names, whole[0].parent.parent)
        return whole[0] if whole else None

    def _make_builder(self, source: Source, config: str) -> H3mLift:
        num_keypoints = None
        if source.detections is not None:
            source.detections.load()
            num_keypoints = source.detections.skeleton.num_joints
        if config not in H3mLift.builder_configs:
            config = H3mLiftConfig(
                name=config,
                description=f"2D poses: {self._keypoints}",
                keypoints=self._keypoints,
                num_keypoints=num_keypoints,
            )
        return H3mLift(source=source, config=config, data_dir=str(self._data_dir))

    def _read(self, folder: pathlib.Path, split: str) -> list[PoseSequence]:
        return read_sequences(folder, split)

    def _summary(self, config: str, metadata: dict[str, Any]) -> str:
        return summary(config, metadata)

    def _generate(self, folder: pathlib.Path) -> None:
        write_synthetic(folder, self._spec)


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
    check_choice("h3m_lift.keypoints", keypoints, KEYPOINTS)
    check_choice("h3m_lift.data", data, DATA)
    if detections is not None and keypoints != "detections":
        raise UserError(
            f"h3m_lift.detections: got {detections!r} with keypoints = {keypoints!r}, expected "
            "keypoints = 'detections'; set that, or leave detections out"
        )
    spec = None
    if data == "synthetic":
        spec = SyntheticSpec(
            seed=synthetic_seed,
            sequences=synthetic_sequences,
            frames=synthetic_frames,
        )
    folders = choose_folders("h3m_lift", data_dir, manual_dir, spec and spec.name)
    return H3mLiftDataset(keypoints, data, detections, *folders, spec)
