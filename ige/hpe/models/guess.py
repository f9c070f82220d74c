"""The parameters of a pose prior read from a 2D pose: where the search for a motion may start."""

import gin
import keras
import tensorflow as tf

from ige import transfer
from ige.hpe.prior.guess import GuessSpec
from ige.problem import InferenceFn, Tensors
from ige.unroll import UnrolledOptimizer

_NAME = "hpe.get_guess_inference"
# What the poses of the prior mean.
_AS_THE_PRIOR = tuple(
    f"hpe.PosePriorProblem.{name}"
    for name in ("skeleton", "latents", "scale_to_height", "center", "held_out")
)
# Squared distances of directions as the fitting energy counts those of pixels: for the focal length
# of Human3.6M's cameras, in thousands of pixels.
_FOCAL_LENGTH = 1.145


@keras.saving.register_keras_serializable(package="ige")
class PlacedPose(keras.layers.Layer):
    """Poses of a prior in the levelled frame of `ige.hpe.prior.levelled`, metres.

    Called with states (batch, ..., latents + 3), which are latent, heading (radians) and place on
    the ground (x, y in metres); returns (batch, ..., joints, 3).

    Args:
        generator: model of {'latent': (n, latents)} -> poses (n, joints, 3).
        size: metres per unit of these.
    """

    def __init__(self, generator: keras.Model, size: float, **kwargs):
        super().__init__(**kwargs)
        self.generator = generator
        self.size = size

    def call(self, states):
        shape = tf.shape(states)
        flat = tf.reshape(states, (-1, states.shape[-1]))
        poses = self.generator({"latent": flat[:, :-3]}) * self.size
        poses = turn(poses, flat[:, -3])
        place = tf.pad(flat[:, tf.newaxis, -2:], ((0, 0), (0, 0), (0, 1)))
        return tf.reshape(poses + place, tf.concat([shape[:-1], poses.shape[1:]], axis=0))

    def compute_output_spec(self, states):
        shape = (*states.shape[:-1], *self.generator.output_shape[1:])
        return keras.KerasTensor(shape, self.compute_dtype)

    def get_config(self):
        generator = keras.saving.serialize_keras_object(self.generator)
        return super().get_config() | {"generator": generator, "size": self.size}

    @classmethod
    def from_config(cls, config):
        generator = keras.saving.deserialize_keras_object(config["generator"])
        return cls(**(config | {"generator": generator}))


def turn(poses: tf.Tensor, angles: tf.Tensor) -> tf.Tensor:
    """Turns poses (n, joints, 3) about z by angles (n,), x towards y."""
    x, y, z = tf.unstack(poses, axis=-1)
    cos, sin = tf.cos(angles)[:, tf.newaxis], tf.sin(angles)[:, tf.newaxis]
    return tf.stack([cos * x - sin * y, sin * x + cos * y, z], axis=-1)


@keras.saving.register_keras_serializable(package="ige")
class PlaceOnGround(keras.layers.Layer):
    """Puts poses where on the ground they project best: the state of `PlacedPose`.

    Least squares of what is linear in the place: distances from the rays times depths.

    Args:
        placed: the layer that the state is for.
        matrix: (2D joints, joints) conversion of the joints.
    """

    def __init__(self, placed: PlacedPose, matrix: list[list[float]], **kwargs):
        super().__init__(**kwargs)
        self.placed = placed
        self.matrix = matrix

    def call(self, regressed, directions, camera_height):
        """(batch, latents + 2), the last two the heading's cosine and sine up to a factor;
        (batch, 2D joints, 2); (batch, 1) -> (batch, latents + 3)."""
        latent, cos, sin = regressed[:, :-2], regressed[:, -2:-1], regressed[:, -1:]
        # Away from (0, 0), where the angle has no gradient.
        heading = tf.atan2(sin, cos + 1e-9)
        origin = tf.zeros_like(regressed[:, :2])
        poses = self.placed(tf.concat([latent, heading, origin], axis=1))
        x, y, z = tf.unstack(tf.einsum("kj,njd->nkd", tf.constant(self.matrix), poses), axis=-1)
        u, v = tf.unstack(directions, axis=-1)
        # (x + px) - u (y + py) = 0 and (z - height) - v (y + py) = 0
        known = tf.concat([u * y - x, v * y - (z - camera_height)], axis=1)
        of_x = tf.concat([tf.ones_like(u), tf.zeros_like(v)], axis=1)
        of_y = tf.concat([-u, -v], axis=1)
        dots = [
            tf.reduce_sum(a * b, axis=1, keepdims=True)
            for a, b in ((of_x, of_x), (of_x, of_y), (of_y, of_y), (of_x, known), (of_y, known))
        ]
        xx, xy, yy, xk, yk = dots
        determinant = tf.maximum(xx * yy - xy * xy, 1e-6)
        at_x, at_y = (yy * xk - xy * yk) / determinant, (xx * yk - xy * xk) / determinant
        return tf.concat([latent, heading, at_x, at_y], axis=1)

    def compute_output_spec(self, regressed, directions, camera_height):
        return keras.KerasTensor((regressed.shape[0], regressed.shape[1] + 1), self.compute_dtype)

    def get_config(self):
        placed = keras.saving.serialize_keras_object(self.placed)
        return super().get_config() | {"placed": placed, "matrix": self.matrix}

    @classmethod
    def from_config(cls, config):
        placed = keras.saving.deserialize_keras_object(config["placed"])
        return cls(**(config | {"placed": placed}))


@gin.configurable(module="hpe", denylist=["placed", "matrix", "name", "dtype"])
@keras.saving.register_keras_serializable(package="ige")
class LevelledEnergy(keras.layers.Layer):
    """The consistency and the prior of `FittingEnergy` for single frames of a level camera.

    Args:
        placed: makes poses of states.
        matrix: (2D joints, joints) conversion of the joints.
        consistency: weight of the term.
        prior: weight of the term.
    """

    def __init__(
        self,
        placed: PlacedPose,
        matrix: list[list[float]],
        consistency: float = 1.0,
        prior: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.placed = placed
        self.matrix = matrix
        self.consistency = consistency
        self.prior = prior

    def build(self, state_shape, conditions_shape=None):
        self.placed.build(state_shape)

    def call(self, state, conditions):
        """(batch, latents + 3) and the inputs of the network -> (batch,)."""
        x, y, z = tf.unstack(
            tf.einsum("kj,njd->nkd", tf.constant(self.matrix), self.placed(state)), axis=-1
        )
        images = tf.stack([x, z - conditions["camera_height"]], axis=-1) / y[..., tf.newaxis]
        distances = _FOCAL_LENGTH * (images - conditions["directions"])
        energy = self.consistency * tf.reduce_sum(tf.square(distances), axis=[1, 2]) / 2
        return energy + self.prior * tf.reduce_sum(tf.square(state[:, :-3]), axis=1) / 2

    def get_config(self):
        return super().get_config() | {
            "placed": keras.saving.serialize_keras_object(self.placed),
            "matrix": self.matrix,
            "consistency": self.consistency,
            "prior": self.prior,
        }

    @classmethod
    def from_config(cls, config):
        placed = keras.saving.deserialize_keras_object(config["placed"])
        return cls(**(config | {"placed": placed}))


@gin.configurable(module="hpe", denylist=["inputs", "output_spec"])
def get_guess_inference(
    inputs: Tensors,
    output_spec: GuessSpec,
    generator_fn: InferenceFn = gin.REQUIRED,
    init_model_id: str | None = gin.REQUIRED,
    inference_fn: InferenceFn = gin.REQUIRED,
    optimizer: type[UnrolledOptimizer] | None = None,
) -> keras.KerasTensor:
    """A pose that a network reads from a 2D pose by way of the parameters of a trained prior.

    With an optimiser also what learned steps down the fitting energy make of these parameters:
    IGE-Net's descent, in the space of the prior. The layer "states" has the parameters.

    Args:
        inputs: `directions` (batch, 2D joints, 2) and `camera_height` (batch, 1); see `levelled`.
        output_spec: spec of the pose, which knows the prior.
        generator_fn: the generator of the prior.
        init_model_id: the run of the prior.
        inference_fn: network of 2D poses, such as `@hpe.get_baseline_inference`, that regresses the
            parameters.
        optimizer: class of the unrolled optimiser; None for the regressed parameters alone.

    Returns:
        (batch, joints, 3) levelled frame, metres; with an optimiser all iterates,
        (batch, steps + 1, joints, 3).
    """
    latent = {"latent": keras.Input((output_spec.latents,), name="latent")}
    generator = keras.Model(latent, generator_fn(latent, output_spec), name="generator")
    if init_model_id is not None:
        transfer.initialise(
            generator, "apo", init_model_id, f"{_NAME}.init_model_id", _AS_THE_PRIOR
        )
    generator.trainable = False
    flat = keras.layers.Flatten(name="flat_directions")(inputs["directions"])
    both = keras.layers.Concatenate(name="view")([flat, inputs["camera_height"]])
    spec = keras.layers.InputSpec(shape=(output_spec.latents + 2, 1), dtype="float32")
    regressed = keras.layers.Flatten(name="regressed")(inference_fn({"pose_2d": both}, spec))

    matrix = output_spec.to_keypoints.tolist()
    placed = PlacedPose(generator, output_spec.size, name="placed", trainable=False)
    on_ground = PlaceOnGround(placed, matrix, name="place_on_ground")
    states = on_ground(regressed, inputs["directions"], inputs["camera_height"])
    if optimizer is not None:
        energy = LevelledEnergy(placed, matrix, dtype="float32")
        states = optimizer(energy, name="descent")(states, dict(inputs))
    states = keras.layers.Identity(name="states")(states)
    return placed(states)
