"""`predict`: a file of 2D keypoints to 3D motion."""

import dataclasses
import io
import json
import pathlib
from collections.abc import Callable
from typing import Any

import gin
import keras
import numpy as np

from ige.errors import UserError
from ige.files import write_bytes, write_text
from ige.hpe.bvh import write_bvh
from ige.hpe.gaps import fill, to_skeleton
from ige.hpe.gravity import camera_to_upright, place_on_ground
from ige.hpe.keypoints import read_keypoints
from ige.hpe.layers import description
from ige.hpe.lift import find_intrinsics, inside, lift
from ige.hpe.motion import Motion, shown
from ige.hpe.people import Track, choose
from ige.hpe.skeleton import Skeleton, conversion_matrix, convert
from ige.problem import TfdsProblem

_FILES = ("poses.npz", "poses.json", "poses.bvh", "viewer.html", "sequence.gif")
_LEGS = ("left_knee", "right_knee", "left_ankle", "right_ankle")
_FRAME_RATE = 30.0
_VIEWER_FRAMES = 3000


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What is written.

    Attributes:
        skeleton: joints of the poses.
        frames: name of every frame.
        frame_rate: frames per second.
        keypoints: (frames, 2D joints, 2) pixels, gaps filled in: as a lifting network got them;
            by a fit, where the motion has these joints.
        observed: (frames, 2D joints) whether they were seen in that frame, or put together from
            joints that were; the others are filled in.
        keypoint_skeleton: their joints.
        camera: (frames, joints, 3), metres; x right, y down, z forward.
        upright: (frames, joints, 3), metres; x right, y away from the camera, z up, 0 on the floor.
        rotation: (3, 3), camera to upright: upright vector = rotation @ camera vector.
        focal_length: (2,) pixels.
        center: (2,) pixels.
        notes: what to tell the user, a line each.
    """

    skeleton: Skeleton
    frames: list[str]
    frame_rate: float
    keypoints: np.ndarray
    observed: np.ndarray
    keypoint_skeleton: Skeleton
    camera: np.ndarray
    upright: np.ndarray
    rotation: np.ndarray
    focal_length: np.ndarray
    center: np.ndarray
    notes: list[str]

    def arrays(self) -> dict[str, Any]:
        """Returns name -> what is written as numbers or names, one of a kind in every file."""
        return {
            "poses_camera": self.camera,
            "poses_upright": self.upright,
            "keypoints": self.keypoints,
            "observed": self.observed,
            "rotation": self.rotation,
            "focal_length": self.focal_length,
            "center": self.center,
            "frame_rate": self.frame_rate,
            "frames": self.frames,
            "skeleton": self.skeleton.name,
            "joints": self.skeleton.joints,
            "parents": self.skeleton.parents,
            "keypoint_skeleton": self.keypoint_skeleton.name,
            "keypoint_joints": self.keypoint_skeleton.joints,
        }


@dataclasses.dataclass(frozen=True)
class Camera:
    """What is known of the camera; None where nothing is.

    Attributes:
        image_size: width, height of the video, pixels.
        focal_length: pixels, one or (x, y).
        center: principal point, pixels.
        pitch: how far it looks down, degrees.
        roll: how far it is turned clockwise, degrees.
        height: above the floor, metres.
    """

    image_size: tuple[float, float] | None = None
    focal_length: float | tuple[float, float] | None = None
    center: tuple[float, float] | None = None
    pitch: float | None = None
    roll: float | None = None
    height: float | None = None


Method = Callable[[Track, keras.Model, Skeleton, Camera, float, int], Prediction]
"""Makes 3D motion of what was seen, with a trained network; its arguments are `lift_track`'s."""


@gin.configurable(module="hpe", denylist=["load", "source", "make_folder"])
def predict(
    load: Callable[[TfdsProblem, str | int], Any],
    source: pathlib.Path,
    make_folder: Callable[[], pathlib.Path],
    problem: TfdsProblem = gin.REQUIRED,
    method: Method | None = None,
    checkpoint: str | int = "last",
    person: int | None = None,
    skeleton: str | None = None,
    min_confidence: float = 0.3,
    image_size: tuple[float, float] | None = None,
    focal_length: float | tuple[float, float] | None = None,
    center: tuple[float, float] | None = None,
    pitch: float | None = None,
    roll: float | None = None,
    camera_height: float | None = None,
    frame_rate: float | None = None,
    pictures: bool = True,
    picture_frames: int = 250,
    batch_size: int = 4096,
) -> None:
    """Makes 3D motion of 2D keypoints of a video; writes poses.npz, .json and .bvh, and pictures.

    Args:
        load: problem, checkpoint -> what `ige.runners.load_trained` returns.
        source: file of keypoints, or folder with a file per frame; see `ige.hpe.keypoints`.
        make_folder: returns the folder to write to; called when there is something to write.
        problem: the problem of the trained network, with an `evaluation_skeleton`.
        method: how the network is used; None: `lift_track`.
        checkpoint: 'last', 'best' or the number of an epoch.
        person: number of the person, 0 for the largest; None: the largest of each frame.
        skeleton: name of the skeleton of the keypoints, for files that do not say it.
        min_confidence: keypoints of less confidence are missing, and filled in.
        image_size: width, height of the video, pixels; None: as the file says, if it does.
        focal_length: of the camera, pixels, one or (x, y); None: guessed.
        center: principal point of the camera, pixels; None: guessed.
        pitch: how far the camera looks down, degrees; None: estimated from the poses.
        roll: how far it is turned clockwise, degrees; None: estimated from the poses.
        camera_height: of the camera above the floor, metres, for methods that need it.
        frame_rate: frames per second; None: as the file says, else 30.
        pictures: write sequence.gif and viewer.html too.
        picture_frames: most frames of sequence.gif.
        batch_size: frames per call of the network; changes the speed only.

    Raises:
        UserError: the file cannot be used (which frame, why), a number that makes no sense, or
            there is no such trained network.
    """
    _check(min_confidence, frame_rate, picture_frames, batch_size)
    keypoints = read_keypoints(source, skeleton)
    print(f"{source}: {keypoints.format}, {len(keypoints.frame_names):,} frames")
    track = choose(keypoints, person, min_confidence)
    image_size = image_size or keypoints.image_size
    if image_size is not None:
        track = inside(image_size, track)
    _say(*track.notes)
    if frame_rate is None and keypoints.frame_rate is None:
        _say(f"{_FRAME_RATE:g} frames per second, for want of hpe.predict.frame_rate")
    # What is given goes before what the file says.
    camera = Camera(
        image_size,
        focal_length if focal_length is not None else keypoints.focal_length,
        center if center is not None else keypoints.center,
        pitch,
        roll,
        camera_height,
    )
    trained = load(problem, checkpoint)
    prediction = (method or lift_track)(
        track,
        trained.model,
        problem.evaluation_skeleton,
        camera,
        frame_rate or keypoints.frame_rate or _FRAME_RATE,
        batch_size,
    )
    _say(*prediction.notes, f"network: {trained.path}")
    write(prediction, make_folder(), picture_frames if pictures else 0)


def _check(
    min_confidence: float, frame_rate: float | None, picture_frames: int, batch_size: int
) -> None:
    if not 0 <= min_confidence <= 1:
        raise UserError(f"hpe.predict.min_confidence: got {min_confidence}, expected 0 to 1")
    if frame_rate is not None and not 0.001 <= frame_rate <= 100_000:
        raise UserError(f"hpe.predict.frame_rate: got {frame_rate}, expected 0.001 to 100000")
    for name, value in (("picture_frames", picture_frames), ("batch_size", batch_size)):
        if value < 1:
            raise UserError(f"hpe.predict.{name}: got {value}, expected at least 1")


def lift_track(
    track: Track,
    model: keras.Model,
    skeleton: Skeleton,
    camera: Camera,
    frame_rate: float,
    batch_size: int = 4096,
) -> Prediction:
    """Fills in what is missing, finds the camera, lifts, and finds out which way is up.

    Args:
        track: a person over time.
        model: a lifting network that describes itself; see `layers.description`.
        skeleton: the 3D joints to have.
        camera: what is known of it.
        frame_rate: frames per second.
        batch_size: frames per call of the network.

    Raises:
        UserError: a joint that is never seen and cannot be put together, or a camera that makes no
            sense.
    """
    if camera.height is not None:
        raise UserError(
            f"hpe.predict.camera_height: got {camera.height}, but a lifting network finds the "
            "floor by the feet; leave it out"
        )
    observed, predicted = description(model)
    filled, notes = fill(track)
    source = track.source.skeleton
    points = to_skeleton(filled, source, observed.skeleton)
    parts = conversion_matrix(source, observed.skeleton) != 0
    missing = np.isnan(track.points[..., 0]) @ parts.T
    intrinsics = find_intrinsics(
        points, observed, camera.focal_length, camera.center, camera.image_size
    )
    notes.append(intrinsics.note)
    poses, moved = lift(model, intrinsics.normalise(points), batch_size)
    if moved:
        notes.append(f"{moved:.1%} of the frames: turned or scaled to what the network has seen")
    poses = convert(poses, predicted.skeleton, skeleton)
    # Legs that nobody has seen stand straight, whatever the person does.
    legs = [observed.skeleton.index(joint) for joint in _LEGS]
    rotation, note = camera_to_upright(
        poses[~missing[:, legs].any(axis=1)], skeleton, camera.pitch, camera.roll
    )
    upright = poses @ rotation.T
    check_finite(upright, track)
    return Prediction(
        skeleton=skeleton,
        frames=frame_names(track),
        frame_rate=frame_rate,
        keypoints=points,
        observed=~missing,
        keypoint_skeleton=observed.skeleton,
        camera=poses,
        upright=upright + place_on_ground(upright),
        rotation=rotation,
        focal_length=intrinsics.focal_length,
        center=intrinsics.center,
        notes=[*notes, note],
    )


def frame_names(track: Track) -> list[str]:
    """Returns the name of every frame of a track."""
    return [track.source.frame_names[frame] for frame in track.frames]


def check_finite(poses: np.ndarray, track: Track) -> None:
    """Refuses poses (frames, joints, 3) that are not numbers, by the name of the first frame."""
    finite = np.isfinite(poses).all(axis=(1, 2))
    if not finite.all():
        raise UserError(
            f"{track.source.path}: frame {frame_names(track)[finite.argmin()]}: the pose is not "
            "finite, expected numbers; look at its keypoints, and at the camera that is given"
        )


def _say(*notes: str) -> None:
    for note in notes:
        print(f"  {note}")


def write(prediction: Prediction, folder: pathlib.Path, picture_frames: int) -> None:
    """Writes every file, and says which.

    Args:
        prediction: what to write.
        folder: where; files of the same names are replaced.
        picture_frames: most frames of the moving picture; 0 for no pictures at all.
    """
    arrays = prediction.arrays()
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    readable = {name: _rounded(value) for name, value in arrays.items()}
    text = json.dumps(readable, allow_nan=False)
    for name in _FILES:  # of an earlier prediction: none of it must stand beside this one
        (folder / name).unlink(missing_ok=True)
    write_bytes(folder / "poses.npz", packed.getvalue())
    write_text(folder / "poses.json", text + "\n")
    rigid, of_bvh = write_bvh(
        folder / "poses.bvh", prediction.upright, prediction.skeleton, prediction.frame_rate
    )
    flexible = convert(prediction.upright, prediction.skeleton, of_bvh)
    distance = np.linalg.norm(rigid - flexible, axis=-1).mean()
    _say(f"poses.bvh: bones of constant length move joints by {1000 * distance:.0f} mm on average")
    print("\n".join(str(folder / name) for name in _FILES[:3]))
    if picture_frames:
        _draw(prediction, folder, picture_frames)


def _rounded(value: Any) -> Any:
    """Returns arrays as lists, to a tenth of a millimetre or pixel."""
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype == bool:
        return value.tolist()
    return np.round(value.astype(np.float64), 4).tolist()


def _draw(prediction: Prediction, folder: pathlib.Path, picture_frames: int) -> None:
    # Every command imports this module; what draws takes a second, and few of them draw.
    from ige.hpe.gif import write_gif
    from ige.hpe.viewer import write_viewer

    seen = Motion("2D keypoints", prediction.keypoints, prediction.keypoint_skeleton)
    lifted = Motion("prediction", prediction.upright, prediction.skeleton)
    kept, frame_rate = shown(prediction.frame_rate, _VIEWER_FRAMES)
    frames = prediction.frames[kept]
    if len(frames) == _VIEWER_FRAMES:
        _say(f"viewer.html: up to frame {frames[-1]}; all are in the other files")
    page = folder / "viewer.html"
    write_viewer(
        page,
        [lifted[kept], seen[kept]],
        f"{folder.resolve().name}: prediction",
        frames,
        frame_rate=frame_rate,
    )
    print(page)
    picture = folder / "sequence.gif"
    write_gif(picture, [seen, lifted], prediction.frame_rate, picture_frames)
    print(picture)
