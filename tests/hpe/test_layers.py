import keras
import numpy as np
import pytest
import tensorflow as tf

from ige.hpe import layers
from ige.hpe.losses import pose_error
from ige.hpe.skeleton import get_skeleton

BONES = [[1, 0], [2, 1]]
# Joints 3 and 4 apart: the bones are 7 long in all. Mean depth 2.
POSE = np.array([[[0, 0, 2], [3, 0, 2], [3, 4, 2]]], np.float32)


def test_bone_lengths_by_hand():
    np.testing.assert_allclose(layers.bone_lengths(POSE, BONES), [7.0])


@pytest.mark.parametrize("factor", [1.0, 0.01, -2.0])
def test_scale_of_the_input_does_not_matter_but_its_sign_does(factor):
    layer = layers.BoneLengthScale(BONES, 3.5)
    expected = np.sign(factor) * POSE / 2
    np.testing.assert_allclose(layer(factor * POSE), expected, rtol=1e-6)


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


def test_optimal_scale_loss_and_its_gradient_do_not_see_the_layer(rng):
    """d loss(scaled(p)) / d p = d loss(p) / d p, for poses in front of and behind the camera."""
    labels = tf.constant(rng.normal([0, 0, 5], size=(6, 3, 3)))
    poses = tf.Variable(3 * rng.normal(size=(6, 3, 3)) + rng.choice([-4, 4], (6, 1, 1)))
    layer = layers.BoneLengthScale(BONES, 3.5, dtype="float64")
    results = []
    for change in (lambda p: p, layer):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(pose_error(labels, change(poses), "opt_scale", order=1))
        results.append((loss.numpy(), tape.gradient(loss, poses).numpy()))
    np.testing.assert_allclose(results[1][0], results[0][0], rtol=1e-10)
    np.testing.assert_allclose(results[1][1], results[0][1], rtol=1e-8, atol=1e-10)


def test_a_model_inside_another_describes_itself():
    """A model_fn may wrap what problem.build_model returns."""
    skeleton = get_skeleton("h36m_16")
    inputs = keras.Input((16, 2), name="pose_2d")
    seen = layers.ObservedPose(skeleton, [[-1, -1], [1, 1]], [0, 1])(inputs)
    poses = keras.layers.Reshape((16, 3))(keras.layers.Dense(48)(keras.layers.Flatten()(seen)))
    inner = keras.Model(inputs, layers.PredictedPose(skeleton)(poses))
    outer_inputs = keras.Input((16, 2), name="pose_2d")
    outer = keras.Model(outer_inputs, inner(outer_inputs))
    observed, predicted = layers.description(outer)
    assert observed.sizes == [0, 1]
    assert predicted.skeleton == skeleton


def test_a_description_is_saved_and_changes_nothing(tmp_path):
    skeleton = get_skeleton("martinez_16")
    inputs = keras.Input((16, 2))
    centers, sizes = [[-1.0, -0.5], [1.0, 0.5]], [0.1, 0.2]
    model = keras.Model(inputs, layers.ObservedPose(skeleton, centers, sizes)(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    layer = loaded.layers[-1]
    assert (layer.skeleton, layer.centers, layer.sizes) == (skeleton, centers, sizes)
    poses = np.ones((1, 16, 2), np.float32)
    np.testing.assert_array_equal(loaded(poses), poses)
