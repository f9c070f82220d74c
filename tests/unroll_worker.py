"""Trains through an unrolled optimiser: `python unroll_worker.py file.npz`, on two devices."""

import sys

import keras
import numpy as np
import tensorflow as tf

from ige.unroll import UnrolledSGD


@keras.saving.register_keras_serializable(package="tests")
class Waves(keras.layers.Layer):
    """An energy that is not convex: sum over the outputs of a sine of a dense layer."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(2, dtype=self.dtype_policy)

    def call(self, state, conditions):
        waves = tf.sin(self.dense(tf.concat([state, conditions], axis=-1)))
        return tf.reduce_sum(waves, axis=-1) + 0.1 * tf.reduce_sum(tf.square(state), axis=-1)


def batch(size=8):
    rng = np.random.default_rng(1)
    return [rng.normal(size=(size, 3)).astype(np.float32) for _ in range(3)]


def network(energy=None, **settings):
    """Returns a network whose guess is refined, and which gives the last iterate."""
    settings = {
        "learning_rate": 0.3,
        "momentum": 0.2,
        "learned": ["learning_rate", "momentum"],
    } | settings
    x, conditions = keras.Input((3,)), keras.Input((3,))
    start = keras.layers.Dense(3, name="start")(x)
    iterates = UnrolledSGD(energy or Waves(), 2, **settings)(start, conditions)
    return keras.Model([x, conditions], iterates[:, -1])


def train(batch_size=8):
    """Returns the weights after two steps, and those before them."""
    keras.utils.set_random_seed(0)
    model = network()
    before = model.get_weights()
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    x, conditions, y = batch()
    model.fit([x, conditions], y, batch_size, epochs=2, shuffle=False, verbose=0)
    return model.get_weights(), before


if __name__ == "__main__":
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        weights, _ = train()
    np.savez(sys.argv[1], *weights, replicas=strategy.num_replicas_in_sync)
