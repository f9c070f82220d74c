"""Drawing poses with matplotlib: sides coloured, upright, to scale; needs no display.

3D poses are in metres, z up. They are looked at along y, from the right and from above: when y
points away from the camera and x to its right, left and right are as in the image.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ige.errors import UserError
from ige.hpe.motion import COLOURS
from ige.hpe.skeleton import Skeleton

GREY = "#BBBBBB"
# Told apart without colour too: broad, pale and solid; narrow, dark and dashed.
TRUTH = {"linewidth": 3.0, "alpha": 0.4, "solid_capstyle": "round"}
PREDICTION = {"linewidth": 1.2, "linestyle": (0, (3, 1.2)), "dash_capstyle": "butt"}
PLAIN = {"linewidth": 1.5, "solid_capstyle": "round"}
GROUND = {"color": GREY, "linewidth": 0.6}
# Edge of a square of the ground, metres.
SQUARE = 0.5
GROUND_LABEL = f"squares of {SQUARE} m"
# Sizes in points, for print at the size of the figure.
STYLE = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
}
# Share of a panel that is left free on every side.
_MARGIN = 0.04
# From where 3D poses are looked at: as matplotlib's `view_init` has it, in radians.
_AZIMUTH, _ELEVATION = math.radians(-75), math.radians(12)


def check_finite(name: str, values: np.ndarray) -> None:
    """Raises a UserError if a value is NaN or infinite."""
    if wrong := np.count_nonzero(~np.isfinite(values)):
        raise UserError(
            f"{name}: got NaN or infinity in {wrong} of {np.size(values)} numbers, expected "
            "finite numbers"
        )


def upright(rotation: np.ndarray) -> np.ndarray:
    """Returns M (3, 3): `poses @ M` turns poses of a camera's frame as this module has them.

    z is up, y is the horizontal direction that the camera looks in, x is on its right.

    Args:
        rotation: (3, 3), world (z up) to camera (x right, y down, z forward), which does not look
            straight up or down.
    """
    x, y = rotation[2, :2] / np.linalg.norm(rotation[2, :2])
    return rotation @ np.array(((y, x, 0), (-x, y, 0), (0, 0, 1)))


def project(points: np.ndarray) -> np.ndarray:
    """Returns points (..., 3), z up, as seen (..., 2): x right and y down, in the same unit.

    The projection is parallel: a metre is as long in front as it is behind.
    """
    sin, cos = math.sin(_AZIMUTH), math.cos(_AZIMUTH)
    right = (-sin, cos, 0)
    down = (math.sin(_ELEVATION) * cos, math.sin(_ELEVATION) * sin, -math.cos(_ELEVATION))
    return points @ np.array((right, down)).T


def joined(lines: np.ndarray) -> np.ndarray:
    """Returns lines (..., n, 2 ends, d) as one path (..., 3 n, d) with NaN between them."""
    gaps = np.full_like(lines[..., :1, :], np.nan)
    path = np.concatenate([lines, gaps], axis=-2)
    return path.reshape(*lines.shape[:-3], -1, lines.shape[-1])


def bone_paths(poses: np.ndarray, skeleton: Skeleton) -> dict[str, np.ndarray]:
    """Returns side -> the bones of that side of poses (..., joints, d), as `joined` has them.

    A bone belongs to the side of its far end: the clavicle is left or right.
    """
    paths = {}
    for side in COLOURS:
        bones = [bone for bone in skeleton.bones if skeleton.sides[bone[0]] == side]
        paths[side] = joined(poses[..., np.array(bones, int).reshape(-1, 2), :])
    return paths


def ground_path(centre: np.ndarray, half: float) -> np.ndarray:
    """Returns (points, 3): the ground within `half` of `centre` (3,), ruled in squares.

    The lines are where x and y are multiples of `SQUARE`, whatever the centre: a person who walks
    is seen to move.
    """
    lines = []
    for axis in (0, 1):
        low, high = centre[axis] - half, centre[axis] + half
        for i in range(math.ceil(low / SQUARE), math.floor(high / SQUARE) + 1):
            ends = np.array([centre, centre], np.float64)
            ends[:, axis] = i * SQUARE
            ends[:, 1 - axis] += (-half, half)
            lines.append(ends)
    return joined(np.array(lines))


def draw_pose(axes: Axes, pose: np.ndarray, skeleton: Skeleton, **style) -> dict[str, Line2D]:
    """Draws a pose as seen (joints, 2), of an image or from `project`; returns side -> line."""
    return {
        side: axes.plot(*path.T, color=COLOURS[side], **style)[0]
        for side, path in bone_paths(pose, skeleton).items()
    }


def needed_scale(axes: Axes, points: np.ndarray) -> float:
    """Returns the units per inch at which points (n, 2) fit into axes with a margin around."""
    extent = np.nanmax(points, axis=0) - np.nanmin(points, axis=0)
    return max(extent / size_of(axes)) / (1 - 2 * _MARGIN) or 1.0


def size_of(axes: Axes) -> np.ndarray:
    """Returns (width, height) of axes in inches."""
    return axes.get_position().size * axes.get_figure().get_size_inches()


def frame(axes: Axes, points: np.ndarray, scale: float) -> None:
    """Shows points (n, 2), y down, at `scale` units per inch: at the bottom, in the middle of x."""
    low, high = np.nanmin(points, axis=0), np.nanmax(points, axis=0)
    width, height = scale * size_of(axes)
    left = (low[0] + high[0] - width) / 2
    bottom = high[1] + _MARGIN * height
    axes.set_xlim(left, left + width)
    axes.set_ylim(bottom, bottom - height)
    axes.set_axis_off()


def draw_legend(
    figure: Figure, styles: Mapping[str, dict[str, Any]], loc: str = "lower center"
) -> float:
    """Draws a legend of the sides' colours and of name -> style, in as many rows as it needs.

    Returns:
        Its height in inches.
    """
    sides = {side: PLAIN | {"color": colour} for side, colour in COLOURS.items()}
    entries = [
        Line2D([], [], label=name, **({"color": "black"} | style))
        for name, style in (sides | styles).items()
    ]
    columns = min(len(entries), max(1, int(figure.get_figwidth() / 0.95)))
    figure.legend(
        handles=entries, ncols=columns, loc=loc, frameon=False, handlelength=2.2, columnspacing=1.2
    )
    return 0.12 + 0.14 * math.ceil(len(entries) / columns)
