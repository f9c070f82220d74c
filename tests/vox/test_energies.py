import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from ige.errors import UserError
from ige.unroll import UnrolledSGD
from ige.vox.energies import ConsistencyEnergy, RealismEnergy, VoxelEnergy, visible

SMALL = {"hidden_units": 4, "num_outputs": 2, "num_scales": 2}


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(0)


def test_a_ray_meets_something_unless_all_its_cells_are_empty():
    probabilities = np.array([[[[0.5, 0.5, 0.2], [0.1, 0.1, 0.1]]]])
    logits = np.log(probabilities / (1 - probabilities))
    np.testing.assert_allclose(visible(tf.constant(logits)), [[[0.8, 1 - 0.9**3]]])


def test_an_empty_ray_still_has_a_slope():
    """Probabilities of 1e-9 would be lost in 1 - (1 - p); softplus keeps them."""
    logits = tf.fill((1, 1, 1, 1), -20.7)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        seen = visible(logits)
    np.testing.assert_allclose(seen, np.exp(-20.7), rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(seen, logits), np.exp(-20.7), rtol=1e-5)


def condition(rng, term, size=4):
    """Returns what `term` observes in random features, and a silhouette of the left half."""
    silhouette = np.zeros((2, size, size, 1), np.float32)
    silhouette[:, :, : size // 2] = 1
    inputs = keras.Input((size, size, 3)), keras.Input((size, size, 1))
    model = keras.Model(inputs, term.observe(*inputs))
    features = tf.constant(rng.normal(size=(2, size, size, 3)), tf.float32)
    observed = model([features, tf.constant(silhouette)])
    return {"observed": list(observed), "silhouette": tf.constant(silhouette)}


def test_the_silhouette_alone_is_followed_downhill(rng):
    """With kernels of 0 what remains is the cross-entropy: rays into it fill, others empty."""
    term = ConsistencyEnergy(silhouette_weight=1.0, **SMALL)
    energy = VoxelEnergy(consistency=term)
    conditions = condition(rng, term)
    logits = tf.zeros((2, 4, 4, 4))
    energy(logits, conditions)
    for layer in term.outputs:
        layer.kernel.assign(tf.zeros_like(layer.kernel))
    rays, empty = 16, 4 * np.log(2)
    expected = rays / 2 * (empty - np.log(1 - 2.0**-4 + 1e-4))
    np.testing.assert_allclose(energy(logits, conditions), [expected] * 2, rtol=1e-5)
    iterates = UnrolledSGD(energy, num_steps=60, learning_rate=0.3)(logits, conditions).numpy()
    seen = visible(tf.constant(iterates[:, -1])).numpy()
    assert seen[:, :, :2].min() > 0.95
    assert seen[:, :, 2:].max() < 0.3


@pytest.mark.parametrize("stride", [1, 2])
def test_energies_have_finite_second_derivatives(rng, stride):
    """And first ones as finite differences have them, where logits are large too."""
    terms = (
        RealismEnergy(stride=stride, dtype="float64", **SMALL),
        ConsistencyEnergy(stride=stride, dtype="float64", **SMALL),
    )
    energy = VoxelEnergy(*terms, dtype="float64")
    conditions = condition(rng, terms[1])
    logits = tf.constant(rng.normal(size=(2, 4, 4, 2)) * 4)
    energy(logits, conditions)
    theory, numeric = tf.test.compute_gradient(lambda x: energy(x, conditions), [logits])
    np.testing.assert_allclose(theory[0], numeric[0], atol=2e-5)
    with tf.GradientTape() as outer:
        outer.watch(logits)
        with tf.GradientTape() as inner:
            inner.watch(logits)
            total = energy(100 * logits, conditions)
        slope = tf.reduce_sum(tf.square(inner.gradient(total, logits)))
    for gradient in outer.gradient(slope, [logits, *energy.trainable_variables]):
        assert np.isfinite(gradient).all()


def test_examples_are_separate(rng):
    terms = RealismEnergy(**SMALL), ConsistencyEnergy(**SMALL)
    energy = VoxelEnergy(*terms)
    conditions = condition(rng, terms[1])
    logits = tf.constant(rng.normal(size=(2, 4, 4, 4)), tf.float32)
    both = energy(logits, conditions)
    second = tf.nest.map_structure(lambda tensor: tensor[1:], conditions)
    np.testing.assert_allclose(energy(logits[1:], second), both[1:], rtol=1e-5)


@pytest.mark.parametrize("kind", [RealismEnergy, ConsistencyEnergy])
@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"stride": 0}, "stride: got 0, expected a whole number from 1 on"),
        ({"num_scales": 1.5}, "num_scales: got 1.5, expected a whole number from 1 on"),
        ({"temperature": 0}, "temperature: got 0, expected a number above 0"),
    ],
)
def test_numbers_that_make_no_sense(kind, option, message):
    with pytest.raises(UserError, match=rf"^vox\.{kind.__name__}\.{re.escape(message)}$"):
        kind(**option)


def test_weight_of_the_silhouette_is_above_zero():
    message = r"^vox\.ConsistencyEnergy\.silhouette_weight: got 0, expected a number above 0$"
    with pytest.raises(UserError, match=message):
        ConsistencyEnergy(silhouette_weight=0)
