"""What is fitted together, what is known of it, and where the search begins."""

import functools
import re
import types

import keras
import numpy as np
import pytest

from ige.errors import UserError
from ige.geometry import cameras
from ige.geometry.cameras import Camera
from ige.hpe.prior import fitting, starts
from ige.hpe.prior.energy import FittingEnergy
from ige.hpe.prior.problem import View
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


def view(keypoints, name="Walking"):
    skeleton = get_skeleton("h36m_17")
    return View("S9", "Walking", name, "a", CAMERA, np.asarray(keypoints), skeleton, 10.0)


def lasting(*lengths):
    return [view(np.zeros((n, JOINTS, 2)), f"{i} of {n}") for i, n in enumerate(lengths)]


@pytest.mark.parametrize("frames", [1, 100, 250, 10_000])
def test_views_are_fitted_once_and_with_others_of_their_length(frames):
    views = lasting(100, 5, 90, 71, 69, 100, 1, 1, 50, 48)
    found = []
    for batch, padding in fitting.batches(views, frames):
        lengths = [len(v.keypoints) for v in batch]
        assert min(lengths) >= 0.7 * max(lengths)
        own = batch[: len(batch) - padding]
        assert batch[len(own) :] == [own[-1]] * padding
        assert len(batch) == 1 or max(lengths) * (len(batch) - 1) <= frames
        found += [v.key for v in own]
    assert sorted(found) == sorted(v.key for v in views)


def test_what_is_known_of_views_by_hand():
    nan = np.nan
    first = [[[1, 2], [3, nan]], [[nan, nan], [nan, nan]], [[5, 6], [7, 8]]]
    known = fitting.observe([view(first), view([[[9, 9], [9, 9]]])], 1.65)
    np.testing.assert_array_equal(known.exists, [[1, 1, 1], [1, 0, 0]])
    np.testing.assert_array_equal(known.seen, [[[1, 0], [0, 0], [1, 1]], [[1, 1], [0, 0], [0, 0]]])
    np.testing.assert_array_equal(known.keypoints[0, :, 0], [[1, 2], [0, 0], [5, 6]])
    np.testing.assert_array_equal(known.keypoints[1, :, 1], [[9, 9], [0, 0], [0, 0]])
    np.testing.assert_allclose(known.start_size, [1.65, 1.65])
    np.testing.assert_array_equal(known.frame_rate, [10, 10])
    np.testing.assert_array_equal(known.size_is_free, [1, 1])
    assert known.camera.rotation.shape == (2, 3, 3)


def test_a_view_of_nothing_is_refused():
    message = "S9 Walking a: got NaN in all 3 frames, expected 2D poses; leave it out"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        fitting.observe([view(np.full((3, JOINTS, 2), np.nan))], 1.65)


@pytest.fixture(scope="module")
def fitter():
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
    return fitting.Fitter(
        model,
        np.eye(JOINTS),
        1.5,
        energy=functools.partial(FittingEnergy, smoothness=1e-5),
        minimiser=LBFGS(jit_compile=False),
        start_minimiser=LBFGS(max_iterations=20, jit_compile=False),
        starts=4,
    )


def test_frames_of_nothing_begin_where_the_nearest_are(fitter, monkeypatch):
    """Not over the origin, from where the motion would have to come back."""
    monkeypatch.setattr(starts, "_ROWS", 32)
    places = np.array([[1.0, 2], [1.2, 2], [9, 9], [9, 9], [9, 9], [2, 3], [9, 9]])
    world = 1.5 * POSE + np.pad(places, ((0, 0), (0, 1)))[:, np.newaxis]
    keypoints = cameras.project(cameras.world_to_camera(world, CAMERA), CAMERA).numpy()
    keypoints[[2, 3, 4, 6]] = np.nan
    (motion,) = fitter.start([view(keypoints)])
    nearest = [0, 1, 1, 1, 5, 5, 5]
    np.testing.assert_allclose(motion.position, places[nearest], atol=1e-2)
    np.testing.assert_array_equal(motion.heading, motion.heading[nearest])
    np.testing.assert_allclose(np.cos(motion.heading), 1, atol=1e-4)
    assert motion.latent.shape == (7, 2)


def test_a_sequence_of_one_frame_is_fitted(fitter, monkeypatch):
    monkeypatch.setattr(starts, "_ROWS", 4)
    world = 1.8 * POSE + [0.4, 1, 0]
    keypoints = cameras.project(cameras.world_to_camera(world, CAMERA), CAMERA).numpy()
    ((fit,),) = fitting.fitted(fitter, [view(keypoints[np.newaxis])], 100)
    np.testing.assert_allclose(fit.poses, 1000 * world[np.newaxis], atol=5)
    assert float(fit.size) == pytest.approx(1800, abs=5)
    np.testing.assert_allclose(fit.position, [[400, 1000]], atol=5)
    assert fit.attributes["energy_smoothness"] == 0
