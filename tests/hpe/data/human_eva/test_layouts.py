import re
import shutil

import numpy as np
import pytest

from ige.errors import UserError
from ige.hpe.data.human_eva.capture import mat_bytes
from ige.hpe.data.human_eva.layouts import HumanEvaLayout, VideoPose3dLayout, find_layout
from ige.hpe.data.human_eva.mocap import read_mat

POSES = np.arange(2 * 15 * 3, dtype=np.float32).reshape(2, 15, 3)


def refused(call, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        call()


def record_of(layout, subject="S1", action="Walking", trial=1, split="test"):
    (record,) = (
        each
        for each in layout.index()
        if (each.subject, each.action, each.trial, each.split) == (subject, action, trial, split)
    )
    return record


@pytest.fixture
def layout(distribution):
    return HumanEvaLayout(distribution.parent, distribution)


def test_what_is_in_the_distribution(layout):
    found = [(r.subject, r.action, r.trial, r.split) for r in layout.index()]
    assert found == [
        (subject, action, trial, split)
        for subject in ("S1", "S2", "S3")
        for action in ("Walking", "Gestures", "Box")
        for trial, split in ((1, "train"), (1, "test"), (3, "train"))
    ]
    assert layout.skipped == [
        "S3 ThrowCatch 1: its motion capture is damaged",
        "S1 Jog 1, S1 Jog 3, S1 ThrowCatch 1, S1 ThrowCatch 3, S2 Jog 1, S2 Jog 3, S2 ThrowCatch "
        "1, S2 ThrowCatch 3, S3 Jog 1, S3 Jog 3, S3 ThrowCatch 3: no .mat files",
    ]
    (entry,) = layout.files()
    # Per subject 3 .cal, 1 .mp, 6 .mat, and 7 .ofs for each of three recordings.
    assert (entry["name"], entry["files"]) == ("HumanEva/", 3 * (3 + 1 + 6 + 3 * 7))


def test_the_partitions_are_applied(layout):
    """Four frames on either side of where they meet have poses."""
    validation = layout.read(record_of(layout))
    assert (validation.frames, validation.left_out) == (585, 581)
    assert {number: len(poses) for number, poses in validation.chunks.items()} == {1: 4}
    training = layout.read(record_of(layout, split="train"))
    assert (training.frames, training.left_out) == (613, 609)
    assert {number: len(poses) for number, poses in training.chunks.items()} == {0: 4}
    # They are neighbours: the walk goes on from one to the other.
    steps = np.diff(np.concatenate([validation.chunks[1], training.chunks[0]]), axis=0)
    assert np.abs(steps).max() < 100


def test_frames_beyond_the_recording_are_left_out(layout):
    """Trial 3 of S2 has 1523 published frames, of which eight are there."""
    reading = layout.read(record_of(layout, "S2", trial=3, split="train"))
    assert (reading.frames, reading.left_out) == (1523, 1515)
    assert [len(poses) for poses in reading.chunks.values()] == [8]


def test_a_marker_that_is_lost_cuts_the_recording(layout, distribution):
    path = distribution / "S2" / "Mocap_Data" / "Walking_3.mat"
    markers = read_mat(path.read_bytes(), str(path))
    markers.positions[3, markers.index("LWRA")] = np.nan
    path.write_bytes(mat_bytes(markers.labels, markers.positions))
    whole = {number: len(poses) for number, poses in _read(layout, "S2").items()}
    assert whole == {0: 3, 2: 4}


def _read(layout, subject):
    return layout.read(record_of(layout, subject, trial=3, split="train")).chunks


def test_the_torso_is_measured_as_the_person_stood_still(layout, distribution):
    """The tilt of the torso is that of the wider shoulders in Static.mat; nothing else changes."""
    before = _read(layout, "S1")[0]
    folder = distribution / "S1" / "Mocap_Data"
    markers = read_mat((folder / "Walking_3.mat").read_bytes(), "")
    for marker, side in (("LSHO", 1.0), ("RSHO", -1.0)):
        markers.positions[:, markers.index(marker)] = (0.0, 500.0 * side, 1400.0)
    (folder / "Static.mat").write_bytes(mat_bytes(markers.labels, markers.positions))
    again = HumanEvaLayout(distribution.parent, distribution)
    after = _read(again, "S1")[0]
    upper = again.skeleton.index("torso_proximal")
    others = [joint for joint in range(20) if joint != upper]
    np.testing.assert_array_equal(after[:, others], before[:, others])
    lower = after[:, again.skeleton.index("torso_distal")]
    np.testing.assert_allclose(  # a rotation about the lower end
        np.linalg.norm(after[:, upper] - lower, axis=-1),
        np.linalg.norm(before[:, upper] - lower, axis=-1),
        rtol=1e-5,
    )
    assert np.linalg.norm(after[:, upper] - before[:, upper], axis=-1).min() > 50


def test_a_torso_that_cannot_be_measured(layout, distribution):
    path = distribution / "S1" / "Mocap_Data" / "Static.mat"
    markers = read_mat((path.parent / "Walking_3.mat").read_bytes(), "")
    markers.positions[:, markers.index("RSHO")] = np.nan
    path.write_bytes(mat_bytes(markers.labels, markers.positions))
    message = (
        f"{path}: Markers: no frame has both LSHO and RSHO; get the file again, or remove it to "
        "measure the torso in each recording"
    )
    refused(lambda: layout.read(record_of(layout)), message)


def test_a_file_that_is_there_twice(layout, distribution):
    folder = distribution / "S1" / "Calibration_Data"
    shutil.copytree(folder, folder.with_name("Calibration_DATA"))
    message = f"{folder}/C1.cal: there is also S1/Calibration_DATA/C1.cal; remove one of them"
    refused(layout.index, message)


def test_folders_in_another_case(layout, distribution):
    (distribution / "S1" / "Calibration_Data").rename(distribution / "S1" / "Calibration_DATA")
    assert list(layout.cameras("S1")) == ["C1", "C2", "C3"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Calibration_Data/C2.cal", "poses are projected with it"),
        ("Sync_Data/Walking_1_(BW3).ofs", "frames are counted from the camera that began first"),
        ("Mocap_Data/S1.mp", "it has the person's measures"),
    ],
)
def test_a_missing_file(layout, distribution, name, why):
    (distribution / "S1" / name).unlink()
    message = f"{distribution}/S1/{name} is missing: {why}; put it there"
    refused(lambda: (layout.cameras("S1"), layout.read(record_of(layout))), message)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("Calibration_Data/C2.cal", b"1 2 3", "got 3 numbers, expected 22; get the file again"),
        (
            "Calibration_Data/C2.cal",
            b"\xff\xfe",
            "cannot be read: 'ascii' codec can't decode byte 0xff in position 0: ordinal not in "
            "range(128); get the file again",
        ),
        (
            "Sync_Data/Walking_1_(C1).ofs",
            b"1\n2\n",
            "got 2 numbers, expected 3; get the file again",
        ),
        ("Mocap_Data/S1.mp", b"$X = 1", "$LShoulderOffset is missing; get the file again"),
        (
            "Mocap_Data/Walking_1.mat",
            b"text",
            "cannot be read: not the format of MATLAB 5 to 7; save it with -v7; get the file again",
        ),
    ],
)
def test_a_damaged_file(layout, distribution, name, data, reason):
    (distribution / "S1" / name).write_bytes(data)
    message = f"{distribution}/S1/{name}: {reason}"
    refused(lambda: (layout.cameras("S1"), layout.read(record_of(layout))), message)


def test_a_file_that_is_a_folder(layout, distribution):
    path = distribution / "S1" / "Calibration_Data" / "C2.cal"
    path.unlink()
    path.mkdir()
    message = f"{path} is missing: poses are projected with it; put it there"
    refused(lambda: layout.cameras("S1"), message)


@pytest.fixture
def archive(files, manual):
    """Returns the layout of a data_3d_humaneva15.npz with these positions."""

    def write(positions):
        path = manual / "data_3d_humaneva15.npz"
        files.write_npz(path, positions)
        return VideoPose3dLayout(manual, path)

    return write


def test_videopose3ds_archive(archive):
    layout = archive(
        {
            "Train/S1": {"Walking 1 chunk10": POSES + 1, "Walking 1 chunk2": POSES},
            "Validate/S1": {"Walking 1 chunk0": POSES + 2},
            "Validate/S3": {"ThrowCatch 1 chunk0": POSES, "ThrowCatch 1 chunk2": POSES},
        }
    )
    assert [(r.subject, r.action, r.trial, r.split) for r in layout.index()] == [
        ("S1", "Walking", 1, "train"),
        ("S1", "Walking", 1, "test"),
    ]
    assert layout.skipped == ["S3 ThrowCatch 1: its motion capture is damaged"]
    reading = layout.read(record_of(layout, split="train"))
    assert list(reading.chunks) == [2, 10]
    np.testing.assert_array_equal(reading.chunks[10], (POSES + 1) * 1000)
    assert reading.chunks[10].dtype == np.float32
    assert (reading.frames, reading.left_out) == (613, 609)
    assert layout.skeleton.name == "eva_15"
    assert layout.files()[0]["name"] == "data_3d_humaneva15.npz"


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        (
            {"S1": {"Walking 1 chunk0": POSES}},
            "{path}: subject: got 'S1', expected Train or Validate with one of S1, S2, S3, such as "
            "'Train/S1'; get the file again",
        ),
        (
            {"Unlabeled/S4": {}},
            "{path}: subject: got 'Unlabeled/S4', expected Train or Validate with one of S1, S2, "
            "S3, such as 'Train/S1'; get the file again",
        ),
        (
            {"Validate/S1": {"Walking 3 chunk0": POSES}},
            "{path}: positions_3d['Validate/S1']['Walking 3 chunk0']: trial 3 is for training; get "
            "the file again",
        ),
        (
            {"Validate/S1": {"Walking 1 chunk0": np.zeros((586, 15, 3))}},
            "{path}: positions_3d['Validate/S1']: Walking 1: got 586 frames, expected at most the "
            "585 that are published; get the file again",
        ),
        (
            {"Validate/S1": {"Walking 1 chunk0": np.zeros((2, 20, 3))}},
            "{path}: positions_3d['Validate/S1']['Walking 1 chunk0']: poses: got shape (2, 20, 3), "
            "expected (frames, 15, 3); get the file again",
        ),
        (
            {"Validate/S1": {"Walking 1 chunk0": np.full((2, 15, 3), np.nan)}},
            "{path}: positions_3d['Validate/S1']['Walking 1 chunk0']: poses: frame 0 is not finite "
            "(2 of 2 frames); get the file again",
        ),
        (
            {"Validate/S1": {"Walking 1 chunk0": "none"}},
            "{path}: positions_3d['Validate/S1']['Walking 1 chunk0']: poses: got str, expected an "
            "array; get the file again",
        ),
        (
            {"Validate/S1": [POSES]},
            "{path}: 'positions_3d': expected a dict of subjects of dicts of recordings; get the "
            "file again",
        ),
    ],
)
def test_archives_that_are_refused(archive, manual, positions, message):
    layout = archive(positions)
    message = message.format(path=manual / "data_3d_humaneva15.npz")
    refused(lambda: [layout.read(record) for record in layout.index()], message)


def test_which_layout_is_found(files, distribution, manual):
    assert find_layout(manual).kind == "human_eva"
    assert find_layout(distribution).kind == "human_eva"
    files.write_npz(manual / "data_3d_humaneva15.npz", {})
    assert find_layout(manual).kind == "human_eva"
    assert find_layout(manual, ["videopose3d"]).kind == "videopose3d"
    shutil.rmtree(distribution)
    assert find_layout(manual).kind == "videopose3d"
