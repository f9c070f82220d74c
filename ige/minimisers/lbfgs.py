"""L-BFGS for many rows at once."""

from typing import NamedTuple

import gin
import tensorflow as tf

from ige.minimisers import line_search
from ige.minimisers.base import NOT_NEGATIVE, BatchMinimiser, Move, select


class LBFGSSlots(NamedTuple):
    """What L-BFGS remembers of its rows.

    Attributes:
        position: (batch, d) the last iterate, from which the line search starts.
        value: (batch,) the energy there.
        gradient: (batch, d)
        direction: (batch, d) of the line search.
        search: the line search.
        steps: (batch, memory, d) differences of iterates, the last one last.
        changes: (batch, memory, d) those of their gradients.
        weights: (batch, memory) 1 / (step . change); 0 for a pair that is not there.
    """

    position: tf.Tensor
    value: tf.Tensor
    gradient: tf.Tensor
    direction: tf.Tensor
    search: line_search.Search
    steps: tf.Tensor
    changes: tf.Tensor
    weights: tf.Tensor


@gin.configurable(module="ige.minimisers")
class LBFGS(BatchMinimiser):
    """L-BFGS (Nocedal, 1980; Liu and Nocedal, 1989) with a strong Wolfe line search.

    No row waits for another: an evaluation serves the line search of one and the new direction of
    the next. A row whose line search fails, or gains nothing, forgets its pairs and goes down its
    gradient; if that fails too it stops, and has not converged. The tolerances are those of SciPy's
    L-BFGS-B.

    Args:
        max_iterations: see `BatchMinimiser`, as for all that is not listed here.
        memory: pairs of steps and changes of the gradient that are remembered.
        gradient_tolerance: converged if no element of the gradient is above this (`gtol`).
        energy_tolerance: converged if a step lowers the energy by at most this, relative to the
            larger one of the energies before and after, or to 1 if both are smaller (`ftol`).
    """

    def __init__(
        self,
        max_iterations: int = 1000,
        memory: int = 10,
        gradient_tolerance: float = 1e-5,
        energy_tolerance: float = 2.2e-9,
        block: int = 25,
        compact: float | None = 0.5,
        jit_compile: bool = True,
    ):
        super().__init__(max_iterations, block, compact, jit_compile)
        self.memory = self._whole("memory", memory)
        self.gradient_tolerance = self._number(
            "gradient_tolerance", gradient_tolerance, NOT_NEGATIVE
        )
        self.energy_tolerance = self._number("energy_tolerance", energy_tolerance, NOT_NEGATIVE)

    def slots(self, start):
        batch, size = start.shape
        none, no = tf.zeros([batch], start.dtype), tf.zeros_like(start)
        pairs = tf.zeros([batch, self.memory, size], start.dtype)
        search = line_search.begin(none, none, none)
        return LBFGSSlots(start, none, no, no, search, pairs, pairs, pairs[:, :, 0])

    def move(self, rows, value, gradient, finite):
        slots = rows.slots
        first = rows.evaluations == 1
        slope = _dot(gradient, slots.direction)
        search, accepted, failed = line_search.advance(slots.search, value, slope, finite)
        accepted, failed = tf.where(first, finite, accepted), tf.where(first, ~finite, failed)
        stepped = accepted & ~first

        alone = slots.weights[:, -1] == 0  # it went down its gradient
        scale = tf.maximum(tf.maximum(tf.abs(value), tf.abs(slots.value)), 1)
        settled = slots.value - value <= self.energy_tolerance * scale
        # In float32 a bad direction may gain nothing far from the minimum.
        forgets = failed | (stepped & (value >= slots.value))
        settled &= alone | ~forgets
        level = tf.reduce_max(tf.abs(gradient), axis=-1) <= self.gradient_tolerance

        known = self._remember(slots, rows.trial - slots.position, gradient, stepped)
        none = tf.zeros_like(known.weights)
        known = known._replace(weights=tf.where(forgets[:, tf.newaxis], none, known.weights))
        iterate = (rows.trial, value, gradient)
        before = (slots.position, slots.value, slots.gradient)
        position, value, gradient = select(accepted, iterate, before)
        renewed = self._begin(known._replace(position=position, value=value, gradient=gradient))
        slots = select(accepted | failed, renewed, slots._replace(search=search))
        trial = slots.position + slots.search.step[:, tf.newaxis] * slots.direction
        return Move(trial, slots, stepped, (accepted & level) | (stepped & settled), failed & alone)

    def _remember(
        self, slots: LBFGSSlots, step: tf.Tensor, gradient: tf.Tensor, stepped: tf.Tensor
    ) -> LBFGSSlots:
        """Adds pairs, but for those along which the energy does not curve upwards."""
        change = gradient - slots.gradient
        curvature = _dot(step, change)
        rounding = (
            line_search.epsilon(step.dtype) * tf.norm(step, axis=-1) * tf.norm(change, axis=-1)
        )
        useful = stepped & (curvature > rounding)
        weight = tf.math.reciprocal_no_nan(curvature)
        old = (slots.steps, slots.changes, slots.weights)
        new = tuple(
            tf.concat([pairs[:, 1:], pair[:, tf.newaxis]], axis=1)
            for pairs, pair in zip(old, (step, change, weight), strict=True)
        )
        steps, changes, weights = select(useful, new, old)
        return slots._replace(steps=steps, changes=changes, weights=weights)

    def _begin(self, slots: LBFGSSlots) -> LBFGSSlots:
        """Begins line searches at the iterates."""
        direction = self._direction(slots)
        slope = _dot(slots.gradient, direction)
        down = slope < 0
        direction, weights = select(
            down,
            (direction, slots.weights),
            (-slots.gradient, tf.zeros_like(slots.weights)),
        )
        slope = tf.where(down, slope, -_dot(slots.gradient, slots.gradient))
        # Nothing is known of the scale of a gradient without pairs: a step of length 1, as SciPy's.
        length = tf.math.reciprocal_no_nan(tf.norm(slots.gradient, axis=-1))
        length = tf.where(weights[:, -1] == 0, length, 1)
        search = line_search.begin(slots.value, slope, length)
        return slots._replace(direction=direction, weights=weights, search=search)

    def _direction(self, slots: LBFGSSlots) -> tf.Tensor:
        """Returns minus the estimate of the inverse Hessian times the gradient: two loops."""
        pairs = [tf.unstack(tensor, axis=1) for tensor in (slots.steps, slots.changes)]
        pairs = list(zip(*pairs, tf.split(slots.weights, self.memory, axis=1), strict=True))
        result, parts = slots.gradient, []
        for step, change, weight in reversed(pairs):
            parts.append(weight * _dot(step, result)[:, tf.newaxis])
            result -= parts[-1] * change
        _, change, weight = pairs[-1]
        size = weight * _dot(change, change)[:, tf.newaxis]
        result = tf.where(size > 0, result / size, result)
        for (step, change, weight), part in zip(pairs, reversed(parts), strict=True):
            result += step * (part - weight * _dot(change, result)[:, tf.newaxis])
        return -result


def _dot(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """(batch, d), (batch, d) -> (batch,)."""
    return tf.reduce_sum(a * b, axis=-1)
