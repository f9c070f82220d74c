"""Fitting of made-up recordings, of one kind after the other."""

import functools
import types

import keras
import numpy as np
import pytest
import walkers

from ige import transfer
from ige.errors import UserError, first_line
from ige.geometry import cameras
from ige.geometry.cameras import Camera
from ige.hpe.models.guess import PlacedPose
from ige.hpe.prior import fitting, starts
from ige.hpe.prior.energy import FittingEnergy
from ige.hpe.prior.fitting import Fitter, batches, fitted, observe
from ige.hpe.prior.views import View
from ige.hpe.skeleton import get_skeleton
from ige.minimisers import LBFGS

JOINTS = 4
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


def view_of(keypoints, name="Walking"):
    skeleton = get_skeleton("h36m_17")
    return View("S9", "Walking", name, "a", CAMERA, np.asarray(keypoints), skeleton, 10.0)


@pytest.fixture(scope="module")
def model():
    return walkers.model()


@pytest.fixture
def problem():
    return walkers.problem()


def test_a_sequence_that_nobody_saw_is_refused(problem):
    views = problem.views("test")
    views[1].keypoints[:] = np.nan
    message = (
        f"{views[1].key}: got NaN in all {len(views[1].keypoints)} frames, expected 2D poses; "
        "leave it out"
    )
    with pytest.raises(UserError, match=f"^{message}$"):
        observe(views, 1.65)


def test_observations_are_padded(problem):
    views = problem.views("test")[:2]
    lengths = [len(view.keypoints) for view in views]
    views[0].keypoints[1, 3] = np.nan
    found = observe(views, 1.65)
    assert found.exists.sum(axis=1).tolist() == lengths
    assert found.seen.sum(axis=(1, 2)).tolist() == [17 * lengths[0] - 1, 17 * lengths[1]]
    assert found.seen[0, 1, 3] == 0
    assert np.isfinite(found.keypoints).all()
    for row, view in enumerate(views):
        there = np.isfinite(view.keypoints)
        kept = found.keypoints[row, : lengths[row]]
        np.testing.assert_allclose(kept[there], view.keypoints[there], rtol=1e-6)
        np.testing.assert_allclose(found.camera.translation[row], view.camera.translation)
    assert found.start_size.tolist() == pytest.approx([1.65] * 2)
    assert found.size_is_free.tolist() == [1, 1]


def lengths_of(*lengths):
    return [types.SimpleNamespace(key=i, keypoints=np.zeros(n)) for i, n in enumerate(lengths)]


@pytest.mark.parametrize(
    ("lengths", "frames", "expected"),
    [
        # All are similar, and fit into one.
        ([10, 8, 7], 100, [([10, 8, 7], 0)]),
        # 6 is below 0.7 x 10.
        ([6, 10, 7], 100, [([10, 7], 0), ([6], 0)]),
        # Three of 10 are 30 frames: two batches of 20 frames at most, the second with padding.
        ([10, 10, 10], 20, [([10, 10], 0), ([10, 10], 1)]),
        # A sequence is never cut.
        ([10, 10], 3, [([10], 0), ([10], 0)]),
        # Five in batches of at most two would be three; they are of two, two and one.
        ([5] * 5, 10, [([5, 5], 0), ([5, 5], 0), ([5, 5], 1)]),
        ([], 10, []),
    ],
)
def test_batches_by_hand(lengths, frames, expected):
    found = [
        ([len(view.keypoints) for view in batch], padding)
        for batch, padding in batches(lengths_of(*lengths), frames)
    ]
    assert found == expected


def test_batches_have_every_sequence_once(rng):
    views = lengths_of(*rng.integers(1, 200, 100))
    seen = []
    for batch, padding in batches(views, 500):
        own = batch[: len(batch) - padding]
        seen.extend(view.key for view in own)
        assert all(view is batch[-1] for view in batch[len(own) :])
        assert sum(len(view.keypoints) for view in batch) <= 500 + len(batch[0].keypoints)
        assert len(batch[-1].keypoints) >= 0.7 * len(batch[0].keypoints)
    assert sorted(seen) == list(range(100))


@pytest.mark.parametrize("candidates", [0, 4])
def test_sequences_do_not_know_of_each_other(model, problem, candidates, monkeypatch):
    """Fitted alone or with others that are longer: the same, as far as float32 goes."""
    monkeypatch.setattr(starts, "_ROWS", 64)
    views = problem.views("test")[::2]
    weights = {"smoothness": 1e-4, "glide": 1e-4, "prior": 1e-3}
    fitter = walkers.fitter(model, np.eye(17), 1.65, candidates, iterations=10, **weights)
    together, _ = fitter.fit(views, fitter.start(views))
    assert [len(view.keypoints) for view in views] == [3, 5]
    for row, view in enumerate(views):
        alone, _ = fitter.fit([view], fitter.start([view]))
        assert alone.energy[0] == pytest.approx(together.energy[row], rel=0.01)
        if row == 1:  # the other one is padded
            np.testing.assert_allclose(alone.position[0], together.position[row], atol=5e-3)


def test_a_start_at_rest_is_as_published(model, problem):
    views = problem.views("test")
    fitter = walkers.fitter(model, np.eye(17), 1.65, candidates=0)
    for view, motion in zip(views, fitter.start(views), strict=True):
        assert [field.shape for field in motion[:3]] == [
            (len(view.keypoints), n) if n else (len(view.keypoints),) for n in (2, 0, 2)
        ]
        assert not any(field.any() for field in motion[:3])
        assert motion.size == pytest.approx(1.65)


def guess_with(generator, descends=False):
    """A network that knows where people stand in the levelled frame: straight ahead, 3 m away."""
    shapes = {"directions": (17, 2), "camera_height": (1,)}
    inputs = {name: keras.Input(shape, name=name) for name, shape in shapes.items()}
    state = keras.layers.Dense(5, name="regressed" if descends else "states")
    steps = keras.layers.Lambda(lambda x: keras.ops.stack([0 * x, x], axis=1), name="states")
    placed = PlacedPose(generator, 1.65, name="placed")
    states = state(inputs["camera_height"])
    guess = keras.Model(inputs, placed(steps(states) if descends else states))
    state.set_weights([np.zeros((1, 5)), np.array([0.5, -0.5, 0.25, 0, 3])])
    return guess


def guessing(model, guess, monkeypatch):
    monkeypatch.setattr(transfer, "load", lambda *_: (guess, None))
    return Fitter(model, np.eye(17), 1.65, FittingEnergy, None, None, guess_model_id="a-guess")


def test_a_guess_is_put_into_the_world(model, problem, monkeypatch):
    views = problem.views("test")
    fitter = guessing(model, guess_with(walkers.model().generator), monkeypatch)
    for view, motion in zip(views, fitter.start(views), strict=True):
        np.testing.assert_allclose(motion.latent, [[0.5, -0.5]] * len(view.keypoints))
        camera, person = view.camera.translation[:2], view.poses[..., :2].mean(axis=1)
        ahead = (person - camera) / np.linalg.norm(person - camera, axis=1, keepdims=True)
        np.testing.assert_allclose(motion.position, camera + 3 * ahead, atol=0.2)
        azimuth = np.arctan2(-ahead[:, 0], ahead[:, 1])
        difference = motion.heading - 0.25 - azimuth
        np.testing.assert_allclose(np.cos(difference), 1, atol=5e-3)


def test_guesses_of_many_frames_are_read_in_pieces(model, problem, monkeypatch):
    """Each depends on its own frame, here by the height of the camera: the last piece is padded."""
    views = problem.views("test")
    for height, view in enumerate(views):
        view.camera.translation[2] = 1 + height
    guess = guess_with(walkers.model().generator)
    kernel, bias = np.array([[1.0, 0, 0, 0, 0]]), np.array([0, 0, 0, 0, 3.0])
    guess.get_layer("states").set_weights([kernel, bias])
    monkeypatch.setattr(fitting, "_GUESSED_FRAMES", 5)
    fitter = guessing(model, guess, monkeypatch)
    assert sum(len(view.keypoints) for view in views) == 16
    for height, (view, motion) in enumerate(zip(views, fitter.start(views), strict=True)):
        np.testing.assert_allclose(motion.latent, [[1 + height, 0]] * len(view.keypoints))


def test_where_a_descent_ends_is_the_guess(model, problem, monkeypatch):
    """Of a network whose layer "states" has those before and after each step."""
    guess = guess_with(walkers.model().generator, descends=True)
    for motion in guessing(model, guess, monkeypatch).start(problem.views("test")):
        np.testing.assert_allclose(motion.latent, [[0.5, -0.5]] * len(motion.latent))


def scaled(generator):
    generator.set_weights([1.001 * weights for weights in generator.get_weights()])
    return generator


def deeper(generator):
    same = keras.layers.Dense(2, kernel_initializer="identity")
    latent = keras.Input((2,), name="latent")
    return keras.Model({"latent": latent}, generator({"latent": same(latent)}))


def test_guesses_and_fits_have_weights_that_tell_them_apart(model, monkeypatch):
    guess = guess_with(walkers.model().generator)
    found = guessing(model, guess, monkeypatch).weights()
    assert found == guessing(model, guess, monkeypatch).weights()
    assert found.keys() == {"weights", "guess_weights"}
    guess.get_layer("states").set_weights([np.ones((1, 5)), np.zeros(5)])
    other = guessing(model, guess, monkeypatch).weights()
    assert other["weights"] == found["weights"]
    assert other["guess_weights"] != found["guess_weights"]


@pytest.mark.parametrize("change", [scaled, deeper])
def test_a_guess_of_another_prior_is_refused(model, monkeypatch, change):
    guess = guess_with(change(walkers.model().generator))
    message = (
        "hpe.Fitter.guess_model_id: got 'a-guess', which reads the parameters of another prior "
        "than the one that is fitted, expected one trained with this; train it again"
    )
    with pytest.raises(UserError) as raised:
        guessing(model, guess, monkeypatch)
    assert first_line(raised.value) == message


@pytest.fixture(scope="module")
def of_one_pose():
    """Of a prior that has POSE alone."""
    latent = keras.Input((2,), name="latent")
    dense = keras.layers.Dense(JOINTS * 3)
    pose = keras.layers.Reshape((JOINTS, 3))(dense(latent))
    seen = keras.Input((JOINTS, 3))
    model = types.SimpleNamespace(
        generator=keras.Model({"latent": latent}, pose),
        critic=keras.Model(seen, keras.layers.Dense(1)(keras.layers.Flatten()(seen))),
    )
    dense.set_weights([np.zeros((2, JOINTS * 3)), POSE.ravel()])
    return Fitter(
        model,
        np.eye(JOINTS),
        1.5,
        energy=functools.partial(FittingEnergy, smoothness=1e-5),
        minimiser=LBFGS(jit_compile=False),
        start_minimiser=LBFGS(max_iterations=20, jit_compile=False),
        starts=4,
    )


def test_frames_of_nothing_begin_where_the_nearest_are(of_one_pose, monkeypatch):
    """Not over the origin, from where the motion would have to come back."""
    monkeypatch.setattr(starts, "_ROWS", 32)
    places = np.array([[1.0, 2], [1.2, 2], [9, 9], [9, 9], [9, 9], [2, 3], [9, 9]])
    world = 1.5 * POSE + np.pad(places, ((0, 0), (0, 1)))[:, np.newaxis]
    keypoints = cameras.project(cameras.world_to_camera(world, CAMERA), CAMERA).numpy()
    keypoints[[2, 3, 4, 6]] = np.nan
    (motion,) = of_one_pose.start([view_of(keypoints)])
    nearest = [0, 1, 1, 1, 5, 5, 5]
    np.testing.assert_allclose(motion.position, places[nearest], atol=1e-2)
    np.testing.assert_array_equal(motion.heading, motion.heading[nearest])
    np.testing.assert_allclose(np.cos(motion.heading), 1, atol=1e-4)
    assert motion.latent.shape == (7, 2)


def test_poses_of_nothing_are_between_those_around(of_one_pose, monkeypatch):
    monkeypatch.setattr(starts, "_ROWS", 16)
    places = np.array([[1.0, 2], [9, 9], [9, 9], [1.3, 2.6]])
    world = 1.5 * POSE + np.pad(places, ((0, 0), (0, 1)))[:, np.newaxis]
    keypoints = cameras.project(cameras.world_to_camera(world, CAMERA), CAMERA).numpy()
    keypoints[1] = np.nan
    keypoints[2, :, 1] = np.nan  # half of a place is none
    ((fit,),) = fitted(of_one_pose, [view_of(keypoints)], 100)
    thirds = np.array([0, 1 / 3, 2 / 3, 1])[:, np.newaxis, np.newaxis]
    expected = fit.poses[0] + thirds * (fit.poses[3] - fit.poses[0])
    np.testing.assert_allclose(fit.poses, expected, atol=0.01)
    assert np.abs(fit.poses[3] - fit.poses[0]).max() > 100


def test_a_sequence_of_one_frame_is_fitted(of_one_pose, monkeypatch):
    monkeypatch.setattr(starts, "_ROWS", 4)
    world = 1.8 * POSE + [0.4, 1, 0]
    keypoints = cameras.project(cameras.world_to_camera(world, CAMERA), CAMERA).numpy()
    ((fit,),) = fitted(of_one_pose, [view_of(keypoints[np.newaxis])], 100)
    np.testing.assert_allclose(fit.poses, 1000 * world[np.newaxis], atol=5)
    assert float(fit.size) == pytest.approx(1800, abs=5)
    np.testing.assert_allclose(fit.position, [[400, 1000]], atol=5)
    assert fit.attributes["energy_smoothness"] == 0
