"""From the people that a detector found in every frame to one pose per frame without gaps."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from ige.errors import UserError
from ige.hpe.keypoints import Keypoints
from ige.hpe.skeleton import Skeleton, conversion_matrix

MAX_GAP = 10
"""For how many frames nobody may see a person before somebody else is looked for."""

MAX_STEP = 0.3
"""How far the joints of a person may move on average until seen again, in lengths of the person
(the diagonal of the box round the joints). Motion capture of running and jumping people, projected
at 10 frames per second, moves by 0.25 at most (2026-11-21)."""

_TORSO = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")
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
_LISTED = 5


@dataclasses.dataclass(frozen=True)
class Track:
    """One person over time.

    Attributes:
        source: where the person was chosen from.
        frames: (n,) index into `source.frame_names`: all from the first to the last in which
            the person is seen.
        points: (n, joints, 2) pixels; NaN where missing, or less confident than asked for.
        pieces: rows at which uninterrupted tracking begins, 0 first.
        notes: what to tell the user, a line each.
    """

    source: Keypoints
    frames: np.ndarray
    points: np.ndarray
    pieces: np.ndarray
    notes: list[str]


def _boxes(points: np.ndarray) -> np.ndarray:
    """Returns width and height (people, 2) of the boxes round the joints that are seen."""
    low, high = points[:, 0].copy(), points[:, 0].copy()
    for joint in range(1, points.shape[1]):  # several times as fast as numpy along that axis
        np.fmin(low, points[:, joint], out=low)
        np.fmax(high, points[:, joint], out=high)
    return high - low


def _steps(first: np.ndarray, second: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Returns the mean distance (...) of poses (..., joints, 2) over the joints seen in both.

    In `lengths` (...) of the people; infinite where no joint is in both.
    """
    distances = np.sqrt(sum(np.square(first[..., i] - second[..., i]) for i in (0, 1)))
    seen = np.isfinite(distances)
    total = np.where(seen, distances, 0.0).sum(axis=-1)
    mean = total / np.maximum(seen.sum(axis=-1), 1) / np.maximum(lengths, 1.0)
    return np.where(seen.any(axis=-1), mean, np.inf)


def _link(points: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Returns which track everybody (people,) belongs to, by where they were shortly before."""
    lengths = np.linalg.norm(_boxes(points), axis=1)
    near = np.zeros(len(points), bool)
    steps = _steps(points[1:], points[:-1], np.maximum(lengths[1:], lengths[:-1]))
    near[1:] = steps <= MAX_STEP
    starts = np.flatnonzero(np.diff(frames, prepend=-1))
    # One person in this frame and in the one before, who goes on: most videos are all of that.
    alone = np.diff(starts, append=len(points)) == 1
    plain = alone & near[starts] & np.r_[False, alone[:-1]]
    plain[1:] &= np.diff(frames[starts]) <= MAX_GAP + 1
    ends = np.flatnonzero(~plain)
    labels = np.full(len(points), -1)
    last: dict[int, int] = {}  # track -> the row where it was seen last
    count = i = 0
    while i < len(starts):
        start, stop = int(starts[i]), int(np.append(starts[i + 1 : i + 2], len(points))[0])
        frame = frames[start]
        last = {t: row for t, row in last.items() if frame - frames[row] <= MAX_GAP + 1}
        if plain[i] and list(last.values()) == [start - 1]:
            i = int(np.append(ends[np.searchsorted(ends, i) :][:1], len(starts))[0])
            stop = int(starts[i]) if i < len(starts) else len(points)
            (track,) = last
            labels[start:stop] = track
            last[track] = stop - 1
            continue
        i += 1
        for track, row in _assign(points, lengths, last, np.arange(start, stop)):
            labels[row] = track
        for row in range(start, stop):
            if labels[row] < 0:
                labels[row], count = count, count + 1
            last[int(labels[row])] = row
    return labels


def _assign(
    points: np.ndarray, lengths: np.ndarray, last: dict[int, int], rows: np.ndarray
) -> list[tuple[int, int]]:
    """Returns (track, row) of whoever goes on, so that all together move the least."""
    tracks, before = list(last), np.array(list(last.values()), int)
    longest = np.maximum(lengths[before][:, np.newaxis], lengths[rows])
    costs = _steps(points[before][:, np.newaxis], points[rows], longest)
    # Beyond the limit all are alike: a match there must not cost another one its nearest.
    pairs = zip(*linear_sum_assignment(np.minimum(costs, 2 * MAX_STEP)), strict=True)
    return [(tracks[i], int(rows[j])) for i, j in pairs if costs[i, j] <= MAX_STEP]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def _ranked(points: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the rank (people,) of everybody's track: 0 where the boxes have most area in all."""
    _, first, tracks = np.unique(labels, return_index=True, return_inverse=True)
    areas = np.bincount(tracks, _boxes(points).prod(axis=1))
    order = np.lexsort((first, -areas))
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(order))
    return ranks[tracks]


def _owners(ranks: np.ndarray, frames: np.ndarray, count: int) -> np.ndarray:
    """Returns the best rank (count,) of every frame, -1 where nobody is.

    A track of more than `MAX_GAP` frames also has those of its own short gaps, so that nobody else
    steps in for a moment. In images without relation tracks are short: people who look alike.
    """
    order = np.lexsort((frames, ranks))
    after = np.diff(frames[order], append=count + MAX_GAP)
    goes_on = np.diff(ranks[order], append=-1) == 0
    goes_on &= np.bincount(ranks)[ranks[order]] > MAX_GAP
    lengths = np.where(goes_on & (after <= MAX_GAP + 1), after, 1)
    begins = np.repeat(np.cumsum(lengths) - lengths, lengths)
    covered = np.repeat(frames[order], lengths) + np.arange(lengths.sum()) - begins
    owners = np.full(count, len(ranks))
    np.minimum.at(owners, covered, np.repeat(ranks[order], lengths))
    return np.where(owners < len(ranks), owners, -1)


def choose(keypoints: Keypoints, person: int | None, min_confidence: float) -> Track:
    """Follows one person through the frames.

    People are those with one id where the file has ids, otherwise those who moved little from
    frame to frame, over gaps of up to `MAX_GAP`. They are numbered by the area of their boxes,
    summed over the frames, the largest first.

    Args:
        person: the number of a person, who is taken alone; None: the largest, in frames without
            that one the next, and so on.
        min_confidence: what is less confident counts as missing.

    Raises:
        UserError: nobody is confident enough, or there are fewer people.
    """
    points = np.where(
        (keypoints.scores < min_confidence)[..., np.newaxis], np.nan, keypoints.points
    )
    kept = np.isfinite(points[..., 0]).any(axis=1)
    if not kept.any():
        raise UserError(
            f"{keypoints.path}: no joint of anybody has a confidence of at least {min_confidence:g}"
            f" (highest: {keypoints.scores.max():.3g}); lower predict.min_confidence"
        )
    points, frames, names = points[kept], keypoints.frames[kept], keypoints.frame_names
    labels = _link(points, frames) if keypoints.ids is None else keypoints.ids[kept]
    ranks = _ranked(points, labels)
    people = int(ranks.max()) + 1
    if person is not None and not 0 <= person < people:
        raise UserError(
            f"{keypoints.path}: person: got {person}, expected 0 (the largest) to {people - 1}: "
            f"there are {people}; set predict.person to one of them"
        )
    mine = np.ones(len(ranks), bool) if person is None else ranks == person
    owners = _owners(ranks[mine], frames[mine], len(names))
    covered = np.flatnonzero(owners >= 0)
    rows = np.arange(covered[0], covered[-1] + 1)
    taken = mine & (ranks == owners[frames])
    chosen = np.full((len(rows), *points.shape[1:]), np.nan)
    chosen[frames[taken] - rows[0]] = points[taken]
    jumps = 1 + np.flatnonzero(np.diff(owners[covered]))
    pieces = np.array([0, *(covered[jumps] - rows[0])])

    notes = [f"{people} {'people' if people > 1 else 'person'} in {len(names)} frames"]
    if people > 1:
        which = "the largest" if person is None else f"person {person}"
        notes[0] += f", took {which}: frames {names[rows[0]]} to {names[rows[-1]]}"
    if 2 * len(jumps) > len(rows):
        notes.append("hardly anybody goes on from frame to frame: taken as unrelated images")
    elif len(jumps):
        to = _listed([f"{owners[f]} at frame {names[f]}" for f in covered[jumps[:_LISTED]]])
        more = f" and {len(jumps) - _LISTED} times more" if len(jumps) > _LISTED else ""
        notes.append(f"goes from person {owners[rows[0]]} to person {to}{more}")
    nobody = rows[~np.isin(rows, frames[taken])]
    if len(nobody):
        where = _listed([names[frame] for frame in nobody])
        notes.append(f"not seen in {len(nobody)} of {len(rows)} frames ({where})")
    return Track(keypoints, rows, chosen, pieces, notes)


def _over_time(points: np.ndarray, pieces: np.ndarray) -> np.ndarray:
    """Returns points (n, joints, 2) with gaps filled in linearly over time, ends held, by piece."""
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
    for joint in _TORSO:
        unseen = np.isnan(points[:, skeleton.index(joint), 0])
        if unseen.any():
            row = int(unseen.argmax())
            begins = track.pieces[track.pieces <= row][-1]
            ends = np.append(track.pieces, len(points))[(track.pieces <= row).sum()] - 1
            first, last = (names[track.frames[i]] for i in (begins, ends))
            raise UserError(
                f"{track.source.path}: frames {first} to {last}: {joint} is never seen, expected "
                "shoulders and hips at least once; lower predict.min_confidence, or cut these "
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
    points = _over_time(track.points, track.pieces)
    _refuse_without_torso(points, track)
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
