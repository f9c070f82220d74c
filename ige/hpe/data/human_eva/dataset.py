"""`human_eva`: finds the files, builds the tfds dataset when it has to, reads it back."""

import pathlib
from typing import Any, Literal

import gin
import tensorflow_datasets as tfds

from ige.data.builds import check_choice, choose_folders
from ige.hpe.data.builds import RECORDED, PoseDataset
from ige.hpe.data.human_eva.builder import HumanEva, read_sequences, summary
from ige.hpe.data.human_eva.layouts import LAYOUTS, Layout, find_layout
from ige.hpe.data.human_eva.names import SPLITS
from ige.hpe.data.human_eva.synthetic import SyntheticSpec, write_synthetic
from ige.hpe.data.sequences import PoseSequence
from ige.hpe.skeleton import Skeleton, get_skeleton

DATA = ("auto", *LAYOUTS, "synthetic")


class HumanEvaDataset(PoseDataset):
    """A build of `human_eva`, made on the first use. See `human_eva` for the arguments."""

    name = "human_eva"
    builder = HumanEva
    recorded = RECORDED | {"left_out": dict, "skeleton": str}
    splits = SPLITS

    def __init__(
        self,
        data: str,
        data_dir: pathlib.Path,
        manual_dir: pathlib.Path,
        spec: SyntheticSpec | None,
    ):
        super().__init__(data_dir, manual_dir, generated=spec is not None)
        self._data = data
        self._spec = spec

    @property
    def skeleton(self) -> Skeleton:
        """The joints of the 3D poses: eva_20, or eva_15 of VideoPose3D's file."""
        self.prepare()
        return get_skeleton(self._metadata["skeleton"])

    @property
    def keypoint_skeleton(self) -> None:
        """None: there are no 2D poses."""
        return None

    @property
    def _config_folder(self) -> pathlib.Path:
        return self._build_folder(self._spec.name if self._spec else self._data)

    def _find(self) -> tuple[Layout, pathlib.Path]:
        layouts = [self._data] if self._data in LAYOUTS else LAYOUTS
        return find_layout(self._manual_dir, layouts), self._config_folder

    def _existing_build(self) -> pathlib.Path | None:
        return self._config_folder if self._whole(self._config_folder) else None

    def _make_builder(self, source: Layout, config: str) -> HumanEva:
        if config not in HumanEva.builder_configs:
            config = tfds.core.BuilderConfig(name=config, description=f"{source.kind} files")
        return HumanEva(source=source, config=config, data_dir=str(self._data_dir))

    def _read(self, folder: pathlib.Path, split: str) -> list[PoseSequence]:
        return read_sequences(folder, split)

    def _summary(self, config: str, metadata: dict[str, Any]) -> str:
        return summary(config, metadata)

    def _generate(self, folder: pathlib.Path) -> None:
        write_synthetic(folder, self._spec)


@gin.configurable(module="hpe")
def human_eva(
    data: Literal["auto", "human_eva", "videopose3d", "synthetic"] = "auto",
    data_dir: str | None = None,
    manual_dir: str | None = None,
    synthetic_seed: int = 0,
    synthetic_frames: int = 100,
) -> HumanEvaDataset:
    """HumanEva-I for lifting: poses and cameras. Reads nothing yet.

    The published training partitions (of trial 1, and all of trial 3) are the training split, the
    validation partitions the test split, as in papers: the poses of the test partition were kept
    back.

    Args:
        data: layout of the files; 'auto' takes what is there, 'synthetic' generates people.
        data_dir: tfds folder; default: $TFDS_DATA_DIR, else ~/tensorflow_datasets.
        manual_dir: folder of the files; default: <data_dir>/downloads/manual/human_eva.
        synthetic_seed: seed of the generated people.
        synthetic_frames: frames with poses in every generated partition.

    Raises:
        UserError: an unknown choice.
    """
    check_choice("human_eva.data", data, DATA)
    spec = None
    if data == "synthetic":
        spec = SyntheticSpec(seed=synthetic_seed, frames=synthetic_frames)
    folders = choose_folders("human_eva", data_dir, manual_dir, spec and spec.name)
    return HumanEvaDataset(data, *folders, spec)
