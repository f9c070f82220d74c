"""Adam for many rows at once."""

import math
from typing import NamedTuple

import gin
import tensorflow as tf

from ige.minimisers.base import NOT_NEGATIVE, POSITIVE, SHARE, BatchMinimiser, Move, select


class AdamSlots(NamedTuple):
    """What Adam remembers of its rows: the means of the gradients and of their squares (batch, d),
    how many they are of, and what the learning rate is multiplied with (batch,)."""

    first: tf.Tensor
    second: tf.Tensor
    count: tf.Tensor
    factor: tf.Tensor


@gin.configurable(module="ige.minimisers")
class Adam(BatchMinimiser):
    """Adam (Kingma and Ba, ICLR 2015) as Keras computes it.

    A row whose energy is not finite goes back to its best position, forgets its means and halves
    its learning rate.

    Args:
        learning_rate: about what a step changes.
        max_iterations: see `BatchMinimiser`, as for all that is not listed here.
        beta_1: decay of the mean of the gradients.
        beta_2: decay of the mean of their squares.
        epsilon: added to the root of the mean of the squares.
        cosine_decay: lower the learning rate along half a cosine to 0 at `max_iterations`.
        gradient_tolerance: converged if no element of the gradient is above this.
    """

    def __init__(
        self,
        learning_rate: float = 0.01,
        max_iterations: int = 1000,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        cosine_decay: bool = False,
        gradient_tolerance: float = 0.0,
        block: int = 25,
        compact: float | None = 0.5,
        jit_compile: bool = True,
    ):
        super().__init__(max_iterations, block, compact, jit_compile)
        self.learning_rate = self._number("learning_rate", learning_rate, POSITIVE)
        self.beta_1 = self._number("beta_1", beta_1, SHARE)
        self.beta_2 = self._number("beta_2", beta_2, SHARE)
        self.epsilon = self._number("epsilon", epsilon, POSITIVE)
        self.cosine_decay = cosine_decay
        self.gradient_tolerance = self._number(
            "gradient_tolerance", gradient_tolerance, NOT_NEGATIVE
        )

    def slots(self, start):
        none = tf.zeros(start.shape[0], start.dtype)
        return AdamSlots(tf.zeros_like(start), tf.zeros_like(start), none, none + 1)

    def move(self, rows, value, gradient, finite):
        slots = rows.slots
        first = self.beta_1 * slots.first + (1 - self.beta_1) * gradient
        second = self.beta_2 * slots.second + (1 - self.beta_2) * tf.square(gradient)
        count = slots.count + 1
        rate = self.learning_rate * slots.factor
        if self.cosine_decay:
            done = tf.cast(rows.evaluations - 1, rate.dtype) / self.max_iterations
            rate *= 0.5 * (1 + tf.cos(math.pi * done))
        rate *= tf.sqrt(1 - self.beta_2**count) / (1 - self.beta_1**count)
        trial = rows.trial - rate[:, tf.newaxis] * first / (tf.sqrt(second) + self.epsilon)
        level = tf.reduce_max(tf.abs(gradient), axis=-1) <= self.gradient_tolerance
        back = (rows.best, self.slots(rows.best)._replace(factor=slots.factor / 2))
        on = (trial, AdamSlots(first, second, count, slots.factor))
        trial, slots = select(finite, on, back)
        stopped = ~tf.math.is_finite(rows.lowest)
        return Move(trial, slots, rows.evaluations > 1, finite & level, stopped)
