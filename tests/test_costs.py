"""Parameters and arithmetic of networks, counted by hand."""

import logging

import keras
import tensorflow as tf

from ige.costs import count_flops, count_parameters
from ige.hpe import layers
from ige.hpe.energies import ConsistencyEnergy, FeasibilityEnergy
from ige.hpe.models.baseline import NormClippedDense, get_baseline_inference
from ige.hpe.models.ige import get_ige_inference
from ige.hpe.skeleton import get_skeleton
from ige.layers import InferenceMode
from ige.unroll import UnrolledSGD

SPEC = {"x": keras.layers.InputSpec(shape=(3, 2), dtype="float32")}


def network():
    inputs = keras.Input((3, 2), name="x")
    x = keras.layers.Flatten()(inputs)
    x = keras.layers.Dense(10, use_bias=False)(x)
    x = keras.layers.BatchNormalization()(x)
    return keras.Model({"x": inputs}, keras.layers.Dense(4)(x))


def test_parameters_are_without_statistics():
    """6 x 10 weights, 10 scales, 10 offsets, 10 x 4 weights and 4 biases; no moving statistics."""
    assert count_parameters(network()) == 60 + 20 + 40 + 4


def test_frozen_parameters_count_too():
    frozen = network()
    frozen.trainable = False
    inputs = keras.Input((3, 2), name="x")
    whole = keras.Model({"x": inputs}, keras.layers.Dense(5)(InferenceMode(frozen)({"x": inputs})))
    assert count_parameters(whole) == 60 + 20 + 40 + 4 + 20 + 5


def test_flops_of_a_prediction():
    """Two for each weight of the dense layers, one for each bias; normalisation is not free."""
    dense = 2 * (60 + 40) + 4
    assert dense <= count_flops(network(), SPEC) <= dense + 10 * 10


def test_what_a_call_does_once_does_not_count():
    """The kernel is clipped once for all examples."""
    inputs = keras.Input((3, 2), name="x")
    outputs = NormClippedDense(100)(keras.layers.Flatten()(inputs))
    assert count_flops(keras.Model({"x": inputs}, outputs), SPEC) == 2 * 600 + 100


def test_flops_of_a_descent(capfd):
    """Four steps down the energy of poses of 16 joints, which evaluate it and its gradient.

    Two operations for each element of these matrices; what is left are single numbers.
    """
    names = {"pose_2d": (16, 2), "radial": (3,), "tangential": (2,)}
    spec = {
        name: keras.layers.InputSpec(shape=shape, dtype="float32") for name, shape in names.items()
    }
    inputs = {name: keras.Input(shape, name=name) for name, shape in names.items()}

    def base(inputs, output_spec):
        return get_baseline_inference(inputs, output_spec, filters=128, num_blocks=1)

    pose_spec = layers.PoseSpec(get_skeleton("h36m_16"), lambda poses, name: poses)
    iterates = get_ige_inference(
        inputs, pose_spec, base, None, UnrolledSGD, FeasibilityEnergy, ConsistencyEnergy
    )
    base_weights = 32 * 128 + 2 * 128 * 128 + 128 * 48
    observed = 32 * 32 + 2 * 16 * 120 + 120 * 256
    weights = (120 + 376) * 256 + 2 * 256 * 8
    # Both terms take the coordinates apart, the second those of the observed joints too; the
    # differences of pairs and, projected, from observed joints; the distance of the hips.
    constant = 2 * 48 * 48 + 3 * 16 * 120 + 2 * 16 * 376 + 120
    constant_of_observed = 32 * 32 + 2 * 16 * 376
    step = 2 * (weights + constant) + constant_of_observed
    by_hand = 2 * (base_weights + observed + 4 * step)
    counted = count_flops(keras.Model(inputs, iterates), spec)
    assert by_hand <= counted <= 1.05 * by_hand
    printed = capfd.readouterr()
    assert "no flops stats" not in printed.out + printed.err


def test_what_is_not_part_of_the_outputs_does_not_count():
    class Spare(keras.layers.Layer):
        def call(self, x):
            tf.matmul(x, tf.ones((6, 100)))
            return tf.matmul(x, tf.ones((6, 5)))

    inputs = keras.Input((3, 2), name="x")
    outputs = Spare()(keras.layers.Flatten()(inputs))
    assert count_flops(keras.Model({"x": inputs}, outputs), SPEC) == 2 * 6 * 5


def test_counting_leaves_the_logger_as_it_was():
    logger = logging.getLogger("tensorflow")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    count_flops(network(), SPEC)
    after = logger.level
    logger.setLevel(before)
    assert after == logging.CRITICAL
