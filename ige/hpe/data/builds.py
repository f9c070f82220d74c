"""Builds of data sets of poses."""

import abc
from typing import Any

from ige.data.builds import BuiltDataset
from ige.hpe.data.sequences import PoseSequence
from ige.hpe.skeleton import Skeleton

DATASETS = frozenset({"hpe.h3m_lift", "hpe.human_eva"})
"""The gin configurables of the data sets of poses."""

LOCATIONS = frozenset(
    f"{dataset}.{name}" for dataset in DATASETS for name in ("data_dir", "manual_dir")
)
"""Their parameters that say where the data is; what it is, its provenance says."""

RECORDED = {"recordings": dict, "frames": dict}
"""What their builders record about themselves: recordings per subject, frames per split."""


class PoseDataset(BuiltDataset):
    """A build of a data set of poses; `recorded` has at least `RECORDED`."""

    @property
    @abc.abstractmethod
    def skeleton(self) -> Skeleton:
        """The joints of the 3D poses."""

    @property
    @abc.abstractmethod
    def keypoint_skeleton(self) -> Skeleton | None:
        """The joints of the 2D poses; None if there are none."""

    def sequences(self, split: str) -> list[PoseSequence]:
        """Returns the recordings of a split, 'train' or 'test', by subject and name.

        Raises:
            UserError: an unknown split, or files are missing or damaged.
        """
        sequences = self._examples(split)
        self._check_count(split, "frames", sum(len(s.poses) for s in sequences))
        return sequences


def note_of_skipped(metadata: dict[str, Any]) -> list[str]:
    """Returns what a summary says of the recordings that were left out: that there are some."""
    return ["skipped recordings, which --command=prepare lists"] if metadata["skipped"] else []
