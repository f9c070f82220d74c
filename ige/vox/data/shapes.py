"""Models with views, as every data set of voxels hands them out and tfds stores them."""

import dataclasses
import io
import pathlib
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from ige.data.examples import as_bytes, read_examples
from ige.vox.data.features import Deflated, Occupancy
from ige.vox.grids import packed_size, unpack
from ige.vox.observations import DEPTH_UNIT, Observation
from ige.vox.rendering import WHITE
from ige.vox.views import Cameras, Views, from_grid

SOLID = 128
"""Alpha from which a pixel shows the model: half of it."""


@dataclasses.dataclass(frozen=True)
class Shape:
    """A model and what cameras around it see; arrays are unpacked when they are asked for.

    The object frame is that of ShapeNet's files, y up; see `ige.vox.grids` for the cells and
    `ige.vox.views` for the cameras.

    Attributes:
        synset: '03001627'.
        model: its id.
        resolution: R, cells along a side.
        image_size: pixels along a side.
        grid: deflated bits of the solid cells.
        pngs: an image for every view, with an alpha channel.
        depth_data: deflated depths of every view; None if there are none.
        views: the cameras, float32.
        translate: (3,) float32 corner of the grid in the object frame.
        scale: length of the grid along an axis.
    """

    synset: str
    model: str
    resolution: int
    image_size: int
    grid: bytes
    pngs: tuple[bytes, ...]
    depth_data: bytes | None
    views: Views
    translate: np.ndarray
    scale: float

    @property
    def cameras(self) -> Cameras:
        """The views from the grid, float32."""
        return from_grid(self.views, self.translate + self.scale / 2, self.scale)

    @property
    def packed(self) -> np.ndarray:
        """(R^3 / 8,) uint8, the bits of the solid cells: see `grids.unpack`, and
        `data.features.unpack_bits` for TensorFlow."""
        return np.frombuffer(zlib.decompress(self.grid), np.uint8)

    @property
    def occupancy(self) -> np.ndarray:
        """(R, R, R) bool solid cells, by x, y, z."""
        return unpack(self.packed, (self.resolution,) * 3)

    def rgba(self, view: int) -> np.ndarray:
        """Returns an image (size, size, 4) uint8; alpha is 0 where nothing is."""
        with Image.open(io.BytesIO(self.pngs[view])) as image:
            return np.asarray(image.convert("RGBA"))

    def image(self, view: int) -> np.ndarray:
        """Returns an image (size, size, 3) uint8 before white."""
        return before_white(self.rgba(view))

    def silhouette(self, view: int) -> np.ndarray:
        """Returns where an image (size, size) shows the model, bool: at least half of the pixel."""
        return self.rgba(view)[..., 3] >= SOLID

    @property
    def depth(self) -> np.ndarray | None:
        """(views, size, size) float32 along the optical axis, 0 where nothing is; None without."""
        if self.depth_data is None:
            return None
        stored = np.frombuffer(zlib.decompress(self.depth_data), np.uint16)
        return stored.reshape(-1, self.image_size, self.image_size) * np.float32(DEPTH_UNIT)


def before_white(rgba: np.ndarray) -> np.ndarray:
    """Returns images (..., 3) uint8 before a white ground, of images (..., 4) uint8.

    Colours are mixed by alpha, so that soft borders are no darker than what they border on.
    """
    alpha = rgba[..., 3:] / np.float32(255)
    return (rgba[..., :3] * alpha + WHITE * (1 - alpha)).round().astype(np.uint8)


def features(
    resolution: int, views: int, image_size: int, has_depth: bool
) -> tfds.features.FeaturesDict:
    """Returns the features of an example."""
    depth = Deflated(
        shape=(views, image_size, image_size),
        dtype=np.uint16,
        encoding=tfds.features.Encoding.ZLIB,
    )
    image = tfds.features.Image(shape=(image_size, image_size, 4), encoding_format="png")
    named = {
        "synset": tfds.features.Text(),
        "model": tfds.features.Text(),
        "occupancy": Occupancy(shape=(resolution,) * 3),
        "translate": as_bytes(3, dtype=np.float32),
        "scale": tfds.features.Scalar(np.float32),
        "images": tfds.features.Sequence(image, length=views),
        "rotation": as_bytes(views, 3, 3, dtype=np.float32),
        "centre": as_bytes(views, 3, dtype=np.float32),
        "focal": as_bytes(views, dtype=np.float32),
    }
    return tfds.features.FeaturesDict(named | ({"depth": depth} if has_depth else {}))


def example(
    synset: str,
    model: str,
    occupancy: np.ndarray,
    pngs: Sequence[bytes],
    views: Views,
    depth: bytes | None = None,
    translate: Sequence[float] = (-0.5, -0.5, -0.5),
    scale: float = 1.0,
) -> dict[str, Any]:
    """Returns an example of `features`; see `Shape` and `observations.Observation`."""
    return {
        "synset": synset,
        "model": model,
        "occupancy": occupancy,
        "translate": np.asarray(translate, np.float32),
        "scale": scale,
        "images": [io.BytesIO(png) for png in pngs],
        **{field: np.asarray(value, np.float32) for field, value in views._asdict().items()},
        **({} if depth is None else {"depth": depth}),
    }


def observed(synset: str, model: str, made: Observation) -> tuple[str, dict[str, Any]]:
    """Returns the key and the example of a model that was built."""
    return f"{synset} {model}", example(
        synset, model, made.occupancy, made.images, made.views, made.depth
    )


def read_shapes(folder: pathlib.Path, split: str, views: int | None) -> list[Shape]:
    """Returns every model of a split of a build, by synset and id.

    Args:
        folder: the build.
        split: one of `names.SPLITS`.
        views: how many views of each to keep in memory, the first; None for all.
    """
    skipped = ("occupancy", "images", "depth")
    shapes = read_examples(folder, split, lambda raw: _shape(raw, views), skipped)
    return sorted(shapes, key=lambda shape: (shape.synset, shape.model))


def _shape(raw: dict[str, Any], count: int | None) -> Shape:
    fields = (raw[field][:count] for field in Views._fields)
    pngs = tuple(raw["images"][:count])
    with Image.open(io.BytesIO(pngs[0])) as image:
        size = image.width
    depth = raw.get("depth")
    if depth is not None and count is not None:
        kept = zlib.decompress(depth)[: 2 * count * size * size]
        depth = zlib.compress(kept)
    bits = 8 * len(zlib.decompress(raw["occupancy"]))
    return Shape(
        synset=raw["synset"].decode(),
        model=raw["model"].decode(),
        resolution=round(bits ** (1 / 3)),
        image_size=size,
        grid=raw["occupancy"],
        pngs=pngs,
        depth_data=depth,
        views=Views(*fields),
        translate=raw["translate"],
        scale=float(raw["scale"]),
    )


def stack(shapes: Sequence[Shape], views: Sequence[int] | None = None) -> dict[str, np.ndarray]:
    """Returns arrays of n models and v views of each, to form batches of by index: what networks
    are given, and the cells.

    Args:
        shapes: the models, of one resolution and image size.
        views: which views; None for all.

    Returns:
        'image' (n, v, size, size, 3) uint8 before white, 'silhouette' (n, v, size, size) bool,
        'occupancy' (n, R^3 / 8) uint8, packed, the cameras of the grid 'rotation' (n, v, 3, 3),
        'centre' (n, v, 3), 'focal' (n, v) and 'planes' (n, v, 2) float32, see `views.Cameras`, and,
        if there are any, 'depth' (n, v, size, size) float32, of the object frame.
    """
    chosen = list(range(len(shapes[0].pngs)) if views is None else views)
    size = shapes[0].image_size
    lead = (len(shapes), len(chosen))
    arrays = {
        "image": np.empty((*lead, size, size, 3), np.uint8),
        "silhouette": np.empty((*lead, size, size), bool),
        "occupancy": np.empty((len(shapes), packed_size((shapes[0].resolution,) * 3)), np.uint8),
    }
    if shapes[0].depth_data is not None:
        arrays["depth"] = np.empty((*lead, size, size), np.float32)
    for i, shape in enumerate(shapes):
        arrays["occupancy"][i] = shape.packed
        for j, view in enumerate(chosen):
            rgba = shape.rgba(view)
            arrays["image"][i, j] = before_white(rgba)
            arrays["silhouette"][i, j] = rgba[..., 3] >= SOLID
        if "depth" in arrays:
            arrays["depth"][i] = shape.depth[chosen]
    cameras = [shape.cameras for shape in shapes]
    for field in Cameras._fields:
        arrays[field] = np.stack([getattr(of_shape, field)[chosen] for of_shape in cameras])
    return arrays
