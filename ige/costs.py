"""What a network costs: parameters, and arithmetic per example."""

import logging
from typing import Any

import keras
import numpy as np
import tensorflow as tf

# What batch normalisation measures instead of learning it.
_STATISTICS = {"moving_mean", "moving_variance"}


def count_parameters(model: keras.Model) -> int:
    """Returns the number of parameters, also of those layers that are frozen, without statistics of
    batch normalisation."""
    counted = (weight for weight in model.weights if weight.name not in _STATISTICS)
    return sum(int(np.prod(weight.shape)) for weight in counted)


def count_flops(model: keras.Model, input_spec: dict[str, keras.layers.InputSpec]) -> int:
    """Returns the floating-point operations that a prediction takes for one more example.

    Counted by TensorFlow's profiler in the graph of a call: a multiplication and an addition are
    two, what is cheap beside them (ReLU, for one) may not be counted, nor what a call does once for
    all its examples (clipping a kernel).

    Args:
        model: the network.
        input_spec: specs of one example's inputs, without the batch dimension.
    """
    one, two = (_count(model, input_spec, examples) for examples in (1, 2))
    return two - one


def _count(model: keras.Model, input_spec: dict[str, keras.layers.InputSpec], examples: int) -> int:
    """Returns the operations of a call for so many examples."""
    signature = {
        name: tf.TensorSpec((examples, *spec.shape), spec.dtype)
        for name, spec in input_spec.items()
    }
    call = tf.function(lambda inputs: model(inputs, training=False))
    profiler = tf.compat.v1.profiler
    options = profiler.ProfileOptionBuilder(profiler.ProfileOptionBuilder.float_operation())
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it tells its user that it is of TensorFlow 1
    try:
        graph = call.get_concrete_function(signature).graph
        options = options.with_empty_output().build()
        profile = profiler.profile(graph, cmd="scope", options=options)
        # What no output depends on is not computed.
        outputs = [tensor.op.name for tensor in graph.outputs]
        needed = tf.compat.v1.graph_util.extract_sub_graph(graph.as_graph_def(), outputs)
        return _operations(profile, {node.name for node in needed.node})
    finally:
        logger.setLevel(level)


def _operations(profile: Any, names: set[str]) -> int:
    """Returns the operations of the nodes of these names in a tree of the profiler."""
    own = profile.float_ops if profile.name in names else 0
    return own + sum(_operations(child, names) for child in profile.children)
