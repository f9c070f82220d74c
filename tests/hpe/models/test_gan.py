import re

import keras
import numpy as np
import pytest

from ige.errors import UserError
from ige.hpe.models.gan import get_critic, get_generator_inference

SPEC = keras.layers.InputSpec(shape=(17, 3), dtype="float32")


def generator(**options):
    latent = {"latent": keras.Input((8,), name="latent")}
    return keras.Model(latent, get_generator_inference(latent, SPEC, **options))


@pytest.mark.parametrize(
    ("widths", "of_generator", "of_critic"),
    [
        # 8 x 51 + 51; 51 + 1.
        ((), 459, 52),
        ((32,), 8 * 32 + 32 + 32 * 51 + 51, 51 * 32 + 32 + 32 + 1),
        (
            (128, 64),
            8 * 128 + 128 + 128 * 64 + 64 + 64 * 51 + 51,
            51 * 128 + 128 + 128 * 64 + 64 + 64 + 1,
        ),
    ],
)
def test_sizes(widths, of_generator, of_critic):
    made, critic = generator(widths=widths), get_critic((17, 3), widths=widths)
    assert made.count_params() == of_generator
    assert critic.count_params() == of_critic
    poses = made({"latent": np.ones((5, 8), np.float32)})
    assert poses.shape == (5, 17, 3)
    assert critic(poses).shape == (5, 1)


def test_biases_are_zero_at_first_and_kernels_are_not():
    for model in (generator(), get_critic((17, 3))):
        for layer in model.layers:
            if layer.weights:
                kernel, bias = layer.get_weights()
                assert not bias.any()
                # Glorot's normal distribution, cut at two deviations; 128 x 32 numbers at least.
                deviation = np.sqrt(2 / sum(kernel.shape))
                if kernel.size > 4000:
                    assert kernel.std() == pytest.approx(deviation, rel=0.1)


@pytest.mark.parametrize(("activation", "least"), [("relu", 0), ("elu", -1)])
def test_the_last_layer_is_linear_and_others_are_not(activation, least):
    """The hidden layer is what the activation lets through of -x and x."""
    critic = get_critic((1, 3), widths=(2,), activation=activation)
    kernel = np.zeros((3, 2))
    kernel[0] = 1, -1
    critic.set_weights([kernel, np.zeros(2), np.array([[1], [10]]), np.array([-5])])
    poses = np.array([[[20.0, 0, 0]], [[-20.0, 0, 0]]], np.float32)
    expected = [[20 + 10 * least - 5], [least + 200 - 5]]
    np.testing.assert_allclose(critic(poses), expected, rtol=1e-6)


@pytest.mark.parametrize("widths", [(0,), (8, -1)])
def test_widths_that_make_no_sense_are_refused(widths):
    message = f"widths: got {list(widths)}, expected numbers of units above 0"
    for name, make in (
        ("get_generator_inference", lambda: generator(widths=widths)),
        ("get_critic", lambda: get_critic((17, 3), widths=widths)),
    ):
        with pytest.raises(UserError, match=rf"^{re.escape(f'hpe.{name}.{message}')}\n"):
            make()
