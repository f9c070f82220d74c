import re

import keras
import numpy as np
import pytest
import toy

from ige import training
from ige.checkpoints import Checkpoints
from ige.errors import UserError


class Record:
    """Stands for the record of a run's config."""

    def __init__(self):
        self.calls = []

    def check(self):
        self.calls.append("check")

    def write(self):
        self.calls.append("write")


def train(folder, problem=None, epochs=2, **kwargs):
    record = Record()
    model = training.train(
        folder,
        "a = 1\nb = 2",
        lambda problem: record,
        problem=problem or toy.LineProblem(),
        inference_fn=toy.line,
        optimizer=keras.optimizers.Adam(0.05),
        epochs=epochs,
        batch_size=8,
        **kwargs,
    )
    return model, record.calls


def weights(model):
    return [np.asarray(variable) for variable in model.variables]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Four epochs in one go."""
    folder = tmp_path_factory.mktemp("whole")
    model, calls = train(folder, epochs=4, log_every=3)
    assert calls == ["write"]
    return folder, model


@pytest.mark.parametrize(
    ("steps", "expected"), [(1, 1), (50, 50), (1000, 50), (1047, 36), (51, 50), (53, 26)]
)
def test_steps_per_execution_leaves_few_steps_over(steps, expected):
    got = training.steps_per_execution(steps)
    assert got == expected
    assert 0 <= steps % got <= steps // 50


def test_training_learns(trained):
    folder, _ = trained
    history = Checkpoints(folder).state(4).history
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
    assert Checkpoints(tmp_path).state(4) == Checkpoints(trained[0]).state(4)


def test_another_seed_gives_other_weights(trained, tmp_path):
    model, _ = train(tmp_path, epochs=4, seed=1)
    assert not np.array_equal(weights(model)[1], weights(trained[1])[1])


def test_a_finished_run_is_not_trained_again(trained, capsys):
    folder, whole = trained
    before = sorted(folder.rglob("*"))
    model, _ = train(folder, epochs=3)
    assert f"{folder} is already trained for 4 epochs" in capsys.readouterr().out
    assert sorted(folder.rglob("*")) == before
    x = np.ones((2, 1), np.float32)
    np.testing.assert_allclose(model({"x": x}), whole({"x": x}, training=False), rtol=1e-6)


def test_learning_rate_follows_the_schedule(tmp_path):
    model, _ = train(tmp_path, epochs=3, lr_schedule=lambda epoch: 0.5**epoch)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.05 / 4)


def test_best_is_judged_by_the_validation_loss_when_there_is_one(tmp_path):
    train(tmp_path, toy.LineProblem(validation=True), epochs=2)
    history = Checkpoints(tmp_path).state(2).history
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
    message = "epoch 1: loss is nan; the last checkpoint is kept; lower the learning rate"
    with pytest.raises(UserError, match=re.escape(message)):
        train(tmp_path, toy.LineProblem(poison=True))
    assert Checkpoints(tmp_path).epochs() == []


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
            lambda problem: Record(),
            problem=toy.LineProblem(),
            inference_fn=toy.line,
            optimizer=keras.optimizers.SGD(),
            batch_size=65,
        )


def test_a_run_that_cannot_start_leaves_nothing(tmp_path):
    def broken(inputs, output_spec):
        raise UserError("no such network")

    record = Record()
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


def test_model_fn_replaces_the_model(tmp_path):
    class Doubling(keras.Model):
        def train_step(self, data):
            figures = super().train_step(data)
            return figures | {"twice": 2.0 * figures["loss"]}

    def model_fn(problem, inference_fn):
        model = problem.build_model(inference_fn)
        return Doubling(model.inputs, model.outputs)

    train(tmp_path, epochs=1, model_fn=model_fn)
    figures = Checkpoints(tmp_path).state(1).history[0]
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
    assert model.steps_per_execution == 8
