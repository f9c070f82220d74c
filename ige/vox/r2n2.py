"""Voxels and renderings as 3D-R2N2 published them (Choy et al., ECCV 2016).

Free of TensorFlow: processes that build import this.
"""

import dataclasses
import io

import numpy as np
from PIL import Image, UnidentifiedImageError

from ige.data.damage import DAMAGE, one_line
from ige.errors import UserError
from ige.vox.binvox import Binvox, read_binvox
from ige.vox.observations import Refusal, encode_png
from ige.vox.views import FOV, Views, look_at_origin

RESOLUTION = 32
IMAGE_SIZE = 137
VIEWS = 24
MAX_CAMERA_DISTANCE = 1.75
"""What the distances of the metadata are ratios of."""

MAX_RATIO = 100
"""Of a camera's distance. The published ones are .65 to .95."""

MARGIN = 0.1
"""How far solid cells may leave the cube from -.5 to .5, in which the models are: binvox makes them
thicker, by less than a cell."""

MIN_SIDE = 0.01
"""Of a grid: cameras are measured in it."""

PNG_NAMES = tuple(f"{view:02d}.png" for view in range(VIEWS))
METADATA_NAME = "rendering_metadata.txt"

_COLUMNS = 5


@dataclasses.dataclass(frozen=True)
class R2n2Files:
    """The files of a model.

    Attributes:
        binvox: content of model.binvox.
        rendering: content of the files in rendering/, by name.
    """

    binvox: bytes
    rendering: dict[str, bytes]


@dataclasses.dataclass(frozen=True)
class R2n2Model:
    """A model with views.

    Attributes:
        grid: solid cells, and where they are in the object frame.
        images: PNG files with an alpha channel, one for every view.
        views: the cameras.
    """

    grid: Binvox
    images: tuple[bytes, ...]
    views: Views


def read_model(files: R2n2Files) -> R2n2Model | Refusal:
    """Returns a model, or why it cannot be used."""
    if missing := [n for n in (*PNG_NAMES, METADATA_NAME) if n not in files.rendering]:
        return _refusal("has no full set of views", f"{missing[0]} is missing")
    try:
        grid = read_binvox(files.binvox, "model.binvox")
    except UserError as error:
        return _refusal("has voxels that cannot be read", str(error))
    if grid.occupancy.shape != (RESOLUTION,) * 3:
        return _refusal("has voxels of another size", " x ".join(map(str, grid.occupancy.shape)))
    if not grid.occupancy.any():
        return _refusal("has no solid voxel", "all are empty")
    if not _is_in_place(grid):
        at = " ".join(f"{value:g}" for value in grid.translate)
        return _refusal("has voxels out of place", f"at {at}, sides of {grid.scale:g}")
    try:
        images = tuple(_checked_png(files.rendering[name], name) for name in PNG_NAMES)
    except ValueError as error:
        return _refusal("has an image that cannot be read", str(error))
    try:
        views = read_metadata(files.rendering[METADATA_NAME])
    except ValueError as error:
        return _refusal("has cameras that cannot be read", one_line(error))
    return R2n2Model(grid, images, views)


def read_metadata(data: bytes) -> Views:
    """Returns the cameras of a rendering_metadata.txt.

    A row has azimuth, elevation, in-plane rotation, distance as a ratio, and a field of view of 25
    degrees, which the renderer never applied: it kept Blender's.

    Raises:
        ValueError: it has other rows.
    """
    rows = [line.split() for line in data.decode("ascii").splitlines() if line.strip()]
    if [len(row) for row in rows] != [_COLUMNS] * VIEWS:
        raise ValueError(f"got {len(rows)} rows, expected {VIEWS} of {_COLUMNS} numbers")
    azimuth, elevation, roll, ratio, _ = np.array(rows, float).T
    upright = np.isfinite(azimuth) & (np.abs(elevation) < 90) & (roll == 0)
    distance = ratio * MAX_CAMERA_DISTANCE
    if not (upright & (distance > 0.5) & (ratio <= MAX_RATIO)).all():
        raise ValueError("got a camera that is turned, at the pole, in the object or nowhere")
    # The renderer turned its camera by the negative azimuth.
    return look_at_origin(-azimuth, elevation, distance, FOV)


def _is_in_place(grid: Binvox) -> bool:
    """Returns whether the solid cells are where models are."""
    cell = grid.scale / RESOLUTION
    solid = np.argwhere(grid.occupancy)
    low, high = solid.min(axis=0) * cell, (solid.max(axis=0) + 1) * cell
    farthest = max(-(grid.translate + low).min(), (grid.translate + high).max())
    return grid.scale >= MIN_SIDE and farthest <= 0.5 + MARGIN


def _checked_png(data: bytes, name: str) -> bytes:
    """Returns a PNG file of the right size with an alpha channel.

    Raises:
        ValueError: it is damaged or of another size.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            if image.size != (IMAGE_SIZE, IMAGE_SIZE):
                raise ValueError(
                    f"got {image.width} x {image.height} pixels, expected {IMAGE_SIZE}"
                )
            image.load()
            return data if image.mode == "RGBA" else encode_png(np.asarray(image.convert("RGBA")))
    except UnidentifiedImageError:  # which names an address in memory
        raise ValueError(f"{name}: not a PNG file") from None
    except (*DAMAGE, Image.DecompressionBombError) as error:
        raise ValueError(f"{name}: {one_line(error)}") from error


def _refusal(reason: str, detail: str) -> Refusal:
    return Refusal(reason, f"{reason}: {detail}")
