"""Poses as the prior has them: of unit height, turned to the front, over the origin.

Jack et al., "Adversarially Parameterized Optimization for 3D Human Pose Estimation", 3DV 2017. The
frame is the world's: z up, 0 on the floor.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ige.errors import UserError
from ige.hpe.skeleton import Skeleton

_HEAD = "head_top"
_FEET = ("toes", "ankle")


def heights(sequences: Iterable[Any], skeleton: Skeleton) -> dict[str, float]:
    """Returns subject -> the largest distance between head and midpoint of the feet, in the unit
    of the poses.

    Feet are toes, where there are any, else ankles.

    Args:
        sequences: with `subject` and `poses` (n, J, 3).
        skeleton: joints of the poses.

    Raises:
        UserError: the skeleton has no head or no feet, or a subject has no height.
    """
    foot = next((f for f in _FEET if f"left_{f}" in skeleton.joints), _FEET[-1])
    left, right, head = (skeleton.index(j) for j in (f"left_{foot}", f"right_{foot}", _HEAD))
    found: dict[str, float] = {}
    for sequence in sequences:
        poses = sequence.poses
        middle = (poses[:, left] + poses[:, right]) / 2
        tallest = float(np.linalg.norm(middle - poses[:, head], axis=-1).max())
        found[sequence.subject] = max(found.get(sequence.subject, 0.0), tallest)
    for subject, height in found.items():
        if not height > 0:
            raise UserError(
                f"subject {subject}: got height {height}, expected one above 0; head and feet of "
                "all its poses coincide or are not finite"
            )
    return found


def heading(poses: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Returns the angle (n,), radians, by which hips, from right to left, are turned from x to y.

    Args:
        poses: (n, J, 3), z up.
        skeleton: joints of the poses.
    """
    hips = poses[:, skeleton.index("left_hip")] - poses[:, skeleton.index("right_hip")]
    return np.arctan2(hips[:, 1], hips[:, 0])


def turn(poses: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Turns poses (n, J, 3) about the z axis by angles (n,), radians, x towards y."""
    cos, sin = np.cos(angles)[:, np.newaxis], np.sin(angles)[:, np.newaxis]
    x, y, z = np.moveaxis(poses, -1, 0)
    return np.stack([cos * x - sin * y, sin * x + cos * y, z], axis=-1)


def normalise(
    poses: np.ndarray, skeleton: Skeleton, center: Sequence[int], unit: float
) -> np.ndarray:
    """Returns poses with the left hip in the direction of x from the right, over the origin.

    Heights above the floor stay.

    Args:
        poses: (n, J, 3), z up.
        skeleton: joints of the poses.
        center: joints whose midpoint comes to x = y = 0.
        unit: what the poses are divided by: the height of the subject, or the length of a metre.

    Returns:
        (n, J, 3) float64.
    """
    front = turn(poses.astype(np.float64), -heading(poses, skeleton)) / unit
    front[..., :2] -= front[:, list(center), :2].mean(axis=1, keepdims=True)
    return front
