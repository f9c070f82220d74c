import json
import re

import keras
import numpy as np
import pytest

from ige import transfer
from ige.checkpoints import Checkpoints, Position
from ige.errors import UserError
from ige.runs import default_model_dir

RECORDED = {
    "train.inference_fn": "@toy.network",
    "train.batch_size": "32",
    "toy.network.depth": "1",
    "toy.network.dropout_rate": "0.5",
    "toy.problem.held_out": "()",
    "toy.problem.note": "old",
}


def network(*more):
    """A network with moving statistics."""
    inputs = keras.Input((3,), name="inputs")
    dense = keras.layers.Dense(2, name="dense")(inputs)
    outputs = keras.layers.BatchNormalization(name="norm")(dense)
    for layer in more:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs)


@pytest.fixture(scope="module")
def run():
    """The run 'statistics' of two epochs; returns the weights of its network after the last."""
    rng = np.random.default_rng(0)
    model = network(keras.layers.Dense(4, name="metric_scale"))
    model.compile(keras.optimizers.SGD(), "mse")
    folder = default_model_dir("toy/statistics")
    checkpoints = Checkpoints(folder)
    for epoch in (1, 2):
        model.set_weights([rng.uniform(1, 2, weight.shape) for weight in model.get_weights()])
        checkpoints.save(model, Position(epoch), [{"loss": 1.0}] * epoch)
    record = {"config": "toy/statistics", "parameters": RECORDED}
    folder.joinpath("config.json").write_text(json.dumps(record))
    return {weight.path: weight.numpy() for weight in model.weights}


@pytest.fixture(autouse=True)
def config(monkeypatch):
    """The parameters of the experiment that starts from it."""
    here = RECORDED | {"train.inference_fn": "@toy.better", "toy.network.dropout_rate": "0.0"}
    here |= {"train.batch_size": "64", "toy.better.depth": "7"}
    monkeypatch.setattr(transfer.parameters, "resolved", lambda roots: here)
    return here


def test_all_weights_of_the_last_epoch_the_moving_statistics_too(run):
    model = network()
    transfer.initialise(model, "toy", "statistics", "init_model_id")
    assert {weight.path for weight in model.non_trainable_weights} < run.keys()
    for weight in model.weights:
        np.testing.assert_array_equal(weight, run[weight.path])


@pytest.mark.usefixtures("run")
def test_what_goes_on_keeps_its_weights():
    model = network()
    before = model.get_weights()
    with transfer.skipped():
        transfer.initialise(model, "toy", "no such run", "init_model_id")
    with transfer.skipped(False):
        transfer.initialise(model, "toy", "statistics", "init_model_id")
    assert all(np.any(old != new) for old, new in zip(before, model.get_weights(), strict=True))


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize(
    ("parameter", "value", "old"),
    [("toy.network.depth", "2", "1"), ("toy.problem.held_out", "('S8',)", "()")],
)
def test_weights_that_mean_something_else_are_refused(config, parameter, value, old):
    config |= {"toy.problem.note": "new", parameter: value}
    message = (
        f"init_model_id: {default_model_dir('toy/statistics')} was trained with {parameter} = {old}"
        f", here it is {value}; name a run that was trained with the same"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        transfer.initialise(
            network(), "toy", "statistics", "init_model_id", ("toy.problem.held_out",)
        )


@pytest.mark.usefixtures("run")
def test_other_parameters_may_differ(config):
    config |= {"toy.problem.note": "new", "toy.problem.held_out": "('S8',)"}
    transfer.initialise(network(), "toy", "statistics", "init_model_id")
