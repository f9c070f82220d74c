"""Where objects are looked at from.

The object frame is that of ShapeNet's files: y up. The camera frame is x right, y down, z forward.
"""

import math
import zlib
from typing import NamedTuple

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
