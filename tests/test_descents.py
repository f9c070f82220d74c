import keras
import numpy as np
import pytest
import tensorflow as tf

from ige import descents
from ige.unroll import UnrolledSGD


def distance(state, conditions):
    return tf.reduce_sum(tf.square(state - conditions), axis=-1)


def network(**options):
    """Halves the distance of a number from another in each step, and doubles all iterates."""
    inputs = [keras.Input((1,)), keras.Input((1,))]
    outputs = UnrolledSGD(distance, 2, learning_rate=0.25, **options)(*inputs)
    iterates = outputs[0] if options.get("return_energies") else outputs
    return keras.Model(inputs, keras.layers.Rescaling(2.0)(iterates))


POINT = [np.array([[3.0]]), np.array([[1.0]])]


@pytest.mark.parametrize(("test_steps", "end"), [(None, 3.0), (3, 2.5), (1, 4.0)])
def test_the_last_iterate(test_steps, end):
    model = descents.last(network(test_steps=test_steps))
    np.testing.assert_allclose(model.predict(POINT, verbose=0), [[end]])


def test_all_iterates_and_energies_behind_the_last():
    model = descents.last(network(test_steps=3, return_energies=True))
    iterates, energies = descents.whole(model).predict(POINT, verbose=0)
    np.testing.assert_allclose(iterates, [[[6.0], [4], [3], [2.5]]])
    np.testing.assert_allclose(energies, [[4, 1, 0.25, 0.0625]])


def test_what_has_no_descent_to_show():
    inputs = keras.Input((1,))
    plain = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    assert descents.optimizer(plain) is None
    assert descents.whole(plain) is None
    assert descents.whole(descents.last(network())) is None
    assert descents.optimizer(network()).num_steps == 2
