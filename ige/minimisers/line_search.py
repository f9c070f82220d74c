"""A line search for many rows at once: one evaluation serves them all, whatever each is about.

Finds a step that meets the strong Wolfe conditions as in Nocedal and Wright, "Numerical
Optimization" (2006), algorithms 3.5 and 3.6, with cubic interpolation. Written as a state machine:
a row says which step it wants evaluated, is told the energy there, and goes on from there.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ige.minimisers.base import select

DECREASE = 1e-3
"""The energy has to fall by this much of what its slope at the start promises."""
FLATNESS = 0.9
"""The slope has to become at most this much of that at the start; both as in SciPy's L-BFGS-B."""
MAX_TRIES = 20
# Next tries: at least and at most so far into the bracket; so much further than the last advance.
_INSIDE = (0.1, 0.9)
_BEYOND = (1.1, 4.0)
# Where to go in a bracket that no cubic fits, and in one whose far end has no energy.
_MIDDLE, _NEAR = 0.5, 0.25


class Point(NamedTuple):
    """Steps, energies there, and their derivatives by the step: (batch,) each."""

    step: tf.Tensor
    value: tf.Tensor
    slope: tf.Tensor


class Search(NamedTuple):
    """Line searches in progress: (batch,) each.

    Attributes:
        step: what to evaluate next.
        start: where they began, at step 0.
        low: the lowest point that fell far enough, at first the start.
        high: with `low` it encloses an acceptable step; of no meaning before `bracketed`.
        bracketed: whether there is a `high`.
        tries: evaluations so far.
        settles: whether `step` is taken as it is: it is that of `low`, and the tries are used up.
    """

    step: tf.Tensor
    start: Point
    low: Point
    high: Point
    bracketed: tf.Tensor
    tries: tf.Tensor
    settles: tf.Tensor


def begin(value: tf.Tensor, slope: tf.Tensor, step: tf.Tensor) -> Search:
    """Returns searches from energies with these slopes, below 0, that first try these steps."""
    start = Point(tf.zeros_like(step), value, slope)
    no = tf.zeros_like(step, tf.bool)
    return Search(step, start, start, start, no, tf.zeros_like(step, tf.int32), no)


def advance(
    search: Search, value: tf.Tensor, slope: tf.Tensor, finite: tf.Tensor
) -> tuple[Search, tf.Tensor, tf.Tensor]:
    """Goes on with what an evaluation at `search.step` gave.

    A step is accepted too whose energy is that of the start but for rounding, if the slope says
    that it is one (the approximate Wolfe conditions of Hager and Zhang, 2005): near the minimum
    rounding hides a decrease.

    Args:
        search: the searches.
        value: (batch,) energies.
        slope: (batch,) their derivatives by the step.
        finite: (batch,) whether both are to be trusted.

    Returns:
        The searches as they go on; (batch,) whether the evaluated step is accepted; (batch,)
        whether there is none to be found: the energy does not fall, or falls for ever.
    """
    start, low, high = search.start, search.low, search.high
    inf = tf.constant(float("inf"), value.dtype)
    trial = Point(search.step, tf.where(finite, value, inf), tf.where(finite, slope, 0))
    rounding = 10 * epsilon(value.dtype) * tf.abs(start.value)
    fell = trial.value <= start.value + DECREASE * trial.step * start.slope
    level = tf.abs(trial.value - start.value) <= rounding
    enough = fell | (level & (trial.slope <= (2 * DECREASE - 1) * start.slope))
    flat = tf.abs(trial.slope) <= -FLATNESS * start.slope
    accepted = finite & ((enough & flat) | search.settles)

    higher = ~enough | (trial.value > low.value + rounding)
    ahead = tf.where(search.bracketed, high.step - low.step, 1)
    passed = ~higher & (trial.slope * ahead >= 0)
    bracketed = search.bracketed | higher | passed
    new_high = select(higher, trial, select(passed, low, high))
    new_low = select(higher, low, trial)
    step = tf.where(bracketed, _interpolated(new_low, new_high), _extrapolated(low, trial))

    tries = search.tries + 1
    used_up = tries >= MAX_TRIES
    settles = used_up & bracketed & (new_low.value < start.value) & ~search.settles
    failed = used_up & ~settles & ~accepted
    step = tf.where(settles, new_low.step, step)
    return Search(step, start, new_low, new_high, bracketed, tries, settles), accepted, failed


def epsilon(dtype: tf.DType) -> float:
    """Returns the relative rounding error of a floating-point type."""
    return float(np.finfo(dtype.as_numpy_dtype).eps)


def _interpolated(low: Point, high: Point) -> tf.Tensor:
    """Returns a step between two points, not too close to either."""
    width = high.step - low.step
    share = (_cubic(low, high) - low.step) / width
    without = tf.where(tf.math.is_finite(high.value), _MIDDLE, _NEAR)
    without = tf.cast(without, share.dtype)
    share = tf.where(tf.math.is_finite(share), tf.clip_by_value(share, *_INSIDE), without)
    return low.step + share * width


def _extrapolated(before: Point, last: Point) -> tf.Tensor:
    """Returns a step beyond the last of two points."""
    advance = last.step - before.step
    factor = (_cubic(before, last) - last.step) / advance
    least, most = _BEYOND
    # A cubic without a minimum ahead: as far as allowed.
    factor = tf.where(factor > 0, tf.clip_by_value(factor, least, most), most)
    return last.step + factor * advance


def _cubic(a: Point, b: Point) -> tf.Tensor:
    """Returns where the cubic through two points with their slopes is lowest, NaN if nowhere."""
    width = b.step - a.step
    mean = a.slope + b.slope - 3 * (b.value - a.value) / width
    root = tf.sign(width) * tf.sqrt(tf.square(mean) - a.slope * b.slope)
    return b.step - width * (b.slope + root - mean) / (b.slope - a.slope + 2 * root)
