import re

import keras
import numpy as np
import pytest

from ige.checkpoints import Checkpoints
from ige.errors import UserError


@pytest.fixture
def model():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dropout(0.5), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.Adam(), loss="mse")
    model.train_on_batch(np.ones((4, 2)), np.ones((4, 1)))
    return model


def _save(checkpoints, model, losses):
    for epoch in range(1, len(losses) + 1):
        history = [{"loss": loss} for loss in losses[:epoch]]
        checkpoints.save(model, epoch, history)


def test_last_ones_and_best_are_kept(model, tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    _save(checkpoints, model, [3.0, 1.0, 2.0, 1.5, 1.25])
    assert checkpoints.epochs() == [2, 4, 5]
    assert (checkpoints.best(), checkpoints.last()) == (2, 5)


def test_earliest_of_equals_is_best(model, tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=3)
    _save(checkpoints, model, [1.0, 1.0])
    assert checkpoints.best() == 1


def test_no_checkpoint_yet(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert (checkpoints.epochs(), checkpoints.best(), checkpoints.last()) == ([], None, None)


def test_restore_brings_back_weights_optimizer_and_random_state(model, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    _save(checkpoints, model, [1.0])
    fresh = keras.models.clone_model(model)
    fresh.compile(optimizer=keras.optimizers.Adam(), loss="mse")
    assert checkpoints.restore(fresh, 1).history == [{"loss": 1.0}]
    ours = [*model.variables, *model.optimizer.variables]
    theirs = [*fresh.variables, *fresh.optimizer.variables]
    assert len(ours) == 3 + 6
    for expected, got in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_failed_save_leaves_nothing_behind(model, tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    _save(checkpoints, model, [1.0])

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(model, "save", fail)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(model, 2, [{"loss": 1.0}, {"loss": 0.5}])
    assert [path.name for path in checkpoints.folder.iterdir()] == ["epoch-0001"]
    assert checkpoints.state(1).epoch == 1


def test_loaded_model_predicts_the_same(model, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    _save(checkpoints, model, [1.0])
    x = np.ones((3, 2), np.float32)
    np.testing.assert_array_equal(checkpoints.load_model(1)(x), model(x))


def test_best_is_judged_by_held_out_examples_when_there_are_any(model, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    history = [{"loss": 2.0, "val_loss": 1.0}, {"loss": 1.0, "val_loss": 2.0}]
    checkpoints.save(model, 1, history[:1])
    checkpoints.save(model, 2, history)
    assert checkpoints.best() == 1


def test_damaged_checkpoint_is_named(model, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    _save(checkpoints, model, [1.0])
    path = checkpoints.path(1) / "model.keras"
    path.write_bytes(path.read_bytes()[:500])
    for read in (checkpoints.load_model, lambda epoch: checkpoints.restore(model, epoch)):
        with pytest.raises(UserError, match=f"^{re.escape(str(checkpoints.path(1)))} cannot be"):
            read(1)
