import keras
import numpy as np
import pytest

from ige import transfer
from ige.checkpoints import Checkpoints, Position
from ige.runs import default_model_dir


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
    checkpoints = Checkpoints(default_model_dir("toy/statistics"))
    for epoch in (1, 2):
        model.set_weights([rng.uniform(1, 2, weight.shape) for weight in model.get_weights()])
        checkpoints.save(model, Position(epoch), [{"loss": 1.0}] * epoch)
    return {weight.path: weight.numpy() for weight in model.weights}


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
