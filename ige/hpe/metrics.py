"""Errors of 3D poses: every number that a report shows is computed here, in float64.

Definitions: Martinez et al. 2017 and Pavllo et al. 2019 (MPJPE, P-MPJPE, N-MPJPE, MPJVE), Jack et
al. 2017 (one transform per sequence), Mehta et al. 2017 (PCK, AUC).
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from ige.errors import UserError
from ige.geometry import alignment

METRICS = {
    "mpjpe": ("MPJPE", "root-relative", "mm"),
    "n_mpjpe": ("N-MPJPE", "best scale", "mm"),
    "p_mpjpe": ("P-MPJPE", "Procrustes", "mm"),
    "opt_scale": ("opt. scale", "about camera", "mm"),
    "sequence_p_mpjpe": ("P-MPJPE", "per sequence", "mm"),
    "mpjve": ("MPJVE", "velocity", "mm/frame"),
    "pck150": ("PCK", "within 150 mm", "%"),
    "auc": ("AUC", "0 to 150 mm", "%"),
}
"""Metric -> (abbreviation, what it is, unit)."""

LABELS = {metric: f"{name} ({unit})" for metric, (name, _, unit) in METRICS.items()}
LABELS["sequence_p_mpjpe"] = "P-MPJPE per sequence (mm)"
LABELS["pck150"] = "PCK within 150 mm (%)"
LABELS["flops"] = "FLOPs per pose"
"""What evaluation.json has of an experiment -> heading of a table."""

_PCK_THRESHOLD = 150.0
_AUC_STEP = 5.0
_AUC_THRESHOLDS = 31
# Poses of 32 joints in float64 make 3 MB arrays: a dozen of them are alive at a time.
_BLOCK = 4096

Errors = dict[str, np.ndarray]


def _starts(sequence_ids: np.ndarray, frames: int) -> np.ndarray:
    """Returns the first row of every sequence."""
    if sequence_ids.shape != (frames,):
        raise UserError(
            f"sequence_ids: got shape {sequence_ids.shape}, expected ({frames},), one per pose"
        )
    starts = np.flatnonzero(np.r_[True, sequence_ids[1:] != sequence_ids[:-1]])
    ids, counts = np.unique(sequence_ids[starts], return_counts=True)
    if (counts > 1).any():
        raise UserError(
            f"sequence_ids: got the rows of sequence {ids[counts.argmax()]} in {counts.max()} "
            "pieces, expected them next to each other and in the order of time"
        )
    return starts


def _check_poses(predictions: np.ndarray, truth: np.ndarray) -> None:
    if truth.ndim != 3 or truth.shape[2] != 3 or 0 in truth.shape:
        raise UserError(
            f"truth: got shape {truth.shape}, expected (poses, joints, 3), at least one of each"
        )
    if predictions.shape != truth.shape:
        raise UserError(f"predictions: got shape {predictions.shape}, expected {truth.shape}")
    for name, poses in (("predictions", predictions), ("truth", truth)):
        finite = np.isfinite(poses).all(axis=(1, 2))
        if not finite.all():
            raise UserError(
                f"{name}: got NaN or infinity in {np.count_nonzero(~finite)} of {len(poses)} "
                f"poses, first in row {finite.argmin()}, expected finite numbers"
            )


def _counted(joints: Sequence[int] | None, root: int, count_root: bool, total: int) -> list[int]:
    """Returns the indices of the joints that averages are taken over."""
    if not 0 <= root < total:
        raise UserError(f"root: got {root}, expected the index of one of {total} joints")
    counted = list(range(total) if joints is None else joints)
    if len(set(counted)) != len(counted) or not set(counted) <= set(range(total)):
        raise UserError(
            f"joints: got {counted}, expected indices of {total} joints, each at most once"
        )
    counted = [joint for joint in counted if count_root or joint != root]
    if not counted:
        raise UserError("joints: got none to average over, expected at least one joint")
    return counted


def _blocks(starts: np.ndarray, frames: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields slices of whole sequences, and where in the slice each begins.

    A slice has about `_BLOCK` rows, or one longer sequence.
    """
    begin = 0
    for end in np.r_[starts[1:], frames]:
        if end - begin >= _BLOCK or end == frames:
            yield slice(begin, end), starts[(starts >= begin) & (starts < end)] - begin
            begin = end


def _per_sequence(poses: np.ndarray, truth: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Returns poses (n, J, 3) with the sequences beginning at `starts` aligned by one transform."""
    aligned = [
        alignment.procrustes_aligned(p.reshape(-1, 3), t.reshape(-1, 3)).numpy()
        for p, t in zip(np.split(poses, starts[1:]), np.split(truth, starts[1:]), strict=True)
    ]
    return np.concatenate(aligned).reshape(poses.shape)


def _block_errors(
    predictions: np.ndarray,
    truth: np.ndarray,
    starts: np.ndarray,
    root: int,
    counted: list[int],
    include_procrustes: bool,
    absolute: bool,
    whole_tracks: bool,
) -> Errors:
    """Returns the errors of a few whole sequences, float64, that begin at rows `starts`."""

    def distances(aligned: np.ndarray, target: np.ndarray) -> np.ndarray:
        return np.linalg.norm((aligned - target)[:, counted], axis=-1)

    predictions, truth = (poses.astype(np.float64) for poses in (predictions, truth))
    relative, target = (poses - poses[:, root : root + 1] for poses in (predictions, truth))
    errors = {}
    joint_errors = distances(relative, target)
    errors["mpjpe"] = joint_errors.mean(axis=1)
    scaled = alignment.scale_aligned(relative, target).numpy()
    errors["n_mpjpe"] = distances(scaled, target).mean(axis=1)
    if include_procrustes:
        aligned = alignment.procrustes_aligned(relative, target).numpy()
        errors["p_mpjpe"] = distances(aligned, target).mean(axis=1)
        poses = (predictions, truth) if whole_tracks else (relative, target)
        aligned = _per_sequence(*poses, starts)
        errors["sequence_p_mpjpe"] = distances(aligned, poses[1]).mean(axis=1)
    if absolute:
        scaled = alignment.scale_aligned(predictions, truth).numpy()
        errors["opt_scale"] = distances(scaled, truth).mean(axis=1)
    velocity = distances(np.diff(relative, axis=0), np.diff(target, axis=0)).mean(axis=1)
    errors["mpjve"] = np.r_[np.nan, velocity]
    errors["mpjve"][starts] = np.nan
    errors["pck150"] = 100 * (joint_errors <= _PCK_THRESHOLD).mean(axis=1)
    # Of the thresholds 0, 5, ..., 150 an error of e exceeds the first ceil(e / 5).
    passed = _AUC_THRESHOLDS - np.ceil(joint_errors / _AUC_STEP)
    errors["auc"] = 100 * np.maximum(passed, 0).mean(axis=1) / _AUC_THRESHOLDS
    return errors


def frame_errors(
    predictions: np.ndarray,
    truth: np.ndarray,
    sequence_ids: np.ndarray,
    *,
    root: int,
    joints: Sequence[int] | None = None,
    count_root: bool = True,
    include_procrustes: bool = True,
    absolute: bool = True,
    whole_tracks: bool = False,
) -> Errors:
    """Returns metric -> error of every pose (n,), float64. Shows progress on a terminal.

    - mpjpe: mean distance of the joints, both poses relative to the root, mm.
    - n_mpjpe: the same after scaling the relative prediction by <p, g> / <p, p>.
    - p_mpjpe: after the best similarity transform of each pose (rotation, translation and scale;
      no reflection).
    - opt_scale: after scaling the absolute prediction about the camera centre; NaN unless
      `absolute`.
    - sequence_p_mpjpe: after one similarity transform for all root-relative poses of a sequence.
    - mpjve: distance of the differences between a frame and the one before, mm/frame,
      root-relative; NaN in the first frame of every sequence. It depends on the frame rate.
    - pck150: share of joints within 150 mm, percent, root-relative.
    - auc: mean of that share over the 31 thresholds 0, 5, ..., 150 mm, percent.

    Args:
        predictions: (n, J, 3), mm, camera frame.
        truth: (n, J, 3), mm, camera frame.
        sequence_ids: (n,), equal for the poses of one sequence, which follow one another in the
            order of time.
        root: index of the joint that relative poses have at their origin.
        joints: indices of the joints to average over; None for all. Alignments always use all.
        count_root: average over the root too, as published results do, although its root-relative
            error is 0: without it MPJPE over 17 joints is 17/16 as large.
        include_procrustes: compute the two Procrustes metrics, else NaN.
        absolute: the poses are absolute, not root-relative: compute `opt_scale`, else NaN.
        whole_tracks: fit the transform of a sequence to its absolute poses, where people are
            included, as Jack et al. do; else to root-relative ones.

    Raises:
        UserError: shapes do not agree, a number is not finite, or a sequence is in pieces.
    """
    predictions, truth = np.asarray(predictions), np.asarray(truth)
    _check_poses(predictions, truth)
    frames, total = truth.shape[:2]
    counted = _counted(joints, root, count_root, total)
    options = (root, counted, include_procrustes, absolute, whole_tracks)
    starts = _starts(np.asarray(sequence_ids), frames)
    errors = {metric: np.full(frames, np.nan) for metric in METRICS}
    progress = tqdm(total=frames, desc="errors", unit=" poses", leave=False, disable=None)
    # The same numbers wherever the model runs, and no transfer of small matrices.
    with progress, tf.device("CPU:0"):
        for block, begins in _blocks(starts, frames):
            found = _block_errors(predictions[block], truth[block], begins, *options)
            for metric, values in found.items():
                errors[metric][block] = values
            progress.update(block.stop - block.start)
    return errors


def _mean(values: np.ndarray) -> float | None:
    """Returns the mean of the values that are not NaN, None if there are none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else None


def summarise(errors: Errors, groups: Sequence[str] | np.ndarray) -> dict[str, Any]:
    """Averages the errors of poses in groups, usually actions.

    Args:
        errors: from `frame_errors`: metric -> (n,); NaN where a metric is undefined.
        groups: (n,), the group of every pose.

    Returns:
        'over_frames': metric -> mean over all poses; 'over_actions': metric -> mean of the
        groups' means, each group weighing the same; 'by_action': group -> metric -> mean, in
        alphabetical order. None stands for what is nowhere defined. Can be written as JSON.

    Raises:
        UserError: there is not one group per pose.
    """
    groups = np.asarray(groups)
    for values in errors.values():
        if groups.shape != values.shape:
            raise UserError(
                f"groups: got shape {groups.shape}, expected {values.shape}, one per pose"
            )
    by_action = {}
    for group in np.unique(groups):
        chosen = groups == group
        by_action[str(group)] = {metric: _mean(values[chosen]) for metric, values in errors.items()}
    return {
        "over_frames": {metric: _mean(values) for metric, values in errors.items()},
        "over_actions": {
            metric: _mean(np.array([means[metric] for means in by_action.values()], np.float64))
            for metric in errors
        },
        "by_action": by_action,
    }


def format_summary(summary: dict[str, Any], title: str = "action") -> str:
    """Returns a summary as a table in plain text: a row per group, then the two averages.

    Args:
        summary: from `summarise`.
        title: heading of the first column.
    """
    averages = {
        "mean over actions": summary["over_actions"],
        "mean over frames": summary["over_frames"],
    }
    return format_table([summary["by_action"], averages], title)


def format_table(blocks: Sequence[dict[str, dict[str, float | None]]], title: str) -> str:
    """Returns errors as a table in plain text.

    Columns of which nothing is defined are left out; a single undefined value is a dash.

    Args:
        blocks: rows between two rules: name of a row -> metric -> error.
        title: heading of the first column.
    """
    *_, last = blocks[-1].values()
    shown = [metric for metric, mean in last.items() if mean is not None]
    headings = list(zip(*(METRICS[metric] for metric in shown), strict=True))
    table = [[("", *headings[0]), ("", *headings[1]), (title, *headings[2])]]
    for block in blocks:
        table.append([])
        for name, means in block.items():
            cells = ("-" if means[metric] is None else f"{means[metric]:.2f}" for metric in shown)
            table[-1].append((name, *cells))
    rows = itertools.chain.from_iterable(table)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def line(row: tuple[str, ...]) -> str:
        cells = map(str.rjust, row[1:], widths[1:])
        return "  ".join([row[0].ljust(widths[0]), *cells]).rstrip()

    rule = "-" * (sum(widths) + 2 * len(shown))
    return f"\n{rule}\n".join("\n".join(map(line, block)) for block in table)
