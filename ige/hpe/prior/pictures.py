"""What `vis` draws of a prior of poses: generated ones, its latent, and motions fitted with it."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from ige.adversarial import AdversarialModel
from ige.errors import UserError, nearest
from ige.figures import save
from ige.geometry import alignment
from ige.geometry.units import MM_PER_METRE
from ige.hpe import drawing, vis
from ige.hpe.gif import write_gif
from ige.hpe.motion import Motion, shown
from ige.hpe.prior import latent, results
from ige.hpe.skeleton import Skeleton, convert
from ige.hpe.viewer import write_viewer
from ige.problem import Pictures

if TYPE_CHECKING:
    from ige.hpe.prior.problem import PosePriorProblem
from ige.hpe.prior.views import View

_SEED = 0
_COLUMNS, _ROWS = 8, 4
# Inches.
_LABEL, _WIDTH, _HEIGHT, _TITLE = 0.3, 0.86, 1.3, 0.3
# Of viewer.html.
_VIEWER_FRAMES = 1000


def draw(
    problem: "PosePriorProblem",
    model: AdversarialModel,
    split: str,
    batch_size: int,
    folder: pathlib.Path,
    example: str | None,
    run_folder: pathlib.Path,
) -> Pictures:
    """Writes generated.png and latent.html, and of the motions that `infer` fitted, if there are
    any, errors.png, sequence.gif and viewer.html; see `Problem.vis`.

    Args:
        problem: a `PosePriorProblem`.
        example: a sequence, such as 'S9 Walking 1', or one of its views: 'S9 Walking 1 54138969';
            None for the one of median error.
    """
    views = problem.views(split)
    if not views:
        raise UserError(f"vis.split: got {split!r}, which has no sequences; choose another")
    fitted = _fitted(problem, views, example, run_folder / problem.results)
    chosen = _choose(example, fitted) if fitted or example is not None else None
    generate = functools.partial(_generate, problem, model, batch_size)
    figures = {"generated.png": _draw_generated(problem, generate, split)}
    latent.write_page(
        folder / "latent.html", generate, problem.latents, problem.skeleton, seed=_SEED
    )
    pages = ["latent.html"]
    if chosen:
        figures["errors.png"] = _draw_errors(problem, fitted)
        _draw_sequence(problem.skeleton, chosen, folder)
        pages += ["sequence.gif", "viewer.html"]
    for name, figure in figures.items():
        save(figure, folder / name)
    return Pictures([folder / name for name in (*figures, *pages)], list(figures.values()))


def _generate(
    problem: "PosePriorProblem", model: AdversarialModel, batch_size: int, latents: np.ndarray
) -> np.ndarray:
    """Returns the poses (n, J, 3) of latents (n, latents), in metres."""
    poses = model.generator.predict({"latent": latents}, batch_size=batch_size, verbose=0)
    drawing.check_finite("generated poses", poses)
    return problem.metres * poses


@matplotlib.rc_context(drawing.STYLE)
def _draw_generated(
    problem: "PosePriorProblem", generate: Callable[[np.ndarray], np.ndarray], split: str
) -> Figure:
    """Draws rows of generated poses, and one of recorded ones, all at one scale on the floor."""
    rng = np.random.default_rng(_SEED)
    generated = generate(
        rng.standard_normal((_ROWS * _COLUMNS, problem.latents)).astype(np.float32)
    )
    _, recorded = problem.arrays(split)
    some = rng.choice(len(recorded), _COLUMNS, replace=len(recorded) < _COLUMNS)
    poses = drawing.project(np.concatenate([generated, problem.metres * recorded[some]]))
    ground = drawing.project(drawing.ground_path(np.zeros(3), drawing.SQUARE))

    width = _LABEL + _COLUMNS * _WIDTH
    figure = Figure(figsize=(width, 1))
    bottom = drawing.draw_legend(figure, {drawing.GROUND_LABEL: drawing.GROUND})
    height = bottom + (_ROWS + 1) * _HEIGHT + _TITLE
    figure.set_figheight(height)
    title = f"{len(generated)} poses of latents drawn from N(0, 1), and {len(some)} of the data"
    figure.text(0.5, 1 - 0.08 / height, title, ha="center", va="top", fontsize=9)
    for label, row in (("generated", (_ROWS + 2) / 2), (f"recorded ({split})", 0.5)):
        place = (0.5 * _LABEL / width, (bottom + row * _HEIGHT) / height)
        figure.text(*place, label, ha="center", va="center", rotation="vertical")
    # Everything that is seen anywhere, so that the floor is at one place in every panel.
    seen = np.concatenate([poses.reshape(-1, 2), ground])
    for i, pose in enumerate(poses):
        row, column = divmod(i, _COLUMNS)
        left, low = _LABEL + column * _WIDTH, bottom + (_ROWS - row) * _HEIGHT
        axes = figure.add_axes((left / width, low / height, _WIDTH / width, _HEIGHT / height))
        axes.plot(*ground.T, **drawing.GROUND)
        drawing.draw_pose(axes, pose, problem.skeleton, **drawing.PLAIN)
        drawing.frame(axes, seen, drawing.needed_scale(axes, seen))
    return figure


@dataclasses.dataclass(frozen=True)
class _Fitted:
    """A motion that was fitted, and what it was fitted to.

    Attributes:
        view: what a camera saw.
        poses: (n, J, 3) metres, world frame.
        errors: (n, evaluation joints) mm, each pose after Procrustes alignment.
    """

    view: "View"
    poses: np.ndarray
    errors: np.ndarray

    @property
    def sequence(self) -> str:
        """Name of the sequence, whichever the camera."""
        return f"{self.view.subject} {self.view.name}"


def _fitted(
    problem: "PosePriorProblem", views: list["View"], example: str | None, path: pathlib.Path
) -> list[_Fitted]:
    """Returns the fitted motions of some views; says so if there are none.

    Raises:
        UserError: an example is asked for and there are no results; the results are damaged, or
            of another frame rate.
    """
    fits = results.read(path)[1] if example is not None or path.is_file() else {}
    found = []
    for view in views:
        if view.key not in fits:
            continue
        poses = fits[view.key].poses.astype(np.float64)
        if len(poses) != len(view.poses):
            raise UserError(
                f"{path}: {view.key}: got {len(poses)} poses, expected {len(view.poses)}; restore "
                "the hpe.PosePriorProblem.frame_rate that it was fitted with"
            )
        pair = [
            convert(some, problem.skeleton, problem.evaluation_skeleton)
            for some in (poses, view.poses * MM_PER_METRE)
        ]
        errors = np.linalg.norm(alignment.procrustes_aligned(*pair) - pair[1], axis=-1)
        found.append(_Fitted(view, poses / MM_PER_METRE, errors))
    if not found:
        print(
            f"{path} has no fitted motions of these sequences: --command=infer would add "
            "errors.png, sequence.gif and viewer.html"
        )
    return found


def _choose(example: str | None, fitted: list[_Fitted]) -> _Fitted:
    """Returns the fitted motion that is called `example`; if None, the one of median error."""
    if example is None:
        return sorted(fitted, key=lambda one: one.errors.mean())[len(fitted) // 2]
    for one in fitted:
        if example in (one.sequence, one.view.key):
            return one
    known = {one.sequence for one in fitted}
    raise UserError(f"vis.example: got {example!r}; {nearest(example, known)}")


def _draw_errors(problem: "PosePriorProblem", fitted: list[_Fitted]) -> Figure:
    actions = [one.view.action for one in fitted for _ in one.errors]
    return vis.draw_errors(
        np.concatenate([one.errors for one in fitted]),
        actions,
        problem.evaluation_skeleton.joints,
        "joint error after Procrustes alignment",
    )


def _draw_sequence(skeleton: Skeleton, one: _Fitted, folder: pathlib.Path) -> None:
    """Writes sequence.gif and viewer.html: what the camera saw, the truth and the fit over it.

    In the picture the world is turned about its vertical, so that the camera looks ahead.
    """
    view = one.view
    distances = MM_PER_METRE * np.linalg.norm(one.poses - view.poses, axis=-1)
    seen = Motion("2D keypoints", view.keypoints, view.keypoint_skeleton)
    truth = Motion("ground truth", view.poses, skeleton)
    fit = Motion("fit", one.poses, skeleton, distances)

    ahead = view.camera.rotation.T @ drawing.upright(view.camera.rotation)
    pair = tuple(dataclasses.replace(motion, poses=motion.poses @ ahead) for motion in (truth, fit))
    # A picture cannot leave a joint out that is not seen; the page can.
    complete = [seen] if np.isfinite(view.keypoints).all() else []
    write_gif(folder / "sequence.gif", [*complete, pair], view.frame_rate)

    kept, frame_rate = shown(view.frame_rate, _VIEWER_FRAMES)
    frames = range(len(view.poses))[kept]
    title = f"{one.sequence}, camera {view.camera_id}: P-MPJPE {one.errors.mean():.0f} mm"
    if frames.stop < len(view.poses):
        title += f", up to frame {frames[-1]}"
    write_viewer(
        folder / "viewer.html",
        [motion[kept] for motion in (truth, fit, seen)],
        title,
        [str(frame) for frame in frames],
        frame_rate=frame_rate,
    )
