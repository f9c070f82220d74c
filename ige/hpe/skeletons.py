"""The joints of every skeleton, the tree that they form, and what stands for a missing joint.

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
- HumanEva has two points below the neck, where head and torso begin; here they are `neck` and
  `upper_torso`. Its authors, and VideoPose3D, measure errors at the mean of both: `thorax`. Code of
  2017 calls upper_torso thorax. Whatever has no upper_torso takes the neck for the thorax.
"""


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


def _segments(side: str, part: str) -> dict[str, str]:
    """Ends of an arm's and a leg's `part`, "upper" or "lower", in HumanEva's order."""
    tree = {}
    for limb, trunk in (("arm", "torso_proximal"), ("leg", "torso_distal")):
        before = trunk if part == "upper" else f"{side}_upper_{limb}_distal"
        tree[f"{side}_{part}_{limb}_distal"] = f"{side}_{part}_{limb}_proximal"
        tree[f"{side}_{part}_{limb}_proximal"] = before
    return tree


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
# The ends of HumanEva's ten limbs, the far one first.
_EVA_20 = {
    "head_distal": "head_proximal",
    "head_proximal": "torso_proximal",
    **_segments("left", "lower"),
    **_segments("right", "lower"),
    "torso_distal": "",
    "torso_proximal": "torso_distal",
    **_segments("left", "upper"),
    **_segments("right", "upper"),
}
_EVA_16 = {
    "head_top": "neck",
    "neck": "upper_torso",
    "upper_torso": "pelvis",
    "pelvis": "",
    **_arm("right", "neck"),
    **_arm("left", "neck"),
    **_leg("right", "pelvis"),
    **_leg("left", "pelvis"),
}
_EVA_14 = {
    "head_top": "",
    "neck": "head_top",
    **_arm("right", "neck"),
    **_arm("left", "neck"),
    **_leg("right", "neck"),
    **_leg("left", "neck"),
}
_EVA_15 = {
    "pelvis": "",
    "thorax": "pelvis",
    **_arm("left", "thorax"),
    **_arm("right", "thorax"),
    **_leg("left", "pelvis"),
    **_leg("right", "pelvis"),
    "head_top": "thorax",
}

TREES = {
    "h36m_32": _H36M_32,
    "h36m_17": _H36M_17,
    "h36m_16": _H36M_16,
    "h36m_14": _H36M_14,
    "h36m_24": _H36M_24,
    "martinez_16": _MARTINEZ_16,
    "mpii_16": _MPII_16,
    "coco_17": _COCO_17,
    "openpose_25": _OPENPOSE_25,
    "openpose_18": _OPENPOSE_18,
    "halpe_26": _HALPE_26,
    "eva_20": _EVA_20,
    "eva_16": _EVA_16,
    "eva_15": _EVA_15,
    "eva_14": _EVA_14,
}
"""Name -> skeleton. h36m_32: Human3.6M as recorded. h36m_17: the usual 17 of them (VideoPose3D).
h36m_16: these without the pelvis (IGE). martinez_16: these without the nose, the 2D input of
Martinez et al. 2017. h36m_14: limbs, neck and head. h36m_24: the subset of the adversarially
parameterised optimisation of 2017. mpii_16, coco_17, halpe_26: as annotated in those data
sets. openpose_25, openpose_18: the models BODY_25 and COCO of OpenPose. eva_20: the ends of
HumanEva's ten limbs. eva_16, eva_14: joints made of them, as in the adversarially parameterised
optimisation of 2017. eva_15: those on which HumanEva's authors measure errors, in VideoPose3D's
order."""


def _ends(side: str) -> dict[str, tuple[dict[str, float], ...]]:
    """Joints made of the ends of HumanEva's limbs: the mean of both where two limbs meet."""
    rules = {}
    for limb, (first, second, third) in {
        "arm": ("shoulder", "elbow", "wrist"),
        "leg": ("hip", "knee", "ankle"),
    }.items():
        upper, lower = f"{side}_upper_{limb}", f"{side}_lower_{limb}"
        rules[f"{side}_{first}"] = ({f"{upper}_proximal": 1.0},)
        rules[f"{side}_{second}"] = ({f"{upper}_distal": 0.5, f"{lower}_proximal": 0.5},)
        rules[f"{side}_{third}"] = ({f"{lower}_distal": 1.0},)
    return rules


SYNTHESISED: dict[str, tuple[dict[str, float], ...]] = {
    "pelvis": ({"torso_distal": 1.0}, {"left_hip": 0.5, "right_hip": 0.5}),
    "thorax": (
        {"neck": 0.5, "upper_torso": 0.5},
        {"neck": 1.0},
        {"left_shoulder": 0.5, "right_shoulder": 0.5},
    ),
    "neck": ({"head_proximal": 1.0}, {"thorax": 1.0}),
    "upper_torso": ({"torso_proximal": 1.0}, {"thorax": 1.0}),
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
    "head_top": ({"head_distal": 1.0}, {"thorax": -2 / 3, "nose": 5 / 3}),
    **_ends("left"),
    **_ends("right"),
}
"""Joint -> what stands for it when a source lacks it: weights (sum 1) of other joints. The first
alternative whose joints can all be had is taken; they may be synthesised themselves, so that the
head_top of a head seen from behind goes by its ears.

What is made of HumanEva's ends is exact by definition. Of the rest only the pelvis is (in Human3.6M
and MPII), and the thorax where it is the point between the
shoulders (MPII, OpenPose, Halpe). The others are rules of thumb: the first `nose` and `head_top`
invert each other, the halfway `spine` is where Kudo et al. 2018 put it, and ears and eyes are at
the height of the nose but behind it. In motion capture the spine is 33 mm off in the median, the
nose (of thorax and head_top) 16 mm and the head_top 27 mm (22,384 poses, 2026-11-21)."""
