"""What is built of a model's files: solid cells, and what cameras around it see.

Free of TensorFlow: processes that build import this.
"""

import dataclasses
import io
import pathlib
import zlib

import numpy as np
from PIL import Image

from ige.files import write_bytes
from ige.vox.grids import pack, unpack
from ige.vox.meshes import RefusedError, read_obj
from ige.vox.rendering import render
from ige.vox.views import FOV, LEGACY_FOV, Views, random_views
from ige.vox.voxels import voxelise

DEPTH_UNIT = 2.0**-14
"""Depths are stored as multiples of it, in 16 bits: steps of 6e-5, up to 4."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What to build of every model.

    Attributes:
        resolution: cells along a side.
        views: cameras around it.
        image_size: pixels along a side.
        legacy_fov: the field of view of the published code.
        view_seed: other seeds give other views.
    """

    resolution: int = 32
    views: int = 24
    image_size: int = 128
    legacy_fov: bool = False
    view_seed: int = 0

    @property
    def name(self) -> str:
        """Names a build in folders: '32-24x128'."""
        name = f"{self.resolution}-{self.views}x{self.image_size}"
        name += "-legacy_fov" if self.legacy_fov else ""
        return name + (f"-seed{self.view_seed}" if self.view_seed else "")


@dataclasses.dataclass(frozen=True)
class ModelFiles:
    """The files of a model.

    Attributes:
        synset: '03001627'.
        model: its id.
        obj: content of the .obj file.
        materials: content of the .mtl files beside it, by name.
    """

    synset: str
    model: str
    obj: bytes
    materials: dict[str, bytes]


@dataclasses.dataclass(frozen=True)
class Observation:
    """What is built of a model.

    Attributes:
        occupancy: (R, R, R) bool solid cells.
        images: PNG files, red, green, blue and alpha, one for every view.
        depth: deflated (views, size, size) uint16 depths in `DEPTH_UNIT`, 0 where nothing is.
        views: the cameras.
    """

    occupancy: np.ndarray
    images: tuple[bytes, ...]
    depth: bytes
    views: Views

    def save(self, path: pathlib.Path) -> None:
        """Writes a file that `load` reads, whole or not at all."""
        stream = io.BytesIO()
        np.savez(
            stream,
            shape=self.occupancy.shape,
            occupancy=pack(self.occupancy),
            images=np.frombuffer(b"".join(self.images), np.uint8),
            lengths=np.array([len(image) for image in self.images]),
            depth=np.frombuffer(self.depth, np.uint8),
            **self.views._asdict(),
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, stream.getvalue())

    @classmethod
    def load(cls, path: pathlib.Path) -> "Observation":
        """Returns what `save` wrote."""
        with np.load(path) as arrays:
            ends = np.cumsum(arrays["lengths"])
            parts = np.split(arrays["images"], ends[:-1])
            return cls(
                unpack(arrays["occupancy"], tuple(arrays["shape"])),
                tuple(part.tobytes() for part in parts),
                arrays["depth"].tobytes(),
                Views(*(arrays[field] for field in Views._fields)),
            )


@dataclasses.dataclass(frozen=True)
class Refusal:
    """A model that cannot be used.

    Attributes:
        reason: the same words for every model with that fault.
        text: with what is particular to this one.
    """

    reason: str
    text: str


def observe(files: ModelFiles, recipe: Recipe) -> Observation | Refusal:
    """Returns what is built of a model, or why nothing is."""
    try:
        mesh = read_obj(files.obj, files.materials)
        occupancy = voxelise(mesh, recipe.resolution)
    except RefusedError as error:
        return Refusal(error.reason, str(error))
    if not occupancy.any():
        return Refusal("meets no cell", f"meets no cell of {recipe.resolution}")
    fov = LEGACY_FOV if recipe.legacy_fov else FOV
    views = random_views(files.model, recipe.views, fov, recipe.view_seed)
    images, depths = render(mesh, views, recipe.image_size)
    alpha = np.where(depths > 0, np.uint8(255), np.uint8(0))
    return Observation(
        occupancy,
        tuple(map(encode_png, np.concatenate([images, alpha[..., np.newaxis]], axis=-1))),
        zlib.compress((depths / DEPTH_UNIT).round().astype(np.uint16).tobytes()),
        views,
    )


@dataclasses.dataclass(frozen=True)
class Task:
    """A model to build, or one that an interrupted build has left.

    Attributes:
        files: of the model; None if `path` is there.
        recipe: what to build.
        path: file that keeps it until the build is whole; None to keep nothing.
    """

    files: ModelFiles | None
    recipe: Recipe
    path: pathlib.Path | None


def perform(task: Task) -> Observation | Refusal | pathlib.Path:
    """Returns what is built, or the file that has it, so that processes pass on nothing large."""
    if task.files is None:
        return task.path
    built = observe(task.files, task.recipe)
    if isinstance(built, Refusal) or task.path is None:
        return built
    built.save(task.path)
    return task.path


def encode_png(image: np.ndarray) -> bytes:
    """Returns an image (height, width, 3 or 4) uint8 as a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "png")
    return stream.getvalue()
