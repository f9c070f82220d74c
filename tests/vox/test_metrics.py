import numpy as np
import pytest
import tensorflow as tf
from scipy.spatial import cKDTree

from ige.vox import metrics


def faces(grid):
    """Centres of the faces between solid and empty cells, in cells; one by one."""
    padded = np.pad(grid, 1)
    found = []
    for axis in range(3):
        first, second = (np.moveaxis(padded, axis, 0)[s] for s in (slice(-1), slice(1, None)))
        at = np.argwhere(np.moveaxis(first != second, 0, axis)) + 0.0
        at[:, axis] += 0.5
        found.append(at)
    return np.concatenate(found)


def f_score(true, predicted, distance):
    a, b = faces(predicted), faces(true)
    precision, recall = (
        (cKDTree(others).query(points)[0] <= distance + 1e-9).mean()
        for points, others in ((a, b), (b, a))
    )
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize("tolerance", [0.01, 0.06, 1 / 12, 0.09, 0.13])
def test_f_scores_are_those_of_nearest_neighbours(rng, tolerance):
    true = rng.random((3, 12, 12, 12)) < 0.1
    predicted = np.where(rng.random(true.shape) < 0.03, ~true, true)
    expected = [f_score(t, p, 12 * tolerance) for t, p in zip(true, predicted, strict=True)]
    assert len({round(score, 6) for score in expected}) == 3
    found = metrics.f_scores(tf.constant(true), tf.constant(predicted), tolerance)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_f_score_by_hand():
    """A cell and the two of which it is one: 6 faces and 10, of which 5 are both's."""
    one, two = np.zeros((2, 1, 4, 4, 4), bool)
    one[0, 0, 0, 0] = two[0, 0, 0, :2] = True
    expected = 2 * (5 / 6) * (5 / 10) / (5 / 6 + 5 / 10)
    for pair in ((one, two), (two, one)):
        np.testing.assert_allclose(metrics.f_scores(*map(tf.constant, pair)), expected, rtol=1e-6)
    empty = tf.zeros((1, 4, 4, 4), tf.bool)
    assert float(metrics.f_scores(empty, empty)[0]) == 1
    assert float(metrics.f_scores(tf.constant(one), empty)[0]) == 0


def test_opposite_borders_are_not_neighbours():
    """The borders of the grid are no nearer than they look: the arrays are rolled."""
    left, right = np.zeros((2, 1, 8, 8, 8), bool)
    left[0, 0], right[0, -1] = True, True
    assert float(metrics.f_scores(tf.constant(left), tf.constant(right), 0.3)[0]) == pytest.approx(
        f_score(left[0], right[0], 2.4)
    )


def test_overlaps_and_the_threshold_that_is_best():
    true = np.zeros((1, 2, 2, 2), bool)
    true[0, 0] = True
    probabilities = np.where(true, 0.72, 0.31).astype(np.float32)
    found = metrics.overlaps(true, tf.constant(probabilities), metrics.THRESHOLDS).numpy()
    expected = [0.5 if t < 0.31 else 1 if t < 0.72 else 0 for t in metrics.THRESHOLDS]
    np.testing.assert_allclose(found, [expected])
    assert metrics.choose_threshold(found) == 0.35  # the lowest of those above .31
    assert metrics.PUBLISHED in metrics.THRESHOLDS


def test_summary_has_both_averages():
    figures = {"iou": np.array([1, 0.5, 0]), "f_score": np.array([0.3, 0.3, 0.6])}
    summary = metrics.summarise(figures, ["chair", "chair", "table"])
    assert summary["iou"] == pytest.approx(50)
    assert summary["over_actions"] == pytest.approx({"iou": 37.5, "f_score": 45})
    assert summary["by_class"]["chair"] == pytest.approx({"iou": 75, "f_score": 30})
    assert summary["examples"] == 3
    assert metrics.format_summary(summary).splitlines() == [
        "                    IoU  F-score at 1%",
        "chair             75.00          30.00",
        "table              0.00          60.00",
        "mean of classes   37.50          45.00",
        "mean of examples  50.00          40.00",
    ]
