"""Networks that end with a descent: the last of its iterates is what they predict."""

import keras

from ige.unroll import UnrolledOptimizer


def optimizer(model: keras.Model) -> UnrolledOptimizer | None:
    """Returns the unrolled optimiser of a functional model, None if it has none."""
    found = (layer for layer in model.layers if isinstance(layer, UnrolledOptimizer))
    return next(found, None)


@keras.saving.register_keras_serializable(package="ige")
class LastIterate(keras.layers.Layer):
    """(batch, iterates, ...) -> (batch, ...)."""

    def call(self, iterates):
        return iterates[:, -1]


def last(model: keras.Model) -> keras.Model:
    """Returns a model that predicts the last of the iterates that a functional model predicts."""
    return keras.Model(model.inputs, LastIterate(name="last_iterate")(model.output))


def whole(model: keras.Model) -> keras.Model | None:
    """Returns a model that predicts (iterates, energies) where a functional model predicts the
    `LastIterate`; None for other models, and those whose optimiser does not return energies."""
    layer = next((layer for layer in model.layers if isinstance(layer, LastIterate)), None)
    descends = optimizer(model)
    if layer is None or descends is None or not descends.return_energies:
        return None
    return keras.Model(model.inputs, [layer.input, descends.output[1]])
