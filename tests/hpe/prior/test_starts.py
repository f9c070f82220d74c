import itertools
import types

import keras
import numpy as np
import pytest

from ige.geometry import cameras
from ige.geometry.cameras import Camera
from ige.hpe.prior import normalisation, starts
from ige.hpe.prior.energy import FittingEnergy, Observation
from ige.minimisers import Minimum

JOINTS, LATENTS = 4, 3
POSE = np.array([[0, 0, 0], [0.3, 0.1, 0.5], [-0.3, 0, 0.5], [0, -0.1, 1]])
# World to camera: 4 m in front of the origin and 1 m above the floor, looks along the world's y.
CAMERA = Camera(
    np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0.0]]),
    np.array([0, -4, 1.0]),
    np.array([1000.0, 1100]),
    np.array([500.0, 480]),
    np.zeros(3),
    np.zeros(2),
)


def project(poses):
    return cameras.project(cameras.world_to_camera(poses, CAMERA), CAMERA).numpy()


def observe(poses, seen=None, exists=None):
    """What is known of poses (batch, frames, J, 3) in the world."""
    batch, frames = poses.shape[:2]
    seen = np.ones(poses.shape[:3], np.float32) if seen is None else seen
    exists = np.ones((batch, frames), np.float32) if exists is None else exists
    camera = Camera(*(np.stack([f] * batch).astype(np.float32) for f in CAMERA))
    constants = (np.full(batch, v, np.float32) for v in (10, 1.5, 1))
    keypoints = project(poses.reshape(-1, JOINTS, 3)).reshape(*poses.shape[:3], 2)
    return Observation(keypoints.astype(np.float32), seen, exists, camera, *constants)


def test_poses_are_put_where_they_were_seen(rng):
    poses = POSE * rng.uniform(0.8, 1.2, (20, 1, 1)) + rng.normal(scale=0.1, size=(20, JOINTS, 3))
    places = rng.uniform(-1, 1, size=(20, 2))
    in_world = poses + np.pad(places, ((0, 0), (0, 1)))[:, np.newaxis]
    seen = np.ones((20, 1, JOINTS), np.float32)
    seen[::2, 0, 3] = 0
    frames = observe(in_world[:, np.newaxis], seen)
    frames.keypoints[::2, 0, 3] = 12345
    found = starts.ground_position(poses, frames, np.eye(JOINTS))
    np.testing.assert_allclose(found, places, atol=1e-4)


def test_joints_are_converted_before_they_are_compared():
    matrix = np.array([[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    in_world = (matrix @ (POSE + np.array([0.4, -0.2, 0])))[np.newaxis, np.newaxis]
    frames = observe(np.tile(in_world, (1, 1, 2, 1)))  # twice each
    found = starts.ground_position(POSE[np.newaxis], frames, np.tile(matrix, (2, 1)))
    np.testing.assert_allclose(found, [[0.4, -0.2]], atol=1e-4)


def test_what_is_not_seen_is_over_the_origin():
    frames = observe(POSE[np.newaxis, np.newaxis] + 1, np.zeros((1, 1, JOINTS), np.float32))
    found = starts.ground_position(POSE[np.newaxis], frames, np.eye(JOINTS))
    np.testing.assert_array_equal(found, [[0, 0]])


def test_single_frames_are_those_that_exist(rng):
    poses = POSE + rng.normal(scale=0.1, size=(2, 3, JOINTS, 3))
    exists = np.array([[1, 1, 1], [1, 0, 0]], np.float32)
    together = observe(poses, exists=exists)
    frames = starts.single_frames(together)
    expected = [*together.keypoints[0], together.keypoints[1, 0]]
    np.testing.assert_array_equal(frames.keypoints, np.array(expected)[:, np.newaxis])
    assert frames.camera.rotation.shape == (4, 3, 3)
    assert frames.exists.shape == (4, 1)
    np.testing.assert_array_equal(frames.start_size, [1.5] * 4)
    np.testing.assert_array_equal(frames.size_is_free, [0] * 4)


class Stay:
    """A minimiser that finds that where it starts is best."""

    def __init__(self):
        self.calls = []

    def minimise(self, energy, rows, observation):
        self.calls.append(len(rows))
        count = np.zeros(len(rows), int)
        return Minimum(rows, energy(rows, observation).numpy(), count, count, count > 0)


@pytest.fixture(scope="module")
def energy():
    """Of a generator that gives POSE, whatever the latent."""
    latent = keras.Input((LATENTS,), name="latent")
    dense = keras.layers.Dense(JOINTS * 3)
    pose = keras.layers.Reshape((JOINTS, 3))(dense(latent))
    generator = keras.Model({"latent": latent}, pose)
    dense.set_weights([np.zeros((LATENTS, JOINTS * 3)), POSE.ravel()])
    return FittingEnergy(types.SimpleNamespace(generator=generator), np.eye(JOINTS))


@pytest.mark.parametrize(
    ("count", "degrees"),
    [(1, [0]), (2, [0, 180]), (4, [0, 90, 180, 270]), (6, [0, 90, 180, 270, 0, 90])],
)
def test_candidates_look_all_ways_from_where_they_project_best(energy, monkeypatch, count, degrees):
    monkeypatch.setattr(starts, "_ROWS", 4)
    truth = 1.5 * POSE + [[[0.5, 0, 0]], [[-0.5, 0.3, 0]], [[0, 1, 0]]]
    frames, stay = observe(truth[:, np.newaxis]), Stay()
    motions, energies, poses = starts.find(energy, stay, frames, count, seed=3)
    assert set(stay.calls) == {4}  # compiled once
    turns = np.degrees(motions.heading[:, :, 0]) % 360
    np.testing.assert_allclose(turns, np.repeat(degrees, 3).reshape(count, 3), atol=1e-4)
    np.testing.assert_array_equal(motions.latent[:4], np.zeros((min(count, 4), 3, 1, LATENTS)))
    np.testing.assert_allclose(motions.size, 1.5)
    # The one that looks as the truth does is the truth.
    np.testing.assert_allclose(poses[0], truth, atol=1e-4)
    assert energies.shape == (count, 3)
    assert energies[0].max() < 1e-7
    for candidate in range(1, min(count, 4)):
        assert energies[candidate].min() > 1e-4
        angles = np.radians([degrees[candidate]] * 3)
        turned = normalisation.turn(np.stack([1.5 * POSE] * 3), angles)
        turned[..., :2] += motions.position[candidate]
        np.testing.assert_allclose(poses[candidate], turned, atol=1e-5)


def test_further_candidates_are_drawn_from_a_seed(energy):
    frames = observe(np.repeat(POSE[np.newaxis, np.newaxis], 50, axis=0))
    found = [starts.find(energy, Stay(), frames, 8, seed)[0].latent[4:] for seed in (1, 1, 2)]
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])
    # 600 numbers: 4 standard errors.
    assert found[0].std() == pytest.approx(0.5, abs=0.06)


def total(path, energies, poses, frame_rate, weights):
    """The energy of a sequence of candidates."""
    frames = np.arange(len(path))
    squares = np.square(np.diff(poses[path, frames], axis=0) * frame_rate).sum(axis=-1)
    return (
        energies[path, frames].sum()
        + weights["smoothness"] * squares.sum() / 2
        + weights["glide"] * squares.min(axis=-1).sum()
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "weights",
    [
        {"smoothness": 0.01, "glide": 0.0},
        {"smoothness": 0.0, "glide": 0.1},
        {"smoothness": 0.02, "glide": 0.05},
    ],
)
def test_the_best_path_is_the_lowest_of_all(seed, weights):
    rng = np.random.default_rng(seed)
    energies, poses = rng.uniform(size=(3, 5)), rng.normal(size=(3, 5, JOINTS, 3))
    found = starts.best_path(energies, poses, 2.0, weights)
    paths = [np.array(path) for path in itertools.product(range(3), repeat=5)]
    lowest = min(paths, key=lambda path: total(path, energies, poses, 2.0, weights))
    np.testing.assert_array_equal(found, lowest)


def test_without_terms_of_motion_every_frame_is_by_itself(rng):
    energies = rng.uniform(size=(3, 6))
    weights = {"smoothness": 0.0, "glide": 0.0}
    found = starts.best_path(energies, rng.normal(size=(3, 6, JOINTS, 3)), 10.0, weights)
    np.testing.assert_array_equal(found, energies.argmin(axis=0))
    single = starts.best_path(energies[:, :1], np.zeros((3, 1, JOINTS, 3)), 10.0, weights)
    np.testing.assert_array_equal(single, energies[:, :1].argmin(axis=0))
