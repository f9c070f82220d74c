"""Fits motions to what cameras see."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gin
import keras
import numpy as np
import tensorflow as tf
from keras import tree

from ige import transfer
from ige.adversarial import AdversarialModel
from ige.errors import UserError
from ige.geometry.cameras import Camera
from ige.geometry.units import MM_PER_METRE
from ige.hpe import gaps
from ige.hpe.models.guess import AS_THE_PRIOR
from ige.hpe.prior import starts as first_guesses
from ige.hpe.prior.energy import FittingEnergy, Motion, Observation, pack, unpack
from ige.hpe.prior.guess import levelled
from ige.hpe.prior.results import Fit
from ige.hpe.prior.views import View
from ige.minimisers import Minimiser, Minimum

# Sequences are solved together with others of at least this share of their length.
_SIMILAR = 0.7
# Frames that are read together: a compiled call has always as many.
_GUESSED_FRAMES = 2048

Progress = Callable[[int, float], None]


def observe(views: Sequence[View], size: float) -> Observation:
    """Returns what is known of views, padded to the longest.

    Args:
        views: what cameras see.
        size: metres per unit of the prior that the search starts from.

    Raises:
        UserError: a view has no joint at all.
    """
    exists, seen, keypoints = [], [], []
    frames = max(len(view.keypoints) for view in views)
    for view in views:
        finite = np.isfinite(view.keypoints).all(axis=-1)
        if not finite.any():
            raise UserError(
                f"{view.key}: got NaN in all {len(finite)} frames, expected 2D poses; leave it out"
            )
        padding = ((0, frames - len(finite)), (0, 0))
        exists.append(np.arange(frames) < len(finite))
        seen.append(np.pad(finite, padding))
        keypoints.append(
            np.pad(np.where(finite[..., np.newaxis], view.keypoints, 0), (*padding, (0, 0)))
        )
    camera = Camera(
        *(np.stack([getattr(v.camera, field) for v in views]) for field in Camera._fields)
    )
    rates, sizes = [view.frame_rate for view in views], np.full(len(views), size)
    fields = (keypoints, seen, exists, camera, rates, sizes, np.ones(len(views)))
    return tree.map_structure(
        lambda values: np.asarray(values, np.float32), Observation(*map(_stacked, fields))
    )


def _stacked(values: Any) -> Any:
    return values if isinstance(values, Camera) else np.stack(values)


def _groups(views: Sequence[View], frames: int) -> Iterator[list[View]]:
    """Yields views, longest first, as many at a time as have about so many frames."""
    group: list[View] = []
    size = 0
    for view in sorted(views, key=lambda view: len(view.keypoints), reverse=True):
        group.append(view)
        size += len(view.keypoints)
        if size >= frames:
            yield group
            group, size = [], 0
    if group:
        yield group


def batches(views: Sequence[View], frames: int) -> Iterator[tuple[list[View], int]]:
    """Yields views of similar length, about so many frames at a time, and how many are padding.

    Batches of one length have as many views, the last ones again if need be: a program is compiled
    for every shape.
    """
    waiting = sorted(views, key=lambda view: len(view.keypoints), reverse=True)
    while waiting:
        longest = len(waiting[0].keypoints)
        similar = [view for view in waiting if len(view.keypoints) >= _SIMILAR * longest]
        del waiting[: len(similar)]
        count = math.ceil(len(similar) / math.ceil(len(similar) * longest / frames))
        for first in range(0, len(similar), count):
            batch = similar[first : first + count]
            yield batch + batch[-1:] * (count - len(batch)), count - len(batch)


@gin.configurable(module="hpe", denylist=["model", "to_keypoints", "start_size"])
class Fitter:
    """Fits motions to views.

    Args:
        model: the trained prior.
        to_keypoints: (2D joints, J) conversion of the prior's joints.
        start_size: metres per unit of the prior that the search starts from.
        energy: class of the energy.
        minimiser: what whole sequences are fitted with.
        start_minimiser: what single frames are fitted with before.
        starts: first guesses of each frame, see `starts.find`; 0 for whole sequences from latent
            0, heading 0 and the origin, as published.
        guess_model_id: a run that reads the first guess of each frame from its 2D pose, such as
            'h3m-big-guess'; it takes the place of `starts`.
        seed: of drawn latents.

    Raises:
        UserError: a number that makes no sense, or there is no such run.
    """

    def __init__(
        self,
        model: AdversarialModel,
        to_keypoints: np.ndarray,
        start_size: float,
        energy: type[FittingEnergy] = gin.REQUIRED,
        minimiser: Minimiser = gin.REQUIRED,
        start_minimiser: Minimiser = gin.REQUIRED,
        starts: int = 4,
        guess_model_id: str | None = None,
        seed: int = 0,
    ):
        if starts < 0:
            raise UserError(f"hpe.Fitter.starts: got {starts}, expected at least 0")
        self.energy = energy(model, to_keypoints)
        self._model = model
        self.minimiser = minimiser
        self.start_size = start_size
        self._start_minimiser = start_minimiser
        self._starts = starts
        self._guess = _load_guess(guess_model_id, model, len(to_keypoints))
        if self._guess is not None:
            self._read = tf.function(self._guess, autograph=False, jit_compile=True)
        self._seed = seed

    def weights(self) -> dict[str, str]:
        """Returns what tells the weights of the prior, and those of the reader, from others."""
        digests = {"weights": transfer.digest(self._model)}
        if self._guess is not None:
            digests["guess_weights"] = transfer.digest(self._guess)
        return digests

    def start(self, views: Sequence[View]) -> list[Motion]:
        """Returns where the search for the motion of each view (frames, ...) begins.

        A frame in which nothing is seen begins as the nearest one in which something is.
        """
        return [_bridged(*each) for each in zip(self._guesses(views), views, strict=True)]

    def _guesses(self, views: Sequence[View]) -> list[Motion]:
        """Returns where frames would begin, each by what is seen in it."""
        if self._guess is not None:
            return self._guessed(views)
        if not self._starts:
            return [self._at_rest(len(view.keypoints)) for view in views]
        frames = first_guesses.single_frames(observe(views, self.start_size))
        motions, energies, poses = first_guesses.find(
            self.energy, self._start_minimiser, frames, self._starts, self._seed
        )
        found, end = [], 0
        for view in views:
            first, end = end, end + len(view.keypoints)
            path = first_guesses.best_path(
                energies[:, first:end], poses[:, first:end], view.frame_rate, self.energy.weights
            )
            chosen = (path, np.arange(first, end), 0)
            parts = (field[chosen] for field in motions[:3])
            found.append(Motion(*parts, np.float32(self.start_size)))
        return found

    def _guessed(self, views: Sequence[View]) -> list[Motion]:
        """Returns what a network reads from the 2D poses."""
        seen = levelled(views)
        inputs = {
            "directions": seen.directions.astype(np.float32),
            "camera_height": seen.camera_height.astype(np.float32),
        }
        count = len(seen.directions)
        states = []
        for first in range(0, count, _GUESSED_FRAMES):
            # The last rows again rather than fewer, which would be compiled anew.
            taken = np.minimum(np.arange(first, first + _GUESSED_FRAMES), count - 1)
            states.append(self._read({name: values[taken] for name, values in inputs.items()}))
        states = np.concatenate(states)[:count]
        if states.ndim == 3:  # all iterates of a descent
            states = states[:, -1]
        heading, position = seen.to_world(states[:, -3], states[:, -2:])
        ends = np.cumsum([len(view.keypoints) for view in views])[:-1]
        fields = (states[:, :-3], heading, position)
        parts = (np.split(field.astype(np.float32), ends) for field in fields)
        return [Motion(*each, self.start_size) for each in zip(*parts, strict=True)]

    def _at_rest(self, frames: int) -> Motion:
        """Returns the published start: every variable but the size is 0."""
        shapes = ((frames, self.energy.latents), (frames,), (frames, 2))
        parts = (np.zeros(shape, np.float32) for shape in shapes)
        return Motion(*parts, np.float32(self.start_size))

    def fit(
        self,
        views: Sequence[View],
        motions: Sequence[Motion],
        progress: Callable[[int, float], None] | None = None,
    ) -> tuple[Minimum, Observation]:
        """Returns the minima of views of similar length, and what they were fitted to."""
        observation = observe(views, self.start_size)
        frames = observation.exists.shape[1]

        def padded(*parts: np.ndarray) -> np.ndarray:
            return np.stack(
                [np.pad(p, ((0, frames - len(p)), *[(0, 0)] * (p.ndim - 1))) for p in parts]
            )

        fields = list(zip(*motions, strict=True))
        motion = Motion(*(padded(*field) for field in fields[:3]), np.stack(fields[3]))
        rows = pack(motion, observation.start_size)
        return self.minimiser.minimise(self.energy, rows, observation, progress), observation


def _bridged(motion: Motion, view: View) -> Motion:
    """Returns a motion (frames, ...) that stands still where nothing is seen."""
    seen = np.flatnonzero(np.isfinite(view.keypoints).all(axis=-1).any(axis=1))
    if not len(seen):  # `observe` refuses it
        return motion
    nearest = np.searchsorted((seen[1:] + seen[:-1]) / 2, np.arange(len(view.keypoints)))
    return Motion(*(field[seen[nearest]] for field in motion[:3]), motion.size)


def _between(poses: np.ndarray, view: View) -> np.ndarray:
    """Returns poses (n, J, 3), those of frames in which nothing is seen between those around."""
    seen = np.isfinite(view.keypoints).all(axis=-1).any(axis=1)
    known = np.where(seen[:, np.newaxis, np.newaxis], poses, np.nan)
    return gaps.over_time(known, np.zeros(1, int))


def fitted(
    fitter: Fitter, views: Sequence[View], frames: int, progress: Progress | None = None
) -> Iterator[list[Fit]]:
    """Fits views batch by batch, and yields what each gave.

    Args:
        fitter: fits them.
        views: what cameras see.
        frames: about so many are fitted together.
        progress: called with the sequences of the batch that are finished, and its energy.
    """
    for group in _groups(views, frames):
        began = time.perf_counter()
        starts = dict(zip((view.key for view in group), fitter.start(group), strict=True))
        share = (time.perf_counter() - began) / sum(len(view.keypoints) for view in group)
        for batch, padding in batches(group, frames):
            began = time.perf_counter()
            motions = [starts[view.key] for view in batch]
            minimum, observation = fitter.fit(batch, motions, progress)
            own = batch[: len(batch) - padding]
            seconds = time.perf_counter() - began
            seconds += share * sum(len(view.keypoints) for view in own)
            yield _fits(fitter.energy, own, minimum, observation, seconds)


def _load_guess(model_id: str | None, prior: AdversarialModel, joints: int) -> keras.Model | None:
    """Returns the part of a trained network that reads a prior's parameters from so many joints."""
    if model_id is None:
        return None
    network, _ = transfer.load("apo", model_id, "hpe.Fitter.guess_model_id", AS_THE_PRIOR)
    if "states" not in {layer.name for layer in network.layers}:
        raise UserError(
            f"hpe.Fitter.guess_model_id: got {model_id!r}, which reads no parameters of a prior, "
            "expected a run such as that of apo/h3m-big-guess"
        )
    trained = next(t.shape[1] for t in network.inputs if t.name == "directions")
    if trained != joints:
        raise UserError(
            f"hpe.Fitter.guess_model_id: got {model_id!r}, which reads {trained} joints of a 2D "
            f"pose, expected the {joints} that are seen; leave it out"
        )
    if transfer.digest(network.get_layer("placed").generator) != transfer.digest(prior.generator):
        raise UserError(
            f"hpe.Fitter.guess_model_id: got {model_id!r}, which reads the parameters of another "
            "prior than the one that is fitted, expected one trained with this; train it again"
        )
    return keras.Model(network.inputs, network.get_layer("states").output)


def _fits(
    energy: FittingEnergy,
    views: Sequence[View],
    minimum: Minimum,
    observation: Observation,
    seconds: float,
) -> list[Fit]:
    """Returns what to keep of the fits of views; each takes its share of the seconds."""
    rows = tf.constant(minimum.position)
    motion = tree.map_structure(np.asarray, unpack(rows, energy.latents, observation))
    poses = energy.poses(rows, observation).numpy()
    terms = {name: value.numpy() for name, value in energy.terms(rows, observation).items()}
    frames = sum(len(view.keypoints) for view in views)
    fits = []
    for row, view in enumerate(views):
        length = len(view.keypoints)
        attributes = {
            "subject": view.subject,
            "action": view.action,
            "name": view.name,
            "camera": view.camera_id,
            "frame_rate": view.frame_rate,
            "iterations": int(minimum.iterations[row]),
            "evaluations": int(minimum.evaluations[row]),
            "converged": bool(minimum.converged[row]),
            "seconds": seconds * length / frames,
            "energy": float(minimum.energy[row]),
        }
        attributes |= {f"energy_{name}": float(values[row]) for name, values in terms.items()}
        fit = Fit(
            view.key,
            _between(poses[row, :length], view) * MM_PER_METRE,
            motion.latent[row, :length],
            motion.heading[row, :length],
            motion.position[row, :length] * MM_PER_METRE,
            motion.size[row] * MM_PER_METRE,
            attributes,
        )
        fits.append(fit)
    return fits
