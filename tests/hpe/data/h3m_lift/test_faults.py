"""Every fault of a recording in every layout, and of 2D poses in every archive, to the letter."""

import contextlib
import re

import numpy as np
import pytest

from ige.errors import UserError
from ige.hpe.data.h3m_lift import detections, layouts

LAYOUTS = ("baseline", "official", "videopose3d")
ORIGINS = {
    "baseline": "{}/h36m.zip: h36m/S9/MyPoses/3D_positions/Walking 2.h5: ",
    "official": ("{}/Poses_D3_Positions_S9.tgz: S9/MyPoseFeatures/D3_Positions/Walking 2.cdf: "),
    "videopose3d": "{}/data_3d_h36m.npz: positions_3d['S9']['Walking 2']: ",
}


def _write(files, layout, folder, poses):
    """Writes a layout in which Walking 2 of S9 has other poses (n, joints, 3)."""
    if layout == "baseline":
        name = "S9/MyPoses/3D_positions/Walking 2.h5"
        data = files.h5_bytes(**{"3D_positions": poses.reshape(len(poses), 3 * poses.shape[1]).T})
        files.write_zip(folder / "h36m.zip", files.baseline_entries() | {name: data})
    elif layout == "official":
        files.write_official(folder)
        data = files.cdf_bytes(poses.reshape(1, len(poses), -1), folder)
        entry = "S9/MyPoseFeatures/D3_Positions/Walking 2.cdf"
        files.write_tar(folder / "Poses_D3_Positions_S9.tgz", {entry: data})
    else:
        files.write_npz(
            folder / "data_3d_h36m.npz", positions_3d={"S9": {"Walking 2": poses / 1000.0}}
        )


def _refused(layout, folder, message):
    expected = ORIGINS[layout].format(folder) + message
    with (
        contextlib.closing(layouts.find_layout(folder, [layout])) as opened,
        pytest.raises(UserError, match=f"^{re.escape(expected)}$"),
    ):
        [opened.read(record) for record in opened.index()]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_poses_that_are_not_finite(files, tmp_path, layout, value):
    poses = np.ones((4, 32, 3))
    poses[2, 31, 1] = value
    _write(files, layout, tmp_path, poses)
    _refused(layout, tmp_path, "poses: frame 2 is not finite (1 of 4 frames); get the file again")


@pytest.mark.parametrize("layout", ["baseline", "videopose3d"])  # CDF files are made of float32
def test_poses_that_no_float32_holds(files, tmp_path, layout):
    poses = np.ones((4, 32, 3))
    poses[1:3] = 1e300
    _write(files, layout, tmp_path, poses)
    _refused(layout, tmp_path, "poses: frame 1 is not finite (2 of 4 frames); get the file again")


@pytest.mark.parametrize("layout", ["baseline", "videopose3d"])  # cdflib writes no empty variable
def test_no_frames(files, tmp_path, layout):
    _write(files, layout, tmp_path, np.ones((0, 32, 3)))
    _refused(layout, tmp_path, "poses: got 0 frames, expected at least 1; get the file again")


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("baseline", "3D_positions: got shape (51, 4), expected (96, frames)"),
        ("official", "Pose: got shape (1, 4, 51), expected (1, frames, 96)"),
        ("videopose3d", "poses: got shape (4, 17, 3), expected (frames, 32, 3)"),
    ],
)
def test_other_joints(files, tmp_path, layout, message):
    _write(files, layout, tmp_path, np.ones((4, 17, 3)))
    _refused(layout, tmp_path, f"{message}; get the file again")


def _write_positions(files, folder, poses):
    files.write_npz(folder / "data_3d_h36m.npz", positions_3d={"S9": {"Walking 2": poses}})


@pytest.mark.parametrize(
    ("poses", "message"),
    [
        (np.full((4, 32, 3), "1"), "poses: got <U1, expected numbers"),
        (np.full((4, 32, 3), 1j), "poses: got complex128, expected numbers"),
        (np.full((4, 32, 3), True), "poses: got bool, expected numbers"),
        (np.full((4, 32, 3), None), "poses: got object, expected numbers"),
        ([[[1.0, 2.0, 3.0]] * 32] * 4, "poses: got list, expected an array"),
        (1.5, "poses: got float, expected an array"),
        (None, "poses: got NoneType, expected an array"),
        (np.ones((4, 96)), "poses: got shape (4, 96), expected (frames, 32, 3)"),
        (np.ones(()), "poses: got shape (), expected (frames, 32, 3)"),
    ],
)
def test_poses_of_another_kind(files, tmp_path, poses, message):
    _write_positions(files, tmp_path, poses)
    _refused("videopose3d", tmp_path, f"{message}; get the file again")


@pytest.mark.parametrize(
    "positions",
    [{1: {"Walking": 0}}, {"S9": {1: 0}}, {"S9": {("Walking", 1): 0}}, {"S9": [1]}, [1], None],
)
def test_positions_of_another_kind(files, tmp_path, positions):
    files.write_npz(tmp_path / "data_3d_h36m.npz", positions_3d=positions)
    layout = layouts.find_layout(tmp_path)
    message = f"{tmp_path}/data_3d_h36m.npz: "
    with pytest.raises(UserError, match=f"^{re.escape(message)}") as caught:
        layout.index()
    told = str(caught.value).removeprefix(message)
    assert told in (
        "'positions_3d': expected a dict of subjects of dicts of recordings; get the file again",
        "positions_3d.npy: refused to unpickle: it has tuples as keys; expected NumPy arrays and "
        "plain containers",
    )


@pytest.mark.parametrize(
    ("subject", "name", "message"),
    [
        ("S2", "Walking", "subject: got 'S2', expected one of S1, S5, S6, S7, S8, S9, S11; remove"),
        ("S9", "Walk\n;", "sequence name: got 'Walk\\n;', expected an action and perhaps a number"),
    ],
)
def test_names_that_cannot_be(files, tmp_path, subject, name, message):
    files.write_npz(tmp_path / "data_3d_h36m.npz", positions_3d={subject: {name: np.ones(3)}})
    origin = f"{tmp_path}/data_3d_h36m.npz: positions_3d[{subject!r}][{name!r}]: "
    with pytest.raises(UserError, match=f"^{re.escape(origin + message)}"):
        layouts.find_layout(tmp_path).index()


def test_spaces_of_every_kind_in_a_name(files, tmp_path):
    poses = np.ones((2, 32, 3), np.float32)
    files.write_npz(tmp_path / "data_3d_h36m.npz", positions_3d={"S9": {"Walking\n'1": poses}})
    with pytest.raises(UserError, match="sequence name"):
        layouts.find_layout(tmp_path).index()
    files.write_npz(tmp_path / "data_3d_h36m.npz", positions_3d={"S9": {"Walking\t1": poses}})
    layout = layouts.find_layout(tmp_path)
    (record,) = layout.index()
    assert str(record.name) == "Walking 1"
    np.testing.assert_array_equal(layout.read(record), 1000 * poses)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_joints_behind_a_camera_stop_the_build(files, manual, make, layout):
    """Cameras are 5 m from the origin and look at it: 9 m to one side is behind some of them."""
    poses = np.zeros((4, 32, 3))
    poses[3, 5] = 0.0, 9000.0, 0.0
    _write(files, layout, manual, poses)
    if layout == "videopose3d":
        files.write_layout("videopose3d", manual)
        positions = {subject: {} for subject in files.RECORDINGS}
        for subject, name in files.every():
            positions[subject][name] = files.poses_of(subject, name) / np.float32(1000.0)
        positions["S9"]["Walking 2"] = (poses / 1000.0).astype(np.float32)
        files.write_npz(manual / "data_3d_h36m.npz", positions_3d=positions)
    with pytest.raises(UserError) as caught:
        make(data=layout).prepare()
    assert re.fullmatch(
        re.escape(ORIGINS[layout].format(manual))
        + r"poses: frame 3, joint 5 has depth -\d{4} mm in camera (54138969|58860488), expected "
        r"more than 0; get poses and cameras again that belong together",
        str(caught.value),
    )


HOURGLASS = "S9/StackedHourglass/Walking_2.54138969.h5"


def _read_2d(found):
    with contextlib.closing(found):
        found.load()
        return found.read(("S9", "Walking 2", "54138969"), frames=3)


def _write_2d(files, kind, folder, keypoints):
    """Writes detections of an archive, and returns them with what messages call them."""
    if kind == "npz":
        path = folder / "data_2d_h36m_x.npz"
        views = [keypoints] + [np.ones((3, 17, 2))] * 3
        files.write_npz(
            path, positions_2d={"S9": {"Walking 2": views}}, metadata=files.H36M_METADATA
        )
        origin = f"{path}: positions_2d['S9']['Walking 2'][0]: "
        return detections.find_detections(folder, "x"), origin
    data = files.h5_bytes(poses=keypoints)
    if kind == "tree":
        files.write_tree(folder, {HOURGLASS: data})
        origin = f"{folder}: {HOURGLASS}: "
    elif kind == "tar":
        files.write_tar(folder / "stacked_hourglass.tar.gz", {HOURGLASS: data})
        origin = f"{folder}/stacked_hourglass.tar.gz: {HOURGLASS}: "
    else:
        files.write_zip(folder / "h36m.zip", {HOURGLASS: data})
        origin = f"{folder}/h36m.zip: h36m/{HOURGLASS}: "
    return detections.find_hourglass(folder, "hourglass"), origin


@pytest.mark.parametrize("kind", ["npz", "tree", "tar", "zip"])
@pytest.mark.parametrize(
    ("frames", "spoil", "message"),
    [
        (2, None, "got 2 frames, expected at least the 3 of the poses and at most 109"),
        (0, None, "got 0 frames, expected at least the 3 of the poses and at most 109"),
        (110, None, "got 110 frames, expected at least the 3 of the poses and at most 109"),
        (109, (1, np.nan), "frame 1 is not finite (1 of 3 frames)"),
        (3, (2, 1e39), "frame 2 is not finite (1 of 3 frames)"),
        (109, (3, np.nan), None),
    ],
)
def test_keypoints(files, tmp_path, kind, frames, spoil, message):
    joints = 17 if kind == "npz" else 16
    keypoints = np.ones((frames, joints, 2))
    if spoil:
        keypoints[spoil[0], 7, 1] = spoil[1]
    found, origin = _write_2d(files, kind, tmp_path, keypoints)
    if message is None:
        np.testing.assert_array_equal(_read_2d(found), np.ones((3, joints, 2)))
        return
    expected = f"{origin}keypoints: {message}; get the file again"
    with pytest.raises(UserError, match=f"^{re.escape(expected)}$"):
        _read_2d(found)


@pytest.mark.parametrize("kind", ["npz", "tree", "tar", "zip"])
def test_keypoints_of_other_joints(files, tmp_path, kind):
    found, origin = _write_2d(files, kind, tmp_path, np.ones((3, 15, 2)))
    joints = 17 if kind == "npz" else 16
    message = f"keypoints: got shape (3, 15, 2), expected (frames, {joints}, 2); get the file again"
    with pytest.raises(UserError, match=f"^{re.escape(origin + message)}$"):
        _read_2d(found)


@pytest.mark.parametrize(
    ("view", "message"),
    [
        ([[[1.0, 2.0]] * 17] * 3, "keypoints: got list, expected an array; get the file again"),
        (None, "keypoints: got NoneType, expected an array; get the file again"),
        (np.full((3, 17, 2), "1"), "keypoints: got <U1, expected numbers; get the file again"),
    ],
)
def test_keypoints_of_another_kind(files, tmp_path, view, message):
    found, origin = _write_2d(files, "npz", tmp_path, view)
    with pytest.raises(UserError, match=f"^{re.escape(origin + message)}$"):
        _read_2d(found)


@pytest.mark.parametrize("views", [None, 4, "abcd", {0: 1, 1: 2, 2: 3, 3: 4}, np.float64(1)])
def test_views_of_another_kind(files, tmp_path, views):
    path = tmp_path / "data_2d_h36m_x.npz"
    files.write_npz(path, positions_2d={"S9": {"Eating": views}}, metadata=files.H36M_METADATA)
    message = f"{path}: positions_2d['S9']['Eating']: got 0 cameras, expected 4; get the file again"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        detections.find_detections(tmp_path, "x").load()


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"keypoints_symmetry": 5}, "cannot be read: 'int' object is not iterable"),
        ({"keypoints_symmetry": [["a"], [1]]}, "cannot be read: invalid literal for int()"),
        ({"num_joints": np.arange(2)}, "cannot be read: The truth value of an array"),
    ],
)
def test_metadata_of_another_kind(files, tmp_path, metadata, reason):
    path = tmp_path / "data_2d_h36m_x.npz"
    files.write_npz(path, positions_2d={}, metadata=metadata)
    with pytest.raises(UserError, match=f"^{re.escape(f'{path}: metadata: {reason}')}"):
        detections.find_detections(tmp_path, "x").load()


def test_a_list_of_lists_of_itself_is_not_printed(files, tmp_path):
    nested = []
    for _ in range(60):
        nested = [nested, nested]  # 2**60 brackets
    path = tmp_path / "data_2d_h36m_x.npz"
    files.write_npz(path, positions_2d={}, metadata={"layout_name": nested})
    with pytest.raises(UserError, match=r"metadata: got layout_name \[\[") as caught:
        detections.find_detections(tmp_path, "x").load()
    assert len(str(caught.value)) < 1000
