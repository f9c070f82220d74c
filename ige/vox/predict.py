"""`predict`: images of objects to solid voxels and surfaces."""

import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import gin
import keras
import numpy as np
from tqdm import tqdm

from ige.errors import UserError
from ige.files import write_bytes, write_text
from ige.problem import Problem
from ige.runs import evaluation_file
from ige.vox import outputs
from ige.vox.binvox import Binvox, write_binvox
from ige.vox.photos import Photo, find_photos, read_photo
from ige.vox.surfaces import smooth_mesh
from ige.vox.viewer import Scene, write_viewer
from ige.vox.views import DISTANCE, ELEVATIONS, FOV, Views, from_grid, look_at_origin

_PUBLISHED_THRESHOLD = 0.4
_ELEVATION = sum(ELEVATIONS) / 2
# Along z: what is right, up and near in the image is at x, y and z.
_AZIMUTH = -90.0
_MAX_SCENES = 50
"""Of a page."""


@gin.configurable(module="vox", denylist=["load", "source", "make_folder"])
def predict(
    load: Callable[[Problem, str | int], Any],
    source: pathlib.Path,
    make_folder: Callable[[], pathlib.Path],
    problem: Problem = gin.REQUIRED,
    checkpoint: str | int = "last",
    threshold: float | None = None,
    elevation: float = _ELEVATION,
    azimuth: float = _AZIMUTH,
    distance: float = DISTANCE,
    fov: float = FOV,
    reframe: bool | None = None,
    pictures: bool = True,
    batch_size: int = 8,
) -> None:
    """Makes a .binvox and an .obj file of every image, and a page to turn them in.

    Nobody knows which way an object in a photo faces, so the frame of what is written is that of
    the camera, made upright: y is up and, with the default azimuth, x is to the right in the image
    and z towards the camera. Another azimuth turns the object about y, and should change no more.
    The object frame is a cube from -.5 to .5, in units of what the diagonal of an object's bounding
    box is in training.

    Args:
        load: problem, checkpoint -> what `ige.runners.load_trained` returns.
        source: an image, or a folder of them; see `ige.vox.photos`.
        make_folder: returns the folder to write to; called when there is something to write.
        problem: the problem of the trained network.
        checkpoint: 'last', 'best' or the number of an epoch.
        threshold: probability above which cells are solid; None: the one that `evaluate` found best
            for these weights on the validation split, else .4.
        elevation: of the camera above the horizon, degrees, less than 90.
        azimuth: of the camera about the upright axis, degrees; see `ige.vox.views`.
        distance: of the camera from the middle of the object.
        fov: field of view of the square that is cut from the image, degrees.
        reframe: cut images to the object; None: those that are framed otherwise than in training.
        pictures: write viewer.html too.
        batch_size: images per call of the network; changes the speed only.

    Raises:
        UserError: an image that cannot be used (which, why), a number that makes no sense, there is
            no such trained network, or it finds nothing solid in any image.
    """
    _check(threshold, elevation, distance, fov, batch_size)
    paths = find_photos(source)
    trained = load(problem, checkpoint)
    size = _image_size(trained.model, trained.path)
    # All are looked at before anything is written: what is wrong with one is known at once.
    photos = [read_photo(path, size, reframe) for path in paths]
    print("\n".join(photo.note for photo in photos))
    if threshold is None:
        threshold = _threshold(evaluation_file(trained.path.parent.parent, ""), trained.epoch)
    views = look_at_origin(*(np.array([value]) for value in (azimuth, elevation, distance)), fov)
    view = Views(*(field[0].astype(np.float32) for field in views))
    print(f"  network: {trained.path}, {trained.model.output_shape[-1]} cells along a side")
    _write(photos, trained.model, view, threshold, make_folder(), pictures, batch_size)


def _check(
    threshold: float | None, elevation: float, distance: float, fov: float, batch_size: int
) -> None:
    if threshold is not None and not 0 < threshold < 1:
        raise UserError(
            f"vox.predict.threshold: got {threshold}, expected more than 0, less than 1"
        )
    if not -89 <= elevation <= 89:
        raise UserError(f"vox.predict.elevation: got {elevation}, expected -89 to 89 degrees")
    if not 1 <= distance <= 100:
        raise UserError(
            f"vox.predict.distance: got {distance}, expected 1 to 100, lengths of the object"
        )
    if not 1 <= fov <= 150:
        raise UserError(f"vox.predict.fov: got {fov}, expected 1 to 150 degrees")
    if batch_size < 1:
        raise UserError(f"vox.predict.batch_size: got {batch_size}, expected at least 1")


def _image_size(model: keras.Model, origin: pathlib.Path) -> int:
    """Returns the pixels along a side of the images that a network sees."""
    shapes = {tensor.name: tuple(tensor.shape) for tensor in model.inputs}
    if "image" not in shapes:
        raise UserError(
            f"{origin}: takes {', '.join(sorted(shapes))}, expected a network of images; choose "
            "another config"
        )
    return shapes["image"][1]


def _threshold(evaluation: pathlib.Path, epoch: int) -> float:
    """Returns the threshold that `evaluate` chose for the weights of an epoch, on data as they were
    trained with; says so if it has not."""
    figures = json.loads(evaluation.read_text("utf-8")) if evaluation.is_file() else {}
    if "threshold" not in figures:
        why = "for want of vox.predict.threshold"
    elif figures["epoch"] != epoch:
        why = f"because {evaluation} is of epoch {figures['epoch']}"
    elif figures["evaluated_with"]:
        why = f"because {evaluation} is of other data than the training"
    else:
        print(f"  cells are solid above {figures['threshold']:.3g}, as {evaluation} has it")
        return figures["threshold"]
    print(
        f"  cells are solid above {_PUBLISHED_THRESHOLD}, {why}: --command=evaluate finds the best"
    )
    return _PUBLISHED_THRESHOLD


def _write(
    photos: Sequence[Photo],
    model: keras.Model,
    view: Views,
    threshold: float,
    folder: pathlib.Path,
    pictures: bool,
    batch_size: int,
) -> None:
    """Writes every file, and says which."""
    whole, steps = outputs.with_iterates(model)
    scenes: list[Scene] = []
    written: list[pathlib.Path] = []
    starts = range(0, len(photos), batch_size)
    for start in tqdm(starts, desc="predicting", unit=" batches", leave=False, disable=None):
        batch = photos[start : start + batch_size]
        grids = outputs.probabilities(whole, _inputs(batch, view))
        for photo, iterates in zip(batch, grids, strict=True):
            written += _write_shape(photo, iterates[-1], threshold, folder)
            if len(scenes) < _MAX_SCENES:
                scenes.append(Scene(photo.name, photo.image, view, iterates > threshold))
    if not written:
        raise UserError(
            f"vox.predict.threshold: got {threshold:.3g}, which no cell of {len(photos)} image"
            f"{'s' * (len(photos) > 1)} reaches; lower it, or look at the image"
        )
    (folder / "viewer.html").unlink(missing_ok=True)  # of an earlier prediction
    if pictures:
        if len(photos) > len(scenes):
            print(f"  viewer.html: the first {len(scenes)} of {len(photos)} images")
        page = folder / "viewer.html"
        write_viewer(page, scenes, f"{folder.resolve().name}: prediction", threshold, steps)
        written.append(page)
    print("\n".join(map(str, written)))


def _inputs(photos: Sequence[Photo], view: Views) -> dict[str, np.ndarray]:
    """Returns a batch of what a network is given."""
    cameras = from_grid(view)._asdict()
    return {name: np.stack([field] * len(photos)) for name, field in cameras.items()} | {
        "image": np.stack([photo.image for photo in photos]),
        "silhouette": np.stack([photo.silhouette for photo in photos]),
    }


def _write_shape(
    photo: Photo, probabilities: np.ndarray, threshold: float, folder: pathlib.Path
) -> list[pathlib.Path]:
    """Writes the two files of a grid (R, R, R), and returns them; none if nothing is solid."""
    paths = [folder / f"{photo.name}{suffix}" for suffix in (".binvox", ".obj")]
    for path in paths:  # of an earlier prediction: one without the other would not belong to it
        path.unlink(missing_ok=True)
    solid = probabilities > threshold
    if not solid.any():
        print(
            f"{photo.name}: no cell is solid, the highest probability is "
            f"{probabilities.max():.2g}; nothing is written of it"
        )
        return []
    write_bytes(paths[0], write_binvox(Binvox(solid, np.full(3, -0.5), 1.0)))
    surface = smooth_mesh(probabilities, threshold)
    header = f"where the probability is {threshold:.3g}"
    write_text(paths[1], surface.export(file_type="obj", include_normals=False, header=header))
    return paths
