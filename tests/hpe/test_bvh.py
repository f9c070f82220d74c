import re

import bvhio
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ige.errors import UserError
from ige.hpe.bvh import bvh_motion, rigid, write_bvh
from ige.hpe.skeleton import SKELETONS, Skeleton, convert, flip, get_skeleton

H36M_17 = get_skeleton("h36m_17")

# z up, facing -y, so that the left is at +x.
T_POSE = {
    "pelvis": (0.0, 0.0, 1.0),
    "right_hip": (-0.1, 0.0, 1.0),
    "right_knee": (-0.1, 0.0, 0.5),
    "right_ankle": (-0.1, 0.0, 0.1),
    "left_hip": (0.1, 0.0, 1.0),
    "left_knee": (0.1, 0.0, 0.5),
    "left_ankle": (0.1, 0.0, 0.1),
    "spine": (0.0, 0.0, 1.2),
    "thorax": (0.0, 0.0, 1.5),
    "nose": (0.0, 0.0, 1.6),
    "head_top": (0.0, 0.0, 1.7),
    "left_shoulder": (0.2, 0.0, 1.5),
    "left_elbow": (0.5, 0.0, 1.5),
    "left_wrist": (0.8, 0.0, 1.5),
    "right_shoulder": (-0.2, 0.0, 1.5),
    "right_elbow": (-0.5, 0.0, 1.5),
    "right_wrist": (-0.8, 0.0, 1.5),
}


def posed(**moved):
    """Returns the T-pose (17, 3) with some joints elsewhere."""
    return np.array([moved.get(joint, place) for joint, place in T_POSE.items()])


def read(path, frames):
    """Returns joint -> places (frames, 3), z up, by the forward kinematics of bvhio."""
    root = bvhio.readAsHierarchy(str(path))
    places = {joint.Name: [] for joint, _, _ in root.layout()}
    for frame in frames:
        root.loadPose(frame)
        for joint, _, _ in root.layout():
            x, y, z = joint.PositionWorld
            places[joint.Name].append((x, -z, y))
    return {name: np.array(place) for name, place in places.items()}


def channels(path):
    """Returns "joint.channel" -> values (frames,) as they stand in the file."""
    head, motion = path.read_text().split("MOTION\n")
    names = []
    for joint, listed in re.findall(r"(?:ROOT|JOINT) (\w+)\s+{\s+OFFSET.*\s+CHANNELS \d(.*)", head):
        names += [f"{joint}.{channel}" for channel in listed.split()]
    rows = [[float(value) for value in row.split()] for row in motion.splitlines()[2:]]
    return dict(zip(names, np.array(rows).T, strict=True))


def turned(path):
    """Returns the rotations of the only frame of a file that are not 0, in degrees."""
    return {
        name: pytest.approx(value[0], abs=1e-3)
        for name, value in channels(path).items()
        if name.endswith("rotation") and abs(value[0]) > 1e-3
    }


def assert_reads_back(path, poses, skeleton):
    write_bvh(path, poses, skeleton, 50)
    expected, skeleton = bvh_motion(poses, skeleton)
    found = read(path, range(len(poses)))
    for i, joint in enumerate(skeleton.joints):
        np.testing.assert_allclose(found[joint], expected[:, i], atol=1e-4, err_msg=joint)
    return found


def test_t_pose_is_the_rest_pose(tmp_path):
    write_bvh(tmp_path / "a.bvh", posed()[np.newaxis], H36M_17, 50)
    assert turned(tmp_path / "a.bvh") == {}
    text = (tmp_path / "a.bvh").read_text()
    assert re.search(r"JOINT left_knee\s+{\s+OFFSET 0.000000 -0.500000 0.000000\n", text)
    assert "MOTION\nFrames: 1\nFrame Time: 0.02\n0.000000 1.000000 " in text


@pytest.mark.parametrize(
    ("moved", "expected"),
    [
        # The left forearm to the front: +x to +z of the file, about y.
        ({"left_wrist": (0.5, -0.3, 1.5)}, {"left_elbow.Yrotation": -90}),
        # The right forearm up: -x to +y of the file, about z.
        ({"right_wrist": (-0.5, 0.0, 1.8)}, {"right_elbow.Zrotation": -90}),
        # The left heel to the back: -y to -z of the file, about x.
        ({"left_ankle": (0.1, 0.4, 0.5)}, {"left_knee.Xrotation": 90}),
        # The whole left arm to the front.
        (
            {"left_elbow": (0.2, -0.3, 1.5), "left_wrist": (0.2, -0.6, 1.5)},
            {"left_shoulder.Yrotation": -90},
        ),
        # The left shoulder shrugged right up. The shoulders still face the same way, and so does
        # the chest.
        (
            {
                "left_shoulder": (0.0, 0.0, 1.7),
                "left_elbow": (0.3, 0.0, 1.7),
                "left_wrist": (0.6, 0.0, 1.7),
            },
            {"left_clavicle.Zrotation": 90, "left_shoulder.Zrotation": -90},
        ),
        # A forearm folded onto the upper arm, half a turn.
        ({"left_wrist": (0.2, 0.0, 1.5)}, {"left_elbow.Yrotation": 180}),
    ],
)
def test_a_bent_joint_turns_alone(tmp_path, moved, expected):
    write_bvh(tmp_path / "a.bvh", posed(**moved)[np.newaxis], H36M_17, 50)
    assert turned(tmp_path / "a.bvh") == expected


def test_a_turn_of_the_body_turns_the_pelvis_alone(tmp_path):
    # To its left: from facing -y to facing +x.
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    write_bvh(tmp_path / "a.bvh", (posed() @ turn.T)[np.newaxis], H36M_17, 50)
    assert turned(tmp_path / "a.bvh") == {"pelvis.Yrotation": 90}


def test_a_twist_of_the_chest_is_in_the_spine(tmp_path):
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    pose = posed()
    above = [i for i, (_, _, z) in enumerate(T_POSE.values()) if z >= 1.5]
    pose[above] = pose[above] @ turn.T
    write_bvh(tmp_path / "a.bvh", pose[np.newaxis], H36M_17, 50)
    assert turned(tmp_path / "a.bvh") == {"spine.Yrotation": 90}


# On a grid of so few places, joints that coincide and bones that fold back are the rule.
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(poses=arrays(np.float64, (2, 17, 3), elements=st.sampled_from([-1.0, 0.0, 1.0])))
def test_degenerate_poses_read_back(tmp_path_factory, poses):
    assert_reads_back(tmp_path_factory.mktemp("bvh") / "a.bvh", poses, H36M_17)


def test_poses_in_one_point_read_back(tmp_path):
    found = assert_reads_back(tmp_path / "a.bvh", np.ones((2, 17, 3)), H36M_17)
    assert all((places == 1).all() for places in found.values())


@pytest.mark.parametrize("name", SKELETONS)
def test_any_skeleton_reads_back(tmp_path, rng, name):
    skeleton = get_skeleton(name)
    poses = rng.normal(size=(4, skeleton.num_joints, 3))
    found = assert_reads_back(tmp_path / "a.bvh", poses, skeleton)
    middle = np.mean([found[joint] for joint in H36M_17.joints], axis=0)
    expected = convert(poses, skeleton, H36M_17).mean(axis=1)
    np.testing.assert_allclose(middle, expected, atol=1e-5)


def test_a_mirrored_motion_mirrors_its_rotations(tmp_path, rng):
    poses = posed() + rng.normal(size=(3, 17, 3), scale=0.05)
    write_bvh(tmp_path / "a.bvh", poses, H36M_17, 50)
    write_bvh(tmp_path / "b.bvh", flip(poses, H36M_17), H36M_17, 50)
    one, other = channels(tmp_path / "a.bvh"), channels(tmp_path / "b.bvh")
    swap = {"left": "right", "right": "left"}
    for name, values in one.items():
        side, _, rest = name.partition("_")
        sign = -1 if name.endswith(("Xposition", "Yrotation", "Zrotation")) else 1
        mirrored = f"{swap[side]}_{rest}" if side in swap else name
        np.testing.assert_allclose(other[mirrored], sign * values, atol=1e-3, err_msg=name)


def test_turning_round_never_jumps_back(tmp_path):
    angles = np.radians(np.arange(0, 1081, 20))
    turns = np.zeros((len(angles), 3, 3))
    turns[:, 0, 0] = turns[:, 1, 1] = np.cos(angles)
    turns[:, 1, 0], turns[:, 0, 1] = np.sin(angles), -np.sin(angles)
    turns[:, 2, 2] = 1
    write_bvh(tmp_path / "a.bvh", posed() @ turns.swapaxes(1, 2), H36M_17, 50)
    found = channels(tmp_path / "a.bvh")
    np.testing.assert_allclose(found["pelvis.Yrotation"], np.arange(0, 1081, 20), atol=1e-3)


def test_a_knee_bends_past_a_right_angle_about_one_axis(tmp_path):
    degrees = np.arange(5, 150, 10)
    ankles = [(0.1, 0.4 * np.sin(a), 0.5 - 0.4 * np.cos(a)) for a in np.radians(degrees)]
    poses = np.stack([posed(left_ankle=ankle) for ankle in ankles])
    write_bvh(tmp_path / "a.bvh", poses, H36M_17, 50)
    found = channels(tmp_path / "a.bvh")
    np.testing.assert_allclose(found["left_knee.Xrotation"], degrees, atol=1e-3)
    np.testing.assert_allclose(found["left_knee.Yrotation"], 0, atol=1e-3)
    np.testing.assert_allclose(found["left_knee.Zrotation"], 0, atol=1e-3)


# A parent after its children, as in h36m_16.
FORK = Skeleton("fork", ("left_end", "right_end", "middle", "root"), (2, 2, 3, -1))


def fork(left, right, middle=(0, 0, 1)):
    return np.array([left, right, middle, (0, 0, 0)], np.float64)


def test_rigid_takes_the_median():
    poses = np.stack(
        [
            fork((2, 0, 1), (-4, 0, 1)),
            fork((3, 0, 1), (0, 3, 1)),
            fork((0, 9, 2), (-5, 0, 2), middle=(0, 0, 2)),
        ]
    )
    # Middle: median of 1, 1, 2. Ends: medians of 2, 3, 9 and of 4, 3, 5.
    expected = [
        fork((3, 0, 1), (-4, 0, 1)),
        fork((3, 0, 1), (0, 4, 1)),
        fork((0, 3, 1), (-4, 0, 1)),
    ]
    np.testing.assert_allclose(rigid(poses, FORK), expected, atol=1e-12)
    np.testing.assert_allclose(rigid(rigid(poses, FORK), FORK), expected, atol=1e-12)


def test_rigid_fills_in_directions():
    gone = fork((0, 0, 1), (0, 0, 1))
    left, right = fork((2, 0, 1), (0, 0, 1)), fork((0, 2, 1), (0, 0, 1))
    poses = np.stack([gone, left, gone, right, right])
    found = rigid(poses, FORK)
    np.testing.assert_allclose(found, np.stack([left, left, left, right, right]), atol=1e-12)


def test_frame_rate_and_precision(tmp_path):
    write_bvh(tmp_path / "a.bvh", posed()[np.newaxis].repeat(2, axis=0) + 123.456, H36M_17, 29.97)
    assert bvhio.readAsBvh(str(tmp_path / "a.bvh")).FrameTime == pytest.approx(1 / 29.97)
    assert channels(tmp_path / "a.bvh")["pelvis.Zposition"] == pytest.approx([-123.456] * 2)


def test_many_frames_are_all_written(tmp_path):
    poses = posed() + np.arange(2001)[:, np.newaxis, np.newaxis]
    write_bvh(tmp_path / "a.bvh", poses, H36M_17, 50)
    np.testing.assert_array_equal(channels(tmp_path / "a.bvh")["pelvis.Xposition"], range(2001))


def with_nan():
    poses = np.stack([posed()] * 3)
    poses[1, 4, 2] = np.nan
    return poses


@pytest.mark.parametrize(
    ("poses", "skeleton", "frame_rate", "message"),
    [
        (
            np.zeros((2, 17, 2)),
            "h36m_17",
            50,
            "poses: got shape (2, 17, 2), expected (frames, 17, 3), with at least one frame, of "
            "skeleton h36m_17",
        ),
        (
            np.zeros((0, 17, 3)),
            "h36m_17",
            50,
            "poses: got shape (0, 17, 3), expected (frames, 17, 3), with at least one frame, of "
            "skeleton h36m_17",
        ),
        (
            np.zeros((2, 17, 3)),
            "h36m_16",
            50,
            "poses: got shape (2, 17, 3), expected (frames, 16, 3), with at least one frame, of "
            "skeleton h36m_16",
        ),
        (
            with_nan(),
            "h36m_17",
            50,
            "poses: got NaN or infinity in frame 1, expected metres; leave out or fill in the "
            "frames without a pose",
        ),
        (
            np.zeros((2, 17, 3)),
            "h36m_17",
            0,
            "frame_rate: got 0, expected frames per second, above 0",
        ),
    ],
)
def test_refusals(tmp_path, poses, skeleton, frame_rate, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        write_bvh(tmp_path / "a.bvh", poses, get_skeleton(skeleton), frame_rate)
    assert not list(tmp_path.iterdir())


@pytest.mark.real_data
def test_recorded_people_read_back_where_they_were(real_data, tmp_path):
    """The bones of these vary by less than 2.5 mm, so the file loses little at a joint."""
    archive = np.load(real_data / "h3m" / "data_3d_h36m.npz", allow_pickle=True)
    checked = 0
    for actions in archive["positions_3d"].item().values():
        for poses in actions.values():
            poses = convert(poses.astype(np.float64), get_skeleton("h36m_32"), H36M_17)
            children, parents = np.transpose(H36M_17.bones)
            lengths = np.linalg.norm(poses[:, children] - poses[:, parents], axis=-1)
            if np.abs(lengths - np.median(lengths, axis=0)).max() > 0.0025:
                continue
            write_bvh(tmp_path / "a.bvh", poses, H36M_17, 50)
            found = read(tmp_path / "a.bvh", range(0, len(poses), 10))
            for i, joint in enumerate(H36M_17.joints):
                distances = np.linalg.norm(found[joint] - poses[::10, i], axis=-1)
                assert distances.max() < 0.005, joint
            checked += 1
    assert checked >= 8
