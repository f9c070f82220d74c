"""Skeletons: joint names, order and bones of poses; conversion between them; mirroring.

The skeletons themselves are in `skeletons.py`.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ige.errors import UserError, nearest
from ige.hpe.skeletons import SYNTHESISED, TREES

_MIRRORED = {"left": "right", "right": "left"}


@dataclass(frozen=True)
class Skeleton:
    """A tree of named joints.

    Attributes:
        name: name of the skeleton.
        joints: name of every joint, in the order of poses (..., joints, dimensions).
        parents: index of the parent of every joint, -1 for the root. A parent may come after its
            children.

    Raises:
        UserError: joints are not unique, or the parents form no tree with one root.
    """

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]

    def __post_init__(self):
        if len(set(self.joints)) != len(self.joints):
            raise UserError(f"skeleton {self.name}: got a joint twice, expected unique names")
        if len(self.parents) != len(self.joints):
            raise UserError(
                f"skeleton {self.name}: got {len(self.parents)} parents, expected one for each of "
                f"the {len(self.joints)} joints"
            )
        reached = {-1}
        for _ in self.joints:
            reached |= {child for child, parent in enumerate(self.parents) if parent in reached}
        if self.parents.count(-1) != 1 or len(reached) != len(self.joints) + 1:
            raise UserError(
                f"skeleton {self.name}: got parents {self.parents}, expected a tree with one root "
                "(parent -1)"
            )

    @property
    def num_joints(self) -> int:
        return len(self.joints)

    @property
    def root(self) -> int:
        """Index of the joint without a parent."""
        return self.parents.index(-1)

    @cached_property
    def bones(self) -> tuple[tuple[int, int], ...]:
        """(child, parent) of every joint but the root."""
        return tuple((child, parent) for child, parent in enumerate(self.parents) if parent >= 0)

    @cached_property
    def sides(self) -> tuple[str, ...]:
        """ "left", "right" or "centre" of every joint."""
        prefixes = (joint.partition("_")[0] for joint in self.joints)
        return tuple(prefix if prefix in _MIRRORED else "centre" for prefix in prefixes)

    @cached_property
    def mirror(self) -> tuple[int, ...]:
        """Index of the joint on the other side of every joint; a permutation, its own inverse."""
        return tuple(
            self.index(f"{_MIRRORED[side]}_{joint.partition('_')[2]}") if side in _MIRRORED else i
            for i, (joint, side) in enumerate(zip(self.joints, self.sides, strict=True))
        )

    def index(self, joint: str) -> int:
        """Returns the index of a joint.

        Raises:
            UserError: the skeleton has no such joint.
        """
        if joint not in self.joints:
            raise UserError(
                f"skeleton {self.name} has no joint {joint!r}; {nearest(joint, self.joints)}"
            )
        return self.joints.index(joint)


def _skeleton(name: str, tree: dict[str, str]) -> Skeleton:
    joints = tuple(tree)
    return Skeleton(name, joints, tuple(joints.index(p) if p else -1 for p in tree.values()))


SKELETONS = {name: _skeleton(name, tree) for name, tree in TREES.items()}


def get_skeleton(name: str, parameter: str = "skeleton") -> Skeleton:
    """Returns the skeleton of a name; `parameter` is what the message calls it.

    Raises:
        UserError: there is no such skeleton.
    """
    if name not in SKELETONS:
        raise UserError(f"{parameter}: got {name!r}; {nearest(name, SKELETONS)}")
    return SKELETONS[name]


def _weights(joint: str, source: Skeleton, visiting: frozenset[str]) -> np.ndarray | None:
    """Returns the weights (source joints,) of a joint, None if it cannot be had.

    `visiting`: the joints that are being synthesised, which may not be used to do so.
    """
    if joint in source.joints:
        return np.eye(source.num_joints)[source.index(joint)]
    if joint in visiting:
        return None
    for rule in SYNTHESISED.get(joint, ()):
        rows = [_weights(part, source, visiting | {joint}) for part in rule]
        if all(row is not None for row in rows):
            return sum(weight * row for weight, row in zip(rule.values(), rows, strict=True))
    return None


def obtainable(source: Skeleton, target: Skeleton) -> tuple[str, ...]:
    """Returns the joints of the target that can be found in the source or synthesised."""
    return tuple(
        joint for joint in target.joints if _weights(joint, source, frozenset()) is not None
    )


def conversion_matrix(source: Skeleton, target: Skeleton) -> np.ndarray:
    """Returns float64 M (target joints, source joints), rows summing to 1: target = M @ source.

    Joints go by name; one that the source lacks is put together as in `SYNTHESISED`.

    Raises:
        UserError: a joint of the target can be neither found nor synthesised.
    """
    rows = []
    for joint in target.joints:
        row = _weights(joint, source, frozenset())
        if row is None:
            raise UserError(
                f"skeleton {source.name} cannot be converted to {target.name}: it has no {joint}, "
                "nor the joints to put one together; choose another skeleton"
            )
        rows.append(row)
    return np.stack(rows)


def _checked(poses: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    poses = np.asarray(poses)
    if poses.ndim < 2 or poses.shape[-2] != skeleton.num_joints:
        raise UserError(
            f"poses: got shape {poses.shape}, expected (..., {skeleton.num_joints}, dimensions) "
            f"of skeleton {skeleton.name}"
        )
    return poses if np.issubdtype(poses.dtype, np.floating) else poses.astype(np.float64)


def convert(poses: np.ndarray, source: Skeleton, target: Skeleton) -> np.ndarray:
    """Converts poses (..., source joints, d) to (..., target joints, d), keeping unit and dtype.

    A joint that is NaN affects only the joints that are made from it.

    Raises:
        UserError: the poses are not of the source skeleton, or `conversion_matrix` raises.
    """
    poses = _checked(poses, source)
    if source.joints == target.joints:
        return poses.copy()
    matrix = conversion_matrix(source, target)
    converted = np.empty((*poses.shape[:-2], target.num_joints, poses.shape[-1]), poses.dtype)
    for i, row in enumerate(matrix):
        parts = np.flatnonzero(row)
        weights = row[parts, np.newaxis].astype(poses.dtype)
        converted[..., i, :] = (weights * poses[..., parts, :]).sum(axis=-2)
    return converted


def flip(poses: np.ndarray, skeleton: Skeleton, centre: float = 0.0) -> np.ndarray:
    """Mirrors poses (..., joints, d): x becomes `2 centre - x`, left and right joints swap.

    Raises:
        UserError: the poses are not of this skeleton.
    """
    flipped = _checked(poses, skeleton)[..., skeleton.mirror, :]
    flipped[..., 0] = 2 * centre - flipped[..., 0]
    return flipped
