"""Layers that any network may use."""

import contextlib
import contextvars
from collections.abc import Iterator

import keras
import tensorflow as tf

_algorithm = contextvars.ContextVar("algorithm", default="auto_select")


@contextlib.contextmanager
def compiled_by_xla() -> Iterator[None]:
    """What is traced meanwhile draws with Threefry, which only XLA has.

    On a CPU it is many times as fast as what XLA takes by itself, with which dropout is half of
    the training step of a small network (docs/benchmarks.md).
    """
    token = _algorithm.set("threefry")
    try:
        yield
    finally:
        _algorithm.reset(token)


def random_algorithm() -> str:
    """Returns the `alg` of TensorFlow's stateless random functions that suits how they are
    compiled."""
    return _algorithm.get()


@keras.saving.register_keras_serializable(package="ige")
class InferenceMode(keras.layers.Layer):
    """A network that behaves in training as it does afterwards: no dropout, moving statistics.

    A functional model hands its own `training` to every layer, whatever the layer was called with.

    Args:
        network: the network.
    """

    def __init__(self, network: keras.Model, **kwargs):
        super().__init__(**kwargs)
        self.network = network
        self.network.trainable = self.trainable

    def call(self, inputs, training=None):
        return self.network(inputs, training=False)

    def compute_output_spec(self, inputs, training=None):
        return self.network.compute_output_spec(inputs)

    def get_config(self):
        network = keras.saving.serialize_keras_object(self.network)
        return super().get_config() | {"network": network}

    @classmethod
    def from_config(cls, config):
        network = keras.saving.deserialize_keras_object(config["network"])
        return cls(**(config | {"network": network}))


@keras.saving.register_keras_serializable(package="ige")
class Dropout(keras.layers.Dropout):
    """Keras's dropout with a random generator that suits how it is compiled."""

    def call(self, inputs, training=False):
        if not training or not self.rate or self.noise_shape is not None:
            return super().call(inputs, training)
        return tf.nn.experimental.stateless_dropout(
            inputs,
            rate=self.rate,
            seed=tf.cast(self.seed_generator.next(), tf.int32),
            rng_alg=random_algorithm(),
        )
