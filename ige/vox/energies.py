"""The energy of a grid in the object frame, given what a camera sees (Jack et al., CVPR 2019).

Two terms: how unlike a solid it is, and how inconsistent with the silhouette and the features of
the image. The first is in the object frame, where objects of a class have the same sides and are
their own mirror images; the second in the frustum of the camera, where a pixel sees a column of
cells. Both see slices as channels: convolutions are 2D, at every scale.
"""

from collections.abc import Sequence
from typing import Any

import gin
import keras
import tensorflow as tf

from ige.errors import UserError
from ige.vox.resampling import EMPTY, nearest, to_frustum
from ige.vox.views import Cameras


def visible(logits: tf.Tensor) -> tf.Tensor:
    """Returns the probability (batch, row, column) that a ray meets a solid cell, of logits (batch,
    row, column, depth): that not all of its cells are empty, 1 - prod(1 - p)."""
    return -tf.math.expm1(-tf.reduce_sum(tf.nn.softplus(logits), axis=-1))


def softabs(x: tf.Tensor) -> tf.Tensor:
    """Returns sqrt(x^2 + 1) - 1: a smooth |x|, quadratic at 0."""
    return tf.sqrt(tf.square(x) + 1) - 1


class _Pyramid(keras.layers.Layer):
    """Maps (batch, row, column, channels) -> (batch,): at each scale softplus units, of outputs of
    which the softabs are summed.

    Args:
        hidden_units: softplus units of each scale.
        num_outputs: outputs of each scale.
        windows: kernel size and stride of each scale.
        init_scale: of the variance scaling that the outputs' kernels begin with.
    """

    def __init__(
        self,
        hidden_units: int,
        num_outputs: int,
        windows: Sequence[tuple[int, int]],
        init_scale: float,
        **kwargs,
    ):
        super().__init__(**kwargs)
        options = {"padding": "same", "dtype": self.dtype_policy}
        self.hidden = [
            keras.layers.Conv2D(
                hidden_units, size, strides=stride, name=f"hidden_{scale}", **options
            )
            for scale, (size, stride) in enumerate(windows)
        ]
        self.outputs = [
            keras.layers.Conv2D(
                num_outputs,
                1,
                # Of its own: a shared one would draw the same values for all.
                kernel_initializer=keras.initializers.VarianceScaling(init_scale),
                name=f"outputs_{scale}",
                **options,
            )
            for scale in range(len(windows))
        ]

    def build(self, maps_shape, observed_shape=None):
        shape = maps_shape
        for hidden, outputs in zip(self.hidden, self.outputs, strict=True):
            hidden.build(shape)
            shape = hidden.compute_output_shape(shape)
            outputs.build(shape)
        self.built = True

    def call(self, maps, observed=()):
        """`observed` is what else the hidden units of each scale get."""
        total = 0.0
        for scale, (hidden, outputs) in enumerate(zip(self.hidden, self.outputs, strict=True)):
            maps = hidden(maps)
            if observed:
                maps += tf.cast(observed[scale], maps.dtype)
            maps = tf.nn.softplus(maps)
            total += tf.reduce_sum(softabs(outputs(maps)), axis=(1, 2, 3))
        return total


class _Term(keras.layers.Layer):
    """A term with convolutions over slices of a grid. Their first scale has `stride` cells of the
    grid to a side, each further one two of that before.

    With the stride of the grids' resolution over 32, the cost of the convolutions of realism grows
    with its square; of those of consistency only the first over the image, which is made once for
    all steps, costs more.

    Args:
        hidden_units: softplus units of each scale.
        num_outputs: outputs of each scale.
        num_scales: scales.
        stride: of the first convolution, which is two cells wider; see the terms.
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

    @property
    def _windows(self) -> list[tuple[int, int]]:
        """Kernel size and stride of each scale, of maps with a place for each cell of the grid."""
        strides = [self._options["stride"], *[2] * (self._options["num_scales"] - 1)]
        return [(stride + 2, stride) for stride in strides]

    def _pyramid(self, windows: Sequence[tuple[int, int]], name: str) -> _Pyramid:
        sizes = (self._options[name] for name in ("hidden_units", "num_outputs"))
        return _Pyramid(
            *sizes, windows, self._options["init_scale"], dtype=self.dtype_policy, name=name
        )

    def get_config(self):
        return super().get_config() | self._options


@keras.saving.register_keras_serializable(package="vox")
class RealismEnergy(_Term):
    """How unlike a solid a grid is, from the side and from the front.

    From the side slices across x are the channels, so that what is left and what is right of the
    plane that most objects are symmetric about are channels of one place; from the front those
    across z. For the arguments see `_Term`.
    """

    def build(self, logits_shape):
        batch, x, y, z = logits_shape
        self.side = self._pyramid(self._windows, "side")
        self.front = self._pyramid(self._windows, "front")
        self.side.build((batch, y, z, x))
        self.front.build((batch, x, y, z))

    def call(self, logits):
        """(batch, x, y, z) -> (batch,)."""
        cells = tf.sigmoid(logits / self.temperature)
        return self.side(tf.transpose(cells, (0, 2, 3, 1))) + self.front(cells)


@keras.saving.register_keras_serializable(package="vox")
class ConsistencyEnergy(_Term):
    """How little a grid looks like what the camera sees: of its cells in the frustum of the camera,
    their projection, and the silhouette and features of the image at the same places.

    The frustum has R / `stride` cells along each axis, the most likely of `stride`^3 of the grid,
    and depth slices as channels. The cross-entropy of the projection and the silhouette has a
    learned weight of its own, that of a network that has learned nothing yet. What the hidden units
    get from the image alone is the same for all steps of a descent, and computed once, by
    `observe`.

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

    def observe(self, features: keras.KerasTensor, silhouette: keras.KerasTensor) -> dict[str, Any]:
        """Returns, with layers of its own, what of the image are conditions of the energy.

        Args:
            features: (batch, R, R, n).
            silhouette: (batch, R, R, 1), the share of each pixel that shows the object.

        Returns:
            `observed`, for the hidden units of each scale, and `silhouette` (batch, r, r, 1), r
            being R / `stride`.
        """
        x = keras.layers.Concatenate(dtype=self.dtype_policy, name="seen")([features, silhouette])
        observed = []
        for scale, (size, stride) in enumerate(self._windows):
            x = keras.layers.Conv2D(
                self._options["hidden_units"],
                size,
                strides=stride,
                padding="same",
                dtype=self.dtype_policy,
                name=f"observed_{scale}",
            )(x)
            observed.append(x)
            x = keras.layers.ReLU(dtype=self.dtype_policy, name=f"observed_{scale}_relu")(x)
        pool = keras.layers.AveragePooling2D(
            self._options["stride"], dtype=self.dtype_policy, name="silhouette_of_rays"
        )
        return {"observed": observed, "silhouette": pool(silhouette)}

    def build(
        self,
        logits_shape,
        observed_shape=None,
        silhouette_shape=None,
        rotation_shape=None,
        centre_shape=None,
        focal_shape=None,
        planes_shape=None,
    ):
        stride = self._options["stride"]
        if logits_shape[1] % stride:
            raise UserError(
                f"vox.ConsistencyEnergy.stride: got {stride} for grids of {logits_shape[1]}, "
                "expected a divisor of it"
            )
        self.log_weight = self.add_weight(
            name="log_silhouette_weight",
            shape=(),
            initializer=keras.initializers.Constant(tf.math.log(self._silhouette_weight).numpy()),
        )
        rays = logits_shape[1] // stride
        # Its maps have a place for each ray.
        self.rays = self._pyramid([(3, 1), *self._windows[1:]], "rays")
        self.rays.build((logits_shape[0], rays, rays, rays + 1))

    def call(self, logits, observed, silhouette, rotation, centre, focal, planes):
        """(batch, x, y, z), what `observe` returns, the camera -> (batch,)."""
        logits = self._in_frustum(logits, Cameras(rotation, centre, focal, planes))
        seen = visible(logits)
        cells = tf.sigmoid(logits / self.temperature)
        maps = tf.concat([cells, seen[..., tf.newaxis]], axis=-1)
        target = tf.cast(silhouette[..., 0], seen.dtype)
        # Not the logarithm of 1 - seen, which may be 0: that is minus the sum of the softplus.
        empty = tf.reduce_sum(tf.nn.softplus(logits), axis=-1)
        hit = tf.math.log(seen + 1e-4)
        entropy = tf.reduce_sum((1 - target) * empty - target * hit, axis=(1, 2))
        weight = tf.exp(tf.convert_to_tensor(self.log_weight))
        return self.rays(maps, observed) + weight * entropy

    def _in_frustum(self, logits: tf.Tensor, cameras: Cameras) -> tf.Tensor:
        """Returns the logits (batch, row, column, depth) of grids (batch, x, y, z)."""
        stride = self._options["stride"]
        rays = logits.shape[1] // stride
        for axis in (1, 2, 3) if stride > 1 else ():
            shape = (-1, *logits.shape[1:axis], rays, stride, *logits.shape[axis + 1 :])
            logits = tf.reduce_max(tf.reshape(logits, shape), axis=axis + 1)
        return to_frustum(logits[..., tf.newaxis], cameras, rays, EMPTY, nearest)[..., 0]

    def get_config(self):
        return super().get_config() | {"silhouette_weight": self._silhouette_weight}


@keras.saving.register_keras_serializable(package="vox")
class VoxelEnergy(keras.layers.Layer):
    """The sum of the terms, as an unrolled optimiser takes it: (logits, conditions) -> (batch,).

    Args:
        realism: None to leave it out.
        consistency: None to leave it out; its conditions are what `ConsistencyEnergy.observe`
            returns and the fields of `Cameras`.
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
