"""Build, resume, train, save: the only place that trains."""

import contextlib
import pathlib
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import gin
import keras
import tensorflow as tf

from ige import distribution, transfer
from ige.checkpoints import Checkpoints, Position, TrainingState
from ige.costs import count_parameters
from ige.errors import UserError
from ige.files import lock
from ige.interruption import StopRequest
from ige.problem import InferenceFn, Problem, check_kind, precision
from ige.runs import RunRecord
from ige.stepping import Run, StepLoop
from ige.tensorboard import TensorBoardLog

DtypePolicy = Literal["float32", "mixed_bfloat16", "mixed_float16"]
ModelFn = Callable[[Problem, InferenceFn], keras.Model]

_STEPS_PER_CHUNK = 50
# What a run puts into its folder, and starting over removes.
_OUTPUT = (
    "checkpoints",
    "config.json",
    "evaluation.json",
    "evaluation-*.json",
    "results*.h5*",
    "vis",
    "vis-*",
    "events.out.tfevents.*",
    ".trimmed",
)


def _check_optimizer(optimizer: keras.Optimizer) -> None:
    check_kind("train.optimizer", optimizer, keras.Optimizer)
    if optimizer.use_ema and not optimizer.ema_overwrite_frequency:
        raise UserError(
            "optimizer: got use_ema without ema_overwrite_frequency, expected a number of steps: "
            "without it Keras uses the averages at the end of a training only, which may go on"
        )


def _check_counts(seed: int, **counts: int) -> None:
    if not 0 <= seed < 2**32:
        raise UserError(f"train.seed: got {seed}, expected 0 to {2**32 - 1}")
    for name, value in counts.items():
        if value < 1:
            raise UserError(f"train.{name}: got {value}, expected at least 1")


def _steps_per_epoch(problem: Problem, batch_size: int, steps: int | None) -> int:
    examples = problem.examples_per_epoch("train")
    if batch_size > examples:
        raise UserError(f"train.batch_size: got {batch_size}, expected at most {examples} examples")
    return steps or examples // batch_size


def _scheduled(
    optimizer: keras.Optimizer, lr_schedule: Callable[[int], float] | None
) -> Callable[[int], float] | None:
    """Returns epoch -> learning rate, None if the optimizer sees to it."""
    if lr_schedule is None:
        return None
    initial = float(tf.convert_to_tensor(optimizer.learning_rate))
    try:
        optimizer.learning_rate = initial
    except TypeError as error:
        raise UserError(
            "train.lr_schedule: the optimizer's learning rate is a schedule too; set one of them, "
            "lr_schedule = None or a number as learning_rate"
        ) from error
    return lambda epoch: initial * lr_schedule(epoch)


def _start_over(model_dir: pathlib.Path) -> None:
    """Removes what a run has put into its folder, and says so."""
    found = [path for pattern in _OUTPUT for path in sorted(model_dir.glob(pattern))]
    if not found:
        return
    epochs = Checkpoints(model_dir).epochs()
    trained = f", trained for {epochs[-1]} epochs" if epochs else ""
    print(f"removing {', '.join(path.name for path in found)} of {model_dir}{trained}")
    for path in found:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextlib.contextmanager
def _alone_in(model_dir: pathlib.Path) -> Iterator[None]:
    """Keeps other processes out of the folder of a run, which is made if need be."""

    def refuse(holder: str) -> None:
        raise UserError(
            f"{model_dir} is being trained by {holder}; wait for it, stop it, or choose another "
            "default_model_dir.model_id"
        )

    existed = model_dir.exists()
    try:
        with lock(model_dir / ".lock", refuse):
            yield
    finally:
        if not existed:
            with contextlib.suppress(OSError):  # not empty: something was trained
                model_dir.rmdir()


def _begin(model_dir: pathlib.Path, record: RunRecord, overwrite: bool) -> None:
    """Makes the folder that of a new run."""
    if overwrite:
        _start_over(model_dir)
    elif (model_dir / "config.json").exists():
        print(f"{model_dir} has no checkpoint yet: starting with the first step")
    record.write()


def _last_state(
    checkpoints: Checkpoints, record: RunRecord, overwrite: bool
) -> TrainingState | None:
    """Returns where all workers go on from: what the chief finds; None for a fresh start."""
    state = None
    if distribution.is_chief() and not overwrite:
        if checkpoints.positions():
            record.check()
        state = checkpoints.newest()
    epoch, step = (distribution.from_chief(n) for n in (state.position if state else (0, 0)))
    if distribution.is_chief() or (epoch, step) == (0, 0):
        return state
    return checkpoints.verify(Position(epoch, step))


@gin.configurable(module="ige", denylist=["model_dir", "config_text", "make_record"])
def train(
    model_dir: pathlib.Path,
    config_text: str,
    make_record: Callable[[Problem], RunRecord],
    problem: Problem = gin.REQUIRED,
    inference_fn: InferenceFn = gin.REQUIRED,
    model_fn: ModelFn | None = None,
    optimizer: keras.Optimizer = gin.REQUIRED,
    lr_schedule: Callable[[int], float] | None = None,
    batch_size: int = 64,
    epochs: int = 200,
    steps_per_epoch: int | None = None,
    seed: int = 0,
    jit_compile: bool = True,
    dtype_policy: DtypePolicy | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    checkpoint_every: int = 1,
    checkpoints_to_keep: int = 3,
    log_every: int = 1000,
    overwrite: bool = False,
) -> keras.Model | None:
    """Trains until `epochs` epochs are finished, from the last checkpoint if there is one.

    However often it was killed or stopped, a run ends with the weights, bit for bit, of one that
    was not (on the same machine: other processors and numbers of threads round otherwise; and with
    `jit_compile`: without it TensorFlow sums some gradients in the order in which they are ready).

    Ctrl-C and SIGTERM finish the step and save.

    Args:
        model_dir: folder of the run.
        config_text: the configuration, for TensorBoard.
        make_record: problem -> the record of the run's config, checked before a run goes on and
            written before the first step.
        problem: what to learn.
        inference_fn: the network: inputs, output_spec -> outputs.
        model_fn: problem, inference_fn -> model with a `train_step` of its own, for methods that
            are not plain supervised learning. Its classes are registered with
            `keras.saving.register_keras_serializable`. What has to survive a stop is a variable of
            the model or of an optimizer, and what it draws comes from `keras.random` with a
            `SeedGenerator` that the model holds. Its attribute `judged_by`, if any, replaces the
            problem's.
        optimizer: a fresh optimizer.
        lr_schedule: epoch (from 0) -> what to multiply the optimizer's learning rate by.
        batch_size: examples per step.
        epochs: epochs in all, finished ones included.
        seed: fixes weights, data order and dropout.
        jit_compile: compile the steps with XLA.
        dtype_policy: precision of the network's layers; None leaves Keras's, float32.
        callbacks: more Keras callbacks. Calls run several steps; a callback is told of the last
            one. What a callback itself remembers is not saved.
        checkpoint_every: epochs between two checkpoints.
        checkpoints_to_keep: how many of the last checkpoints stay; the best one always stays.
        log_every: steps between two entries in TensorBoard; every epoch is logged as well.
        overwrite: start over: remove what the folder has of an earlier run.

    Returns:
        The trained model; None if all epochs were finished before.

    Raises:
        UserError: a number that makes no sense, too few examples, a run of another config, no
            usable checkpoint, figures that are not finite, a full disk, a folder that another
            process trains.
        KeyboardInterrupt: after Ctrl-C, when all is saved.
    """
    check_kind("train.problem", problem, Problem)
    _check_optimizer(optimizer)
    _check_counts(
        seed,
        batch_size=batch_size,
        epochs=epochs,
        checkpoint_every=checkpoint_every,
        checkpoints_to_keep=checkpoints_to_keep,
        log_every=log_every,
        steps_per_epoch=1 if steps_per_epoch is None else steps_per_epoch,
    )
    distribution.check(optimizer, batch_size, dtype_policy)
    chief = distribution.is_chief()
    overwrite = overwrite and not distribution.rejoined()
    with contextlib.ExitStack() as stack:
        if chief:
            stack.enter_context(_alone_in(model_dir))
        checkpoints = Checkpoints(model_dir, checkpoints_to_keep, writes=chief)
        record = make_record(problem)
        state = _last_state(checkpoints, record, overwrite)
        start = state.position if state else Position(0)
        if start.epoch >= epochs:
            print(f"{model_dir} has {start.epoch} epochs already; a larger --epochs goes on")
            return None
        steps = _steps_per_epoch(problem, batch_size, steps_per_epoch)
        first_step = start.epoch * steps + start.step
        feed = problem.get_training_feed(
            batch_size, steps, seed, first_step, min(steps, _STEPS_PER_CHUNK)
        )
        held_out = problem.get_dataset("validation", batch_size) if problem.has_validation else None
        learning_rate = _scheduled(optimizer, lr_schedule)

        stop = stack.enter_context(StopRequest())
        keras.utils.set_random_seed(seed)
        # A run that goes on has its weights, and need not have those that it began with.
        with precision(dtype_policy), transfer.skipped(state is not None):
            model = _build(problem, inference_fn, model_fn)
        metrics = problem.get_metrics(model)
        model.compile(optimizer, problem.loss, metrics=metrics, jit_compile=jit_compile)
        distribution.synchronise_batch_norm(model)
        loop = StepLoop(model, feed.fetch, feed.chunks.element_spec, jit_compile)
        checkpoints.judged_by = _judged_by(model, problem, metrics, loop.figures)
        if state:
            checkpoints.restore(model, state)
            print(f"continuing {model_dir} after {start}")
        elif chief:
            _begin(model_dir, record, overwrite)
        print(
            f"training on {problem.examples_per_epoch('train'):,} examples: {steps:,} steps of "
            f"{batch_size} per epoch, {count_parameters(model):,} parameters"
        )
        log = stack.enter_context(TensorBoardLog(model_dir if chief else None, first_step))
        if not state:
            log.config(config_text)
        run = Run(
            model=model,
            loop=loop,
            chunks=iter(feed.chunks),
            held_out=held_out,
            callbacks=_callback_list(callbacks, model, epochs, steps),
            checkpoints=checkpoints,
            log=log,
            position=start,
            history=list(state.history) if state else [],
            steps=steps,
            epochs=epochs,
            learning_rate=learning_rate,
            checkpoint_every=checkpoint_every,
            log_every=log_every,
            seconds=state.seconds if state else 0.0,
        )
        _run(run, stop, batch_size, model_dir)
    if stop.signal == signal.SIGINT:
        raise KeyboardInterrupt
    return model


def _build(problem: Problem, inference_fn: InferenceFn, model_fn: ModelFn | None) -> keras.Model:
    return model_fn(problem, inference_fn) if model_fn else problem.build_model(inference_fn)


def _judged_by(
    model: keras.Model,
    problem: Problem,
    metrics: Sequence[keras.metrics.Metric],
    figures: Sequence[str],
) -> str:
    """Returns the figure that the best epoch is chosen by: the model's choice, if it has one."""
    name = getattr(model, "judged_by", problem.judged_by)
    if problem.has_validation:  # then held-out examples judge
        figures = sorted({*figures, *(metric.name for metric in metrics)})
    if name not in figures:
        raise UserError(
            f"judged_by: got {name!r}, expected a figure that training reports, one of "
            f"{', '.join(figures)}; set it on the model that model_fn returns, or on the problem"
        )
    return name


def _run(run: Run, stop: StopRequest, batch_size: int, model_dir: pathlib.Path) -> None:
    """Trains, and says how far it got and how fast."""
    began = time.perf_counter()
    rate = run.run(stop) * batch_size / (time.perf_counter() - began)
    if run.stopped and run.position == Position(0):
        print("stopped before the first step; nothing to save")
        return
    what = "stopped, saved after" if run.stopped else "trained to"
    go_on = "; the same command goes on" if run.stopped else ""
    print(f"{what} {run.position} at {rate:,.0f} examples/s in {model_dir}{go_on}")


def _callback_list(
    callbacks: Sequence[keras.callbacks.Callback], model: keras.Model, epochs: int, steps: int
) -> keras.callbacks.CallbackList:
    """Returns the callbacks with Keras's progress bar: a line per epoch where no one watches."""
    return keras.callbacks.CallbackList(
        list(callbacks),
        add_progbar=True,
        model=model,
        epochs=epochs,
        steps=steps,
        verbose=(1 if sys.stdout.isatty() else 2) if distribution.is_chief() else 0,
    )
