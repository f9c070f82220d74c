"""`infer`: fits motions to the 2D poses of every sequence of a split."""

import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import gin
from tqdm import tqdm

from ige import parameters
from ige.adversarial import AdversarialModel
from ige.errors import UserError
from ige.files import lock
from ige.hpe.prior.fitting import Fitter, fitted
from ige.hpe.prior.problem import PosePriorProblem
from ige.hpe.prior.results import Fit, Parts
from ige.hpe.prior.views import View
from ige.hpe.skeleton import conversion_matrix

# What changes how fast sequences are fitted, or which of them.
_FREE = ("hpe.infer.batch_frames", "hpe.infer.overwrite")


@gin.configurable(module="hpe", denylist=["load", "model_dir"])
def infer(
    load: Callable[[PosePriorProblem, str | int], Any],
    model_dir: pathlib.Path,
    problem: PosePriorProblem = gin.REQUIRED,
    fitter: type[Fitter] = gin.REQUIRED,
    checkpoint: str | int = "last",
    split: Literal["test", "validation", "train"] = "test",
    batch_frames: int = 8192,
    overwrite: bool = False,
) -> None:
    """Fits a motion to the 2D poses of every sequence of a split; writes the problem's results.

    Sequences that an earlier call has finished are not fitted again.

    Args:
        load: problem, checkpoint -> what `ige.runners.load_trained` returns.
        model_dir: folder of the run, which the results go to.
        problem: the problem of the trained prior.
        fitter: class of what fits them.
        checkpoint: 'last', 'best' or the number of an epoch.
        split: 'test', 'validation' or 'train'.
        batch_frames: frames that are fitted together; changes speed and memory only.
        overwrite: start over.

    Raises:
        UserError: results of other settings are there, a split without sequences, a sequence
            without 2D poses, a number that makes no sense, or there is no such trained prior.
    """
    if batch_frames < 1:
        raise UserError(f"infer.batch_frames: got {batch_frames}, expected at least 1")
    trained = load(problem, checkpoint)
    if not isinstance(trained.model, AdversarialModel):
        raise UserError(
            f"infer: {trained.path} is no prior, expected a network that generates poses; use a "
            "config such as apo/h3m-big"
        )
    path = model_dir / problem.results
    views = problem.views(split)
    if not views:
        raise UserError(f"infer.split: got {split!r}, which has no sequences; choose another")
    matrix = conversion_matrix(problem.skeleton, views[0].keypoint_skeleton)
    made = fitter(trained.model, matrix, problem.start_size)
    settings = _settings(problem) | {"epoch": str(trained.epoch), "weights": made.digest()}

    def refuse(holder: str) -> None:
        raise UserError(
            f"{path} is being made by {holder}; wait for it, or choose another "
            "hpe.PosePriorProblem.results"
        )

    with lock(path.with_name(f".{path.name}.lock"), refuse):
        parts = Parts(path)
        if overwrite:
            parts.remove()
        _check_settings(parts, settings)
        finished = parts.keys()
        left = [view for view in views if view.key not in finished]
        if len(left) < len(views):
            print(f"{len(views) - len(left)} of {len(views)} sequences were fitted before")
        if left:
            _fit(made, left, batch_frames, lambda fits: parts.add(fits, settings, problem.skeleton))
        parts.join()
    print(path)


def _fit(
    fitter: Fitter, views: Sequence[View], frames: int, keep: Callable[[list[Fit]], None]
) -> None:
    """Fits views, shows how far it is, and hands over what each batch gave."""
    progress = _Progress(len(views))
    with progress.bar:
        for fits in fitted(fitter, views, frames, progress.within):
            keep(fits)
            progress.add(fits)
    print(progress)


def _settings(problem: PosePriorProblem) -> dict[str, str]:
    """Returns what a fit depends on besides the networks."""
    bound = {
        key: str(parameter)
        for key, parameter in parameters.resolved(("infer",)).items()
        if key not in _FREE and key not in problem.free_in_fits
    }
    data = {f"data.{key}": str(value) for key, value in problem.provenance.items()}
    return bound | data


def _check_settings(parts: Parts, settings: dict[str, str]) -> None:
    """Refuses to add to a fit of other settings."""
    before = parts.settings()
    if before is None:
        return
    changes = "; ".join(
        f"{key}: {before.get(key, '(none)')} -> {settings.get(key, '(none)')}"
        for key in sorted(before.keys() | settings.keys())
        if before.get(key) != settings.get(key)
    )
    if changes:
        raise UserError(
            f"{parts.path} was made with other settings ({changes}); restore these, choose another "
            "hpe.PosePriorProblem.results, or start over with "
            '--gin_param="infer.overwrite=True"'
        )


class _Progress:
    """Shows how many sequences are fitted, frames per second, and the energy.

    Args:
        views: how many sequences there are.
    """

    def __init__(self, views: int):
        self.bar = tqdm(total=views, desc="fitting", unit=" sequences", disable=None)
        self._sequences = self._frames = 0
        self._energy = 0.0
        self._began = time.perf_counter()

    def _rate(self) -> float:
        return self._frames / (time.perf_counter() - self._began)

    def within(self, sequences: int, energy: float) -> None:
        """Shows sequences of a batch that is being fitted."""
        self.bar.n = self._sequences + sequences
        energy += self._energy
        self.bar.set_postfix_str(f"{self._rate():,.0f} frames/s, energy {energy:.4g}")

    def add(self, fits: Sequence[Fit]) -> None:
        """Counts finished sequences."""
        self._frames += sum(len(fit.poses) for fit in fits)
        self._energy += sum(fit.attributes["energy"] for fit in fits)
        self._sequences += len(fits)
        self.within(0, 0.0)

    def __str__(self) -> str:
        return (
            f"{self._sequences} sequences, {self._frames:,} frames, {self._rate():,.0f} frames/s, "
            f"energy {self._energy:.4g}"
        )
