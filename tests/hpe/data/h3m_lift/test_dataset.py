import inspect
import json
import pathlib
import re

import gin
import numpy as np
import pytest
import tensorflow_datasets as tfds

from ige.errors import UserError
from ige.hpe.data.h3m_lift import h3m_lift
from ige.hpe.data.h3m_lift.cameras import published_cameras

WRITTEN = ("baseline", "baseline-tree", "official", "official-without-metadata", "videopose3d")
KEYPOINTS = ("projection", "hourglass", "finetuned", "detections")
FOLDERS = {"hourglass": "StackedHourglass", "finetuned": "StackedHourglassFineTuned240"}
SPELT = {("S1", "WalkDog"): "WalkingDog", ("S1", "Photo 1"): "TakingPhoto 1"}
CORRUPT = ("S11", "Directions", "54138969")


def _write_keypoints(files, keypoints, manual):
    if keypoints == "detections":
        files.write_detections(manual / "data_2d_h36m_cpn_ft_h36m_dbb.npz", extra=2)
    elif keypoints != "projection":
        entries = files.hourglass_entries(FOLDERS[keypoints], extra=1)
        files.write_tree(manual / "detectors", entries)


@pytest.mark.parametrize("keypoints", KEYPOINTS)
@pytest.mark.parametrize("written", WRITTEN)
def test_every_layout_with_every_source_of_2d_poses(files, manual, make, written, keypoints):
    files.write_layout(written, manual)
    _write_keypoints(files, keypoints, manual)
    made = make(keypoints=keypoints)
    joints = 17 if keypoints == "detections" else 16
    for split, expected in files.SEQUENCES.items():
        sequences = made.sequences(split)
        assert files.listed(sequences) == expected
        for got in sequences:
            spelt = SPELT.get((got.subject, got.name), got.name)
            assert got.action == re.sub(r" \d+$", "", got.name)
            assert got.poses.dtype == np.float32
            np.testing.assert_allclose(
                got.poses, files.poses_of(got.subject, spelt), rtol=0, atol=1e-3
            )
            assert list(got.cameras) == list(files.CAMERAS)
            for camera_id, published in published_cameras(got.subject).items():
                for ours, theirs in zip(got.cameras[camera_id], published, strict=True):
                    assert ours.dtype == np.float64
                    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)
            present = [c for c in files.CAMERAS if (got.subject, got.name, c) != CORRUPT]
            assert list(got.keypoints) == ([] if keypoints == "projection" else present)
            for camera_id, pixels in got.keypoints.items():
                assert pixels.dtype == np.float32
                np.testing.assert_array_equal(
                    pixels, files.keypoints_of(got.subject, spelt, camera_id, joints)
                )
    if keypoints == "projection":
        assert made.keypoint_skeleton is None
    else:
        assert made.keypoint_skeleton.name == ("h36m_17" if joints == 17 else "mpii_16")
    provenance = made.provenance
    assert json.loads(json.dumps(provenance)) == provenance
    assert provenance["layout"] == written.partition("-")[0]
    assert provenance["frames"] == {"train": 16, "test": 17}


def test_provenance(files, manual, make):
    files.write_layout("baseline", manual)
    files.write_detections(manual / "data_2d_h36m_gt.npz")
    assert make(keypoints="detections").provenance == {
        "dataset": "h3m_lift",
        "version": "1.0.0",
        "config": "detections-gt",
        "layout": "baseline",
        "files": [
            {"name": name, "size": (manual / name).stat().st_size}
            for name in ("h36m.zip", "data_2d_h36m_gt.npz")
        ],
        "recordings": {"S1": 2, "S5": 1, "S6": 1, "S7": 1, "S8": 1, "S9": 3, "S11": 2},
        "frames": {"train": 16, "test": 17},
        "keypoints": {
            "source": "gt",
            "skeleton": "h36m_17",
            "views": 43,
            "views_without": 1,
            "views_without_poses": 0,
            "excluded": ["S11 Directions 54138969: its video is corrupt"],
        },
        "skipped": [],
    }


def test_a_file_that_is_read_twice_is_named_once(files, manual, make):
    """Poses and 2D poses come from one archive."""
    entries = files.baseline_entries() | files.hourglass_entries("StackedHourglass")
    files.write_zip(manual / "h36m.zip", entries)
    size = (manual / "h36m.zip").stat().st_size
    assert make(keypoints="hourglass").provenance["files"] == [{"name": "h36m.zip", "size": size}]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_metres_of_any_type_become_millimetres_without_loss(files, manual, make, dtype):
    """The nearest float32 to 1000 times what is in the file; float16 would make 333.75 of it."""
    metres = np.full((2, 32, 3), 0.33373, dtype)
    positions = {subject: {"Waiting": metres} for subject in files.RECORDINGS}
    files.write_npz(manual / "data_3d_h36m.npz", positions_3d=positions)
    (first, *_) = make().sequences("train")
    assert first.poses.dtype == np.float32
    np.testing.assert_array_equal(first.poses, np.float32(1000 * float(metres[0, 0, 0])))


def test_what_is_said_while_building(files, manual, make, capsys):
    files.write_official(manual, also=["_ALL"])
    entries = files.hourglass_entries(
        "StackedHourglass", views=lambda subject, name, camera: subject == "S9"
    )
    extra = {"S9/StackedHourglass/Greeting.54138969.h5": b"of no recording"}
    files.write_tree(manual / "detectors", entries | extra)
    made = make(keypoints="hourglass")
    made.prepare()
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        "h3m_lift: built hourglass from official files: 11 recordings (S1 2, S5 1, S6 1, S7 1, "
        "S8 1, S9 3, S11 2), 33 frames; 2D poses of 12 views, none for 32, unused for want of "
        "poses 1; skipped recordings, which --command=prepare lists\n"
    )
    assert made.provenance["skipped"] == [
        f"{subject} _ALL: belongs to no action, no protocol uses it"
        for subject in ("S1", "S11", "S5", "S6", "S7", "S8", "S9")
    ]
    assert [len(s.keypoints) for s in made.sequences("test")] == [4, 4, 4, 0, 0]
    assert not any(s.keypoints for s in made.sequences("train"))
    make(keypoints="hourglass").prepare()
    assert capsys.readouterr().err == ""


def test_nothing_found(manual, make):
    message = (
        f"h3m_lift: no Human3.6M poses in {manual}; put one of these there:\n"
        "  h36m.zip of 3d-pose-baseline (poses, cameras and stacked-hourglass detections)\n"
        "  Poses_D3_Positions_S1.tgz, _S5, _S6, _S7, _S8, _S9 and _S11.tgz, and metadata.xml if "
        "you have it, from http://vision.imar.ro/human3.6m (registration required)\n"
        "  data_3d_h36m.npz as made by VideoPose3D's preparation script\n"
        "or run on generated data, which needs no files: --gin_param=\"data='synthetic'\""
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        make().prepare()
    message = (
        f"h3m_lift: no Human3.6M poses in {manual}; put these files there:\n"
        "  data_3d_h36m.npz as made by VideoPose3D's preparation script\n"
        "or run on generated data, which needs no files: --gin_param=\"data='synthetic'\""
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        make(data="videopose3d").prepare()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"keypoints": "hourglas"},
            "h3m_lift.keypoints: got 'hourglas', expected one of projection, hourglass, finetuned, "
            "detections; did you mean hourglass?",
        ),
        (
            {"data": "syntetic"},
            "h3m_lift.data: got 'syntetic', expected one of auto, baseline, official, videopose3d, "
            "synthetic; did you mean synthetic?",
        ),
        (
            {"detections": "gt"},
            "h3m_lift.detections: got 'gt' with keypoints = 'projection', expected keypoints = "
            "'detections'; set that, or leave detections out",
        ),
    ],
)
def test_choices(make, arguments, message):
    # gin appends the call it was in; the command line takes that off again.
    with pytest.raises(UserError, match=f"^{re.escape(message)}(\n  In call to|$)"):
        make(**arguments)


def test_an_unknown_split(make):
    message = "h3m_lift: split: got 'tset', expected one of train, test; did you mean test?"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        make().sequences("tset")


def test_a_split_without_recordings(files, manual, make):
    files.write_official(manual)
    for subject in ("S9", "S11"):
        (manual / f"Poses_D3_Positions_{subject}.tgz").unlink()
    message = "no recordings of the test subjects S9, S11, got S1, S5, S6, S7, S8; get the missing"
    with pytest.raises(UserError, match=re.escape(message)):
        make().prepare()


def test_detections_of_other_recordings(files, manual, make):
    files.write_layout("baseline", manual)
    views = [np.zeros((3, 17, 2))] * 4
    files.write_npz(
        manual / "data_2d_h36m_x.npz",
        positions_2d={"S9": {"Eating": views}},
        metadata=files.H36M_METADATA,
    )
    message = (
        "h3m_lift: data_2d_h36m_x.npz: no 2D poses of any of the 11 recordings in h36m.zip; get "
        "the detections that belong to the poses"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        make(keypoints="detections").prepare()


def test_making_one_reads_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(pathlib.Path, "iterdir", None)
    monkeypatch.setattr(pathlib.Path, "glob", None)
    h3m_lift(data_dir=str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("variable", ["TFDS_DATA_DIR", "HOME"])
def test_default_folders(files, tmp_path, monkeypatch, variable):
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    root = tmp_path / "tensorflow_datasets" if variable == "HOME" else tmp_path
    files.write_layout("videopose3d", root / "downloads" / "manual" / "h3m_lift")
    h3m_lift().prepare()
    assert (root / "h3m_lift" / "projection" / "1.0.0" / "dataset_info.json").is_file()


def test_plain_tfds_builds_the_same(files, manual, make, tmp_path):
    files.write_layout("baseline", manual)
    files.write_tree(manual / "detectors", files.hourglass_entries("StackedHourglass"))
    plain = tfds.builder("h3m_lift/hourglass", data_dir=str(tmp_path / "plain"))
    config = tfds.download.DownloadConfig(manual_dir=manual)
    plain.download_and_prepare(download_config=config)
    assert plain.info.splits["train"].num_examples == 6
    assert plain.info.splits["test"].num_examples == 5
    there = make(keypoints="hourglass", data_dir=str(tmp_path / "plain"))
    here = make(keypoints="hourglass")
    assert there.provenance == here.provenance
    for ours, theirs in zip(here.sequences("test"), there.sequences("test"), strict=True):
        np.testing.assert_array_equal(ours.poses, theirs.poses)


def test_it_is_a_gin_configurable():
    with gin.unlock_config():
        gin.bind_parameter("h3m_lift.keypoints", "hourglass")
    try:
        assert h3m_lift().keypoint_skeleton.name == "mpii_16"
    finally:
        gin.clear_config()
    assert {"keypoints", "data", "detections", "data_dir", "manual_dir"} < set(
        inspect.signature(h3m_lift).parameters
    )


def test_generated_data(tmp_path, capsys):
    arguments = {
        "data": "synthetic",
        "data_dir": str(tmp_path),
        "synthetic_seed": 3,
        "synthetic_sequences": 1,
        "synthetic_frames": 2,
    }
    made = h3m_lift(**arguments)
    train, test = made.sequences("train"), made.sequences("test")
    assert {s.subject for s in train} == {"S1", "S5", "S6", "S7", "S8"}
    assert {s.subject for s in test} == {"S9", "S11"}
    assert {s.poses.shape for s in train + test} == {(2, 32, 3)}
    archive = tmp_path / "downloads" / "generated" / "h3m_lift" / "synthetic-seed3-1x2" / "h36m.zip"
    assert made.provenance["config"] == "synthetic-seed3-1x2-projection"
    assert made.provenance["files"] == [{"name": "h36m.zip", "size": archive.stat().st_size}]
    hourglass = h3m_lift(keypoints="hourglass", **arguments)
    assert any(s.keypoints for s in hourglass.sequences("train"))
    detected = h3m_lift(keypoints="detections", **arguments)
    assert detected.provenance["config"] == "synthetic-seed3-1x2-detections-synthetic"
    assert any(s.keypoints for s in detected.sequences("test"))
    capsys.readouterr()
    archive.unlink()
    h3m_lift(**arguments).prepare()
    assert capsys.readouterr().err == ""
