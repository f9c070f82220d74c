import itertools
import re

import keras
import numpy as np
import pytest

from ige.errors import UserError
from ige.hpe.models.baseline import NormClippedDense, get_baseline_inference

POSE_3D = keras.layers.InputSpec(shape=(16, 3))


def build(**kwargs) -> keras.Model:
    inputs = {"pose_2d": keras.Input((16, 2), name="pose_2d")}
    return keras.Model(inputs, get_baseline_inference(inputs, POSE_3D, **kwargs))


def trainable(model) -> int:
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


@pytest.mark.parametrize(("filters", "blocks", "count"), [(128, 1, 43_824), (1024, 2, 4_286_512)])
def test_parameter_counts_of_the_published_networks(filters, blocks, count):
    """32 -> filters -> 2 * blocks hidden layers -> 48, no biases next to batch norm, IGE-Net."""
    by_hand = (
        32 * filters + 2 * filters + blocks * 2 * (filters**2 + 2 * filters) + (filters + 1) * 48
    )
    assert trainable(build(filters=filters, num_blocks=blocks)) == by_hand == count


@pytest.mark.parametrize(
    ("option", "change"),
    [
        ({"use_batch_norm": False}, 3 * 8 - 3 * 16),  # biases instead of scale and offset
        ({"scale_batch_norm": False}, -3 * 8),
        ({"use_biases": True}, 3 * 8),
        ({"use_batch_norm": False, "use_biases": False}, -3 * 16),
    ],
)
def test_options_change_the_number_of_parameters(option, change):
    small = {"filters": 8, "num_blocks": 1}
    assert trainable(build(**small, **option)) - trainable(build(**small)) == change


@pytest.mark.parametrize("flags", list(itertools.product([False, True], repeat=3)))
def test_max_norm_clips_the_kernels_of_the_chosen_layers(flags):
    first, mid, last = flags
    model = build(
        filters=8, num_blocks=1, max_norm_first=first, max_norm_mid=mid, max_norm_last=last
    )
    got = {
        layer.name: isinstance(layer, NormClippedDense)
        for layer in model.layers
        if isinstance(layer, keras.layers.Dense)
    }
    assert got == {
        "first_dense": first,
        "block0_0_dense": mid,
        "block0_1_dense": mid,
        "last_dense": last,
    }


@pytest.mark.parametrize(("factor", "clipped"), [(10.0, 1 / 50.0), (0.1, 1.0), (0.0, 1.0)])
def test_clipped_dense_by_hand(factor, clipped):
    """Kernel (3, 4) has norm 5: times 10 it is used as (0.6, 0.8), times 0.1 as it is."""
    layer = NormClippedDense(2)
    layer.build((None, 1))
    kernel = factor * np.array([[3.0, 4.0]])
    layer.set_weights([kernel, np.array([1.0, -1.0])])
    expected = 2 * kernel * clipped + [1, -1]
    np.testing.assert_allclose(layer(np.array([[2.0]])), expected, rtol=1e-6)
    np.testing.assert_array_equal(layer.kernel, kernel.astype(np.float32))


def test_clipped_dense_applies_its_activation():
    layer = NormClippedDense(2, activation="relu", kernel_initializer="ones", use_bias=False)
    layer.build((None, 1))
    layer.set_weights([np.array([[0.6, -0.8]])])
    np.testing.assert_allclose(layer(np.array([[1.0]])), [[0.6, 0]], rtol=1e-6)


def test_residual_blocks_pass_their_input_on(rng):
    """With all block kernels zero the residual network is its first and last layer."""
    options = {"filters": 8, "num_blocks": 2, "use_batch_norm": False, "kernel_initializer": "ones"}
    models = {residual: build(residual=residual, **options) for residual in (True, False)}
    x = {"pose_2d": rng.random((4, 16, 2), dtype=np.float32)}
    for model in models.values():
        for layer in model.layers:
            if layer.name.startswith("block") and isinstance(layer, keras.layers.Dense):
                layer.kernel.assign(np.zeros(layer.kernel.shape))
    expected = 8 * x["pose_2d"].sum(axis=(1, 2))[:, None, None] * np.ones((16, 3))
    np.testing.assert_allclose(models[True](x), expected, rtol=1e-5)
    np.testing.assert_array_equal(models[False](x), 0)


def test_frozen_batch_norm_ignores_the_batch(rng):
    x = {"pose_2d": rng.random((4, 16, 2), dtype=np.float32)}
    for freeze in (True, False):
        model = build(filters=8, num_blocks=1, dropout_rate=0.0, freeze_batch_norm=freeze)
        same = np.allclose(model(x, training=True), model(x, training=False), atol=1e-5)
        assert same == freeze


def test_dropout_is_for_training_only(rng):
    x = {"pose_2d": rng.random((4, 16, 2), dtype=np.float32)}
    model = build(filters=64, num_blocks=1, use_batch_norm=False)
    np.testing.assert_array_equal(model(x), model(x))
    assert not np.allclose(model(x, training=True), model(x, training=True))


def test_regulariser_and_initialiser_reach_every_dense_layer():
    model = build(
        filters=8,
        num_blocks=1,
        kernel_regularizer=keras.regularizers.L2(0.5),
        kernel_initializer=keras.initializers.Ones(),
    )
    assert len(model.losses) == 4
    kernels = 32 * 8 + 2 * 64 + 8 * 48
    assert float(sum(model.losses)) == pytest.approx(0.5 * kernels)


def test_a_shared_initialiser_does_not_repeat_its_values():
    model = build(filters=8, num_blocks=1, kernel_initializer=keras.initializers.HeNormal())
    first, second = (np.asarray(model.get_layer(f"block0_{i}_dense").kernel) for i in (0, 1))
    assert not np.allclose(first, second)


@pytest.mark.parametrize("option", [{"filters": 0}, {"num_blocks": -1}, {"dropout_rate": 1.0}])
def test_numbers_that_make_no_sense(option):
    message = "expected filters >= 1, num_blocks >= 0, 0 <= dropout_rate < 1"
    with pytest.raises(UserError, match=re.escape(message)):
        build(**option)


def test_hidden_layers_are_rectified_and_have_the_asked_biases():
    """All kernels 1: 32 inputs x give 8 units max(0, 32 x + b), and outputs 8 times that + b."""
    options = {"filters": 8, "num_blocks": 0, "use_batch_norm": False, "kernel_initializer": "ones"}
    for bias, b in (("zeros", 0.0), ("ones", 1.0)):
        model = build(bias_initializer=bias, **options)
        for x in (-1.0, 1.0):
            pose = {"pose_2d": np.full((1, 16, 2), x, np.float32)}
            np.testing.assert_allclose(model(pose), 8 * max(0, 32 * x + b) + b)
