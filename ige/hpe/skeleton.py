"""Skeletons: joint names, order and bones of poses; conversion between them; mirroring.

Joint names are those of the anatomy. Sources differ, and a name found elsewhere need not mean the
joint of the same name here:

- Human3.6M's 32 joints hold seven duplicates (they carry other joint angles in the original files)
  and name no joints at all. Index 12 is halfway up the spine, 13 the base of the neck, 14 the nose,
  15 the crown. Code of 2017 calls these thorax, neck, head-center and head-back; 3d-pose-baseline
  and VideoPose3D call 13 thorax and 14 neck/nose.
- The stacked-hourglass detections that 3d-pose-baseline reads are stored in MPII order. They are
  paired with Human3.6M joints as follows: slot 7 (MPII thorax) with spine, 8 (MPII upper neck) with
  thorax, 9 (head top) with head_top. A detector trained on MPII alone puts slot 7 on the base of
  the neck; ground truth projected into this layout has it on the spine.
- In MPII the pelvis is the midpoint of the hips and the thorax lies between the shoulders. So do
  the "MidHip" and the "Neck" of OpenPose and the "Hip" and the "Neck" of Halpe, whose "Head" is the
  crown.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ige.errors import UserError, nearest

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


def _limb(parent: str, *joints: str) -> dict[str, str]:
    """Returns joint -> parent of a chain that starts at `parent`."""
    return dict(zip(joints, (parent, *joints), strict=False))


def _leg(side: str, parent: str, *more: str) -> dict[str, str]:
    return _limb(parent, *(f"{side}_{joint}" for joint in ("hip", "knee", "ankle", *more)))


def _arm(side: str, parent: str) -> dict[str, str]:
    return _limb(parent, *(f"{side}_{joint}" for joint in ("shoulder", "elbow", "wrist")))


def _hand(side: str) -> dict[str, str]:
    return {f"{side}_thumb": f"{side}_wrist", f"{side}_hand": f"{side}_wrist"}


def _whole_arm(side: str) -> dict[str, str]:
    """Joints 16-23 or 24-31 of Human3.6M: `clavicle`, `..._end` are the duplicates."""
    return {
        f"{side}_clavicle": "spine",
        **_arm(side, f"{side}_clavicle"),
        f"{side}_wrist_end": f"{side}_wrist",
        f"{side}_thumb": f"{side}_wrist_end",
        f"{side}_hand": f"{side}_wrist",
        f"{side}_hand_end": f"{side}_hand",
    }


# Joint -> parent, in the order of the joints.
_H36M_32 = {
    "pelvis": "",
    **_leg("right", "pelvis", "foot", "toes"),
    **_leg("left", "pelvis", "foot", "toes"),
    **_limb("pelvis", "spine_base", "spine", "thorax", "nose", "head_top"),
    **_whole_arm("left"),
    **_whole_arm("right"),
}
_H36M_17 = {
    "pelvis": "",
    **_leg("right", "pelvis"),
    **_leg("left", "pelvis"),
    **_limb("pelvis", "spine", "thorax", "nose", "head_top"),
    **_arm("left", "thorax"),
    **_arm("right", "thorax"),
}
_H36M_16 = {
    **_leg("right", "spine"),
    **_leg("left", "spine"),
    "spine": "thorax",
    "thorax": "",
    **_limb("thorax", "nose", "head_top"),
    **_arm("left", "thorax"),
    **_arm("right", "thorax"),
}
_MARTINEZ_16 = {joint: parent for joint, parent in _H36M_17.items() if joint != "nose"}
_MARTINEZ_16["head_top"] = "thorax"
_H36M_14 = {
    "head_top": "",
    "thorax": "head_top",
    **_arm("right", "thorax"),
    **_arm("left", "thorax"),
    **_leg("right", "thorax"),
    **_leg("left", "thorax"),
}
_H36M_24 = {
    "spine": "",
    **_leg("right", "spine", "foot", "toes"),
    **_leg("left", "spine", "foot", "toes"),
    **_limb("spine", "thorax", "head_top", "nose"),
    **_arm("left", "thorax"),
    **_hand("left"),
    **_arm("right", "thorax"),
    **_hand("right"),
}
_MPII_16 = {
    "right_ankle": "right_knee",
    "right_knee": "right_hip",
    "right_hip": "pelvis",
    **_leg("left", "pelvis"),
    "pelvis": "",
    **_limb("pelvis", "thorax", "upper_neck", "head_top"),
    "right_wrist": "right_elbow",
    "right_elbow": "right_shoulder",
    "right_shoulder": "thorax",
    **_arm("left", "thorax"),
}
_COCO_17 = {
    "nose": "",
    "left_eye": "nose",
    "right_eye": "nose",
    "left_ear": "left_eye",
    "right_ear": "right_eye",
    "left_shoulder": "nose",
    "right_shoulder": "nose",
    "left_elbow": "left_shoulder",
    "right_elbow": "right_shoulder",
    "left_wrist": "left_elbow",
    "right_wrist": "right_elbow",
    "left_hip": "left_shoulder",
    "right_hip": "right_shoulder",
    "left_knee": "left_hip",
    "right_knee": "right_hip",
    "left_ankle": "left_knee",
    "right_ankle": "right_knee",
}
_TOES = ("big_toe", "small_toe", "heel")
_FEET = {f"{side}_{part}": f"{side}_ankle" for side in ("left", "right") for part in _TOES}
_FACE = {
    "right_eye": "nose",
    "left_eye": "nose",
    "right_ear": "right_eye",
    "left_ear": "left_eye",
}
_OPENPOSE_25 = {
    "nose": "thorax",
    "thorax": "pelvis",
    **_arm("right", "thorax"),
    **_arm("left", "thorax"),
    "pelvis": "",
    **_leg("right", "pelvis"),
    **_leg("left", "pelvis"),
    **_FACE,
    **_FEET,
}
_OPENPOSE_18 = {
    "nose": "thorax",
    "thorax": "",
    **_arm("right", "thorax"),
    **_arm("left", "thorax"),
    **_leg("right", "thorax"),
    **_leg("left", "thorax"),
    **_FACE,
}
_HALPE_26 = {
    **_COCO_17,  # in its order, round a spine
    "nose": "thorax",
    "left_shoulder": "thorax",
    "right_shoulder": "thorax",
    "left_hip": "pelvis",
    "right_hip": "pelvis",
    "head_top": "nose",
    "thorax": "pelvis",
    "pelvis": "",
    **{f"{side}_{part}": f"{side}_ankle" for part in _TOES for side in ("left", "right")},
}


def _skeleton(name: str, tree: dict[str, str]) -> Skeleton:
    joints = tuple(tree)
    return Skeleton(name, joints, tuple(joints.index(p) if p else -1 for p in tree.values()))


SKELETONS = {
    skeleton.name: skeleton
    for skeleton in (
        _skeleton("h36m_32", _H36M_32),
        _skeleton("h36m_17", _H36M_17),
        _skeleton("h36m_16", _H36M_16),
        _skeleton("h36m_14", _H36M_14),
        _skeleton("h36m_24", _H36M_24),
        _skeleton("martinez_16", _MARTINEZ_16),
        _skeleton("mpii_16", _MPII_16),
        _skeleton("coco_17", _COCO_17),
        _skeleton("openpose_25", _OPENPOSE_25),
        _skeleton("openpose_18", _OPENPOSE_18),
        _skeleton("halpe_26", _HALPE_26),
    )
}
"""Name -> skeleton. h36m_32: Human3.6M as recorded. h36m_17: the usual 17 of them (VideoPose3D).
h36m_16: these without the pelvis (IGE). martinez_16: these without the nose, the 2D input of
Martinez et al. 2017. h36m_14: limbs, neck and head. h36m_24: the subset of the adversarially
parameterised optimisation of 2017. mpii_16, coco_17, halpe_26: as annotated in those data
sets. openpose_25, openpose_18: the models BODY_25 and COCO of OpenPose."""

SYNTHESISED: dict[str, tuple[dict[str, float], ...]] = {
    "pelvis": ({"left_hip": 0.5, "right_hip": 0.5},),
    "thorax": ({"left_shoulder": 0.5, "right_shoulder": 0.5},),
    "spine": ({"pelvis": 0.5, "thorax": 0.5},),
    "upper_neck": ({"thorax": 0.8, "head_top": 0.2},),
    "nose": (
        {"thorax": 0.4, "head_top": 0.6},
        {"left_ear": 0.5, "right_ear": 0.5},
        {"left_eye": 0.5, "right_eye": 0.5},
        {"left_ear": 1.0},
        {"right_ear": 1.0},
        {"left_eye": 1.0},
        {"right_eye": 1.0},
    ),
    "head_top": ({"thorax": -2 / 3, "nose": 5 / 3},),
}
"""Joint -> what stands for it when a source lacks it: weights (sum 1) of other joints. The first
alternative whose joints can all be had is taken; they may be synthesised themselves, so that the
head_top of a head seen from behind goes by its ears.

Only the pelvis is exact (in Human3.6M and MPII), and the thorax where it is the point between the
shoulders (MPII, OpenPose, Halpe). The others are rules of thumb: the first `nose` and `head_top`
invert each other, the halfway `spine` is where Kudo et al. 2018 put it, and ears and eyes are at
the height of the nose but behind it. In motion capture the spine is 33 mm off in the median, the
nose (of thorax and head_top) 16 mm and the head_top 27 mm (22,384 poses, 2026-11-21)."""


def get_skeleton(name: str) -> Skeleton:
    """Returns the skeleton of a name.

    Raises:
        UserError: there is no such skeleton.
    """
    if name not in SKELETONS:
        raise UserError(f"skeleton: got {name!r}; {nearest(name, SKELETONS)}")
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
