"""Solid voxels of meshes that are not closed.

Lines along x, y and z run through the centres of all cells. A cell is solid when its centre lies
between the first and the last surface on all three of its lines: the orthographic filling of the
published grids, but between the surfaces themselves instead of between the cells that they touch,
which would make every object half a cell thicker. It needs neither closed surfaces nor normals.

What is too thin to have a centre inside, a sheet or the leg of a chair, keeps the cells in which
lines meet it: those that have no solid cell at either side or, for the lines that coarse grids have
between the centres too, none beside them. Nothing thicker than 1/128 is missed, and solids do not
grow.
"""

import numpy as np
import trimesh
from scipy import ndimage
from trimesh.ray.ray_pyembree import RayMeshIntersector

from ige.vox.grids import cell_centres, cell_of
from ige.vox.meshes import Mesh, RefusedError

FINEST = 128
"""Lines along a side, at least."""

MAX_LAYERS = 1000
"""Surfaces along a line, at most."""

MAX_CROSSINGS = 2**24
"""Surfaces along all lines of an axis together, at most: they take 1.5 GB."""

_AT_ONCE = 2**14

_OUTSIDE = 0.6
"""Where lines begin: before everything that a mesh may have."""


def intersector(mesh: Mesh) -> RayMeshIntersector:
    """Returns what finds where rays meet a mesh."""
    return RayMeshIntersector(
        trimesh.Trimesh(mesh.vertices, mesh.faces, process=False, validate=False)
    )


def crossings(rays: RayMeshIntersector, resolution: int, axis: int) -> tuple[np.ndarray, ...]:
    """Returns where lines along an axis, through the centres of cells, meet a mesh.

    Returns:
        (n,) int64 indices of the line along the first and along the second of the other two axes,
        and (n,) float64 coordinate along `axis`, in any order.

    Raises:
        RefusedError: there are more than `MAX_LAYERS` or `MAX_CROSSINGS`.
    """
    centres = cell_centres(resolution)
    others = [other for other in range(3) if other != axis]
    origins = np.empty((resolution, resolution, 3))
    origins[..., others[0]] = centres[:, np.newaxis]
    origins[..., others[1]] = centres
    origins[..., axis] = -_OUTSIDE
    directions = np.zeros((resolution**2, 3))
    directions[:, axis] = 1.0
    origins = origins.reshape(-1, 3)
    lines, at = [], []
    for start in range(0, len(origins), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        _, line, points = rays.intersects_id(
            origins[some], directions[some], max_hits=MAX_LAYERS + 1, return_locations=True
        )
        lines.append(line + start)
        at.append(points[:, axis].copy())
        if np.bincount(line).max(initial=0) > MAX_LAYERS:
            raise RefusedError("has too many surfaces", f"more than {MAX_LAYERS:,} along a line")
        if sum(map(len, at)) > MAX_CROSSINGS:
            raise RefusedError(
                "has too many surfaces", f"more than {MAX_CROSSINGS:,} along an axis"
            )
    return *np.divmod(np.concatenate(lines), resolution), np.concatenate(at)


def voxelise(mesh: Mesh, resolution: int) -> np.ndarray:
    """Returns the solid cells (R, R, R) bool of a mesh; see the module.

    Raises:
        RefusedError: its surfaces are too many.
    """
    rays = intersector(mesh)
    # An odd number of lines to a cell: that in the middle is the one through its centre.
    fold = next(odd for odd in range(1, FINEST + 1, 2) if resolution * odd >= FINEST)
    lines = [crossings(rays, resolution * fold, axis) for axis in range(3)]
    centres = cell_centres(resolution)
    solid = np.ones((resolution,) * 3, bool)
    for axis, (row, column, at) in enumerate(lines):
        central = _central(row, column, fold)
        line = (row[central] // fold) * resolution + column[central] // fold
        first = np.full(resolution**2, np.inf)
        last = np.full(resolution**2, -np.inf)
        np.minimum.at(first, line, at[central])
        np.maximum.at(last, line, at[central])
        between = (centres >= first[:, np.newaxis]) & (centres <= last[:, np.newaxis])
        solid &= np.moveaxis(between.reshape((resolution,) * 3), -1, axis)
    return solid | _thin(solid, lines, fold)


def _thin(solid: np.ndarray, lines: list[tuple[np.ndarray, ...]], fold: int) -> np.ndarray:
    """Returns the cells (R, R, R) bool of surfaces that no solid cell stands for.

    Args:
        solid: (R, R, R) bool.
        lines: of each axis, what `crossings` found at `fold` times the resolution.
        fold: lines along a cell.
    """
    resolution = len(solid)
    thin = np.zeros_like(solid)
    near = ndimage.binary_dilation(solid)
    for axis, (row, column, at) in enumerate(lines):
        line = (row // fold, column // fold)
        cell = cell_of(at, resolution).clip(0, resolution - 1)
        alone = ~np.moveaxis(near, axis, -1)[*line, cell]
        alone |= _central(row, column, fold) & ~_beside(np.moveaxis(solid, axis, -1), *line, at)
        np.moveaxis(thin, axis, -1)[line[0][alone], line[1][alone], cell[alone]] = True
    return thin


def _central(row: np.ndarray, column: np.ndarray, fold: int) -> np.ndarray:
    """Returns which lines (n,) bool run through the centres of cells."""
    return (row % fold == fold // 2) & (column % fold == fold // 2)


def _beside(solid: np.ndarray, row: np.ndarray, column: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Returns which crossings (n,) bool have a solid cell at either side, on their own line.

    Args:
        solid: (R, R, R) bool, the axis of the lines last.
        row: (n,) index of the cells that the line of a crossing runs through, along the first axis.
        column: (n,) the same along the second.
        at: (n,) coordinate of the crossing.
    """
    resolution = len(solid)
    before = cell_of(at - 0.5 / resolution, resolution)
    beside = np.zeros(len(at), bool)
    for cell in (before, before + 1):
        inside = (cell >= 0) & (cell < resolution)
        beside |= inside & solid[row, column, cell.clip(0, resolution - 1)]
    return beside
