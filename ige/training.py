"""Compile, fit, resume: the only place that trains."""

import math
import pathlib
import sys
import time
from collections.abc import Callable

import gin
import keras
import numpy as np
import tensorflow as tf

from ige.checkpoints import Checkpoints
from ige.errors import UserError
from ige.problem import InferenceFn, Problem, check_kind
from ige.runs import RunRecord

ModelFn = Callable[[Problem, InferenceFn], keras.Model]


def steps_per_execution(steps_per_epoch: int) -> int:
    """Returns how many steps to run per call from Python: about 25 to 50.

    Keras runs whole executions only, so among those the number is taken that leaves the fewest
    steps of an epoch over.
    """
    if steps_per_epoch <= 50:
        return steps_per_epoch
    return min(range(50, 24, -1), key=lambda steps: steps_per_epoch % steps)


class _Checkpointing(keras.callbacks.Callback):
    """Saves after every `every` epochs and the last one; stops on figures that are not finite."""

    def __init__(self, checkpoints: Checkpoints, history: list[dict[str, float]], every: int):
        super().__init__()
        self._checkpoints = checkpoints
        self._history = history
        self._every = every

    def on_epoch_end(self, epoch, logs=None):
        figures = {name: float(value) for name, value in (logs or {}).items()}
        for name, value in figures.items():
            if not math.isfinite(value):
                raise UserError(
                    f"epoch {epoch + 1}: {name} is {value}; the last checkpoint is kept; lower "
                    "the learning rate or look at the data"
                )
        self._history.append(figures)
        done = epoch + 1
        if done % self._every == 0 or done == self.params["epochs"]:
            self._checkpoints.save(self.model, done, self._history)


class _TensorBoard(keras.callbacks.Callback):
    """Scalars per epoch and every `every` steps, the learning rate, and the config as text.

    Keras's own callback counts calls, not steps, when several steps run per call.
    """

    def __init__(self, folder: pathlib.Path, config: str, every: int):
        super().__init__()
        self._folder = folder
        self._config = config
        self._every = every

    def on_train_begin(self, logs=None):
        self._writer = tf.summary.create_file_writer(str(self._folder))
        self._next = self._step() + self._every
        with self._writer.as_default(self._step()):
            indented = "\n".join(f"    {line}" for line in self._config.splitlines())
            tf.summary.text("config", indented)  # four spaces: verbatim in Markdown

    def _step(self) -> int:
        return int(self.model.optimizer.iterations)

    def _write(self, prefix: str, logs) -> None:
        figures = logs | {"learning_rate": float(self.model.optimizer.learning_rate)}
        with self._writer.as_default(self._step()):
            for name, value in figures.items():
                tf.summary.scalar(f"{prefix}/{name}", value)

    def on_train_batch_end(self, batch, logs=None):
        if self._step() >= self._next:
            self._next += self._every * (1 + (self._step() - self._next) // self._every)
            self._write("step", logs)

    def on_epoch_end(self, epoch, logs=None):
        self._write("epoch", logs)
        self._writer.flush()

    def on_train_end(self, logs=None):
        self._writer.close()


def _check_counts(seed: int, **counts: int) -> None:
    if not 0 <= seed < 2**32:
        raise UserError(f"train.seed: got {seed}, expected 0 to {2**32 - 1}")
    for name, value in counts.items():
        if value < 1:
            raise UserError(f"train.{name}: got {value}, expected at least 1")


def _plan_epoch(problem: Problem, batch_size: int) -> tuple[int, int]:
    """Returns the steps of an epoch, and how many of them run per call."""
    examples = problem.examples_per_epoch("train")
    steps = examples // batch_size
    if steps < 1:
        raise UserError(f"train.batch_size: got {batch_size}, expected at most {examples} examples")
    per_execution = steps_per_execution(steps)
    return steps - steps % per_execution, per_execution


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
    seed: int = 0,
    jit_compile: bool = True,
    checkpoint_every: int = 1,
    checkpoints_to_keep: int = 3,
    log_every: int = 1000,
) -> keras.Model:
    """Trains until `epochs` epochs are finished, from the last checkpoint if there is one.

    Args:
        model_dir: folder of the run.
        config_text: the configuration, for TensorBoard.
        make_record: problem -> the record of the run's config, checked before a run goes on and
            written before the first step.
        problem: what to learn.
        inference_fn: the network: inputs, output_spec -> outputs.
        model_fn: problem, inference_fn -> model with a `train_step` of its own, for methods that
            are not plain supervised learning.
        optimizer: a fresh optimizer.
        lr_schedule: epoch (from 0) -> what to multiply the optimizer's learning rate by.
        batch_size: examples per step.
        epochs: epochs in all, finished ones included.
        seed: fixes weights, data order and dropout.
        jit_compile: compile the step with XLA.
        checkpoint_every: epochs between two checkpoints.
        checkpoints_to_keep: how many of the last checkpoints stay; the best one always stays.
        log_every: steps between two entries in TensorBoard; every epoch is logged as well.

    Returns:
        The trained model.

    Raises:
        UserError: a number that makes no sense, too few examples, a run of another config.
    """
    check_kind("train.problem", problem, Problem)
    check_kind("train.optimizer", optimizer, keras.Optimizer)
    _check_counts(
        seed,
        batch_size=batch_size,
        epochs=epochs,
        checkpoint_every=checkpoint_every,
        checkpoints_to_keep=checkpoints_to_keep,
        log_every=log_every,
    )
    checkpoints = Checkpoints(model_dir, checkpoints_to_keep)
    finished = checkpoints.last() or 0
    record = make_record(problem)
    if finished:
        record.check()
    if finished >= epochs:
        print(f"{model_dir} is already trained for {finished} epochs; --epochs=N trains to N")
        return checkpoints.load_model(finished)

    steps, per_execution = _plan_epoch(problem, batch_size)
    initial = float(optimizer.learning_rate)
    keras.utils.set_random_seed(seed)
    model = model_fn(problem, inference_fn) if model_fn else problem.build_model(inference_fn)
    model.compile(
        optimizer=optimizer,
        loss=problem.loss,
        metrics=problem.metrics,
        steps_per_execution=per_execution,
        jit_compile=jit_compile,
    )
    history = checkpoints.restore(model, finished).history if finished else []
    if finished:
        print(f"continuing {model_dir} after epoch {finished}")
    print(
        f"training on {problem.examples_per_epoch('train'):,} examples: {steps:,} steps of "
        f"{batch_size} per epoch, {count_parameters(model):,} parameters"
    )
    callbacks = [
        _TensorBoard(model_dir, config_text, log_every),
        _Checkpointing(checkpoints, history, checkpoint_every),
    ]
    if lr_schedule is not None:
        callbacks.insert(
            0, keras.callbacks.LearningRateScheduler(lambda epoch: initial * lr_schedule(epoch))
        )
    if not finished:
        record.write()
    start = time.perf_counter()
    model.fit(
        problem.get_training_dataset(batch_size, steps, seed, finished * steps),
        initial_epoch=finished,
        epochs=epochs,
        steps_per_epoch=steps,
        validation_data=problem.get_dataset("validation", batch_size)
        if problem.has_validation
        else None,
        shuffle=False,
        callbacks=callbacks,
        verbose=1 if sys.stdout.isatty() else 2,
    )
    rate = (epochs - finished) * steps * batch_size / (time.perf_counter() - start)
    print(f"trained to epoch {epochs} at {rate:,.0f} examples/s; model in {model_dir}")
    return model


def count_parameters(model: keras.Model) -> int:
    """Returns the number of trainable parameters."""
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
