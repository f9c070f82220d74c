"""What `predict` does with a prior of poses: it fits a motion to what a known camera saw."""

import time
from collections.abc import Sequence

import gin
import keras
import numpy as np
from tqdm import tqdm

from ige.adversarial import AdversarialModel
from ige.errors import UserError
from ige.geometry import cameras
from ige.geometry.units import MM_PER_METRE
from ige.hpe.gravity import camera_to_upright
from ige.hpe.lift import find_intrinsics
from ige.hpe.people import Track
from ige.hpe.predict import Camera, Prediction, check_finite, frame_names
from ige.hpe.prior.fitting import Fitter, fitted
from ige.hpe.prior.problem import PosePriorProblem
from ige.hpe.prior.results import Fit
from ige.hpe.prior.views import View
from ige.hpe.skeleton import Skeleton, conversion_matrix, convert, obtainable

# Fewer joints than that say little about a pose.
_FEWEST_JOINTS = 6
_HIGHEST = 1000.0  # metres
# Parameter of `predict` -> its unit, and a value for the message.
_NEEDED = {
    "focal_length": ("pixels", "1145.0"),
    "image_size": ("or center, pixels", "(1000,1000)"),
    "camera_height": ("metres", "1.5"),
    "pitch": ("degrees", "10.0"),
}


@gin.configurable(
    module="hpe", denylist=["track", "model", "skeleton", "camera", "frame_rate", "batch_size"]
)
def fit_track(
    track: Track,
    model: keras.Model,
    skeleton: Skeleton,
    camera: Camera,
    frame_rate: float,
    batch_size: int = 4096,
    problem: PosePriorProblem = gin.REQUIRED,
    fitter: type[Fitter] = gin.REQUIRED,
) -> Prediction:
    """Fits a motion in the world of the prior to what was seen; joints that were not do not count.

    The world is the upright frame with the camera over its origin. Each piece of the track is a
    motion by itself. Frames without any joint lie on the line between those around them.

    Args:
        track: a person over time.
        model: the trained prior.
        skeleton: the 3D joints to have.
        camera: with all but the roll known, which is 0 then.
        frame_rate: frames per second.
        batch_size: frames that are fitted together.
        problem: the problem of the prior.
        fitter: class of what fits.

    Raises:
        UserError: something of the camera is not known or makes no sense, or too few joints are
            there.
    """
    if not isinstance(model, AdversarialModel):
        raise UserError(
            "predict: the network is no prior, expected one that generates poses; use a config "
            "such as apo/h3m-big"
        )
    world, held = _world_camera(camera, skeleton)
    part, points, notes = _fitted_joints(track, problem.skeleton)
    views = [
        View(str(track.source.path), "", f"row {row}", "", world, some, part, frame_rate)
        for row, some in _pieces(track, points)
    ]
    made = fitter(model, conversion_matrix(problem.skeleton, part), problem.start_size)
    poses, fit_note = _fit(made, views, batch_size)
    upright = convert(poses, problem.skeleton, skeleton)
    check_finite(upright, track)
    seen = np.isfinite(points[..., 0])
    projected = _project(convert(poses, problem.skeleton, part), world)
    distance = np.median(np.linalg.norm(projected - points, axis=-1)[seen])
    off = f"projected, joints are {distance:.1f} pixels from the keypoints in the median"
    return Prediction(
        skeleton=skeleton,
        frames=frame_names(track),
        frame_rate=frame_rate,
        keypoints=np.where(seen[..., np.newaxis], points, projected),
        observed=seen,
        keypoint_skeleton=part,
        camera=(upright - world.translation) @ world.rotation.T,
        upright=upright,
        rotation=world.rotation.T,
        focal_length=world.focal_length,
        center=world.center,
        notes=[*notes, *held, fit_note, off],
    )


def _world_camera(camera: Camera, skeleton: Skeleton) -> tuple[cameras.Camera, list[str]]:
    """Returns the camera in the world, above the origin, and what to tell about it.

    Raises:
        UserError: something of it is not known or makes no sense.
    """
    _check_camera(camera)
    nobody = np.empty((0, skeleton.num_joints, 3))
    intrinsics = find_intrinsics(
        nobody[..., :2], None, camera.focal_length, camera.center, camera.image_size
    )
    rotation, held = camera_to_upright(nobody, skeleton, camera.pitch, camera.roll)
    above = np.array([0.0, 0.0, camera.height])
    lens = (intrinsics.focal_length, intrinsics.center, np.zeros(3), np.zeros(2))
    notes = [intrinsics.note, f"{held}; {camera.height:g} m above the floor"]
    return cameras.Camera(rotation.T, above, *lens), notes


def _check_camera(camera: Camera) -> None:
    """Refuses a camera of which something is not known that nothing can tell."""
    known = {
        "focal_length": camera.focal_length is not None,
        "image_size": camera.image_size is not None or camera.center is not None,
        "camera_height": camera.height is not None,
        "pitch": camera.pitch is not None,
    }
    missing = [name for name in _NEEDED if not known[name]]
    if missing:
        *others, last = (f"no {name} ({_NEEDED[name][0]})" for name in missing)
        listed = f"{', '.join(others)} and {last}" if others else last
        flags = " ".join(f'--gin_param="hpe.predict.{name}={_NEEDED[name][1]}"' for name in missing)
        raise UserError(
            f"predict: got {listed}, expected those of the camera that filmed: the prior knows "
            f"people on the floor of a world; give {flags}"
        )
    if not 0 < camera.height <= _HIGHEST:
        raise UserError(
            f"hpe.predict.camera_height: got {camera.height:g}, expected metres above the floor, "
            f"more than 0 and at most {_HIGHEST:g}"
        )


def _fitted_joints(track: Track, prior: Skeleton) -> tuple[Skeleton, np.ndarray, list[str]]:
    """Returns the joints of the keypoints that a prior has, where they are, and what to tell."""
    source = track.source.skeleton
    joints = obtainable(prior, source)
    if len(joints) < _FEWEST_JOINTS:
        raise UserError(
            f"{track.source.path}: got {len(joints)} joints of {source.name} that {prior.name} "
            f"has, expected at least {_FEWEST_JOINTS}; give the keypoints of another skeleton"
        )
    lacking = [joint for joint in source.joints if joint not in joints]
    if not lacking:
        return source, track.points, []
    kept = [source.index(joint) for joint in joints]
    note = f"left out, as the prior has none of them: {', '.join(lacking)}"
    return _part(source, kept), track.points[:, kept], [note]


def _part(skeleton: Skeleton, kept: Sequence[int]) -> Skeleton:
    """Returns some joints of a skeleton, each on the nearest of those that it hung on."""
    parents = []
    for joint in kept:
        parent = skeleton.parents[joint]
        while parent >= 0 and parent not in kept:
            parent = skeleton.parents[parent]
        parents.append(kept.index(parent) if parent >= 0 else -1)
    root = parents.index(-1)
    # Without the joint that held them together, what is left hangs on the first one.
    joined = [root if p < 0 and i != root else p for i, p in enumerate(parents)]
    joints = tuple(skeleton.joints[joint] for joint in kept)
    return Skeleton(f"part of {skeleton.name}", joints, tuple(joined))


def _pieces(track: Track, points: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Returns the first row of every piece of a track, and its points.

    Raises:
        UserError: no joint of a piece is seen.
    """
    pieces = list(zip(track.pieces.tolist(), np.split(points, track.pieces[1:]), strict=True))
    names = frame_names(track)
    for row, some in pieces:
        if not np.isfinite(some).any():
            raise UserError(
                f"{track.source.path}: frames {names[row]} to {names[row + len(some) - 1]}: got no "
                "joint that the prior has, expected some; lower hpe.predict.min_confidence, choose "
                "another hpe.predict.person, or cut these frames out"
            )
    return pieces


def _fit(fitter: Fitter, views: Sequence[View], frames: int) -> tuple[np.ndarray, str]:
    """Returns the poses (n, J, 3) of views in a row, metres, world frame, and what to tell."""
    fits: list[Fit] = []
    began = time.perf_counter()
    with tqdm(total=len(views), desc="fitting", unit=" sequences", disable=None) as bar:

        def show(_: int, energy: float) -> None:
            bar.set_postfix_str(f"energy {energy:.4g}")

        for some in fitted(fitter, views, frames, show):
            fits += some
            bar.update(len(some))
    seconds = time.perf_counter() - began
    by_key = {fit.key: fit.poses.astype(np.float64) / MM_PER_METRE for fit in fits}
    poses = np.concatenate([by_key[view.key] for view in views])

    def total(name: str) -> str:
        return f"{sum(fit.attributes[name] for fit in fits):.4g}"

    terms = [
        f"{weight:g} x {term} {total(f'energy_{term}')}"
        for term, weight in fitter.energy.weights.items()
        if weight
    ]
    rate = f"{len(poses):,} frames, {len(poses) / seconds:,.1f} frames/s"
    return poses, f"fitted {rate}, energy {total('energy')} = {' + '.join(terms)}"


def _project(poses: np.ndarray, camera: cameras.Camera) -> np.ndarray:
    """Returns the pixels (n, joints, 2) of poses (n, joints, 3), world frame."""
    points = cameras.world_to_camera(poses.reshape(1, -1, 3), camera)
    return cameras.project(points, camera).numpy().reshape(*poses.shape[:2], 2)
