"""Trains the toy problem on several devices: `python worker.py folder mirrored|multi_worker`."""

import os
import pathlib
import signal
import sys

import gin
import keras
import tensorflow as tf
import toy

from ige import distribution, training


class DieOnce(keras.callbacks.Callback):
    """Kills this process in the second epoch, unless it did so before."""

    def __init__(self, marker):
        super().__init__()
        self._marker = marker

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self._epoch == 1 and not self._marker.exists():
            self._marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def narrow(inputs, output_spec):
    """Batch statistics, but no dropout; a bias before them would learn from rounding only."""
    x = keras.layers.Dense(8, use_bias=False)(inputs["x"])
    x = keras.layers.BatchNormalization()(x)
    return keras.layers.Dense(output_spec.shape[-1])(x)


def train(folder, callbacks=()):
    training.train(
        folder,
        "",
        lambda problem: toy.Record(),
        problem=toy.LineProblem(validation=True),
        inference_fn=narrow,
        optimizer=keras.optimizers.Adam(0.05),
        epochs=3,
        batch_size=16,
        log_every=2,
        jit_compile=False,
        callbacks=callbacks,
    )


if __name__ == "__main__":
    folder, how = pathlib.Path(sys.argv[1]), sys.argv[2]
    if how == "mirrored":
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * 2
        )
    mortal = how == "multi_worker" and '"index": 1' in os.environ["TF_CONFIG"]
    gin.bind_parameter("strategy.distribution", how)
    with distribution.spread():
        train(folder, [DieOnce(folder / "killed")] if mortal else [])
