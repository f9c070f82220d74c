"""What procedural motions are made of: smooth signals, steps, standing and walking.

Every motion is a smooth function of time with parameters drawn once per sequence: minimum-jerk
moves between key postures (Flash & Hogan, 1985) plus band-limited wandering, so that speeds and
accelerations are bounded. Angles in degrees, lengths in millimetres, time in seconds.
"""

from collections.abc import Callable, Sequence

import numpy as np

from ige.hpe.data.h3m_lift.body import Build, Foot, Motion, ball_height

CENTRE = np.array([50.0, 330.0])
"""Where the optical axes of Human3.6M's four cameras come closest to each other, mm."""

Time = np.ndarray
Key = tuple[float, ...]

HANGING: Key = (2, 7, 5, 14, 0, 5)
"""An arm at rest, in the order of `body.ARM`."""


def minimum_jerk(x: np.ndarray) -> np.ndarray:
    """Returns the smooth step from 0 at x <= 0 to 1 at x >= 1, at rest at both ends."""
    x = np.clip(x, 0.0, 1.0)
    return x**3 * (10.0 - 15.0 * x + 6.0 * x**2)


def smooth_step(x: np.ndarray) -> np.ndarray:
    """Returns the step of the same peak acceleration as `minimum_jerk` and a lower peak speed."""
    x = np.clip(x, 0.0, 1.0)
    return x**2 * (3.0 - 2.0 * x)


def bump(x: np.ndarray) -> np.ndarray:
    """Returns a smooth hill: 0 outside (0, 1), 1 at x = 1/2."""
    x = np.clip(x, 0.0, 1.0)
    return (4.0 * x * (1.0 - x)) ** 3


def keyframes(
    t: Time,
    starts: np.ndarray,
    durations: np.ndarray | float,
    values: np.ndarray,
    step: Callable[[np.ndarray], np.ndarray] = minimum_jerk,
) -> np.ndarray:
    """Returns (n, ...) `values` (k + 1, ...) in turn: move i + 1 begins at `starts[i]` (k,)."""
    values = np.asarray(values, float)
    gain = step((t[:, None] - starts) / durations)
    return values[0] + np.tensordot(gain, np.diff(values, axis=0), axes=1)


def wander(rng: np.random.Generator, t: Time, amplitude: float, low: float, high: float) -> Time:
    """Returns a random signal (n,) within +-`amplitude`: four tones between `low` and `high` Hz."""
    frequencies, phases = rng.uniform(low, high, 4), rng.uniform(0.0, 2.0 * np.pi, 4)
    weights = rng.dirichlet(np.full(4, 2.0)) * amplitude
    return np.sin(2.0 * np.pi * frequencies * t[:, None] + phases) @ weights


def event_times(
    rng: np.random.Generator, t: Time, shortest: float, longest: float, first: float = -1.0
) -> np.ndarray:
    """Returns times with gaps from `shortest` to `longest` that cover `t`, from `first` on."""
    count = int((t[-1] - first) / shortest) + 2
    gaps = rng.uniform(shortest, longest, count)
    return first - rng.uniform(0.0, shortest) + np.cumsum(gaps) - gaps[0]


def columns(*channels: np.ndarray | float) -> np.ndarray:
    """Returns channels (n,) or scalars side by side as (n, len(channels))."""
    return np.stack(np.broadcast_arrays(*channels), axis=-1).astype(float)


def arm_track(
    rng: np.random.Generator, t: Time, keys: Sequence[Key], gaps: tuple[float, float]
) -> np.ndarray:
    """Returns (n, 6) angles of an arm that visits `keys` in random order, each with its own jitter.

    A move takes at least half a second and longer the further it goes, as people's moves do.
    """
    starts = event_times(rng, t, *gaps)
    visits = np.array(keys, float)[rng.integers(len(keys), size=len(starts) + 1)]
    visits += rng.normal(size=visits.shape) * (6.0, 5.0, 6.0, 7.0, 8.0, 5.0)
    durations = 0.5 + np.abs(np.diff(visits, axis=0)).max(axis=-1) / 200.0
    return keyframes(t, starts, durations, visits) + _tremor(rng, t)


def held_arm(rng: np.random.Generator, t: Time, key: Key) -> np.ndarray:
    """Returns (n, 6) angles of an arm that stays about `key`."""
    return key + rng.normal(size=6) * (4.0, 3.0, 4.0, 5.0, 6.0, 3.0) + _tremor(rng, t)


def _tremor(rng: np.random.Generator, t: Time) -> np.ndarray:
    return columns(*(wander(rng, t, amplitude, 0.1, 0.6) for amplitude in (4, 3, 4, 5, 6, 5)))


def step_foot(
    build: Build,
    t: Time,
    starts: np.ndarray,
    durations: np.ndarray | float,
    places: np.ndarray,
    lift: float,
    roll: float,
) -> Foot:
    """Returns a foot that stands at `places` (k + 1, 3) (x, y, yaw) in turn.

    Args:
        build: The body.
        t: (n,) seconds.
        starts: (k,) when the ball of the foot leaves the floor.
        durations: (k,) or scalar, how long each step is in the air.
        places: Ball of the foot on the floor in mm, and its direction in degrees.
        lift: Height of the ball in the middle of a step, mm.
        roll: Degrees by which the heel is up at the start of a step; half of it toes up at its end.
    """
    track = keyframes(t, starts, durations, places, smooth_step)
    x = (t[:, None] - starts) / durations
    heel = roll * bump((x + 0.75) / 1.5).sum(axis=-1)
    toe = 0.5 * roll * bump((x - 0.45) / 1.1).sum(axis=-1)
    # A foot with its toes up stands on the heel, some 200 mm behind the ball.
    on_heel = build.segment(0.0, 0.0, 200.0)[2] * np.sin(np.radians(toe))
    height = ball_height(build) + lift * bump(x).sum(axis=-1) + on_heel
    return Foot(columns(track[:, 0], track[:, 1], height), track[:, 2], heel - toe)


def _beside(place: np.ndarray, side: float, width: float, toe_out: float) -> np.ndarray:
    """Returns the foothold (k, 3) beside `place` (k, 3): (x, y, heading) of the pelvis."""
    angle = np.radians(place[:, 2])
    # The ball is ahead of the ankle, over which the pelvis stands.
    x = place[:, 0] - side * width * np.sin(angle) + 90.0 * np.cos(angle)
    y = place[:, 1] + side * width * np.cos(angle) + 90.0 * np.sin(angle)
    return np.stack([x, y, place[:, 2] + side * toe_out], axis=-1)


def stand(
    rng: np.random.Generator,
    build: Build,
    t: Time,
    turn: float,
    gaps: tuple[float, float] = (2.2, 4.5),
    sway: float = 35.0,
    apart: float = 1.0,
    room: float = 600.0,
) -> Motion:
    """Returns somebody who stands with hanging arms, and at times turns by up to `turn` degrees.

    A turn is two steps, first with the foot of that side. Between turns the weight sways.

    Args:
        rng: Draws the place, the heading and the style.
        build: The body.
        t: (n,) seconds.
        turn: Largest turn in degrees; with 0 the feet never move.
        gaps: Shortest and longest time between turns.
        sway: How far the pelvis shifts to either side, mm.
        apart: How wide the feet stand, 1 as usual.
        room: Largest distance from `CENTRE` along x and y, mm.
    """
    starts = event_times(rng, t, *gaps) if turn else np.zeros(0)
    turns = rng.uniform(-turn, turn, len(starts))
    heading = rng.uniform(0.0, 360.0) + np.concatenate([[0.0], np.cumsum(turns)])
    angle = rng.uniform(0.0, 2.0 * np.pi, len(heading))
    spot = CENTRE + rng.uniform(-room, room, 2)
    stray = rng.uniform(0.0, 2.0 * turn, len(heading))
    place = columns(spot[0] + stray * np.cos(angle), spot[1] + stray * np.sin(angle), heading)
    width = apart * build.segment(0.0, rng.uniform(95.0, 150.0), 0.0, "hips")[1]
    toe_out = rng.uniform(3.0, 14.0)
    feet = []
    for side in (1.0, -1.0):
        late = np.where(turns * side > 0.0, 0.0, 0.45)
        holds = _beside(place, side, width, toe_out)
        feet.append(step_foot(build, t, starts + late, 0.5, holds, rng.uniform(40, 80), 16.0))
    centre = keyframes(t, starts, 1.0, place)
    shift = wander(rng, t, sway, 0.12, 0.4)
    facing = np.radians(centre[:, 2])
    root = centre[:, :2] + columns(-np.sin(facing), np.cos(facing)) * shift[:, None]
    root += columns(np.cos(facing), np.sin(facing)) * wander(rng, t, 15.0, 0.1, 0.4)[:, None]
    return Motion(
        root=root,
        heading=centre[:, 2] + wander(rng, t, 5.0, 0.1, 0.4),
        tilt=columns(rng.uniform(-2.0, 6.0) + wander(rng, t, 2.0, 0.1, 0.4), -shift / 9.0),
        sink=np.zeros_like(t),
        low=0.5 * build.leg_length,
        feet=(feet[0], feet[1]),
        spine=columns(
            rng.uniform(-2.0, 12.0) + wander(rng, t, 4.0, 0.1, 0.4),
            shift / 8.0 + wander(rng, t, 3.0, 0.1, 0.4),
            wander(rng, t, 8.0, 0.1, 0.4),
        ),
        neck=look(rng, t, 25.0),
        arms=(held_arm(rng, t, HANGING), held_arm(rng, t, HANGING)),
    )


def look(rng: np.random.Generator, t: Time, around: float) -> np.ndarray:
    """Returns (n, 3) angles of a neck that turns by up to `around` degrees."""
    starts = event_times(rng, t, 1.0, 3.0)
    turns = rng.uniform(-around, around, len(starts) + 1)
    nods = rng.uniform(-8.0, 14.0, len(starts) + 1)
    track = keyframes(t, starts, 0.7, np.stack([nods, 0.0 * nods, turns], axis=-1))
    wobble = (wander(rng, t, amplitude, 0.2, 0.9) for amplitude in (4.0, 5.0, 5.0))
    return track + columns(*wobble)


def stroll(rng: np.random.Generator, build: Build, t: Time, speed: float) -> Motion:
    """Returns somebody who walks on a closed, uneven loop at about `speed` metres a second.

    The feet are planted where the loop is half-way through each stance, as wide apart as the gait;
    arms, trunk and pelvis turn against each other in the rhythm of the stride.
    """
    radii, ahead = rng.uniform(800.0, 1100.0, 2), rng.choice([-1.0, 1.0])
    dent, dent_phase, start, turned = rng.uniform(0.0, (0.06, 6.3, 6.3, 6.3))
    pace = 1000.0 * speed / radii.mean()
    origin = CENTRE + rng.uniform(-120.0, 120.0, 2)

    def path(s: np.ndarray) -> np.ndarray:
        angle = start + ahead * (pace * s + 0.15 * np.sin(0.9 * s))
        radius = 1.0 + dent * np.sin(2.0 * angle + dent_phase)
        x, y = radii[0] * radius * np.cos(angle), radii[1] * radius * np.sin(angle)
        c, s = np.cos(turned), np.sin(turned)
        return np.stack([c * x - s * y, s * x + c * y], axis=-1) + origin

    def place(s: np.ndarray) -> np.ndarray:
        x, y = (path(s + 0.15) - path(s - 0.15)).T
        return np.concatenate([path(s), np.degrees(np.unwrap(np.arctan2(y, x)))[:, None]], axis=-1)

    stride = 0.74 * build.stature / 1000.0 * np.sqrt(speed / 1.2) * rng.uniform(0.92, 1.08)
    rate, phase, stance = speed / stride, rng.uniform(0.0, 1.0), rng.uniform(0.54, 0.58)
    width = build.segment(0.0, rng.uniform(55.0, 85.0), 0.0, "hips")[1]
    feet = []
    for side, lag in ((1.0, 0.0), (-1.0, 0.5)):
        cycles = np.arange(-3.0, rate * t[-1] + 4.0) - phase - lag
        holds = _beside(place((cycles + 0.5 * stance) / rate), side, width, 6.0)
        lift, roll = rng.uniform(30.0, 60.0), rng.uniform(35.0, 45.0) * min(1.0, speed)
        leave, airborne = (cycles[:-1] + stance) / rate, (1.0 - stance) / rate
        feet.append(step_foot(build, t, leave, airborne, holds, lift, roll))
    # 1 when the left foot lands ahead, -1 when the right one does.
    beat, quarter = np.cos(2 * np.pi * (rate * t + phase)), np.sin(2 * np.pi * (rate * t + phase))
    track = place(t)
    facing = np.radians(track[:, 2])
    sway = rng.uniform(10.0, 25.0) * quarter
    swing, carry = rng.uniform(14.0, 30.0) * min(1.0, speed), rng.uniform(8.0, 28.0)
    twist = rng.uniform(3.0, 6.0)
    arms = []
    for side in (1.0, -1.0):
        to_and_fro = -side * beat
        bend = carry + 0.45 * swing * (1.0 + to_and_fro)
        arm = columns(4.0 + swing * to_and_fro, 8.0, 10.0, bend, 0.0, 5.0)
        arms.append(arm + held_arm(rng, t, (0,) * 6))
    return Motion(
        root=track[:, :2] + columns(-np.sin(facing), np.cos(facing)) * sway[:, None],
        heading=track[:, 2] - twist * beat,
        tilt=columns(rng.uniform(2.0, 6.0) + 0.0 * t, -rng.uniform(1.5, 3.5) * quarter),
        sink=np.zeros_like(t),
        low=0.5 * build.leg_length,
        feet=(feet[0], feet[1]),
        spine=columns(
            rng.uniform(-2.0, 10.0) + wander(rng, t, 3.0, 0.1, 0.4),
            2.0 * quarter,
            rng.uniform(1.6, 2.4) * twist * beat,
        ),
        neck=look(rng, t, 25.0),
        arms=(arms[0], arms[1]),
    )
