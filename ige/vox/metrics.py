"""How good predicted grids are: overlap at thresholds, and the F-score of their surfaces."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ige.vox.losses import overlap

THRESHOLDS = tuple(round(0.05 * i, 2) for i in range(1, 20))
"""That one is chosen from."""

PUBLISHED = 0.4
"""The threshold of 3D-R2N2, for comparison."""

TOLERANCE = 0.01
"""Of surfaces, in lengths of the object frame."""

LABELS = {
    "iou": "IoU",
    "iou_published": f"IoU at {PUBLISHED}",
    "f_score": f"F-score at {TOLERANCE:.0%}",
}
"""What the figures are called in tables; all in per cent."""


def overlaps(y_true: tf.Tensor, probabilities: tf.Tensor, thresholds: Sequence[float]) -> tf.Tensor:
    """Returns the overlaps (batch, thresholds) of the cells above each threshold.

    Args:
        y_true: (batch, R, R, R) bool.
        probabilities: (batch, R, R, R).
        thresholds: between 0 and 1.
    """
    above = (tf.cast(probabilities > threshold, tf.float32) for threshold in thresholds)
    return tf.stack([overlap(y_true, cells) for cells in above], axis=-1)


def choose_threshold(of_thresholds: np.ndarray) -> float:
    """Returns the one of `THRESHOLDS` with the highest mean overlap (examples, thresholds)."""
    return THRESHOLDS[int(of_thresholds.mean(axis=0).argmax())]


def _faces(grids: tf.Tensor) -> list[tf.Tensor]:
    """Returns which faces between a cell and the next along x, y and z are surface, for each axis
    (batch, R, R, R) bool. The last cell along an axis has the first for its next."""
    return [tf.not_equal(grids, tf.roll(grids, -1, axis)) for axis in (1, 2, 3)]


def _near(faces: Sequence[tf.Tensor], axis: int, distance: float) -> tf.Tensor:
    """Returns which faces (batch, R, R, R) across an axis have one of `faces` at most so far away,
    from centre to centre, in cells."""
    reach = range(-math.ceil(distance) - 1, math.ceil(distance) + 2)
    near = tf.zeros_like(faces[axis])
    for other, step in itertools.product(range(3), itertools.product(reach, repeat=3)):
        # The centre of face i across an axis is half a cell further along it than that of cell i.
        way = np.add(step, 0.5 * (np.eye(3)[other] - np.eye(3)[axis]))
        if np.linalg.norm(way) <= distance + 1e-9:
            near |= tf.roll(faces[other], [-s for s in step], axis=(1, 2, 3))
    return near


def f_scores(y_true: tf.Tensor, y_pred: tf.Tensor, tolerance: float = TOLERANCE) -> tf.Tensor:
    """Returns the F-score (batch,) of surfaces: the harmonic mean of precision and recall.

    The points of a surface are the centres of the faces between solid and empty cells. Precision is
    the share of the predicted points that have a true one within the tolerance, recall the share of
    the true ones that have a predicted one. On grids whose cells are larger than the tolerance
    these are the faces that both have. Two empty grids have 1.

    Args:
        y_true: (batch, R, R, R) bool.
        y_pred: (batch, R, R, R) bool.
        tolerance: in lengths of the object frame.
    """
    distance = tolerance * y_true.shape[1]
    border = math.ceil(distance) + 2
    padding = [[0, 0], *[[border, border]] * 3]
    true, predicted = (_faces(tf.pad(grids, padding)) for grids in (y_true, y_pred))

    def matched(of: list[tf.Tensor], others: list[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        found = [faces & _near(others, axis, distance) for axis, faces in enumerate(of)]
        return tuple(
            tf.add_n([tf.math.count_nonzero(faces, (1, 2, 3), dtype=tf.float32) for faces in each])
            for each in (found, of)
        )

    (precise, all_predicted), (recalled, all_true) = (
        matched(predicted, true),
        matched(true, predicted),
    )
    shares = [
        tf.math.divide_no_nan(found, total)
        for found, total in ((precise, all_predicted), (recalled, all_true))
    ]
    scores = tf.math.divide_no_nan(2 * shares[0] * shares[1], shares[0] + shares[1])
    return tf.where((all_predicted == 0) & (all_true == 0), 1.0, scores)


def summarise(figures: dict[str, np.ndarray], classes: Sequence[str]) -> dict[str, Any]:
    """Returns means of figures (examples,), in per cent.

    Args:
        figures: name -> values from 0 to 1.
        classes: of the examples.

    Returns:
        Every figure's mean over examples, 'over_actions' with its means over classes (the name that
        `compare` knows), 'by_class' and 'labels'.
    """
    percent = {name: 100 * np.asarray(values, np.float64) for name, values in figures.items()}
    names, of_class = np.unique(np.asarray(classes), return_inverse=True)
    by_class = {
        str(name): {
            figure: float(values[of_class == i].mean()) for figure, values in percent.items()
        }
        for i, name in enumerate(names)
    }
    return {
        **{figure: float(values.mean()) for figure, values in percent.items()},
        "over_actions": {
            figure: float(np.mean([row[figure] for row in by_class.values()])) for figure in percent
        },
        "by_class": by_class,
        "examples": len(of_class),
        "labels": LABELS,
    }


def format_summary(summary: dict[str, Any]) -> str:
    """Returns the table of `summarise`'s figures, a row per class and both averages."""
    figures = list(summary["over_actions"])
    rows = summary["by_class"] | {
        "mean of classes": summary["over_actions"],
        "mean of examples": {figure: summary[figure] for figure in figures},
    }
    width = max(map(len, rows))
    widths = [max(len(LABELS[figure]), 5) for figure in figures]
    lines = [
        " " * width + "".join(f"  {LABELS[f]:>{w}}" for f, w in zip(figures, widths, strict=True))
    ]
    for name, row in rows.items():
        cells = (f"  {row[f]:>{w}.2f}" for f, w in zip(figures, widths, strict=True))
        lines.append(f"{name:<{width}}" + "".join(cells))
    return "\n".join(lines)
