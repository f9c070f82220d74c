"""Where objects are looked at from.

The object frame is that of ShapeNet's files: y up. The camera frame is x right, y down, z forward.
"""

import math
import zlib
from typing import Any, NamedTuple

import numpy as np

DISTANCE = math.sqrt(1 + 0.6**2)
"""From the camera to the middle of the object: 1.166."""

ELEVATIONS = (25.0, 30.0)
"""Degrees above the horizon, the least and the most."""

FOV = math.degrees(2 * math.atan(16 / 35))
"""Field of view, 49.13 degrees: Blender's default, a lens of 35 mm before a sensor of 32 mm."""

LEGACY_FOV = math.degrees(2 * math.atan(32 / 35))
"""84.87 degrees: what the published code takes for Blender's default; objects appear small."""


class Views(NamedTuple):
    """Cameras, one or a batch; every field has the same leading dimensions.

    A point is at `rotation @ (point - centre)` in the camera frame, and at
    `(x / z * focal + .5, y / z * focal + .5)` in an image whose sides are 1.

    Attributes:
        rotation: (..., 3, 3) float64 from the object to the camera frame.
        centre: (..., 3) float64 camera centre in the object frame.
        focal: (...,) float64 focal length in widths of the image.
    """

    rotation: np.ndarray
    centre: np.ndarray
    focal: np.ndarray


class Cameras(NamedTuple):
    """Views from a grid, as networks are given them; arrays or tensors, one or a batch.

    The frame is that of the grid: the cube from -.5 to .5, however large it is in the object frame.
    Directions and images are the same in both.

    Attributes:
        rotation: (..., 3, 3), as in `Views`.
        centre: (..., 3) camera centre in the frame of the grid.
        focal: (...,), as in `Views`.
        planes: (..., 2) depths of the near and the far plane of the frustum, in sides of the grid.
    """

    rotation: Any
    centre: Any
    focal: Any
    planes: Any


def from_grid(views: Views, middle: np.ndarray | float = 0.0, side: float = 1.0) -> Cameras:
    """Returns cameras that look at the origin as seen from a grid, float32.

    The frustum holds the unit cube about the origin, seen straight: that is where objects are,
    wherever their grid is.

    Args:
        views: of the object frame.
        middle: (3,) of the grid in the object frame.
        side: of the grid in the object frame.
    """
    distance = np.linalg.norm(views.centre, axis=-1, keepdims=True)
    planes = np.concatenate([distance - 0.5, distance + 0.5], axis=-1) / side
    centre = (views.centre - middle) / side
    fields = (views.rotation, centre, views.focal, planes)
    return Cameras(*(np.asarray(field, np.float32) for field in fields))


def focal_length(fov: float) -> float:
    """Returns the focal length, in widths of the image, of a field of view in degrees."""
    return 0.5 / math.tan(math.radians(fov) / 2)


def random_views(model: str, count: int, fov: float = FOV, seed: int = 0) -> Views:
    """Returns the views of a model: the same for the same name, whatever else is drawn.

    As in the published code: azimuths are drawn before angles from the upright axis.

    Args:
        model: id of the model.
        count: number of views.
        fov: field of view in degrees.
        seed: other seeds give other views.
    """
    random = np.random.RandomState((zlib.adler32(model.encode()) + seed) % 2**32)
    azimuth = random.uniform(0.0, 360.0, count)
    low, high = ELEVATIONS
    elevation = 90.0 - random.uniform(90.0 - high, 90.0 - low, count)
    return look_at_origin(azimuth, elevation, np.full(count, DISTANCE), fov)


def look_at_origin(
    azimuth: np.ndarray, elevation: np.ndarray, distance: np.ndarray, fov: float
) -> Views:
    """Returns upright cameras that look at the origin.

    Args:
        azimuth: (n,) degrees about the upright axis, counted as in Blender, into which files are
            imported with (x, y, z) at (x, -z, y).
        elevation: (n,) degrees above the horizon, less than 90.
        distance: (n,) from the origin.
        fov: field of view in degrees.
    """
    azimuth, elevation = np.radians(azimuth), np.radians(elevation)
    backward = np.stack(
        [
            np.cos(elevation) * np.cos(azimuth),
            np.sin(elevation),
            -np.cos(elevation) * np.sin(azimuth),
        ],
        axis=-1,
    )
    right = np.cross((0.0, 1.0, 0.0), backward)
    right /= np.linalg.norm(right, axis=-1, keepdims=True)
    down = np.cross(right, backward)
    return Views(
        np.stack([right, down, -backward], axis=-2),
        np.asarray(distance)[:, np.newaxis] * backward,
        np.full(len(backward), focal_length(fov)),
    )


def pixel_rays(view: Views, size: int) -> np.ndarray:
    """Returns the rays (size, size, 3) through the centres of the pixels of one view.

    In the object frame, by row and column; a step along one is a step of 1 in depth, the coordinate
    along the optical axis, so they are no unit vectors.
    """
    at = ((np.arange(size) + 0.5) / size - 0.5) / view.focal
    x, y = np.meshgrid(at, at)
    return np.stack([x, y, np.ones_like(x)], axis=-1) @ view.rotation


def project(points: np.ndarray, view: Views) -> tuple[np.ndarray, np.ndarray]:
    """Returns where points (n, 3) of the object frame are in one view.

    Returns:
        (n, 2) column and row in widths of the image, 0 to 1 inside of it, and (n,) depths.
    """
    camera = (points - view.centre) @ view.rotation.T
    return camera[:, :2] / camera[:, 2:] * view.focal + 0.5, camera[:, 2]
