import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from ige import layers


def dropped(jit_compile, rate=0.25, draws=2, shape=(100, 200)):
    """Returns what is left of ones, (draws, *shape)."""
    keras.utils.set_random_seed(0)
    layer = layers.Dropout(rate)
    function = tf.function(lambda x: layer(x, training=True), jit_compile=jit_compile)
    with layers.compiled_by_xla() if jit_compile else contextlib.nullcontext():
        return np.stack([function(tf.ones(shape)) for _ in range(draws)])


@pytest.mark.parametrize("jit_compile", [True, False])
def test_the_share_that_is_dropped_and_the_scale_of_the_rest(jit_compile):
    """20,000 units: the standard deviation of their share is 0.3 %."""
    first, second = dropped(jit_compile)
    assert set(np.unique(first)) == {0.0, np.float32(1 / 0.75)}
    assert np.mean(first == 0) == pytest.approx(0.25, abs=0.015)
    both = np.mean((first == 0) & (second == 0))
    assert both == pytest.approx(0.25**2, abs=0.01)
    for axis in (0, 1):
        assert np.std(np.mean(first == 0, axis=axis)) == pytest.approx(
            np.sqrt(0.25 * 0.75 / first.shape[axis]), rel=0.3
        )


@pytest.mark.parametrize("jit_compile", [True, False])
def test_the_seed_fixes_what_is_dropped(jit_compile):
    np.testing.assert_array_equal(dropped(jit_compile), dropped(jit_compile))


def test_xla_draws_with_a_generator_of_its_own():
    assert not np.array_equal(dropped(True), dropped(False))


def test_nothing_is_dropped_outside_training_or_at_rate_0():
    x = np.ones((3, 4), np.float32)
    np.testing.assert_array_equal(layers.Dropout(0.5)(x), x)
    np.testing.assert_array_equal(layers.Dropout(0.0)(x, training=True), x)


def test_units_that_share_their_fate():
    x = layers.Dropout(0.5, noise_shape=(None, 1))(np.ones((200, 3), np.float32), training=True)
    assert all(len(set(row)) == 1 for row in np.asarray(x))


def test_it_is_saved_with_the_network(tmp_path):
    model = keras.Sequential([keras.Input((2,)), layers.Dropout(0.3, name="drop")])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.layers[0]) is layers.Dropout
    assert loaded.layers[0].rate == 0.3


def test_a_network_in_inference_mode_is_the_same_in_training(tmp_path):
    inputs = keras.Input((4,))
    outputs = keras.layers.BatchNormalization()(keras.layers.Dropout(0.5)(inputs))
    network = keras.Model(inputs, outputs)
    model = keras.Model(inputs, layers.InferenceMode(network, trainable=False)(inputs))
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_allclose(model(x, training=True), x / np.sqrt(1 + 1e-3), rtol=1e-6)
    assert np.abs(network(x, training=True) - x).max() > 1
    assert model.trainable_variables == []
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(again(x, training=True), model(x))
    assert again.trainable_variables == []
