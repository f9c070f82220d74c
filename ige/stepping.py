"""Training steps, many in one compiled call, and what is due between the calls."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from ige import distribution, layers
from ige.checkpoints import Checkpoints, Position
from ige.errors import UserError
from ige.interruption import StopRequest
from ige.tensorboard import TensorBoardLog

_NEVER = tf.int32.max
# A call is cut short after about this long: Ctrl-C, SIGTERM and the progress bar wait for it.
_SECONDS_PER_CALL = 0.5
_STEPS_PER_CALL_OF_WORKERS = 10
_ADVICE = (
    "the last checkpoint is kept; lower the learning rate, clip the gradients (clipnorm of the "
    "optimizer) or look at the data"
)


class NotFiniteError(ArithmeticError):
    """Figures or weights became NaN or infinite.

    Attributes:
        index: row of the chunk after which it was seen.
    """

    def __init__(self, message: str, index: int):
        super().__init__(message)
        self.index = index


class StepLoop:
    """Runs rows of a chunk as training steps of a model, any range of them in one call.

    The range is an argument of the compiled loop, so how a run is cut into calls does not change
    a bit of its result. On several devices each takes its share of a row.

    Args:
        model: a compiled model.
        fetch: row of a chunk, or a device's share of it -> what the model's `train_step` takes.
        chunk: spec of a chunk.
        jit_compile: compile the loop with XLA; on several devices it is not, XLA cannot see
            more than one.

    Attributes:
        figures: names of what a step reports.
    """

    def __init__(
        self, model: keras.Model, fetch: Callable[[Any], Any], chunk: Any, jit_compile: bool
    ):
        self._model = model
        self._fetch = fetch
        self._strategy = tf.distribute.get_strategy()
        self._replicas = self._strategy.num_replicas_in_sync
        index = tf.TensorSpec((), tf.int32)
        # On several devices the optimizer's state cannot be made while tracing.
        model.optimizer.build(model.trainable_variables)
        jit_compile = jit_compile and self._replicas == 1
        with layers.compiled_by_xla() if jit_compile else contextlib.nullcontext():
            # Tracing makes what else Keras makes lazily: the states of the metrics.
            step = tf.function(self._one, autograph=False)
            self._step = step.get_concrete_function(chunk, index)
        loop = tf.function(self._loop, autograph=False, jit_compile=jit_compile)
        self._test = tf.function(
            lambda batch: self._strategy.run(model.test_step, args=(batch,)),
            autograph=False,
            jit_compile=jit_compile,
        )
        self.figures = sorted(self._step.structured_outputs)
        self._watched = _floating_variables(model)
        self._compiled = loop.get_concrete_function(chunk, index, index)

    def _one(self, chunk: Any, index: tf.Tensor) -> dict[str, tf.Tensor]:
        """Runs a row as one step; returns its figures, of one device those of its share."""
        row = keras.tree.map_structure(lambda tensor: tensor[index], chunk)

        def replica_step() -> dict[str, tf.Tensor]:
            rank = tf.distribute.get_replica_context().replica_id_in_sync_group
            return self._model.train_step(self._fetch(self._share(row, rank)))

        figures = self._strategy.run(replica_step)
        return {
            name: self._strategy.experimental_local_results(value)[0]
            for name, value in figures.items()
        }

    def _share(self, row: Any, rank: tf.Tensor) -> Any:
        def part(tensor: tf.Tensor) -> tf.Tensor:
            size = tensor.shape[0] // self._replicas
            return tensor[rank * size : (rank + 1) * size]

        return row if self._replicas == 1 else keras.tree.map_structure(part, row)

    def _loop(self, chunk: Any, first: tf.Tensor, last: tf.Tensor):
        """Returns the last step's figures, the first row where one of them is not finite, and
        which of the watched variables are finite in the end."""

        def body(index: tf.Tensor, _: Any, bad: tf.Tensor):
            figures = self._step(chunk, index)
            finite = tf.reduce_all([_is_finite(value) for value in figures.values()])
            return index + 1, figures, tf.where(finite, bad, tf.minimum(bad, index))

        nothing = {
            name: tf.zeros(spec.shape, spec.dtype)
            for name, spec in self._step.structured_outputs.items()
        }
        _, figures, bad = tf.while_loop(
            lambda index, *_: index < last, body, (first, nothing, tf.constant(_NEVER))
        )
        if self._replicas > 1:
            # Reading metrics sums over the devices, and what is not finite in any spoils the sum;
            # all workers have to agree on that, so none of them looks at its own steps.
            figures, bad = self._model.get_metrics_result(), last - 1
        return figures, bad, tf.stack([_is_finite(variable) for variable in self._watched])

    def __call__(self, chunk: Any, first: int, last: int) -> dict[str, float]:
        """Runs rows `first` to `last` - 1 and returns the figures after the last of them.

        Raises:
            NotFiniteError: a figure of a step, or a weight after the last, is not finite. All
                workers raise it, as of the last row.
        """
        figures, bad, finite = self._compiled(chunk, tf.constant(first), tf.constant(last))
        figures = {name: float(value) for name, value in figures.items()}
        # Figures are running means: what was not finite once stays so.
        spoilt = [name for name, value in figures.items() if not math.isfinite(value)]
        spoilt = spoilt or [
            variable.path
            for variable, is_finite in zip(self._watched, finite.numpy(), strict=True)
            if not is_finite
        ]
        if spoilt:
            raise NotFiniteError(f"not finite: {', '.join(spoilt)}", min(int(bad), last - 1))
        return figures

    def evaluate(self, batches: tf.data.Dataset) -> dict[str, float]:
        """Returns the figures of held-out examples; every device goes through all of them."""
        self._model.reset_metrics()
        for batch in batches:
            self._test(batch)
        return {name: float(value) for name, value in self._model.get_metrics_result().items()}


def _is_finite(tensor: Any) -> tf.Tensor:
    return tf.reduce_all(tf.math.is_finite(tf.cast(tensor, tf.float32)))


def _floating_variables(model: keras.Model) -> list[Any]:
    """Returns what a step can spoil: weights, statistics and the optimizer's state."""
    variables = [*model.variables, *model.optimizer.variables]
    return [variable for variable in variables if variable.dtype.startswith(("float", "bfloat"))]


@dataclasses.dataclass
class Run:
    """A run in progress: runs calls of steps, and does what is due between them.

    Attributes:
        position: what is finished.
        stopped: whether a stop was asked for, in any worker.
        history: figures of the finished epochs.
        steps: steps of an epoch.
        learning_rate: epoch -> learning rate; None leaves it to the optimizer.
        seconds: that training took before this run went on.
    """

    model: keras.Model
    loop: StepLoop
    chunks: Iterator[Any]
    held_out: tf.data.Dataset | None
    callbacks: keras.callbacks.CallbackList
    checkpoints: Checkpoints
    log: TensorBoardLog
    position: Position
    history: list[dict[str, float]]
    steps: int
    epochs: int
    learning_rate: Callable[[int], float] | None
    checkpoint_every: int
    log_every: int
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.stopped = False
        self._began = time.perf_counter()
        self._chunk = None
        self._rows = self._next_row = 0
        self._seconds_per_step = math.inf

    def run(self, stop: StopRequest) -> int:
        """Trains until all epochs are finished or a stop is asked for, and saves.

        Returns:
            The number of steps that it ran.
        """
        start, first = self.position, self._step
        self.stopped = distribution.any_worker(stop.signal is not None)
        self.callbacks.on_train_begin()
        while self.position.epoch < self.epochs and not self._stopping:
            figures = self._rest_of_epoch(stop)
            if self.position.step == self.steps:
                self._finish_epoch(figures)
        self.log.flush()
        if self.position != start:
            self._save()
        self.callbacks.on_train_end()
        return self._step - first

    @property
    def _stopping(self) -> bool:
        return self.stopped or self.model.stop_training

    @property
    def _step(self) -> int:
        """Steps from the start of the run on."""
        return self.position.epoch * self.steps + self.position.step

    def _rest_of_epoch(self, stop: StopRequest) -> dict[str, float]:
        """Runs an epoch to its end, or until a stop is asked for; returns its figures."""
        epoch, step = self.position
        if not step:  # else the metrics are restored
            self.model.reset_metrics()
        if self.learning_rate:
            self.model.optimizer.learning_rate = self.learning_rate(epoch)
        self.callbacks.on_epoch_begin(epoch)
        figures = {}
        while step < self.steps and not self._stopping:
            self.callbacks.on_train_batch_begin(step)
            figures = self._call(self._count())
            step = self.position.step
            self.callbacks.on_train_batch_end(step - 1, figures)
            if self._step % self.log_every == 0:
                self._write_log("step", figures)
            self.stopped = distribution.any_worker(stop.signal is not None)
        return figures

    def _count(self) -> int:
        """Returns how many steps the next call runs."""
        if self._next_row == self._rows:
            self._chunk = next(self.chunks)
            self._rows, self._next_row = len(keras.tree.flatten(self._chunk)[0]), 0
        until_log = self.log_every - self._step % self.log_every
        in_time = max(1, int(_SECONDS_PER_CALL / self._seconds_per_step))
        if distribution.is_multi_worker():  # all make the same calls, however fast each is
            in_time = _STEPS_PER_CALL_OF_WORKERS
        until_end = self.steps - self.position.step
        return min(self._rows - self._next_row, until_end, until_log, in_time)

    def _call(self, count: int) -> dict[str, float]:
        """Runs `count` steps and returns the figures after them."""
        epoch, step = self.position
        start = time.perf_counter()
        try:
            figures = self.loop(self._chunk, self._next_row, self._next_row + count)
        except NotFiniteError as error:
            raise UserError(
                f"epoch {epoch + 1}, step {step + error.index - self._next_row + 1} of "
                f"{self.steps}: {error}; {_ADVICE}"
            ) from error
        self._seconds_per_step = (time.perf_counter() - start) / count
        self._next_row += count
        self.position = Position(epoch, step + count)
        return figures

    def _finish_epoch(self, figures: dict[str, float]) -> None:
        """Evaluates the held-out examples, logs, and saves if it is time."""
        epoch = self.position.epoch
        if self.held_out is not None:
            evaluated = self.loop.evaluate(self.held_out)
            figures = figures | {f"val_{name}": value for name, value in evaluated.items()}
            for name, value in figures.items():
                if not math.isfinite(value):
                    raise UserError(f"epoch {epoch + 1}: {name} is {value}; {_ADVICE}")
        self.history.append(figures)
        self.position = Position(epoch + 1)
        self._write_log("epoch", figures)
        self.log.flush()
        if self.position.epoch % self.checkpoint_every == 0:
            self._save()
        self.callbacks.on_epoch_end(epoch, figures)  # which print, and may fail

    def _save(self) -> None:
        seconds = self.seconds + time.perf_counter() - self._began
        self.checkpoints.save(self.model, self.position, self.history, seconds)

    def _write_log(self, prefix: str, figures: dict[str, float]) -> None:
        rate = {"learning_rate": float(tf.convert_to_tensor(self.model.optimizer.learning_rate))}
        self.log.scalars(prefix, figures | rate, self._step)
