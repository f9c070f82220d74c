"""The energy of a grid in a camera's frustum, given what the camera sees (Jack et al., CVPR 2019).

Two terms: how inconsistent the grid is with the silhouette and the features of the image, and how
unlike a solid. Both see depth slices as channels: convolutions are 2D, at every scale.
"""

from collections.abc import Sequence

import gin
import keras
import tensorflow as tf

from ige.errors import UserError


def visible(logits: tf.Tensor) -> tf.Tensor:
    """Returns the probability (batch, row, column) that a ray meets a solid cell, of logits (batch,
    row, column, depth): that not all of its cells are empty, 1 - prod(1 - p)."""
    return -tf.math.expm1(-tf.reduce_sum(tf.nn.softplus(logits), axis=-1))


def softabs(x: tf.Tensor) -> tf.Tensor:
    """Returns sqrt(x^2 + 1) - 1: a smooth |x|, quadratic at 0."""
    return tf.sqrt(tf.square(x) + 1) - 1


class _Term(keras.layers.Layer):
    """Convolutions over slices: at each scale softplus units, of outputs of which the softabs are
    summed. The first scale has `stride` cells of the grid to a side, each further one two of that
    before.

    The kernel of the first is `stride` + 2 wide: with the stride of the grids' resolution over 32,
    cost grows with its square.

    Args:
        hidden_units: softplus units of each scale.
        num_outputs: outputs of each scale.
        num_scales: scales.
        stride: of the first convolution.
        temperature: logits are divided by it before the sigmoid: the sigmoid alone has next to no
            slope in the cells that the base is sure of.
        init_scale: of the variance scaling that the outputs' kernels begin with: at 1 a first step
            at a learning rate of 1 changes logits by hundredths.
    """

    def __init__(
        self,
        hidden_units: int = 32,
        num_outputs: int = 8,
        num_scales: int = 3,
        stride: int = 1,
        temperature: float = 3.0,
        init_scale: float = 1.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        counts = {
            "hidden_units": hidden_units,
            "num_outputs": num_outputs,
            "num_scales": num_scales,
            "stride": stride,
        }
        numbers = {"temperature": temperature, "init_scale": init_scale}
        for name, value in (counts | numbers).items():
            kind = int if name in counts else int | float
            if isinstance(value, bool) or not isinstance(value, kind) or not value > 0:
                expected = "a whole number from 1 on" if name in counts else "a number above 0"
                raise UserError(
                    f"vox.{type(self).__name__}.{name}: got {value!r}, expected {expected}"
                )
        self._options = counts | numbers
        self.temperature = temperature
        self.hidden = [
            self._convolution(hidden_units, *self._window(scale), name=f"hidden_{scale}")
            for scale in range(num_scales)
        ]
        scaling = {"kernel_initializer": keras.initializers.VarianceScaling(init_scale)}
        self.outputs = [
            self._convolution(num_outputs, 1, 1, **scaling, name=f"outputs_{scale}")
            for scale in range(num_scales)
        ]

    def _window(self, scale: int) -> tuple[int, int]:
        """Returns the kernel size and the stride of a scale."""
        stride = 2 if scale else self._options["stride"]
        return stride + 2, stride

    def _convolution(self, filters: int, size: int, stride: int, **options):
        return keras.layers.Conv2D(
            filters, size, strides=stride, padding="same", dtype=self.dtype_policy, **options
        )

    def build_scales(self, shape: Sequence[int | None]) -> None:
        """Makes the weights for maps (batch, row, column, channels)."""
        for hidden, outputs in zip(self.hidden, self.outputs, strict=True):
            hidden.build(shape)
            shape = hidden.compute_output_shape(shape)
            outputs.build(shape)

    def energy(self, maps: tf.Tensor, observed: Sequence[tf.Tensor] = ()) -> tf.Tensor:
        """Returns the energy (batch,) of maps (batch, row, column, channels), and of what else the
        hidden units of each scale get."""
        total = 0.0
        for scale, (hidden, outputs) in enumerate(zip(self.hidden, self.outputs, strict=True)):
            maps = hidden(maps)
            if observed:
                maps += tf.cast(observed[scale], maps.dtype)
            maps = tf.nn.softplus(maps)
            total += tf.reduce_sum(softabs(outputs(maps)), axis=(1, 2, 3))
        return total

    def get_config(self):
        return super().get_config() | self._options


@keras.saving.register_keras_serializable(package="vox")
class RealismEnergy(_Term):
    """How unlike a solid a grid is. For the arguments see `_Term`."""

    def build(self, logits_shape):
        self.build_scales(logits_shape)

    def call(self, logits):
        """(batch, row, column, depth) -> (batch,)."""
        return self.energy(tf.sigmoid(logits / self.temperature))


@keras.saving.register_keras_serializable(package="vox")
class ConsistencyEnergy(_Term):
    """How little a grid looks like what the camera sees: of its cells, its projection, and the
    silhouette and features of the image at the same places.

    The cross-entropy of the projection and the silhouette has a learned weight of its own, that of
    a network that has learned nothing yet. What the hidden units get from the image alone is the
    same for all steps of a descent, and computed once: `observed` is `observe` of the image.

    Args:
        silhouette_weight: of the cross-entropy per pixel, at first; above 0. For the other
            arguments see `_Term`.
    """

    def __init__(
        self,
        silhouette_weight: float = 0.1,
        hidden_units: int = 32,
        num_outputs: int = 8,
        num_scales: int = 3,
        stride: int = 1,
        temperature: float = 3.0,
        init_scale: float = 1.0,
        **kwargs,
    ):
        super().__init__(
            hidden_units, num_outputs, num_scales, stride, temperature, init_scale, **kwargs
        )
        if not silhouette_weight > 0:
            raise UserError(
                f"vox.ConsistencyEnergy.silhouette_weight: got {silhouette_weight!r}, expected a "
                "number above 0"
            )
        self._silhouette_weight = silhouette_weight

    def observe(
        self, features: keras.KerasTensor, silhouette: keras.KerasTensor
    ) -> list[keras.KerasTensor]:
        """Returns, with layers of its own, what the hidden units of each scale get from the image.

        Args:
            features: (batch, R, R, n).
            silhouette: (batch, R, R, 1), the share of each pixel that shows the object.
        """
        x = keras.layers.Concatenate(dtype=self.dtype_policy, name="seen")([features, silhouette])
        observed = []
        for scale in range(self._options["num_scales"]):
            x = self._convolution(
                self._options["hidden_units"], *self._window(scale), name=f"observed_{scale}"
            )(x)
            observed.append(x)
            x = keras.layers.ReLU(dtype=self.dtype_policy, name=f"observed_{scale}_relu")(x)
        return observed

    def build(self, logits_shape, observed_shape=None, silhouette_shape=None):
        self.log_weight = self.add_weight(
            name="log_silhouette_weight",
            shape=(),
            initializer=keras.initializers.Constant(tf.math.log(self._silhouette_weight).numpy()),
        )
        self.build_scales((*logits_shape[:-1], logits_shape[-1] + 1))

    def call(self, logits, observed, silhouette):
        """(batch, row, column, depth), maps of each scale, (batch, row, column, 1) -> (batch,)."""
        seen = visible(logits)
        cells = tf.sigmoid(logits / self.temperature)
        maps = tf.concat([cells, seen[..., tf.newaxis]], axis=-1)
        target = tf.cast(silhouette[..., 0], seen.dtype)
        # Not the logarithm of 1 - seen, which may be 0: that is minus the sum of the softplus.
        empty = tf.reduce_sum(tf.nn.softplus(logits), axis=-1)
        hit = tf.math.log(seen + 1e-4)
        entropy = tf.reduce_sum((1 - target) * empty - target * hit, axis=(1, 2))
        weight = tf.exp(tf.convert_to_tensor(self.log_weight))
        return self.energy(maps, observed) + weight * entropy

    def get_config(self):
        return super().get_config() | {"silhouette_weight": self._silhouette_weight}


@keras.saving.register_keras_serializable(package="vox")
class VoxelEnergy(keras.layers.Layer):
    """The sum of the terms, as an unrolled optimiser takes it: (logits, conditions) -> (batch,).

    Args:
        realism: None to leave it out.
        consistency: None to leave it out; its conditions are `observed` and `silhouette`.
    """

    def __init__(
        self,
        realism: keras.layers.Layer | None = None,
        consistency: keras.layers.Layer | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.realism = realism
        self.consistency = consistency

    def build(self, logits_shape, conditions_shape=None):
        # Loaded terms are built already.
        if self.realism is not None and not self.realism.built:
            self.realism.build(logits_shape)
        if self.consistency is not None and not self.consistency.built:
            self.consistency.build(logits_shape)

    def call(self, logits, conditions):
        energies = []
        if self.realism is not None:
            energies.append(self.realism(logits))
        if self.consistency is not None:
            energies.append(self.consistency(logits, **conditions))
        return tf.add_n(energies)

    def get_config(self):
        terms = {"realism": self.realism, "consistency": self.consistency}
        return super().get_config() | {
            name: term and keras.saving.serialize_keras_object(term) for name, term in terms.items()
        }

    @classmethod
    def from_config(cls, config):
        terms = {
            name: config[name] and keras.saving.deserialize_keras_object(config[name])
            for name in ("realism", "consistency")
        }
        return cls(**(config | terms))


# Not as decorators: Keras has to see the arguments of a layer's `__init__`.
for _class in (RealismEnergy, ConsistencyEnergy):
    gin.external_configurable(_class, module="vox", denylist=["name"])
