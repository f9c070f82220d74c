"""Generator and critic of poses (Jack et al., 3DV 2017)."""

from collections.abc import Sequence

import gin
import keras

from ige.errors import UserError
from ige.problem import Tensors


def _dense(
    tensor: keras.KerasTensor, widths: Sequence[int], activation: str, outputs: int, name: str
) -> keras.KerasTensor:
    """Dense layers of `widths`, then a linear one of `outputs` units; zero biases at first."""
    activations = [activation] * len(widths) + ["linear"]
    for i, (width, act) in enumerate(zip((*widths, outputs), activations, strict=True)):
        layer = keras.layers.Dense(
            width, act, kernel_initializer="glorot_normal", name=f"{name}_dense{i}"
        )
        tensor = layer(tensor)
    return tensor


def _check_widths(parameter: str, widths: Sequence[int]) -> None:
    if any(width < 1 for width in widths):
        raise UserError(f"{parameter}: got {list(widths)}, expected numbers of units above 0")


@gin.configurable(module="hpe", denylist=["inputs", "output_spec"])
def get_generator_inference(
    inputs: Tensors,
    output_spec: keras.layers.InputSpec,
    widths: tuple[int, ...] | list[int] = (128, 64),
    activation: str = "relu",
) -> keras.KerasTensor:
    """A pose from a latent: dense layers, the last one linear.

    Args:
        inputs: `latent` (batch, latents).
        output_spec: spec of the pose (joints, 3).
        widths: units of the hidden layers, `n_g` in the published code.
        activation: of the hidden layers: 'relu', 'elu' or another one of Keras's.

    Returns:
        (batch, joints, 3).

    Raises:
        UserError: a width below 1.
    """
    _check_widths("hpe.get_generator_inference.widths", widths)
    joints, dimensions = output_spec.shape
    flat = _dense(inputs["latent"], widths, activation, joints * dimensions, "generator")
    return keras.layers.Reshape((joints, dimensions))(flat)


@gin.configurable(module="hpe", denylist=["shape"])
def get_critic(
    shape: tuple[int, ...],
    widths: tuple[int, ...] | list[int] = (128, 64),
    activation: str = "relu",
) -> keras.Model:
    """Judges poses: dense layers, the last one linear.

    Args:
        shape: (joints, 3) of a pose.
        widths: units of the hidden layers, `n_c` in the published code.
        activation: of the hidden layers: 'relu', 'elu' or another one of Keras's.

    Returns:
        Model of poses (batch, joints, 3) -> logits (batch, 1), high for real poses.

    Raises:
        UserError: a width below 1.
    """
    _check_widths("hpe.get_critic.widths", widths)
    pose = keras.Input(shape, name="pose")
    logit = _dense(keras.layers.Flatten()(pose), widths, activation, 1, "critic")
    return keras.Model(pose, logit, name="critic")
