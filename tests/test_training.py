import hashlib
import json
import math
import os
import re
import shutil
import signal
from contextlib import nullcontext

import keras
import numpy as np
import pytest
import tensorflow as tf
import toy

from ige import training
from ige.checkpoints import Checkpoints, Position
from ige.errors import UserError
from ige.files import lock


def train(
    folder,
    problem=None,
    epochs=2,
    optimizer=None,
    jit_compile=False,
    inference_fn=toy.line,
    **kwargs,
):
    record = toy.Record()
    model = training.train(
        folder,
        "a = 1\nb = 2",
        lambda problem: record,
        problem=problem or toy.LineProblem(),
        inference_fn=inference_fn,
        optimizer=optimizer or keras.optimizers.Adam(0.05),
        epochs=epochs,
        batch_size=8,
        jit_compile=jit_compile,
        **kwargs,
    )
    return model, record.calls


def state(folder, epoch, step=0):
    return Checkpoints(folder).verify(Position(epoch, step))


def weights(model):
    return [np.asarray(variable) for variable in model.variables]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Four epochs in one go."""
    folder = tmp_path_factory.mktemp("whole")
    model, calls = train(folder, epochs=4, log_every=3)
    assert calls == ["write"]
    return folder, model


@pytest.fixture(scope="module")
def two_epochs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    train(folder, epochs=2)
    return folder


@pytest.fixture
def run(two_epochs, tmp_path):
    """A copy of a run of two epochs."""
    return shutil.copytree(two_epochs, tmp_path / "run")


def test_training_learns(trained):
    folder, _ = trained
    history = state(folder, 4).history
    assert len(history) == 4
    assert history[-1]["loss"] < 0.7 * history[0]["loss"]


def test_a_run_in_two_parts_ends_with_the_same_weights(trained, tmp_path, capsys):
    _, whole = trained
    train(tmp_path, epochs=1)
    model, calls = train(tmp_path, epochs=4)
    assert calls == ["check"]
    assert f"continuing {tmp_path} after epoch 1" in capsys.readouterr().out
    for got, expected in zip(weights(model), weights(whole), strict=True):
        np.testing.assert_array_equal(got, expected)
    assert int(model.optimizer.iterations) == 4 * 8
    assert state(tmp_path, 4) == state(trained[0], 4)


def test_an_epoch_has_as_many_steps_as_asked_for(tmp_path, capsys):
    """More than go through the examples once, and a run goes on all the same."""
    steps = 11
    whole, _ = train(tmp_path / "whole", epochs=3, steps_per_epoch=steps)
    assert f"64 examples: {steps} steps of 8 per epoch" in capsys.readouterr().out
    assert int(whole.optimizer.iterations) == 3 * steps
    train(tmp_path / "parts", epochs=1, steps_per_epoch=steps)
    model, _ = train(tmp_path / "parts", epochs=3, steps_per_epoch=steps)
    for got, expected in zip(weights(model), weights(whole), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_an_epoch_has_a_step_at_least(tmp_path):
    with pytest.raises(UserError, match=r"^train.steps_per_epoch: got 0, expected at least 1\n"):
        train(tmp_path, steps_per_epoch=0)


def test_the_time_of_a_training_goes_on(run):
    """It is in every checkpoint; what a run took before it was stopped counts too."""
    assert state(run, 2).seconds > state(run, 1).seconds > 0
    path = run / "checkpoints" / "epoch-0002"
    content = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps(content | {"seconds": 1000.0}))
    sums = "".join(
        f"{hashlib.sha256((path / name).read_bytes()).hexdigest()}  {name}\n"
        for name in ("model.keras", "state.json")
    )
    (path / "SHA256SUMS").write_text(sums)
    train(run, epochs=3)
    assert 1000 < state(run, 3).seconds < 2000


class StopAt(keras.callbacks.Callback):
    """Sends this process a signal after a step, counted from the start of the run."""

    def __init__(self, step, number):
        super().__init__()
        self._left = step
        self._number = number

    def on_train_batch_begin(self, batch, logs=None):
        self._first = batch

    def on_train_batch_end(self, batch, logs=None):
        self._left -= batch + 1 - self._first
        if self._left <= 0:
            os.kill(os.getpid(), self._number)
            self._left = np.inf


@pytest.mark.parametrize(
    ("number", "step", "position"),
    [
        (signal.SIGTERM, 3, Position(0, 3)),
        (signal.SIGINT, 14, Position(1, 6)),
        (signal.SIGTERM, 16, Position(2)),
    ],
)
def test_stopped_by_a_signal_it_saves_and_goes_on_as_if_never_stopped(
    trained, tmp_path, capfd, number, step, position
):
    folder, whole = trained
    expectation = pytest.raises(KeyboardInterrupt) if number == signal.SIGINT else nullcontext()
    with expectation:
        train(tmp_path, epochs=4, log_every=1, callbacks=[StopAt(step, number)])
    captured = capfd.readouterr()
    assert captured.err == (
        "\nstopping: finishing the step, then saving (Ctrl-C: at once, without saving)\n"
    )
    assert re.search(
        rf"^stopped, saved after {position} at [\d,]+ examples/s in {tmp_path}; the same command "
        "goes on$",
        captured.out,
        re.MULTILINE,
    )
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.positions()[-1] == position
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL

    model, _ = train(tmp_path, epochs=4, log_every=3)
    assert f"continuing {tmp_path} after {position}" in capfd.readouterr().out
    for got, expected in zip(weights(model), weights(whole), strict=True):
        np.testing.assert_array_equal(got, expected)
    assert state(tmp_path, 4) == state(folder, 4)
    assert checkpoints.positions() == Checkpoints(folder).positions()


def test_a_second_interrupt_does_not_wait(tmp_path):
    class Twice(StopAt):
        def on_train_batch_end(self, batch, logs=None):
            for _ in range(2):
                super().on_train_batch_end(batch, logs)
                self._left = 0

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, log_every=1, callbacks=[Twice(1, signal.SIGINT)])
    assert Checkpoints(tmp_path).positions() == []


@pytest.mark.parametrize("jit_compile", [True, False])
def test_how_the_steps_are_cut_into_calls_does_not_change_a_bit(tmp_path, jit_compile):
    calls = {
        log_every: train(
            tmp_path / str(log_every), epochs=2, log_every=log_every, jit_compile=jit_compile
        )[0]
        for log_every in (1, 3)
    }
    for got, expected in zip(weights(calls[1]), weights(calls[3]), strict=True):
        np.testing.assert_array_equal(got, expected)


def scalars(folder):
    """Returns tag -> [(step, value), ...] of all event files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return {
        tag: [(e.step, float(tf.make_ndarray(e.tensor_proto))) for e in events.Tensors(tag)]
        for tag in events.Tags()["tensors"]
        if tag != "config"
    }


def test_tensorboard_of_a_killed_run_is_that_of_one_never_killed(trained, tmp_path):
    """The last epoch ran, was logged, and its checkpoint is lost: as after a kill."""
    train(tmp_path, epochs=3, log_every=3)
    shutil.rmtree(tmp_path / "checkpoints" / "epoch-0003")
    log = next(tmp_path.glob("events*"))
    log.write_bytes(log.read_bytes() + b"half an event")
    train(tmp_path, epochs=4, log_every=3)
    assert len(list(tmp_path.glob("events*"))) == 2
    together = {}
    for path in sorted(tmp_path.glob("events*")):
        for tag, values in scalars(path).items():
            together.setdefault(tag, []).extend(values)
    assert together == scalars(trained[0])
    assert [step for step, _ in together["step/loss"]] == [3, 6, 9, 12, 15, 18, 21, 24, 27, 30]


def test_another_seed_gives_other_weights(trained, tmp_path):
    model, _ = train(tmp_path, epochs=4, seed=1)
    assert not np.array_equal(weights(model)[1], weights(trained[1])[1])


def test_a_finished_run_is_not_trained_again(trained, capsys):
    folder, _ = trained
    before = sorted(folder.rglob("*"))
    model, _ = train(folder, epochs=3)
    assert model is None
    assert f"{folder} has 4 epochs already" in capsys.readouterr().out
    assert sorted(folder.rglob("*")) == before


def test_learning_rate_follows_the_schedule(tmp_path):
    model, _ = train(tmp_path, epochs=3, lr_schedule=lambda epoch: 0.5**epoch)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.05 / 4)


def test_best_is_judged_by_the_validation_loss_when_there_is_one(tmp_path):
    train(tmp_path, toy.LineProblem(validation=True), epochs=2)
    history = state(tmp_path, 2).history
    assert all({"val_loss", "val_mae"} <= figures.keys() for figures in history)


def test_tensorboard_has_scalars_config_and_learning_rate(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trained[0])).Reload()
    tags = set(events.Tags()["tensors"])
    expected = {"epoch/loss", "epoch/mae", "epoch/learning_rate", "step/loss", "config"}
    assert expected <= tags
    assert [event.step for event in events.Tensors("epoch/loss")] == [8, 16, 24, 32]
    text = events.Tensors("config")[0].tensor_proto.string_val[0].decode()
    assert text == "    a = 1\n    b = 2"


def test_figures_that_are_not_finite_stop_the_run_before_it_is_saved(tmp_path):
    """The one bad example of the first epoch comes in its sixth step, in the midst of a call."""
    feed = toy.LineProblem().get_training_feed(8, 8, 0, 0, 8)
    row = int(next(iter(feed.chunks))[5, 0])
    problem = toy.LineProblem(poisoned=(("train", row),))
    message = (
        "epoch 1, step 6 of 8: not finite: loss, mae; the last checkpoint is kept; lower the "
        "learning rate, clip the gradients (clipnorm of the optimizer) or look at the data\n"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        train(tmp_path, problem)
    assert Checkpoints(tmp_path).epochs() == []


def test_one_figure_that_is_not_finite_stops_the_run(tmp_path):
    """That of an example of the sixth step, in the midst of a call; the loss is finite."""
    feed = toy.LineProblem().get_training_feed(8, 8, 0, 0, 8)
    label = toy.LineProblem().arrays("train")[1][int(next(iter(feed.chunks))[5, 0])]

    class Odd(toy.LineProblem):
        def get_metrics(self, model):
            def odd(true, _):
                return tf.where(true == label, math.nan, 0.0)

            return [keras.metrics.MeanMetricWrapper(odd, "odd")]

    with pytest.raises(UserError, match=r"^epoch 1, step 6 of 8: not finite: odd; "):
        train(tmp_path, Odd())


def test_figures_of_held_out_examples_that_are_not_finite_stop_the_run(tmp_path):
    problem = toy.LineProblem(validation=True, poisoned=(("validation", 3),))
    with pytest.raises(UserError, match=r"^epoch 1: val_loss is nan; the last checkpoint is kept"):
        train(tmp_path, problem)
    assert Checkpoints(tmp_path).epochs() == []


def test_figures_of_held_out_examples_are_of_one_epoch(tmp_path):
    """Twice the same examples and, without a learning rate, the same weights."""
    still = keras.optimizers.SGD(0.0)
    problem = toy.LineProblem(validation=True)
    network = {"inference_fn": lambda inputs, spec: keras.layers.Dense(1)(inputs["x"])}
    model, _ = train(tmp_path, problem, epochs=2, optimizer=still, **network)
    first, second = state(tmp_path, 2).history
    inputs, labels = problem.arrays("validation")
    error = np.abs(np.asarray(model(inputs)) - labels).mean()
    assert first["val_mae"] == pytest.approx(error, rel=1e-5)
    assert second["val_mae"] == first["val_mae"]


def test_a_figure_to_judge_by_that_is_not_reported_is_refused(tmp_path):
    problem = toy.LineProblem()
    problem.judged_by = "accuracy"
    message = (
        "judged_by: got 'accuracy', expected a figure that training reports, one of loss, mae; "
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        train(tmp_path, problem)


def test_averages_that_only_an_end_would_use_are_refused(tmp_path):
    message = "optimizer: got use_ema without ema_overwrite_frequency, expected a number of steps"
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        train(tmp_path, optimizer=keras.optimizers.Adam(use_ema=True))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"seed": -1}, "train.seed: got -1, expected 0 to 4294967295"),
        ({"epochs": 0}, "train.epochs: got 0, expected at least 1"),
        ({"checkpoint_every": 0}, "train.checkpoint_every: got 0, expected at least 1"),
        ({"log_every": -1}, "train.log_every: got -1, expected at least 1"),
        ({"checkpoints_to_keep": 0}, "train.checkpoints_to_keep: got 0, expected at least 1"),
    ],
)
def test_numbers_that_make_no_sense(tmp_path, kwargs, message):
    with pytest.raises(UserError, match=re.escape(message)):
        train(tmp_path, **kwargs)


def test_batch_larger_than_the_data(tmp_path):
    with pytest.raises(UserError, match=r"^train.batch_size: got 65, expected at most 64 examples"):
        training.train(
            tmp_path,
            "",
            lambda problem: toy.Record(),
            problem=toy.LineProblem(),
            inference_fn=toy.line,
            optimizer=keras.optimizers.SGD(),
            batch_size=65,
        )


def test_a_run_that_cannot_start_leaves_nothing(tmp_path):
    def broken(inputs, output_spec):
        raise UserError("no such network")

    record = toy.Record()
    with pytest.raises(UserError, match="no such network"):
        training.train(
            tmp_path,
            "",
            lambda problem: record,
            problem=toy.LineProblem(),
            inference_fn=broken,
            optimizer=keras.optimizers.SGD(),
            batch_size=8,
        )
    assert record.calls == []
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_not_finite_stop_the_run(tmp_path):
    """The figures of a step are those before its update: they do not show it."""

    class Exploding(keras.Model):
        def train_step(self, data):
            figures = super().train_step(data)
            bias = self.trainable_variables[-1]
            bias.assign(bias / tf.cast(self.optimizer.iterations < 20, tf.float32))
            return figures

    def model_fn(problem, inference_fn):
        model = problem.build_model(inference_fn)
        return Exploding(model.inputs, model.outputs)

    message = r"^epoch 3, step 4 of 8: not finite: dense\w*/bias; the last checkpoint is kept"
    with pytest.raises(UserError, match=message):
        train(tmp_path, epochs=4, model_fn=model_fn, log_every=1)
    assert Checkpoints(tmp_path).positions() == [Position(1), Position(2)]


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda folder: flip(folder / "model.keras"), "model.keras is not what was written"),
        (lambda folder: truncate(folder / "model.keras"), "model.keras is not what was written"),
        (lambda folder: flip(folder / "state.json"), "state.json is not what was written"),
        (lambda folder: (folder / "state.json").unlink(), "state.json is missing"),
        (lambda folder: (folder / "SHA256SUMS").unlink(), "SHA256SUMS is missing"),
        (lambda folder: truncate(folder / "SHA256SUMS"), "state.json is not what was written"),
        (lambda folder: (folder / "SHA256SUMS").write_bytes(b"\xff"), "SHA256SUMS cannot be read"),
    ],
)
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_used(
    trained, tmp_path, capsys, damage, what
):
    folder, whole = trained
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    newest = tmp_path / "checkpoints" / "epoch-0004"
    damage(newest)
    model, _ = train(tmp_path, epochs=4, log_every=3)
    printed = capsys.readouterr().out
    assert f"{newest} is damaged: {what}; renamed to damaged-epoch-0004\n" in printed
    assert f"continuing {tmp_path} after epoch 3" in printed
    for got, expected in zip(weights(model), weights(whole), strict=True):
        np.testing.assert_array_equal(got, expected)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_with_no_usable_checkpoint_there_is_no_fresh_start(run):
    names = ["epoch-0001", "epoch-0002"]
    for name in names:
        flip(run / "checkpoints" / name / "model.keras")
    message = (
        f"no checkpoint is usable: {run}/checkpoints/epoch-0002 is damaged: model.keras is "
        f"not what was written; {run}/checkpoints/epoch-0001 is damaged: model.keras is not "
        'what was written; put a copy back, or start over with --gin_param="train.overwrite=True"'
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}\n"):
        train(run, epochs=3)
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == names


def test_overwrite_starts_over_and_says_what_it_removes(run, capsys):
    (run / "config.json").write_text("{}")
    (run / "notes.txt").write_text("mine")
    (run / "evaluation-mine.json").write_text("{}")
    (run / "vis-mine").mkdir()
    log = next(run.glob("events*"))
    capsys.readouterr()
    _, calls = train(run, epochs=1, overwrite=True)
    assert capsys.readouterr().out.startswith(
        f"removing checkpoints, config.json, evaluation-mine.json, vis-mine, {log.name} of "
        f"{run}, trained for 2 epochs\n"
    )
    assert calls == ["write"]
    assert Checkpoints(run).epochs() == [1]
    assert (run / "notes.txt").read_text() == "mine"
    assert not log.exists()


def test_a_start_without_the_checkpoints_of_before_is_said(run, capsys):
    (run / "config.json").write_text("{}")
    shutil.rmtree(run / "checkpoints")
    train(run, epochs=1)
    said = f"{run} has no checkpoint yet: starting with the first step\n"
    assert said in capsys.readouterr().out


def test_a_mistake_with_overwrite_removes_nothing(run):
    before = sorted(run.rglob("*"))

    def broken(inputs, output_spec):
        raise UserError("no such network")

    with pytest.raises(UserError, match="no such network"):
        train(run, inference_fn=broken, overwrite=True)
    assert sorted(run.rglob("*")) == before


def test_another_config_is_refused_before_anything_is_renamed(run, monkeypatch):
    flip(run / "checkpoints" / "epoch-0002" / "model.keras")

    def check(self):
        raise UserError("another config")

    monkeypatch.setattr(toy.Record, "check", check)
    with pytest.raises(UserError, match="another config"):
        train(run, epochs=3)
    assert Checkpoints(run).epochs() == [1, 2]


def test_a_folder_that_another_process_trains_is_refused(tmp_path):
    def held(holder):
        raise AssertionError

    with lock(tmp_path / ".lock", held):
        message = (
            rf"^{re.escape(str(tmp_path))} is being trained by process {os.getpid()} on .+; wait "
            "for it, stop it, or choose another default_model_dir.model_id\n"
        )
        with pytest.raises(UserError, match=message):
            train(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_stale_lock_is_not_in_the_way(tmp_path):
    (tmp_path / ".lock").write_text("process 1 on elsewhere")
    train(tmp_path, epochs=1)
    assert not (tmp_path / ".lock").exists()


def test_a_disk_that_is_full_leaves_the_checkpoint_before(run, monkeypatch):
    original = keras.Model.save

    def save(self, path):
        original(self, path)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keras.Model, "save", save)
    message = (
        f"{run}/checkpoints/epoch-0003 cannot be saved: No space left on device; the "
        "checkpoints before it are intact; mend that and run the same command again"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}\n"):
        train(run, epochs=3)
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == [
        "epoch-0001",
        "epoch-0002",
    ]
    assert state(run, 2).epoch == 2


def test_two_schedules_of_the_learning_rate_are_refused(tmp_path):
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    message = "train.lr_schedule: the optimizer's learning rate is a schedule too; set one of them"
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        train(tmp_path, optimizer=keras.optimizers.Adam(schedule), lr_schedule=lambda epoch: 1.0)


def test_mixed_precision_is_the_layers_and_ends_with_the_run(tmp_path):
    model, _ = train(tmp_path, epochs=1, dtype_policy="mixed_bfloat16")
    assert [layer.compute_dtype for layer in model.layers[1:]] == 4 * ["bfloat16"] + ["float32"]
    assert model.output.dtype == "float32"
    assert {variable.dtype for variable in model.trainable_variables} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"


def test_a_callback_can_stop_the_run(tmp_path):
    class Enough(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            assert {"loss", "mae"} == logs.keys()
            self.model.stop_training = epoch == 1

        def on_train_end(self, logs=None):
            self.ended = True

    enough = Enough()
    train(tmp_path, epochs=4, callbacks=[enough])
    assert Checkpoints(tmp_path).epochs() == [1, 2]
    assert enough.ended


def test_a_callback_can_stop_the_run_inside_an_epoch(tmp_path):
    class Enough(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 2

    train(tmp_path, log_every=1, callbacks=[Enough()])
    assert Checkpoints(tmp_path).positions() == [Position(0, 3)]


def test_a_stop_asked_for_before_the_first_step_trains_nothing(tmp_path, capfd):
    def impatient(inputs, output_spec):
        os.kill(os.getpid(), signal.SIGTERM)
        return toy.line(inputs, output_spec)

    train(tmp_path, inference_fn=impatient)
    assert "stopped before the first step; nothing to save\n" in capfd.readouterr().out
    assert Checkpoints(tmp_path).positions() == []


def test_a_stop_is_heeded_when_nobody_reads_what_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("ige.interruption._STDERR", 10**6)
    train(tmp_path, log_every=1, callbacks=[StopAt(3, signal.SIGTERM)])
    assert Checkpoints(tmp_path).positions() == [Position(0, 3)]


def test_model_fn_replaces_the_model(tmp_path):
    class Doubling(keras.Model):
        def train_step(self, data):
            figures = super().train_step(data)
            return figures | {"twice": 2.0 * figures["loss"]}

    def model_fn(problem, inference_fn):
        model = problem.build_model(inference_fn)
        return Doubling(model.inputs, model.outputs)

    train(tmp_path, epochs=1, model_fn=model_fn)
    figures = state(tmp_path, 1).history[0]
    assert figures["twice"] == pytest.approx(2 * figures["loss"])


@pytest.mark.parametrize(
    ("options", "kept"),
    [({"checkpoint_every": 2}, [2, 3]), ({"checkpoints_to_keep": 1}, [3])],
)
def test_which_checkpoints_there_are(tmp_path, options, kept):
    train(tmp_path, epochs=3, **options)
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.epochs() == sorted({*kept, checkpoints.best()})


@pytest.mark.parametrize("jit_compile", [True, False])
def test_how_the_step_is_compiled(tmp_path, jit_compile):
    model, _ = train(tmp_path, epochs=1, jit_compile=jit_compile)
    assert model.jit_compile == jit_compile
