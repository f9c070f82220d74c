"""Adversarial training: of networks that are known by hand, and of a small problem."""

import functools
import math
import os
import re
import signal
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
import toy

from ige import training
from ige.adversarial import AdversarialModel, adversarial_model
from ige.checkpoints import Checkpoints, Position
from ige.errors import UserError
from ige.problem import Report, TfdsProblem, precision

LOG3 = math.log(3)


def linear(size, weights, bias, name):
    """A model x (batch, size) -> (batch, columns of the weights): weights and bias."""
    weights = np.array(weights, np.float32).reshape(size, -1)
    inputs = keras.Input((size,), name=name)
    dense = keras.layers.Dense(weights.shape[1])
    model = keras.Model({name: inputs} if name == "latent" else inputs, dense(inputs))
    dense.set_weights([weights, np.full(weights.shape[1], bias, np.float32)])
    return model


def known(critic, optimizer=None, **options):
    """A model whose generator gives its latents back; with a critic that stays unless told."""
    size = critic.input_shape[-1]
    model = AdversarialModel(linear(size, np.eye(size), 0, "latent"), critic, **options)
    model.compile(optimizer or keras.optimizers.SGD(0.0))
    return model


def step(model, real, latents):
    """Returns the losses (critic's, generator's) of a training step, as they are then."""
    real, latents = (np.array(values, np.float32) for values in (real, latents))
    losses = model.train_step(({"latent": latents}, real))
    return [float(losses[name]) for name in ("critic_loss", "generator_loss")]


# Logits ln 3, 0 of real examples and 0, -ln 3 of generated ones; softplus of ln 3, 0 and -ln 3 is
# ln 4, ln 2 and ln 4/3.
CROSS_ENTROPY = (math.log(4) - 0.875 * LOG3 + math.log(2)) / 2 + (math.log(2) + math.log(4 / 3)) / 2


@pytest.mark.parametrize(
    ("loss", "of_critic", "of_generator"),
    [
        ("wasserstein", -LOG3, LOG3 / 2),
        ("minimax", CROSS_ENTROPY, -(math.log(2) + math.log(4 / 3)) / 2),
        ("modified", CROSS_ENTROPY, (math.log(2) + math.log(4)) / 2),
        (
            "least_squares",
            ((LOG3 - 1) ** 2 + 1) / 4 + (0 + LOG3**2) / 4,
            (1 + (LOG3 + 1) ** 2) / 4,
        ),
    ],
)
def test_losses_by_hand(loss, of_critic, of_generator):
    model = known(linear(1, [1], 0, "x"), loss=loss)
    losses = step(model, [[LOG3], [0]], [[0], [-LOG3]])
    np.testing.assert_allclose(losses, [of_critic, of_generator], rtol=1e-6)


def test_losses_of_held_out_examples_are_the_same_function():
    model = known(linear(1, [1], 0, "x"))
    real, latents = np.array([[4.0], [2]], np.float32), np.array([[1.0], [0]], np.float32)
    figures = model.test_step(({"latent": latents}, real))
    assert {name: float(value) for name, value in figures.items()} == {
        "critic_loss": 0.5 - 3,
        "generator_loss": -0.5,
    }


def test_clipping_bounds_the_critic_and_nothing_else():
    """A gradient of -10 for the weight: the optimiser remembers 0.1 x 10^2, the clipped 0.01."""
    critic = linear(1, [0.5], -0.5, "x")
    model = known(critic, keras.optimizers.RMSprop(1e-4, rho=0.9), clip_value=0.01)
    step(model, [[12], [8]], [[1], [-1]])
    kernel, bias = critic.get_weights()
    np.testing.assert_allclose([kernel.item(), bias.item()], [0.01, -0.01])
    slots = [v.numpy() for v in model.critic_optimizer.variables if v.shape == (1, 1)]
    assert [slot.item() for slot in slots] == pytest.approx([10], rel=1e-5)
    assert model.generator.get_weights()[0].item() == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize(
    ("weights", "penalty"), [((3, 4), 16), ((0.6, 0.8), 0), ((0, 0), 1), ((0, 0.5), 0.25)]
)
def test_penalty_of_a_linear_critic_is_that_of_its_weights(weights, penalty):
    """Whatever the number of examples and their places."""
    options = {"gradient_penalty": 10.0}
    model = known(linear(2, weights, 0, "x"), keras.optimizers.SGD(1e-3), **options)
    real, latents = [[1, 0], [0, 0], [1, 2], [0, 2]], np.zeros((4, 2))
    loss, _ = step(model, real, latents)
    wasserstein = -np.mean(np.array(real) @ weights)
    assert loss == pytest.approx(wasserstein + 10 * penalty, rel=1e-5)
    # The norm of a gradient of 0 has no derivative.
    assert all(np.isfinite(w).all() for w in model.critic.get_weights())


def test_penalty_is_the_mean_over_examples():
    """Of x^2, whose slope is 2 x, where real and generated ones are in the same places."""
    x = keras.Input((1,), name="x")
    critic = keras.Model(x, keras.layers.Dense(1)(keras.layers.Multiply()([x, x])))
    critic.layers[-1].set_weights([np.ones((1, 1)), np.zeros(1)])
    loss, _ = step(known(critic, gradient_penalty=1.0), [[1], [2], [0.5]], [[1], [2], [0.5]])
    assert loss == pytest.approx(((2 - 1) ** 2 + (4 - 1) ** 2 + 0) / 3, rel=1e-5)


def test_penalty_is_taken_between_real_and_generated_examples():
    """Slopes 2 x of x in (2, 3): squares of 2 x - 1 from 9 to 25, and others in every step."""
    x = keras.Input((1,), name="x")
    critic = keras.Model(x, keras.layers.Dense(1)(keras.layers.Multiply()([x, x])))
    critic.layers[-1].set_weights([np.ones((1, 1)), np.zeros(1)])
    model = known(critic, gradient_penalty=1.0)
    found = []
    for _ in range(2):
        model.reset_metrics()
        found.append(step(model, [[3]], [[2]])[0] - (4 - 9))
    assert 9 < min(found) < max(found) < 25


@pytest.mark.parametrize("critic_steps", [1, 3])
def test_the_generator_is_updated_after_as_many_updates_of_the_critic(critic_steps):
    model = known(linear(1, [1], 0, "x"), keras.optimizers.SGD(0.1), critic_steps=critic_steps)
    changed, before = [], model.generator.get_weights()
    for _ in range(7):
        step(model, [[4], [2]], [[1], [2]])
        weights = model.generator.get_weights()
        changed.append(not np.array_equal(weights[0], before[0]))
        before = weights
    assert changed == [(n + 1) % critic_steps == 0 for n in range(7)]
    assert int(model.critic_optimizer.iterations) == 7
    assert int(model.optimizer.iterations) == 7 // critic_steps


def test_updates_by_hand():
    """The generator goes up the critic that was just updated."""
    model = known(linear(1, [1], 0, "x"), keras.optimizers.SGD(0.5))
    step(model, [[4], [2]], [[1], [2]])
    # d(1.5 w - 3 w) / dw = -1.5
    assert model.critic.get_weights()[0].item() == pytest.approx(1 + 0.5 * 1.5)
    kernel, bias = model.generator.get_weights()
    assert kernel.item() == pytest.approx(1 + 0.5 * 1.75 * 1.5)
    assert bias.item() == pytest.approx(0.5 * 1.75)


def test_the_critic_follows_the_learning_rate():
    model = known(linear(1, [1], 0, "x"), keras.optimizers.SGD(0.5))
    model.optimizer.learning_rate = 0.25
    step(model, [[1]], [[0]])
    assert model.critic.get_weights()[0].item() == pytest.approx(1.25)


def test_the_critic_follows_a_schedule_of_the_generator():
    """0.5, 0.25 after an update of the generator, which is every second step."""
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 1, 0.5, staircase=True)
    critic = linear(1, [1], 0, "x")
    model, found = known(critic, keras.optimizers.SGD(schedule), critic_steps=2), [1.0]
    for _ in range(3):
        step(model, [[1]], [[0]] if len(found) < 3 else [[1]])
        found.append(critic.get_weights()[0].item())
    rates = [float(model.optimizer.learning_rate), float(model.critic_optimizer.learning_rate)]
    assert rates == [0.25, 0.25]
    np.testing.assert_allclose(np.diff(found)[:2], [0.5, 0.5])


def test_latents_are_drawn_anew_from_a_normal_distribution():
    model = known(linear(2, [1, 1], 0, "x"))
    first, second = (model.generate(2000).numpy() for _ in range(2))
    assert not np.array_equal(first, second)
    # 4 standard errors of 8000 numbers.
    both = np.concatenate([first, second])
    assert both.mean() == pytest.approx(0, abs=0.045)
    assert both.std() == pytest.approx(1, abs=0.032)
    given = np.array([[1.0, 2]], np.float32)
    np.testing.assert_array_equal(model.generate(1, {"latent": given}), given)


class NormalProblem(TfdsProblem):
    """Numbers of N(3, 0.5) to be made of a latent."""

    input_spec = {"latent": keras.layers.InputSpec(shape=(2,), dtype="float32")}
    output_spec = keras.layers.InputSpec(shape=(1,), dtype="float32")
    loss = None
    judged_by = "generator_loss"

    def __init__(self):
        super().__init__(toy.Builder())

    def get_metrics(self, model):
        return []

    def load_arrays(self, split):
        return {}, np.random.default_rng(0).normal(3, 0.5, (256, 1)).astype(np.float32)

    def report(self, model, split, batch_size, run_folder):
        return Report("", {})


def make_generator(inputs, output_spec):
    return keras.layers.Dense(output_spec.shape[-1])(inputs["latent"])


def make_critic(shape):
    x = keras.Input(shape)
    hidden = keras.layers.Dense(16, "relu")(x)
    return keras.Model(x, keras.layers.Dense(1)(hidden))


def train(folder, epochs, optimizer=None, callbacks=(), steps=6, log_every=1000, **options):
    return training.train(
        folder,
        "",
        lambda problem: toy.Record(),
        problem=NormalProblem(),
        inference_fn=make_generator,
        model_fn=functools.partial(adversarial_model, critic_fn=make_critic, **options),
        optimizer=optimizer or keras.optimizers.RMSprop(1e-2),
        batch_size=64,
        steps_per_epoch=steps,
        epochs=epochs,
        jit_compile=False,
        callbacks=callbacks,
        log_every=log_every,
    )


@pytest.mark.parametrize(
    "options", [{"clip_value": 0.1}, {"loss": "modified"}, {"loss": "least_squares"}]
)
def test_training_learns_where_the_data_is(tmp_path, options):
    model = train(tmp_path, 1, keras.optimizers.RMSprop(2e-2), steps=400, **options)
    made = model.generate(2000).numpy()
    assert made.mean() == pytest.approx(3, abs=0.5)


# What draws, and what counts.
FULL = {"gradient_penalty": 1.0, "critic_steps": 2, "clip_value": 0.5}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Three epochs in one go."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, train(folder, 3, **FULL)


class StopAt(keras.callbacks.Callback):
    """Ends this process once, after a step."""

    def __init__(self, step):
        super().__init__()
        self._step = step

    def on_train_batch_end(self, batch, logs=None):
        if self._step is not None and batch + 1 >= self._step:
            self._step = None
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    ("step", "position"), [(None, "epoch 1"), (5, "epoch 0, step 5 of the next")]
)
def test_a_run_in_two_parts_is_that_in_one(trained, tmp_path, step, position, capfd):
    """Weights, both optimisers, and the seeds of the latents that are drawn next."""
    folder, whole = trained
    train(tmp_path, 1, callbacks=[StopAt(step)], log_every=1 if step else 1000, **FULL)
    model = train(tmp_path, 3, **FULL)
    assert f"continuing {tmp_path} after {position}\n" in capfd.readouterr().out
    for of, expected in (
        (model, whole),
        (model.optimizer, whole.optimizer),
        (model.critic_optimizer, whole.critic_optimizer),
    ):
        for got, other in zip(of.variables, expected.variables, strict=True):
            np.testing.assert_array_equal(got, other, err_msg=got.path)
    assert int(model.critic_optimizer.iterations) == 18
    states = [Checkpoints(path).verify(Position(3)) for path in (tmp_path, folder)]
    assert states[0] == states[1]


def test_a_saved_model_generates_the_same(trained):
    folder, whole = trained
    loaded = Checkpoints(folder).load_model(3)
    latents = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    np.testing.assert_array_equal(loaded({"latent": latents}), whole({"latent": latents}))
    of_loaded, expected = (m.generator({"latent": latents}) for m in (loaded, whole))
    np.testing.assert_array_equal(loaded.critic(of_loaded), whole.critic(expected))
    assert loaded.get_config().items() >= FULL.items()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        (
            "loss",
            "hinge",
            "loss: got 'hinge', expected one of wasserstein, minimax, modified, least_squares",
        ),
        ("clip_value", 0, "clip_value: got 0, expected a number above 0, or None"),
        ("clip_value", math.nan, "clip_value: got nan, expected a number above 0, or None"),
        ("gradient_penalty", -1.0, "gradient_penalty: got -1.0, expected at least 0"),
        ("gradient_penalty", math.nan, "gradient_penalty: got nan, expected at least 0"),
        ("critic_steps", 0, "critic_steps: got 0, expected at least 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(option, value, message):
    with pytest.raises(UserError, match=rf"^{re.escape('adversarial_model.' + message)}\n"):
        adversarial_model(NormalProblem(), make_generator, make_critic, **{option: value})


def test_losses_that_would_have_to_be_scaled_are_refused():
    """Keras divides gradients by a scale that it expects the loss to have been multiplied by."""
    message = (
        "train.dtype_policy: got 'mixed_float16', expected 'mixed_bfloat16' or None: nothing "
        "scales the losses of a generator and its critic"
    )
    with precision("mixed_float16"):
        model = adversarial_model(NormalProblem(), make_generator, make_critic)
        with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
            model.compile(keras.optimizers.RMSprop(1e-2))


def test_several_devices_are_refused(monkeypatch):
    strategy = types.SimpleNamespace(num_replicas_in_sync=2)
    monkeypatch.setattr(tf.distribute, "get_strategy", lambda: strategy)
    message = (
        "adversarial_model: got 2 devices, expected one: each would draw the latents of the others"
        "; leave strategy.distribution out"
    )
    with pytest.raises(UserError, match=rf"^{re.escape(message)}\n"):
        adversarial_model(NormalProblem(), make_generator, make_critic)
