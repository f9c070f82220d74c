"""`shapenet_r2n2`: finds the files, builds the tfds dataset when it has to, reads it back."""

import pathlib

import gin

from ige.data.builds import check_integer, choose_folders
from ige.data.workers import available_cores
from ige.vox.data.builds import RECORDED, ShapeDataset
from ige.vox.data.names import SPLITS
from ige.vox.data.shapenet_r2n2.builder import ShapenetR2n2
from ige.vox.data.shapenet_r2n2.layouts import Layout, find_layout


class ShapenetR2n2Dataset(ShapeDataset):
    """A build of `shapenet_r2n2`, made on the first use. See `shapenet_r2n2` for the arguments."""

    name = "shapenet_r2n2"
    builder = ShapenetR2n2
    recorded = RECORDED
    splits = SPLITS

    def __init__(self, processes: int, data_dir: pathlib.Path, manual_dir: pathlib.Path):
        super().__init__(data_dir, manual_dir, generated=False)
        self._processes = processes

    @property
    def _config_folder(self) -> pathlib.Path:
        return self._build_folder("published")

    def _find(self) -> tuple[Layout, pathlib.Path]:
        return find_layout(self._manual_dir), self._config_folder

    def _existing_build(self) -> pathlib.Path | None:
        return self._config_folder if self._whole(self._config_folder) else None

    def _make_builder(self, source: Layout, config: str) -> ShapenetR2n2:
        return ShapenetR2n2(
            source=source, processes=self._processes, config=config, data_dir=str(self._data_dir)
        )


@gin.configurable(module="vox")
def shapenet_r2n2(
    processes: int | None = None, data_dir: str | None = None, manual_dir: str | None = None
) -> ShapenetR2n2Dataset:
    """Voxels and renderings of 3D-R2N2, 13 synsets, 24 views, no depths. Reads nothing yet.

    Args:
        processes: that check images; None for one on each core.
        data_dir: tfds folder; default: $TFDS_DATA_DIR, else ~/tensorflow_datasets.
        manual_dir: folder of the files; default: <data_dir>/downloads/manual/shapenet_r2n2.

    Raises:
        UserError: a number out of range, or no such folder.
    """
    if processes is None:
        processes = available_cores()
    check_integer("shapenet_r2n2.processes", processes, 1, 1024)
    folders = choose_folders("shapenet_r2n2", data_dir, manual_dir, None)
    return ShapenetR2n2Dataset(processes, *folders)
