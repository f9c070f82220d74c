"""Solid voxels of meshes that are not closed.

Lines along x, y and z run through the centres of all cells. A cell is solid when its centre lies
between the first and the last surface on all three of its lines: the orthographic filling of the
published grids, but between the surfaces themselves instead of between the cells that they touch,
which would make every object half a cell thicker. It needs neither closed surfaces nor normals.
Surfaces with no solid cell at either side, as of sheets without thickness, keep the cells that the
lines meet them in.
"""

import numpy as np
import trimesh
from trimesh.ray.ray_pyembree import RayMeshIntersector

from ige.vox.grids import cell_centres, cell_of
from ige.vox.meshes import Mesh

MAX_LAYERS = 1000
"""Surfaces that are looked for along a line."""

_OUTSIDE = 0.6
"""Where lines begin: before everything that a mesh may have."""


def intersector(mesh: Mesh) -> RayMeshIntersector:
    """Returns what finds where rays meet a mesh."""
    return RayMeshIntersector(
        trimesh.Trimesh(mesh.vertices, mesh.faces, process=False, validate=False)
    )


def crossings(rays: RayMeshIntersector, resolution: int, axis: int) -> tuple[np.ndarray, ...]:
    """Returns where the lines through the cells along an axis meet a mesh.

    Returns:
        (n,) int64 index of the line, in the order of the other two axes, and (n,) float64
        coordinate along `axis`, in any order.
    """
    centres = cell_centres(resolution)
    others = [other for other in range(3) if other != axis]
    origins = np.empty((resolution, resolution, 3))
    origins[..., others[0]] = centres[:, np.newaxis]
    origins[..., others[1]] = centres
    origins[..., axis] = -_OUTSIDE
    directions = np.zeros((resolution**2, 3))
    directions[:, axis] = 1.0
    _, line, points = rays.intersects_id(
        origins.reshape(-1, 3), directions, max_hits=MAX_LAYERS, return_locations=True
    )
    return line, points[:, axis]


def voxelise(mesh: Mesh, resolution: int) -> np.ndarray:
    """Returns the solid cells (R, R, R) bool of a mesh; see the module."""
    rays = intersector(mesh)
    lines = [crossings(rays, resolution, axis) for axis in range(3)]
    centres = cell_centres(resolution)
    solid = np.ones((resolution,) * 3, bool)
    for axis, (line, at) in enumerate(lines):
        first = np.full(resolution**2, np.inf)
        last = np.full(resolution**2, -np.inf)
        np.minimum.at(first, line, at)
        np.maximum.at(last, line, at)
        between = (centres >= first[:, np.newaxis]) & (centres <= last[:, np.newaxis])
        solid &= np.moveaxis(between.reshape((resolution,) * 3), -1, axis)
    sheets = [_sheets(np.moveaxis(solid, axis, -1), *line) for axis, line in enumerate(lines)]
    for axis, cells in enumerate(sheets):
        np.moveaxis(solid, axis, -1)[cells] = True
    return solid


def _sheets(solid: np.ndarray, line: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, ...]:
    """Returns the indices of the cells of crossings that have no solid cell at either side.

    Args:
        solid: (R, R, R) bool, the axis of the lines last.
        line: (n,) index of the line of a crossing.
        at: (n,) its coordinate.
    """
    resolution = len(solid)
    row, column = np.divmod(line, resolution)
    before = cell_of(at - 0.5 / resolution, resolution)
    beside = np.zeros(len(line), bool)
    for cell in (before, before + 1):
        inside = (cell >= 0) & (cell < resolution)
        beside |= inside & solid[row, column, cell.clip(0, resolution - 1)]
    alone = ~beside
    cell = cell_of(at, resolution).clip(0, resolution - 1)
    return row[alone], column[alone], cell[alone]
