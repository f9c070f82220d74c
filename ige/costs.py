"""What a network costs: parameters, and arithmetic per example."""

import logging

import keras
import numpy as np
import tensorflow as tf


def count_parameters(model: keras.Model) -> int:
    """Returns the number of trainable parameters."""
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


def count_flops(model: keras.Model) -> int:
    """Returns the floating-point operations of a prediction for one example.

    Counted by TensorFlow's profiler in the graph of a call: a multiplication and an addition are
    two, what is cheap beside them (ReLU, for one) may not be counted.
    """
    signature = {
        tensor.name: tf.TensorSpec((1, *tensor.shape[1:]), tensor.dtype) for tensor in model.inputs
    }
    call = tf.function(lambda inputs: model(inputs, training=False))
    profiler = tf.compat.v1.profiler
    options = profiler.ProfileOptionBuilder(profiler.ProfileOptionBuilder.float_operation())
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it tells its user that it is of TensorFlow 1
    try:
        graph = call.get_concrete_function(signature).graph
        return profiler.profile(graph, options=options.with_empty_output().build()).total_float_ops
    finally:
        logger.setLevel(level)
