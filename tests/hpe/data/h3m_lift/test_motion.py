import numpy as np
import pytest

from ige.hpe.data.h3m_lift import body, motion
from ige.hpe.data.h3m_lift.names import FRAME_RATE

SECONDS = np.arange(300) / FRAME_RATE


@pytest.mark.parametrize("step", [motion.minimum_jerk, motion.smooth_step])
def test_a_step_goes_from_rest_to_rest(step):
    assert step(np.array([-1.0, 0.0, 0.5, 1.0, 2.0])).tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]
    x = np.linspace(0.0, 1.0, 10_001)
    slope = np.gradient(step(x), x)
    assert slope.min() >= 0.0
    assert slope[[0, -1]] == pytest.approx([0.0, 0.0], abs=1e-3)


def test_peak_speed_of_a_minimum_jerk_move():
    # The derivative of 10 x^3 - 15 x^4 + 6 x^5 is 30 x^2 (1 - x)^2: 30 / 16 in the middle.
    x = np.linspace(0.0, 1.0, 10_001)
    assert np.gradient(motion.minimum_jerk(x), x).max() == pytest.approx(1.875, abs=1e-4)


def test_bump():
    # At a quarter: (4 * 1/4 * 3/4)^3 = 27 / 64.
    x = np.array([-0.1, 0.0, 0.25, 0.5, 0.75, 1.0, 1.1])
    assert motion.bump(x).tolist() == [0.0, 0.0, 27 / 64, 1.0, 27 / 64, 0.0, 0.0]


def test_keyframes_visit_every_value_in_turn():
    values = np.array([[0.0, 5.0], [2.0, 5.0], [-4.0, 9.0]])
    t = np.array([0.0, 1.0, 1.5, 2.0, 2.9, 3.0, 3.25, 3.5, 9.0])
    track = motion.keyframes(t, np.array([1.0, 3.0]), np.array([1.0, 0.5]), values)
    expected = [[0, 5], [0, 5], [1, 5], [2, 5], [2, 5], [2, 5], [-1, 7], [-4, 9], [-4, 9]]
    np.testing.assert_allclose(track, expected, atol=1e-12)


def test_keyframes_without_moves_stay():
    track = motion.keyframes(SECONDS, np.zeros(0), 1.0, np.array([[3.0, 4.0]]))
    np.testing.assert_array_equal(track, np.tile([3.0, 4.0], (300, 1)))


def test_wander_stays_within_its_amplitude_and_band(rng):
    signal = motion.wander(rng, SECONDS, 5.0, 0.5, 2.0)
    assert 0.5 < np.ptp(signal) <= 10.0
    # A tone of 2 Hz and amplitude 5 is never faster than 2 pi * 2 * 5.
    assert np.abs(np.gradient(signal, SECONDS)).max() <= 2.0 * np.pi * 2.0 * 5.0


def test_event_times_cover_the_recording_with_gaps_in_range(rng):
    for _ in range(50):
        times = motion.event_times(rng, SECONDS, 0.7, 1.9)
        assert times[0] <= -1.0
        assert times[-1] + 1.9 >= SECONDS[-1]
        assert np.all((np.diff(times) >= 0.7) & (np.diff(times) <= 1.9))


def test_arm_track_visits_the_keys(rng):
    keys = ((0.0,) * 6, (60.0,) * 6)
    track = motion.arm_track(rng, SECONDS, keys, (1.0, 1.5))
    assert track.shape == (300, 6)
    assert track[:, 0].min() < 20.0
    assert track[:, 0].max() > 40.0


def test_a_step_of_the_foot_stands_flat_lifts_and_stands_flat():
    build = body.BUILDS["S9"]
    places = np.array([[0.0, 0.0, 0.0], [600.0, 100.0, 30.0]])
    foot = motion.step_foot(build, SECONDS, np.array([2.0]), 0.5, places, lift=60.0, roll=20.0)
    before, after = SECONDS < 2.0, SECONDS > 2.5
    np.testing.assert_allclose(foot.ball[before, :2], 0.0, atol=1e-9)
    np.testing.assert_allclose(foot.ball[after, :2] - [600.0, 100.0], 0.0, atol=1e-9)
    assert foot.ball[before, 2] == pytest.approx(motion.ball_height(build))
    assert foot.ball[:, 2].max() > motion.ball_height(build) + 59.0
    assert foot.yaw[[0, -1]] == pytest.approx([0.0, 30.0])
    assert foot.pitch[[0, -1]] == pytest.approx([0.0, 0.0])
    assert foot.pitch.max() > 10.0  # heel first up,
    assert foot.pitch.min() < -5.0  # then first down


def test_standing_without_turns_keeps_the_feet_in_place(rng):
    stood = motion.stand(rng, body.BUILDS["S9"], SECONDS, turn=0.0)
    for foot in stood.feet:
        assert np.ptp(foot.ball, axis=0) == pytest.approx([0.0, 0.0, 0.0], abs=1e-9)
        assert np.ptp(foot.yaw) == pytest.approx(0.0, abs=1e-9)


def test_strolling_plants_one_foot_after_the_other(rng):
    build = body.BUILDS["S7"]
    walk = motion.stroll(rng, build, SECONDS, 1.1)
    moving = []
    for foot in walk.feet:
        speed = np.linalg.norm(np.gradient(foot.ball[:, :2], SECONDS, axis=0), axis=-1)
        assert np.mean(speed < 1.0) > 0.45  # mm/s: a foot stands for more than half of a stride
        assert speed.max() > 2000.0
        moving.append(speed > 50.0)
    assert not np.any(moving[0] & moving[1])  # walking, not running
    travelled = np.linalg.norm(np.diff(walk.root, axis=0), axis=-1).sum() / SECONDS[-1]
    assert 0.9 < travelled / 1100.0 < 1.15


def test_a_stroller_faces_where_the_walk_goes(rng):
    walk = motion.stroll(rng, body.BUILDS["S5"], SECONDS, 1.0)
    velocity = np.gradient(walk.root, SECONDS, axis=0)
    angle = np.radians(walk.heading)
    facing = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    ahead = np.sum(velocity * facing, axis=-1) / np.linalg.norm(velocity, axis=-1)
    assert ahead.min() > np.cos(np.radians(35.0))
