"""What networks say of views: probabilities, and the names of iterates."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ige import descents
from ige.unroll import UnrolledSGD
from ige.vox.outputs import probabilities, with_iterates

INPUTS = {"image": np.float32([np.full((2, 2, 2), -1), np.zeros((2, 2, 2))])}


def falling(state, conditions):
    """A step of 1 adds 1 to every logit."""
    return -tf.reduce_sum(state, axis=(1, 2, 3))


@pytest.mark.parametrize(
    ("test_steps", "expected"),
    [
        (None, ["first guess", "step 1", "step 2: result"]),
        (1, ["first guess", "step 1: result"]),
        (3, ["first guess", "step 1", "step 2", "step 3: result"]),
    ],
)
def test_iterates_of_a_descent(test_steps, expected):
    logits = keras.Input((2, 2, 2), name="image")
    iterates = UnrolledSGD(falling, 2, test_steps, learning_rate=1.0)(logits)
    model = descents.last(keras.Model({"image": logits}, iterates))
    whole, names = with_iterates(model)
    assert names == expected
    found = probabilities(whole, INPUTS)
    assert found.shape == (2, len(names), 2, 2, 2)
    steps = np.arange(len(names))
    np.testing.assert_allclose(found[0, :, 0, 0, 0], 1 / (1 + np.exp(1 - steps)), rtol=1e-6)
    np.testing.assert_allclose(found[1, :, 1, 1, 1], 1 / (1 + np.exp(-steps)), rtol=1e-6)
    np.testing.assert_array_equal(probabilities(model, INPUTS), found[:, -1:])


def test_one_prediction_is_its_only_iterate():
    logits = keras.Input((2, 2, 2), name="image")
    model = keras.Model({"image": logits}, keras.layers.Identity()(logits))
    whole, names = with_iterates(model)
    assert whole is model
    assert names == ["prediction"]
    found = probabilities(whole, INPUTS)
    assert (found.shape, found.dtype) == ((2, 1, 2, 2, 2), np.float32)
    np.testing.assert_allclose(found[0], 1 / (1 + np.e), rtol=1e-6)
