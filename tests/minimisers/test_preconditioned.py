"""Minimising in variables in which an energy curves evenly."""

import re

import numpy as np
import pytest
import tensorflow as tf

from ige.errors import UserError, first_line
from ige.minimisers import LBFGS, Curvature, Preconditioned

BLOCKS, SIZE, OTHERS = 3, 4, 2
BATCH, VARIABLES = 2, BLOCKS * SIZE + OTHERS


class Quadratic:
    """0.5 (x - x0)' A (x - x0) with A of blocks and a diagonal; conditions are both and x0."""

    def __call__(self, state, conditions):
        blocks, others, lowest = conditions
        away = state - lowest
        inner = tf.reshape(away[:, : BLOCKS * SIZE], (-1, BLOCKS, SIZE))
        energy = tf.einsum("bni,bnij,bnj->b", inner, blocks, inner)
        return 0.5 * (energy + tf.reduce_sum(others * away[:, BLOCKS * SIZE :] ** 2, axis=1))

    def curvature(self, state, conditions):
        return Curvature(*conditions[:2])


def make(rng, condition=1e6):
    """Returns blocks with these extreme ratios of eigenvalues, the diagonal, and the minimum."""
    bases = np.linalg.qr(rng.standard_normal((BATCH, BLOCKS, SIZE, SIZE)))[0]
    eigenvalues = np.logspace(0, np.log10(condition), SIZE)
    blocks = np.einsum("bnij,j,bnkj->bnik", bases, eigenvalues, bases)
    others = np.full((BATCH, OTHERS), 1e3)
    return tuple(map(tf.constant, (blocks, others, rng.standard_normal((BATCH, VARIABLES)))))


def minimiser(iterations=4, **settings):
    inner = LBFGS(max_iterations=iterations, memory=10, jit_compile=False, compact=None)
    return Preconditioned(inner, **({"rounds": 1, "damping": 1e-9} | settings))


def test_a_quadratic_takes_a_step_or_two(rng):
    """In the new variables it is 0.5 |y - y0|^2: the gradient leads to its minimum."""
    conditions = make(rng)
    start = np.zeros((BATCH, VARIABLES))
    found = minimiser().minimise(Quadratic(), start, conditions)
    np.testing.assert_allclose(found.energy, 0, atol=1e-9)
    np.testing.assert_allclose(found.position, conditions[2], atol=1e-5)
    assert (found.iterations <= 2).all()
    plain = minimiser().minimiser.minimise(Quadratic(), start, conditions)
    assert (plain.energy > 1).all()


def test_where_there_is_no_estimate_variables_stay_as_they_are(rng):
    """A block that is not finite and one of zeros, and others of which only one is known."""
    blocks, others, lowest = (field.numpy() for field in make(rng, condition=1.0))

    class Unknown(Quadratic):
        def curvature(self, state, conditions):
            known = np.ones((BATCH, BLOCKS, 1, 1))
            known[:, 0], known[:, 1] = np.nan, 0
            return Curvature(conditions[0] * known, conditions[1] * [np.inf, 1.0])

    others[:] = 1
    found = minimiser(iterations=20).minimise(Unknown(), np.zeros((BATCH, VARIABLES)), (
        tf.constant(blocks), tf.constant(others), tf.constant(lowest)
    ))  # fmt: skip
    np.testing.assert_allclose(found.position, lowest, atol=1e-5)


class Valley:
    """Rosenbrock's, of pairs; the residuals are 10 (y - x^2) and 1 - x, the estimate Gauss's."""

    def __call__(self, state, conditions):
        x, y = state[:, 0], state[:, 1]
        return 100 * (y - x**2) ** 2 + (1 - x) ** 2

    def curvature(self, state, conditions):
        x = state[:, 0]
        one = tf.ones_like(x)
        rows = tf.stack(
            [tf.stack([-20 * x, 10 * one], axis=1), tf.stack([-one, 0 * one], axis=1)], axis=1
        )
        blocks = 2 * tf.matmul(rows, rows, transpose_a=True)
        return Curvature(blocks[:, tf.newaxis], tf.zeros((state.shape[0], 0), state.dtype))


def test_further_rounds_go_on_from_the_best():
    start = np.array([[-1.2, 1.0], [2.0, -3.0]])
    energies = []
    for rounds in (1, 2, 60):
        found = minimiser(3, rounds=rounds, least_gain=0.0).minimise(Valley(), start)
        np.testing.assert_allclose(found.energy, Valley()(tf.constant(found.position), ()))
        assert (found.iterations <= 3 * rounds).all()
        energies.append(found.energy)
    assert (energies[1] < energies[0]).all()
    np.testing.assert_allclose(found.position, 1, atol=1e-4)


def test_rounds_end_when_they_gain_too_little():
    start = np.array([[-1.2, 1.0]])
    everything = minimiser(3, rounds=50, least_gain=0.0).minimise(Valley(), start)
    enough = minimiser(3, rounds=50, least_gain=0.999).minimise(Valley(), start)
    assert enough.iterations < everything.iterations
    assert enough.energy > everything.energy


def test_rows_do_not_know_of_each_other(rng):
    conditions = make(rng)
    start = rng.standard_normal((BATCH, VARIABLES))
    both = minimiser().minimise(Quadratic(), start, conditions)
    for row in range(BATCH):
        own = tuple(field[row : row + 1] for field in conditions)
        alone = minimiser().minimise(Quadratic(), start[row : row + 1], own)
        np.testing.assert_allclose(alone.position[0], both.position[row], rtol=1e-9)


def test_rows_end_when_they_gain_too_little_themselves():
    """The second is at its minimum after two rounds, the first goes on."""
    start, settings = np.array([[-1.2, 1.0], [0.9, 0.8]]), {"rounds": 20, "least_gain": 0.05}
    both = minimiser(3, **settings).minimise(Valley(), start)
    assert both.iterations[1] < both.iterations[0]
    for row in range(2):
        alone = minimiser(3, **settings).minimise(Valley(), start[row : row + 1])
        for name, value in alone._asdict().items():
            np.testing.assert_allclose(value[0], getattr(both, name)[row], rtol=1e-9, atol=1e-12)


def test_what_is_added_to_the_estimate_is_a_share_of_its_mean(rng):
    """The energy curves as the estimate with that added: it is a step or two, but not without."""
    vectors = rng.standard_normal((BATCH, BLOCKS, SIZE))
    singular = np.einsum("bni,bnj->bnij", vectors, vectors)
    mean = np.trace(singular, axis1=2, axis2=3)[..., np.newaxis, np.newaxis] / SIZE
    others, lowest = np.ones((BATCH, OTHERS)), rng.standard_normal((BATCH, VARIABLES))

    class Singular(Quadratic):
        def curvature(self, state, conditions):
            return Curvature(tf.constant(singular), conditions[1])

    conditions = tuple(map(tf.constant, (singular + 0.1 * mean * np.eye(SIZE), others, lowest)))
    start = np.zeros((BATCH, VARIABLES))
    for damping, few in ((0.1, True), (1e-6, False)):
        found = minimiser(damping=damping).minimise(Singular(), start, conditions)
        assert (found.energy < 1e-9).all() == few


def test_energies_below_zero_end_too():
    """Where they gain little of what there is, whatever its sign."""

    class Lower(Valley):
        def __call__(self, state, conditions):
            return super().__call__(state, conditions) - 1e6

    start = np.array([[-1.2, 1.0]])
    few = minimiser(3, rounds=50, least_gain=0.05).minimise(Lower(), start)
    two = minimiser(3, rounds=2, least_gain=0.0).minimise(Lower(), start)
    np.testing.assert_array_equal(few.position, two.position)


def test_it_stops_when_it_is_told_to(rng):
    told = []

    def stop(finished, total):
        told.append(finished)
        return True

    found = minimiser(rounds=5, least_gain=0.0).minimise(
        Quadratic(), np.zeros((BATCH, VARIABLES)), make(rng), stop
    )
    assert told == [0]
    assert (found.energy < np.inf).all()


def test_an_energy_of_unknown_curvature_is_refused():
    message = (
        "Preconditioned.minimise: got an energy without a method `curvature`, expected one that "
        "estimates its Hessian; use the minimiser itself"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        minimiser().minimise(lambda state, _: tf.reduce_sum(state**2, axis=1), np.ones((1, 2)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rounds": 0}, "rounds: got 0, expected a whole number from 1 on"),
        ({"least_gain": 1.0}, "least_gain: got 1.0, expected a number from 0 on and below 1"),
        ({"damping": 0.0}, "damping: got 0.0, expected a number above 0"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(UserError) as raised:
        minimiser(**settings)
    assert first_line(raised.value) == f"Preconditioned.{message}"
