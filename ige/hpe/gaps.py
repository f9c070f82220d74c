"""From one person over time, with gaps, to whole poses in the joints of a network."""

import numpy as np

from ige.errors import UserError
from ige.hpe.people import TORSO, Track
from ige.hpe.skeleton import Skeleton, conversion_matrix

_HEAD = ("nose", "head_top", "left_ear", "right_ear", "left_eye", "right_eye")
# Outwards: every joint is put after the one it hangs on.
_LIMBS = [
    (f"{side}_{joint}", f"{other}_{joint}", f"{side}_{parent}", f"{other}_{parent}")
    for joint, parent in (
        ("elbow", "shoulder"),
        ("wrist", "elbow"),
        ("knee", "hip"),
        ("ankle", "knee"),
    )
    for side, other in (("left", "right"), ("right", "left"))
]
# Lengths in those of the torso, from between the hips to between the shoulders: of a limb that is
# seen on neither side and hangs down, and of a head that goes straight on. Least squares over
# 22,384 poses of motion capture (2026-11-21).
_HANGING = {"elbow": 0.61, "knee": 1.06}
_HEAD_LENGTHS = {"nose": 0.32, "head_top": 0.54}
# What no lifter reads goes unreported.
_UNREPORTED = ("eye", "ear", "toe", "heel")


def over_time(points: np.ndarray, pieces: np.ndarray) -> np.ndarray:
    """Returns points (n, joints, d) with gaps filled in linearly over time, ends held, by piece.

    Args:
        points: first coordinate NaN where a joint is not seen; it stays so where it never is in a
            piece.
        pieces: the first row of each.
    """
    n = len(points)
    seen = np.isfinite(points[..., 0])
    rows = np.arange(n)[:, np.newaxis]
    first = pieces[np.searchsorted(pieces, np.arange(n), side="right") - 1][:, np.newaxis]
    end = np.append(pieces[1:], n)[np.searchsorted(pieces, np.arange(n), side="right") - 1]
    before = np.maximum.accumulate(np.where(seen, rows, -1), axis=0)
    after = np.minimum.accumulate(np.where(seen, rows, n)[::-1], axis=0)[::-1]
    row, joint = np.nonzero(~seen)
    before, after = before[row, joint], after[row, joint]
    has_before, has_after = before >= first[row, 0], after < end[row]
    before = np.where(has_before, before, np.where(has_after, after, row))
    after = np.where(has_after, after, before)
    weights = (row - before) / np.maximum(after - before, 1)
    start, stop = points[before, joint], points[after, joint]
    filled = points.copy()
    filled[row, joint] = start + weights[:, np.newaxis] * (stop - start)
    return filled


def _refuse_without_torso(points: np.ndarray, track: Track) -> None:
    skeleton, names = track.source.skeleton, track.source.frame_names
    for joint in TORSO:
        unseen = np.isnan(points[:, skeleton.index(joint), 0])
        if unseen.any():
            row = int(unseen.argmax())
            begins = track.pieces[track.pieces <= row][-1]
            ends = np.append(track.pieces, len(points))[(track.pieces <= row).sum()] - 1
            first, last = (names[track.frames[i]] for i in (begins, ends))
            raise UserError(
                f"{track.source.path}: frames {first} to {last}: {joint} is never seen, expected "
                "shoulders and hips at least once: a lifter needs them; lower "
                "hpe.predict.min_confidence, choose another hpe.predict.person, or cut these "
                "frames out"
            )


def _straight_on(points: np.ndarray, skeleton: Skeleton) -> dict[str, np.ndarray]:
    """Puts limbs and heads that are never seen where they most likely are, in place.

    Returns:
        how it was put -> (n, joints), where.
    """
    at = {joint: index for index, joint in enumerate(skeleton.joints)}
    unseen = np.isnan(points[..., 0])
    if not unseen.any():
        return {}
    middle = {
        part: points[:, [at[f"left_{part}"], at[f"right_{part}"]]].mean(axis=1)
        for part in ("shoulder", "hip")
    }
    up = middle["shoulder"] - middle["hip"]
    parallel, straight = np.zeros_like(unseen), np.zeros_like(unseen)
    for joint, other, parent, opposite in _LIMBS:
        lost = unseen[:, at[joint]]
        like = lost & ~unseen[:, at[other]] & ~unseen[:, at[opposite]]
        along = points[:, at[other]] - points[:, at[opposite]]
        points[like, at[joint]] = (points[:, at[parent]] + along)[like]
        parallel[like, at[joint]] = True
        rest = lost & ~like
        bone = joint.partition("_")[2]
        if bone in _HANGING:
            on = -_HANGING[bone] * up
        else:
            above = skeleton.index(parent.replace("elbow", "shoulder").replace("knee", "hip"))
            on = points[:, at[parent]] - points[:, above]
        points[rest, at[joint]] = (points[:, at[parent]] + on)[rest]
        straight[rest, at[joint]] = True
    headless = unseen[:, [at[joint] for joint in _HEAD if joint in at]].all(axis=1)
    for joint in ("nose", "head_top"):
        if joint in at:
            on = middle["shoulder"] + _HEAD_LENGTHS[joint] * up
            points[headless, at[joint]] = on[headless]
            straight[headless, at[joint]] = True
    return {
        "never seen, put parallel to the other side": parallel,
        "never seen, put straight on": straight,
    }


def fill(track: Track) -> tuple[np.ndarray, list[str]]:
    """Fills in what is missing: over time, else by the other joints.

    Returns:
        points (n, joints, 2), and what to tell the user, a line per way of filling. NaN is left
        only where a joint is never seen in a piece and `to_skeleton` puts it together by its name.

    Raises:
        UserError: a shoulder or a hip is never seen in a piece.
    """
    skeleton = track.source.skeleton
    missing = np.isnan(track.points[..., 0])
    points = track.points.copy()
    if missing.any():
        # Limbs go with the trunk: a hidden hand moves on with its owner.
        torso = [skeleton.index(joint) for joint in TORSO]
        points[:, torso] = over_time(points[:, torso], track.pieces)
        _refuse_without_torso(points, track)
        middle = points[:, torso].mean(axis=1, keepdims=True)
        points = over_time(points - middle, track.pieces) + middle
        points[~missing] = track.points[~missing]  # bit for bit
    unseen = np.isnan(points[..., 0])
    ways = {"filled in over time": missing & ~unseen, **_straight_on(points, skeleton)}
    ways["never seen, put together from other joints"] = np.isnan(points[..., 0])
    notes = []
    for way, where in ways.items():
        counts = zip(skeleton.joints, where.sum(axis=0).tolist(), strict=True)
        told = [f"{j} in {n}" for j, n in counts if n and not j.endswith(_UNREPORTED)]
        if told:
            notes.append(f"{way}: {', '.join(told)} of {len(points)} frames")
    return points, notes


def to_skeleton(points: np.ndarray, source: Skeleton, target: Skeleton) -> np.ndarray:
    """Converts points (n, joints, 2) of which some joints are NaN to (n, target joints, 2).

    A joint that is NaN counts as one that the source lacks, so that the next alternative of
    `SYNTHESISED` takes over.

    Raises:
        UserError: a joint can be neither found nor put together.
    """
    seen = np.isfinite(points[..., 0])
    if seen.all():
        return conversion_matrix(source, target) @ points
    patterns, which = np.unique(seen, axis=0, return_inverse=True)
    converted = np.empty((len(points), target.num_joints, points.shape[-1]))
    for i, pattern in enumerate(patterns):
        there = np.flatnonzero(pattern)
        joints = tuple(source.joints[joint] for joint in there)
        parents = (-1, *[0] * (len(joints) - 1)) if joints else ()
        matrix = conversion_matrix(Skeleton(source.name, joints, parents), target)
        rows = np.flatnonzero(which.ravel() == i)
        converted[rows] = matrix @ points[rows[:, np.newaxis], there]
    return converted
