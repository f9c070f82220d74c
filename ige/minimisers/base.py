"""What minimisers have in common: the interface, and the loop over a batch.

Unlike the optimisers of `ige.unroll` they run until a row is finished, and nothing is learned
through them.
"""

import abc
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import tree

from ige import energies
from ige.energies import Energy, Structure
from ige.errors import UserError

# Called with (rows that are finished, sum of the lowest energies so far); True ends the search.
Progress = Callable[[int, float], bool | None]
# What a number may be: in words, and whether it is.
Range = tuple[str, Callable[[float], bool]]
POSITIVE: Range = ("a number above 0", lambda number: 0 < number < math.inf)
NOT_NEGATIVE: Range = ("a number from 0 on", lambda number: 0 <= number < math.inf)
SHARE: Range = ("a number from 0 on and below 1", lambda number: 0 <= number < 1)
_FLOATS = ("float32", "float64")


class Minimum(NamedTuple):
    """What a minimiser found: arrays, with the batch as their first axis.

    Attributes:
        position: (batch, d) the best that was evaluated.
        energy: (batch,) there; infinite where none was finite, then the position is the start.
        iterations: (batch,) steps taken.
        evaluations: (batch,) of the energy and its gradient.
        converged: (batch,) whether a tolerance was met.
    """

    position: np.ndarray
    energy: np.ndarray
    iterations: np.ndarray
    evaluations: np.ndarray
    converged: np.ndarray


class Minimiser(abc.ABC):
    """Minimises energies (state (batch, d), conditions) -> (batch,) by the state, row by row.

    A row of the energies depends on that row of the state and the conditions only. What is compiled
    is kept for each energy and the shapes that it is called with: what differs from call to call,
    such as observations, has to be in the conditions, and the energy the same object.

    Args:
        max_iterations: steps of a row at most.
        jit_compile: compile with XLA.
    """

    def __init__(self, max_iterations: int, jit_compile: bool):
        self.max_iterations = self._whole("max_iterations", max_iterations)
        self.jit_compile = jit_compile
        self._built = set()
        self._programs = {}

    def minimise(
        self,
        energy: Energy,
        start: Any,
        conditions: Structure = (),
        progress: Progress | None = None,
    ) -> Minimum:
        """Returns the minima that are reached from `start`.

        Args:
            energy: function or layer (state, conditions) -> (batch,).
            start: (batch, d) of float32 or float64, which all is computed in.
            conditions: tensors with the batch as their first axis, in any nest.
            progress: called now and then, between compiled calls; where it returns True or raises,
                nothing further is computed. Rows that are not finished have not converged.

        Raises:
            UserError: the start is of another shape or type, or not finite; the conditions have
                another batch; the energy is not of shape (batch,), or does not depend on the state.
        """
        start = self._checked_start(start)
        conditions = tree.map_structure(tf.convert_to_tensor, conditions)
        for tensor in tree.flatten(conditions):
            if not tensor.shape.rank or tensor.shape[0] != len(start):
                raise UserError(
                    f"{self._owner}.minimise: got a condition of shape {tuple(tensor.shape)}, "
                    f"expected {len(start)} rows as in the start; repeat what all rows share, or "
                    "close over it"
                )
        if energy not in self._built:
            specs = tree.map_structure(
                lambda tensor: keras.KerasTensor(tensor.shape, tensor.dtype.name),
                (start, conditions),
            )
            energies.build(energy, *specs, keras.DTypePolicy(start.dtype.name), self._owner)
            self._built.add(energy)
        return self._minimise(energy, start, conditions, progress or (lambda done, total: None))

    @abc.abstractmethod
    def _minimise(
        self, energy: Energy, start: tf.Tensor, conditions: Structure, progress: Progress
    ) -> Minimum: ...

    @abc.abstractmethod
    def _program(self, energy: Energy, *arguments: Any) -> Any:
        """Returns what is compiled of an energy and the arguments that it is called with."""

    def _call(self, energy: Energy, *arguments: Any) -> Any:
        specs = tree.map_structure(tf.TensorSpec.from_tensor, arguments)
        key = (energy, str(specs))
        if key not in self._programs:
            program = tf.function(
                lambda *arguments: self._program(energy, *arguments),
                autograph=False,
                jit_compile=self.jit_compile,
            )
            # Called by itself it would warn of the shapes that a shrinking batch goes through.
            self._programs[key] = program.get_concrete_function(*specs)
        return self._programs[key](*arguments)

    def _evaluate(
        self, energy: Energy, state: tf.Tensor, conditions: Structure
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns energies (inf), gradients (0 where they are not finite), which are finite."""
        values, (slopes,), finite = energies.gradients(energy, state, conditions, state.dtype.name)
        inf = tf.constant(math.inf, values.dtype)
        return tf.where(finite, values, inf), tf.where(finite[:, tf.newaxis], slopes, 0), finite

    @property
    def _owner(self) -> str:
        return type(self).__name__

    def _checked_start(self, start: Any) -> tf.Tensor:
        start = tf.convert_to_tensor(start)
        if start.dtype.name not in _FLOATS or start.shape.rank != 2 or 0 in start.shape:
            raise UserError(
                f"{self._owner}.minimise: got a start of shape {tuple(start.shape)} and type "
                f"{start.dtype.name}, expected (batch, d) of {' or '.join(_FLOATS)}"
            )
        bad = np.flatnonzero(~np.isfinite(start.numpy()).all(axis=1))
        if len(bad):
            raise UserError(
                f"{self._owner}.minimise: got a start that is not finite in {len(bad)} of "
                f"{len(start)} rows, the first is row {bad[0]}; leave these rows out"
            )
        return start

    def _whole(self, name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UserError(
                f"{self._owner}.{name}: got {value!r}, expected a whole number from 1 on"
            )
        return value

    def _number(self, name: str, value: Any, numbers: Range) -> float:
        expected, allows = numbers
        if isinstance(value, bool) or not isinstance(value, int | float) or not allows(value):
            raise UserError(f"{self._owner}.{name}: got {value!r}, expected {expected}")
        return float(value)


class Rows(NamedTuple):
    """A search in progress: tensors, with the batch as their first axis.

    Attributes:
        trial: (batch, d) what to evaluate next.
        best: (batch, d) the best that was evaluated; the start before.
        lowest: (batch,) energies there; infinite before.
        iterations: (batch,) see `Minimum`, as for the next two.
        evaluations: (batch,)
        converged: (batch,)
        finished: (batch,) whether they stay as they are.
        slots: what else a minimiser remembers, a nest.
    """

    trial: tf.Tensor
    best: tf.Tensor
    lowest: tf.Tensor
    iterations: tf.Tensor
    evaluations: tf.Tensor
    converged: tf.Tensor
    finished: tf.Tensor
    slots: Structure


# The fields that are those of a `Minimum`.
_FOUND = ("best", "lowest", "iterations", "evaluations", "converged")


class Move(NamedTuple):
    """What a minimiser makes of an evaluation: (batch, ...).

    Attributes:
        trial: what to evaluate next.
        slots: what to remember.
        stepped: whether the evaluation completed an iteration.
        converged: whether the row is finished since a tolerance is met.
        stopped: whether the row is finished since there is nowhere to go.
    """

    trial: tf.Tensor
    slots: Structure
    stepped: tf.Tensor
    converged: tf.Tensor
    stopped: tf.Tensor


class BatchMinimiser(Minimiser):
    """Evaluates all rows at once, each wherever it is, in compiled loops of `block` evaluations.

    Args:
        max_iterations: see `Minimiser`, as for all that is not listed here.
        block: evaluations in a compiled call; changes nothing but how often progress is told.
        compact: when more than this share of a batch is finished, the others go on in a batch of
            the next power of two. Each size is compiled anew, which costs a short search more than
            it saves. None for never.
    """

    def __init__(self, max_iterations: int, block: int, compact: float | None, jit_compile: bool):
        super().__init__(max_iterations, jit_compile)
        self.block = self._whole("block", block)
        self.compact = compact if compact is None else self._number("compact", compact, SHARE)

    @abc.abstractmethod
    def slots(self, start: tf.Tensor) -> Structure:
        """Returns what to remember of each row before the first evaluation, that of the start."""

    @abc.abstractmethod
    def move(self, rows: Rows, value: tf.Tensor, gradient: tf.Tensor, finite: tf.Tensor) -> Move:
        """Returns where to go after an evaluation of the trials.

        Of rows that are finished it may return anything.

        Args:
            rows: the search; its best and its evaluations include this one.
            value: (batch,) energies, infinite where they or their gradients are not finite.
            gradient: (batch, d), 0 there.
            finite: (batch,) whether they are.
        """

    def search(
        self, energy: Energy, start: tf.Tensor, conditions: Structure, evaluations: int
    ) -> Rows:
        """Returns where the rows are after so many evaluations; for use in compiled functions."""
        return self._program(energy, self._begin_rows(start), conditions, tf.constant(evaluations))

    def _program(
        self, energy: Energy, rows: Rows, conditions: Structure, evaluations: tf.Tensor
    ) -> Rows:
        def unfinished(count: tf.Tensor, rows: Rows) -> tf.Tensor:
            return (count < evaluations) & ~tf.reduce_all(rows.finished)

        def body(count: tf.Tensor, rows: Rows) -> tuple[tf.Tensor, Rows]:
            return count + 1, self._step(energy, rows, conditions)

        return tf.while_loop(unfinished, body, (tf.constant(0), rows))[1]

    def _begin_rows(self, start: tf.Tensor) -> Rows:
        batch = start.shape[0]
        none, no = tf.zeros([batch], tf.int32), tf.zeros([batch], tf.bool)
        lowest = tf.fill([batch], tf.constant(math.inf, start.dtype))
        return Rows(start, start, lowest, none, none, no, no, self.slots(start))

    def _step(self, energy: Energy, rows: Rows, conditions: Structure) -> Rows:
        value, gradient, finite = self._evaluate(energy, rows.trial, conditions)
        better = value < rows.lowest
        after = rows._replace(
            best=tf.where(better[:, tf.newaxis], rows.trial, rows.best),
            lowest=tf.where(better, value, rows.lowest),
            evaluations=rows.evaluations + 1,
        )
        move = self.move(after, value, gradient, finite)
        iterations = rows.iterations + tf.cast(move.stepped, tf.int32)
        after = after._replace(
            trial=move.trial,
            slots=move.slots,
            iterations=iterations,
            converged=move.converged,
            finished=move.converged | move.stopped | (iterations >= self.max_iterations),
        )
        # What finished rows remember is not read any more, and is much to copy.
        kept = select(rows.finished, rows._replace(slots=()), after._replace(slots=()))
        return kept._replace(slots=move.slots)

    def _minimise(
        self, energy: Energy, start: tf.Tensor, conditions: Structure, progress: Progress
    ) -> Minimum:
        batch = len(start)
        rows = self._begin_rows(start)
        found = Minimum(*(getattr(rows, name).numpy().copy() for name in _FOUND))
        places = np.arange(batch)
        while True:
            rows = self._call(energy, rows, conditions, tf.constant(self.block))
            for array, name in zip(found, _FOUND, strict=True):
                array[places] = getattr(rows, name)
            finished = rows.finished.numpy()
            left = int(np.sum(~finished))
            if progress(batch - left, float(np.sum(found.energy))) or not left:
                return found
            size = 1 << (left - 1).bit_length()
            few = self.compact is not None and left < (1 - self.compact) * len(places)
            if few and size < len(places):
                keep = np.argsort(finished, kind="stable")[:size]
                places = places[keep]
                rows, conditions = tree.map_structure(
                    lambda tensor, keep=keep: tf.gather(tensor, keep), (rows, conditions)
                )


def select(condition: tf.Tensor, new: tuple, old: tuple) -> tuple:
    """Returns the tensors of `new` in the rows where the condition (batch,) holds, else `old`'s."""

    def chosen(new: tf.Tensor, old: tf.Tensor) -> tf.Tensor:
        shape = [-1] + [1] * (new.shape.rank - 1)
        return tf.where(tf.reshape(condition, shape), new, old)

    return tf.nest.map_structure(chosen, new, old)
