"""A change of variables after which an energy curves about the same in all directions."""

from typing import NamedTuple, Protocol

import gin
import numpy as np
import tensorflow as tf

from ige.energies import Structure
from ige.errors import UserError
from ige.minimisers.base import POSITIVE, SHARE, BatchMinimiser, Minimiser, Minimum, Progress


class Curvature(NamedTuple):
    """An estimate of the Hessian at states of n * k + r elements: n blocks, then r elements.

    Attributes:
        blocks: (batch, n, k, k) symmetric, positive semi-definite.
        others: (batch, r) not negative, on the diagonal.
    """

    blocks: tf.Tensor
    others: tf.Tensor


class CurvedEnergy(Protocol):
    """An energy that knows how it curves."""

    def __call__(self, state: tf.Tensor, conditions: Structure) -> tf.Tensor: ...

    def curvature(self, state: tf.Tensor, conditions: Structure) -> Curvature: ...


class Scaling(NamedTuple):
    """New variables y of states: state = origin + scaling * y.

    Attributes:
        origin: (batch, d).
        blocks: (batch, n, k, k).
        others: (batch, r).
    """

    origin: tf.Tensor
    blocks: tf.Tensor
    others: tf.Tensor

    def state(self, variables: tf.Tensor) -> tf.Tensor:
        """Returns the states of new variables (batch, d)."""
        _, n, k, _ = self.blocks.shape
        inner = tf.reshape(variables[:, : n * k], (-1, n, k))
        inner = tf.linalg.matvec(self.blocks, inner)
        others = self.others * variables[:, n * k :]
        return self.origin + tf.concat([tf.reshape(inner, (-1, n * k)), others], axis=1)


class _Scaled:
    """An energy of new variables."""

    def __init__(self, energy: CurvedEnergy):
        self._energy = energy

    def __call__(self, variables: tf.Tensor, conditions: tuple[Scaling, Structure]) -> tf.Tensor:
        scaling, own = conditions
        return self._energy(scaling.state(variables), own)


@gin.configurable(module="ige.minimisers")
class Preconditioned(Minimiser):
    """Minimises by another minimiser, in variables in which the energy curves about evenly.

    With the Cholesky factor L of an estimate of the Hessian, Gauss and Newton's for a sum of
    squares, the state is its start plus the inverse transpose of L times the new variables. The
    estimate is made anew, at the best state so far, in every round.

    Args:
        minimiser: what takes the steps, `max_iterations` of them in each round.
        rounds: how often the estimate is made at most.
        least_gain: the last round of a row is the first further one that lowers its energy by no
            more than this share.
        damping: added to the diagonal of a block of the estimate, relative to its mean.
    """

    def __init__(
        self,
        minimiser: BatchMinimiser = gin.REQUIRED,
        rounds: int = 8,
        least_gain: float = 0.05,
        damping: float = 0.05,
    ):
        super().__init__(minimiser.max_iterations, minimiser.jit_compile)
        self.minimiser = minimiser
        self.rounds = self._whole("rounds", rounds)
        self.least_gain = self._number("least_gain", least_gain, SHARE)
        self.damping = self._number("damping", damping, POSITIVE)
        self._scaled = {}

    def _minimise(
        self, energy: CurvedEnergy, start: tf.Tensor, conditions: Structure, progress: Progress
    ) -> Minimum:
        if not hasattr(energy, "curvature"):
            raise UserError(
                f"{self._owner}.minimise: got an energy without a method `curvature`, expected one "
                "that estimates its Hessian; use the minimiser itself"
            )
        scaled = self._scaled.setdefault(energy, _Scaled(energy))
        stops = False

        def told(finished: int, total: float) -> bool:
            nonlocal stops
            stops = bool(progress(0, total))  # there may be a further round for all of them
            return stops

        best = None
        goes_on = np.ones(len(start), bool)
        for _ in range(self.rounds):
            scaling = Scaling(start, *self._factors(self._call(energy, start, conditions)))
            found = self.minimiser.minimise(
                scaled, tf.zeros_like(start), (scaling, conditions), told
            )
            found = found._replace(position=scaling.state(tf.constant(found.position)).numpy())
            best, gains = self._joined(best, found, goes_on)
            goes_on &= gains
            if stops or not goes_on.any():
                break
            start = tf.constant(best.position)
        return best

    def _joined(
        self, best: Minimum | None, found: Minimum, goes_on: np.ndarray
    ) -> tuple[Minimum, np.ndarray]:
        """Returns the minima after a round, and which rows it has gained enough for another one.

        Rows that do not go on stay as they are: how far others have come is nothing to them.
        """
        if best is None:
            return found, np.ones_like(goes_on)
        steps = [getattr(best, n) + getattr(found, n) for n in ("iterations", "evaluations")]
        found = found._replace(iterations=steps[0], evaluations=steps[1])
        gains = self._gains(best.energy, found.energy)
        fields = (np.where(goes_on, new.T, old.T).T for old, new in zip(best, found, strict=True))
        return Minimum(*fields), gains

    def _gains(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Returns which energies (batch,) a round has lowered enough for another one."""
        known = np.isfinite(before)
        low = before - self.least_gain * np.abs(before, where=known, out=np.zeros_like(before))
        return known & (after < low)

    def _program(self, energy, state, conditions):
        return energy.curvature(state, conditions)

    def _factors(self, curvature: Curvature) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns what new variables are multiplied with: 1 where there is no finite estimate.

        Not compiled: XLA takes 20 times as long for it on a CPU.
        """
        blocks, others = curvature
        identity = tf.eye(blocks.shape[-1], dtype=blocks.dtype)
        mean = tf.linalg.trace(blocks)[..., tf.newaxis, tf.newaxis] / blocks.shape[-1]
        known = tf.math.is_finite(tf.reduce_sum(blocks, axis=(-2, -1), keepdims=True)) & (mean > 0)
        damped = tf.where(known, blocks + self.damping * mean * identity, identity)
        lower = tf.linalg.cholesky(damped)
        inverse = tf.linalg.triangular_solve(lower, tf.broadcast_to(identity, lower.shape))
        known = tf.math.is_finite(others) & (others > 0)
        return tf.linalg.matrix_transpose(inverse), tf.where(known, tf.math.rsqrt(others), 1)
