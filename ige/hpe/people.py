"""From the people that a detector found in every frame to one person over time."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from ige.errors import UserError
from ige.hpe.keypoints import Keypoints
from ige.hpe.skeleton import Skeleton

MAX_GAP = 10
"""For how many frames nobody may see a person before somebody else is looked for."""

MAX_STEP = 0.3
"""How far the joints of a person may move on average until seen again, in lengths of the person
(the diagonal of the box round the joints). Motion capture of running and jumping people, projected
at 10 frames per second, moves by 0.25 at most (2026-11-21)."""

TORSO = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")
"""The joints that a lifter cannot do without."""

_LISTED = 5
# People smaller than this part of the median one are none.
_SMALLEST = 0.05
# Pairs of frames that tell a video from unrelated images.
_SAMPLED = 100


@dataclasses.dataclass(frozen=True)
class Track:
    """One person over time.

    Attributes:
        source: where the person was chosen from.
        frames: (n,) index into `source.frame_names`: all from the first to the last in which
            the person is seen; of unrelated images, those with a person.
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
    nobody = ranks.max() + 1
    owners = np.full(count, nobody)
    np.minimum.at(owners, covered, np.repeat(ranks[order], lengths))
    return np.where(owners < nobody, owners, -1)


def choose(keypoints: Keypoints, person: int | None, min_confidence: float) -> Track:
    """Follows one person through the frames.

    People are those with one id where the file has ids, otherwise those who moved little from
    frame to frame, over gaps of up to `MAX_GAP`. They are numbered by the area of their boxes,
    summed over the frames, the largest first. In images that have nothing to do with one another
    nobody is followed: people are numbered image by image, and no joint is filled in from others.

    Args:
        person: the number of a person, who is taken alone; None: the largest, in frames without
            that one the next, and so on, of those who are seen from shoulders to hips.
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
            f" (highest: {keypoints.scores.max():.3g}); lower hpe.predict.min_confidence"
        )
    # A point is nobody.
    lengths = np.linalg.norm(_boxes(points), axis=1)
    kept &= lengths >= _SMALLEST * np.median(lengths[kept])
    points, frames = points[kept], keypoints.frames[kept]
    ids = None if keypoints.ids is None else keypoints.ids[kept]
    tracked = ids is not None and len(np.unique(ids)) > 1
    if not tracked and (not keypoints.video or _are_unrelated(points, frames)):
        return _of_each_image(keypoints, points, frames, person)
    ranks = _ranked(points, _link(points, frames) if ids is None else ids)
    people = int(ranks.max()) + 1
    if person is not None and not 0 <= person < people:
        raise UserError(
            f"{keypoints.path}: got hpe.predict.person = {person}, expected 0 (the largest)"
            + (f" to {people - 1}, as there are {people}" if people > 1 else ", the only one")
        )
    return _follow(keypoints, points, frames, ranks, person)


def _torso(points: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Returns which shoulders and hips (..., 4) of points (..., joints, 2) are seen."""
    return np.isfinite(points[..., [skeleton.index(joint) for joint in TORSO], 0])


def _are_unrelated(points: np.ndarray, frames: np.ndarray) -> bool:
    """Whether nobody is where somebody was in the frame before, in two thirds of the frames."""
    starts = np.flatnonzero(np.diff(frames, prepend=-1))
    ends = np.append(starts[1:], len(points))
    lengths = np.linalg.norm(_boxes(points), axis=1)
    steps = []
    for i in range(len(starts) - 1)[:: 1 + len(starts) // _SAMPLED]:
        before, now = slice(starts[i], ends[i]), slice(starts[i + 1], ends[i + 1])
        longest = np.maximum(lengths[before][:, np.newaxis], lengths[now])
        steps.append(_steps(points[before][:, np.newaxis], points[now], longest).min())
    return bool(steps) and float(np.mean(np.greater(steps, MAX_STEP / 2))) > 2 / 3


def _of_each_image(
    keypoints: Keypoints, points: np.ndarray, frames: np.ndarray, person: int | None
) -> Track:
    """Takes the largest person of each image, or the one of that number."""
    if person is None:  # those with a trunk, if there are any
        whole = _torso(points, keypoints.skeleton).all(axis=1)
        whole = whole if whole.any() else ~whole
        points, frames = points[whole], frames[whole]
    order = np.lexsort((-_boxes(points).prod(axis=1), frames))
    first = np.flatnonzero(np.diff(frames[order], prepend=-1))
    counts = np.diff(np.append(first, len(order)))
    rank = person or 0
    if not 0 <= rank < counts.max():
        raise UserError(
            f"{keypoints.path}: got hpe.predict.person = {person}, expected 0 (the largest of each "
            f"image) to {counts.max() - 1}"
        )
    chosen = order[first[counts > rank] + rank]
    total = len(keypoints.frame_names)
    which = "the largest person" if not rank else f"person {rank}"
    notes = [f"{total} unrelated images: took {which} of {len(chosen)}"]
    return Track(keypoints, frames[chosen], points[chosen], np.arange(len(chosen)), notes)


def _follow(
    keypoints: Keypoints,
    points: np.ndarray,
    frames: np.ndarray,
    ranks: np.ndarray,
    person: int | None,
) -> Track:
    """Takes the track of best rank in every frame, or one track alone."""
    skeleton, names = keypoints.skeleton, keypoints.frame_names
    torso = _torso(points, skeleton)
    mine = np.ones(len(ranks), bool) if person is None else ranks == person
    lacking: list[str] = []
    while True:
        owners = _owners(ranks[mine], frames[mine], len(names))
        covered = np.flatnonzero(owners >= 0)
        rows = np.arange(covered[0], covered[-1] + 1)
        taken = mine & (ranks == owners[frames])
        jumps = 1 + np.flatnonzero(np.diff(owners[covered]))
        pieces = np.array([0, *(covered[jumps] - rows[0])])
        # Who is never seen from shoulders to hips is left out, unless nobody would be left.
        piece = np.searchsorted(pieces, frames - rows[0], side="right") - 1
        whole = np.zeros((len(pieces), len(TORSO)), bool)
        np.logical_or.at(whole, piece[taken], torso[taken])
        bad = taken & ~whole.all(axis=1)[piece]
        others = mine & ~bad
        if person is not None or not bad.any() or not others.any():
            break
        lacking.append(names[frames[bad][0]])
        mine = others
    chosen = np.full((len(rows), *points.shape[1:]), np.nan)
    chosen[frames[taken] - rows[0]] = points[taken]
    notes = _followed(keypoints, ranks, owners, rows, covered[jumps], person)
    if lacking:
        notes.append(f"left out: people without shoulders or hips, first at frame {lacking[0]}")
    nobody = rows[~np.isin(rows, frames[taken])]
    if len(nobody):
        where = _listed([names[frame] for frame in nobody])
        notes.append(f"not seen in {len(nobody)} of {len(rows)} frames ({where})")
    return Track(keypoints, rows, chosen, pieces, notes)


def _followed(
    keypoints: Keypoints,
    ranks: np.ndarray,
    owners: np.ndarray,
    rows: np.ndarray,
    jumps: np.ndarray,
    person: int | None,
) -> list[str]:
    """Returns what to tell about who was followed; `jumps`: frames where somebody else begins."""
    names, people = keypoints.frame_names, int(ranks.max()) + 1
    notes = [f"{people} {'people' if people > 1 else 'person'} in {len(names)} frames"]
    if people > 1:
        which = "the largest" if person is None else f"person {person}"
        notes[0] += f", took {which}: frames {names[rows[0]]} to {names[rows[-1]]}"
    if len(jumps):
        to = _listed([f"{owners[f]} at frame {names[f]}" for f in jumps[:_LISTED]])
        more = f" and {len(jumps) - _LISTED} times more" if len(jumps) > _LISTED else ""
        notes.append(f"goes from person {owners[rows[0]]} to person {to}{more}")
    return notes
