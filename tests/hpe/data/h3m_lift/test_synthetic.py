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
from ige.hpe.data.h3m_lift.body import BUILDS, LIMITS
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
            flat = read(
                entries[f"h36m/{subject}/MyPoses/3D_positions/{action}.h5"], "3D_positions"
            )
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


def angle(a, b):
    """Degrees between vectors (..., 3)."""
    cosine = np.sum(a * b, axis=-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    return np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0)))


def pelvis_frame(p):
    """Forward, left and up (..., 3) of the pelvis, upright but for its roll."""
    left = p[..., 6, :] - p[..., 1, :]
    left = left / np.linalg.norm(left, axis=-1, keepdims=True)
    forward = np.cross(left, [0.0, 0.0, 1.0])
    forward /= np.linalg.norm(forward, axis=-1, keepdims=True)
    return forward, left, np.cross(forward, left)


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


def test_the_same_spec_gives_the_same_bytes(folder, tmp_path):
    time.sleep(2.1)  # a zip file counts time in steps of two seconds
    write_synthetic(tmp_path, SPEC)
    for name in ("h36m.zip", "data_2d_h36m_synthetic.npz"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_more_sequences_leave_the_first_as_they_are(entries, folder, positions_2d, monkeypatch, tmp_path):
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
        assert np.ptp(lengths, axis=0).max() < 2e-3  # of which float32 takes half
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


def test_left_is_on_the_left_and_the_nose_in_front(everybody):
    forward, left, _ = pelvis_frame(everybody)
    chest = everybody[..., 17, :] - everybody[..., 25, :]
    assert np.sum(chest * left, axis=-1).min() > 0.0
    ahead = np.cross(chest, everybody[..., 13, :] - everybody[..., 0, :])
    face = everybody[..., 14, :] - everybody[..., 13, :]
    # A head turns by up to 70 degrees, and bends back: the nose still lies before the neck.
    share = np.mean(np.sum(face * ahead, axis=-1) > 0.0)
    assert share > 0.97
    for ankle, ball in ((3, 4), (8, 9)):
        foot = everybody[..., ball, :] - everybody[..., ankle, :]
        assert np.mean(np.sum(foot * forward, axis=-1) > 50.0) > 0.98


@pytest.mark.parametrize(("hip", "knee", "ankle"), [(1, 2, 3), (6, 7, 8)])
def test_knees_bend_forward_and_within_their_limits(everybody, hip, knee, ankle):
    thigh = everybody[..., knee, :] - everybody[..., hip, :]
    shank = everybody[..., ankle, :] - everybody[..., knee, :]
    bend = angle(thigh, shank)
    low, high = LIMITS["knee_flexion"]
    assert bend.min() > low - 0.1
    assert bend.max() < high + 0.1
    assert bend.max() > 90.0
    # Seen from the left, the shank turns backward: the axis from thigh to shank points left.
    left = pelvis_frame(everybody)[1]
    axis = np.cross(shank, thigh)
    axis /= np.linalg.norm(axis, axis=-1, keepdims=True)
    assert np.sum(axis * left, axis=-1).min() < 0.0 < -np.sum(axis * left, axis=-1).max() + 2.0
    assert np.abs(np.sum(axis * left, axis=-1)).min() > 0.3


@pytest.mark.parametrize(("hip", "knee", "outward"), [(1, 2, -1.0), (6, 7, 1.0)])
def test_hips_stay_within_their_limits(everybody, hip, knee, outward):
    thigh = everybody[..., knee, :] - everybody[..., hip, :]
    forward, left, up = pelvis_frame(everybody)
    flexion = np.degrees(
        np.arctan2(np.sum(thigh * forward, axis=-1), -np.sum(thigh * up, axis=-1))
    )
    # The pelvis itself leans by up to its own limits, which positions do not show.
    low, high = LIMITS["hip_flexion"]
    assert flexion.min() > low - LIMITS["pelvis_pitch"][1]
    assert flexion.max() < high - LIMITS["pelvis_pitch"][0]
    out = outward * np.sum(thigh * left, axis=-1) / np.linalg.norm(thigh, axis=-1)
    abduction = np.degrees(np.arcsin(out))
    low, high = LIMITS["hip_abduction"]
    assert abduction.min() > low
    assert abduction.max() < high


@pytest.mark.parametrize(("knee", "ankle", "ball"), [(2, 3, 4), (7, 8, 9)])
def test_ankles_stay_within_their_limits(everybody, knee, ankle, ball):
    shank = everybody[..., knee, :] - everybody[..., ankle, :]
    foot = everybody[..., ball, :] - everybody[..., ankle, :]
    # In a standing foot the ball lies 65 below the ankle and 149 ahead.
    dorsiflexion = 90.0 + np.degrees(np.arctan2(65.0, 149.0)) - angle(shank, foot)
    low, high = LIMITS["ankle_dorsiflexion"]
    assert low < dorsiflexion.min() < dorsiflexion.max() < high


@pytest.mark.parametrize("joints", [(17, 18, 19), (25, 26, 27)])
def test_elbows_stay_within_their_limits(everybody, joints):
    shoulder, elbow, wrist = (everybody[..., joint, :] for joint in joints)
    bend = angle(elbow - shoulder, wrist - elbow)
    low, high = LIMITS["elbow_flexion"]
    assert low - 0.1 < bend.min() < bend.max() < high + 0.1
    assert bend.max() > 100.0


# The motions.


def test_nobody_sinks_into_the_floor_or_flies(everybody):
    assert everybody[..., 2].min() > -10.0
    lowest_foot = everybody[..., [4, 9], 2].min(axis=-1)
    assert lowest_foot.max() < 60.0


def test_motion_is_smooth_and_no_faster_than_people(everybody):
    speed = np.linalg.norm(np.diff(everybody, axis=1), axis=-1) * 50.0 / 1000.0
    assert speed[..., [19, 27]].max() < 5.0
    assert speed[..., [3, 8]].max() < 6.0
    assert speed[..., 0].max() < 2.5
    change = np.linalg.norm(np.diff(everybody, 2, axis=1), axis=-1) * 50.0**2 / 1000.0
    assert change.max() < 100.0  # m/s^2; the feet of people who walk reach about 50
    assert change[..., 0].max() < 15.0


def test_everybody_moves(everybody):
    spread = np.linalg.norm(np.ptp(everybody, axis=1), axis=-1)
    assert spread[..., [19, 27]].max(axis=-1).min() > 80.0


def test_every_joint_is_seen_by_every_camera(poses):
    for (subject, _), recording in poses.items():
        for camera in published_cameras(subject).values():
            seen = cameras.world_to_camera(recording, camera)
            assert np.min(seen[..., 2]) > 1000.0
            pixels = np.asarray(cameras.project(seen, camera))
            assert pixels.min() > -1.0
            assert pixels.max() < 1001.0


def test_a_recording_out_of_view_is_drawn_again(monkeypatch):
    views = iter([np.full((1, 32, 2), 1000.0), *[np.full((1, 32, 2), 500.0)] * 4])
    monkeypatch.setattr(synthetic, "_project", lambda *_: next(views))
    monkeypatch.setattr(synthetic, "published_cameras", lambda _: dict.fromkeys("abcd"))
    drawn = []
    generator = synthetic._generator

    def remember(key, *purpose):
        drawn.append(purpose)
        return generator(key, *purpose)

    monkeypatch.setattr(synthetic, "_generator", remember)
    with pytest.raises(RuntimeError):  # the first attempt projects all four views
        synthetic._recording((0, 9, 0, 0), "S9", "Waiting", 1)
    assert drawn == [(0, 0), (0, 1)]


def test_walkers_swing_arms_against_legs(poses):
    for subject in BUILDS:
        walk = poses[subject, "Walking"]
        forward = pelvis_frame(walk)[0]
        ahead = {j: np.sum((walk[:, j] - walk[:, 0]) * forward, axis=-1) for j in (3, 8, 19, 27)}
        legs, hands = ahead[8] - ahead[3], ahead[19] - ahead[27]
        assert np.corrcoef(legs, hands)[0, 1] < -0.5
        assert np.ptp(legs) > 500.0


def test_a_phone_is_held_to_the_head(poses):
    for subject in BUILDS:
        call = poses[subject, "Phoning"]
        hands = np.linalg.norm(call[:, [19, 27]] - call[:, [14]], axis=-1).mean(axis=0)
        assert hands.min() < 260.0


@pytest.mark.parametrize(("action", "height"), [("Sitting", 0.40), ("SittingDown", 0.12)])
def test_people_sit_at_the_height_of_what_they_sit_on(poses, action, height):
    for subject, build in BUILDS.items():
        pelvis = poses[subject, action][:, 0, 2] / build.stature
        assert pelvis.max() > 0.48
        assert pelvis.min() < height


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
        f"synthetic {field}: got {value!r}, expected an integer from {low} to {high}; "
        f"set {field} to one"
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
