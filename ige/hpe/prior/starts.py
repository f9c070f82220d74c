"""First guesses of a motion: each frame by itself from several headings, and the best path."""

import numpy as np
import tensorflow as tf
from keras import tree

from ige.hpe.prior import normalisation
from ige.hpe.prior.energy import FittingEnergy, Motion, Observation, pack, unpack
from ige.minimisers import Minimiser

# Frames that are solved together: a compiled call has always as many.
_ROWS = 2048
# Headings that are tried before latents are drawn, and the deviation of these.
_HEADINGS, _SPREAD = 4, 0.5


def find(
    energy: FittingEnergy, minimiser: Minimiser, observation: Observation, starts: int, seed: int
) -> tuple[Motion, np.ndarray, np.ndarray]:
    """Returns the minima of single frames by themselves, of the size that the search starts from.

    The first four start from latent 0 in headings a quarter turn apart, others from drawn latents.

    Args:
        energy: what is minimised.
        minimiser: by what.
        observation: n sequences of one frame, their size fixed.
        starts: candidates of each frame.
        seed: of the drawn latents.

    Returns:
        Motion of (starts, n, 1, ...), energies (starts, n), poses (starts, n, J, 3) in metres.
    """
    count = len(observation.exists)
    rng = np.random.default_rng(seed)
    latents = np.zeros((starts, count, energy.latents), np.float32)
    latents[_HEADINGS:] = rng.normal(scale=_SPREAD, size=latents[_HEADINGS:].shape)
    headings = 2 * np.pi * np.arange(starts) / min(starts, _HEADINGS)
    headings = np.repeat(headings[:, np.newaxis], count, axis=1).astype(np.float32)
    repeated = tree.map_structure(lambda field: np.concatenate([field] * starts), observation)
    start = _standing(energy, latents.reshape(-1, energy.latents), headings.ravel(), repeated)
    found = _minimised(energy, minimiser, start, repeated)
    return tree.map_structure(lambda field: field.reshape(starts, count, *field.shape[1:]), found)


def single_frames(observation: Observation) -> Observation:
    """Returns the frames that exist as sequences of one frame, their size fixed."""
    exists = observation.exists > 0

    def of_each_frame(values: np.ndarray) -> np.ndarray:
        return np.repeat(values[:, np.newaxis], exists.shape[1], axis=1)[exists]

    return Observation(
        observation.keypoints[exists][:, np.newaxis],
        observation.seen[exists][:, np.newaxis],
        observation.exists[exists][:, np.newaxis],
        tree.map_structure(of_each_frame, observation.camera),
        of_each_frame(observation.frame_rate),
        of_each_frame(observation.start_size),
        np.zeros(np.count_nonzero(exists), np.float32),
    )


def _standing(
    energy: FittingEnergy, latents: np.ndarray, headings: np.ndarray, frames: Observation
) -> Motion:
    """Returns poses in these headings (n,), where on the ground they project best."""
    poses = energy.generate(latents).numpy() * frames.start_size[:, np.newaxis, np.newaxis]
    turned = normalisation.turn(poses, headings)
    position = ground_position(turned, frames, energy.to_keypoints)
    return Motion(
        latents[:, np.newaxis],
        headings[:, np.newaxis],
        position[:, np.newaxis].astype(np.float32),
        frames.start_size,
    )


def ground_position(poses: np.ndarray, frames: Observation, matrix: np.ndarray) -> np.ndarray:
    """Returns where on the ground poses project best to the keypoints, metres (n, 2).

    Least squares of what is linear in the position, the distances from the rays times the depths;
    without the lens's distortion.

    Args:
        poses: (n, J, 3) metres, turned as in the world, over the origin.
        frames: n sequences of one frame.
        matrix: (2D joints, J) conversion of the joints.
    """
    camera = tree.map_structure(lambda field: np.asarray(field, np.float64), frames.camera)
    centred = frames.keypoints[:, 0] - camera.center[:, np.newaxis]
    rays = centred / camera.focal_length[:, np.newaxis]
    points = np.einsum("kj,njd->nkd", matrix, poses) - camera.translation[:, np.newaxis]
    # x - u z = 0 and y - v z = 0 in the camera's frame, linear in the world's.
    rotation = camera.rotation[:, np.newaxis]
    rows = rotation[:, :, :2] - rays[..., np.newaxis] * rotation[:, :, 2:]
    rows *= frames.seen[:, 0, :, np.newaxis, np.newaxis]
    known = np.einsum("nkid,nkd->nki", rows, points)
    normal = np.einsum("nkia,nkib->nab", rows[..., :2], rows[..., :2])
    right = np.einsum("nkia,nki->na", rows[..., :2], known)
    # Where no joint is seen there is no equation: the origin.
    return -np.einsum("nab,nb->na", np.linalg.pinv(normal), right)


def _minimised(
    energy: FittingEnergy, minimiser: Minimiser, start: Motion, frames: Observation
) -> tuple[Motion, np.ndarray, np.ndarray]:
    """Returns the minima of n frames, their energies (n,) and poses (n, J, 3)."""
    count = len(frames.exists)
    rows = pack(start, frames.start_size)
    motions, energies, poses = [], [], []
    for first in range(0, count, _ROWS):
        # The last rows again rather than fewer, which would be compiled anew.
        taken = np.minimum(np.arange(first, first + _ROWS), count - 1)
        some = tree.map_structure(lambda field, taken=taken: field[taken], frames)
        minimum = minimiser.minimise(energy, rows[taken], some)
        size = min(_ROWS, count - first)
        motions.append(unpack(minimum.position, energy.latents, some))
        motions[-1] = tree.map_structure(
            lambda field, size=size: np.asarray(field)[:size], motions[-1]
        )
        energies.append(minimum.energy[:size])
        poses.append(energy.poses(tf.constant(minimum.position), some).numpy()[:size, 0])
    joined = Motion(*(np.concatenate(parts) for parts in zip(*motions, strict=True)))
    return joined, np.concatenate(energies), np.concatenate(poses)


def best_path(
    energies: np.ndarray, poses: np.ndarray, frame_rate: float, weights: dict[str, float]
) -> np.ndarray:
    """Returns which candidate (n,) of each frame the lowest sequence goes through (Viterbi).

    Args:
        energies: (candidates, n).
        poses: (candidates, n, J, 3) metres.
        frame_rate: frames per second.
        weights: of the terms of the energy.
    """
    lowest, came_from = energies[:, 0], []
    for frame in range(1, energies.shape[1]):
        moved = poses[np.newaxis, :, frame] - poses[:, np.newaxis, frame - 1]
        squares = np.square(moved * frame_rate).sum(axis=-1)
        between = weights["smoothness"] * squares.sum(axis=-1) / 2
        between += weights["glide"] * squares.min(axis=-1)
        total = lowest[:, np.newaxis] + between
        came_from.append(total.argmin(axis=0))
        lowest = total.min(axis=0) + energies[:, frame]
    path = [int(lowest.argmin())]
    for before in reversed(came_from):
        path.append(int(before[path[-1]]))
    return np.array(path[::-1])
