import hashlib
import re

import keras
import numpy as np
import pytest

from ige.checkpoints import Checkpoints, Position
from ige.errors import UserError

NAMES = ("model.keras", "state.json")


@pytest.fixture(scope="module")
def model():
    """Is saved by every test, and changed by none."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dropout(0.5), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.Adam(), loss="mse")
    model.train_on_batch(np.ones((4, 2)), np.ones((4, 1)))
    return model


def _save(checkpoints, model, losses):
    for epoch in range(1, len(losses) + 1):
        history = [{"loss": loss} for loss in losses[:epoch]]
        checkpoints.save(model, Position(epoch), history)


def test_last_ones_and_best_are_kept(model, tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    _save(checkpoints, model, [3.0, 1.0, 2.0, 1.5, 1.25])
    assert checkpoints.epochs() == [2, 4, 5]
    assert checkpoints.best() == 2


def test_earliest_of_equals_is_best(model, tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=3)
    _save(checkpoints, model, [1.0, 1.0])
    assert checkpoints.best() == 1


def test_no_checkpoint_yet(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert (checkpoints.positions(), checkpoints.epochs()) == ([], [])
    assert (checkpoints.best(), checkpoints.newest()) == (None, None)


def test_restore_brings_back_weights_optimizer_and_random_state(model, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    _save(checkpoints, model, [1.0])
    fresh = keras.models.clone_model(model)
    fresh.compile(optimizer=keras.optimizers.Adam(), loss="mse")
    fresh.optimizer.build(fresh.trainable_variables)
    state = checkpoints.newest()
    checkpoints.restore(fresh, state)
    assert (state.epoch, state.step, state.history) == (1, 0, [{"loss": 1.0}])
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
    with pytest.raises(UserError, match="cannot be saved: No space left on device; the"):
        checkpoints.save(model, Position(2), [{"loss": 1.0}, {"loss": 0.5}])
    assert [path.name for path in checkpoints.folder.iterdir()] == ["epoch-0001"]
    assert checkpoints.verify(Position(1)).epoch == 1


def test_loaded_model_predicts_the_same(model, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    _save(checkpoints, model, [1.0])
    x = np.ones((3, 2), np.float32)
    np.testing.assert_array_equal(checkpoints.load_model(1)(x), model(x))


def test_best_is_judged_by_held_out_examples_when_there_are_any(model, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    history = [{"loss": 2.0, "val_loss": 1.0}, {"loss": 1.0, "val_loss": 2.0}]
    checkpoints.save(model, Position(1), history[:1])
    checkpoints.save(model, Position(2), history)
    assert checkpoints.best() == 1


def test_best_is_judged_by_the_figure_that_was_asked_for(model, tmp_path):
    history = [{"loss": 2.0, "error": 1.0}, {"loss": 1.0, "error": 2.0}]
    checkpoints = Checkpoints(tmp_path)
    checkpoints.judged_by = "error"
    for epoch in (1, 2):
        checkpoints.save(model, Position(epoch), history[:epoch])
    assert Checkpoints(tmp_path).best() == 1


def test_a_damaged_checkpoint_is_not_loaded(model, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    _save(checkpoints, model, [1.0])
    path = checkpoints.path(Position(1))
    (path / "model.keras").write_bytes((path / "model.keras").read_bytes()[:500])
    message = (
        f"{path} is damaged: model.keras is not what was written; --command=train goes on from the "
        "checkpoint before it, evaluate.checkpoint (vis., predict.) chooses another one"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        checkpoints.load_model(1)


def test_a_state_of_another_version_is_not_read(model, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    _save(checkpoints, model, [1.0])
    path = checkpoints.path(Position(1))
    (path / "state.json").write_text('{"epoch": 1, "mood": "good"}')
    digests = {name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in NAMES}
    (path / "SHA256SUMS").write_text("".join(f"{digests[n]}  {n}\n" for n in NAMES))
    message = f"{path} cannot be used: state.json is not of this version of ige"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        checkpoints.verify(Position(1))


def test_code_inside_a_checkpoint_is_not_run(tmp_path):
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Lambda(lambda x: x + 1)(keras.layers.Dense(1)(inputs)))
    model.compile(optimizer="sgd", loss="mse")
    checkpoints = Checkpoints(tmp_path)
    _save(checkpoints, model, [1.0])
    message = f"{checkpoints.path(Position(1))} cannot be loaded: Requested the deserialization of"
    with pytest.raises(UserError, match=f"^{re.escape(message)}.*$"):
        checkpoints.load_model(1)


def test_a_checkpoint_of_another_network_is_not_loaded(model, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    _save(checkpoints, model, [1.0])
    other = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    other.compile(optimizer="sgd", loss="mse")
    with pytest.raises(UserError, match=f"^{re.escape(str(tmp_path))}.+ cannot be loaded: "):
        checkpoints.restore(other, checkpoints.newest())


def test_a_checkpoint_inside_an_epoch_stays_until_a_later_one(model, tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1)
    _save(checkpoints, model, [1.0])
    checkpoints.save(model, Position(1, 7), [{"loss": 1.0}])
    assert checkpoints.positions() == [Position(1), Position(1, 7)]
    assert checkpoints.path(Position(1, 7)).name == "epoch-0001-step-000007"
    assert checkpoints.epochs() == [1]
    assert checkpoints.newest().position == Position(1, 7)
    assert len(checkpoints.newest().metric_states) == 2  # sum and count of the loss
    checkpoints.save(model, Position(2), [{"loss": 1.0}, {"loss": 0.5}])
    assert checkpoints.positions() == [Position(2)]


def test_what_a_killed_save_left_is_no_checkpoint_and_goes_with_the_next(model, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    left = checkpoints.folder / "saving-epoch-0001"
    left.mkdir(parents=True)
    (left / "model.keras").write_bytes(b"half")
    assert checkpoints.positions() == []
    _save(checkpoints, model, [1.0])
    assert [path.name for path in checkpoints.folder.iterdir()] == ["epoch-0001"]


def test_everything_is_on_the_disk_before_the_checkpoint_has_its_name(model, tmp_path, monkeypatch):
    flushed = []

    def flush(path):
        flushed.append((path.name, (path.parent / "epoch-0001").exists()))

    monkeypatch.setattr("ige.checkpoints.flush", flush)
    _save(Checkpoints(tmp_path), model, [1.0])
    assert flushed[0] == (tmp_path.name, False)
    assert set(flushed[1:4]) == {
        (name, False) for name in ("model.keras", "state.json", "SHA256SUMS")
    }
    assert flushed[4:] == [("saving-epoch-0001", False), ("checkpoints", False)]
    assert (tmp_path / "checkpoints" / "epoch-0001").is_dir()


def test_names_have_room_for_long_runs(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    positions = [Position(9999), Position(10000), Position(10000, 1234567)]
    for position in positions:
        checkpoints.path(position).mkdir(parents=True)
    assert checkpoints.positions() == positions


def test_checksums_are_those_of_sha256sum(model, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    _save(checkpoints, model, [1.0])
    path = checkpoints.path(Position(1))
    lines = (path / "SHA256SUMS").read_text().splitlines()
    digests = {name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in NAMES}
    assert lines == [f"{digests[name]}  {name}" for name in NAMES]


def test_a_worker_that_does_not_write_writes_nothing(model, tmp_path):
    _save(Checkpoints(tmp_path, writes=False), model, [1.0])
    assert list(tmp_path.iterdir()) == []
