"""Images, silhouettes and depths of meshes, by casting rays; needs no display and no GPU.

`python -m benchmarks.voxels` has the time it takes.
"""

import numpy as np

from ige.vox.meshes import Mesh
from ige.vox.views import Views, pixel_rays
from ige.vox.voxels import intersector

WHITE = 255

AMBIENT, HEADLIGHT, SUN = 0.35, 0.35, 0.3
"""Light from everywhere, from where one looks, and from the sun; 1 in all."""

SUN_DIRECTION = np.array([0.48, 0.8, 0.36])
"""Of unit length, towards the sun."""


def render(mesh: Mesh, views: Views, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns what the centre of every pixel sees.

    Faces are lit from both sides, because normals point anywhere, without shadows or highlights.

    Args:
        mesh: in the object frame.
        views: n cameras outside of the mesh.
        size: pixels along a side.

    Returns:
        Images (n, size, size, 3) uint8 before white, and depths (n, size, size) float32 along the
        optical axis, 0 where there is nothing: the silhouette is where they are not.
    """
    rays = intersector(mesh)
    corners = mesh.vertices[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=-1, keepdims=True)
    normals = np.divide(normals, lengths, out=np.zeros_like(normals), where=lengths > 0)
    images = np.full((len(views.centre), size, size, 3), WHITE, np.uint8)
    depths = np.zeros((len(views.centre), size, size), np.float32)
    for i in range(len(views.centre)):
        view = Views(*(field[i] for field in views))
        directions = pixel_rays(view, size).reshape(-1, 3)
        face = rays.intersects_first(np.tile(view.centre, (size**2, 1)), directions)
        (seen,) = np.nonzero(face >= 0)
        face, directions = face[seen], directions[seen]
        depths[i].reshape(-1)[seen] = _depth(view, directions, corners[face], normals[face])
        images[i].reshape(-1, 3)[seen] = _shade(mesh.colours[face], normals[face], directions)
    return images, depths


def _depth(
    view: Views, directions: np.ndarray, corners: np.ndarray, normals: np.ndarray
) -> np.ndarray:
    """Returns the depths (n,) at which rays (n, 3) meet the planes of triangles (n, 3, 3)."""
    along = np.einsum("ni,ni->n", normals, directions)
    ahead = np.einsum("ni,ni->n", normals, corners[:, 0] - view.centre)
    of_corners = (corners - view.centre) @ view.rotation[2]
    middle = of_corners.mean(axis=1)
    depth = np.divide(ahead, along, out=middle, where=along != 0)
    # Of a face seen from its edge the plane says little.
    return depth.clip(of_corners.min(axis=1), of_corners.max(axis=1))


def _shade(colours: np.ndarray, normals: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Returns the colours (n, 3) uint8 of faces seen along rays (n, 3)."""
    facing = -np.einsum("ni,ni->n", normals, directions)
    normals = normals * np.sign(facing)[:, np.newaxis]
    headlight = np.abs(facing) / np.linalg.norm(directions, axis=-1)
    light = AMBIENT + HEADLIGHT * headlight + SUN * (normals @ SUN_DIRECTION).clip(0)
    return (colours * light[:, np.newaxis]).round().astype(np.uint8)
