"""People who walk before two cameras, made up, and a generator that can show them."""

import functools
import os
import pathlib
import signal
import sys
import types

import keras
import numpy as np

from ige.adversarial import AdversarialModel
from ige.geometry.cameras import Camera
from ige.hpe.data.sequences import PoseSequence
from ige.hpe.prior import results
from ige.hpe.prior.energy import FittingEnergy
from ige.hpe.prior.fitting import Fitter
from ige.hpe.prior.infer import infer
from ige.hpe.prior.problem import PosePriorProblem
from ige.hpe.skeleton import get_skeleton
from ige.minimisers import LBFGS

SKELETON = get_skeleton("h36m_17")
# World to camera: looks along the world's y, 1 m above the floor.
_AHEAD = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0.0]])
CAMERAS = {
    name: Camera(
        _AHEAD,
        np.array([x, -4000, 1000.0]),
        *np.array([[1145.0, 1143], [512, 515]]),
        np.array([-0.2, 0.24, 0]),
        np.array([-0.0009, -0.0016]),
    )
    for name, x in (("left", -300), ("right", 300))
}
# What two latents change of a pose: arms go up, knees go ahead.
DIRECTIONS = np.zeros((2, 17, 3))
for _joint, _way in (("elbow", (0, 0.02, 0.05)), ("wrist", (0, 0.05, 0.12))):
    for _side in ("left", "right"):
        DIRECTIONS[0, SKELETON.index(f"{_side}_{_joint}")] = _way
DIRECTIONS[1, SKELETON.index("left_knee")] = (0, 0.1, 0.02)
DIRECTIONS[1, SKELETON.index("right_knee")] = (0, -0.1, 0.02)


def person():
    """(17, 3) in heights: stands at the origin, left at +x, looks along y."""
    heights = {"hip": 0.9, "knee": 0.5, "ankle": 0.1, "shoulder": 1.4, "elbow": 1.1, "wrist": 0.8}
    heights |= {"pelvis": 0.9, "spine": 1.15, "thorax": 1.4, "nose": 1.55, "head_top": 1.7}
    y = {"nose": 0.1, "spine": -0.03, "wrist": 0.05, "knee": 0.03}
    x = {"left": 0.2, "right": -0.2, "centre": 0.0}
    places = []
    for joint, side in zip(SKELETON.joints, SKELETON.sides, strict=True):
        name = joint.removeprefix("left_").removeprefix("right_")
        places.append((x[side], y.get(name, 0.0), heights[name]))
    return np.array(places) / 1.6


def _recording(subject, action, index, frames):
    rng = np.random.default_rng([index, *subject.encode()])
    latents = np.cumsum(rng.normal(scale=0.2, size=(frames, 2)), axis=0)
    poses = 1650 * (person() + np.tensordot(latents, DIRECTIONS, 1))
    poses[..., :2] += np.cumsum(rng.normal(scale=30, size=(frames, 1, 2)), axis=0)
    name = f"{action} {index}"
    return PoseSequence(subject, action, name, 20.0, poses.astype(np.float32), CAMERAS, {})


class Dataset:
    """Stands for a tfds builder."""

    provenance = {"dataset": "walkers"}
    skeleton = SKELETON
    keypoint_skeleton = None

    def prepare(self):
        """Does nothing."""

    def sequences(self, split):
        if split == "test":
            return [_recording("S9", "Walking", 1, 6), _recording("S9", "Eating", 1, 10)]
        return [_recording(s, "Walking", i, 40) for s in ("S1", "S5") for i in range(5)]


def problem(**changes):
    options = {"skeleton": "h36m_17", "latents": 2, "center": ("pelvis",)}
    return PosePriorProblem(Dataset(), **(options | changes))


def model():
    """An adversarial model of these poses: the generator is affine, the critic is not asked."""
    latent = keras.Input((2,), name="latent")
    dense = keras.layers.Dense(51)
    poses = keras.layers.Reshape((17, 3))(dense(latent))
    generator = keras.Model({"latent": latent}, poses)
    dense.set_weights([DIRECTIONS.reshape(2, 51), person().ravel()])
    pose = keras.Input((17, 3))
    flat = keras.layers.Flatten()(pose)
    critic = keras.Model(pose, keras.layers.Dense(1, kernel_initializer="ones")(flat))
    return AdversarialModel(generator, critic)


def fitter(model, to_keypoints, start_size, candidates=1, iterations=40, **weights):
    """A `Fitter` with a light minimiser."""
    minimiser = LBFGS(max_iterations=iterations, jit_compile=False)
    weights = weights or {"prior": 1e-4}
    energy = functools.partial(FittingEnergy, **weights)
    return Fitter(model, to_keypoints, start_size, energy, minimiser, minimiser, candidates)


def fit(model, folder, problem, epoch=1, **options):
    """Calls `infer`, as if this model had been trained so long."""
    infer(
        lambda *_: types.SimpleNamespace(model=model, epoch=epoch),
        folder,
        problem,
        **({"fitter": fitter} | options),
    )


def killed():
    """Fits to the folder that is named on the command line; dies when a batch is written."""
    add = results.Parts.add

    def die(*arguments, **options):
        add(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    results.Parts.add = die
    hasty = functools.partial(fitter, candidates=0, iterations=2)
    fit(model(), pathlib.Path(sys.argv[1]), problem(), fitter=hasty, batch_frames=7)
