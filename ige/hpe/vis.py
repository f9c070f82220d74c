"""The figures of `vis`: examples of poses, errors, a descent; for print, files or windows."""

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence
from itertools import groupby

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ige.hpe import drawing
from ige.hpe.motion import COLOURS
from ige.hpe.skeleton import Skeleton

# From the head downwards; what is not here comes last.
_ANATOMY = (
    *("head_top", "ear", "eye", "nose", "upper_neck", "thorax", "clavicle"),
    *("shoulder", "elbow", "wrist", "wrist_end", "thumb", "hand", "hand_end"),
    *("spine", "spine_base", "pelvis", "hip", "knee", "ankle", "foot", "toes"),
)


@dataclasses.dataclass(frozen=True)
class Example:
    """One frame: what the network was given, what it should have said and what it said.

    Attributes:
        rank: heading over the examples beside one another that share it: 'best'; '' for none.
        name: which frame it is: 'S9 Walking 1, camera 3, frame 120'; broken into short lines.
        pose_2d: (input joints, 2), x right and y down, in any unit.
        input_skeleton: joints of `pose_2d`.
        truth: (joints, 3).
        scaled: (joints, 3), the prediction at its best scale.
        aligned: (joints, 3), the prediction after Procrustes alignment.
        skeleton: joints of the 3D poses.
        scaled_error: mean error of `scaled`, mm.
        aligned_error: mean error of `aligned`, mm.
    """

    rank: str
    name: str
    pose_2d: np.ndarray
    input_skeleton: Skeleton
    truth: np.ndarray
    scaled: np.ndarray
    aligned: np.ndarray
    skeleton: Skeleton
    scaled_error: float
    aligned_error: float

    def __post_init__(self):
        for name in ("pose_2d", "truth", "scaled", "aligned", "scaled_error", "aligned_error"):
            drawing.check_finite(f"{self.name}: {name}", getattr(self, name))


# Inches.
_LABEL, _COLUMN, _BETWEEN = 0.25, 1.12, 0.12
_HEADING, _LINE, _TITLE = 0.2, 0.13, 0.18
_ROWS = {"2D input": 1.3, "best scale": 1.4, "Procrustes": 1.4}
# What fits into a column at 7 points.
_LETTERS = 18


@matplotlib.rc_context(drawing.STYLE)
def draw_examples(examples: Sequence[Example]) -> Figure:
    """Draws a column for each of at least one example: input, prediction scaled, and aligned.

    Both 3D panels of an example have one scale, told by the ground. Six examples make a figure as
    wide as a page.
    """
    groups = [list(group) for _, group in groupby(examples, lambda example: example.rank)]
    width = _LABEL + _COLUMN * len(examples) + _BETWEEN * (len(groups) - 1)
    figure = Figure(figsize=(width, 1))
    styles = {
        "ground truth": drawing.TRUTH,
        "prediction": drawing.PREDICTION,
        drawing.GROUND_LABEL: drawing.GROUND,
    }
    bottom = drawing.draw_legend(figure, styles)
    above = _HEADING + _LINE * max(len(_short_lines(example.name)) for example in examples)
    height = bottom + sum(_ROWS.values()) + _TITLE * 2 + above
    figure.set_figheight(height)

    def text(x: float, y: float, words: str, **style) -> None:
        figure.text(x / width, y / height, words, ha="center", **style)

    y = height - above
    rows = {}
    for row, tall in _ROWS.items():
        y -= tall
        rows[row] = (y / height, tall / height)
        text(_LABEL / 2, y + tall / 2, row, va="center", rotation="vertical")
        y -= _TITLE
    x = _LABEL
    for group in groups:
        middle = x + _COLUMN * len(group) / 2
        text(middle, height - 0.03, group[0].rank, va="top", fontweight="bold", fontsize=9)
        for example in group:
            name = "\n".join(_short_lines(example.name))
            text(x + _COLUMN / 2, height - _HEADING, name, va="top", fontsize=7)
            boxes = [(x / width, low, _COLUMN / width, tall) for low, tall in rows.values()]
            _draw_example([figure.add_axes(box) for box in boxes], example)
            x += _COLUMN
        x += _BETWEEN
    return figure


def _short_lines(name: str) -> list[str]:
    """Returns a name in the three lines that there is room for, broken at commas if it can be."""
    parts = [line for part in name.split(", ") for line in textwrap.wrap(part, _LETTERS)]
    return parts if len(parts) <= 3 else textwrap.wrap(name, _LETTERS, max_lines=3)


def _draw_example(columns: Sequence[Axes], example: Example) -> None:
    """Draws an example into the axes of the three rows; those of 3D poses are at one scale."""
    first, *others = columns
    drawing.draw_pose(first, example.pose_2d, example.input_skeleton, **drawing.PLAIN)
    drawing.frame(first, example.pose_2d, drawing.needed_scale(first, example.pose_2d))
    # The person stands in the middle of the ground.
    centre = np.r_[example.truth[:, :2].mean(axis=0), example.truth[:, 2].min()]
    ground = drawing.project(drawing.ground_path(np.zeros(3), drawing.SQUARE))
    truth = drawing.project(example.truth - centre)
    predictions = (example.scaled, example.aligned)
    errors = (example.scaled_error, example.aligned_error)
    seen = [truth, ground]
    for axes, prediction, error in zip(others, predictions, errors, strict=True):
        prediction = drawing.project(prediction - centre)
        axes.plot(*ground.T, **drawing.GROUND)
        drawing.draw_pose(axes, truth, example.skeleton, **drawing.TRUTH)
        drawing.draw_pose(axes, prediction, example.skeleton, **drawing.PREDICTION)
        axes.set_title(f"{error:.1f} mm", pad=2)
        seen.append(prediction)
    seen = np.concatenate(seen)
    for axes in others:
        drawing.frame(axes, seen, drawing.needed_scale(axes, seen))


@matplotlib.rc_context(drawing.STYLE)
def draw_errors(
    joint_errors: np.ndarray,
    actions: Sequence[str] | np.ndarray,
    joints: Sequence[str],
    quantity: str,
) -> Figure:
    """Draws errors by joint, by action, and how those of the poses are distributed.

    Args:
        joint_errors: (n, joints), mm; n is not 0.
        actions: (n,), the action of every pose.
        joints: name of every joint; 'left_...' and 'right_...' are drawn beside each other.
        quantity: what these errors are: 'error at the best scale'.

    Raises:
        UserError: an error is NaN or infinite.
    """
    actions = np.asarray(actions)
    assert joint_errors.shape == (len(actions), len(joints))
    drawing.check_finite("joint_errors", joint_errors)
    label = f"{quantity} (mm)"
    frames = joint_errors.mean(axis=1, dtype=np.float64)
    places = _places(joints)
    names = sorted(set(actions.tolist()))
    height = 1.2 + 0.17 * max(len(places), len(names) + 1)
    figure = Figure(figsize=(7, height + 1.8), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=(height, 1.8))

    axes = figure.add_subplot(grid[0, 0])
    for row, columns in enumerate(places.values()):
        for shift, column in zip(_spread(len(columns)), columns, strict=True):
            side = joints[column].partition("_")[0]
            colour = COLOURS.get(side, COLOURS["centre"])
            _draw_quartiles(axes, row + shift, joint_errors[:, column], colour)
    _finish_rows(axes, list(places), label, "by joint")

    axes = figure.add_subplot(grid[0, 1])
    chosen = {name: frames[actions == name] for name in names} | {"all": frames}
    for row, values in enumerate(chosen.values()):
        _draw_quartiles(axes, row, values, "black")
    labels = [f"{name} ({len(values):,})" for name, values in chosen.items()]
    _finish_rows(axes, labels, label, "by action (number of poses)")

    _draw_histogram(figure.add_subplot(grid[1, :]), frames, label)
    styles = {"quartiles": _QUARTILES, "median": _MEDIAN, "mean": _MEAN}
    drawing.draw_legend(figure, styles, loc="outside lower center")
    return figure


_QUARTILES = {"linewidth": 1.2, "solid_capstyle": "butt"}
_MEDIAN = {"linestyle": "none", "marker": "o", "markersize": 4}
_MEAN = {
    "linestyle": "none",
    "marker": "D",
    "markersize": 4,
    "markerfacecolor": "white",
    "markeredgewidth": 0.8,
}


def _places(joints: Sequence[str]) -> dict[str, list[int]]:
    """Returns place -> its joints, left before right, from the head downwards."""
    places = {}
    for index in sorted(range(len(joints)), key=lambda index: joints[index]):
        side, _, place = joints[index].partition("_")
        name = place if side in ("left", "right") else joints[index]
        places.setdefault(name, []).append(index)
    order = {name: rank for rank, name in enumerate(_ANATOMY)}
    ranked = sorted(places, key=lambda name: order.get(name, len(order)))
    return {name.replace("_", " "): places[name] for name in ranked}


def _spread(count: int) -> np.ndarray:
    """Returns where `count` marks go in one row, about 0."""
    return 0.4 * (np.arange(count) - (count - 1) / 2)


def _draw_quartiles(axes: Axes, y: float, values: np.ndarray, colour: str) -> None:
    low, median, high = np.percentile(values, (25, 50, 75))
    axes.plot((low, high), (y, y), color=colour, **_QUARTILES)
    axes.plot(values.mean(dtype=np.float64), y, color=colour, **_MEAN)
    axes.plot(median, y, color=colour, **_MEDIAN)


def _finish_rows(axes: Axes, names: list[str], label: str, title: str) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, axes.get_xlim()[1] if axes.dataLim.xmax > 0 else 1)
    axes.set_xlabel(label)
    axes.set_title(title)
    axes.grid(axis="x", color=drawing.GREY, linewidth=0.4)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _draw_histogram(axes: Axes, errors: np.ndarray, label: str) -> None:
    """Draws the distribution of errors (n,) up to where all but half a percent are."""
    end = np.percentile(errors, 99.5) * 1.02 or 1.0
    shares = np.full(len(errors), 100 / len(errors))
    axes.hist(errors, bins=60, range=(0, end), weights=shares, color=drawing.GREY)
    mean, median = errors.mean(), np.median(errors)
    axes.axvline(median, color="black", linewidth=1.2, label=f"median {median:.1f} mm")
    axes.axvline(
        mean, color="black", linewidth=1.2, linestyle=(0, (3, 1.5)), label=f"mean {mean:.1f} mm"
    )
    axes.set_xlim(0, end)
    title = "distribution"
    if beyond := np.count_nonzero(errors > end):
        share = 100 * beyond / len(errors)
        title += f" ({share:.1f} % of the poses lie beyond, up to {errors.max():.0f} mm)"
    axes.set(xlabel=label, ylabel="poses (%)")
    axes.set_title(title, loc="left")
    # Above the axes, where it cannot lie on a bar.
    axes.legend(loc="lower right", bbox_to_anchor=(1, 0.97), ncols=2, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


# Quartiles and median, told apart without colour.
_BANDS = (
    ({"color": "#D5D5D5", "linewidth": 0}, {"marker": "o"}),
    (
        {"facecolor": "none", "edgecolor": "#777777", "linewidth": 0, "hatch": "//////"},
        {"marker": "D", "markerfacecolor": "white", "linestyle": (0, (3, 1.2))},
    ),
)


@matplotlib.rc_context(drawing.STYLE)
def draw_descent(energies: np.ndarray, errors: Mapping[str, np.ndarray], num_steps: int) -> Figure:
    """Draws how energy and errors of poses change from step to step: medians and quartiles.

    Energies differ between poses by more than a step changes them, and only the changes matter:
    each is drawn relative to that of its first guess.

    Args:
        energies: (n, steps + 1), from the first guess to the result; n is not 0.
        errors: what an error is -> (n, steps + 1), mm; one or two.
        num_steps: how many steps were made in training.

    Raises:
        UserError: an energy or an error is NaN or infinite.
    """
    for name, values in ({"energies": energies} | errors).items():
        assert values.shape == energies.shape
        drawing.check_finite(name, values)
    poses, iterates = energies.shape
    figure = Figure(figsize=(7, 2.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_bands(left, {"": energies - energies[:, :1]})
    left.set_ylabel("energy minus that at step 0")
    _draw_bands(right, errors)
    right.set_ylabel("error (mm)")
    right.set_ylim(bottom=0)
    right.legend(framealpha=1, edgecolor="none")
    for axes in (left, right):
        axes.set_xlabel("step (0: first guess)")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
        if num_steps < iterates - 1:
            label = f"{num_steps} steps in training"
            axes.axvline(num_steps, color="black", linewidth=0.6, linestyle=":", label=label)
            axes.legend(framealpha=1, edgecolor="none")
    figure.suptitle(f"median and quartiles of {poses:,} poses", fontsize=8)
    return figure


def _draw_bands(axes: Axes, quantities: Mapping[str, np.ndarray]) -> None:
    """Draws the median and the quartiles of each of name -> (n, steps + 1)."""
    for (name, values), (band, line) in zip(quantities.items(), _BANDS, strict=False):
        low, median, high = np.percentile(values, (25, 50, 75), axis=0)
        steps = np.arange(len(median))
        axes.fill_between(steps, low, high, **band)
        axes.plot(steps, median, color="black", linewidth=1.2, markersize=4, label=name, **line)
