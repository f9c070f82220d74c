"""What every reader checks: a sequence is cut where poses are missing, and nothing else is lost."""

from typing import NamedTuple

import numpy as np


class Reading(NamedTuple):
    """What was read of one published part of a recording.

    Attributes:
        chunks: number of the run -> poses (n, joints, 3) float32 mm, world frame, z up.
        frames: published frames, of which those in no chunk have no pose.
    """

    chunks: dict[int, np.ndarray]
    frames: int

    @property
    def left_out(self) -> int:
        return self.frames - sum(len(poses) for poses in self.chunks.values())


def cut(poses: np.ndarray) -> dict[int, np.ndarray]:
    """Returns the runs of frames of poses (n, joints, 3) that are finite, by number, as float32.

    Runs that are not finite are counted too: of the frames 012XX567X9 the runs are 0: 012, 2: 567
    and 4: 9.
    """
    with np.errstate(over="ignore"):
        poses = poses.astype(np.float32)
    valid = np.isfinite(poses).all(axis=(1, 2))
    starts = np.flatnonzero(np.diff(valid, prepend=~valid[:1]))
    ends = np.append(starts[1:], len(valid))
    return {
        number: poses[start:end]
        for number, (start, end) in enumerate(zip(starts, ends, strict=True))
        if valid[start]
    }
