"""Parameters and arithmetic of networks, counted by hand."""

import logging

import keras

from ige.costs import count_flops, count_parameters
from ige.hpe.models.baseline import NormClippedDense

SPEC = {"x": keras.layers.InputSpec(shape=(3, 2), dtype="float32")}


def network():
    inputs = keras.Input((3, 2), name="x")
    x = keras.layers.Flatten()(inputs)
    x = keras.layers.Dense(10, use_bias=False)(x)
    x = keras.layers.BatchNormalization()(x)
    return keras.Model({"x": inputs}, keras.layers.Dense(4)(x))


def test_parameters_are_those_that_are_trained():
    """6 x 10 weights, 10 scales, 10 offsets, 10 x 4 weights and 4 biases; no moving statistics."""
    assert count_parameters(network()) == 60 + 20 + 40 + 4


def test_flops_of_a_prediction():
    """Two for each weight of the dense layers, one for each bias; normalisation is not free."""
    dense = 2 * (60 + 40) + 4
    assert dense <= count_flops(network(), SPEC) <= dense + 10 * 10


def test_what_a_call_does_once_does_not_count():
    """The kernel is clipped once for all examples."""
    inputs = keras.Input((3, 2), name="x")
    outputs = NormClippedDense(100)(keras.layers.Flatten()(inputs))
    assert count_flops(keras.Model({"x": inputs}, outputs), SPEC) == 2 * 600 + 100


def test_counting_leaves_the_logger_as_it_was():
    logger = logging.getLogger("tensorflow")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    count_flops(network(), SPEC)
    after = logger.level
    logger.setLevel(before)
    assert after == logging.CRITICAL
