"""Solid voxels of meshes that are not closed.

Lines along x, y and z run through the centres of all cells. A cell is solid when its centre lies
between the first and the last surface on all three of its lines: the orthographic filling of the
published grids, but between the surfaces themselves instead of between the cells that they touch,
which would make every object half a cell thicker. It needs neither closed surfaces nor normals.

What is too thin to have a centre inside, a sheet or the leg of a chair, keeps the cells in which
lines meet it, in coarse grids also lines between the centres: where none of the eight centres
around the point is solid. A part that stands by itself and is thicker than 1/128 is never missed;
what is less than a cell beside a solid counts as part of it. Solids do not grow at faces and at
edges along the axes: a plane through a point has one of the eight on either side. Edges sharper
than that keep a cell here and there.
"""

import itertools

import numpy as np
import trimesh
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
    for axis, (row, column, at) in enumerate(lines):
        places = ((row + 0.5) / fold, (column + 0.5) / fold, (at + 0.5) * resolution)
        alone = ~_any_around(np.moveaxis(solid, axis, -1), places)
        cell = cell_of(at[alone], resolution).clip(0, resolution - 1)
        np.moveaxis(thin, axis, -1)[row[alone] // fold, column[alone] // fold, cell] = True
    return thin


def _any_around(solid: np.ndarray, places: tuple[np.ndarray, ...]) -> np.ndarray:
    """Returns of which points (n,) bool a centre around them is that of a solid cell: of the eight,
    or of those between which the point is where it is in line with some.

    Args:
        solid: (R, R, R) bool.
        places: of each axis (n,), counted in cells: i + .5 is the centre of cell i.
    """
    padded = np.pad(solid, 1)
    flat = padded.ravel()
    first = np.zeros(len(places[0]), np.int64)
    steps = []
    for place, size in zip(places, padded.shape, strict=True):
        place = (place + 0.5).clip(0, size - 1)
        first = first * size + np.floor(place).astype(np.int64)
        steps.append(place % 1 > 0)
    strides = (padded.shape[1] * padded.shape[2], padded.shape[2], 1)
    found = np.zeros(len(first), bool)
    for corner in itertools.product((0, 1), repeat=3):
        shifts = (
            far * stride * step for far, stride, step in zip(corner, strides, steps, strict=True)
        )
        found |= flat[first + sum(shifts)]
    return found


def _central(row: np.ndarray, column: np.ndarray, fold: int) -> np.ndarray:
    """Returns which lines (n,) bool run through the centres of cells."""
    return (row % fold == fold // 2) & (column % fold == fold // 2)
