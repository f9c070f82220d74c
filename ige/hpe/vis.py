"""Drawing poses with matplotlib: left and right coloured, equal axes, upright."""

import numpy as np
from matplotlib.axes import Axes

from ige.hpe.skeleton import Skeleton

# Okabe and Ito's colours, told apart by the colour-blind too.
COLOURS = {"left": "#0072B2", "right": "#D55E00", "centre": "#444444"}


def _draw(axes: Axes, points: np.ndarray, skeleton: Skeleton, **style) -> None:
    for child, parent in skeleton.bones:
        # A bone belongs to the side of its far end: the clavicle is left or right.
        colour = COLOURS[skeleton.sides[child]]
        axes.plot(*points[[child, parent]].T, color=colour, solid_capstyle="round", **style)


def draw_pose_2d(axes: Axes, pose: np.ndarray, skeleton: Skeleton, **style) -> None:
    """Draws a pose (joints, 2), x right and y down, as the image has it."""
    _draw(axes, pose, skeleton, **style)
    axes.set_aspect("equal")
    axes.invert_yaxis()
    axes.set_axis_off()


def draw_pose_3d(axes: Axes, pose: np.ndarray, skeleton: Skeleton, **style) -> None:
    """Draws a pose (joints, 3), z up, into 3D axes."""
    _draw(axes, pose, skeleton, **style)


def frame_3d(axes: Axes, pose: np.ndarray) -> None:
    """Gives 3D axes a cube around a pose (joints, 3): one metre is as long in x, y and z."""
    low, high = pose.min(axis=0), pose.max(axis=0)
    centre, half = (low + high) / 2, 0.55 * (high - low).max()
    axes.set(**{f"{name}lim": (c - half, c + half) for name, c in zip("xyz", centre, strict=True)})
    axes.set_box_aspect((1, 1, 1), zoom=1.4)
    axes.set_axis_off()
    # The ground, so that upright can be told from tilted.
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]]) * half / 2 + centre[:2]
    axes.plot(*corners.T, low[2], color="#BBBBBB", linewidth=1)
