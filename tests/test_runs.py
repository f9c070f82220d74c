import json
import pathlib
import re

import pytest
import toy

from ige import parameters, runs
from ige.errors import UserError
from ige.runs import FREE


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "~/ige_models/hpe/b128-1"),
        ({"base_dir": "/models"}, "/models/hpe/b128-1"),
        ({"base_dir": "/models", "subdir": "mine"}, "/models/mine/b128-1"),
        ({"base_dir": "/models", "model_id": "again"}, "/models/hpe/again"),
        ({"base_dir": "/models", "subdir": "", "model_id": "x"}, "/models/x"),
    ],
)
def test_folder_of_a_run(options, expected):
    assert runs.default_model_dir("hpe/b128-1", **options) == pathlib.Path(expected).expanduser()


def test_folder_of_a_config_without_a_folder():
    assert runs.default_model_dir("mine", base_dir="/models") == pathlib.Path("/models/mine")


@pytest.fixture
def record(tmp_path, monkeypatch):
    """A record of a run with two settings; `settings` is what gin would say now."""
    settings = {
        "train.batch_size": 64,
        "toy.data.source": "auto",
        "train.epochs": 5,
        "toy.problem.note": 1,
    }
    monkeypatch.setattr(
        parameters,
        "resolved",
        lambda roots: {key: parameters.Parameter(value, True) for key, value in settings.items()},
    )
    record = runs.RunRecord(tmp_path, toy.LineProblem(), "hpe/b128-1")
    record.write()
    return record, settings


def test_record_has_the_whole_config_but_what_may_change(record):
    assert record[0].read()["config"] == "hpe/b128-1"
    assert record[0].read()["parameters"] == {
        "train.batch_size": "64",
        "toy.data.source": "'auto'",
        "data.dataset": "line",
        "data.version": "1.0.0",
    }


@pytest.mark.parametrize("free", ["train.epochs", "toy.problem.note"])
def test_free_parameters_may_change(record, free):
    record, settings = record
    settings[free] = 77
    assert record.check() == {}


def test_another_config_is_refused_with_old_and_new(record, tmp_path):
    record, settings = record
    settings["train.batch_size"] = 32
    settings["train.seed"] = 1
    message = (
        f"{tmp_path} was trained with another config (train.batch_size: 64 -> 32; "
        "train.seed: (none) -> 1); restore these values, choose another "
        'default_model_dir.model_id, or start over with --gin_param="train.overwrite=True"'
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        record.check()


def test_how_it_was_trained_does_not_matter_to_an_evaluation(record):
    record, settings = record
    settings["train.batch_size"] = 32
    assert record.check(for_evaluation=True) == {}
    settings["train.inference_fn"] = "@another"
    with pytest.raises(UserError, match=r"train\.inference_fn: .* -> '@another'"):
        record.check(for_evaluation=True)


def test_replaceable_parameters_are_reported(record):
    record, settings = record
    settings["toy.data.source"] = "synthetic"
    expected = {"toy.data.source": ("'auto'", "'synthetic'")}
    assert record.check(for_evaluation=True) == expected
    with pytest.raises(UserError, match=r"toy\.data\.source: 'auto' -> 'synthetic'"):
        record.check()


def test_folder_without_a_record(record, tmp_path):
    (tmp_path / "config.json").unlink()
    message = f"{tmp_path} has checkpoints but no config.json; remove the folder, or choose another"
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        record[0].check()


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", '{"config": "a", "parameters": 3}'])
def test_damaged_record(record, tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    message = (
        f"{tmp_path}/config.json is damaged; put a copy back, or start over with "
        '--gin_param="train.overwrite=True"'
    )
    for check in (record[0].check, record[0].read):
        with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
            check()


def test_what_may_differ_when_training_goes_on():
    how = {"epochs", "checkpoint_every", "checkpoints_to_keep", "log_every", "overwrite"}
    assert {f"train.{name}" for name in how} == FREE


def test_record_is_json_that_people_can_read(record, tmp_path):
    text = (tmp_path / "config.json").read_text()
    assert json.loads(text)["parameters"]["train.batch_size"] == "64"
    assert text.count("\n") > 3


def test_other_data_is_refused_when_training_goes_on(record, monkeypatch):
    record, _ = record
    monkeypatch.setattr(toy.Builder, "provenance", {"dataset": "line", "version": "1.1.0"})
    assert record.check(for_evaluation=True) == {"data.version": ("1.0.0", "1.1.0")}
    with pytest.raises(UserError, match=r"another config \(data\.version: 1\.0\.0 -> 1\.1\.0\);"):
        record.check()
