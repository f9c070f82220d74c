"""How good a prior of poses is, while it is trained: measured against held-out poses."""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ige.hpe.skeleton import Skeleton
from ige.minimisers import LBFGS

# Neighbours that make up the manifold of held-out poses; of Naeem et al.
_NEIGHBOURS = 5
# Held-out poses that there have to be: the nearest of a pose is itself.
FEWEST = _NEIGHBOURS + 1
# Generated poses that are compared with held-out ones.
_GENERATED = 2048
# Held-out poses that latents are fitted to, and evaluations that this may take.
_FITTED, _EVALUATIONS = 256, 100
# Of its own, whatever a config binds: figures of runs are compared.
_MINIMISER = LBFGS(
    max_iterations=_EVALUATIONS,
    memory=10,
    gradient_tolerance=1e-5,
    energy_tolerance=2.2e-9,
    block=_EVALUATIONS,
    compact=None,
)
# The camera that sees them: level, as far and as long as those of Human3.6M.
_DISTANCE, _HEIGHT, _FOCAL_LENGTH = 4.5, 1.0, 1145.0
_GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))


def _within(real: tf.Tensor, fakes: tf.Tensor) -> tf.Tensor:
    """Returns bool (real, fakes): whether a fake is as near as a real pose's 5th neighbour."""

    def squares(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        a, b = (tf.reshape(poses, (-1, math.prod(poses.shape[1:]))) for poses in (a, b))
        norms = [tf.reduce_sum(tf.square(poses), axis=1) for poses in (a, b)]
        return norms[0][:, tf.newaxis] + norms[1] - 2 * tf.matmul(a, b, transpose_b=True)

    # Sorted, because XLA has no top_k of this on every device.
    radii = tf.sort(squares(real, real), axis=1)[:, _NEIGHBOURS]
    return squares(real, fakes) <= radii[:, tf.newaxis]


def density(real: tf.Tensor, fakes: tf.Tensor) -> tf.Tensor:
    """Returns how many real neighbourhoods a generated pose lies in, of what is expected: about 1
    if it is as real poses are, 0 if it lies in none.

    Args:
        real: (n, J, 3), n > 5.
        fakes: (m, J, 3).

    Source: Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models", ICML
    2020, equation 3.
    """
    return tf.reduce_mean(tf.reduce_sum(tf.cast(_within(real, fakes), tf.float32), axis=0)) / (
        _NEIGHBOURS
    )


def coverage(real: tf.Tensor, fakes: tf.Tensor) -> tf.Tensor:
    """Returns the share of real poses in whose neighbourhood there is a generated one.

    Args: as `density`. Source: the same, equation 4.
    """
    return tf.reduce_mean(tf.cast(tf.reduce_any(_within(real, fakes), axis=1), tf.float32))


def asymmetry(poses: tf.Tensor, skeleton: Skeleton) -> tf.Tensor:
    """Returns the mean difference of a left bone's length from the right one's.

    Args:
        poses: (n, J, 3), any unit.
        skeleton: joints of the poses.
    """
    bones = [bone for bone in skeleton.bones if skeleton.sides[bone[0]] == "left"]
    children, parents = np.transpose(bones)
    mirror = np.asarray(skeleton.mirror)

    def lengths(children: np.ndarray, parents: np.ndarray) -> tf.Tensor:
        between = tf.gather(poses, children, axis=1) - tf.gather(poses, parents, axis=1)
        return tf.norm(between, axis=-1)

    return tf.reduce_mean(
        tf.abs(lengths(children, parents) - lengths(mirror[children], mirror[parents]))
    )


class _Views:
    """Images of poses by a level camera that goes round them, and the energy of fitting these.

    Args:
        generator: model of {'latent': (n, latents)} -> poses.
        metres: length of the unit of the poses.
    """

    def __init__(self, generator: keras.Model, metres: float):
        self._generator = generator
        self._metres = metres

    def images(self, poses: tf.Tensor, angles: tf.Tensor) -> tf.Tensor:
        """Returns the pixels (n, J, 2) of poses (n, J, 3) from angles (n,), radians."""
        x, y, z = tf.unstack(poses * self._metres, axis=-1)
        cos, sin = tf.cos(angles)[:, tf.newaxis], tf.sin(angles)[:, tf.newaxis]
        depth = _DISTANCE + sin * x + cos * y
        right, down = cos * x - sin * y, _HEIGHT - z
        return _FOCAL_LENGTH * tf.stack([right / depth, down / depth], axis=-1)

    def __call__(self, latents: tf.Tensor, conditions: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        pixels, angles = conditions
        images = self.images(self._generator({"latent": latents}), angles)
        return tf.reduce_sum(tf.square((images - pixels) / 1000), axis=[1, 2]) / 2

    def fit(self, poses: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the mean errors of fitting latents to images of poses (n, J, 3): pixels, mm."""
        some = poses[:: -(-poses.shape[0] // _FITTED)]
        angles = _GOLDEN_ANGLE * tf.range(some.shape[0], dtype=tf.float32)
        pixels = self.images(some, angles)
        start = tf.zeros((some.shape[0], self._generator.inputs[0].shape[-1]))
        rows = _MINIMISER.search(self, start, (pixels, angles), _EVALUATIONS)
        fitted = self._generator({"latent": rows.best})
        errors = (self.images(fitted, angles) - pixels, 1000 * self._metres * (fitted - some))
        return tuple(tf.reduce_mean(tf.norm(error, axis=-1)) for error in errors)


class _Figure(keras.metrics.Mean):
    """A figure of a prior and held-out poses; the mean over batches, of which there is one."""

    def __init__(self, name: str, measure: Callable[[tf.Tensor], tf.Tensor]):
        super().__init__(name=name)
        self._measure = measure

    def update_state(self, y_true, y_pred, sample_weight=None):
        return super().update_state(self._measure(y_true))


def metrics(model: Any, skeleton: Skeleton, metres: float) -> list[keras.metrics.Metric]:
    """Returns what is reported of a prior; lengths in mm for a unit of `metres`.

    - density, coverage: see there.
    - asymmetry_mm: see `asymmetry`.
    - fit_px, fit_mm: how well the prior can show held-out poses: mean distance of joints in the
      image, and in space, after latents were fitted to images of the poses, where heading, place
      and size are known.

    Args:
        model: an `AdversarialModel` of poses.
        skeleton: joints of the poses.
        metres: length of the unit of the poses.
    """
    views = _Views(model.generator, metres)
    return [
        _Figure("density", lambda real: density(real, model.generate(_GENERATED))),
        _Figure("coverage", lambda real: coverage(real, model.generate(_GENERATED))),
        _Figure(
            "asymmetry_mm",
            lambda _: 1000 * metres * asymmetry(model.generate(_GENERATED), skeleton),
        ),
        _Figure("fit_px", lambda real: views.fit(real)[0]),
        _Figure("fit_mm", lambda real: views.fit(real)[1]),
    ]
