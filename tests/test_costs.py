"""Parameters and arithmetic of networks, counted by hand."""

import logging

import keras

from ige.costs import count_flops, count_parameters


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
    assert dense <= count_flops(network()) <= dense + 10 * 10


def test_counting_leaves_the_logger_as_it_was():
    before = logging.getLogger("tensorflow").level
    count_flops(network())
    assert logging.getLogger("tensorflow").level == before
