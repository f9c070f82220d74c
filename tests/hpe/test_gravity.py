import re

import numpy as np
import pytest

from ige.errors import UserError
from ige.hpe.gravity import camera_to_upright, place_on_ground
from ige.hpe.skeleton import convert, get_skeleton

H36M_17 = get_skeleton("h36m_17")

# Metres in the frame of a level camera: x right, y down, z forward.
STANDING = {
    "pelvis": (0.0, -0.9, 4.0),
    "right_hip": (-0.1, -0.9, 4.0),
    "right_knee": (-0.1, -0.5, 4.0),
    "right_ankle": (-0.1, -0.1, 4.0),
    "left_hip": (0.1, -0.9, 4.0),
    "left_knee": (0.1, -0.5, 4.0),
    "left_ankle": (0.1, -0.1, 4.0),
    "spine": (0.0, -1.1, 4.0),
    "thorax": (0.0, -1.4, 4.0),
    "nose": (0.0, -1.5, 3.9),
    "head_top": (0.0, -1.6, 4.0),
    "left_shoulder": (0.2, -1.4, 4.0),
    "left_elbow": (0.2, -1.1, 4.0),
    "left_wrist": (0.2, -0.8, 4.0),
    "right_shoulder": (-0.2, -1.4, 4.0),
    "right_elbow": (-0.2, -1.1, 4.0),
    "right_wrist": (-0.2, -0.8, 4.0),
}


def person(frames=20, **moved):
    """Returns someone who stands for some frames (frames, 17, 3), some joints elsewhere."""
    pose = [moved.get(joint, place) for joint, place in STANDING.items()]
    return np.repeat(np.array(pose)[np.newaxis], frames, axis=0)


def sitting(frames=20):
    """Thighs to the front, shanks down: the knees are 0.4 m before the hips."""
    return person(
        frames,
        **{f"{side}_knee": (x, -0.9, 3.6) for side, x in (("right", -0.1), ("left", 0.1))},
        **{f"{side}_ankle": (x, -0.5, 3.6) for side, x in (("right", -0.1), ("left", 0.1))},
    )


def test_a_level_camera():
    rotation, note = camera_to_upright(person(), H36M_17, pitch=0)
    right, down, forward = np.eye(3)
    np.testing.assert_allclose(rotation @ right, [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(rotation @ down, [0, 0, -1], atol=1e-12)
    np.testing.assert_allclose(rotation @ forward, [0, 1, 0], atol=1e-12)
    assert note == "camera looks 0.0° down, turned 0.0° clockwise, as given"


@pytest.mark.parametrize(
    ("pitch", "roll", "camera", "upright"),
    [
        # What the camera looks at is ahead and below.
        (30, None, (0, 0, 2), (0, 3**0.5, -1)),
        (-30, None, (0, 0, 2), (0, 3**0.5, 1)),
        (90, None, (0, 0, 1), (0, 0, -1)),
        # Its right side is below, its lower side at the left.
        (None, 30, (2, 0, 0), (3**0.5, 0, -1)),
        (None, 90, (0, 1, 0), (-1, 0, 0)),
        # The roll is about where it looks.
        (30, 90, (0, 0, 2), (0, 3**0.5, -1)),
        (30, 90, (2, 0, 0), (0, -1, -(3**0.5))),
    ],
)
def test_given_angles(pitch, roll, camera, upright):
    rotation, _ = camera_to_upright(person(), H36M_17, pitch, roll)
    np.testing.assert_allclose(rotation @ camera, upright, atol=1e-12)


def seen_by(pitch, roll, poses):
    """Returns the poses that a level camera sees as one held like this sees them, and its rotation.

    From the level to the upright frame, then to that of the camera: rotations that
    `test_given_angles` has checked.
    """
    level, _ = camera_to_upright(person(), H36M_17, 0, 0)
    held, _ = camera_to_upright(person(), H36M_17, pitch, roll)
    return poses @ level.T @ held, held


@pytest.mark.parametrize(("pitch", "roll"), [(0, 0), (15, 0), (-20, 0), (0, 10), (25, -8)])
def test_who_stands_shows_how_the_camera_is_held(pitch, roll):
    poses, held = seen_by(pitch, roll, person())
    rotation, _ = camera_to_upright(poses, H36M_17)
    np.testing.assert_allclose(rotation, held, atol=1e-6)


@pytest.mark.parametrize("name", ["h36m_16", "h36m_14", "martinez_16", "mpii_16"])
def test_any_skeleton_with_legs_and_trunk(name):
    poses, held = seen_by(15, 5, person())
    skeleton = get_skeleton(name)
    rotation, _ = camera_to_upright(convert(poses, H36M_17, skeleton), skeleton)
    np.testing.assert_allclose(rotation, held, atol=1e-6)


def test_who_sits_or_falls_is_left_out():
    fallen = seen_by(0, 80, person(30))[0]
    poses = np.concatenate([sitting(100), person(20), fallen])
    poses, held = seen_by(12, -3, poses)
    rotation, note = camera_to_upright(poses, H36M_17)
    np.testing.assert_allclose(rotation, held, atol=1e-6)
    assert note == (
        "camera looks 12.0° down, turned 3.0° anticlockwise, as the person stands in 20 of 150 "
        "frames"
    )


def test_failed_poses_do_not_matter(rng):
    poses, held = seen_by(-10, 4, person(200))
    poses[:40] = rng.normal(size=(40, 17, 3))
    poses[40:50] = 0
    rotation, note = camera_to_upright(poses, H36M_17)
    np.testing.assert_allclose(rotation, held, atol=1e-6)
    assert note.startswith("camera looks 10.0° up, turned 4.0° clockwise, as the person stands in ")


@pytest.mark.parametrize("poses", [sitting(), person(9), np.zeros((20, 17, 3))])
def test_too_few_frames_to_tell(poses):
    rotation, note = camera_to_upright(poses, H36M_17)
    np.testing.assert_array_equal(rotation, camera_to_upright(poses, H36M_17, 0, 0)[0])
    stands = 9 if len(poses) == 9 else 0
    assert note == (
        f"camera taken as level: the person stands upright in {stands} of {len(poses)} frames, too "
        "few to tell; give pitch and roll if it is not"
    )


@pytest.mark.parametrize(
    ("pitch", "roll", "message"),
    [
        (91, None, "pitch: got 91, expected degrees from -90 to 90"),
        (None, float("nan"), "roll: got nan, expected degrees from -180 to 180"),
    ],
)
def test_refusals(pitch, roll, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        camera_to_upright(person(), H36M_17, pitch, roll)


def test_the_lowest_foot_is_put_on_the_ground():
    # The lower foot at 0.2 in 90 frames, 5 of a jump, and 4 of poses that failed.
    poses = np.full((99, 2, 3), 0.5)
    poses[:, 1, 2] = 0.2
    poses[90:95] += [0, 0, 0.3]
    poses[95:, 0, 2] = -7
    np.testing.assert_allclose(place_on_ground(poses), [0, 0, -0.2], atol=1e-12)


@pytest.mark.real_data
def test_up_of_recorded_people(real_data):
    """A camera that looks 12 degrees down on walking people, from all sides in turn."""
    archive = np.load(real_data / "h3m" / "data_3d_h36m.npz", allow_pickle=True)
    recorded = archive["positions_3d"].item()
    h36m_32 = get_skeleton("h36m_32")
    errors = []
    for actions in recorded.values():
        world = convert(actions["Walking"].astype(np.float64), h36m_32, H36M_17)
        level, _ = camera_to_upright(person(), H36M_17, 0, 0)
        for heading in np.radians([0, 90, 180, 270]):
            c, s = np.cos(heading), np.sin(heading)
            around = world @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
            poses, held = seen_by(12, 0, around @ level)
            rotation, _ = camera_to_upright(poses, H36M_17)
            errors.append(np.degrees(np.arccos(rotation[2] @ held[2])))
    assert len(errors) >= 20
    assert max(errors) < 3
