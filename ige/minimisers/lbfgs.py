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
        steps: (batch, memory, d) differences of iterates: a ring, the next one goes to `place`.
        changes: (batch, memory, d) those of their gradients.
        place: (batch,)
        inverse: (batch, memory, memory) of what has step i . change j where i is not after j and 0
            elsewhere; 0 in the rows and columns of pairs that are not there, as all that follows
            may be anything.
        curvatures: (batch, memory) step i . change i.
        scale: (batch,) of the inverse Hessian, from the last pair; 0 if there are no pairs.
    """

    position: tf.Tensor
    value: tf.Tensor
    gradient: tf.Tensor
    direction: tf.Tensor
    search: line_search.Search
    steps: tf.Tensor
    changes: tf.Tensor
    place: tf.Tensor
    inverse: tf.Tensor
    curvatures: tf.Tensor
    scale: tf.Tensor


@gin.configurable(module="ige.minimisers")
class LBFGS(BatchMinimiser):
    """L-BFGS (Nocedal, 1980; Liu and Nocedal, 1989) with a strong Wolfe line search.

    No row waits for another: an evaluation serves the line search of one and the new direction of
    the next. A row whose line search fails, or gains nothing, forgets its pairs and goes down its
    gradient; if that fails too it stops, and has not converged. The tolerances are those of SciPy's
    L-BFGS-B.

    The inverse Hessian is that of Byrd, Nocedal and Schnabel (1994), theorem 2.2: the same as by
    two loops over the pairs, in a few products of matrices.

    Args:
        max_iterations: see `BatchMinimiser`, as for all that is not listed here.
        memory: pairs of steps and changes of the gradient that are remembered.
        gradient_tolerance: converged if no element of the gradient is above this (`gtol`).
        energy_tolerance: converged if a step lowers the energy by at most this, relative to the
            larger one of the energies before and after, or to 1 if both are smaller (`ftol`).
            float32 tells energies apart by 1e-7 of them: where that is more than the tolerance a
            row goes on until it gains nothing at all.
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
        inverse = tf.zeros([batch, self.memory, self.memory], start.dtype)
        search = line_search.begin(none, none, none)
        place = tf.zeros([batch], tf.int32)
        known = (pairs, pairs, place, inverse, pairs[:, :, 0], none)
        return LBFGSSlots(start, none, no, no, search, *known)

    def move(self, rows, value, gradient, finite):
        slots = rows.slots
        first = rows.evaluations == 1
        slope = _dot(gradient, slots.direction)
        search, accepted, failed = line_search.advance(slots.search, value, slope, finite)
        accepted, failed = tf.where(first, finite, accepted), tf.where(first, ~finite, failed)
        stepped = accepted & ~first

        alone = slots.scale == 0  # it went down its gradient
        scale = tf.maximum(tf.maximum(tf.abs(value), tf.abs(slots.value)), 1)
        settled = slots.value - value <= self.energy_tolerance * scale
        # In float32 a bad direction may gain nothing far from the minimum.
        forgets = failed | (stepped & (value >= slots.value))
        settled &= alone | ~forgets
        level = tf.reduce_max(tf.abs(gradient), axis=-1) <= self.gradient_tolerance

        slots = self._remember(slots, rows.trial - slots.position, gradient, stepped)
        slots = _forget(slots, forgets)
        iterate = (rows.trial, value, gradient)
        before = (slots.position, slots.value, slots.gradient)
        position, value, gradient = select(accepted, iterate, before)
        slots = slots._replace(position=position, value=value, gradient=gradient)
        slots = self._begin(slots._replace(search=search), accepted | failed)
        trial = slots.position + slots.search.step[:, tf.newaxis] * slots.direction
        return Move(trial, slots, stepped, (accepted & level) | (stepped & settled), failed & alone)

    def _remember(
        self, slots: LBFGSSlots, step: tf.Tensor, gradient: tf.Tensor, stepped: tf.Tensor
    ) -> LBFGSSlots:
        """Adds pairs, but for those along which the energy does not curve upwards."""
        change = gradient - slots.gradient
        curvature, square = _dot(step, change), _dot(change, change)
        rounding = line_search.epsilon(step.dtype) * tf.norm(step, axis=-1) * tf.sqrt(square)
        useful = stepped & (curvature > rounding)
        # Written where they stay, and nowhere else: pairs are most of what is remembered.
        here = useful[:, tf.newaxis] & (slots.place[:, tf.newaxis] == tf.range(self.memory))
        steps = tf.where(here[:, :, tf.newaxis], step[:, tf.newaxis], slots.steps)
        changes = tf.where(here[:, :, tf.newaxis], change[:, tf.newaxis], slots.changes)

        # What is inverted is triangular, but for the order: it loses its first row and column, and
        # has a new last one.
        row, column = here[:, :, tf.newaxis], here[:, tf.newaxis]
        none = tf.zeros_like(slots.curvatures)
        others = tf.where(here, none, _times(steps, change))
        others = tf.where(here, none, _times(slots.inverse, others))
        last = (tf.cast(here, step.dtype) - others) / tf.where(useful, curvature, 1)[:, tf.newaxis]
        inverse = tf.where(row, tf.zeros_like(slots.inverse), slots.inverse)
        return slots._replace(
            steps=steps,
            changes=changes,
            place=(slots.place + tf.cast(useful, tf.int32)) % self.memory,
            inverse=tf.where(column, last[:, :, tf.newaxis], inverse),
            curvatures=tf.where(here, curvature[:, tf.newaxis], slots.curvatures),
            scale=tf.where(useful, tf.math.divide_no_nan(curvature, square), slots.scale),
        )

    def _begin(self, slots: LBFGSSlots, begins: tf.Tensor) -> LBFGSSlots:
        """Begins line searches at the iterates of the rows where `begins`."""
        direction = _direction(slots)
        slope = _dot(slots.gradient, direction)
        down = slope < 0
        slots = _forget(slots, begins & ~down)
        direction = tf.where(down[:, tf.newaxis], direction, -slots.gradient)
        slope = tf.where(down, slope, -_dot(slots.gradient, slots.gradient))
        # Nothing is known of the scale of a gradient without pairs: a step of length 1, as SciPy's.
        length = tf.math.reciprocal_no_nan(tf.norm(slots.gradient, axis=-1))
        length = tf.where(slots.scale == 0, length, 1)
        new = (direction, line_search.begin(slots.value, slope, length))
        direction, search = select(begins, new, (slots.direction, slots.search))
        return slots._replace(direction=direction, search=search)


def _direction(slots: LBFGSSlots) -> tf.Tensor:
    """Returns minus the estimate of the inverse Hessian times the gradient."""
    scale = tf.where(slots.scale > 0, slots.scale, 1)[:, tf.newaxis]
    parts = _times(slots.inverse, _times(slots.steps, slots.gradient))
    scaled = scale * (slots.gradient - _combined(parts, slots.changes))
    parts = slots.curvatures * parts - _times(slots.changes, scaled)
    return -scaled - _combined(_combined(parts, slots.inverse), slots.steps)


def _forget(slots: LBFGSSlots, forgets: tf.Tensor) -> LBFGSSlots:
    """Forgets the pairs of the rows where `forgets`."""
    keeps = ~forgets
    return slots._replace(
        inverse=tf.where(keeps[:, tf.newaxis, tf.newaxis], slots.inverse, 0),
        scale=tf.where(keeps, slots.scale, 0),
    )


def _dot(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """(batch, d), (batch, d) -> (batch,)."""
    return tf.reduce_sum(a * b, axis=-1)


def _times(matrix: tf.Tensor, vector: tf.Tensor) -> tf.Tensor:
    """(batch, n, d), (batch, d) -> (batch, n)."""
    return tf.einsum("bnd,bd->bn", matrix, vector)


def _combined(weights: tf.Tensor, vectors: tf.Tensor) -> tf.Tensor:
    """(batch, n), (batch, n, d) -> (batch, d)."""
    return tf.einsum("bn,bnd->bd", weights, vectors)
