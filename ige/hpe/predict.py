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
from ige.hpe.bvh import bvh_motion, write_bvh
from ige.hpe.gravity import camera_to_upright, place_on_ground
from ige.hpe.keypoints import read_keypoints
from ige.hpe.layers import description
from ige.hpe.lift import check_image_size, find_intrinsics, lift
from ige.hpe.motion import Motion
from ige.hpe.people import Track, choose, fill, to_skeleton
from ige.hpe.problem import HpeProblem
from ige.hpe.skeleton import Skeleton, convert

_FRAME_RATE = 30.0
_VIEWER_FRAMES = 1000


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What is written.

    Attributes:
        skeleton: joints of the poses.
        frames: name of every frame.
        frame_rate: frames per second.
        keypoints: (frames, 2D joints, 2) pixels, as the network got them: gaps filled in.
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
    """

    image_size: tuple[float, float] | None = None
    focal_length: float | tuple[float, float] | None = None
    center: tuple[float, float] | None = None
    pitch: float | None = None
    roll: float | None = None


@gin.configurable(module="hpe", denylist=["load", "source", "make_folder"])
def predict(
    load: Callable[[HpeProblem, str | int], Any],
    source: pathlib.Path,
    make_folder: Callable[[], pathlib.Path],
    problem: HpeProblem = gin.REQUIRED,
    checkpoint: str | int = "last",
    person: int | None = None,
    skeleton: str | None = None,
    min_confidence: float = 0.3,
    image_size: tuple[float, float] | None = None,
    focal_length: float | tuple[float, float] | None = None,
    center: tuple[float, float] | None = None,
    pitch: float | None = None,
    roll: float | None = None,
    frame_rate: float | None = None,
    pictures: bool = True,
    picture_frames: int = 250,
    batch_size: int = 2048,
) -> None:
    """Lifts 2D keypoints of a video to 3D; writes poses.npz, .json and .bvh, and pictures.

    Args:
        load: problem, checkpoint -> what `ige.runners.load_trained` returns.
        source: file of keypoints, or folder with a file per frame; see `ige.hpe.keypoints`.
        make_folder: returns the folder to write to; called when there is something to write.
        problem: the problem of the trained network.
        checkpoint: 'last', 'best' or the number of an epoch.
        person: number of the person, 0 for the largest; None: the largest of each frame.
        skeleton: name of the skeleton of the keypoints, for files that do not say it.
        min_confidence: keypoints of less confidence are filled in from other frames.
        image_size: width, height of the video, pixels; None: as the file says, if it does.
        focal_length: of the camera, pixels, one or (x, y); None: guessed.
        center: principal point of the camera, pixels; None: guessed.
        pitch: how far the camera looks down, degrees; None: estimated from the poses.
        roll: how far it is turned clockwise, degrees; None: estimated from the poses.
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
    _say(*track.notes)
    if frame_rate is None and keypoints.frame_rate is None:
        _say(f"{_FRAME_RATE:g} frames per second, for want of predict.frame_rate")
    # What is given goes before what the file says.
    camera = Camera(
        image_size or keypoints.image_size,
        focal_length if focal_length is not None else keypoints.focal_length,
        center if center is not None else keypoints.center,
        pitch,
        roll,
    )
    if camera.image_size is not None:
        check_image_size(camera.image_size, track)
    trained = load(problem, checkpoint)
    prediction = lift_track(
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
        raise UserError(f"predict.min_confidence: got {min_confidence}, expected 0 to 1")
    if frame_rate is not None and not 0 < frame_rate < np.inf:
        raise UserError(f"predict.frame_rate: got {frame_rate}, expected more than 0")
    for name, value in (("picture_frames", picture_frames), ("batch_size", batch_size)):
        if value < 1:
            raise UserError(f"predict.{name}: got {value}, expected at least 1")


def lift_track(
    track: Track,
    model: keras.Model,
    skeleton: Skeleton,
    camera: Camera,
    frame_rate: float,
    batch_size: int = 2048,
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
    observed, predicted = description(model)
    filled, notes = fill(track)
    points = to_skeleton(filled, track.source.skeleton, observed.skeleton)
    intrinsics = find_intrinsics(
        points, observed, camera.focal_length, camera.center, camera.image_size
    )
    notes.append(intrinsics.note)
    poses, moved = lift(model, intrinsics.normalise(points), batch_size)
    if moved:
        notes.append(f"{moved:.1%} of the frames: turned or scaled to what the network has seen")
    poses = convert(poses, predicted.skeleton, skeleton)
    rotation, note = camera_to_upright(poses, skeleton, camera.pitch, camera.roll)
    upright = poses @ rotation.T
    return Prediction(
        skeleton=skeleton,
        frames=[track.source.frame_names[frame] for frame in track.frames],
        frame_rate=frame_rate,
        keypoints=points,
        keypoint_skeleton=observed.skeleton,
        camera=poses,
        upright=upright + place_on_ground(upright),
        rotation=rotation,
        focal_length=intrinsics.focal_length,
        center=intrinsics.center,
        notes=[*notes, note],
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
    write_bytes(folder / "poses.npz", packed.getvalue())
    text = json.dumps({name: _rounded(value) for name, value in arrays.items()})
    write_text(folder / "poses.json", text + "\n")
    write_bvh(folder / "poses.bvh", prediction.upright, prediction.skeleton, prediction.frame_rate)
    rigid, of_bvh = bvh_motion(prediction.upright, prediction.skeleton)
    distance = np.linalg.norm(
        rigid - convert(prediction.upright, prediction.skeleton, of_bvh), axis=-1
    ).mean()
    _say(f"poses.bvh: bones of constant length move joints by {1000 * distance:.0f} mm on average")
    print("\n".join(str(folder / name) for name in ("poses.npz", "poses.json", "poses.bvh")))
    if picture_frames:
        _draw(prediction, folder, picture_frames)


def _rounded(value: Any) -> Any:
    """Returns arrays as lists, to a tenth of a millimetre or pixel."""
    if not isinstance(value, np.ndarray):
        return value
    return np.round(value.astype(np.float64), 4).tolist()


def _draw(prediction: Prediction, folder: pathlib.Path, picture_frames: int) -> None:
    # Every command imports this module; what draws takes a second, and few of them draw.
    from ige.hpe.gif import write_gif
    from ige.hpe.viewer import write_viewer

    total = len(prediction.frames)
    seen = Motion("2D keypoints", prediction.keypoints, prediction.keypoint_skeleton)
    lifted = Motion("prediction", prediction.upright, prediction.skeleton)
    step = -(-total // _VIEWER_FRAMES)
    if step > 1:
        _say(f"viewer.html: one of {step} frames, {_VIEWER_FRAMES:,} at most")
    page = folder / "viewer.html"
    write_viewer(
        page,
        [lifted[::step], seen[::step]],
        f"{folder.name}: prediction",
        prediction.frames[::step],
        frame_rate=prediction.frame_rate / step,
    )
    print(page)
    picture = folder / "sequence.gif"
    write_gif(picture, [seen, lifted], prediction.frame_rate, picture_frames)
    print(picture)
