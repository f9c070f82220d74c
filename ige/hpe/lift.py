"""From 2D poses of an unknown video to 3D ones: the camera, the network, the place in space.

A network has seen people of some sizes at some places of the image. A pose outside of these is
turned and scaled into them, lifted, and turned back (a camera that looks elsewhere with another
lens sees the same person), so that a person far away or at the edge is lifted like any other.
"""

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import tensorflow as tf
from scipy.spatial.transform import Rotation

from ige.errors import UserError
from ige.hpe import layers
from ige.hpe.people import Track
from ige.hpe.skeleton import Skeleton

# Human3.6M's cameras: 1145 pixels for an image of 1000 x 1000.
_FOCAL_LENGTH_PER_SIDE = 1.145
# Detectors place joints a little outside of the image.
_MARGIN = 0.1
# Part of the joints that may be outside by mistake.
_MOST_OUTSIDE = 0.05
_NEAREST = 0.1  # metres
_MOST_PIXELS = 1e6
_BATCHES_AT_A_TIME = 3
_POSES_FOR_SIZE = 10_000


@dataclasses.dataclass(frozen=True)
class Intrinsics:
    """A camera without distortion.

    Attributes:
        focal_length: (2,) pixels.
        center: (2,) principal point, pixels.
        note: where the two come from, for the user.
    """

    focal_length: np.ndarray
    center: np.ndarray
    note: str

    def normalise(self, pixels: np.ndarray) -> np.ndarray:
        """Returns (pixels - centre) / focal length, of the shape of the pixels (..., 2)."""
        return (pixels - self.center) / self.focal_length


def inside(image_size: Sequence[float], track: Track) -> Track:
    """Returns a track without the joints outside of an image of that size, (width, height).

    Raises:
        UserError: more than a few are outside, so these are not pixels of such an image; names the
            first frame and joint.
    """
    source, points = track.source, track.points
    size = np.asarray(image_size, np.float64)
    width, height = size
    if not ((size > 0) & (size < _MOST_PIXELS)).all():
        raise UserError(
            f"hpe.predict.image_size: got {width:g} x {height:g}, expected width and height in "
            "pixels"
        )
    outside = ((points < -_MARGIN * size) | (points > (1 + _MARGIN) * size)).any(axis=-1)
    if outside.sum() > _MOST_OUTSIDE * np.isfinite(points[..., 0]).sum():
        frame, joint = np.argwhere(outside)[0]
        x, y = points[frame, joint]
        raise UserError(
            f"{source.path}: frame {source.frame_names[track.frames[frame]]}: "
            f"{source.skeleton.joints[joint]} is at ({x:.0f}, {y:.0f}), outside of an image of "
            f"{width:g} x {height:g}; set hpe.predict.image_size to that of the video"
        )
    if np.nanmax(np.abs(points)) <= 2:
        raise UserError(
            f"{source.path}: all keypoints are between {np.nanmin(points):.2f} and "
            f"{np.nanmax(points):.2f}, expected pixels of an image of {width:g} x {height:g}; "
            "multiply them by its size"
        )
    if not outside.any():
        return track
    note = f"outside of the image, taken as missing: {outside.sum()} joints"
    points = np.where(outside[..., np.newaxis], np.nan, points)
    return dataclasses.replace(track, points=points, notes=[*track.notes, note])


def find_intrinsics(
    points: np.ndarray,
    observed: layers.ObservedPose | None,
    focal_length: Sequence[float] | None,
    center: Sequence[float] | None,
    image_size: Sequence[float] | None,
) -> Intrinsics:
    """Returns the camera: as given, else guessed.

    Args:
        points: (frames, joints, 2), pixels.
        observed: what the network was trained on; not used if the focal length is known.
        focal_length: pixels, if known.
        center: principal point, pixels, if known.
        image_size: width, height, pixels, if known.

    Raises:
        UserError: a focal length that is not positive, or a person of no size.
    """
    given = {"focal_length": focal_length, "center": center}
    for name, value in given.items():
        if value is not None and not (np.abs(value) < _MOST_PIXELS).all():
            raise UserError(
                f"hpe.predict.{name}: got {value}, expected pixels, below {_MOST_PIXELS:g}"
            )
    if focal_length is not None and not (np.asarray(focal_length) >= 1).all():
        raise UserError(f"hpe.predict.focal_length: got {focal_length}, expected at least 1 pixel")
    notes = []
    if center is None and image_size is not None:
        center = np.asarray(image_size) / 2
        notes.append("centre: the middle of the image")
    elif center is None:
        # Of people, not of joints: a wrong one far outside must not move the camera.
        low, high = np.quantile(layers.extent(points)[0], (0.02, 0.98), axis=0)
        center = (low + high) / 2
        notes.append("centre: the middle of all people, for want of hpe.predict.image_size")
    else:
        notes.append("centre: as given")
    if focal_length is not None:
        notes.append("focal length: as given")
    elif image_size is not None:
        focal_length = _FOCAL_LENGTH_PER_SIDE * max(image_size)
        notes.append(f"focal length: {_FOCAL_LENGTH_PER_SIDE} of the longer side")
    else:
        some = points[:: 1 + len(points) // _POSES_FOR_SIZE]
        sizes = layers.extent(some)[1]
        focal_length = np.median(sizes) / np.mean(observed.sizes)
        notes.append(
            "focal length: so that the person is as large as people were in training, for want of "
            "hpe.predict.focal_length and hpe.predict.image_size"
        )
    focal_length = np.broadcast_to(np.asarray(focal_length, np.float64), 2)
    if not (np.isfinite(focal_length) & (focal_length > 0)).all():
        raise UserError("keypoints: all joints lie in one point, expected a person")
    (fx, fy), (cx, cy) = focal_length, center
    note = f"camera: focal length {fx:.0f}, {fy:.0f}, centre {cx:.0f}, {cy:.0f} pixels"
    return Intrinsics(focal_length, np.asarray(center, np.float64), f"{note} ({'; '.join(notes)})")


def lift(
    model: keras.Model, pose_2d: np.ndarray, batch_size: int = 4096
) -> tuple[np.ndarray, float]:
    """Lifts 2D poses to 3D.

    Args:
        model: a lifting network that describes itself; see `layers.description`.
        pose_2d: (frames, joints, 2), intrinsics-normalised, in the joints of the network.
        batch_size: frames per call of the network.

    Returns:
        (frames, joints, 3), float64, camera frame, metres, where the camera sees the 2D poses; and
        the share of frames that had to be turned or scaled.

    Raises:
        UserError: the network does not describe itself.
    """
    observed, predicted = layers.description(model)

    @tf.function(input_signature=[tf.TensorSpec((None, *pose_2d.shape[1:]), tf.float32)])
    def call(poses: tf.Tensor) -> tf.Tensor:
        # What else it takes describes a distortion, which the camera does not have.
        frames = tf.shape(poses)[0]
        none = {tensor.name: tf.zeros((frames, *tensor.shape[1:])) for tensor in model.inputs}
        return model(none | {"pose_2d": poses}, training=False)

    poses = np.empty((len(pose_2d), predicted.skeleton.num_joints, 3), np.float64)

    def lift_batch(start: int) -> int:
        """Lifts the frames from `start` on; returns how many had to be turned or scaled."""
        part = slice(start, start + batch_size)
        seen, turned_back, changed = _as_in_training(pose_2d[part], observed)
        lifted = call(tf.constant(seen, tf.float32)).numpy().astype(np.float64)
        lifted[changed] = lifted[changed] @ turned_back
        poses[part] = _placed(lifted, pose_2d[part], predicted.skeleton, observed.skeleton)
        return np.count_nonzero(changed)

    # All of it by batch: what fits into the caches is several times as fast. Batches are prepared
    # and placed while the network is at others.
    with ThreadPoolExecutor(_BATCHES_AT_A_TIME) as threads:
        moved = sum(threads.map(lift_batch, range(0, len(poses), batch_size)))
    return poses, moved / len(poses)


def _as_in_training(
    pose_2d: np.ndarray, observed: layers.ObservedPose
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Turns and scales poses (n, joints, 2) that are outside of what a network was trained on.

    Returns:
        The poses (n, joints, 2); for those that changed, matrices (m, 3, 3) that take row vectors
        of the turned camera to the camera; and which changed (n,).
    """
    centers, sizes = layers.extent(pose_2d)
    wanted = np.clip(centers, *np.asarray(observed.centers))
    moved = (wanted != centers).any(axis=-1) | (sizes != np.clip(sizes, *observed.sizes))
    seen = pose_2d.copy()
    if not moved.any():
        return seen, np.empty((0, 3, 3)), moved
    from_ray, to_ray = (_homogeneous(points[moved]) for points in (centers, wanted))
    turn = _rotation_between(from_ray, to_ray)
    rays = _homogeneous(pose_2d[moved]) @ np.swapaxes(turn, -1, -2)
    turned = rays[..., :2] / np.maximum(rays[..., 2:], 1e-3)
    # Turned towards the middle, a person looks smaller.
    centers, sizes = layers.extent(turned)
    scale = np.clip(sizes, *observed.sizes) / np.maximum(sizes, 1e-12)
    seen[moved] = (turned - centers[:, np.newaxis]) * scale[:, np.newaxis, np.newaxis]
    seen[moved] += wanted[moved][:, np.newaxis]
    return seen, turn, moved


def _homogeneous(points: np.ndarray) -> np.ndarray:
    """Returns (x, y, 1) for points (..., 2)."""
    return np.concatenate([points, np.ones_like(points[..., :1])], axis=-1)


def _rotation_between(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Returns the smallest rotations (n, 3, 3) that take directions (n, 3) to others, not opposite
    to them."""
    start, end = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (start, end))
    axis = np.cross(start, end)
    sine = np.linalg.norm(axis, axis=-1, keepdims=True)
    angle = np.arctan2(sine, (start * end).sum(axis=-1, keepdims=True))
    return Rotation.from_rotvec(axis * angle / np.maximum(sine, 1e-12)).as_matrix()


def _placed(
    poses: np.ndarray, pose_2d: np.ndarray, skeleton: Skeleton, skeleton_2d: Skeleton
) -> np.ndarray:
    """Moves poses (n, joints, 3) to where their projections fit the 2D poses best.

    The translation t with the least sum over the joints of (x + t_x - u (z + t_z))^2
    + (y + t_y - v (z + t_z))^2, for (u, v) the 2D joints. Where that would bring a joint nearer to
    the camera than 10 cm, the depth at which the poses are as large as the 2D ones.
    """
    if skeleton.joints == skeleton_2d.joints:
        points, seen = poses, pose_2d
    else:
        common = [joint for joint in skeleton.joints if joint in skeleton_2d.joints]
        points = poses[:, [skeleton.index(joint) for joint in common]]
        seen = pose_2d[:, [skeleton_2d.index(joint) for joint in common]]
    joints = points.shape[1]
    middle = np.einsum("njd->nd", points) / joints
    points = points - middle[:, np.newaxis]
    centers, sizes = layers.extent(seen)
    # With coordinates from the means of both, the normal equations come apart.
    shift = points[..., :2] - seen * points[..., 2:]
    spread = seen - centers[:, np.newaxis]
    square = np.maximum(joints * np.square(sizes), 1e-12)
    depth = np.einsum("njd,njd->n", spread, shift) / square
    nearest = points[..., 2].min(axis=1)
    behind = depth + nearest < _NEAREST
    if behind.any():
        by_size = layers.extent(points[behind, :, :2])[1] / np.maximum(sizes[behind], 1e-6)
        depth[behind] = np.maximum(by_size, _NEAREST - nearest[behind])
    beside = centers * depth[:, np.newaxis] - np.einsum("njd->nd", shift) / joints
    offset = np.concatenate([beside, depth[:, np.newaxis]], axis=-1) - middle
    return poses + offset[:, np.newaxis]
