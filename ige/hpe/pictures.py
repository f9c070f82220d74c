"""What `vis` draws for a lifting network: examples, errors, a sequence that moves."""

import pathlib
from typing import TYPE_CHECKING

import keras
import numpy as np

from ige.errors import UserError, nearest
from ige.figures import save
from ige.geometry import alignment
from ige.geometry.units import MM_PER_METRE
from ige.hpe import drawing, vis
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
_VIEWER_FRAMES = 3000


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
        self.errors = MM_PER_METRE * np.linalg.norm(self.scaled - self.truth, axis=-1)
        self.counted = problem.counted_joints

    def view_of(self, row: int) -> int:
        """Returns the view that a row belongs to."""
        return int(np.searchsorted(self.starts, row, side="right")) - 1


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
    for name, figure in figures.items():
        save(figure, folder / name)
    seen, truth, predicted = _motions(predictions, problem.input_skeleton, view)
    write_gif(folder / "sequence.gif", [seen, truth, predicted], _FRAME_RATE)
    kept, frame_rate = shown(_FRAME_RATE, _VIEWER_FRAMES)
    write_viewer(
        folder / "viewer.html",
        [motion[kept] for motion in (truth, predicted, seen)],
        predictions.names[view],
        [str(frame) for frame in range(len(truth))[kept]],
        frame_rate=frame_rate,
    )
    paths = [folder / name for name in (*figures, "sequence.gif", "viewer.html")]
    return Pictures(paths, list(figures.values()))


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
        MM_PER_METRE * np.linalg.norm(aligned - truth, axis=-1)[predictions.counted].mean(),
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
