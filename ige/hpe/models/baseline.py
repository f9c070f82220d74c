"""The residual multilayer perceptron that lifts a 2D pose to 3D (Martinez et al., ICCV 2017)."""

import gin
import keras

from ige.errors import UserError
from ige.layers import Dropout
from ige.problem import Tensors


@keras.saving.register_keras_serializable(package="ige")
class NormClippedDense(keras.layers.Dense):
    """A dense layer that uses its kernel clipped to norm 1, the paper's "max-norm".

    The authors' code clips where the kernel is used, one norm for the whole matrix, and trains the
    unclipped one. Keras's `MaxNorm` constraint clips the variable itself after every step: a matrix
    of norm 1 then has entries as small as one step of Adam, which undoes what was learned.
    """

    def call(self, inputs, training=None):
        norm = keras.ops.sqrt(keras.ops.sum(keras.ops.square(self.kernel)))
        outputs = keras.ops.matmul(inputs, self.kernel / keras.ops.maximum(norm, 1.0))
        return self.activation(outputs + self.bias if self.use_bias else outputs)


@keras.saving.register_keras_serializable(package="ige")
class FrozenStatistics(keras.layers.BatchNormalization):
    """Batch normalisation by the moving statistics in training too; scale and offset still learn.

    A functional model hands its own `training` to every layer, whatever the layer was called with.
    """

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=False, mask=mask)


def _fresh(initializer: str | keras.Initializer) -> keras.Initializer:
    """Returns an initializer for one layer: a shared one would draw the same values twice."""
    if isinstance(initializer, keras.Initializer):
        return type(initializer).from_config(initializer.get_config())
    try:
        return keras.initializers.get(initializer)
    except ValueError as error:
        raise UserError(
            f"hpe.get_baseline_inference: Keras has no initializer {initializer!r}; "
            "use one like 'he_normal'"
        ) from error


@gin.configurable(module="hpe", denylist=["inputs", "output_spec"])
def get_baseline_inference(
    inputs: Tensors,
    output_spec: keras.layers.InputSpec,
    filters: int = 1024,
    num_blocks: int = 2,
    dropout_rate: float = 0.5,
    residual: bool = True,
    kernel_initializer: str | keras.Initializer = "he_normal",
    bias_initializer: str | keras.Initializer = "zeros",
    kernel_regularizer: str | keras.Regularizer | None = None,
    max_norm_first: bool = False,
    max_norm_mid: bool = False,
    max_norm_last: bool = False,
    use_batch_norm: bool = True,
    scale_batch_norm: bool = True,
    freeze_batch_norm: bool = False,
    use_biases: bool | None = None,
) -> keras.KerasTensor:
    """Dense - [dense - dense, added to its input] x `num_blocks` - dense, with ReLU in between.

    Each hidden dense layer is followed by batch normalisation, ReLU and dropout (figure 1 of the
    paper).

    Args:
        inputs: `pose_2d` (batch, joints, 2); other entries are ignored.
        output_spec: spec of the 3D pose (joints, 3).
        filters: width of the hidden layers.
        num_blocks: residual blocks of two hidden layers each.
        dropout_rate: share of the units that training drops.
        residual: add a block's input to its output.
        kernel_initializer: of every dense layer.
        bias_initializer: of every dense layer that has a bias.
        kernel_regularizer: of every dense layer.
        max_norm_first: clip the first layer's kernel to norm 1, see `NormClippedDense`.
        max_norm_mid: the same for the kernels of the blocks.
        max_norm_last: the same for the last kernel.
        use_batch_norm: use batch normalisation.
        scale_batch_norm: batch normalisation learns a scale.
        freeze_batch_norm: batch normalisation uses its moving statistics in training too.
        use_biases: biases in the hidden layers; None: only without batch normalisation, which has
            its own.

    Returns:
        (batch, joints, 3) 3D pose.

    Raises:
        UserError: a number that makes no sense.
    """
    if filters < 1 or num_blocks < 0 or not 0 <= dropout_rate < 1:
        raise UserError(
            f"hpe.get_baseline_inference: got filters={filters}, num_blocks={num_blocks}, "
            f"dropout_rate={dropout_rate}, expected filters >= 1, num_blocks >= 0, "
            "0 <= dropout_rate < 1"
        )
    if use_biases is None:
        use_biases = not use_batch_norm

    def dense(units: int, max_norm: bool, use_bias: bool, name: str) -> keras.layers.Dense:
        return (NormClippedDense if max_norm else keras.layers.Dense)(
            units,
            use_bias=use_bias,
            kernel_initializer=_fresh(kernel_initializer),
            bias_initializer=_fresh(bias_initializer),
            kernel_regularizer=kernel_regularizer,
            name=name,
        )

    def hidden(x: keras.KerasTensor, max_norm: bool, name: str) -> keras.KerasTensor:
        x = dense(filters, max_norm, use_biases, f"{name}_dense")(x)
        if use_batch_norm:
            norm = FrozenStatistics if freeze_batch_norm else keras.layers.BatchNormalization
            x = norm(scale=scale_batch_norm, name=f"{name}_norm")(x)
        x = keras.layers.ReLU(name=f"{name}_relu")(x)
        return Dropout(dropout_rate, name=f"{name}_dropout")(x)

    x = keras.layers.Flatten(name="flatten")(inputs["pose_2d"])
    x = hidden(x, max_norm_first, "first")
    for block in range(num_blocks):
        start = x
        for layer in range(2):
            x = hidden(x, max_norm_mid, f"block{block}_{layer}")
        if residual:
            x = keras.layers.Add(name=f"block{block}_add")([x, start])
    joints, dimensions = output_spec.shape
    x = dense(joints * dimensions, max_norm_last, True, "last_dense")(x)
    return keras.layers.Reshape((joints, dimensions), name="pose_3d")(x)
