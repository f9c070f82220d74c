"""The lifting baseline on recordings, as the README types it."""

import json
import shutil

import pytest

from ige.__main__ import main

pytestmark = pytest.mark.real_data


def test_prepare_train_evaluate(real_data, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TFDS_DATA_DIR")
    manual = tmp_path / "tensorflow_datasets/downloads/manual/h3m_lift"
    manual.mkdir(parents=True)
    shutil.copy(real_data / "h3m/h36m.zip", manual)
    for command in (
        ["--command=prepare"],
        ["--command=train", "--epochs=1"],
        ["--command=evaluate", "--gin_param=include_procrustes=True"],
    ):
        assert main(["--gin_file=hpe/b128-1", *command]) == 0, capsys.readouterr().err
    figures = json.loads((tmp_path / "ige_models/hpe/b128-1/evaluation.json").read_text())
    assert figures["poses"] == 4 * (figures["data"]["frames"]["test"])
    assert 20 < figures["p_mpjpe"] < figures["n_mpjpe"] < figures["mpjpe"] < 150
    assert figures["p_mpjpe"] < figures["sequence_p_mpjpe"]
    assert 50 < figures["auc"] + 20 < figures["pck150"] < 100
    assert len(figures["by_action"]) == 8
