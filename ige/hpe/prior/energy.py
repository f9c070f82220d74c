"""The energy of a motion: how well it fits what a camera sees, and how natural it is.

Jack et al., "Adversarially Parameterized Optimization for 3D Human Pose Estimation", 3DV 2017.
"""

import math
from typing import Any, NamedTuple

import gin
import numpy as np
import tensorflow as tf

from ige.adversarial import AdversarialModel
from ige.errors import UserError
from ige.geometry import cameras
from ige.geometry.cameras import Camera
from ige.minimisers import Curvature

TERMS = ("consistency", "critic", "smoothness", "glide", "prior")
# Errors of an image are counted in thousands of pixels, as in the published code.
_PIXELS = 1000.0


class Motion(NamedTuple):
    """What is sought: the poses of a batch of sequences, by their parameters.

    Attributes:
        latent: (batch, frames, latents).
        heading: (batch, frames) radians, about the vertical.
        position: (batch, frames, 2) metres on the ground, world frame.
        size: (batch,) metres per unit of the prior: the height of a person.
    """

    latent: tf.Tensor
    heading: tf.Tensor
    position: tf.Tensor
    size: tf.Tensor


class Observation(NamedTuple):
    """What is known of a batch of sequences, padded to the same number of frames.

    Attributes:
        keypoints: (batch, frames, 2D joints, 2) pixels; of joints that are not seen any number.
        seen: (batch, frames, 2D joints) 1 or 0; 0 in all frames that pad a sequence.
        exists: (batch, frames) 1, or 0 in frames that pad a sequence.
        camera: fields (batch, ...); translation in metres.
        frame_rate: (batch,) frames per second.
        start_size: (batch,) metres per unit that the search starts from.
        size_is_free: (batch,) 1, or 0 where the size stays as it is.
    """

    keypoints: tf.Tensor
    seen: tf.Tensor
    exists: tf.Tensor
    camera: Camera
    frame_rate: tf.Tensor
    start_size: tf.Tensor
    size_is_free: tf.Tensor


def pack(motion: Motion, start_size: np.ndarray) -> np.ndarray:
    """Returns a motion as the rows (batch, variables) that a minimiser takes; see `unpack`."""
    frames = [motion.latent, motion.heading[..., np.newaxis], motion.position]
    states = np.concatenate(frames, axis=-1).reshape(len(motion.size), -1)
    size = np.log(motion.size / start_size)[:, np.newaxis]
    return np.concatenate([states, size], axis=1).astype(np.float32)


def unpack(rows: tf.Tensor, latents: int, observation: Observation) -> Motion:
    """Returns the motion of rows (batch, frames * (latents + 3) + 1).

    The last variable is the logarithm of the size over `start_size`: sizes are positive.
    """
    frames = (rows.shape[1] - 1) // (latents + 3)
    states = tf.reshape(rows[:, :-1], (-1, frames, latents + 3))
    return Motion(
        states[..., :latents],
        states[..., latents],
        states[..., latents + 1 :],
        observation.start_size * tf.exp(observation.size_is_free * rows[:, -1]),
    )


def place(poses: tf.Tensor, motion: Motion) -> tf.Tensor:
    """Returns poses of the prior (batch, frames, J, 3) in the world frame, metres."""
    x, y, z = tf.unstack(poses * motion.size[:, tf.newaxis, tf.newaxis, tf.newaxis], axis=-1)
    cos, sin = (f(motion.heading)[..., tf.newaxis] for f in (tf.cos, tf.sin))
    at_x, at_y = (motion.position[..., i, tf.newaxis] for i in range(2))
    return tf.stack([cos * x - sin * y + at_x, sin * x + cos * y + at_y, z], axis=-1)


@gin.configurable(module="hpe", denylist=["model", "to_keypoints"])
class FittingEnergy:
    """Energy of motions that a generator of poses makes, a weighted sum of five terms.

    With poses p in metres, velocities v = (p[t+1] - p[t]) * frame rate:

    - consistency: half the sum of squared distances of projected joints from the keypoints,
      thousands of pixels.
    - critic: minus the critic's logits of the poses.
    - smoothness: half the sum of |v|^2 over frames and joints.
    - glide: the sum over frames of the smallest |v|^2 of a joint: one of them stands still.
    - prior: half the sum of squares of the latents, which were drawn from N(0, 1). Not in the
      paper.

    Args:
        model: its `generator` makes poses (n, J, 3) of {'latent': (n, latents)}, its `critic`
            logits (n, 1) of these.
        to_keypoints: (2D joints, J) conversion of the poses' joints.
        consistency: weight of the term.
        critic: weight of the term.
        smoothness: weight of the term.
        glide: weight of the term.
        prior: weight of the term.

    Raises:
        UserError: a negative weight, or all are 0.
    """

    def __init__(
        self,
        model: AdversarialModel,
        to_keypoints: np.ndarray,
        consistency: float = 1.0,
        critic: float = 0.0,
        smoothness: float = 0.0,
        glide: float = 0.0,
        prior: float = 0.0,
    ):
        weights = (consistency, critic, smoothness, glide, prior)
        self.weights = dict(zip(TERMS, map(float, weights), strict=True))
        for term, weight in self.weights.items():
            if not 0 <= weight < np.inf:
                raise UserError(
                    f"hpe.FittingEnergy: got weight {weight} of {term}, expected at least 0"
                )
        if not any(self.weights.values()):
            raise UserError("hpe.FittingEnergy: got only weights of 0, expected one above 0")
        self._model = model
        self.to_keypoints = np.asarray(to_keypoints, np.float32)
        self.latents = model.generator.inputs[0].shape[-1]

    def __call__(self, rows: tf.Tensor, observation: Any) -> tf.Tensor:
        """Returns the energy (batch,) of rows as `pack` makes them."""
        terms = self.terms(rows, observation, only_weighted=True)
        return sum(self.weights[term] * value for term, value in terms.items())

    def poses(self, rows: tf.Tensor, observation: Any) -> tf.Tensor:
        """Returns the poses (batch, frames, J, 3) of rows, world frame, metres."""
        motion = unpack(rows, self.latents, observation)
        return place(self._generated(motion), motion)

    def generate(self, latents: tf.Tensor) -> tf.Tensor:
        """Returns the poses (n, J, 3) of latents (n, latents), in the unit of the prior."""
        return self._model.generator({"latent": latents})

    def _generated(self, motion: Motion) -> tf.Tensor:
        frames = motion.heading.shape[1]
        flat = self.generate(tf.reshape(motion.latent, (-1, self.latents)))
        return tf.reshape(flat, (-1, frames, *flat.shape[1:]))

    def project(self, poses: tf.Tensor, camera: Camera) -> tf.Tensor:
        """Returns the pixels (batch, frames, 2D joints, 2) of poses as `poses` returns them."""
        frames, joints = poses.shape[1], len(self.to_keypoints)
        converted = tf.einsum("kj,bnjd->bnkd", self.to_keypoints, poses)
        # As one pose of many joints.
        points = tf.reshape(converted, (-1, frames * joints, 3))
        pixels = cameras.project(cameras.world_to_camera(points, camera), camera)
        return tf.reshape(pixels, (-1, frames, joints, 2))

    def curvature(self, rows: tf.Tensor, observation: Any) -> Curvature:
        """Returns Gauss and Newton's estimate of the Hessian: a block (latents + 3)^2 per frame.

        Of consistency, smoothness and prior; without what ties a frame to others.
        """
        width = self.latents + 3
        frames = (rows.shape[1] - 1) // width
        # No frame's pose depends on another frame: each direction is that of all frames at once.
        each = tf.eye(width + 1)
        directions = tf.concat([tf.tile(each[:, :width], (1, frames)), each[:, width:]], axis=1)

        def changes(direction: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            tangent = tf.broadcast_to(direction, tf.shape(rows))
            with tf.autodiff.ForwardAccumulator(rows, tangent) as forward:
                poses = self.poses(rows, observation)
                pixels = self.project(poses, observation.camera)
            return forward.jvp(pixels), forward.jvp(poses)

        # By XLA whoever calls: of a single sequence, TensorFlow 2.21's own kernel for products of
        # batches writes where it must not.
        compiled = tf.function(
            lambda: tf.vectorized_map(changes, directions), autograph=False, jit_compile=True
        )
        of_pixels, of_poses = compiled()
        seen = observation.seen * (math.sqrt(self.weights["consistency"]) / _PIXELS)
        # A frame inside a sequence has two neighbours.
        tied = math.sqrt(2 * self.weights["smoothness"]) * observation.frame_rate
        tied = tied[:, tf.newaxis] * observation.exists
        parts = (of_pixels * seen[..., tf.newaxis], of_poses * tied[..., tf.newaxis, tf.newaxis])
        parts = [tf.reshape(part, (*part.shape[:3], -1)) for part in parts]
        slopes = tf.transpose(tf.concat(parts, axis=-1), (1, 2, 0, 3))
        products = tf.matmul(slopes, slopes, transpose_b=True)
        prior = np.repeat([self.weights["prior"], 0], [self.latents, 3])
        blocks = products[..., :width, :width] + tf.constant(np.diag(prior), tf.float32)
        return Curvature(blocks, tf.reduce_sum(products[..., width:, width], axis=1))

    def terms(
        self, rows: tf.Tensor, observation: Any, only_weighted: bool = False
    ) -> dict[str, tf.Tensor]:
        """Returns term -> its value (batch,), unweighted; on demand those alone that count."""
        wanted = [term for term in TERMS if self.weights[term] or not only_weighted]
        motion = unpack(rows, self.latents, observation)
        generated = self._generated(motion)
        poses = place(generated, motion)
        exists = observation.exists
        found = {}
        if "consistency" in wanted:
            distances = self.project(poses, observation.camera) - observation.keypoints
            squares = tf.reduce_sum(tf.square(distances / _PIXELS), axis=-1)
            found["consistency"] = tf.reduce_sum(squares * observation.seen, axis=[1, 2]) / 2
        if "critic" in wanted:
            flat = tf.reshape(generated, (-1, *generated.shape[2:]))
            logits = tf.reshape(self._model.critic(flat), (-1, generated.shape[1]))
            found["critic"] = -tf.reduce_sum(logits * exists, axis=1)
        if {"smoothness", "glide"} & set(wanted):
            velocities = (poses[:, 1:] - poses[:, :-1]) * observation.frame_rate[
                :, tf.newaxis, tf.newaxis, tf.newaxis
            ]
            squares = tf.reduce_sum(tf.square(velocities), axis=-1) * exists[:, 1:, tf.newaxis]
            if "smoothness" in wanted:
                found["smoothness"] = tf.reduce_sum(squares, axis=[1, 2]) / 2
            if "glide" in wanted:
                found["glide"] = tf.reduce_sum(tf.reduce_min(squares, axis=2), axis=1)
        if "prior" in wanted:
            squares = tf.reduce_sum(tf.square(motion.latent), axis=2)
            found["prior"] = tf.reduce_sum(squares * exists, axis=1) / 2
        return found
