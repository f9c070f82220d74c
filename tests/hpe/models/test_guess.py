"""Networks that read a prior's parameters, of a generator that is known by hand."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
import walkers

from ige.hpe.losses import PoseLoss
from ige.hpe.models.baseline import get_baseline_inference
from ige.hpe.models.guess import (
    LevelledEnergy,
    OverOrigin,
    PlacedPose,
    PlaceOnGround,
    get_guess_inference,
    get_refined_guess_inference,
)
from ige.hpe.prior import energy
from ige.hpe.prior.guess import GuessProblem, levelled
from ige.unroll import UnrolledSGD

IDENTITY = np.eye(17).tolist()
HEIGHT = 1.2  # of the camera


@pytest.fixture(scope="module")
def placed():
    return PlacedPose(walkers.model().generator, 1.65, trainable=False)


@pytest.fixture
def states(rng):
    """Latents and headings of people, 3 to 5 m away."""
    places = np.stack([rng.uniform(-1, 1, 6), rng.uniform(3, 5, 6)], axis=1)
    return np.concatenate([rng.normal(size=(6, 3)), places], axis=1).astype(np.float32)


def directions(poses):
    x, y, z = np.moveaxis(np.asarray(poses), -1, 0)
    return np.stack([x / y, (z - HEIGHT) / y], axis=-1).astype(np.float32)


def heights(count):
    return np.full((count, 1), HEIGHT, np.float32)


def test_poses_are_placed_as_the_fitting_energy_places_them(placed, states):
    motion = energy.Motion(
        states[:, :2], states[:, 2:3], states[:, np.newaxis, 3:], np.array(6 * [1.65], np.float32)
    )
    generated = placed.generator({"latent": states[:, :2]})[:, np.newaxis]
    np.testing.assert_allclose(placed(states), energy.place(generated, motion)[:, 0], atol=1e-6)
    # Any number of axes before the last, as iterates have.
    iterates = placed(np.stack([states, states], axis=1))
    assert iterates.shape == (6, 2, 17, 3)
    np.testing.assert_allclose(iterates[:, 1], placed(states), atol=1e-6)


def test_people_are_put_where_they_are_seen(placed, states):
    seen = directions(placed(states))
    over_origin = states * np.array([1, 1, 1, 0, 0], np.float32)
    found = PlaceOnGround(IDENTITY)(over_origin, placed(over_origin), seen, heights(6))
    np.testing.assert_allclose(found, states, atol=1e-3)


def test_what_is_regressed_becomes_a_state():
    """A heading of any length, and the place that the layer after it finds."""
    found = OverOrigin()(tf.constant([[7.0, 8, 0, 2], [7, 8, -3, 0], [7, 8, 0, 0]]))
    expected = [[7, 8, np.pi / 2, 0, 0], [7, 8, np.pi, 0, 0], [7, 8, 0, 0, 0]]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_energy_is_zero_where_all_is_as_it_is_seen(placed, states):
    conditions = {"directions": directions(placed(states)), "camera_height": heights(6)}
    consistent = LevelledEnergy(placed, IDENTITY, 0.0)
    np.testing.assert_allclose(consistent(states, conditions), np.zeros(6), atol=1e-9)
    with_prior = LevelledEnergy(placed, IDENTITY, 0.5)
    expected = 0.25 * np.square(states[:, :2]).sum(axis=1)
    np.testing.assert_allclose(with_prior(states, conditions), expected, rtol=1e-5)


def test_energy_is_that_of_fitting_in_a_level_camera(placed, states):
    """Of 1145 pixels' focal length, which counts thousands of pixels."""
    seen = directions(placed(states)) + np.float32(0.01)
    conditions = {"directions": seen, "camera_height": heights(6)}
    found = LevelledEnergy(placed, IDENTITY, 0.0)(states, conditions)
    np.testing.assert_allclose(found, np.full(6, 17 * 2 * (1.145 * 0.01) ** 2 / 2), rtol=1e-3)


def generator_fn(inputs, output_spec):
    return keras.layers.Reshape((17, 3))(keras.layers.Dense(51, name="made")(inputs["latent"]))


READ = functools.partial(get_baseline_inference, filters=16, num_blocks=1)
COMMON = {"generator_fn": generator_fn, "init_model_id": None, "inference_fn": READ}
GUESSES = {
    "guess": functools.partial(get_guess_inference, **COMMON),
    "refined": functools.partial(
        get_refined_guess_inference,
        **COMMON,
        guess_model_id=None,
        optimizer=functools.partial(UnrolledSGD, num_steps=2, learning_rate=0.01, isolate=False),
        prior=0.1,
    ),
}


@pytest.mark.parametrize("kind", GUESSES)
def test_a_saved_network_predicts_the_same(kind, tmp_path, rng):
    problem = GuessProblem(walkers.problem(), PoseLoss)
    model = problem.build_model(GUESSES[kind])
    for variable in model.variables:  # not those that a network begins with
        if "seed" not in variable.path:
            noise = rng.normal(scale=0.05, size=variable.shape)
            variable.assign_add(np.abs(noise).astype(np.float32))
    inputs, _ = problem.arrays("validation")
    inputs = {name: values[:4] for name, values in inputs.items()}
    expected = model.predict(inputs, verbose=0)
    assert expected.shape == ((4, 17, 3) if kind == "guess" else (4, 3, 17, 3))
    assert np.isfinite(expected).all()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(inputs, verbose=0), expected, rtol=1e-5, atol=1e-6)
    assert loaded.get_layer("states").output.shape[-1] == 5
    # The prior stays as it is.
    trained = {variable.path for variable in model.trainable_variables}
    assert not any("made" in path for path in trained)
    assert trained


class _Knowing:
    """Predicts the truth, in the levelled frame of each view."""

    def __init__(self, problem):
        views = problem.prior.views("test")
        self._poses = np.concatenate([levelled([view]).from_world(view.poses) for view in views])

    def predict(self, inputs, batch_size, verbose):
        assert inputs["directions"].shape == (len(self._poses), 17, 2)
        return self._poses


def test_a_joint_that_is_not_seen_is_read_between_where_it_is_before_and_after():
    view = walkers.problem().views("test")[2]  # of five frames
    whole = levelled([view])
    view.keypoints[2, 5] = np.nan
    view.keypoints[3, 5, 1] = np.nan  # half of a place is none
    view.keypoints[:, 7] = np.nan
    seen = levelled([view])
    gap = seen.directions[[1, 2, 3, 4], 5]
    np.testing.assert_allclose(gap[1], gap[0] + (gap[3] - gap[0]) / 3, atol=2e-2)
    np.testing.assert_allclose(gap[1], whole.directions[2, 5], atol=0.05)
    middle = np.delete(seen.directions, 7, axis=1).mean(axis=1)
    np.testing.assert_allclose(seen.directions[:, 7], middle, atol=2e-2)


def test_gaps_are_not_bridged_from_one_view_to_the_next():
    views = walkers.problem().views("test")[:2]
    views[1].keypoints[0, 5] = np.nan
    together, alone = levelled(views), levelled(views[1:])
    np.testing.assert_allclose(together.directions[-len(alone.directions) :], alone.directions)


def test_a_problem_of_guesses_shows_what_a_level_camera_sees():
    problem = GuessProblem(walkers.problem(), PoseLoss)
    inputs, poses = problem.arrays("validation")
    assert {name: values.shape for name, values in inputs.items()} == {
        "directions": (80, 17, 2),  # 40 frames, two cameras
        "camera_height": (80, 1),
    }
    np.testing.assert_allclose(inputs["camera_height"], 1)
    x, y, z = np.moveaxis(poses, -1, 0)
    expected = np.stack([x / y, (z - 1) / y], axis=-1)
    np.testing.assert_allclose(inputs["directions"], expected, atol=1e-4)
    errors = problem.report(_Knowing(problem), "test", 1, None).figures
    assert errors["sequence_p_mpjpe"] == pytest.approx(0, abs=0.1)  # in one frame, the world's
    training, held_out = (problem.arrays(split)[1] for split in ("train", "validation"))
    assert len(training) == 9 * len(held_out)
