"""A page that shows voxel grids, in any browser with WebGL 2 and without a network."""

import base64
import dataclasses
import html
import json
import math
import pathlib
import string
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from ige import files
from ige.vox import rendering
from ige.vox.grids import iou
from ige.vox.observations import encode_png
from ige.vox.surfaces import PREDICTION, TRUTH, sides
from ige.vox.views import Views

_ODD = "#FF9D45"
_PAGE = pathlib.Path(__file__).with_suffix(".html")
_LEVELS = 15


@dataclasses.dataclass(frozen=True)
class Scene:
    """What was seen, and the grids that are looked at.

    Attributes:
        name: '03001627 2bbe7cf2, view 3'.
        image: (height, width, 3) uint8.
        view: the camera of the image, upright and towards the origin.
        predicted: (steps, R, R, R) bool solid cells, in the object frame.
        truth: (R, R, R) bool; None where nobody knows.
    """

    name: str
    image: np.ndarray
    view: Views
    predicted: np.ndarray
    truth: np.ndarray | None = None


def write_viewer(
    path: pathlib.Path,
    scenes: Sequence[Scene],
    title: str,
    threshold: float,
    steps: Sequence[str] = ("prediction",),
) -> None:
    """Writes an HTML file that shows grids beside each other, to turn together.

    It has the sides of cells that can be seen, not the cells: a few kB for a grid of 32, some tens
    for one of 128.

    Args:
        path: file to write, whole or not at all.
        scenes: of one resolution, of which one at a time is shown; at least one.
        title: heading of the page.
        threshold: of the probability, for the heading.
        steps: labels of a slider over what is predicted; the last is shown first.

    Raises:
        UserError: the file cannot be written.
    """
    size = scenes[0].predicted.shape[-1]
    assert all(scene.predicted.shape == (len(steps), size, size, size) for scene in scenes)
    data = {
        "size": size,
        "steps": list(steps),
        "colours": [_hex(PREDICTION), _hex(TRUTH)],
        "odd": _ODD,
        "scenes": [_scene(scene) for scene in scenes],
    }
    page = string.Template(_PAGE.read_text("utf-8")).substitute(
        title=html.escape(title),
        note=f"{size}<sup>3</sup> cells, solid above {threshold:.3g}",
        odd=_ODD,
        # A name must not end the script that it is in.
        data=json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
        ambient=rendering.AMBIENT,
        headlight=rendering.HEADLIGHT,
        sun=rendering.SUN,
        sun_direction=", ".join(map(str, rendering.SUN_DIRECTION)),
    )
    files.write_text(path, page)


def _scene(scene: Scene) -> dict[str, Any]:
    """Returns what the page has of a scene; the truth has a grid for each step too, for what a
    prediction lacks is marked there."""
    picture = base64.b64encode(encode_png(scene.image)).decode()
    found = {
        "name": scene.name,
        "image": f"data:image/png;base64,{picture}",
        "camera": _orbit(scene.view),
    }
    if scene.truth is None:
        return found | {"predicted": [_pack(grid, grid) for grid in scene.predicted]}
    return found | {
        "predicted": [_pack(grid, scene.truth) for grid in scene.predicted],
        "truth": [_pack(scene.truth, grid) for grid in scene.predicted],
        "ious": [iou(grid, scene.truth) for grid in scene.predicted],
    }


def _orbit(view: Views) -> dict[str, float]:
    """Returns where a camera that looks the same way, but at the origin, is: angles in radians."""
    x, y, z = -view.rotation[2]
    return {
        "azimuth": math.atan2(-z, x),
        "elevation": math.atan2(y, math.hypot(x, z)),
        "distance": float(np.linalg.norm(view.centre)),
        "focal": float(view.focal),
    }


def _pack(occupancy: np.ndarray, other: np.ndarray) -> str:
    """Returns the sides of cells as the page unpacks them; cells that `other` lacks are marked."""
    seen = sides(occupancy)
    cell = np.ravel_multi_index(tuple(seen.cell.T), occupancy.shape)
    odd = ~other[tuple(seen.cell.T)]
    light = (_LEVELS * seen.light).round().astype(np.int64)
    codes = (cell << 8 | odd << 7 | seen.direction << 4 | light).astype("<u4")
    steps = np.diff(codes, prepend=np.uint32(0))
    planes = steps.view(np.uint8).reshape(-1, 4).T
    return base64.b64encode(zlib.compress(planes.tobytes(), 9)).decode()


def _hex(colour: tuple[int, int, int]) -> str:
    return "#" + bytes(colour).hex()
