"""Grids in the frustum of a camera: pixels by depth, a column of cells is what a pixel sees.

Cell (row, column, k) of resolution R is the ray through the centre of pixel (row, column) of an
image of R by R, at the depth d - .5 + (k + .5) / R, where d is the distance of the camera: centred
cells, as in `grids`. The published grids have cells on the borders of the range instead, half a
cell off.
"""

import numpy as np

from ige.vox.grids import cell_of
from ige.vox.views import Views, pixel_rays


def frustum_depths(view: Views, resolution: int) -> np.ndarray:
    """Returns the depths (R,) of the centres of the cells of one view, near to far."""
    distance = np.linalg.norm(view.centre)
    return distance - 0.5 + (np.arange(resolution) + 0.5) / resolution


def frustum_points(view: Views, resolution: int) -> np.ndarray:
    """Returns the centres (R, R, R, 3) of the cells of one view, in the object frame."""
    rays = pixel_rays(view, resolution)[:, :, np.newaxis]
    return view.centre + rays * frustum_depths(view, resolution)[:, np.newaxis]


def frustum_occupancy(occupancy: np.ndarray, view: Views, resolution: int) -> np.ndarray:
    """Returns the cells (row, column, depth) bool of one view whose centres are in solid cells.

    Args:
        occupancy: (r, r, r) bool, of the object frame.
        view: the camera.
        resolution: R of the result.
    """
    cells = cell_of(frustum_points(view, resolution), len(occupancy))
    inside = ((cells >= 0) & (cells < len(occupancy))).all(axis=-1)
    x, y, z = np.moveaxis(cells.clip(0, len(occupancy) - 1), -1, 0)
    return inside & occupancy[x, y, z]
