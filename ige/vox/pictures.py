"""What `vis` draws of reconstructions: a sheet of examples, and a page to turn them in."""

import dataclasses
import math
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from tqdm import tqdm

from ige.errors import UserError, did_you_mean
from ige.figures import save
from ige.problem import Pictures
from ige.vox import outputs
from ige.vox.data.names import R2N2_SYNSETS
from ige.vox.data.shapes import Shape
from ige.vox.grids import iou
from ige.vox.metrics import THRESHOLDS
from ige.vox.outputs import Measurement
from ige.vox.rendering import WHITE, render
from ige.vox.surfaces import PREDICTION, TRUTH, cells_mesh
from ige.vox.viewer import Scene, write_viewer
from ige.vox.views import Views

if TYPE_CHECKING:
    from ige.vox.problem import VoxProblem

_RANKS = {"best": 1.0, "median": 0.5, "worst": 0.0}
_EACH = 2
_CHOSEN = "chosen"
# Of a panel; rendered at twice that, for smooth edges.
_PIXELS = 256
_TURN = 130
_TURNED = f"turned by {_TURN}\N{DEGREE SIGN}"
# Inches.
_LABEL, _PANEL, _HEADING, _GAP = 1.3, 1.2, 0.62, 0.06
_LETTERS = 18
_STYLE = {"font.size": 8}


@dataclasses.dataclass(frozen=True)
class Example:
    """A view, what it shows and what a network made of it.

    Attributes:
        rank: 'best', of the overlap in the split.
        shape: the model.
        view: number of the view.
        predicted: (iterates, R, R, R) bool, of which the last is the result.
    """

    rank: str
    shape: Shape
    view: int
    predicted: np.ndarray

    @property
    def scene(self) -> Scene:
        """What the page shows of it."""
        shape, view = self.shape, self.view
        name = f"{self.rank}: {_name(shape)}, view {view}"
        return Scene(name, shape.image(view), self.camera, self.predicted, shape.occupancy)

    @property
    def camera(self) -> Views:
        """The camera of the view, in the frame of the grid."""
        cameras = self.shape.cameras
        return Views(*(getattr(cameras, field)[self.view] for field in Views._fields))


def draw(
    problem: "VoxProblem",
    model: keras.Model,
    split: str,
    batch_size: int,
    folder: pathlib.Path,
    example: str | None,
) -> Pictures:
    """Writes shapes.png and viewer.html: the best, median and worst examples; see `Problem.vis`.

    Cells are solid above the threshold that is best on the validation split. The page has every
    iterate of a network that descends.

    Args:
        problem: a `VoxProblem`.
        example: a model, by its id, or one of its views: 'a1b2c3, view 3'; it comes first. None for
            no other than the best, median and worst ones.
    """
    decoder = problem.decoder(split)
    shapes, views = decoder.shapes, decoder.views
    chosen = None if example is None else _find(example, shapes, views)
    measure = problem.measurement(model)
    threshold = problem.threshold(measure, batch_size)
    overlaps = _overlaps(problem, measure, split, batch_size, threshold)
    rows = {} if chosen is None else {chosen: _CHOSEN}
    for rank, share in _RANKS.items():
        for row in _rows_at(overlaps, share, views):
            rows.setdefault(row, rank)
    whole, steps = outputs.with_iterates(model)
    examples = []
    for row, rank in rows.items():
        shape, view = shapes[row // views], row % views
        found = outputs.probabilities(whole, _inputs(shape, view))[0]
        examples.append(Example(rank, shape, view, found > threshold))
    title = f"{split}: mean IoU {100 * overlaps.mean():.1f} % of {len(overlaps):,} views"
    figure = draw_examples(examples, f"{title}, cells solid above {threshold:.3g}")
    save(figure, folder / "shapes.png")
    scenes = [example.scene for example in examples]
    write_viewer(folder / "viewer.html", scenes, title, threshold, steps)
    return Pictures([folder / "shapes.png", folder / "viewer.html"], [figure])


def _name(shape: Shape) -> str:
    """Returns 'chair 2bbe7cf2...'."""
    return f"{R2N2_SYNSETS.get(shape.synset, shape.synset)} {shape.model}"


def _find(example: str, shapes: Sequence[Shape], views: int) -> int:
    """Returns the row of the example that is called so."""
    model, _, view = example.partition(", view ")
    model = model.split(" ")[-1]
    number = int(view) if view.isdecimal() else 0
    for i, shape in enumerate(shapes):
        if shape.model == model and number < views:
            return i * views + number
    models = [shape.model for shape in shapes]
    hint = did_you_mean(model, set(models) - {model}) or f"such as {models[0]!r}"
    raise UserError(
        f"vis.example: got {example!r}; expected the id of one of {len(models):,} models, or one "
        f"of its views from 'ID, view 0' to 'ID, view {views - 1}'; {hint}"
    )


def _inputs(shape: Shape, view: int) -> dict[str, np.ndarray]:
    """Returns a batch of one view."""
    inputs = {"image": shape.image(view), "silhouette": shape.silhouette(view)}
    inputs |= {name: field[view] for name, field in shape.cameras._asdict().items()}
    return {name: np.asarray(value)[np.newaxis] for name, value in inputs.items()}


def _overlaps(
    problem: "VoxProblem", measure: Measurement, split: str, batch_size: int, threshold: float
) -> np.ndarray:
    """Returns the overlap (n,) of every example of a split."""
    bar = {"desc": f"looking at {split}", "unit": " batches", "leave": False, "disable": None}
    batches = tqdm(problem.get_dataset(split, batch_size), **bar)
    found = np.concatenate([measure(*batch)[0] for batch in batches])
    return found[:, -1, THRESHOLDS.index(threshold)]


def _rows_at(overlaps: np.ndarray, share: float, views: int) -> list[int]:
    """Returns the rows nearest to a place (0 to 1) in the order of overlaps, of other models."""
    order = np.argsort(overlaps, kind="stable")
    place = round(share * (len(order) - 1))
    found: dict[int, int] = {}
    for row in order[np.argsort(np.abs(np.arange(len(order)) - place), kind="stable")]:
        found.setdefault(row // views, int(row))
        if len(found) == _EACH:
            break
    return list(found.values())


@matplotlib.rc_context(_STYLE)
def draw_examples(examples: Sequence[Example], title: str) -> Figure:
    """Draws a row for each of at least one example: the image, prediction and truth from the camera
    of the image, and both turned about the upright axis."""
    width, height = _LABEL + 5 * _PANEL + _GAP, _HEADING + len(examples) * _PANEL
    figure = Figure(figsize=(width, height))

    def text(x: float, y: float, words: str, **style) -> None:
        figure.text(x / width, y / height, words, **style)

    text(width / 2, height - 0.06, title, ha="center", va="top", fontsize=9)
    names = ("input", "prediction", "ground truth", "prediction", "ground truth")
    for column, name in enumerate(names):
        x = _LABEL + (column + 0.5) * _PANEL
        text(x, height - _HEADING + 0.04, name, ha="center", va="bottom")
    for column, name in ((2, "from the same side"), (4, _TURNED)):
        x = _LABEL + column * _PANEL
        text(x, height - _HEADING + 0.18, name, ha="center", va="bottom", fontweight="bold")
    for row, example in enumerate(examples):
        y = height - _HEADING - (row + 1) * _PANEL
        kind, model = _name(example.shape).split(" ", 1)
        short = model if len(model) <= _LETTERS else f"{model[: _LETTERS - 1]}\u2026"
        overlap = iou(example.predicted[-1], example.shape.occupancy)
        middle = y + _PANEL / 2
        text(_GAP, middle + 0.18, example.rank, fontweight="bold", va="bottom", fontsize=9)
        text(_GAP, middle + 0.14, f"IoU {100 * overlap:.1f} %", va="top", fontsize=9)
        text(_GAP, middle - 0.08, f"{kind}\n{short}\nview {example.view}", va="top", fontsize=7)
        for column, image in enumerate(_panels(example)):
            low = ((_LABEL + column * _PANEL + _GAP / 2) / width, (y + _GAP / 2) / height)
            side = _PANEL - _GAP
            axes = figure.add_axes((*low, side / width, side / height))
            axes.imshow(image, interpolation="antialiased")
            axes.set_axis_off()
            if (image == WHITE).all():
                place = {"transform": axes.transAxes, "ha": "center"}
                axes.text(0.5, 0.5, "no solid cell", fontsize=7, **place)
    return figure


def _panels(example: Example) -> list[np.ndarray]:
    """Returns the five images of a row."""
    views = Views(
        *(np.stack(pair) for pair in zip(example.camera, _behind(example.camera), strict=True))
    )
    grids = ((example.predicted[-1], PREDICTION), (example.shape.occupancy, TRUTH))
    predicted, true = (_shaded(grid, colour, views) for grid, colour in grids)
    image = example.shape.image(example.view)
    return [image, predicted[0], true[0], predicted[1], true[1]]


def _behind(view: Views) -> Views:
    """Returns the camera of a view, moved about the upright axis."""
    cos, sin = math.cos(math.radians(_TURN)), math.sin(math.radians(_TURN))
    turn = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    return Views(view.rotation @ turn.T, turn @ view.centre, view.focal)


def _shaded(occupancy: np.ndarray, colour: tuple[int, int, int], views: Views) -> list[np.ndarray]:
    """Returns images (size, size, 3) of solid cells from every view; white if there are none."""
    if not occupancy.any():
        return [np.full((_PIXELS, _PIXELS, 3), WHITE, np.uint8)] * len(views.focal)
    images, _ = render(cells_mesh(occupancy, colour), views, 2 * _PIXELS)
    return [np.asarray(Image.fromarray(image).reduce(2)) for image in images]
