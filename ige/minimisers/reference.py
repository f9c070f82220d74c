"""SciPy's L-BFGS-B: the reference that the other minimisers are held to."""

import gin
import numpy as np
import scipy.optimize
import tensorflow as tf
from keras import tree

from ige.energies import Structure
from ige.minimisers.base import NOT_NEGATIVE, Minimiser, Minimum


@gin.configurable(module="ige.minimisers")
class ScipyLBFGSB(Minimiser):
    """SciPy's L-BFGS-B, one row after the other, in float64: a reference for the others.

    Energies and gradients are computed in the type of the start.

    Args:
        max_iterations: see `Minimiser`; SciPy stops after 15,000 evaluations too.
        tolerance: SciPy's `tol`, which stands for `ftol` and for `gtol`.
        jit_compile: see `Minimiser`.
    """

    def __init__(
        self, max_iterations: int = 15000, tolerance: float = 1e-9, jit_compile: bool = True
    ):
        super().__init__(max_iterations, jit_compile)
        self.tolerance = self._number("tolerance", tolerance, NOT_NEGATIVE)

    def _program(self, energy, state, conditions):
        return self._evaluate(energy, state, conditions)[:2]

    def _minimise(self, energy, start, conditions, progress):
        batch = len(start)
        found = Minimum(
            start.numpy().copy(),
            np.full(batch, np.inf, start.dtype.as_numpy_dtype),
            *np.zeros((2, batch), np.int32),
            np.zeros(batch, bool),
        )
        for row in range(batch):
            own = tree.map_structure(lambda tensor, row=row: tensor[row : row + 1], conditions)

            def evaluate(x: np.ndarray, row: int = row, own: Structure = own):
                state = tf.constant(x[np.newaxis], start.dtype)
                value, gradient = self._call(energy, state, own)
                if value[0] < found.energy[row]:
                    found.energy[row], found.position[row] = value[0], state[0]
                return float(value[0]), gradient[0].numpy().astype(np.float64)

            options = {"maxiter": self.max_iterations}
            result = scipy.optimize.minimize(
                evaluate,
                found.position[row],
                method="L-BFGS-B",
                jac=True,
                tol=self.tolerance,
                options=options,
            )
            found.iterations[row], found.evaluations[row] = result.nit, result.nfev
            found.converged[row] = result.success
            if progress(row + 1, float(np.sum(found.energy[: row + 1]))):
                break
        return found
