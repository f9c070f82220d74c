import keras
import numpy as np
import pytest

from ige.hpe import layers

BONES = [[1, 0], [2, 1]]
# Joints 3 and 4 apart: the bones are 7 long in all. Mean depth 2.
POSE = np.array([[[0, 0, 2], [3, 0, 2], [3, 4, 2]]], np.float32)


def test_bone_lengths_by_hand():
    np.testing.assert_allclose(layers.bone_lengths(POSE, BONES), [7.0])


@pytest.mark.parametrize("factor", [1.0, 0.01, -2.0])
def test_scale_and_sign_of_the_input_do_not_matter(factor):
    layer = layers.BoneLengthScale(BONES, 3.5)
    np.testing.assert_allclose(layer(factor * POSE), POSE / 2, rtol=1e-6)


def test_coincident_joints_stay_finite():
    layer = layers.BoneLengthScale(BONES, 3.5)
    assert np.isfinite(layer(np.zeros((1, 3, 3), np.float32))).all()


def test_config_round_trip():
    layer = layers.BoneLengthScale(BONES, 3.5, name="scale")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.get_config() == layer.get_config()
    np.testing.assert_array_equal(again(POSE), layer(POSE))


def test_standardise_and_its_inverse(rng):
    mean, std = rng.random((3, 2)), 0.5 + rng.random((3, 2))
    x = rng.random((5, 3, 2), dtype=np.float32)
    forward = layers.standardise(mean, std, False, "forward")
    inverse = layers.standardise(mean, std, True, "inverse")
    np.testing.assert_allclose(forward(x), (x - mean) / std, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(inverse(forward(x)), x, rtol=1e-4, atol=1e-5)


def test_statistics_are_saved_with_the_model(rng, tmp_path):
    inputs = keras.Input((3, 2))
    layer = layers.standardise(rng.random((3, 2)), 0.5 + rng.random((3, 2)), False, "forward")
    model = keras.Model(inputs, layer(inputs))
    model.save(tmp_path / "model.keras")
    x = rng.random((5, 3, 2), dtype=np.float32)
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(x), model(x))
