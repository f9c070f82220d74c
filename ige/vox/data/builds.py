"""Builds of data sets of shapes."""

import pathlib
from collections.abc import Sequence
from typing import Any

from ige.data.builds import BuiltDataset
from ige.errors import UserError
from ige.vox.data.shapes import Shape, read_shapes

DATASETS = frozenset({"vox.shapenet_core", "vox.shapenet_r2n2"})
"""The gin configurables of the data sets of shapes."""

LOCATIONS = (
    frozenset(f"{dataset}.{name}" for dataset in DATASETS for name in ("data_dir", "manual_dir"))
    | {f"vox.{name}.processes" for name in ("shapenet_core", "shapenet_r2n2")}
    | {"vox.shapenet_core.beam_options"}
)
"""Their parameters that say where the data is; what it is, its provenance says."""

RECORDED = {"models": dict, "refused": dict}
"""What their builders record about themselves: models per split, and those that could not be used
by reason."""


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

    def _summary(self, config: str, metadata: dict[str, Any]) -> str:
        models = metadata["models"]
        counts = ", ".join(f"{split} {count:,}" for split, count in models.items())
        parts = [
            f"built {config} from {metadata['layout']}: {sum(models.values()):,} models ({counts})"
        ]
        parts += [
            f"refused {len(names):,} because it {reason}, the first {names[0]}"
            for reason, names in metadata["refused"].items()
        ]
        parts += [f"skipped {text}" for text in metadata["skipped"]]
        return "; ".join(parts)


def check_split(dataset: str, split: str, there: int, refused: Sequence[str] = ()) -> None:
    """Raises a UserError unless a split has a model, which tfds needs.

    Args:
        dataset: its name.
        split: name of the split.
        there: how many models it has files of.
        refused: what is wrong with those that cannot be used.
    """
    if there == 0:
        raise UserError(
            f"{dataset}: got no models of the {split} split, expected one at least; get the "
            "missing files"
        )
    if len(refused) == there:
        raise UserError(
            f"{dataset}: got {there:,} models of the {split} split that cannot be used, expected "
            f"one at least that can; the first: {refused[0]}; get the files again"
        )
