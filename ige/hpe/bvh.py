"""Motion as BVH files, for Blender and whatever else animates characters.

What a file holds, whichever skeleton the poses come in:

- The joints of h36m_17 under their names. Blender mirrors names that start with left or right.
  Five joints more lie on the pelvis or the thorax (`_ON`), so that hips, lower back and shoulders
  can move against each other, as a body's do; CMU's files have such joints too.
- Metres, y up, z to the front. Blender's importer, as it is set, turns that into metres, z up: the
  coordinates of the poses. (Programs that take a unit for a centimetre want a scale of 100.)
- A rest pose for retargeting: a T-pose that faces +z (-y in Blender), its left along +x, the pelvis
  at the origin. Bones have the lengths of the motion, which are constant.
- Rotations in the order Z, X, Y, joint by joint; only the pelvis moves.

Three points say nothing about a turn of a bone about itself. Pelvis and chest take it from the
hips and the shoulders; any other bone follows the one it hangs on by the smallest rotation.
"""

import pathlib

import numpy as np

from ige import files
from ige.errors import UserError
from ige.hpe.skeleton import Skeleton, convert, get_skeleton

_HERE, _LEFT, _RIGHT = (0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (-1.0, 0.0, 0.0)
_UP, _DOWN, _FRONT = (0.0, 1.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, 1.0)


def _leg(side: str, out: tuple[float, ...]) -> dict[str, tuple[str, tuple[float, ...]]]:
    return {
        f"{side}_pelvis": ("pelvis", _HERE),
        f"{side}_hip": (f"{side}_pelvis", out),
        f"{side}_knee": (f"{side}_hip", _DOWN),
        f"{side}_ankle": (f"{side}_knee", _DOWN),
    }


def _arm(side: str, out: tuple[float, ...]) -> dict[str, tuple[str, tuple[float, ...]]]:
    return {
        f"{side}_clavicle": ("spine", _UP),
        f"{side}_shoulder": (f"{side}_clavicle", out),
        f"{side}_elbow": (f"{side}_shoulder", out),
        f"{side}_wrist": (f"{side}_elbow", out),
    }


# Joint of the file -> its parent and where it is from there at rest. Children follow their parents
# at once (depth first), as the lines of a file do.
_TREE = {
    "pelvis": ("", _HERE),
    **_leg("right", _RIGHT),
    **_leg("left", _LEFT),
    "spine_base": ("pelvis", _HERE),
    "spine": ("spine_base", _UP),
    "thorax": ("spine", _UP),
    "nose": ("thorax", _UP),
    "head_top": ("nose", _UP),
    **_arm("left", _LEFT),
    **_arm("right", _RIGHT),
}
# Joint that poses have not -> the one whose place it shares.
_ON = {
    "right_pelvis": "pelvis",
    "left_pelvis": "pelvis",
    "spine_base": "pelvis",
    "left_clavicle": "thorax",
    "right_clavicle": "thorax",
}
# Metres from the last joint of a limb to where its bone ends; no pose says how long a hand is.
_END = 0.1
# Metres, below which a bone has no direction.
_TINY = 1e-6


def rigid(poses: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Returns poses (frames, joints, 3), metres, with every bone of one length throughout.

    That is the median over the frames; left and right each have their own. The root stays, the
    bones keep their directions. A bone of no length in some frame takes the direction of the last
    frame that has one, else of the first; if none has, it points along z.

    Raises:
        UserError: the poses are not (frames, joints, 3) of this skeleton, or not finite.
    """
    poses = _checked(poses, skeleton)
    joints, root = range(skeleton.num_joints), skeleton.root
    hangs_on = np.zeros((len(joints), len(joints)))
    hangs_on[tuple(np.transpose(skeleton.bones))] = 1
    bones = poses - hangs_on @ poses
    lengths = np.linalg.norm(bones, axis=-1)
    typical = np.median(lengths, axis=0)
    directions = [_directions(bones[:, joint], lengths[:, joint]) for joint in joints]
    bones = np.stack(directions, axis=1) * typical[:, np.newaxis]
    bones[:, root] = poses[:, root]
    # A joint is where the bones from the root to it lead: bones = (1 - hangs_on) joints.
    return np.linalg.inv(np.eye(len(joints)) - hangs_on) @ bones


def bvh_motion(poses: np.ndarray, skeleton: Skeleton) -> tuple[np.ndarray, Skeleton]:
    """Returns the poses (frames, 17, 3) that `write_bvh` writes, and their skeleton, h36m_17.

    `rigid` ones, each moved to be nearest to the given one.

    Raises:
        UserError: the poses are not (frames, joints, 3) of the skeleton, or not finite; the
            skeleton lacks joints of h36m_17 that nothing can stand for.
    """
    target = get_skeleton("h36m_17")
    poses = convert(_checked(poses, skeleton), skeleton, target)
    moved = rigid(poses, target)
    # Not the pelvis but the middle of the joints stays: errors of the bones add up less.
    return moved + (poses - moved).mean(axis=1, keepdims=True), target


def write_bvh(
    path: pathlib.Path,
    poses: np.ndarray,
    skeleton: Skeleton,
    frame_rate: float,
) -> tuple[np.ndarray, Skeleton]:
    """Writes poses (frames, joints, 3), metres, z up, as a BVH file, whole or not at all.

    Returns:
        What `bvh_motion` returns: where the joints of the file are, to a hundredth of a millimetre.

    Raises:
        UserError: as `bvh_motion`; the frame rate is not above 0; the file cannot be written.
    """
    if not 0 < frame_rate < np.inf:
        raise UserError(f"frame_rate: got {frame_rate}, expected frames per second, above 0")
    motion, skeleton = bvh_motion(poses, skeleton)
    poses = np.stack([motion[..., 0], motion[..., 2], -motion[..., 1]], axis=-1)
    joints = {joint: poses[:, skeleton.index(_ON.get(joint, joint))] for joint in _TREE}
    angles = [_angles(rotations) for rotations in _local_rotations(joints)]
    rows = np.concatenate([joints["pelvis"], *angles], axis=-1)
    row = " ".join(["%.6f"] * 3 + ["%.4f"] * (rows.shape[1] - 3)) + "\n"
    lines = [
        "HIERARCHY",
        *_hierarchy("pelvis", {joint: place[0] for joint, place in joints.items()}),
        "MOTION",
        f"Frames: {len(rows)}",
        f"Frame Time: {1 / frame_rate:.10g}",
    ]
    # One format string for a thousand rows at a time: a long motion has millions of numbers.
    numbers = (
        row * len(some) % tuple(some.ravel().tolist())
        for some in np.split(rows, range(1000, len(rows), 1000))
    )
    files.write_text(path, "\n".join(lines) + "\n" + "".join(numbers))
    return motion, skeleton


def _checked(poses: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    poses = np.asarray(poses, np.float64)
    if poses.ndim != 3 or poses.shape[1:] != (skeleton.num_joints, 3) or not len(poses):
        raise UserError(
            f"poses: got shape {poses.shape}, expected (frames, {skeleton.num_joints}, 3), with at "
            f"least one frame, of skeleton {skeleton.name}"
        )
    finite = np.isfinite(poses).all(axis=(1, 2))
    if not finite.all():
        raise UserError(
            f"poses: got NaN or infinity in frame {finite.argmin()}, expected metres; leave out or "
            "fill in the frames without a pose"
        )
    return poses


def _directions(vectors: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Returns unit vectors (frames, 3); where there is none, a neighbour's in time, else z."""
    valid = lengths > _TINY
    if not valid.any():
        return np.broadcast_to([0.0, 0.0, 1.0], vectors.shape)
    last = np.maximum.accumulate(np.where(valid, np.arange(len(valid)), -1))
    frames = np.where(last < 0, valid.argmax(), last)
    return vectors[frames] / lengths[frames, np.newaxis]


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Returns vectors (frames, 3) at length 1, and 0 in place of those that have none."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > _TINY)


def _cross_matrix(vectors: np.ndarray) -> np.ndarray:
    """Returns K (frames, 3, 3) with K x = v × x."""
    x, y, z = vectors.T
    zero = np.zeros_like(x)
    return np.moveaxis(np.array([[zero, -z, y], [z, zero, -x], [-y, x, zero]]), -1, 0)


def _aimed(rotations: np.ndarray, rest: tuple[float, ...], targets: np.ndarray) -> np.ndarray:
    """Returns rotations (frames, 3, 3), turned the least that takes `rest` to `targets`.

    Targets (frames, 3) have length 1, or 0 to leave the rotation as it is. Half a turn goes about
    an axis in which hips, knees and elbows bend.
    """
    axis = np.asarray(rest)
    starts = rotations @ axis
    bend = rotations @ axis[[1, 0, 2]]  # across `rest`, which is along x or y
    sums = starts + targets
    squares = (sums**2).sum(axis=-1)[:, np.newaxis, np.newaxis]
    opposite = squares < _TINY**2
    cross = _cross_matrix(np.cross(starts, targets))
    turns = np.eye(3) + cross + 2 * cross @ cross / np.where(opposite, 1.0, squares)
    half_turns = 2 * bend[:, :, np.newaxis] * bend[:, np.newaxis, :] - np.eye(3)
    return np.where(opposite, half_turns, turns) @ rotations


def _twisted(
    rotations: np.ndarray,
    kept: tuple[float, ...],
    rest: tuple[float, ...],
    targets: np.ndarray,
) -> np.ndarray:
    """Returns rotations, turned about where they take `kept` so that `rest` is nearest `targets`.

    Where the target (frames, 3) is along that axis, or 0, the rotation stays as it is.
    """
    axes, starts = rotations @ np.asarray(kept), rotations @ np.asarray(rest)
    sines = (axes * np.cross(starts, targets)).sum(axis=-1)
    cosines = (starts * targets).sum(axis=-1)  # `rest` is across `kept`
    angles = np.arctan2(sines, cosines)[:, np.newaxis, np.newaxis]
    cross = _cross_matrix(axes)
    turns = np.eye(3) + np.sin(angles) * cross + (1 - np.cos(angles)) * cross @ cross
    return turns @ rotations


def _local_rotations(joints: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Returns the rotation (frames, 3, 3) of each joint against its parent, in the file's order.

    Args:
        joints: joint of the file -> places (frames, 3), y up.
    """
    trunk = _unit(joints["spine"] - joints["pelvis"])
    hips = _unit(joints["left_hip"] - joints["right_hip"])
    shoulders = _unit(joints["left_shoulder"] - joints["right_shoulder"])
    world, local = {}, []
    for joint, (parent, _) in _TREE.items():
        above = world[parent] if parent else np.broadcast_to(np.eye(3), (len(trunk), 3, 3))
        rotations = above
        if joint == "pelvis":
            rotations = _twisted(_aimed(above, _LEFT, hips), _LEFT, _UP, trunk)
        for child, rest in _bones_of(joint)[:1]:  # they all end in one place
            rotations = _aimed(above, rest, _unit(joints[child] - joints[joint]))
        if joint == "spine":
            rotations = _twisted(rotations, _UP, _LEFT, shoulders)
        world[joint] = rotations
        local.append(above.swapaxes(-1, -2) @ rotations)
    return local


def _bones_of(joint: str) -> list[tuple[str, tuple[float, ...]]]:
    """Returns the children of a joint that are elsewhere, each with its direction at rest."""
    return [
        (child, rest) for child, (parent, rest) in _TREE.items() if parent == joint and any(rest)
    ]


def _angles(rotations: np.ndarray) -> np.ndarray:
    """Returns angles (frames, 3) z, x, y in degrees with Rz Rx Ry = R, without jumps in time.

    (z, x, y) and (z + 180, 180 - x, y + 180) are the same rotation: each frame takes the one nearer
    to the frame before, and as many whole turns as bring it nearest.
    """
    z = np.arctan2(-rotations[:, 0, 1], rotations[:, 1, 1])
    sine, cosine = np.sin(z), np.cos(z)
    # Rz' R = Rx Ry. Read from that, x and y fit to z even where z is arbitrary (x = 90 degrees).
    top = cosine[:, np.newaxis] * rotations[:, 0] + sine[:, np.newaxis] * rotations[:, 1]
    middle = cosine * rotations[:, 1, 1] - sine * rotations[:, 0, 1]
    one = np.stack([z, np.arctan2(rotations[:, 2, 1], middle), np.arctan2(top[:, 2], top[:, 0])], 1)
    other = one * [1, -1, 1] + np.pi

    def distance(before: np.ndarray, after: np.ndarray) -> np.ndarray:
        return np.abs((after - before + np.pi) % (2 * np.pi) - np.pi).sum(axis=-1)

    switches = distance(one[:-1], other[1:]) < distance(one[:-1], one[1:])
    switched = np.cumsum([False, *switches]) % 2 == 1
    chosen = np.where(switched[:, np.newaxis], other, one)
    return np.degrees(np.unwrap(chosen, axis=0))


def _hierarchy(joint: str, places: dict[str, np.ndarray]) -> list[str]:
    """Returns the lines of a joint and of all below it.

    Args:
        joint: joint of the file.
        places: joint -> place (3,) in any frame, for the lengths of the bones.
    """
    parent, rest = _TREE[joint]
    children = [child for child, (above, _) in _TREE.items() if above == joint]
    length = np.linalg.norm(places[joint] - places[parent]) if parent else 0.0
    position = "" if parent else "Xposition Yposition Zposition "
    inside = [
        _offset(length, rest),
        f"CHANNELS {3 if parent else 6} {position}Zrotation Xrotation Yrotation",
        *(line for child in children for line in _hierarchy(child, places)),
    ]
    if not children:
        end = _FRONT if joint.endswith("_ankle") else rest
        inside += ["End Site", "{", "\t" + _offset(_END, end), "}"]
    kind = "JOINT" if parent else "ROOT"
    return [f"{kind} {joint}", "{", *(f"\t{line}" for line in inside), "}"]


def _offset(length: float, direction: tuple[float, ...]) -> str:
    return "OFFSET " + " ".join(f"{length * part:.6f}" for part in direction)
