"""Procedural motions under the names of Human3.6M's actions.

| action | what the body does |
| --- | --- |
| Directions | points ahead, up, down, aside and across with either arm, and looks there |
| Discussion | talks with both hands, shifts weight, turns the head and at times the body |
| Greeting | waves with one hand or both, salutes, bows |
| Phoning | strolls slowly with one hand at the ear |
| Posing | squats, lunges, spreads and raises the arms, hands on hips |
| Sitting | sits down on a chair, stays, rises |
| SittingDown | sits down on the floor behind the feet, knees up, stays, rises |
| Waiting | steps around on the spot, shifts weight, folds the arms, looks at the watch |
| Walking | walks a closed, uneven loop with swinging arms |
"""

from collections.abc import Callable

import numpy as np

from ige.hpe.data.h3m_lift.body import Build, Motion
from ige.hpe.data.h3m_lift.motion import (
    HANGING,
    Key,
    Time,
    arm_track,
    columns,
    event_times,
    held_arm,
    keyframes,
    stand,
    step_foot,
    stroll,
    wander,
)

# Key postures of an arm, in the order of body.ARM.
_RELAXED: Key = (8, 10, 15, 32, 5, 5)
_ON_HIP: Key = (-32, 50, 41, 90, 20, 30)
_FOLDED: Key = (21, 13, 68, 106, 30, 5)
_CHIN: Key = (45, 2, 32, 135, 40, 25)
_WATCH: Key = (36, 22, 52, 106, 45, 20)
_PHONE: Key = (70, 36, 4, 146, 20, 0)
_POINTING: dict[Key, tuple[float, float]] = {  # and where the head turns: nod, turn to that side
    (84, 6, 0, 8, 60, 5): (0, 5),
    (128, 18, 0, 12, 45, 5): (-18, 12),
    (20, 82, -20, 10, 40, 0): (0, 45),
    (48, 14, 5, 12, 50, 5): (18, 8),
    (72, -22, 25, 22, 60, 5): (2, -30),
    HANGING: (0, 0),
}
_WAVE_HIGH: Key = (25, 92, -85, 70, 10, 0)
_WAVE_LOW: Key = (10, 25, -55, 118, 10, 0)
_SALUTE: Key = (42, 100, -35, 136, 30, 5)
_BEATS: tuple[Key, ...] = (
    (14, 12, 18, 78, 10, 10),
    (34, 20, 0, 98, -10, 5),
    (24, 32, -35, 75, -50, 0),
    (40, 6, 8, 55, 40, 0),
    _RELAXED,
)
_RAISED: Key = (142, 22, 0, 12, 0, 0)
_SPREAD: Key = (8, 88, -10, 8, -10, 0)
_AHEAD: Key = (86, 4, 5, 8, 10, 0)
_ON_THIGH: Key = (18, 9, 22, 52, 40, 10)
_HUG_KNEE: Key = (58, 6, 25, 42, 30, 10)
_PROP: Key = (-54, 27, -15, 32, 20, -55)


def _directions(rng: np.random.Generator, build: Build, t: Time) -> Motion:
    motion = stand(rng, build, t, turn=35.0)
    keys, looks = np.array(list(_POINTING), float), np.array(list(_POINTING.values()), float)
    starts = event_times(rng, t, 1.2, 2.4)
    rest = len(keys) - 1
    chosen = rng.integers(rest, size=len(starts) + 1)
    # One arm points at a time, the other rests: what both do is drawn side by side.
    left = rng.random(len(chosen)) < rng.uniform(0.2, 0.8)
    arms = []
    for own in (left, ~left):
        visits = keys[np.where(own, chosen, rest)]
        visits = visits + rng.normal(size=visits.shape) * (9.0, 7.0, 8.0, 5.0, 8.0, 5.0)
        durations = 0.55 + np.abs(np.diff(visits, axis=0)).max(axis=-1) / 200.0
        arms.append(keyframes(t, starts, durations, visits) + held_arm(rng, t, (0,) * 6))
    motion.arms = (arms[0], arms[1])
    nod, turn = looks[chosen].T * (np.ones_like(left, float), np.where(left, 1.0, -1.0))
    gaze = keyframes(t, starts, 0.8, np.stack([nod, turn], axis=-1))
    motion.neck = 0.4 * motion.neck + columns(gaze[:, 0], 0.0, 0.7 * gaze[:, 1])
    motion.spine += columns(0.15 * gaze[:, 0], 0.0, 0.4 * gaze[:, 1])
    return motion


def _discussion(rng: np.random.Generator, build: Build, t: Time) -> Motion:
    motion = stand(rng, build, t, turn=25.0, sway=60.0)
    arms = []
    for _ in range(2):
        arm = arm_track(rng, t, _BEATS, (0.9, 2.2))
        emphasis = wander(rng, t, rng.uniform(8.0, 24.0), 0.5, 1.4)
        arms.append(arm + emphasis[:, None] * (0.4, 0.0, 0.5, 1.0, 0.0, 0.5))
    motion.arms = (arms[0], arms[1])
    motion.neck = motion.neck * (1.0, 1.0, 1.5)
    motion.spine += columns(wander(rng, t, 5.0, 0.2, 0.6), 0.0, wander(rng, t, 10.0, 0.2, 0.6))
    return motion


def _greeting(rng: np.random.Generator, build: Build, t: Time) -> Motion:
    motion = stand(rng, build, t, turn=40.0)
    starts = event_times(rng, t, 1.4, 2.6)
    pick = rng.integers(4, size=len(starts) + 1)  # wave high, wave low, salute, bow
    both, left = rng.random(len(pick)) < 0.2, rng.random(len(pick)) < rng.uniform(0.2, 0.8)
    keys = np.array((_WAVE_HIGH, _WAVE_LOW, _SALUTE, HANGING), float)
    rate = rng.uniform(1.2, 1.9)
    arms = []
    for own in (left, ~left):
        active = own | both
        visits = np.where(active[:, None], keys[pick], HANGING)
        visits = visits + rng.normal(size=visits.shape) * (7.0, 6.0, 7.0, 6.0, 8.0, 5.0)
        durations = 0.55 + np.abs(np.diff(visits, axis=0)).max(axis=-1) / 200.0
        waves = keyframes(t, starts + 0.4, 0.6, (active & (pick < 2)).astype(float))
        waves = waves * rng.uniform(10.0, 20.0) * np.sin(2.0 * np.pi * rate * t)
        arm = keyframes(t, starts, durations, visits) + held_arm(rng, t, (0,) * 6)
        arms.append(arm + columns(0.0, 0.0, waves, 0.8 * waves, 0.0, 0.0))
    motion.arms = (arms[0], arms[1])
    bow = keyframes(t, starts, 0.9, (pick == 3) * rng.uniform(20.0, 50.0, len(pick)))
    motion.spine += columns(0.7 * bow, 0.0, 0.0)
    motion.tilt += columns(0.4 * bow, 0.0)
    motion.root -= _ahead(motion, 2.5 * bow)
    _let_hang(motion, bow)
    return motion


def _phoning(rng: np.random.Generator, build: Build, t: Time) -> Motion:
    motion = stroll(rng, build, t, rng.uniform(0.45, 0.8))
    arms = list(motion.arms)
    side = int(rng.integers(2))
    arms[side] = held_arm(rng, t, _PHONE)
    if rng.random() < 0.5:
        arms[1 - side] = arm_track(rng, t, (*_BEATS, HANGING, _RELAXED), (1.5, 3.0))
    motion.arms = (arms[0], arms[1])
    motion.neck = 0.6 * motion.neck + columns(8.0, 8.0 if side else -8.0, 0.0)
    return motion


def _posing(rng: np.random.Generator, build: Build, t: Time) -> Motion:
    motion = stand(rng, build, t, turn=0.0, apart=rng.uniform(1.0, 1.5), room=400.0)
    starts = event_times(rng, t, 1.6, 2.4)
    # Every second posture is upright, so that a lunge always begins and ends there.
    pick = rng.integers(1, 5, len(starts) + 1)  # squat, left lunge, right lunge, arms only
    pick[rng.integers(2) :: 2] = 0
    deep = rng.uniform(0.75, 1.0, len(pick)) * np.isin(pick, (1, 2, 3))
    motion.low = rng.uniform(0.52, 0.66) * build.leg_length
    deep = np.where(np.isin(pick, (2, 3)), 0.8 * deep, deep)
    motion.sink = keyframes(t, starts, 1.2, deep)
    stride = rng.uniform(0.60, 0.75) * build.leg_length
    facing = np.radians(motion.heading[0])
    forward = stride * np.array([np.cos(facing), np.sin(facing), 0.0])
    squatting = keyframes(t, starts, 1.2, deep * (pick == 1))
    feet, heels_up = [], rng.uniform(10.0, 30.0)
    for foot, lunge in zip(motion.feet, (2, 3), strict=True):
        stood = np.array([foot.ball[0, 0], foot.ball[0, 1], foot.yaw[0]])
        holds = stood + forward * (pick == lunge)[:, None]
        moves = np.any(np.diff(holds, axis=0) != 0.0, axis=-1)
        holds = holds[np.r_[True, moves]]
        stepped = step_foot(build, t, starts[moves] + 0.1, 0.9, holds, 70.0, 20.0)
        # The foot that stays behind rolls on to its ball.
        behind = keyframes(t, starts, 1.2, 42.0 * (pick == 5 - lunge))
        stepped.pitch += behind + heels_up * squatting
        feet.append(stepped)
    motion.feet = (feet[0], feet[1])
    lunging = keyframes(t, starts, 1.2, 0.45 * stride * np.isin(pick, (2, 3)))
    motion.root += _ahead(motion, lunging - 0.16 * build.leg_length * squatting)
    motion.tilt += columns(22.0 * squatting, 0.0)
    motion.spine += columns(18.0 * squatting, 0.0, 0.0)
    motion.neck -= columns(25.0 * squatting, 0.0, 0.0)
    keys = (_RAISED, _SPREAD, _AHEAD, _ON_HIP, HANGING)
    together = arm_track(rng, t, keys, (1.4, 2.6))
    motion.arms = (together, together + held_arm(rng, t, (0,) * 6))
    if rng.random() < 0.5:
        motion.arms = (together, arm_track(rng, t, keys, (1.4, 2.6)))
    return motion


def _seated(rng: np.random.Generator, t: Time, down: float) -> np.ndarray:
    """Returns (n,) 0 standing, 1 seated: sits down in `down` seconds, stays, rises, stands."""
    first = rng.uniform(0.2, 0.9)
    spells = rng.uniform((1.2, 0.8), (2.4, 1.8), (int(t[-1] / (2.0 * down + 2.0)) + 2, 2)).ravel()
    starts = first + np.concatenate([[0.0], np.cumsum(spells + down)[:-1]])
    return keyframes(t, starts, down, np.arange(len(starts) + 1) % 2)


def _sitting(rng: np.random.Generator, build: Build, t: Time) -> Motion:
    motion = stand(rng, build, t, turn=0.0, apart=1.1)
    seated = _seated(rng, t, rng.uniform(1.1, 1.4))
    motion.low = 85.0 + rng.uniform(0.46, 0.54) * build.leg_length
    motion.sink = seated
    motion.root -= _ahead(motion, rng.uniform(0.40, 0.48) * build.leg_length * seated)
    # The trunk leans over the feet half-way down and up, or there would be no balance.
    lean = 4.0 * seated * (1.0 - seated)
    motion.tilt += columns(32.0 * lean - 8.0 * seated, 0.0)
    motion.spine += columns(14.0 * lean + rng.uniform(0.0, 22.0) * seated, 0.0, 0.0)
    motion.neck -= columns(22.0 * lean, 0.0, 0.0)
    keys = [_ON_THIGH, _ON_THIGH, *rng.permutation(np.array((_FOLDED, _CHIN, _BEATS[0])))[:1]]
    arms = [arm_track(rng, t, keys, (1.5, 3.0)) for _ in range(2)]
    motion.arms = _while_seated(rng, t, seated, arms)
    _let_hang(motion, 40.0 * lean)
    return motion


def _sitting_down(rng: np.random.Generator, build: Build, t: Time) -> Motion:
    motion = stand(rng, build, t, turn=0.0, apart=1.3)
    seated = _seated(rng, t, rng.uniform(1.5, 1.8))
    motion.low = 0.12 * build.leg_length
    motion.sink = seated
    motion.root -= _ahead(motion, rng.uniform(0.66, 0.78) * build.leg_length * seated)
    lean = 4.0 * seated * (1.0 - seated)
    hugs = rng.random(2) < 0.6
    curl = rng.uniform(18.0, 40.0) if hugs.all() else rng.uniform(-5.0, 8.0)  # propped: lean back
    motion.tilt += columns(-16.0 * lean - rng.uniform(10.0, 18.0) * seated, 0.0)
    motion.spine += columns(50.0 * lean + curl * seated, 0.0, 0.0)
    motion.neck -= columns(25.0 * lean, 0.0, 0.0)
    arms = [held_arm(rng, t, _HUG_KNEE if hug else _PROP) for hug in hugs]
    motion.arms = _while_seated(rng, t, seated, arms)
    _let_hang(motion, 55.0 * lean + 0.5 * curl * seated)
    return motion


def _while_seated(
    rng: np.random.Generator, t: Time, seated: np.ndarray, arms: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns `arms` (n, 6) while the body is seated, hanging ones while it stands."""
    weight = (seated * (2.0 - seated))[:, None]  # there before the body is
    hanging = [held_arm(rng, t, HANGING) for _ in arms]
    left, right = (rest + weight * (arm - rest) for rest, arm in zip(hanging, arms, strict=True))
    return left, right


def _waiting(rng: np.random.Generator, build: Build, t: Time) -> Motion:
    motion = stand(rng, build, t, turn=55.0, gaps=(1.3, 2.6), sway=70.0)
    keys = (HANGING, _RELAXED, _ON_HIP, _FOLDED, _WATCH, _CHIN)
    both = arm_track(rng, t, keys[:4], (1.8, 3.5))
    own = arm_track(rng, t, keys, (1.6, 3.2))
    motion.arms = (both, own) if rng.random() < 0.5 else (own, both)
    if rng.random() < 0.4:
        motion.arms = (both, both + held_arm(rng, t, (0,) * 6))
    return motion


def _walking(rng: np.random.Generator, build: Build, t: Time) -> Motion:
    return stroll(rng, build, t, rng.uniform(0.75, 1.25))


def _let_hang(motion: Motion, lean: np.ndarray) -> None:
    """Turns both upper arms forward by what the trunk leans (n,), so that they hang on."""
    for arm in motion.arms:
        arm[:, 0] += lean
        arm[:, 3] += 0.4 * lean


def _ahead(motion: Motion, distance: np.ndarray) -> np.ndarray:
    """Returns (n, 2) an offset of `distance` (n,) to where the pelvis faces."""
    facing = np.radians(motion.heading)
    return columns(np.cos(facing), np.sin(facing)) * distance[:, None]


ACTIONS: dict[str, Callable[[np.random.Generator, Build, Time], Motion]] = {
    "Directions": _directions,
    "Discussion": _discussion,
    "Greeting": _greeting,
    "Phoning": _phoning,
    "Posing": _posing,
    "Sitting": _sitting,
    "SittingDown": _sitting_down,
    "Waiting": _waiting,
    "Walking": _walking,
}
"""Name of the action -> (generator, build, seconds (n,)) -> what the body does."""
