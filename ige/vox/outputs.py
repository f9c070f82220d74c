"""What trained networks say of views, as plain arrays."""

from collections.abc import Mapping

import keras
import numpy as np
from scipy.special import expit

from ige import descents
from ige.vox.resampling import ToObjectFrame


def last(model: keras.Model) -> keras.Model:
    """Returns a model that predicts the last of the iterates (batch, n, R, R, R) that a network
    predicts. If the network ends with `ToObjectFrame`, only that one is resampled."""
    to_object = model.layers[-1]
    if not isinstance(to_object, ToObjectFrame):
        return descents.last(model)
    iterates, *camera = to_object.input
    final = descents.LastIterate(name="last_iterate")(iterates)
    return keras.Model(model.inputs, to_object(final, *camera))


def with_iterates(model: keras.Model) -> tuple[keras.Model, list[str]]:
    """Returns a model that predicts all iterates (batch, n, R, R, R), and their n names.

    Args:
        model: a network as `last` has it; one that does not descend has one iterate, and is
            returned as it is.
    """
    layers = (layer for layer in model.layers if isinstance(layer, descents.LastIterate))
    layer = next(layers, None)
    if layer is None:
        return model, ["prediction"]
    # Keras has the first use of a layer under `output`: that of the network, of all iterates.
    to_object = model.layers[-1]
    iterates = to_object.output if isinstance(to_object, ToObjectFrame) else layer.input
    count = iterates.shape[1]
    # The shape leaves the number open where it is not that of training.
    steps = descents.optimizer(model).test_steps if count is None else count - 1
    between = [f"step {step}" for step in range(1, steps)]
    names = ["first guess", *between, f"step {steps}: result"]
    return keras.Model(model.inputs, iterates), names


def probabilities(model: keras.Model, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns how likely every cell is solid, of a network that predicts logits.

    Args:
        model: predicts (batch, R, R, R), or iterates (batch, n, R, R, R).
        inputs: a batch: `image` (batch, size, size, 3) uint8, `silhouette` (batch, size, size) bool
            and the fields of `ige.vox.views.Views`; see `VoxProblem`.

    Returns:
        (batch, n, R, R, R) float32, the last of them what is predicted.
    """
    # Not compiled: that takes longer than the few batches that are looked at.
    found = expit(np.asarray(model(dict(inputs), training=False), np.float32))
    return found if found.ndim == 5 else found[:, np.newaxis]
