import numpy as np
import pytest

from ige.hpe.data.h3m_lift import body
from ige.hpe.data.h3m_lift.body import BUILDS, LIMITS, Build, Foot, Motion

FRAMES = 15


def standing(build: Build, heading: float = 0.0, **changes) -> Motion:
    """Somebody at the origin who faces `heading`, with both feet below the hips."""
    angle = np.radians(heading)
    across = build.segment(0.0, 133.0, 0.0, "hips")[1] * np.array([-np.sin(angle), np.cos(angle)])
    ahead = build.segment(149.0, 0.0, 0.0)[0] * np.array([np.cos(angle), np.sin(angle)])
    feet = []
    for side in (1.0, -1.0):
        ball = np.tile([*(side * across + ahead), body.ball_height(build)], (FRAMES, 1))
        feet.append(Foot(ball, np.full(FRAMES, heading), np.zeros(FRAMES)))
    motion = Motion(
        root=np.zeros((FRAMES, 2)),
        heading=np.full(FRAMES, heading),
        tilt=np.zeros((FRAMES, 2)),
        sink=np.zeros(FRAMES),
        low=0.5 * build.leg_length,
        feet=(feet[0], feet[1]),
        spine=np.zeros((FRAMES, 3)),
        neck=np.zeros((FRAMES, 3)),
        arms=(np.zeros((FRAMES, 6)), np.zeros((FRAMES, 6))),
    )
    for name, value in changes.items():
        setattr(motion, name, value)
    return motion


def arms(*angles: float) -> tuple[np.ndarray, np.ndarray]:
    return (np.tile(np.array(angles, float), (FRAMES, 1)),) * 2


@pytest.mark.parametrize("subject", BUILDS)
def test_stature(subject):
    build = BUILDS[subject]
    crown = body.pose(build, standing(build))[0, 15, 2]
    # Knees bent by 10 degrees shorten the legs by about 1 - cos(5 degrees), 3 mm.
    assert crown == pytest.approx(build.stature, abs=10.0)
    assert 1550.0 <= build.stature <= 1950.0


def test_builds_differ():
    assert len({build.stature for build in BUILDS.values()}) == len(BUILDS) == 7


def test_a_body_faces_its_heading_with_left_on_the_left():
    build = BUILDS["S9"]
    pose = body.pose(build, standing(build, arms=arms(0, 5, 0, 30, 0, 0)))[0]
    assert pose[14, 0] > pose[13, 0] + 40.0  # the nose is ahead of the neck,
    assert pose[5, 0] > pose[4, 0] > pose[3, 0]  # toes ahead of the ball, ball of the ankle
    assert pose[2, 0] > max(pose[1, 0], pose[3, 0]) + 10.0  # the knee points forward,
    assert pose[19, 0] > pose[18, 0] + 50.0  # the elbow bends the forearm forward,
    for left, right in [(6, 1), (7, 2), (8, 3), (17, 25), (18, 26), (19, 27)]:
        assert pose[left, 1] > 50.0 > -50.0 > pose[right, 1]
        np.testing.assert_allclose(pose[left] * (1, -1, 1), pose[right], atol=1e-2)


def test_heading_turns_the_whole_body_counter_clockwise():
    build = BUILDS["S8"]
    straight = body.pose(build, standing(build))
    turned = body.pose(build, standing(build, heading=90.0))
    expected = np.stack([-straight[..., 1], straight[..., 0], straight[..., 2]], axis=-1)
    np.testing.assert_allclose(turned, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("angles", "direction"),
    [
        ((90, 0, 0, 5, 0, 0), (1, 0, 0)),
        ((0, 90, 0, 5, 0, 0), (0, 1, 0)),
        ((0, 0, 0, 5, 0, 0), (0, 0, -1)),
        ((-40, 0, 0, 5, 0, 0), (-np.sin(np.radians(40)), 0, -np.cos(np.radians(40)))),
    ],
)
def test_shoulder_angles_of_the_left_arm(angles, direction):
    build = BUILDS["S9"]
    pose = body.pose(build, standing(build, arms=arms(*angles)))[0]
    upper = pose[18] - pose[17]
    np.testing.assert_allclose(upper / np.linalg.norm(upper), direction, atol=0.02)


def test_internal_rotation_brings_the_forearm_before_the_belly():
    build = BUILDS["S9"]
    pose = body.pose(build, standing(build, arms=arms(0, 0, 60, 90, 0, 0)))[0]
    left, right = pose[19] - pose[18], pose[27] - pose[26]
    assert left[1] < -100.0
    assert right[1] > 100.0


@pytest.mark.parametrize(
    ("spine", "axis", "sign"), [((40, 0, 0), 0, 1), ((0, 25, 0), 1, -1), ((-20, 0, 0), 0, -1)]
)
def test_spine_angles(spine, axis, sign):
    build = BUILDS["S9"]
    pose = body.pose(build, standing(build, spine=np.tile(np.array(spine, float), (FRAMES, 1))))[0]
    assert sign * (pose[13] - pose[0])[axis] > 60.0


def test_a_twist_turns_the_shoulders_and_not_the_hips():
    build = BUILDS["S9"]
    pose = body.pose(build, standing(build, spine=np.tile([0.0, 0.0, 30.0], (FRAMES, 1))))[0]
    shoulders, hips = pose[17] - pose[25], pose[6] - pose[1]
    assert np.degrees(np.arctan2(-shoulders[0], shoulders[1])) == pytest.approx(30.0, abs=0.5)
    assert hips[0] == pytest.approx(0.0, abs=1e-2)


def test_sinking_bends_the_knees_and_leaves_the_feet():
    build = BUILDS["S6"]
    low = 0.6 * build.leg_length
    up = body.pose(build, standing(build))
    down = body.pose(build, standing(build, sink=np.ones(FRAMES), low=low))
    np.testing.assert_allclose(down[:, [3, 4, 5, 8, 9, 10]], up[:, [3, 4, 5, 8, 9, 10]], atol=1e-6)
    assert down[:, 0, 2] == pytest.approx(low)
    assert np.all(down[:, 2, 0] > up[:, 2, 0] + 100.0)


def test_a_knee_that_cannot_fold_further_lifts_the_foot_and_keeps_the_bones():
    build = BUILDS["S6"]
    squashed = body.pose(build, standing(build, sink=np.ones(FRAMES), low=100.0))
    for upper, lower, length in [(1, 2, build.thigh), (2, 3, build.shank)]:
        bone = np.linalg.norm(squashed[:, upper] - squashed[:, lower], axis=-1)
        assert bone == pytest.approx(length, abs=1e-6)


def test_legs_are_never_stretched_when_the_feet_are_far_apart():
    build = BUILDS["S6"]
    motion = standing(build)
    motion.feet[0].ball[:, 0] += np.linspace(0.0, 900.0, FRAMES)
    poses = body.pose(build, motion)
    np.testing.assert_allclose(poses[:, 9], motion.feet[0].ball, atol=1e-6)  # the foot is reached
    assert np.ptp(poses[:, 0, 2]) > 100.0  # because the pelvis came down


def test_impossible_angles_are_held_at_their_limits():
    build = BUILDS["S1"]
    for elbow, limit in [(-200.0, LIMITS["elbow_flexion"][0]), (300.0, LIMITS["elbow_flexion"][1])]:
        pose = body.pose(build, standing(build, arms=arms(0, 0, 0, elbow, 0, 0)))[0]
        upper, fore = pose[18] - pose[17], pose[19] - pose[18]
        cosine = upper @ fore / np.linalg.norm(upper) / np.linalg.norm(fore)
        assert np.degrees(np.arccos(cosine)) == pytest.approx(limit, abs=0.1)


def test_soft_clip():
    x = np.linspace(-500.0, 500.0, 1001)
    y = body.soft_clip(x, -30.0, 60.0)
    assert y.min() >= -30.0
    assert y.max() <= 60.0
    assert np.all(np.diff(y) >= 0.0)
    inside = (x > -5.0) & (x < 35.0)
    np.testing.assert_allclose(y[inside], x[inside], atol=0.001)
