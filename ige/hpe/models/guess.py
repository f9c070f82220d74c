"""The parameters of a pose prior read from a 2D pose: where the search for a motion may start."""

import gin
import keras
import tensorflow as tf

from ige import transfer
from ige.hpe.prior.guess import GuessSpec
from ige.problem import InferenceFn, Tensors
from ige.unroll import UnrolledOptimizer

# What the poses of the prior mean.
AS_THE_PRIOR = tuple(
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
        matrix: (2D joints, joints) conversion of the joints.
    """

    def __init__(self, matrix: list[list[float]], **kwargs):
        super().__init__(**kwargs)
        self.matrix = matrix

    def call(self, states, poses, directions, camera_height):
        """(batch, latents + 3), of people over the origin; their poses (batch, joints, 3); (batch,
        2D joints, 2); (batch, 1) -> (batch, latents + 3)."""
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
        return tf.concat([states[:, :-2], at_x, at_y], axis=1)

    def compute_output_spec(self, states, poses, directions, camera_height):
        return keras.KerasTensor(states.shape, self.compute_dtype)

    def get_config(self):
        return super().get_config() | {"matrix": self.matrix}


@keras.saving.register_keras_serializable(package="ige")
class OverOrigin(keras.layers.Layer):
    """Makes states of `PlacedPose` of what a network regresses."""

    def call(self, regressed):
        """(batch, latents + 2), the last two the heading's cosine and sine up to a factor ->
        (batch, latents + 3), the last two 0."""
        cos, sin = regressed[:, -2:-1], regressed[:, -1:]
        # Away from (0, 0), where the angle has no gradient.
        heading = tf.atan2(sin, cos + 1e-9)
        return tf.concat([regressed[:, :-2], heading, tf.zeros_like(regressed[:, -2:])], axis=1)

    def compute_output_spec(self, regressed):
        return keras.KerasTensor((regressed.shape[0], regressed.shape[1] + 1), self.compute_dtype)


@keras.saving.register_keras_serializable(package="ige")
class LevelledEnergy(keras.layers.Layer):
    """The consistency and the prior of `FittingEnergy` for single frames of a level camera.

    Args:
        placed: makes poses of states.
        matrix: (2D joints, joints) conversion of the joints.
        prior: weight of that term; the other's is 1.
    """

    def __init__(
        self,
        placed: PlacedPose,
        matrix: list[list[float]],
        prior: float,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.placed = placed
        self.matrix = matrix
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
        energy = tf.reduce_sum(tf.square(distances), axis=[1, 2]) / 2
        return energy + self.prior * tf.reduce_sum(tf.square(state[:, :-3]), axis=1) / 2

    def get_config(self):
        return super().get_config() | {
            "placed": keras.saving.serialize_keras_object(self.placed),
            "matrix": self.matrix,
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
) -> keras.KerasTensor:
    """A pose that a network reads from a 2D pose by way of the parameters of a trained prior.

    The layer "states" has the parameters, as `PlacedPose` takes them.

    Args:
        inputs: `directions` (batch, 2D joints, 2) and `camera_height` (batch, 1); see `levelled`.
        output_spec: spec of the pose, which knows the prior.
        generator_fn: the generator of the prior.
        init_model_id: the run of the prior.
        inference_fn: network of 2D poses, such as `@hpe.get_baseline_inference`, that regresses the
            parameters.

    Returns:
        (batch, joints, 3) levelled frame, metres.
    """
    placed = PlacedPose(
        _generator(output_spec, generator_fn, init_model_id, "hpe.get_guess_inference"),
        output_spec.size,
        name="placed",
        trainable=False,
    )
    reader = _reader(inputs, output_spec.latents, inference_fn)
    states = _on_ground(reader(inputs), placed, inputs, output_spec)
    return placed(keras.layers.Identity(name="states")(states))


@gin.configurable(module="hpe", denylist=["inputs", "output_spec"])
def get_refined_guess_inference(
    inputs: Tensors,
    output_spec: GuessSpec,
    generator_fn: InferenceFn = gin.REQUIRED,
    init_model_id: str | None = gin.REQUIRED,
    inference_fn: InferenceFn = gin.REQUIRED,
    guess_model_id: str | None = gin.REQUIRED,
    optimizer: type[UnrolledOptimizer] = gin.REQUIRED,
    prior: float = 0.0,
) -> keras.KerasTensor:
    """`get_guess_inference`, and what learned steps down the fitting energy make of its parameters:
    IGE-Net's descent in the space of a prior.

    Args:
        inputs: see `get_guess_inference`, as for all that is not listed here.
        output_spec: the same.
        generator_fn: the same.
        init_model_id: the same.
        inference_fn: the same.
        guess_model_id: the run that the regressing network takes its weights from; None to start
            afresh.
        optimizer: class of the unrolled optimiser.
        prior: weight of the squares of the latents in the energy.

    Returns:
        (batch, steps + 1, joints, 3): all iterates.
    """
    name = "hpe.get_refined_guess_inference"
    generator = _generator(output_spec, generator_fn, init_model_id, name)
    placed = PlacedPose(generator, output_spec.size, name="placed", trainable=False)
    reader = _reader(inputs, output_spec.latents, inference_fn)
    if guess_model_id is not None:
        transfer.initialise(reader, "apo", guess_model_id, f"{name}.guess_model_id", AS_THE_PRIOR)
    start = _on_ground(reader(inputs), placed, inputs, output_spec)
    # With a generator of its own: Keras loads a layer that two others hold into one of them.
    copy = keras.models.clone_model(generator)
    copy.set_weights(generator.get_weights())
    copied = PlacedPose(copy, output_spec.size, name="placed_copy", trainable=False)
    energy = LevelledEnergy(copied, output_spec.to_keypoints.tolist(), prior, dtype="float32")
    iterates = optimizer(energy, name="descent")(start, dict(inputs))
    return placed(keras.layers.Identity(name="states")(iterates))


def _generator(
    output_spec: GuessSpec, generator_fn: InferenceFn, model_id: str | None, owner: str
) -> keras.Model:
    """Returns the generator of a trained prior, which stays as it is."""
    latent = {"latent": keras.Input((output_spec.latents,), name="latent")}
    generator = keras.Model(latent, generator_fn(latent, output_spec), name="generator")
    if model_id is not None:
        transfer.initialise(generator, "apo", model_id, f"{owner}.init_model_id", AS_THE_PRIOR)
    generator.trainable = False
    return generator


def _on_ground(
    regressed: keras.KerasTensor, placed: PlacedPose, inputs: Tensors, output_spec: GuessSpec
) -> keras.KerasTensor:
    """Returns the states of what is regressed, where on the ground they project best."""
    states = OverOrigin(name="over_origin")(regressed)
    layer = PlaceOnGround(output_spec.to_keypoints.tolist(), name="place_on_ground")
    return layer(states, placed(states), inputs["directions"], inputs["camera_height"])


def _reader(inputs: Tensors, latents: int, inference_fn: InferenceFn) -> keras.Model:
    """Returns a network of the inputs -> (batch, latents + 2), see `OverOrigin`."""
    own = {
        name: keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=name)
        for name, tensor in inputs.items()
    }
    flat = keras.layers.Flatten(name="flat_directions")(own["directions"])
    both = keras.layers.Concatenate(name="view")([flat, own["camera_height"]])
    spec = keras.layers.InputSpec(shape=(latents + 2, 1), dtype="float32")
    regressed = keras.layers.Flatten(name="regressed")(inference_fn({"pose_2d": both}, spec))
    return keras.Model(own, regressed, name="reader")
