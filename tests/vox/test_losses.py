import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from ige.errors import UserError
from ige.vox.losses import IouMetric, VoxelLoss, cross_entropy, overlap


def grid(*cells):
    """The first cells of 2 x 2 x 2; the others are 0."""
    return np.float32([*cells, *[0] * (8 - len(cells))]).reshape(1, 2, 2, 2)


@pytest.mark.parametrize(
    ("truth", "predicted", "expected"),
    [
        (grid(1, 1), grid(1, 1), 1),
        (grid(1, 1), grid(0, 1, 1), 1 / 3),
        (grid(1), grid(0, 1), 0),
        (grid(), grid(), 1),
        (grid(), grid(1), 0),
        # Common .5, union 1 + .5 + .25 - .5.
        (grid(1), grid(0.5, 0.25), 0.5 / 1.25),
    ],
)
def test_overlap_by_hand(truth, predicted, expected):
    np.testing.assert_allclose(overlap(truth > 0, tf.constant(predicted)), [expected], rtol=1e-6)


def test_cross_entropy_by_hand():
    logits = np.log(3.0) * np.float32([1, -1, *[0] * 6]).reshape(1, 2, 2, 2)
    # Probabilities 3/4, 1/4 and 1/2, of which the first cell is solid.
    expected = (-2 * np.log(3 / 4) - 6 * np.log(1 / 2)) / 8
    np.testing.assert_allclose(cross_entropy(grid(1) > 0, logits), [expected], rtol=1e-6)


def test_loss_of_iterates_weighs_the_last_most():
    truth = grid(1, 1) > 0
    sure, wrong = 20 * (2 * grid(1, 1) - 1), 20 * (1 - 2 * grid(1, 1))
    loss = VoxelLoss(cross_entropy_weight=0, iterate_decay=0.5)
    single = loss(truth, wrong), loss(truth, sure)
    np.testing.assert_allclose(single, [1, 0], atol=1e-6)
    np.testing.assert_allclose(loss(truth, np.stack([wrong, sure], axis=1)), 1 / 3, rtol=1e-5)
    both = VoxelLoss(iterate_decay=0.5)
    np.testing.assert_allclose(both(truth, wrong), 20 + 1, rtol=1e-5)


def test_iterates_are_compared_with_the_truth_of_their_own_example(rng):
    """As many iterates as examples, so that nothing else fails when both are mixed up."""
    truth = rng.random((3, 2, 2, 2)) > 0.5
    logits = rng.normal(size=(3, 3, 2, 2, 2)).astype(np.float32)
    loss = VoxelLoss(2.0, 3.0, iterate_decay=0.5, reduction="none")
    expected = []
    for of_example, iterates in zip(truth, logits, strict=True):
        p = 1 / (1 + np.exp(-iterates))
        entropy = -np.where(of_example, np.log(p), np.log(1 - p)).mean((1, 2, 3))
        common = (p * of_example).sum((1, 2, 3))
        union = of_example.sum() + p.sum((1, 2, 3)) - common
        expected.append((2 * entropy + 3 * (1 - common / union)) @ [1 / 7, 2 / 7, 4 / 7])
    np.testing.assert_allclose(loss(truth, logits), expected, rtol=1e-5)


@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_gradient_is_finite_where_nothing_is_solid_and_where_all_is_sure(scale, rng):
    truth = np.stack([np.zeros((2, 2, 2), bool), np.ones((2, 2, 2), bool)])
    logits = tf.constant(scale * rng.normal(size=truth.shape), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = VoxelLoss()(truth, logits)
    assert np.isfinite(value)
    assert np.isfinite(tape.gradient(value, logits)).all()


def test_gradient_is_finite_where_nothing_is_solid_and_that_is_sure():
    """Probabilities of 0 in single precision: of a union of 0 too."""
    logits = tf.fill((1, 2, 2, 2), -1e4)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = VoxelLoss()(tf.zeros((1, 2, 2, 2), tf.bool), logits)
    assert float(value) == 0
    np.testing.assert_array_equal(tape.gradient(value, logits), 0)


def test_overlap_has_the_gradient_of_finite_differences(rng):
    truth = rng.random((2, 3, 3, 3)) > 0.5
    predicted = tf.constant(rng.random((2, 3, 3, 3)))
    theory, numeric = tf.test.compute_gradient(lambda p: overlap(truth, p), [predicted])
    np.testing.assert_allclose(theory[0], numeric[0], atol=1e-7)


def test_metric_of_iterates():
    truth = grid(1, 1) > 0
    iterates = np.stack([grid(1, 1) - 0.5, grid(0, 1, 1) - 0.5], axis=1)
    for iterate, expected in ((-1, 1 / 3), (0, 1)):
        metric = IouMetric(iterate)
        metric.update_state(truth, iterates)
        assert float(metric.result()) == pytest.approx(expected)
        again = IouMetric.from_config(metric.get_config())
        again.update_state(truth, grid(1) - 0.5)
        assert float(again.result()) == pytest.approx(1 / 2)


def test_loss_is_saved():
    loss = VoxelLoss(0.5, 2.0, 0.7, "sum", "mine")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert again.get_config() == loss.get_config()
    truth, logits = grid(1) > 0, grid(1, 2)
    assert float(again(truth, logits)) == float(loss(truth, logits))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"cross_entropy_weight": 0, "overlap_weight": 0},
            "vox.VoxelLoss: got cross_entropy_weight=0, overlap_weight=0, expected numbers from 0 "
            "on, one of them above it",
        ),
        (
            {"iterate_decay": 0},
            "vox.VoxelLoss.iterate_decay: got 0, expected a number above 0",
        ),
    ],
)
def test_numbers_that_make_no_sense(options, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        VoxelLoss(**options)
