import io
import re
import time
import zipfile

import h5py
import numpy as np
import pytest

from ige.errors import UserError
from ige.geometry import cameras
from ige.hpe.data.h3m_lift import synthetic
from ige.hpe.data.h3m_lift.actions import ACTIONS
from ige.hpe.data.h3m_lift.body import BUILDS, pose
from ige.hpe.data.h3m_lift.cameras import published_cameras
from ige.hpe.data.h3m_lift.synthetic import SyntheticSpec, write_synthetic
from ige.hpe.skeleton import get_skeleton

FRAMES = 110
SPEC = SyntheticSpec(seed=3, sequences=1, frames=FRAMES)
CAMERAS = ("54138969", "55011271", "58860488", "60457274")
LEFT, RIGHT = (6, 7, 8, 9, 10, 17, 18, 19, 21, 22), (1, 2, 3, 4, 5, 25, 26, 27, 29, 30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic")
    write_synthetic(folder, SPEC)
    return folder


@pytest.fixture(scope="module")
def entries(folder):
    with zipfile.ZipFile(folder / "h36m.zip") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def read(content: bytes, key: str) -> np.ndarray:
    with h5py.File(io.BytesIO(content)) as file:
        assert list(file) == [key]
        return file[key][()]


@pytest.fixture(scope="module")
def poses(entries):
    """{(subject, action): (n, 32, 3)}"""
    found = {}
    for subject in BUILDS:
        for action in ACTIONS:
            flat = read(entries[f"h36m/{subject}/MyPoses/3D_positions/{action}.h5"], "3D_positions")
            assert flat.shape == (96, FRAMES)
            assert flat.dtype == np.float32
            found[subject, action] = flat.T.reshape(-1, 32, 3).astype(np.float64)
    return found


@pytest.fixture(scope="module")
def everybody(poses):
    """(recordings, n, 32, 3)"""
    return np.stack(list(poses.values()))


@pytest.fixture(scope="module")
def positions_2d(folder):
    return load_npz(folder)[0]


def load_npz(folder):
    with np.load(folder / "data_2d_h36m_synthetic.npz", allow_pickle=True) as archive:
        assert sorted(archive.files) == ["metadata", "positions_2d"]
        return archive["positions_2d"].item(), archive["metadata"].item()


# The files.


def test_the_archive_holds_every_recording_and_nothing_else(entries):
    expected = {"h36m/cameras.h5"}
    for subject in BUILDS:
        for action in ACTIONS:
            expected.add(f"h36m/{subject}/MyPoses/3D_positions/{action}.h5")
            for camera in CAMERAS:
                if (subject, action, camera) != ("S11", "Directions", "54138969"):
                    for detector in ("StackedHourglass", "StackedHourglassFineTuned240"):
                        expected.add(f"h36m/{subject}/{detector}/{action}.{camera}.h5")
    assert set(entries) == expected
    assert {"S1", "S5", "S6", "S7", "S8", "S9", "S11"} == set(BUILDS)


def test_further_sequences_carry_a_number(monkeypatch, tmp_path):
    monkeypatch.setattr(synthetic, "BUILDS", {"S11": BUILDS["S11"]})
    monkeypatch.setattr(synthetic, "ACTIONS", {"Directions": ACTIONS["Directions"]})
    write_synthetic(tmp_path, SyntheticSpec(sequences=3, frames=4))
    with zipfile.ZipFile(tmp_path / "h36m.zip") as archive:
        names = archive.namelist()
    folder = "h36m/S11/MyPoses/3D_positions"
    assert [name for name in names if folder in name] == [
        f"{folder}/Directions.h5",
        f"{folder}/Directions 1.h5",
        f"{folder}/Directions 2.h5",
    ]
    # Only the first recording lacks its video.
    assert "h36m/S11/StackedHourglass/Directions_1.54138969.h5" in names
    assert "h36m/S11/StackedHourglass/Directions.54138969.h5" not in names
    assert list(load_npz(tmp_path)[0]["S11"]) == ["Directions", "Directions 1", "Directions 2"]


def test_cameras_are_the_published_ones_as_matlab_wrote_them(entries):
    with h5py.File(io.BytesIO(entries["h36m/cameras.h5"])) as file:
        assert sorted(file) == sorted(f"subject{subject[1:]}" for subject in BUILDS)
        for subject in BUILDS:
            group = file[f"subject{subject[1:]}"]
            for index, (name, camera) in enumerate(published_cameras(subject).items(), start=1):
                fields = {key: value[()] for key, value in group[f"camera{index}"].items()}
                assert "".join(map(chr, fields.pop("Name").ravel())) == name == CAMERAS[index - 1]
                shapes = {key: value.shape for key, value in fields.items()}
                two, three = (2, 1), (3, 1)
                assert shapes == {"R": (3, 3), "T": three, "f": two, "c": two, "k": three, "p": two}
                np.testing.assert_array_equal(fields["R"].T, camera.rotation)
                np.testing.assert_array_equal(fields["T"].ravel(), camera.translation)
                np.testing.assert_array_equal(fields["f"].ravel(), camera.focal_length)
                np.testing.assert_array_equal(fields["c"].ravel(), camera.center)
                np.testing.assert_array_equal(fields["k"].ravel(), camera.radial)
                np.testing.assert_array_equal(fields["p"].ravel(), camera.tangential)


@pytest.mark.parametrize(
    ("detector", "low", "high"),
    [("StackedHourglass", 7.0, 14.0), ("StackedHourglassFineTuned240", 3.5, 7.0)],
)
def test_detections_are_off_by_the_error_of_their_detector(entries, poses, detector, low, high):
    # MPII: right ankle, knee, hip, left hip, knee, ankle, pelvis, thorax, upper neck, head top,
    # right wrist, elbow, shoulder, left shoulder, elbow, wrist. The archives put the joints 12 and
    # 13 of Human3.6M where MPII has thorax and upper neck.
    slots = [3, 2, 1, 6, 7, 8, 0, 12, 13, 15, 27, 26, 25, 17, 18, 19]
    errors = []
    for subject in ("S1", "S9"):
        for camera, calibration in published_cameras(subject).items():
            found = read(entries[f"h36m/{subject}/{detector}/Walking.{camera}.h5"], "poses")
            assert found.shape == (FRAMES, 16, 2)
            assert found.dtype == np.float32
            seen = cameras.world_to_camera(poses[subject, "Walking"][:, slots], calibration)
            errors.append(np.linalg.norm(found - cameras.project(seen, calibration), axis=-1))
    per_joint = np.mean(errors, axis=(0, 1))
    assert np.all((per_joint > low) & (per_joint < high))


def test_videopose3d_archive(folder, poses):
    positions_2d, metadata = load_npz(folder)
    assert metadata == {
        "layout_name": "h36m",
        "num_joints": 17,
        "keypoints_symmetry": [[4, 5, 6, 11, 12, 13], [1, 2, 3, 14, 15, 16]],
    }
    joints = get_skeleton("h36m_17").joints
    for side, half in zip(("left", "right"), metadata["keypoints_symmetry"], strict=True):
        assert all(joints[joint].startswith(side) for joint in half)
    assert {s: list(actions) for s, actions in positions_2d.items()} == {
        subject: list(ACTIONS) for subject in BUILDS
    }
    order = [0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27]
    views = positions_2d["S9"]["Sitting"]
    for view, calibration in zip(views, published_cameras("S9").values(), strict=True):
        assert view.shape == (FRAMES, 17, 2)
        assert view.dtype == np.float32
        seen = cameras.world_to_camera(poses["S9", "Sitting"][:, order], calibration)
        error = np.linalg.norm(view - cameras.project(seen, calibration), axis=-1)
        assert 3.0 < error.mean() < 7.0


def test_no_two_detections_share_their_noise(positions_2d, entries):
    detector = "h36m/S9/StackedHourglass{}/Waiting.{}.h5"
    found = [read(entries[detector.format("", camera)], "poses") for camera in CAMERAS]
    tuned = read(entries[detector.format("FineTuned240", CAMERAS[0])], "poses")
    jitter = [np.diff(view, axis=0).ravel() for view in (*found, tuned)]
    assert np.abs(np.corrcoef(jitter) - np.eye(5)).max() < 0.2


def test_the_same_spec_gives_the_same_bytes(monkeypatch, tmp_path):
    monkeypatch.setattr(synthetic, "BUILDS", {"S9": BUILDS["S9"]})
    spec = SyntheticSpec(sequences=1, frames=20)
    write_synthetic(tmp_path / "first", spec)
    time.sleep(1.1)  # HDF5 counts time in seconds
    write_synthetic(tmp_path / "second", spec)
    for name in ("h36m.zip", "data_2d_h36m_synthetic.npz"):
        first, second = ((tmp_path / turn / name).read_bytes() for turn in ("first", "second"))
        assert first == second
        with zipfile.ZipFile(tmp_path / "first" / name) as archive:
            assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_more_sequences_leave_the_first_as_they_are(entries, positions_2d, monkeypatch, tmp_path):
    monkeypatch.setattr(synthetic, "BUILDS", {"S9": BUILDS["S9"]})
    monkeypatch.setattr(synthetic, "ACTIONS", {"Walking": ACTIONS["Walking"]})
    write_synthetic(tmp_path, SyntheticSpec(seed=3, sequences=2, frames=FRAMES))
    with zipfile.ZipFile(tmp_path / "h36m.zip") as archive:
        again = {name: archive.read(name) for name in archive.namelist() if "S9" in name}
    first = [name for name in again if name in entries]
    assert len(first) == len(again) // 2 == 9
    assert all(again[name] == entries[name] for name in first)
    views = load_npz(tmp_path)[0]["S9"]
    np.testing.assert_array_equal(views["Walking"], positions_2d["S9"]["Walking"])
    assert np.abs(views["Walking"][0] - views["Walking 1"][0]).max() > 50.0


def test_other_seeds_give_other_people_in_motion(poses):
    other = synthetic._recording((4, 9, 0, 0), "S9", "Walking", FRAMES)[0]
    assert np.abs(other - poses["S9", "Walking"]).max() > 100.0


# The bodies.


def test_bones_are_rigid_and_as_long_on_the_left_as_on_the_right(poses):
    parents = get_skeleton("h36m_32").parents
    for recording in poses.values():
        bones = recording[:, 1:] - recording[:, list(parents[1:])]
        lengths = np.linalg.norm(bones, axis=-1)
        assert np.ptp(lengths, axis=0).max() < 1e-3
        mean = np.concatenate([[0.0], lengths.mean(axis=0)])
        np.testing.assert_allclose(mean[list(LEFT)], mean[list(RIGHT)], atol=1e-3)


def test_joints_that_human36m_writes_twice(everybody):
    for copy, joint in {11: 0, 16: 13, 20: 19, 23: 22, 24: 13, 28: 27, 31: 30}.items():
        np.testing.assert_array_equal(everybody[..., copy, :], everybody[..., joint, :])
    hips = (everybody[..., 1, :] + everybody[..., 6, :]) / 2.0
    np.testing.assert_allclose(hips, everybody[..., 0, :], atol=1e-3)


def test_everybody_differs_in_size(poses):
    for segment in ([1, 2], [25, 26], [1, 6], [17, 25]):
        lengths = [
            np.linalg.norm(np.subtract(*poses[subject, "Walking"][0, segment]))
            for subject in BUILDS
        ]
        assert np.min(np.diff(np.sort(lengths))) > 0.1
    heights = [np.percentile(poses[subject, "Walking"][..., 15, 2], 90) for subject in BUILDS]
    assert 200.0 < np.ptp(heights) < 400.0


def test_every_joint_is_seen_by_every_camera(poses):
    for (subject, _), recording in poses.items():
        for camera in published_cameras(subject).values():
            seen = cameras.world_to_camera(recording, camera)
            assert np.min(seen[..., 2]) > 1000.0
            pixels = np.asarray(cameras.project(seen, camera))
            assert pixels.min() > -1.0
            assert pixels.max() < 1001.0


def test_a_recording_out_of_view_is_drawn_again(monkeypatch):
    views = iter([1000.0] * 4 + [999.9] * 4)  # of the four cameras: outside, then inside
    monkeypatch.setattr(synthetic, "_project", lambda *_: np.full((1, 32, 2), next(views)))
    poses, pixels = synthetic._recording((0, 9, 0, 0), "S9", "Waiting", 1)
    assert [view.max() for view in pixels.values()] == [999.9] * 4
    rng = synthetic._generator((0, 9, 0, 0), 0, 1)  # the second attempt
    again = pose(BUILDS["S9"], ACTIONS["Waiting"](rng, BUILDS["S9"], np.zeros(1)))
    np.testing.assert_array_equal(poses, again)


def test_a_recording_that_never_fits_is_an_error_of_ours(monkeypatch):
    monkeypatch.setattr(synthetic, "_project", lambda *_: np.full((1, 32, 2), -1.0))
    message = "S9 Waiting: no recording of 1 frames stays in view"
    with pytest.raises(AssertionError, match=f"^{message}$"):
        synthetic._recording((0, 9, 0, 0), "S9", "Waiting", 1)


# The specification.


def test_name():
    assert SyntheticSpec().name == "synthetic-seed0-2x200"
    assert SyntheticSpec(seed=7, sequences=3, frames=50).name == "synthetic-seed7-3x50"


@pytest.mark.parametrize(
    ("field", "value", "high"),
    [
        ("seed", -1, 2**63 - 1),
        ("seed", "0", 2**63 - 1),
        ("sequences", 0, 1000),
        ("sequences", 1.5, 1000),
        ("sequences", True, 1000),
        ("frames", 0, 6400),
        ("frames", 6401, 6400),
        ("frames", None, 6400),
    ],
)
def test_nonsense_is_refused(field, value, high):
    low = 0 if field == "seed" else 1
    message = (
        f"hpe.h3m_lift.synthetic_{field}: got {value!r}, expected an integer from {low} to {high}; "
        f"set hpe.h3m_lift.synthetic_{field} to one"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        SyntheticSpec(**{field: value})


def test_numpy_integers_are_integers():
    assert SyntheticSpec(seed=np.int64(5)).name == "synthetic-seed5-2x200"


@pytest.mark.parametrize("frames", [1, 2, 7])
def test_the_shortest_recordings(frames):
    poses, pixels = synthetic._recording((0, 9, 0, 0), "S9", "Posing", frames)
    assert poses.shape == (frames, 32, 3)
    assert list(pixels) == list(CAMERAS)
