"""Triangle meshes with colours, read from .obj and .mtl files by trimesh.

Models are made by many people with many programs: few are closed, normals point anywhere. What
cannot be used is refused with a reason that a build can count.
"""

import codecs
import io
import re
import warnings
from typing import NamedTuple

import numpy as np
import trimesh

from ige.data.damage import DAMAGE, one_line

MARGIN = 0.01
"""How far beyond the cube from -.5 to .5 a vertex may be: files round."""

MAX_FACES = 2**23
MAX_MATERIALS = 2000
"""Bounds of what a file may have. trimesh takes 200 bytes for a face, and goes through all vertices
for every material."""

_GREY = (178, 178, 178)
_MATERIAL = re.compile(rb"^usemtl\s[^\n]*", re.MULTILINE)
_NO_VERTEX = re.compile(rb"^f[^\n]*[ \t]0+(?:[/\s]|\Z)", re.MULTILINE)
_BACKWARDS = re.compile(rb"^f[^\n]*[ \t]-\d", re.MULTILINE)


class RefusedError(ValueError):
    """A model that cannot be used.

    Attributes:
        reason: what is wrong, the same words for every model that has it.
    """

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


class Mesh(NamedTuple):
    """A triangle mesh in the object frame: y up, in the cube from -.5 to .5.

    Attributes:
        vertices: (v, 3) float64, those of faces only.
        faces: (f, 3) int64 indices of vertices.
        colours: (f, 3) uint8, red, green, blue of each face's material.
    """

    vertices: np.ndarray
    faces: np.ndarray
    colours: np.ndarray


def read_obj(obj: bytes, materials: dict[str, bytes]) -> Mesh:
    """Returns the mesh in a Wavefront .obj file; textures are left out.

    Args:
        obj: the file.
        materials: content of the .mtl files beside it, by name.

    Raises:
        RefusedError: it is damaged, has no faces, or vertices that are not finite or too far out.
    """
    obj = obj.removeprefix(codecs.BOM_UTF8)
    _refuse_misread(obj)
    # Some programs name the file as ./model.mtl.
    beside = materials | {f"./{name}": data for name, data in materials.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of NumPy about numbers that it cannot read
        try:
            scene = trimesh.load_scene(
                io.BytesIO(obj), file_type="obj", resolver=beside, process=False
            )
        except DAMAGE as error:
            raise RefusedError("cannot be read", one_line(error)) from error
    parts = [part for part in scene.geometry.values() if isinstance(part, trimesh.Trimesh)]
    parts = [part for part in parts if len(part.faces)]
    if not parts:
        raise RefusedError("has no faces")
    counts = [len(part.vertices) for part in parts]
    starts = np.cumsum([0, *counts[:-1]])
    for part, count in zip(parts, counts, strict=True):
        if part.vertices.shape[1:] != (3,):
            raise RefusedError("cannot be read", "its vertices have no three coordinates")
        if part.faces.min() < 0 or part.faces.max() >= count:
            raise RefusedError("has faces without vertices")
    return checked(
        Mesh(
            np.concatenate([np.asarray(part.vertices, np.float64) for part in parts]),
            np.concatenate(
                [np.asarray(p.faces, np.int64) + s for p, s in zip(parts, starts, strict=True)]
            ),
            np.concatenate([np.tile(_colour(part), (len(part.faces), 1)) for part in parts]),
        )
    )


def _refuse_misread(obj: bytes) -> None:
    """Raises a RefusedError if trimesh would take too long over a file, or take it for another."""
    faces = obj.count(b"\nf")
    if faces > MAX_FACES:
        raise RefusedError("has too many faces", f"got {faces:,}, expected at most {MAX_FACES:,}")
    materials = len(set(_MATERIAL.findall(obj)))
    if materials > MAX_MATERIALS:
        raise RefusedError(
            "has too many materials", f"got {materials:,}, expected at most {MAX_MATERIALS:,}"
        )
    # Vertices count from 1; trimesh takes 0 for the first one too.
    if _NO_VERTEX.search(obj):
        raise RefusedError("has faces without vertices", "vertex 0")
    # -1 is the last vertex before the face; trimesh takes it for the last of all.
    if 0 <= obj.find(b"\nf ") < obj.rfind(b"\nv ") and _BACKWARDS.search(obj):
        raise RefusedError("counts vertices backwards where more follow")


def checked(mesh: Mesh) -> Mesh:
    """Returns the mesh.

    Raises:
        RefusedError: its faces cannot be used.
    """
    farthest = np.abs(mesh.vertices).max()
    if not np.isfinite(farthest):
        raise RefusedError("has vertices that are not finite")
    if farthest > 0.5 + MARGIN:
        raise RefusedError(
            "is outside the cube from -0.5 to 0.5", f"a coordinate is {farthest:.3g}"
        )
    sides = mesh.vertices[mesh.faces[:, 1:]] - mesh.vertices[mesh.faces[:, :1]]
    if not np.cross(sides[:, 0], sides[:, 1]).any():
        raise RefusedError("has no face with an area")
    return mesh


def _colour(part: trimesh.Trimesh) -> np.ndarray:
    """Returns the colour (3,) uint8 of a part's material; grey if it has none."""
    material = getattr(part.visual, "material", None)
    colour = getattr(material, "diffuse", None)
    return np.asarray(_GREY if colour is None else colour[:3], np.uint8)
