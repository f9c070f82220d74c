"""The benchmarks at a size that takes no time; what they print at full size is in the docs."""

import re
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import evaluate, processes
from benchmarks.prepare import write_archive
from ige.geometry.cameras import world_to_camera
from ige.hpe.data.h3m_lift import h3m_lift
from ige.hpe.skeleton import get_skeleton


def test_the_archive_holds_moving_people_in_front_of_the_cameras(tmp_path):
    write_archive(tmp_path / "data_3d_h36m.npz", recordings=10, frames=50)
    made = h3m_lift(manual_dir=str(tmp_path), data_dir=str(tmp_path / "tfds"))
    sequences = made.sequences("train") + made.sequences("test")
    assert made.provenance["recordings"] == dict.fromkeys(
        ("S1", "S5", "S6", "S7", "S8", "S9", "S11"), 10
    )
    skeleton = get_skeleton("h36m_32")
    child, parent = np.transpose(skeleton.bones)
    for sequence in sequences:
        assert sequence.poses.shape == (50, 32, 3)
        assert np.ptp(sequence.poses, axis=0).max() > 10  # mm
        lengths = np.linalg.norm(sequence.poses[:, child] - sequence.poses[:, parent], axis=-1)
        assert np.ptp(lengths, axis=0).max() < 0.1
        for camera in sequence.cameras.values():
            assert world_to_camera(sequence.poses, camera).numpy()[..., 2].min() > 1000
    assert len({sequence.poses.tobytes() for sequence in sequences}) == 70


def test_a_process_is_measured(capfd):
    big = bytearray(400_000_000)  # held by this process, not by the measured one
    big[::4096] = bytes(1 + (len(big) - 1) // 4096)
    measured = processes.run_ige("--command=list")
    assert "hpe/b128-1" in capfd.readouterr().out
    assert measured.whole.cpu_seconds > 0
    assert measured.whole.seconds > 0
    assert 0.005 < measured.gigabytes < 0.3
    assert measured.first_step is None


def test_a_process_that_fails_is_not_measured():
    with pytest.raises(subprocess.CalledProcessError):
        processes.run_ige("--command=lst")


def test_evaluation_is_measured(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["evaluate", "--poses=100"])
    evaluate.main()
    printed = capsys.readouterr().out
    assert re.search(
        r"^100 poses in \d+\.\d s \(at most 20\); \d{4}-\d\d-\d\d, \d+ cores", printed, re.MULTILINE
    )
    assert "P-MPJPE" in printed
