import gin
import keras
import numpy as np
import pytest
import scipy.optimize
import tensorflow as tf

from ige.errors import UserError, first_line
from ige.minimisers import LBFGS, Adam, ScipyLBFGSB, lbfgs, line_search
from ige.minimisers.base import Rows

# Exact: they end where nothing is gained any more.
EXACT = {"gradient_tolerance": 0.0, "energy_tolerance": 0.0}


def rosenbrock(state, conditions):
    ahead, behind = state[:, 1:], state[:, :-1]
    return tf.reduce_sum(100 * (ahead - behind**2) ** 2 + (1 - behind) ** 2, axis=-1)


def bowl(state, centre):
    return tf.reduce_sum(tf.square(state - centre), axis=-1)


def barrier(state, conditions):
    """x - log x: at least 1, at x = 1; NaN where x is negative."""
    return tf.reduce_sum(state - tf.math.log(state), axis=-1)


def quadratic(state, conditions):
    """0.5 x' A x - b' x."""
    matrix, vector = conditions
    return tf.einsum("bi,bij,bj->b", state, 0.5 * matrix, state) - tf.reduce_sum(vector * state, -1)


def quadratics(rng, batch, size, condition):
    """Returns matrices with these extreme ratios of eigenvalues, and vectors."""
    bases = np.linalg.qr(rng.standard_normal((batch, size, size)))[0]
    eigenvalues = np.logspace(0, np.log10(condition), size)
    matrices = np.einsum("bij,j,bkj->bik", bases, eigenvalues, bases)
    return matrices, rng.standard_normal((batch, size))


# One row of a line search, driven by a function of the step and its derivative.


def search(function, derivative, step):
    """Returns the steps that are evaluated, and whether the last one is accepted."""

    def row(value):
        return tf.constant([value], tf.float64)

    going = line_search.begin(row(function(0.0)), row(derivative(0.0)), row(step))
    steps = []
    while len(steps) <= 2 * line_search.MAX_TRIES:
        steps.append(float(going.step[0]))
        value, slope = row(function(steps[-1])), row(derivative(steps[-1]))
        finite = tf.math.is_finite(value + slope)
        going, accepted, failed = line_search.advance(going, value, slope, finite)
        if accepted[0] or failed[0]:
            return steps, bool(accepted[0])
    raise AssertionError("it goes on for ever")


def test_search_interpolates():
    # The cubic through two points of a parabola is the parabola.
    steps, accepted = search(lambda a: (a - 1) ** 2, lambda a: 2 * (a - 1), 4.0)
    np.testing.assert_allclose(steps, [4, 1], rtol=1e-12)
    assert accepted


def test_search_goes_on_while_it_is_steep():
    # Four times the last advance; accepted where the slope is at most 0.9 of the -2 at the start.
    steps, accepted = search(lambda a: (a - 1) ** 2, lambda a: 2 * (a - 1), 0.01)
    np.testing.assert_allclose(steps, [0.01, 0.05, 0.21], rtol=1e-12)
    assert accepted


def test_search_keeps_its_distance_from_the_ends():
    # The lowest point of the parabola is at 1, a 50th of the bracket: a tenth of it is tried.
    steps, accepted = search(lambda a: (a - 1) ** 2, lambda a: 2 * (a - 1), 50.0)
    np.testing.assert_allclose(steps, [50, 5, 1], rtol=1e-12)
    assert accepted


def test_search_comes_back_from_what_is_not_finite():
    def function(a):
        return a**2 - a if a < 2 else np.nan

    steps, accepted = search(function, lambda a: 2 * a - 1, 8.0)
    np.testing.assert_allclose(steps, [8, 2, 0.5], rtol=1e-12)  # a quarter of the way at a time
    assert accepted


@pytest.mark.parametrize("step", [1e-5, 1e-3, 0.1, 1.0, 10.0, 1e3])
@pytest.mark.parametrize(
    ("function", "derivative"),
    [
        (lambda a: a**4 - a, lambda a: 4 * a**3 - 1),
        # Moré and Thuente (1994), functions 1 and 2.
        (lambda a: -a / (a**2 + 2), lambda a: (a**2 - 2) / (a**2 + 2) ** 2),
        (
            lambda a: (a + 0.004) ** 5 - 2 * (a + 0.004) ** 4,
            lambda a: 5 * (a + 0.004) ** 4 - 8 * (a + 0.004) ** 3,
        ),
        (lambda a: np.sin(7 * a) / 7 - 2 * a + a**2, lambda a: np.cos(7 * a) - 2 + 2 * a),
        (lambda a: -np.log1p(a) + a**2, lambda a: -1 / (1 + a) + 2 * a),
    ],
)
def test_search_meets_the_strong_wolfe_conditions(function, derivative, step):
    steps, accepted = search(function, derivative, step)
    last = steps[-1]
    assert accepted
    assert function(last) <= function(0.0) + 1e-3 * last * derivative(0.0)
    assert abs(derivative(last)) <= 0.9 * abs(derivative(0.0))


def test_search_settles_for_a_lower_energy():
    # A kink: the slope is -1 or 1 everywhere, never 0.9.
    steps, accepted = search(lambda a: abs(a - 0.3), lambda a: float(np.sign(a - 0.3)), 1.0)
    assert accepted
    assert len(steps) == line_search.MAX_TRIES + 1
    assert abs(steps[-1] - 0.3) < 0.01


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_search_fails(sign):
    """The energy falls for ever; it rises though its derivative at the start is negative."""
    steps, accepted = search(lambda a: sign * a, lambda a: sign if a else -1.0, 1.0)
    assert not accepted
    assert len(steps) == line_search.MAX_TRIES


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rosenbrock(rng, dtype):
    """By XLA."""
    tolerance = {"float32": 1e-3, "float64": 1e-7}[dtype]
    start = rng.uniform(0, 2, (10, 6)).astype(dtype)  # the other minimum is at x_1 = -1
    found = LBFGS(**EXACT, memory=6, compact=None).minimise(rosenbrock, start)
    assert (found.iterations < 1000).all()  # it ends by itself
    assert found.position.dtype == found.energy.dtype == dtype
    np.testing.assert_allclose(found.position, 1, atol=tolerance)
    np.testing.assert_array_less(found.energy, tolerance**2)


@pytest.mark.parametrize("size", [2, 10])
def test_evaluations_are_about_those_of_scipy(rng, size):
    start = rng.uniform(0, 2, (6, size))
    ours = LBFGS(
        gradient_tolerance=1e-9, energy_tolerance=1e-9, compact=None, jit_compile=False
    ).minimise(rosenbrock, start)
    reference = ScipyLBFGSB(tolerance=1e-9, jit_compile=False).minimise(rosenbrock, start)
    for found in (ours, reference):
        assert found.converged.all()
        np.testing.assert_allclose(found.position, 1, atol=1e-3)
        assert (found.evaluations > found.iterations).all()
    assert ours.evaluations.sum() < 1.5 * reference.evaluations.sum()


@pytest.mark.parametrize("condition", [1.0, 1e2, 1e4])
def test_quadratics(rng, condition):
    matrix, vector = quadratics(rng, 5, 8, condition)
    solution = np.linalg.solve(matrix, vector[..., np.newaxis])[..., 0]
    lowest = -0.5 * np.sum(vector * solution, axis=-1)
    start = rng.standard_normal(vector.shape)
    found = LBFGS(**EXACT, jit_compile=False).minimise(quadratic, start, (matrix, vector))
    np.testing.assert_allclose(found.position, solution, atol=2e-5)
    np.testing.assert_allclose(found.energy, lowest, rtol=1e-9)


def test_the_same_quadratics_by_scipy(rng):
    matrix, vector = quadratics(rng, 3, 8, 100.0)
    start = rng.standard_normal(vector.shape)
    ours, reference = (
        minimiser.minimise(quadratic, start, (matrix, vector))
        for minimiser in (
            LBFGS(gradient_tolerance=1e-9, energy_tolerance=0.0, jit_compile=False),
            ScipyLBFGSB(tolerance=1e-12, jit_compile=False),
        )
    )
    np.testing.assert_allclose(ours.position, reference.position, atol=1e-5)
    np.testing.assert_allclose(ours.energy, reference.energy, rtol=1e-9)
    alone = scipy.optimize.minimize(  # by hand, to hold the reference to what it stands for
        lambda x: 0.5 * x @ matrix[1] @ x - vector[1] @ x,
        start[1],
        jac=lambda x: matrix[1] @ x - vector[1],
        method="L-BFGS-B",
        tol=1e-12,
    )
    np.testing.assert_allclose(reference.position[1], alone.x, rtol=1e-6)
    assert abs(reference.evaluations[1] - alone.nfev) <= 2  # rounding


def test_a_first_step_down_a_round_quadratic_is_enough():
    """Length 1 first, then the scale is known exactly."""
    found = LBFGS(jit_compile=False).minimise(bowl, np.full((1, 4), 3.0), np.zeros((1, 4)))
    np.testing.assert_allclose(found.position, 0, atol=1e-12)
    assert found.iterations == [2]
    # The start, 6 away; 5 away, where the slope is 5/6 of that at the start; the centre.
    assert found.evaluations == [3]


def test_rounding_does_not_keep_it_from_ending():
    """float32 tells energies around 100 apart by 1e-5 only."""

    def energy(state, weights):
        return tf.reduce_sum(weights * tf.square(state - 1), axis=-1) + 100

    weights = np.tile(np.logspace(0, 3, 10, dtype="float32"), (6, 1))
    start = np.random.default_rng(0).standard_normal((6, 10)).astype("float32")
    found = LBFGS(**EXACT, jit_compile=False).minimise(energy, start, weights)
    assert found.converged.all()
    np.testing.assert_allclose(found.energy, 100, atol=1e-3)


def test_rows_do_not_know_of_each_other(rng):
    start = rng.standard_normal((5, 4))
    minimiser = LBFGS(max_iterations=15, compact=None, jit_compile=False)
    together = minimiser.minimise(rosenbrock, start)
    for row in range(5):
        alone = minimiser.minimise(rosenbrock, start[row : row + 1])
        np.testing.assert_allclose(alone.position[0], together.position[row], rtol=1e-9)
        assert alone.evaluations[0] == together.evaluations[row]


@pytest.mark.parametrize("minimiser", [LBFGS, Adam])
def test_blocks_change_nothing(rng, minimiser):
    start = rng.standard_normal((4, 3))
    results = [
        minimiser(max_iterations=20, block=block, jit_compile=False, compact=None).minimise(
            rosenbrock, start
        )
        for block in (1, 7, 100)
    ]
    for result in results[1:]:
        for array, expected in zip(result, results[0], strict=True):
            np.testing.assert_array_equal(array, expected)


def test_the_batch_shrinks(rng):
    """Rows that begin nearer to the centre are finished sooner; conditions stay with their rows."""
    sizes = []

    def energy(state, conditions):
        sizes.append(state.shape[0])
        return rosenbrock(state - conditions["shift"][:, tf.newaxis], ())

    shift = rng.standard_normal(12)
    spread = np.where(np.arange(12) % 4, 1e-9, 1.0)[:, np.newaxis]
    start = 1 + shift[:, np.newaxis] + spread * rng.uniform(0, 0.5, (12, 3))
    options = dict(gradient_tolerance=1e-5, energy_tolerance=0.0, block=5, jit_compile=False)
    told = []
    shrunk, whole = (
        LBFGS(**options, compact=compact).minimise(
            energy, start, {"shift": shift}, lambda done, total: told.append((done, total))
        )
        for compact in (0.5, None)
    )
    assert {12, 4} <= set(sizes) <= {12, 4, 2, 1}
    np.testing.assert_allclose(shrunk.position, 1 + np.tile(shift, (3, 1)).T, atol=1e-5)
    np.testing.assert_allclose(shrunk.position, whole.position, atol=1e-6)
    np.testing.assert_array_equal(shrunk.iterations[spread[:, 0] < 1], 0)
    assert told[0][0] == 9
    assert told[-1] == (12, np.sum(whole.energy))


@pytest.mark.parametrize("minimiser", [LBFGS, Adam, ScipyLBFGSB])
def test_a_start_at_the_minimum_stays(minimiser):
    start = np.ones((2, 3), "float32")
    found = minimiser(jit_compile=False).minimise(rosenbrock, start)
    np.testing.assert_array_equal(found.position, start)
    assert found.iterations.tolist() == [0, 0]
    assert found.evaluations.tolist() == [1, 1]
    assert found.converged.all()


def test_energies_that_are_not_finite_shorten_the_step():
    start = np.array([[5.0, 5.0], [1e-3, 2.0], [30.0, 30.0], [-1.0, 1.0]])
    found = LBFGS(gradient_tolerance=1e-7, energy_tolerance=0.0, jit_compile=False).minimise(
        barrier, start
    )
    np.testing.assert_allclose(found.position[:3], 1, atol=1e-6)
    np.testing.assert_allclose(found.energy[:3], 2, rtol=1e-12)
    assert found.converged.tolist() == [True, True, True, False]
    # There is nothing to start from.
    np.testing.assert_array_equal(found.position[3], start[3])
    assert found.energy[3] == np.inf
    assert found.iterations[3] == 0


def test_adam_comes_back_from_what_is_not_finite():
    start = np.array([[2.0], [-1.0]])
    minimiser = Adam(3.0, 300, gradient_tolerance=1e-3, jit_compile=False)
    found = minimiser.minimise(barrier, start)  # its first step leads to -1
    np.testing.assert_allclose(found.position, [[1], [-1]], atol=1e-2)
    assert found.converged.tolist() == [True, False]
    assert found.energy[1] == np.inf


def test_an_energy_without_a_minimum_ends():
    def slope(state, conditions):
        return tf.reduce_sum(state, axis=-1)

    found = LBFGS(jit_compile=False).minimise(slope, np.zeros((2, 3)))
    assert not found.converged.any()
    assert found.evaluations.tolist() == [1 + line_search.MAX_TRIES] * 2
    assert (found.energy < -1e9).all()  # the best is kept nevertheless


def test_the_scale_of_the_energy_does_not_matter(rng):
    """A power of two changes no digit."""
    start = rng.standard_normal((3, 4))
    scales = np.array([2.0**-40, 1.0, 2.0**40])

    def scaled(state, scale):
        return scale * rosenbrock(state, ())

    minimiser = LBFGS(25, gradient_tolerance=0.0, energy_tolerance=0.0, jit_compile=False)
    whole = minimiser.minimise(scaled, start, np.ones(3))
    found = minimiser.minimise(scaled, start, scales)
    # Where energies are below 1, the tolerance is not relative: 0 is the same everywhere.
    np.testing.assert_array_equal(found.position, whole.position)
    np.testing.assert_array_equal(found.evaluations, whole.evaluations)


def test_pairs_of_negative_curvature_are_not_remembered():
    """Of two rows the gradient grows along the step of the first only."""
    minimiser = LBFGS(memory=2, jit_compile=False)
    slots = minimiser.slots(tf.zeros([2, 2]))._replace(gradient=tf.ones([2, 2]))
    step = tf.constant([[2.0, 0.0], [2.0, 0.0]])
    gradient = tf.constant([[3.0, 1.0], [0.0, 1.0]])
    known = minimiser._remember(slots, step, gradient, tf.constant([True, True]))
    np.testing.assert_array_equal(known.place, [1, 0])
    np.testing.assert_array_equal(known.scale, [1, 0])
    np.testing.assert_array_equal(known.inverse, [[[0.25, 0], [0, 0]], np.zeros((2, 2))])
    np.testing.assert_array_equal(known.steps, [[[2, 0], [0, 0]], np.zeros((2, 2))])
    np.testing.assert_array_equal(known.changes, [[[2, 0], [0, 0]], np.zeros((2, 2))])


def two_loops(pairs, gradient):
    """Nocedal and Wright (2006), algorithm 7.4."""
    gradient, parts = gradient.copy(), []
    for step, change in reversed(pairs):
        parts.append(step @ gradient / (step @ change))
        gradient -= parts[-1] * change
    step, change = pairs[-1]
    gradient *= (step @ change) / (change @ change)
    for (step, change), part in zip(pairs, reversed(parts), strict=True):
        gradient += step * (part - change @ gradient / (step @ change))
    return -gradient


def test_the_direction_is_that_of_two_loops(rng):
    """While the memory is filled, is full, and has begun anew; a row without a step stays."""
    minimiser = LBFGS(memory=3, jit_compile=False)
    slots = minimiser.slots(tf.zeros([2, 6], tf.float64))
    pairs = [[], []]
    for last in range(8):
        step, change = rng.standard_normal((2, 2, 6))
        change *= np.sign(np.sum(step * change, axis=-1, keepdims=True))
        stepped = np.array([True, last % 3 > 0])
        gradient = slots.gradient + change
        slots = minimiser._remember(slots, tf.constant(step), gradient, tf.constant(stepped))
        for row in np.flatnonzero(stepped):
            pairs[row] = [*pairs[row], (step[row], change[row])][-3:]
        if last == 4:
            slots = lbfgs._forget(slots, tf.constant([False, True]))
            pairs[1] = []
        slots = slots._replace(gradient=tf.where(stepped[:, np.newaxis], gradient, slots.gradient))
        direction = lbfgs._direction(slots).numpy()
        for own, row, slope in zip(pairs, direction, slots.gradient.numpy(), strict=True):
            np.testing.assert_allclose(row, two_loops(own, slope) if own else -slope, rtol=1e-7)


def test_it_comes_down_from_a_top():
    """The cosine is concave between -pi/2 and pi/2."""

    def energy(state, conditions):
        return tf.reduce_sum(tf.cos(state), axis=-1)

    start = np.array([[0.01, -0.02, 0.03], [1.0, 0.5, -0.1]])
    found = LBFGS(gradient_tolerance=1e-10, energy_tolerance=0.0, jit_compile=False).minimise(
        energy, start
    )
    np.testing.assert_allclose(found.energy, -3, rtol=1e-12)


def test_a_step_without_gain_forgets():
    """It is accepted, for its slope is flat, and goes on down its gradient rather than end."""
    minimiser = LBFGS(memory=2, jit_compile=False)
    start = tf.constant([[0.0, 0.0]])
    slots = minimiser.slots(start)
    pairs = tf.eye(2, batch_shape=[1])  # each a step and its change
    slots = slots._replace(
        value=tf.constant([100.0]),
        gradient=tf.constant([[-1.0, 0.0]]),
        direction=tf.constant([[1.0, 0.0]]),
        search=line_search.begin(*tf.constant([[100.0], [-1.0], [1.0]])),
        steps=pairs,
        changes=pairs,
        inverse=pairs,
        curvatures=tf.ones([1, 2]),
        scale=tf.ones([1]),
    )
    here, count, no = tf.constant([[1.0, 0.0]]), tf.constant([5]), tf.constant([False])
    value, gradient, yes = tf.constant([100.0]), tf.constant([[-0.5, 2.0]]), ~no
    rows = Rows(here, here, value, count, count, no, no, slots)
    move = minimiser.move(rows, value, gradient, yes)
    assert move.stepped.numpy().tolist() == [True]
    assert move.converged.numpy().tolist() == move.stopped.numpy().tolist() == [False]
    np.testing.assert_array_equal(move.slots.inverse, np.zeros((1, 2, 2)))
    np.testing.assert_array_equal(move.slots.scale, [0])
    np.testing.assert_array_equal(move.slots.direction, -gradient)
    # A step of length 1.
    np.testing.assert_allclose(move.trial, here - gradient / np.sqrt(4.25), rtol=1e-6)

    alone = rows._replace(slots=slots._replace(scale=tf.zeros([1])))
    assert minimiser.move(alone, value, gradient, yes).converged.numpy().tolist() == [True]


def test_an_energy_may_be_a_network(rng):
    """A layer that has no weights yet, of the state and a condition."""

    class Distance(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(3, kernel_initializer="orthogonal")

        def call(self, state, target):
            return keras.ops.sum(keras.ops.square(self.dense(state) - target), axis=-1)

    energy = Distance()
    target = rng.standard_normal((2, 3)).astype("float32")
    start = np.zeros((2, 3), "float32")
    found = LBFGS(**EXACT, jit_compile=False).minimise(energy, start, target)
    np.testing.assert_allclose(energy.dense(found.position), target, atol=1e-3)


@pytest.mark.parametrize("cosine_decay", [False, True])
def test_adam_is_that_of_keras(rng, cosine_decay):
    start = rng.standard_normal((2, 3))
    rate = keras.optimizers.schedules.CosineDecay(0.01, 12) if cosine_decay else 0.01
    state = keras.Variable(start, dtype="float64")
    optimizer = keras.optimizers.Adam(rate)
    for _ in range(12):
        with tf.GradientTape() as tape:
            energy = bowl(state, np.zeros((2, 3)))
        optimizer.apply([tape.gradient(energy, state.value)], [state])
    ours = Adam(0.01, 12, cosine_decay=cosine_decay, jit_compile=False)
    found = ours.minimise(bowl, start, np.zeros((2, 3)))
    # Keras computes its rate in float32. The last position is the best: it came down all the way.
    np.testing.assert_allclose(found.position, state.numpy(), atol=1e-5)
    assert found.iterations.tolist() == [12, 12]
    assert found.evaluations.tolist() == [13, 13]


def test_the_best_is_kept():
    """With this rate Adam jumps across the bowl, past the start's energy, at each step."""
    start = np.array([[0.5], [-2.0]])
    found = Adam(100.0, 3, jit_compile=False).minimise(bowl, start, np.zeros((2, 1)))
    np.testing.assert_array_equal(found.position, start)
    np.testing.assert_array_equal(found.energy, [0.25, 4])


@pytest.mark.parametrize("minimiser", [LBFGS, ScipyLBFGSB])
def test_the_start_is_kept_where_all_that_follows_is_worse(minimiser):
    """The energy rises along what it says to be its descent."""

    def misleading(state, conditions):
        return tf.reduce_sum(2 * tf.stop_gradient(state) - state, axis=-1)

    found = minimiser(jit_compile=False).minimise(misleading, np.ones((2, 3)))
    np.testing.assert_array_equal(found.position, 1)
    np.testing.assert_array_equal(found.energy, 3)
    assert (found.evaluations > 1).all()
    assert not found.converged.any()


@pytest.mark.parametrize("minimiser", [LBFGS, Adam, ScipyLBFGSB])
def test_what_is_compiled_is_used_again(rng, minimiser):
    traces = []

    def energy(state, centre):
        traces.append(state.shape)
        return bowl(state, centre)

    minimiser = minimiser(max_iterations=3, jit_compile=False)
    minimiser.minimise(energy, rng.standard_normal((4, 2)), np.zeros((4, 2)))
    before = len(traces)
    minimiser.minimise(energy, rng.standard_normal((4, 2)), np.ones((4, 2)))
    assert len(traces) == before > 0


@pytest.mark.parametrize(("minimiser", "finished"), [(LBFGS, 0), (ScipyLBFGSB, 1)])
def test_progress_may_end_it(rng, minimiser, finished):
    told = []

    def progress(done, total):
        told.append((done, total))
        return True

    start = rng.standard_normal((3, 2))
    found = minimiser(jit_compile=False, **({"block": 2} if finished == 0 else {})).minimise(
        rosenbrock, start, (), progress
    )
    assert told == [(finished, np.sum(found.energy[np.isfinite(found.energy)]))]
    assert found.converged.sum() == finished


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LBFGS(memory=0), "LBFGS.memory: got 0, expected a whole number from 1 on"),
        (
            lambda: LBFGS(max_iterations=1.5),
            "LBFGS.max_iterations: got 1.5, expected a whole number from 1 on",
        ),
        (lambda: LBFGS(block=True), "LBFGS.block: got True, expected a whole number from 1 on"),
        (
            lambda: LBFGS(gradient_tolerance=-1),
            "LBFGS.gradient_tolerance: got -1, expected a number from 0 on",
        ),
        (
            lambda: LBFGS(energy_tolerance=float("nan")),
            "LBFGS.energy_tolerance: got nan, expected a number from 0 on",
        ),
        (
            lambda: LBFGS(compact=1),
            "LBFGS.compact: got 1, expected a number from 0 on and below 1",
        ),
        (
            lambda: Adam(learning_rate=0),
            "Adam.learning_rate: got 0, expected a number above 0",
        ),
        (
            lambda: Adam(beta_2=1.0),
            "Adam.beta_2: got 1.0, expected a number from 0 on and below 1",
        ),
        (
            lambda: ScipyLBFGSB(tolerance="small"),
            "ScipyLBFGSB.tolerance: got 'small', expected a number from 0 on",
        ),
    ],
)
def test_numbers_are_checked(make, message):
    with pytest.raises(UserError) as error:
        make()
    assert first_line(error.value) == message  # gin adds where it called it


@pytest.mark.parametrize(
    ("start", "conditions", "message"),
    [
        (
            [1.0, 2.0],
            (),
            "Adam.minimise: got a start of shape (2,) and type float32, expected (batch, d) of "
            "float32 or float64",
        ),
        (
            [[1, 2]],
            (),
            "Adam.minimise: got a start of shape (1, 2) and type int32, expected (batch, d) of "
            "float32 or float64",
        ),
        (
            np.zeros((0, 2)),
            (),
            "Adam.minimise: got a start of shape (0, 2) and type float64, expected (batch, d) of "
            "float32 or float64",
        ),
        (
            [[1.0], [float("nan")], [float("inf")]],
            (),
            "Adam.minimise: got a start that is not finite in 2 of 3 rows, the first is row 1; "
            "leave these rows out",
        ),
        (
            [[1.0], [2.0]],
            [[0.0]],
            "Adam.minimise: got a condition of shape (1, 1), expected 2 rows as in the start; "
            "repeat what all rows share, or close over it",
        ),
        (
            [[1.0], [2.0]],
            (),
            "Adam.energy: got shape (2, 1), expected energies of shape (batch,), one for each "
            "example; sum over the other axes",
        ),
    ],
)
def test_arguments_are_checked(start, conditions, message):
    with pytest.raises(UserError) as error:
        Adam(jit_compile=False).minimise(
            lambda state, _: tf.square(state), start, np.array(conditions) if conditions else ()
        )
    assert str(error.value) == message


def test_gin_knows_them():
    gin.parse_config(
        """
        LBFGS.memory = 3
        minimisers.Adam.learning_rate = 0.5
        ScipyLBFGSB.tolerance = 1e-3
        """
    )
    made = [gin.get_configurable(f"ige.minimisers.{n}")() for n in ("LBFGS", "Adam", "ScipyLBFGSB")]
    assert [made[0].memory, made[1].learning_rate, made[2].tolerance] == [3, 0.5, 1e-3]
