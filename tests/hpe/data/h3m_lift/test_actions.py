import numpy as np
import pytest

from ige.hpe.data.h3m_lift.actions import ACTIONS
from ige.hpe.data.h3m_lift.body import BUILDS, LIMITS, pose
from ige.hpe.data.h3m_lift.names import FRAME_RATE

FRAMES = 110


@pytest.fixture(scope="module")
def poses():
    """{(subject, action): (n, 32, 3)}"""
    t = np.arange(FRAMES) / FRAME_RATE
    return {
        (subject, action): pose(build, perform(np.random.default_rng([3, i, j]), build, t))
        for i, (subject, build) in enumerate(BUILDS.items())
        for j, (action, perform) in enumerate(ACTIONS.items())
    }


@pytest.fixture(scope="module")
def everybody(poses):
    """(recordings, n, 32, 3)"""
    return np.stack(list(poses.values()))


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
    # Forward is where the knee points when the turn from thigh to shank is about the left.
    axis = np.cross(thigh, shank)
    axis /= np.linalg.norm(axis, axis=-1, keepdims=True)
    assert np.sum(axis * pelvis_frame(everybody)[1], axis=-1).min() > 0.3


@pytest.mark.parametrize(("hip", "knee", "outward"), [(1, 2, -1.0), (6, 7, 1.0)])
def test_hips_stay_within_their_limits(everybody, hip, knee, outward):
    thigh = everybody[..., knee, :] - everybody[..., hip, :]
    forward, left, up = pelvis_frame(everybody)
    flexion = np.degrees(np.arctan2(np.sum(thigh * forward, axis=-1), -np.sum(thigh * up, axis=-1)))
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
