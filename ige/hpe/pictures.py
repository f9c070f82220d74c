"""What `vis` draws for a lifting network: examples, errors, a sequence that moves, a descent."""

import math
import pathlib
import sys
from typing import TYPE_CHECKING

import keras
import numpy as np
from matplotlib.figure import Figure

from ige import descents
from ige.errors import UserError, nearest
from ige.figures import save
from ige.geometry import alignment
from ige.geometry.units import MM_PER_METRE
from ige.hpe import drawing, vis
from ige.hpe.energies import coordinates, project
from ige.hpe.gif import write_gif
from ige.hpe.motion import Motion, shown
from ige.hpe.skeleton import Skeleton, convert, get_skeleton
from ige.hpe.viewer import write_viewer
from ige.problem import Pictures

if TYPE_CHECKING:
    from ige.hpe.problem import HpeProblem

_RANKS = {"best": 0.0, "median": 0.5, "worst": 1.0}
_EXAMPLES = 2
_FRAME_RATE = 50.0  # Human3.6M
# Of a page, every iterate counted.
_VIEWER_POSES = 3000
# Of a figure, from all over the split.
_DESCENT_POSES = 20_000
# Where a joint is drawn that the camera cannot see, see `project`: metres, focal lengths.
_MIN_DEPTH, _MAX_RADIUS = 0.1, 2.0


class _Predictions:
    """The predictions for a split, root-relative, in the joints that errors are measured on.

    Attributes:
        skeleton: these joints.
        views: (sequence, camera id) of every 2D sequence.
        names: name of every view: 'S9 Walking 1, camera 54138969'.
        starts: first row of every view, and one past the last.
        pose_2d: (n, input joints, 2), normalised.
        truth: (n, joints, 3), camera frame, metres, relative to the root.
        predicted: the same of the predictions.
        scaled: the predictions at their best scale.
        errors: (n, joints) mm, of `scaled`.
        counted: the joints that averages are taken over.
    """

    def __init__(self, problem: "HpeProblem", model: keras.Model, split: str, batch_size: int):
        self.skeleton = problem.evaluation_skeleton
        self.views = problem.views(split)
        self.names = [
            f"{sequence.subject} {sequence.name}, camera {camera}"
            for sequence, camera in self.views
        ]
        frames = [len(sequence.poses) for sequence, _ in self.views]
        self.starts = np.r_[0, np.cumsum(frames)]
        inputs, labels = problem.arrays(split)
        self.pose_2d = inputs["pose_2d"]
        predictions = problem.predict(model, split, batch_size)
        root = [self.skeleton.index("pelvis")]
        truth, predicted = (
            convert(poses, problem.skeleton, self.skeleton) for poses in (labels, predictions)
        )
        self.truth, self.predicted = (poses - poses[:, root] for poses in (truth, predicted))
        self.scaled = alignment.scale_aligned(self.predicted, self.truth).numpy()
        self.errors = _errors(self.scaled, self.truth)
        self.counted = problem.counted_joints

    def view_of(self, row: int) -> int:
        """Returns the view that a row belongs to."""
        return int(np.searchsorted(self.starts, row, side="right")) - 1


class _Descent:
    """What a network goes through that descends an energy from an absolute pose.

    Its poses are scaled about the camera centre to be nearest to the truth, as its loss has them:
    that leaves their projections as they are.

    Attributes:
        iterates: what they are called, from the first guess to the result.
    """

    def __init__(self, problem: "HpeProblem", model: keras.Model, split: str, batch_size: int):
        layer = descents.optimizer(model)
        self._num_steps = layer.num_steps
        steps = layer.test_steps or layer.num_steps
        between = [f"step {step}" for step in range(1, steps)]
        self.iterates = ["first guess", *between, f"step {steps}: result"]
        self._problem = problem
        self._model = descents.whole(model)
        # To compile it takes longer than these few batches.
        self._model.run_eagerly = True
        self._views = problem.views(split)
        self._inputs, self._labels = problem.arrays(split)
        self._batch_size = batch_size

    def _predict(self, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        """Returns the iterates (n, steps + 1, joints, 3) in metres and their energies."""
        return self._model.predict(
            {name: array[rows] for name, array in self._inputs.items()},
            batch_size=self._batch_size,
            verbose=int(sys.stdout.isatty()),
        )

    def _measured(self, poses: np.ndarray) -> np.ndarray:
        """Returns poses in the joints that errors are measured on."""
        return convert(poses, self._problem.skeleton, self._problem.evaluation_skeleton)

    def figure(self) -> Figure:
        """Draws energy and errors of poses from all over the split."""
        rows = slice(None, None, math.ceil(len(self._labels) / _DESCENT_POSES))
        iterates, energies = self._predict(rows)
        iterates = self._measured(iterates)
        truth = np.broadcast_to(self._measured(self._labels[rows])[:, np.newaxis], iterates.shape)
        errors = {
            "best scale about the camera": alignment.scale_aligned(iterates, truth),
            "Procrustes": alignment.procrustes_aligned(iterates, truth),
        }
        counted = self._problem.counted_joints
        errors = {
            name: _errors(poses, truth)[..., counted].mean(axis=-1)
            for name, poses in errors.items()
        }
        return vis.draw_descent(energies, errors, self._num_steps)

    def motions(self, view: int, rows: slice) -> tuple[Motion, Motion]:
        """Returns the iterates of some rows of a view, in the world and as the camera sees them."""
        sequence, camera_id = self._views[view]
        camera = sequence.cameras[camera_id]
        iterates, _ = self._predict(rows)
        xyz = coordinates(iterates.reshape(-1, *iterates.shape[2:]))
        lens = (camera.radial[np.newaxis], camera.tangential[np.newaxis])
        xy = project(xyz, *lens, _MIN_DEPTH, _MAX_RADIUS)
        seen = np.stack(xy, axis=-1).reshape(*iterates.shape[:-1], 2)
        truth = self._measured(self._labels[rows])[:, np.newaxis]
        scaled = alignment.scale_aligned(self._measured(iterates), truth).numpy()
        upright = drawing.upright(camera.rotation)
        place = camera.translation / MM_PER_METRE @ camera.rotation.T @ upright
        errors = _errors(scaled, truth)
        skeleton = self._problem.evaluation_skeleton
        return (
            Motion("prediction", scaled @ upright + place, skeleton, errors),
            Motion("projection", seen, self._problem.skeleton, unit="focal lengths"),
        )


def _errors(poses: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Returns the distances of the joints (..., joints), mm, of poses in metres."""
    return MM_PER_METRE * np.linalg.norm(poses - truth, axis=-1)


def draw(
    problem: "HpeProblem",
    model: keras.Model,
    split: str,
    batch_size: int,
    folder: pathlib.Path,
    example: str | None,
) -> Pictures:
    """Writes poses.png, errors.png, sequence.gif and viewer.html; see `Problem.vis`.

    Errors are those of the joints relative to the root, at the best scale of each pose.

    For a network that descends an energy there is a descent.png, and viewer.html shows every
    iterate. Errors there are those of the absolute joints, scaled about the camera centre.

    Args:
        problem: an `HpeProblem`.
        example: a sequence, such as 'S9 Walking 1', or one of its cameras, as it is called in
            poses.png; None for the one of median error.
    """
    predictions = _Predictions(problem, model, split, batch_size)
    view = _choose(example, predictions)
    examples = [
        _example(predictions, problem.input_skeleton, row, rank)
        for rank, share in _RANKS.items()
        for row in _rows_at(predictions, share)
    ]
    frames = np.diff(predictions.starts)
    actions = np.repeat([sequence.action for sequence, _ in predictions.views], frames)
    figures = {
        "poses.png": vis.draw_examples(examples),
        "errors.png": vis.draw_errors(
            predictions.errors[:, predictions.counted],
            actions,
            [predictions.skeleton.joints[joint] for joint in predictions.counted],
            "joint error at the best scale",
        ),
    }
    descent = None
    if descents.whole(model) is not None:
        descent = _Descent(problem, model, split, batch_size)
        figures["descent.png"] = descent.figure()
    for name, figure in figures.items():
        save(figure, folder / name)
    motions = _motions(predictions, problem.input_skeleton, view)
    write_gif(folder / "sequence.gif", motions, _FRAME_RATE)
    _write_viewer(folder / "viewer.html", motions, predictions, view, descent)
    paths = [folder / name for name in (*figures, "sequence.gif", "viewer.html")]
    return Pictures(paths, list(figures.values()))


def _write_viewer(
    path: pathlib.Path,
    motions: tuple[Motion, Motion, Motion],
    predictions: _Predictions,
    view: int,
    descent: _Descent | None,
) -> None:
    """Writes the page of a view, of what `_motions` returns, or of all iterates of a descent."""
    iterates = descent.iterates if descent else []
    kept, frame_rate = shown(_FRAME_RATE, _VIEWER_POSES // max(1, len(iterates)))
    seen, truth, predicted = (motion[kept] for motion in motions)
    shown_there = [truth, predicted, seen]
    frames = range(len(motions[0]))[kept]
    if descent:
        rows = range(*predictions.starts[view : view + 2])[kept]
        rows = slice(rows.start, rows.stop, rows.step)
        predicted, projected = descent.motions(view, rows)
        shown_there = [truth, predicted, seen, projected]
    title = predictions.names[view]
    if frames.stop < len(motions[0]):
        title += f", up to frame {frames[-1]}"
    write_viewer(
        path,
        shown_there,
        title,
        [str(frame) for frame in frames],
        frame_rate=frame_rate,
        iterates=iterates,
    )


def _rows_at(predictions: _Predictions, share: float) -> list[int]:
    """Returns the rows nearest to a place (0 to 1) in the order of errors, of other recordings."""
    order = np.argsort(predictions.errors[:, predictions.counted].mean(axis=1))
    place = round(share * (len(order) - 1))
    found: dict[int, int] = {}
    for row in order[np.argsort(np.abs(np.arange(len(order)) - place), kind="stable")]:
        sequence, _ = predictions.views[predictions.view_of(row)]
        found.setdefault(id(sequence), int(row))
        if len(found) == _EXAMPLES:
            break
    return list(found.values())


def _choose(example: str | None, predictions: _Predictions) -> int:
    """Returns the view that is called `example`; if None, the one of median error."""
    if example is None:
        errors = predictions.errors[:, predictions.counted].mean(axis=1)
        means = np.add.reduceat(errors, predictions.starts[:-1]) / np.diff(predictions.starts)
        return int(np.argsort(means)[len(means) // 2])
    names = predictions.names
    for view, name in enumerate(names):
        if example in (name, name.partition(",")[0]):
            return view
    sequences = {name.partition(",")[0] for name in names}
    raise UserError(f"vis.example: got {example!r}; {nearest(example, sequences)}")


def _example(
    predictions: _Predictions, input_skeleton: Skeleton, row: int, rank: str
) -> vis.Example:
    view = predictions.view_of(row)
    sequence, camera = predictions.views[view]
    truth = predictions.truth[row]
    aligned = alignment.procrustes_aligned(predictions.predicted[row], truth).numpy()
    poses = (truth, predictions.scaled[row], aligned)
    return vis.Example(
        rank,
        f"{predictions.names[view]}, frame {row - predictions.starts[view]}",
        predictions.pose_2d[row],
        input_skeleton,
        *(pose @ drawing.upright(sequence.cameras[camera].rotation) for pose in poses),
        predictions.skeleton,
        predictions.errors[row, predictions.counted].mean(),
        _errors(aligned, truth)[predictions.counted].mean(),
    )


def _motions(
    predictions: _Predictions, input_skeleton: Skeleton, view: int
) -> tuple[Motion, Motion, Motion]:
    """Returns 2D input, truth and prediction of a view in the world; both have the true root."""
    rows = slice(*predictions.starts[view : view + 2])
    sequence, camera = predictions.views[view]
    rotation = sequence.cameras[camera].rotation
    upright = drawing.upright(rotation)
    world = convert(sequence.poses, get_skeleton("h36m_32"), predictions.skeleton) / MM_PER_METRE
    root = world[:, [predictions.skeleton.index("pelvis")]] @ rotation.T @ upright
    truth, predicted = (
        poses[rows] @ upright + root for poses in (predictions.truth, predictions.scaled)
    )
    return (
        Motion("2D input", predictions.pose_2d[rows], input_skeleton, unit="focal lengths"),
        Motion("ground truth", truth, predictions.skeleton),
        Motion("prediction", predicted, predictions.skeleton, predictions.errors[rows]),
    )
