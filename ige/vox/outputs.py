"""What trained networks say of views, as plain arrays, and how good it is."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from scipy.special import expit

from ige import descents
from ige.vox import metrics

Measurement = Callable[[Any, Any], tuple[tf.Tensor, tf.Tensor]]
"""Inputs and labels of a batch -> overlaps (batch, iterates, thresholds) at `metrics.THRESHOLDS`,
and the probabilities (batch, R, R, R) of the last iterate."""


def measurement(model: keras.Model, specs: Any = None) -> Measurement:
    """Returns what compares the predictions of a network with the truth, compiled.

    Args:
        model: predicts logits (batch, R, R, R), or iterates (batch, n, R, R, R).
        specs: of inputs and labels, with batches of any size: they share what is compiled.
    """
    several = len(model.output_shape) > 4

    def measure(inputs, labels):
        found = tf.sigmoid(model(inputs, training=False))
        iterates = tf.unstack(found, axis=1) if several else [found]
        overlaps = [metrics.overlaps(labels, grids, metrics.THRESHOLDS) for grids in iterates]
        return tf.stack(overlaps, axis=1), iterates[-1]

    return tf.function(measure, input_signature=specs, autograph=False)


def with_iterates(model: keras.Model) -> tuple[keras.Model, list[str]]:
    """Returns a model that predicts all iterates (batch, n, R, R, R), and their n names.

    Args:
        model: a network as `Problem.for_prediction` has it; one that does not descend has one
            iterate, and is returned as it is.
    """
    layers = (layer for layer in model.layers if isinstance(layer, descents.LastIterate))
    layer = next(layers, None)
    if layer is None:
        return model, ["prediction"]
    count = layer.input.shape[1]
    # The shape leaves the number open where it is not that of training.
    steps = descents.optimizer(model).test_steps if count is None else count - 1
    between = [f"step {step}" for step in range(1, steps)]
    names = ["first guess", *between, f"step {steps}: result"]
    return keras.Model(model.inputs, layer.input), names


def probabilities(model: keras.Model, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns how likely every cell is solid, of a network that predicts logits.

    Args:
        model: predicts (batch, R, R, R), or iterates (batch, n, R, R, R).
        inputs: a batch: `image` (batch, size, size, 3) uint8, `silhouette` (batch, size, size) bool
            and the camera; see `VoxProblem`.

    Returns:
        (batch, n, R, R, R) float32, the last of them what is predicted.
    """
    # Not compiled: that takes longer than the few batches that are looked at.
    found = expit(np.asarray(model(dict(inputs), training=False), np.float32))
    return found if found.ndim == 5 else found[:, np.newaxis]
