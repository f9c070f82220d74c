"""Poses that move, as a GIF: any browser and any slide shows it."""

import io
import itertools
import math
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image
from scipy.ndimage import uniform_filter1d
from tqdm import tqdm

from ige.errors import UserError
from ige.files import write_bytes
from ige.hpe import drawing
from ige.hpe.motion import COLOURS, Motion, shown

# Half an edge of the ground in sight, metres.
_GROUND = 0.6
# Inches, and pixels per inch.
_WIDTH, _HEIGHT, _TITLE = 2.0, 2.4, 0.25
_DPI = 100


class _Panel:
    """Motions in axes of their own: the lines are made once and get new points every frame.

    Attributes:
        axes: where they are drawn.
        dimensions: of the poses, 2 or 3.
        seen: (points, 2), all that comes into sight.
    """

    def __init__(self, axes: Axes, motions: Sequence[Motion], frame_rate: float):
        self.axes = axes
        self.dimensions = motions[0].poses.shape[-1]
        self._name = " and ".join(motion.name for motion in motions)
        self._errors = motions[-1].errors
        poses = motions[0].poses.astype(np.float64)
        # The view rides along smoothly, a second's mean: it does not bob with every step.
        centres = uniform_filter1d(poses.mean(axis=1), max(1, round(frame_rate)), 0, mode="nearest")
        drawn = []
        if self.dimensions == 3:
            # Where the feet are most of the time; a leap or a wrong frame does not move it.
            centres[:, 2] = np.percentile(poses[..., 2].min(axis=1), 5)
            ground = [drawing.project(drawing.ground_path(c, _GROUND) - c) for c in centres]
            drawn.append((drawing.GROUND, ground))
        for motion, style in zip(motions, _styles(motions).values(), strict=True):
            poses = motion.poses - centres[:, np.newaxis]
            poses = drawing.project(poses) if self.dimensions == 3 else poses
            for side, paths in drawing.bone_paths(poses, motion.skeleton).items():
                drawn.append((style | {"color": COLOURS[side]}, paths))
        self.seen = np.concatenate([path for _, paths in drawn for path in paths])
        self._drawn = [
            (axes.plot([], [], animated=True, **style)[0], paths) for style, paths in drawn
        ]
        self._title = axes.set_title(self._name, pad=2)
        self._title.set_animated(self._errors is not None)

    def draw(self, frame: int) -> None:
        """Draws a frame onto the canvas, over what does not move."""
        for line, paths in self._drawn:
            line.set_data(*paths[frame].T)
            self.axes.draw_artist(line)
        if self._errors is not None:
            self._title.set_text(f"{self._name}: {self._errors[frame].mean():.0f} mm")
            self.axes.draw_artist(self._title)


def _styles(motions: Sequence[Motion]) -> dict[str, dict[str, Any]]:
    """Returns name -> how a motion of a panel is drawn: two are the truth and a prediction."""
    styles = (drawing.PLAIN,) if len(motions) == 1 else (drawing.TRUTH, drawing.PREDICTION)
    return {motion.name: style for motion, style in zip(motions, styles, strict=True)}


@matplotlib.rc_context(drawing.STYLE)
def write_gif(
    path: pathlib.Path,
    motions: Sequence[Motion | tuple[Motion, Motion]],
    frame_rate: float,
    max_frames: int = 250,
) -> None:
    """Writes motions as a GIF, beside one another, as fast as they were; whole or not at all.

    The view goes with the person over a ground that stays. Of more than 25 frames a second some
    are left out. Shows progress on a terminal.

    Args:
        motions: at least one, of the same number of frames, which is not 0. A pair, truth and
            prediction, is drawn one over the other, and the view goes with the truth.
        frame_rate: of the motions, frames per second.
        max_frames: of the file; what comes later is left out.

    Raises:
        UserError: a pose or an error is NaN or infinite, or the frame rate is not positive.
    """
    groups = [(motion,) if isinstance(motion, Motion) else motion for motion in motions]
    frames = len(groups[0][0])
    assert {len(motion) for group in groups for motion in group} == {frames}
    if not 0 < frame_rate < math.inf:
        raise UserError(f"frame_rate: got {frame_rate}, expected frames per second, above 0")
    kept, frame_rate = shown(frame_rate, max_frames)
    groups = [tuple(motion[kept] for motion in group) for group in groups]
    for motion in itertools.chain(*groups):
        drawing.check_finite(motion.name, motion.poses)
        if motion.errors is not None:
            drawing.check_finite(f"errors of the {motion.name}", motion.errors)
    frames = len(groups[0][0])
    # A delay is in 1/100 s. Rounding when each frame starts, not how long it lasts, keeps time.
    starts = np.rint(100 / frame_rate * np.arange(frames + 1)).astype(int)
    panels = _panels(groups, frame_rate)
    progress = tqdm(range(frames), desc=path.name, unit=" frames", leave=False, disable=None)
    images = _images(panels, progress)
    data = io.BytesIO()
    next(images).save(
        data,
        format="GIF",
        save_all=True,
        append_images=images,
        duration=(10 * np.diff(starts)).tolist(),
        loop=0,
    )
    write_bytes(path, data.getvalue())


def _panels(groups: Sequence[Sequence[Motion]], frame_rate: float) -> list[_Panel]:
    """Returns the panels of a new figure; those of as many dimensions have one scale."""
    figure = Figure(figsize=(_WIDTH * len(groups), 1), dpi=_DPI)
    FigureCanvasAgg(figure)
    in_3d = any(group[0].poses.shape[-1] == 3 for group in groups)
    styles = {drawing.GROUND_LABEL: drawing.GROUND} if in_3d else {}
    for group in groups:
        styles |= _styles(group) if len(group) > 1 else {}
    bottom = drawing.draw_legend(figure, styles)
    height = bottom + _HEIGHT + _TITLE
    figure.set_figheight(height)
    panels, scales = [], {}
    for column, group in enumerate(groups):
        box = (column / len(groups), bottom / height, 1 / len(groups), _HEIGHT / height)
        panel = _Panel(figure.add_axes(box), group, frame_rate)
        needed = drawing.needed_scale(panel.axes, panel.seen)
        scales[panel.dimensions] = max(needed, scales.get(panel.dimensions, 0))
        panels.append(panel)
    for panel in panels:
        drawing.frame(panel.axes, panel.seen, scales[panel.dimensions])
    return panels


def _images(panels: list[_Panel], frames: Iterable[int]) -> Iterator[Image.Image]:
    """Yields the figure at each frame, all in one palette."""
    canvas = panels[0].axes.figure.canvas
    canvas.draw()
    background = canvas.copy_from_bbox(canvas.figure.bbox)
    palette = _palette()
    for frame in frames:
        canvas.restore_region(background)
        for panel in panels:
            panel.draw(frame)
        image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
        yield image.quantize(palette=palette, dither=Image.Dither.NONE)


def _palette() -> Image.Image:
    """Returns an image with the palette of a drawing: its colours, and each blended with white."""
    colours = [*COLOURS.values(), drawing.GREY, "black"]
    # White, and twelve blends of every colour: 61, of which GIF makes 64.
    shares = np.linspace(1, 0, 12, endpoint=False)[:, np.newaxis]
    blends = [1 - shares * (1 - np.array(to_rgb(colour))) for colour in colours]
    image = Image.new("P", (1, 1))
    image.putpalette(np.rint(255 * np.vstack([(1, 1, 1), *blends])).astype(int).ravel().tolist())
    return image
