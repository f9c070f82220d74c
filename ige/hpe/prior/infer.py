"""`infer`: fits motions to the 2D poses of every sequence of a split."""

import contextlib
import functools
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import gin
from tqdm import tqdm

from ige import parameters
from ige.errors import UserError
from ige.files import lock
from ige.hpe.prior.fitting import Fitter, fitted
from ige.hpe.prior.problem import PosePriorProblem
from ige.hpe.prior.results import Fit, Parts
from ige.hpe.prior.views import View
from ige.hpe.skeleton import conversion_matrix
from ige.interruption import sigterm_as_ctrl_c
from ige.problem import Problem

# What changes how fast sequences are fitted, or which of them.
_FREE = ("hpe.infer.batch_frames", "hpe.infer.overwrite")
_SECONDS_BETWEEN_LINES = 10.0


@gin.configurable(module="hpe", denylist=["load", "model_dir"])
def infer(
    load: Callable[[PosePriorProblem, str | int], Any],
    model_dir: pathlib.Path,
    problem: Problem = gin.REQUIRED,
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
        problem: what was trained: a `PosePriorProblem`, any other is refused.
        fitter: class of what fits them.
        checkpoint: 'last', 'best' or the number of an epoch.
        split: 'test', 'validation' or 'train'.
        batch_frames: frames that are fitted together; changes speed and memory only.
        overwrite: start over.

    Raises:
        UserError: what was trained is no prior, results of other settings are there, a split
            without sequences, a sequence without 2D poses, a number that makes no sense, or there
            is no such trained prior.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, with what is saved.
    """
    _check_prior(problem, model_dir.name)
    if batch_frames < 1:
        raise UserError(f"infer.batch_frames: got {batch_frames}, expected at least 1")
    trained = load(problem, checkpoint)
    path = model_dir / problem.results
    views = problem.views(split)
    if not views:
        raise UserError(f"infer.split: got {split!r}, which has no sequences; choose another")
    matrix = conversion_matrix(problem.skeleton, views[0].keypoint_skeleton)
    made = fitter(trained.model, matrix, problem.start_size)
    settings = _settings(problem) | {"epoch": str(trained.epoch)} | made.weights()

    def refuse(holder: str) -> None:
        raise UserError(
            f"{path} is being made by {holder}; wait for it, or choose another "
            "hpe.PosePriorProblem.results"
        )

    parts = Parts(path)
    again = "the same command, without infer.overwrite," if overwrite else "the same command"
    with (
        lock(path.with_name(f".{path.name}.lock"), refuse),
        _counted_when_stopped(parts, len(views), again),
    ):
        if overwrite:
            parts.remove()
        _check_settings(parts, settings)
        keep = functools.partial(parts.add, settings=settings, skeleton=problem.skeleton)
        _fit_missing(made, views, batch_frames, parts, keep)
    print(path)


def _check_prior(problem: Problem, run: str) -> None:
    """Refuses what does not make a prior, such as what reads first guesses for one."""
    if isinstance(problem, PosePriorProblem):
        return
    raise UserError(
        f"infer: the problem of this config is a {type(problem).__name__}, which makes no prior, "
        "expected one such as that of apo/h3m-big; to start fits where this network says, use "
        f"--gin_file=apo/h3m-big --gin_param=\"hpe.Fitter.guess_model_id='{run}'\""
    )


def _fit_missing(
    fitter: Fitter,
    views: Sequence[View],
    frames: int,
    parts: Parts,
    keep: Callable[[list[Fit]], None],
) -> None:
    """Fits the views that no earlier call has fitted, and says how far it is."""
    finished = parts.keys()
    left = [view for view in views if view.key not in finished]
    before = len(views) - len(left)
    if before:
        print(f"{before} of {len(views)} sequences were fitted before")
    if left:
        progress = _Progress(before, len(views))
        with progress.bar:
            for fits in fitted(fitter, left, frames, progress.within):
                keep(fits)
                progress.add(fits)
        print(progress)
    parts.join()
    if left and before:
        print(f"in all {parts.total()}")


@contextlib.contextmanager
def _counted_when_stopped(parts: Parts, total: int, again: str) -> Iterator[None]:
    """Says how many sequences are saved where Ctrl-C or SIGTERM cuts a fit off."""
    try:
        with sigterm_as_ctrl_c():
            yield
    except KeyboardInterrupt:
        saved = f"{len(parts.keys())} of {total} sequences are saved"
        raise KeyboardInterrupt(f"{saved}; {again} goes on from there") from None


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
    """Shows how many sequences are fitted, frames per second, and the energy: in a bar, or, where
    no terminal is, in a line from time to time.

    Args:
        before: how many sequences were fitted before.
        total: how many there are.
    """

    def __init__(self, before: int, total: int):
        self.bar = tqdm(
            initial=before, total=total, desc="fitting", unit=" sequences", disable=None
        )
        self._before = before
        self._sequences = self._frames = 0
        self._energy = 0.0
        self._began = self._said = time.perf_counter()

    def _rate(self) -> float:
        return self._frames / (time.perf_counter() - self._began)

    def within(self, sequences: int, energy: float) -> None:
        """Shows sequences of a batch that is being fitted."""
        self.bar.n = self._before + self._sequences + sequences
        rate = f"{self._rate():,.0f} frames/s, " if self._frames else ""
        text = f"{rate}energy {self._energy + energy:.4g}"
        self.bar.set_postfix_str(text)
        now = time.perf_counter()
        if self.bar.disable and now - self._said >= _SECONDS_BETWEEN_LINES:
            print(f"{self.bar.n} of {self.bar.total} sequences, {text}", flush=True)
            self._said = now

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
