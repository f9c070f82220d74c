"""Builds of data sets of shapes."""

import pathlib

from ige.data.builds import BuiltDataset
from ige.vox.data.shapes import Shape, read_shapes

DATASETS = frozenset({"vox.shapenet_core", "vox.shapenet_r2n2"})
"""The gin configurables of the data sets of shapes."""

LOCATIONS = frozenset(
    f"{dataset}.{name}" for dataset in DATASETS for name in ("data_dir", "manual_dir")
) | {"vox.shapenet_core.processes"}
"""Their parameters that say where the data is; what it is, its provenance says."""

RECORDED = {"models": dict}
"""What their builders record about themselves: models per split."""


class ShapeDataset(BuiltDataset):
    """A build of a data set of shapes; `recorded` has at least `RECORDED`."""

    def shapes(self, split: str, views: int | None = None) -> list[Shape]:
        """Returns the models of a split, by synset and id.

        Args:
            split: 'train', 'validation' or 'test'.
            views: how many views of each to keep in memory, the first; None for all.

        Raises:
            UserError: an unknown split, or files are missing or damaged.
        """
        shapes = self._examples(split, views=views)
        self._check_count(split, "models", len(shapes))
        return shapes

    def _read(self, folder: pathlib.Path, split: str, views: int | None = None) -> list[Shape]:
        return read_shapes(folder, split, views)
