import inspect
import json
import re

import gin
import numpy as np
import pytest
import tensorflow_datasets as tfds

from ige.errors import UserError
from ige.hpe.data.human_eva import human_eva
from ige.hpe.data.human_eva.cameras import published_cameras
from ige.hpe.data.human_eva.names import published_frames
from ige.hpe.data.human_eva.sync import common_timeline
from ige.hpe.data.human_eva.synthetic import offsets, recording
from ige.hpe.skeleton import convert, get_skeleton

MISSING = (
    "S1 Jog 1, S1 Jog 3, S1 ThrowCatch 1, S1 ThrowCatch 3, S2 Jog 1, S2 Jog 3, S2 ThrowCatch 1, "
    "S2 ThrowCatch 3, S3 Jog 1, S3 Jog 3, S3 ThrowCatch 3: no .mat files"
)
DAMAGED = "S3 ThrowCatch 1: its motion capture is damaged"
# Of S1, S2 and S3 in Walking, Gestures and Box: the published frames.
VALIDATION = (585 + 390 + 380) + (433 + 495 + 377) + (443 + 528 + 507)
TRAINING = (613 + 406 + 404) + (438 + 401 + 352) + (491 + 569 + 509)
THIRD = (3238 + 2127 + 1653) + (1523 + 3551 + 3108) + (2358 + 1789 + 1573)


def truth(spec, subject, action, trial, split, frames):
    """The body (frames, 32, 3) that was captured, at the moments of a split's frames."""
    joints, first, _ = recording(spec, subject, action, trial)
    if trial == 3:
        return joints
    meet = published_frames(subject, action, trial, "test").last
    start = meet - frames + 1 if split == "test" else meet + 1
    timeline = common_timeline(list(offsets(subject, action).values()))
    moments = timeline.start - 1 + (np.arange(start, start + frames) - 1) * timeline.scale - first
    before = np.floor(moments).astype(int)
    share = (moments - before)[:, np.newaxis, np.newaxis]
    return (1 - share) * joints[before] + share * joints[np.ceil(moments).astype(int)]


def test_the_distribution(files, distribution, make, capsys):
    """What was captured comes back, in the published partitions, to a millimetre."""
    made = make()
    got = {split: made.sequences(split) for split in ("train", "test")}
    assert [(s.subject, s.name, s.frame_rate, len(s.poses)) for s in got["test"]] == [
        (subject, f"{action} 1 chunk1", 60.0, 4)
        for subject in ("S1", "S2", "S3")
        for action in ("Box", "Gestures", "Walking")
    ]
    assert [(s.subject, s.name, s.frame_rate, len(s.poses)) for s in got["train"]] == [
        (subject, f"{action} {trial} chunk0", rate, frames)
        for subject in ("S1", "S2", "S3")
        for action in ("Box", "Gestures", "Walking")
        for trial, rate, frames in ((1, 60.0, 4), (3, 120.0, 8))
    ]
    assert made.skeleton.name == "eva_20"
    assert made.keypoint_skeleton is None
    target = get_skeleton("h36m_14")
    limbs = [index for index, side in enumerate(target.sides) if side != "centre"]
    for split, sequences in got.items():
        for s in sequences:
            assert s.poses.dtype == np.float32
            assert s.keypoints == {}
            trial = int(s.name.split()[1])
            body = truth(files.SPEC, s.subject, s.action, trial, split, len(s.poses))
            body = convert(body, get_skeleton("h36m_32"), target)
            read = convert(s.poses, made.skeleton, target)
            np.testing.assert_allclose(read[:, limbs], body[:, limbs], rtol=0, atol=1.0)
            for camera_id, published in published_cameras(s.subject).items():
                for ours, theirs in zip(s.cameras[camera_id], published, strict=True):
                    assert ours.dtype == np.float64
                    np.testing.assert_allclose(ours, theirs, rtol=0, atol=0.02)
    size = sum(path.stat().st_size for path in distribution.rglob("*") if path.is_file())
    provenance = made.provenance
    assert json.loads(json.dumps(provenance)) == provenance
    assert provenance == {
        "dataset": "human_eva",
        "version": "1.0.0",
        "config": "auto",
        "layout": "human_eva",
        "files": [{"name": "HumanEva/", "files": 93, "size": size}],
        "recordings": {"S1": 6, "S2": 6, "S3": 6},
        "frames": {"train": 9 * 4 + 9 * 8, "test": 9 * 4},
        "left_out": {"train": TRAINING + THIRD - 9 * 12, "test": VALIDATION - 9 * 4},
        "skeleton": "eva_20",
        "skipped": [DAMAGED, MISSING],
    }
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        "human_eva: built auto from human_eva files: 18 recordings (S1 6, S2 6, S3 6), 144 frames; "
        f"left out for want of a pose: {TRAINING + THIRD - 108:,} frames of train, "
        f"{VALIDATION - 36:,} of test; skipped recordings, which --command=prepare lists\n"
    )
    (distribution / "S1" / "Sync_Data" / "Walking_1_(C1).ofs").unlink()
    with pytest.raises(UserError, match=r"/Walking_1_\(C1\)\.ofs is missing: "):
        make().prepare()


def test_videopose3ds_archive(files, manual, make):
    poses = {
        (subject, part): np.full((3, 15, 3), number / 8, np.float32)
        for number, (subject, part) in enumerate(
            (s, p) for s in ("S1", "S2", "S3") for p in ("Train", "Validate")
        )
    }
    positions = {
        f"{part}/{subject}": {"Walking 1 chunk0": value, "Walking 1 chunk2": value[:1] + 1}
        for (subject, part), value in poses.items()
    }
    files.write_npz(manual / "data_3d_humaneva15.npz", positions)
    made = make(data="videopose3d")
    for split, part in (("train", "Train"), ("test", "Validate")):
        sequences = made.sequences(split)
        assert [(s.subject, s.action, s.name, s.frame_rate) for s in sequences] == [
            (subject, "Walking", f"Walking 1 chunk{chunk}", 60.0)
            for subject in ("S1", "S2", "S3")
            for chunk in (0, 2)
        ]
        for s in sequences:
            value = poses[s.subject, part]
            expected = value if s.name.endswith("0") else value[:1] + 1
            np.testing.assert_array_equal(s.poses, 1000 * expected)
            for ours, theirs in zip(
                s.cameras["C3"], published_cameras(s.subject)["C3"], strict=True
            ):
                np.testing.assert_array_equal(ours, theirs)
    assert made.skeleton.name == "eva_15"
    assert made.provenance["config"] == "videopose3d"
    left_out = made.provenance["left_out"]
    assert left_out == {"train": 613 + 438 + 491 - 12, "test": 585 + 433 + 443 - 12}
    (manual / "data_3d_humaneva15.npz").unlink()
    assert make(data="videopose3d").skeleton.name == "eva_15"  # the build is there


def test_generated_data(tmp_path, capsys):
    arguments = {"data": "synthetic", "data_dir": str(tmp_path), "synthetic_frames": 1}
    made = human_eva(**arguments, synthetic_seed=3)
    assert [len(s.poses) for s in made.sequences("test")] == [1] * 9
    assert made.provenance["config"] == "synthetic-seed3-1"
    assert (tmp_path / "downloads/generated/human_eva/synthetic-seed3-1/S1/Mocap_Data").is_dir()
    capsys.readouterr()
    human_eva(**arguments, synthetic_seed=3).prepare()
    assert capsys.readouterr().err == ""


def test_nothing_found(manual, make):
    distribution = (
        "  S1, S2 and S3 of HumanEva-I, extracted, with the folders Calibration_Data, Sync_Data "
        "(after the critical update of the .ofs files) and Mocap_Data (.mp, and .mat, which the "
        "support code makes of .c3d), from http://humaneva.is.tue.mpg.de (registration required)\n"
    )
    archive = "  data_3d_humaneva15.npz as made by VideoPose3D's preparation script\n"
    generated = "or run on generated data, which needs no files: --gin_param=\"data='synthetic'\""
    start = f"human_eva: no HumanEva-I poses in {manual}; put"
    for data, message in {
        "auto": f"{start} one of these there:\n{distribution}{archive}{generated}",
        "human_eva": f"{start} this there:\n{distribution}{generated}",
        "videopose3d": f"{start} this there:\n{archive}{generated}",
    }.items():
        with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
            make(data=data).prepare()


def test_where_files_are_looked_for(tmp_path, monkeypatch):
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "tensorflow_datasets" / "downloads" / "manual" / "human_eva"
    with pytest.raises(UserError, match=f"^human_eva: no HumanEva-I poses in {folder}; "):
        human_eva().prepare()


def test_a_split_without_poses(files, manual, make):
    positions = {"Train/S1": {"Walking 1 chunk0": np.ones((2, 15, 3))}}
    files.write_npz(manual / "data_3d_humaneva15.npz", positions)
    message = (
        "human_eva: data_3d_humaneva15.npz: no poses for the test split, in 0 recordings; get the "
        "missing files"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        make().prepare()


def test_a_recording_without_poses_is_named(files, manual, make, capsys):
    one = np.ones((1, 15, 3))
    positions = {
        "Train/S1": {"Walking 1 chunk0": one},
        "Validate/S1": {"Walking 1 chunk0": one},
    }
    files.write_npz(manual / "data_3d_humaneva15.npz", positions)
    make().prepare()
    assert capsys.readouterr().err == (
        "human_eva: built auto from videopose3d files: 1 recordings (S1 1, S2 0, S3 0), 2 frames; "
        "left out for want of a pose: 612 frames of train, 584 of test; NO RECORDINGS of S2, S3: "
        "get the missing files\n"
    )


def test_somebody_behind_a_camera(files, manual, make):
    far = np.full((1, 15, 3), 9.0)
    positions = {f"{part}/S1": {"Walking 1 chunk0": far} for part in ("Train", "Validate")}
    files.write_npz(manual / "data_3d_humaneva15.npz", positions)
    with pytest.raises(UserError, match=r": Walking 1: poses: frame 0, joint 0 has depth -"):
        make().prepare()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"data": "humaneva"},
            "human_eva.data: got 'humaneva', expected one of auto, human_eva, videopose3d, "
            "synthetic; did you mean human_eva?",
        ),
        (
            {"data": "synthetic", "synthetic_frames": 351},
            "hpe.human_eva.synthetic_frames: got 351, expected an integer from 1 to 350; set "
            "hpe.human_eva.synthetic_frames to one",
        ),
        (
            {"manual_dir": "/nowhere"},
            "human_eva.manual_dir: no folder /nowhere; give the folder that holds the files",
        ),
    ],
)
def test_choices(make, arguments, message):
    # gin appends the call it was in; the command line takes that off again.
    with pytest.raises(UserError, match=f"^{re.escape(message)}(\n  In call to|$)"):
        make(**arguments)


def test_plain_tfds_builds_the_same(files, manual, make, tmp_path):
    one = np.ones((1, 15, 3))
    positions = {f"{part}/S1": {"Box 1 chunk0": one} for part in ("Train", "Validate")}
    files.write_npz(manual / "data_3d_humaneva15.npz", positions)
    plain = tfds.builder("human_eva", data_dir=str(tmp_path / "plain"))
    plain.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual))
    there = make(data_dir=str(tmp_path / "plain"))
    assert there.provenance == make().provenance
    np.testing.assert_array_equal(there.sequences("test")[0].poses, 1000 * one)


def test_it_is_a_gin_configurable():
    with gin.unlock_config():
        gin.bind_parameter("hpe.human_eva.data", "humaneva")
    with pytest.raises(UserError, match=r"^human_eva\.data: got 'humaneva', "):
        human_eva()
    parameters = inspect.signature(human_eva).parameters
    assert {"data", "data_dir", "manual_dir", "synthetic_seed", "synthetic_frames"} == set(
        parameters
    )
