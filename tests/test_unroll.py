import os
import pathlib
import re
import subprocess
import sys

import gin
import hypothesis
import keras
import numpy as np
import pytest
import tensorflow as tf
import unroll_worker
from hypothesis import strategies as st
from unroll_worker import Waves

from ige.errors import UserError
from ige.unroll import UnrolledAdam, UnrolledOptimizer, UnrolledSGD

HERE = pathlib.Path(__file__).parent
few = hypothesis.settings(max_examples=25, deadline=None, derandomize=True)


@keras.saving.register_keras_serializable(package="tests")
class Bowl(keras.layers.Layer):
    """0.5 a |x - c|^2; a is learned."""

    def __init__(self, a=2.0, **kwargs):
        super().__init__(**kwargs)
        self.a = a

    def build(self, state_shape, conditions_shape):
        constant = keras.initializers.Constant(self.a)
        self.weight = self.add_weight(shape=(), initializer=constant, name="a")

    def call(self, state, conditions):
        return 0.5 * self.weight * tf.reduce_sum(tf.square(state - conditions), axis=-1)

    def get_config(self):
        return super().get_config() | {"a": self.a}


@keras.saving.register_keras_serializable(package="tests")
def bowl(state, conditions):
    return tf.reduce_sum(tf.square(state - conditions), axis=-1)


@keras.saving.register_keras_serializable(package="tests")
class Length(keras.layers.Layer):
    """|W (x - c)|, whose gradient is NaN at x = c."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(3, use_bias=False, dtype=self.dtype_policy)

    def call(self, state, conditions):
        return tf.norm(self.dense(state - conditions), axis=-1)


# What makes of a finite state and condition ones whose gradient is not finite.
SPOILT = {
    "finite": lambda x, c: (x, c),
    "minimum": lambda x, c: (x, x),
    "state": lambda x, c: (np.array([0.0, np.nan, 0.0]), c),
    "condition": lambda x, c: (x, np.array([np.inf, 0.0, -np.inf])),
}


def numbers(*values):
    """(batch, 1) in float64."""
    return tf.constant(values, tf.float64)[:, None]


# From 3 down 0.5 * 2 (x - 1)^2 with learning rate 1/4 and momentum 1/2: gradients 4, 2, 0, so the
# velocities are 4, 2 + 2 and 0 + 2.
PATH = [3.0, 2.0, 1.0, 0.5]
ENERGIES = [4.0, 1.0, 0.0, 0.25]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("momentum", [0.5, -0.5])
def test_iterates_and_energies_by_hand(momentum, training):
    """The second example starts in the minimum; momentum counts by its absolute value."""
    layer = UnrolledSGD(
        Bowl(dtype="float64"), 3, None, 0.25, momentum, return_energies=True, dtype="float64"
    )
    iterates, energies = layer(numbers(3, -2), numbers(1, -2), training=training)
    assert iterates.dtype == energies.dtype == tf.float64
    np.testing.assert_allclose(iterates[:, :, 0], [PATH, [-2.0] * 4], atol=1e-15)
    np.testing.assert_allclose(energies, [ENERGIES, [0.0] * 4], atol=1e-15)


def test_derivatives_of_the_last_iterate_in_closed_form():
    """x3 = c + (x0 - c) P with P = (1 - h)^3 - 2 mu h (1 - h) - mu^2 h and h = a * rate.

    At h = mu = 1/2: P = -1/4, dP/dh = dP/dmu = -1. The logarithm of the rate is what is learned.
    """
    energy = Bowl(dtype="float64")
    learned = ["learning_rate", "momentum"]
    layer = UnrolledSGD(energy, 3, None, 0.25, 0.5, learned=learned, dtype="float64")
    start, condition = numbers(3), numbers(1)
    with tf.GradientTape() as tape:
        tape.watch([start, condition])
        last = layer(start, condition, training=True)[:, -1]
    rate, momentum, a = layer.trainable_weights
    assert [weight.name for weight in (rate, momentum, a)] == [*learned, "a"]
    sources = [rate.value, momentum.value, a.value, start, condition]
    got = tape.gradient(last, sources)
    np.testing.assert_allclose(got[0], 2 * 0.5 * -1)  # (x0 - c) h dP/dh
    np.testing.assert_allclose(got[1], 2 * -1)
    np.testing.assert_allclose(got[2], 2 * 0.25 * -1)
    np.testing.assert_allclose(got[3], [[-0.25]])
    np.testing.assert_allclose(got[4], [[1.25]])


def test_derivatives_of_the_last_iterate_for_any_quadratic(rng):
    """The same formula; without momentum x_n = c + (x0 - c) (1 - h)^n."""
    for _ in range(2):
        a, rate, momentum = rng.uniform(0.2, 1.5, 3)
        h = a * rate
        x, c = rng.normal(size=(2, 4, 1))
        p = (1 - h) ** 3 - 2 * momentum * h * (1 - h) - momentum**2 * h
        energy = Bowl(a, dtype="float64")
        layer = UnrolledSGD(energy, 3, 7, rate, momentum, dtype="float64")
        last = layer(x, c, training=True)[:, -1]
        np.testing.assert_allclose(last, c + (x - c) * p, rtol=1e-10)
        layer = UnrolledSGD(energy, 3, 7, rate, dtype="float64")
        np.testing.assert_allclose(layer(x, c)[:, 7], c + (x - c) * (1 - h) ** 7, rtol=1e-10)


def finite_differences(function, variables, step=1e-6):
    """Returns the derivatives of a scalar function by each element of each variable."""
    derivatives = []
    for variable in variables:
        value = np.array(variable)
        derivative = np.zeros_like(value)
        for index in np.ndindex(value.shape):
            ends = []
            for change in (step, -step):
                changed = value.copy()
                changed[index] += change
                variable.assign(changed)
                ends.append(float(function()))
            derivative[index] = (ends[0] - ends[1]) / (2 * step)
        variable.assign(value)
        derivatives.append(derivative)
    return derivatives


SGD = {
    "learning_rate": [0.3, 0.5, 0.2],
    "momentum": 0.0,
    "gradient_clip_value": 0.3,
    "learned": ["learning_rate", "momentum", "gradient_clip_value"],
    "per_step": ["gradient_clip_value"],
}
ADAM = {"learned": ["learning_rate", "beta_1", "beta_2", "epsilon"], "per_step": ["beta_2"]}


@pytest.mark.parametrize(
    ("optimizer", "settings", "isolate"),
    [
        (UnrolledSGD, SGD, True),
        (UnrolledSGD, SGD | {"momentum": -0.4}, False),
        (UnrolledAdam, ADAM, True),
    ],
)
def test_derivatives_by_finite_differences(rng, optimizer, settings, isolate):
    """Of a mixture of all iterates and energies, by every weight, the start and the conditions."""
    keras.utils.set_random_seed(0)
    settings = settings | {"return_energies": True, "isolate": isolate, "dtype": "float64"}
    layer = optimizer(Waves(dtype="float64"), 3, **settings)
    start, conditions = (tf.Variable(rng.normal(size=(2, 3))) for _ in range(2))
    mixture, other = rng.normal(size=(2, 4, 3)), rng.normal(size=(2, 4))

    @tf.function(autograph=False)
    def loss():
        iterates, energies = layer(start.value(), conditions.value(), training=True)
        return tf.reduce_sum(mixture * iterates) + tf.reduce_sum(other * energies)

    loss()
    variables = [start, conditions, *layer.trainable_weights]
    assert len(variables) == 4 + len(settings["learned"])
    if settings.get("momentum") == 0.0:  # it has two derivatives there, for |momentum|
        variables = [v for v in variables if v.name != "momentum"]
    with tf.GradientTape() as tape:
        value = loss()
    got = tape.gradient(value, [v.value if hasattr(v, "path") else v for v in variables])
    for ours, expected in zip(got, finite_differences(loss, variables), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-7)
        assert np.any(expected)


def test_momentum_of_0_can_be_learned():
    """dx3 / dmu = (x0 - c) dP/dmu, at mu = 0: -2 h (1 - h)."""
    layer = UnrolledSGD(
        Bowl(dtype="float64"), 3, None, 0.25, 0.0, learned=["momentum"], dtype="float64"
    )
    with tf.GradientTape() as tape:
        last = layer(numbers(3), numbers(1), training=True)[:, -1]
    assert float(tape.gradient(last, layer.trainable_weights[0].value)) == 2 * -0.5


def test_clipping_and_a_value_for_each_step_by_hand():
    """Gradients 2 (x - c) from 10: 20 -> 4, 16 -> 4, 14 -> 4, 8 -> 4; the last rate goes on."""
    settings = {"learning_rate": [1.0, 0.5, 1.5], "gradient_clip_value": 4.0}
    layer = UnrolledSGD(bowl, 3, 4, **settings)
    path = [10.0, 6.0, 4.0, -2.0, 4.0]
    np.testing.assert_allclose(layer([[10.0]] * tf.ones((1, 1)), tf.zeros((1, 1)))[0, :, 0], path)
    got = layer(tf.constant([[10.0]]), tf.zeros((1, 1)), training=True)
    np.testing.assert_allclose(got[0, :, 0], path[:4])


def test_what_is_learned_keeps_its_value_and_its_shape():
    names = ["learning_rate", "momentum", "gradient_clip_value"]
    layer = UnrolledSGD(
        bowl, 3, None, 0.3, -0.7, 2.0, learned=names, per_step=["momentum"], dtype="float64"
    )
    layer(numbers(1), numbers(1))
    assert [weight.shape for weight in layer.weights] == [(), (3,), ()]
    for step in (0, 2, 9):
        values = [float(layer.at(name, step)) for name in names]
        assert values == pytest.approx([0.3, -0.7, 2.0], rel=1e-12)
    layer.weights[0].assign(-50.0)
    assert 0 < float(layer.at("learning_rate", 0)) < 1e-20
    adam = UnrolledAdam(bowl, 3, beta_1=0.3, learned=["beta_1"], dtype="float64")
    adam(numbers(1), numbers(1))
    assert float(adam.at("beta_1", 0)) == pytest.approx(0.3, rel=1e-12)


def test_adam_by_hand():
    """Whatever its size, a first gradient moves by the rate; with betas 1/2 and gradients 4, 2:
    mean (1/2 * 4 / 2 + 2 / 2) / (3/4) = 8/3, of squares (16/4 + 4/2) / (3/4) = 8."""
    layer = UnrolledAdam(
        Bowl(dtype="float64"), 2, None, 1.0, 0.5, 0.5, epsilon=1e-9, dtype="float64"
    )
    third = 2 - 8 / 3 / np.sqrt(8)
    got = layer(numbers(3), numbers(1))
    np.testing.assert_allclose(got[0, :, 0], [3, 2, third], rtol=1e-12)


def test_states_and_conditions_of_several_tensors():
    """Every structure is optimised as its tensors are: the energy is a sum."""

    def energy(state, conditions):
        a, b = state.values() if isinstance(state, dict) else state
        center, weight = conditions
        across = tf.reduce_sum(tf.square(b), axis=(1, 2))
        return bowl(a, center) + tf.cast(weight, tf.float32) * across

    a, b = tf.ones((2, 1)), tf.ones((2, 2, 3))
    conditions = (tf.zeros((2, 1)), tf.constant([1, 2]))
    for structure in ({"a": a, "b": b}, [a, b], (a, b)):
        layer = UnrolledSGD(energy, 2, None, 0.25, return_energies=True)
        iterates, energies = layer(structure, conditions, training=True)
        assert type(iterates) is type(structure)
        got_a, got_b = keras.tree.flatten(iterates)
        np.testing.assert_allclose(got_a[:, :, 0], [[1, 0.5, 0.25]] * 2)
        np.testing.assert_allclose(got_b[0], np.ones((3, 2, 3)) * [[[1]], [[0.5]], [[0.25]]])
        np.testing.assert_allclose(got_b[1], np.ones((3, 2, 3)) * [[[1]], [[0]], [[0]]])
        np.testing.assert_allclose(energies[1], [1 + 12, 0.25, 0.0625])


def test_no_conditions_a_gather_and_a_scalar_condition():
    def energy(state, conditions):
        picked = tf.gather(state, [0, 0], axis=1)
        return tf.reduce_sum(tf.square(picked), axis=1) * (
            1.0 if isinstance(conditions, tuple) else conditions
        )

    start = tf.constant([[1.0, 5.0]])
    got = UnrolledSGD(energy, 1, None, 0.125)(start, training=True)
    np.testing.assert_allclose(got, [[[1, 5], [0.5, 5]]])
    got = UnrolledSGD(energy, 1, None, 0.125)(start, tf.constant(2.0), training=True)
    np.testing.assert_allclose(got, [[[1, 5], [0, 5]]])


def test_energies_are_those_of_the_iterates(rng):
    energy = Waves()
    layer = UnrolledAdam(energy, 3, 5, return_energies=True)
    x, c = rng.normal(size=(2, 4, 3)).astype(np.float32)
    iterates, energies = layer(x, c)
    assert iterates.shape == (4, 6, 3)
    for step in range(6):
        np.testing.assert_allclose(energies[:, step], energy(iterates[:, step], c), rtol=1e-6)


def test_functional_model_as_energy():
    state, condition = keras.Input((1,)), keras.Input((1,))
    energy = keras.Model([state, condition], Bowl()(state, condition))
    layer = UnrolledSGD(energy, 3, None, 0.25, 0.5)
    got = layer(tf.constant([[3.0]]), tf.constant([[1.0]]))
    np.testing.assert_allclose(got[0, :, 0], PATH)
    assert [weight.name for weight in layer.trainable_weights] == ["a"]
    alone = keras.Sequential([keras.layers.Lambda(lambda x: tf.reduce_sum(x * x, axis=-1))])
    np.testing.assert_allclose(
        UnrolledSGD(alone, 1, None, 0.25)(tf.ones((1, 1)))[0, :, 0], [1, 0.5]
    )


def test_more_steps_outside_training_in_a_functional_model():
    """Its outputs are the same few: the last iterate is the last, however many there are."""
    x, c = tf.constant([[3.0], [5.0]]), tf.constant([[1.0], [1.0]])
    inputs = [keras.Input((1,)), keras.Input((1,))]
    layer = UnrolledSGD(Bowl(), 1, 3, 0.25, 0.5)
    iterates = layer(*inputs)
    assert iterates.shape == (None, None, 1)
    assert UnrolledSGD(Bowl(), 3)(*inputs).shape == (None, 4, 1)
    model = keras.Model(inputs, [iterates, iterates[:, -1]])
    _, last = model([x, c], training=True)
    np.testing.assert_allclose(last, [[2.0], [3.0]])
    for steps in (2, 3, None):
        layer.test_steps = steps
        iterates, last = model([x, c])
        assert iterates.shape == (2, (steps or 1) + 1, 1)
        np.testing.assert_allclose(last[0, 0], PATH[steps or 1])


@pytest.mark.parametrize("optimizer", [UnrolledSGD, UnrolledAdam])
def test_xla_does_what_eager_does(rng, optimizer):
    layer = optimizer(Waves(), 2, learned=["learning_rate"], return_energies=True)
    x, c = rng.normal(size=(2, 4, 3)).astype(np.float32)
    x[1] = np.nan

    def step():
        with tf.GradientTape() as tape:
            iterates, energies = layer(x, c, training=True)
            loss = tf.reduce_sum(tf.square(iterates[::2, -1]))
        return iterates, energies, tape.gradient(loss, [w.value for w in layer.trainable_weights])

    eager = keras.tree.flatten(step())
    compiled = tf.function(step, autograph=False, jit_compile=True)
    for got, expected in zip(keras.tree.flatten(compiled()), eager, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    assert all(np.isfinite(gradient).all() for gradient in eager[2:])


def test_xla_compiles_once_for_all_batches():
    """What it has to know while compiling is baked in, and is no parameter of the program."""
    layer = UnrolledSGD(bowl, 2)
    compiled = tf.function(
        lambda x, c: layer(x, c, training=True), autograph=False, jit_compile=True
    )
    program = compiled.experimental_get_compiler_ir(tf.ones((3, 2)), tf.ones((3, 2)))("hlo")
    entry = program[program.index("ENTRY") :]
    assert entry.count(" parameter(") == 2


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "bfloat16"])
def test_half_precision_ends_at_the_optimiser(rng, policy):
    x, c, y = unroll_worker.batch()
    keras.utils.set_random_seed(0)
    expected = UnrolledSGD(Waves(), 3, None, 0.3)(x, c)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        keras.utils.set_random_seed(0)
        energy = Waves()
        layer = UnrolledSGD(energy, 3, None, 0.3)
        got = layer(x, c)
        assert energy.dense.compute_dtype == "float32"
        assert got.dtype == tf.float32
        if policy != "bfloat16":  # which rounds the weights
            np.testing.assert_array_equal(got, expected)
        if policy == "mixed_float16":
            model = unroll_worker.network()
            model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
            weights = model.get_weights()
            model.train_on_batch([x, c], y)
            for old, new in zip(weights, model.get_weights(), strict=True):
                assert np.isfinite(new).all()
                assert np.any(old != new)
    finally:
        keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("optimizer", [UnrolledSGD, UnrolledAdam])
def test_examples_that_are_not_finite_touch_no_other(rng, optimizer):
    """Iterates, energies and the gradient of the shared weights are as if they were finite."""
    layer = optimizer(
        Length(dtype="float64"), 2, learned=["learning_rate"], return_energies=True, dtype="float64"
    )
    clean = rng.normal(size=(2, 4, 3))
    layer(*clean)

    @tf.function(autograph=False)
    def step(x, c, good):
        with tf.GradientTape() as tape:
            iterates, energies = layer(x, c, training=True)
            kept = tf.where(good[:, None, None], iterates, 0.0)
            loss = tf.reduce_sum(kept**2) + tf.reduce_sum(tf.where(good[:, None], energies, 0.0))
        weights = [weight.value for weight in layer.trainable_weights]
        return iterates, energies, tape.gradient(loss, weights)

    @few
    @hypothesis.given(st.lists(st.sampled_from(sorted(SPOILT)), min_size=4, max_size=4))
    def check(states):
        hypothesis.assume("finite" in states)
        good = np.array([state == "finite" for state in states])
        x, c = clean.copy()
        for i, state in enumerate(states):
            x[i], c[i] = SPOILT[state](x[i], c[i])
        expected, expected_energies, expected_gradients = step(*clean, good)
        iterates, energies, gradients = step(x, c, good)
        np.testing.assert_allclose(iterates.numpy()[good], expected.numpy()[good], rtol=1e-12)
        np.testing.assert_allclose(
            energies.numpy()[good], expected_energies.numpy()[good], rtol=1e-12
        )
        for got, gradient in zip(gradients, expected_gradients, strict=True):
            np.testing.assert_allclose(got, gradient, rtol=1e-9, atol=1e-12)
        stays = np.broadcast_to(x[:, None], (4, 3, 3))
        np.testing.assert_array_equal(iterates.numpy()[~good], stays[~good])
        assert not np.isfinite(energies.numpy()[np.isin(states, ["state", "condition"])]).any()
        assert np.all(energies.numpy()[np.array(states) == "minimum"] == 0)

    check()


def test_an_example_of_infinite_energy_stays_although_its_gradient_is_finite():
    layer = UnrolledSGD(lambda state, offset: (state**2 + offset)[:, 0], 1, None, 0.25)
    iterates = layer(tf.ones((2, 1)), tf.constant([[0.0], [np.inf]]))
    np.testing.assert_array_equal(iterates[:, :, 0], [[1, 0.5], [1, 1]])


@pytest.mark.parametrize("training", [False, True])
def test_what_stops_being_finite_on_the_way_stays_there(training):
    """Its momentum does not carry it on: 2 - 3/4 * 2 = 1/2, where the energy is NaN."""
    layer = UnrolledSGD(
        lambda state, _: tf.where(state > 1, state**2 / 2, np.nan)[:, 0], 3, None, 0.75, 0.5
    )
    iterates = layer(tf.constant([[2.0], [0.5]]), training=training)
    np.testing.assert_array_equal(iterates[:, :, 0], [[2, 0.5, 0.5, 0.5], [0.5] * 4])


def test_derivatives_can_be_asked_for_twice(rng):
    """With an example that is not finite too."""
    layer = UnrolledSGD(Length(dtype="float64"), 2, dtype="float64")
    x, c = rng.normal(size=(2, 4, 3))
    x[1] = np.nan
    with tf.GradientTape(persistent=True) as tape:
        squares = tf.reduce_sum(layer(x, c, training=True)[0] ** 2)
    once, again = (tape.gradient(squares, layer.trainable_weights[0].value) for _ in range(2))
    assert np.abs(once).max() > 0
    np.testing.assert_array_equal(once, again)


def test_without_isolation_one_example_spoils_shared_weights():
    """But not the iterates of others."""
    x = tf.constant([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    layer = UnrolledSGD(Length(), 2, isolate=False)
    with tf.GradientTape() as tape:
        iterates = layer(x, tf.zeros((2, 3)), training=True)
        loss = tf.reduce_sum(iterates[0])
    assert np.isfinite(iterates).all()
    assert np.isnan(tape.gradient(loss, layer.trainable_weights[0].value)).all()


@pytest.mark.parametrize("optimizer", [UnrolledSGD, UnrolledAdam])
def test_what_is_not_active_stays(rng, optimizer):
    layer = optimizer(Waves(), 2)
    x, c = rng.normal(size=(2, 4, 3)).astype(np.float32)
    free = np.asarray(layer(x, c, training=True))
    examples = np.array([True, False, True, False])
    got = np.asarray(layer(x, c, active=examples, training=True))
    np.testing.assert_allclose(got[examples], free[examples], rtol=1e-6)
    np.testing.assert_array_equal(got[~examples][:, -1], x[~examples])
    elements = rng.random((4, 3)) < 0.5
    got = np.asarray(layer(x, c, active=elements, training=True))
    np.testing.assert_array_equal(got[:, -1][~elements], x[~elements])
    np.testing.assert_allclose(got[:, 1][elements], free[:, 1][elements], rtol=1e-6)


def test_activity_for_each_tensor_of_the_state():
    layer = UnrolledSGD(
        lambda state, _: bowl(state["a"], 0.0) + bowl(state["b"], 0.0), 1, None, 0.5
    )
    state = {"a": tf.ones((2, 1)), "b": tf.ones((2, 2))}
    active = {"a": tf.constant([True, False]), "b": tf.constant([[False, True], [True, True]])}
    got = layer(state, active=active)
    np.testing.assert_array_equal(got["a"][:, -1], [[0], [1]])
    np.testing.assert_array_equal(got["b"][:, -1], [[1, 0], [0, 0]])


def test_the_derivative_passes_what_does_not_move_untouched():
    """d last / d start is 1 for it, and 0 by the weights."""
    layer = UnrolledAdam(Bowl(), 3)
    x = tf.constant([[3.0]])
    with tf.GradientTape() as tape:
        tape.watch(x)
        last = layer(x, tf.zeros((1, 1)), active=tf.constant([False]), training=True)[:, -1]
    start, weight = tape.gradient(last, [x, layer.trainable_weights[0].value])
    assert start.numpy() == 1
    assert weight.numpy() == 0


@pytest.mark.parametrize("optimizer", [UnrolledSGD, UnrolledAdam])
@pytest.mark.parametrize("energy", [Bowl, Waves, lambda: bowl])
def test_it_is_saved_with_the_network(tmp_path, rng, optimizer, energy):
    settings = {"learning_rate": [0.1, 0.2], "learned": ["learning_rate"], "return_energies": True}
    layer = optimizer(energy(), 2, 3, isolate=False, **settings)
    inputs = {name: keras.Input((1,), name=name) for name in "ac"}
    model = keras.Model(inputs, layer(inputs["a"], inputs["c"]))
    for weight in layer.weights:
        weight.assign(weight + 0.5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    again = loaded.get_layer(layer.name)
    assert again.get_config() == layer.get_config()
    values = {name: rng.normal(size=(4, 1)).astype(np.float32) for name in "ac"}
    for training in (False, True):
        got, expected = (m(values, training=training) for m in (loaded, model))
        for ours, theirs in zip(got, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_function_that_could_not_be_loaded_is_not_saved(tmp_path):
    def energy(state, conditions):
        return bowl(state, conditions)

    x = keras.Input((1,))
    model = keras.Model(x, UnrolledSGD(energy, 1)(x, x))
    message = (
        "UnrolledSGD.energy: got the function energy, which could not be loaded again, expected a "
        "registered one; decorate it with keras.saving.register_keras_serializable"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        model.save(tmp_path / "model.keras")


@keras.saving.register_keras_serializable(package="tests")
def chosen(state, conditions):
    """A bowl around the row of a table that the condition chooses."""
    center = tf.gather(tf.constant([[0.0], [4.0]]), conditions["row"])
    return bowl(state["x"], center)


def test_dicts_and_integers_are_saved_with_the_network(tmp_path):
    x, row = keras.Input((1,)), keras.Input((), dtype="int32")
    iterates = UnrolledSGD(chosen, 1, None, 0.25)({"x": x}, {"row": row})
    keras.Model([x, row], iterates).save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    got = loaded([tf.constant([[2.0], [2.0]]), tf.constant([0, 1])])
    np.testing.assert_allclose(got["x"][:, :, 0], [[2, 1], [2, 3]])


def test_gin_sets_the_steps_of_a_loaded_network_too(tmp_path):
    gin.bind_parameter("UnrolledSGD.num_steps", 2)
    gin.bind_parameter("UnrolledSGD.learning_rate", 0.25)
    gin.bind_parameter("UnrolledSGD.momentum", 0.5)
    x, c = keras.Input((1,)), keras.Input((1,))
    layer = gin.get_configurable("ige.UnrolledSGD")(Bowl())
    model = keras.Model([x, c], layer(x, c)[:, -1])
    model.save(tmp_path / "model.keras")
    values = [tf.constant([[3.0]]), tf.constant([[1.0]])]
    assert model(values).numpy() == PATH[2]
    gin.bind_parameter("UnrolledSGD.test_steps", 3)
    gin.bind_parameter("UnrolledSGD.learning_rate", 0.1)  # belongs to the network
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded(values).numpy() == PATH[3]
    assert loaded(values, training=True).numpy() == PATH[2]


def test_an_optimiser_of_ones_own_is_a_few_lines():
    """The sign of the gradient as the step: from 3 by 1/2 to the minimum at 2."""

    class Sign(UnrolledOptimizer):
        def __init__(self, energy, num_steps, test_steps=None, **kwargs):
            super().__init__(energy, num_steps, test_steps, {}, **kwargs)

        def update(self, gradient, slots, step):
            return -0.5 * tf.sign(gradient), slots

    got = Sign(bowl, 3)(tf.constant([[3.0]]), tf.constant([[2.0]]))
    np.testing.assert_array_equal(got[0, :, 0], [3, 2.5, 2, 2])
    config = Sign(bowl, 3).get_config()
    assert Sign.from_config(config).get_config() == config


def test_two_devices_learn_what_one_does(tmp_path):
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)]),
        "CUDA_VISIBLE_DEVICES": "",
    }
    path = tmp_path / "weights.npz"
    command = [sys.executable, str(HERE / "unroll_worker.py"), str(path)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        expected, before = unroll_worker.train()
        assert process.wait(120) == 0, process.stderr.read()
    with np.load(path) as got:
        assert got["replicas"] == 2
        for i, (ours, old) in enumerate(zip(expected, before, strict=True)):
            np.testing.assert_allclose(got[f"arr_{i}"], ours, rtol=1e-4, atol=1e-6)
            assert np.any(ours != old)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_steps": 0}, "num_steps: got 0, expected a whole number from 1 on"),
        ({"num_steps": 2.0}, "num_steps: got 2.0, expected a whole number from 1 on"),
        ({"test_steps": -1}, "test_steps: got -1, expected a whole number from 1 on"),
        ({"learning_rate": 0.0}, "learning_rate: got 0.0, expected a number above 0"),
        ({"learning_rate": True}, "learning_rate: got True, expected a number above 0"),
        ({"momentum": np.inf}, "momentum: got inf, expected a finite number"),
        (
            {"learning_rate": [1.0, 2.0]},
            "learning_rate: got 2 numbers, expected one, or one for each of the 4 steps",
        ),
        (
            {"learned": ["momentum"]},
            "learned: momentum is None, expected a number to start from; set UnrolledSGD.momentum",
        ),
        (
            {"learned": "momentum"},
            "learned: got 'momentum', expected a list of names: ['momentum']",
        ),
        (
            {"per_step": ["learning_rat"]},
            "per_step: no hyperparameter 'learning_rat'; did you mean learning_rate?",
        ),
        (
            {"energy": 3},
            "energy: got 3, expected a function or layer (state, conditions) -> (batch,)",
        ),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(UserError, match=f"^{re.escape(f'UnrolledSGD.{message}')}$"):
        UnrolledSGD(**({"energy": bowl} | settings))
    with pytest.raises(UserError, match=r"^UnrolledAdam\.beta_1: got 1, expected a number between"):
        UnrolledAdam(bowl, beta_1=1)


X = tf.ones((2, 3))
STATES = (
    "expected a tensor of floating-point numbers (batch, ...), or a list or dict of such tensors"
)


@pytest.mark.parametrize(
    ("energy", "arguments", "message"),
    [
        (bowl, ([],), f": got the state [], {STATES}"),
        (bowl, ([X, None],), f": got the state [float32 (2, 3), NoneType], {STATES}"),
        (bowl, (tf.ones((2, 3), tf.int32),), f": got the state [int32 (2, 3)], {STATES}"),
        (bowl, (tf.constant(1.0),), f": got the state [float32 ()], {STATES}"),
        (
            bowl,
            (X, tf.ones((5, 3))),
            ": got a condition of shape (5, 3), expected (2, ...) as the state has, or a scalar; "
            "make what all examples share a part of the energy",
        ),
        (
            bowl,
            ([X, X], X, tf.ones((2, 4), tf.bool)),
            ".active: got [bool (2, 4)], expected (batch,) or one for each of the state's tensors, "
            "(batch,) or of the same shape: [float32 (2, 3), float32 (2, 3)]",
        ),
        (
            lambda x, c: x - c,
            (X, X),
            ".energy: got shape (2, 3), expected energies of shape (batch,), one for each example; "
            "sum over the other axes",
        ),
        (
            lambda x, c: None,
            (X,),
            ".energy: got NoneType, expected energies of shape (batch,), one for each example; sum "
            "over the other axes",
        ),
        (
            lambda x, c: tf.reduce_sum(c, axis=-1),
            (X, X),
            ".energy: got energies that do not depend on the state, expected a gradient; compute "
            "them from the first argument, with operations of TensorFlow or Keras",
        ),
    ],
)
def test_calls_that_make_no_sense(energy, arguments, message):
    with pytest.raises(UserError, match=f"^{re.escape(f'UnrolledSGD{message}')}$"):
        UnrolledSGD(energy)(*arguments)
