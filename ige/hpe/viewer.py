"""A page that shows poses in motion, in any browser and without a network."""

import base64
import dataclasses
import functools
import html
import itertools
import pathlib
import string
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import plotly.graph_objects
import plotly.io

from ige import files
from ige.hpe.motion import COLOURS, Motion

# What tells one motion from the next without colour: line, its width, marker, its size. In 3D
# plotly draws "dot" as it does "dash" in shorter pieces; those of "dash" are as long as a forearm.
_STYLES_3D = (("solid", 6, "circle", 4), ("dot", 4, "diamond-open", 4), ("dashdot", 3, "x", 3))
_STYLES_2D = (("solid", 3, "circle", 7), ("dash", 2, "diamond-open", 9), ("dot", 2, "x", 7))
_ITERATE_RATE = 2.0  # per second, when played
_HALF_VIEW = np.tan(np.pi / 8)  # plotly's camera sees 45 degrees from top to bottom

# The colour of the first is that of the legend.
_SIDES = ("centre", "left", "right")
_ROW = '<div><button>Play</button><input type="range" min="0" value="0"><output></output></div>\n'
_PAGE = pathlib.Path(__file__).with_suffix(".html")


def write_viewer(
    path: pathlib.Path,
    motions: Sequence[Motion],
    title: str,
    steps: Sequence[str],
    step_name: str = "frame",
    frame_rate: float = 25.0,
    iterates: Sequence[str] = (),
    parts: Mapping[str, int] = MappingProxyType({}),
) -> None:
    """Writes an HTML file that shows motions: to turn, to zoom, to play.

    All numbers are in the file as 32-bit floats; what does not move is there once.

    Args:
        path: file to write, whole or not at all.
        motions: those in 3D share one scene, those in 2D a panel beside it. A motion of one frame
            stands still; every other has one frame for each step. Iterates change with a slider of
            their own; the last of them is shown first.
        title: heading of the page.
        steps: labels of the slider.
        step_name: what the slider moves along.
        frame_rate: steps per second when played; a slow browser leaves some out.
        iterates: labels of the iterates, if a motion has any.
        parts: name -> number of the steps, if they are to be shown part by part, each chosen from a
            list.

    Raises:
        UserError: the file cannot be written.
    """
    assert motions
    assert all(len(motion) in (1, len(steps)) for motion in motions)
    assert all(motion.iterates in (None, len(iterates)) for motion in motions)
    assert not parts or sum(parts.values()) == len(steps)
    moving = bool(iterates) or any(len(motion) > 1 for motion in motions)
    labels = [f"{step_name} {step}" for step in steps]
    ends = itertools.accumulate(parts.values())
    ranges = [(end - count, end - 1) for end, count in zip(ends, parts.values(), strict=True)]
    track = {"name": step_name, "labels": labels, "rate": frame_rate, "at": 0, "parts": ranges}
    tracks = [track]
    if iterates:
        last = len(iterates) - 1
        tracks.append({"name": "step", "labels": iterates, "rate": _ITERATE_RATE, "at": last})
    settings = {
        "wide": _places(motions, wide=True),
        "high": _places(motions, wide=False),
        "tracks": tracks if moving else [],
    }
    plot = plotly.io.to_html(
        _figure(motions),
        config={
            "displaylogo": False,
            "scrollZoom": True,
            "modeBarButtons": [["resetViews", "toImage"]],
        },
        auto_play=False,
        full_html=False,
        validate=False,  # the figure is; thousands of frames would take seconds
        div_id="plot",
        post_script=f"start({plotly.io.json.to_json_plotly(settings)})",
    )
    page = string.Template(_PAGE.read_text("utf-8")).substitute(
        title=html.escape(title),
        plot=plot,
        left=COLOURS["left"],
        right=COLOURS["right"],
        # All of them: the plot takes the place that is left when the page is opened.
        rows=_parts_list(parts) + _ROW * len(tracks),
        hidden="" if moving else "hidden",
    )
    files.write_text(path, page)


def _parts_list(names: Iterable[str]) -> str:
    """Returns the list that parts are chosen from; nothing if there are none."""
    options = "".join(f"<option>{html.escape(name)}</option>" for name in names)
    return f'<select aria-label="part">{options}</select>\n' if options else ""


def _figure(motions: Sequence[Motion]) -> dict[str, Any]:
    """Returns the figure in a wide window."""
    traces = _traces(motions)
    legend = [trace.legend() for trace in traces if "centre" in trace.sides]
    figure = plotly.graph_objects.Figure(
        [trace.look() | trace.at(0, -1) for trace in traces] + legend, _layout(motions)
    ).update_layout(_places(motions, wide=True))
    # As a dictionary: to check thousands of frames one by one would take seconds.
    return figure.to_dict() | {"frames": list(_frames(traces))}


@dataclasses.dataclass(frozen=True)
class _Trace:
    """A line along bones of a motion, with markers at their joints.

    Attributes:
        motion: the motion.
        number: how many motions of as many dimensions come before it.
        group: name of what the legend switches at once.
        sides: of the bones; in 2D one, as plotly's lines have one colour there.
    """

    motion: Motion
    number: int
    group: str
    sides: tuple[str, ...]

    @functools.cached_property
    def _bones(self) -> list[tuple[int, int]]:
        """(child, parent) in the order of drawing."""
        # A bone belongs to the side of its far end: the clavicle is left or right.
        side = self.motion.skeleton.sides
        return [
            b for wanted in self.sides for b in self.motion.skeleton.bones if side[b[0]] == wanted
        ]

    @functools.cached_property
    def _joints(self) -> list[int]:
        """Joints in the order of drawing, -1 for a gap in the line."""
        return [joint for child, parent in self._bones for joint in (parent, child, -1)]

    def at(self, step: int, iterate: int) -> dict[str, Any]:
        """Returns what differs from step to step and from iterate to iterate."""
        joints = self._joints
        place = step if self.motion.iterates is None else (step, iterate)
        pose = _with_gaps(self.motion.poses[place], joints)
        changing = dict(zip("xyz", map(_binary, pose.T), strict=False))
        if self.motion.errors is not None:
            changing["customdata"] = _binary(_with_gaps(self.motion.errors[place], joints))
        return changing

    def look(self) -> dict[str, Any]:
        """Returns what stays."""
        skeleton = self.motion.skeleton
        spatial = self.motion.poses.shape[-1] == 3
        styles = _STYLES_3D if spatial else _STYLES_2D
        dash, width, symbol, size = styles[self.number % len(styles)]
        # plotly reads text as HTML.
        names = [html.escape(name, quote=False).replace("_", " ") for name in skeleton.joints]
        colours = [COLOURS[skeleton.sides[child]] for child, _ in self._bones for _ in range(3)]
        unit = "m" if spatial else html.escape(self.motion.unit, quote=False)
        hover = [f"{axis} %{{{axis}:.3f}} {unit}" for axis in ("xyz" if spatial else "xy")]
        if self.motion.errors is not None:
            hover.append("error %{customdata:.1f} mm")
        return {
            "type": "scatter3d" if spatial else "scatter",
            "mode": "lines+markers",
            "name": html.escape(self.motion.name, quote=False),
            "legendgroup": self.group,
            "showlegend": False,
            "line": {
                "color": colours if spatial else COLOURS[self.sides[0]],
                "dash": dash,
                "width": width,
            },
            "marker": {
                "color": [COLOURS[skeleton.sides[joint]] for joint in self._joints],
                "symbol": symbol,
                "size": size,
            },
            "text": [names[joint] for joint in self._joints],
            "hovertemplate": "<br>".join(
                ["<b>%{text}</b>", *hover, "<extra>%{fullData.name}</extra>"]
            ),
        }

    def legend(self) -> dict[str, Any]:
        """Returns an entry of the legend: plotly's cannot show a line of several colours."""
        look = self.look()
        shown = {
            "line": look["line"] | {"color": COLOURS["centre"], "width": 3},
            "marker": {"symbol": look["marker"]["symbol"], "color": COLOURS["centre"], "size": 9},
            "showlegend": True,
        }
        kept = {name: look[name] for name in ("type", "mode", "name", "legendgroup")}
        nowhere = {axis: [None] for axis in "xyz"[: self.motion.poses.shape[-1]]}
        return kept | shown | nowhere


def _traces(motions: Sequence[Motion]) -> list[_Trace]:
    seen: Counter[int] = Counter()
    traces = []
    for i, motion in enumerate(motions):
        dimensions = motion.poses.shape[-1]
        parts = [_SIDES] if dimensions == 3 else [(side,) for side in _SIDES]
        traces += [_Trace(motion, seen[dimensions], str(i), sides) for sides in parts]
        seen[dimensions] += 1
    return traces


def _frames(traces: Sequence[_Trace]) -> Iterator[dict[str, Any]]:
    """Yields for each step, by its number, what moves; for each of its iterates, by '<step>/<its
    number>', what that changes, on top of the step."""
    moving, descending = [], []
    for i, trace in enumerate(traces):
        if trace.motion.iterates is not None:
            descending.append(i)
        elif len(trace.motion) > 1:
            moving.append(i)

    def frame(name: str, shown: list[int], *place: int) -> dict[str, Any]:
        return {"name": name, "traces": shown, "data": [traces[i].at(*place) for i in shown]}

    iterates = traces[descending[0]].motion.iterates if descending else 0
    steps = max(len(trace.motion) for trace in traces) if moving or descending else 0
    for step in range(steps):
        yield frame(str(step), moving, step, 0)
        for iterate in range(iterates):
            name = f"{step}/{iterate}"
            yield frame(name, descending, step, iterate) | {"baseframe": str(step)}


def _with_gaps(values: np.ndarray, joints: Sequence[int]) -> np.ndarray:
    """Returns values[joints], NaN where the joint is -1."""
    chosen = values[joints].astype(np.float32)
    chosen[np.equal(joints, -1)] = np.nan
    return chosen


def _binary(values: np.ndarray) -> dict[str, str]:
    """Returns an array as plotly.js reads it from a file."""
    return {"dtype": "f4", "bdata": base64.b64encode(values.astype("<f4").tobytes()).decode()}


def _bounds(motions: Sequence[Motion], dimensions: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns the lowest and the highest coordinates of all motions, with a margin."""
    poses = [motion.poses for motion in motions if motion.poses.shape[-1] == dimensions]
    if not poses:
        return None
    points = np.concatenate([pose.reshape(-1, dimensions) for pose in poses])
    low, high = np.nanmin(points, axis=0), np.nanmax(points, axis=0)
    margin = 0.04 * (high - low).max()
    return low - margin, high + margin


def _layout(motions: Sequence[Motion]) -> dict[str, Any]:
    """Returns what is the same in every window, whatever the slider says."""
    layout: dict[str, Any] = {
        "template": "none",
        "margin": {"l": 16, "r": 16, "t": 8, "b": 8},
        "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "font": {"size": 14}},
        "uirevision": "kept",  # what the reader turned and zoomed
        "dragmode": "pan",
        "modebar": {"orientation": "v"},
    }
    if (bounds := _bounds(motions, 3)) is not None:
        low, high = bounds
        layout["scene"] = {
            "dragmode": "turntable",  # z stays up
            "aspectmode": "manual",
            "aspectratio": dict(zip("xyz", (high - low) / (high - low).max(), strict=True)),
        }
        for name, *ends in zip("xyz", low, high, strict=True):
            layout["scene"][f"{name}axis"] = {
                "title": {"text": f"{name} (m)"},
                "range": ends,
                "showbackground": name == "z",  # the ground
                "backgroundcolor": "#EEEEEE",
                "gridcolor": "#CCCCCC",
                "zeroline": False,
                "showspikes": False,
            }
    if (bounds := _bounds(motions, 2)) is not None:
        (left, top), (right, bottom) = bounds
        unit = next(motion.unit for motion in motions if motion.poses.shape[-1] == 2)
        unit = html.escape(unit, quote=False)
        shared = {"constrain": "domain", "zeroline": False, "gridcolor": "#DDDDDD"}
        layout["xaxis"] = shared | {
            "title": {"text": f"image x ({unit})", "standoff": 8},
            "range": [left, right],
        }
        layout["yaxis"] = shared | {
            "title": {"text": f"image y ({unit})"},
            "range": [bottom, top],
            "scaleanchor": "x",
        }
    return layout


def _places(motions: Sequence[Motion], wide: bool) -> dict[str, Any]:
    """Returns what depends on the window: where the scene and the panel are, and the view."""
    kinds = {motion.poses.shape[-1] for motion in motions}
    both = kinds == {2, 3}
    places: dict[str, Any] = {}
    if 3 in kinds:
        places["scene.domain.x"] = [0, 0.64] if both and wide else [0, 1]
        places["scene.domain.y"] = [0.4, 1] if both and not wide else [0, 1]
        # Width by height of the scene in a usual window, 1280 x 800 or 390 x 844.
        shape = (1.3 if both else 2.0) if wide else (0.9 if both else 0.55)
        places["scene.camera"] = _camera(motions, shape)
    if 2 in kinds:
        places["xaxis.domain"] = [0.7, 1] if both and wide else [0.12, 1]
        places["yaxis.domain"] = [0.1, 0.35] if both and not wide else [0.15, 1]
    return places


def _camera(motions: Sequence[Motion], shape: float) -> dict[str, dict[str, float]]:
    """Returns a view of the first person of the first step from before, more or less from a side.

    The whole scene is in it, as large as possible: who walks is seen from the side.

    Args:
        motions: as `write_viewer`; one at least is in 3D.
        shape: width of the view as a multiple of its height.
    """
    first = next(motion for motion in motions if motion.poses.shape[-1] == 3)
    sides = np.array(first.skeleton.sides)
    pose = first.poses.reshape(-1, *first.poses.shape[-2:])[0]
    rightwards = pose[sides == "right"].mean(axis=0) - pose[sides == "left"].mean(axis=0)
    ahead = np.nan_to_num(np.arctan2(rightwards[1], rightwards[0])) + np.pi / 2
    low, high = _bounds(motions, 3)
    corners = np.array(np.meshgrid(*([-0.5, 0.5],) * 3)).reshape(3, -1).T
    corners *= (high - low) / (high - low).max()
    elevation = np.deg2rad(15)
    shifts = itertools.product(np.linspace(-0.3, 0.3, 13), repeat=2)
    shifts = sorted(shifts, key=lambda shift: np.hypot(*shift))
    best = np.inf
    # The face is worth a little size.
    for degrees, cost in ((-35, 1.0), (35, 1.0), (-65, 1.15), (65, 1.15)):
        azimuth = ahead + np.deg2rad(degrees)
        level = np.array([np.cos(azimuth), np.sin(azimuth), 0])
        towards = np.cos(elevation) * level + [0, 0, np.sin(elevation)]
        across = np.cross([0, 0, 1], level)
        up = np.cross(towards, across)
        for x, y in shifts:
            # A corner is in view if it is not too far from its middle for its distance.
            far = np.maximum(np.abs(corners @ across - x) / shape, np.abs(corners @ up - y))
            distance = (corners @ towards + far / _HALF_VIEW).max()
            if cost * distance < best:
                best = cost * distance
                # Some more, for the numbers along the axes.
                centre, offset = x * across + y * up, 1.3 * distance * towards
    eye = centre + offset
    return {
        "center": dict(zip("xyz", centre, strict=True)),
        "eye": dict(zip("xyz", eye, strict=True)),
    }
