"""Surfaces of voxel grids: the sides of cells that can be seen, and smooth meshes."""

from typing import NamedTuple

import numpy as np
import trimesh
from scipy import ndimage
from skimage import measure

from ige.vox.meshes import Mesh

DIRECTIONS = np.array([(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)])
"""Where the sides of a cell point: +x, -x, +y, -y, +z, -z."""

TRUTH = (255, 249, 235)
PREDICTION = (146, 200, 255)
"""Red, green, blue of sides in the open."""

_SHADOW = 0.9
"""How much of the light is kept from a side that has nothing but solid cells before it."""


class Sides(NamedTuple):
    """The sides of solid cells that border on empty ones, or on the end of the grid.

    Attributes:
        cell: (n, 3) int64 indices x, y, z of the solid cell.
        direction: (n,) int64 index of `DIRECTIONS`.
        light: (n,) float32, 0 to 1: less in corners than in the open.
    """

    cell: np.ndarray
    direction: np.ndarray
    light: np.ndarray


def sides(occupancy: np.ndarray) -> Sides:
    """Returns what is seen of a grid (R, R, R) bool, by cell, then by direction."""
    resolution = len(occupancy)
    # How much is solid of a cube of cells before a side, about an eighth of the grid: none on what
    # is flat, a half beside a wall.
    width = 2 * (resolution // 16) + 1
    reach = width // 2 + 1
    padded = np.pad(occupancy, reach)
    around = ndimage.uniform_filter(padded.astype(np.float32), width, mode="constant")
    open_sides = np.empty((*occupancy.shape, len(DIRECTIONS)), bool)
    light = np.empty(open_sides.shape, np.float32)
    for i, step in enumerate(DIRECTIONS):
        following, middle = (
            tuple(slice(reach + far * s, reach + far * s + resolution) for s in step)
            for far in (1, reach)
        )
        open_sides[..., i] = occupancy & ~padded[following]
        light[..., i] = 1 - _SHADOW * around[middle]
    *cell, direction = np.nonzero(open_sides)
    return Sides(np.stack(cell, axis=-1), direction, light[open_sides].clip(0, 1))


def cells_mesh(occupancy: np.ndarray, colour: tuple[int, int, int]) -> Mesh:
    """Returns the sides of cells that can be seen, in the object frame, darker in corners.

    Args:
        occupancy: (R, R, R) bool.
        colour: red, green, blue of a side in the open.
    """
    seen = sides(occupancy)
    # Corners of a side, anticlockwise from outside, from the middle of the cell, in half cells.
    corners = np.empty((len(DIRECTIONS), 4, 3))
    for i, normal in enumerate(DIRECTIONS):
        across = np.abs(np.roll(normal, 1))
        along = np.cross(normal, across)
        around = (across + along, along - across, -across - along, across - along)
        corners[i] = normal + np.stack(around)
    centre = (seen.cell + 0.5) / len(occupancy) - 0.5
    vertices = centre[:, np.newaxis] + corners[seen.direction] * (0.5 / len(occupancy))
    faces = 4 * np.arange(len(centre))[:, np.newaxis] + np.array([0, 1, 2, 0, 2, 3])
    colours = (seen.light[:, np.newaxis] * colour).round().astype(np.uint8)
    return Mesh(vertices.reshape(-1, 3), faces.reshape(-1, 3), colours.repeat(2, axis=0))


def smooth_mesh(probabilities: np.ndarray, threshold: float) -> trimesh.Trimesh:
    """Returns the surface, in the object frame, at which a grid crosses a threshold.

    By marching cubes between the centres of cells; it is closed, and normals point outwards.

    Args:
        probabilities: (R, R, R), of which one at least is above the threshold.
        threshold: more than 0.
    """
    # Nothing is beyond the grid: what reaches its end is closed there.
    padded = np.pad(np.asarray(probabilities, np.float32), 1)
    # "ascent": else normals of what is above the threshold point inwards.
    vertices, faces, _, _ = measure.marching_cubes(padded, threshold, gradient_direction="ascent")
    # Cell 0 of the grid is at 1 in the padded one.
    return trimesh.Trimesh((vertices - 0.5) / len(probabilities) - 0.5, faces, process=False)
