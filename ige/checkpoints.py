"""Checkpoints of a run: written whole or not at all, verified, pruned, restored.

<model folder>/checkpoints/epoch-0005/model.keras   network, weights, optimizer
                                     /state.json    where the run is, random states
                                     /SHA256SUMS    of both, as `sha256sum --check` reads it
                          /epoch-0005-step-000123   stopped in the epoch after that one
"""

import contextlib
import dataclasses
import hashlib
import json
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from ige.errors import UserError, first_line
from ige.files import flush

_NAME = re.compile(r"epoch-(\d{4,})(?:-step-(\d{6,}))?")
_SUMS = "SHA256SUMS"
_TEMPORARY = "saving-"


class Position(NamedTuple):
    """A place in a run: finished epochs, and steps of the next one."""

    epoch: int
    step: int = 0

    def __str__(self) -> str:
        return f"epoch {self.epoch}" + (f", step {self.step} of the next" if self.step else "")


class DamagedError(UserError):
    """A checkpoint that is not what was written."""


@dataclasses.dataclass(frozen=True)
class TrainingState:
    """Where a run is, besides what Keras saves.

    Attributes:
        epoch: epochs that are finished.
        step: steps of the next epoch that are finished.
        history: one dict of figures per finished epoch.
        random_states: states of the network's seed generators (dropout), in the network's order;
            Keras leaves them out of its files.
        metric_states: variables of the metrics, for an epoch that is not finished.
        judged_by: the figure that is lowest for the best epoch, of held-out examples if any.
        seconds: that training to here took; what a kill threw away is not in it. Of two equal runs
            it differs, so it does not count where states are compared.
    """

    epoch: int
    step: int
    history: list[dict[str, float]]
    random_states: list[Any]
    metric_states: list[Any]
    judged_by: str
    seconds: float = dataclasses.field(compare=False)

    @property
    def position(self) -> Position:
        return Position(self.epoch, self.step)

    def best_of(self, epochs: list[int]) -> int | None:
        """Returns the best of some finished epochs, the earliest of equals."""

        def judge(epoch: int) -> float:
            figures = self.history[epoch - 1]
            held_out = f"val_{self.judged_by}"
            return figures[held_out if held_out in figures else self.judged_by]

        return min(epochs, key=judge, default=None)


def _seed_variables(model: keras.Model) -> list[Any]:
    # Each generator is an attribute of its layer; the model lists its state among its variables.
    return [variable for variable in model.variables if "seed_generator_state" in variable.path]


def _metric_variables(model: keras.Model) -> list[Any]:
    return [variable for metric in model.metrics for variable in metric.variables]


def _values(variables: list[Any]) -> list[Any]:
    return [tf.convert_to_tensor(variable).numpy().tolist() for variable in variables]


def _assign(variables: list[Any], values: list[Any]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(np.asarray(value, variable.dtype))


def _digest(path: pathlib.Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class Checkpoints:
    """The checkpoints of one model folder.

    Args:
        model_dir: folder of the run.
        keep: how many of the last checkpoints stay; the best one always stays.
        writes: whether this process writes; of several workers, one does.

    Attributes:
        folder: where they are.
        judged_by: the figure that the best epoch is chosen by.
    """

    def __init__(self, model_dir: pathlib.Path, keep: int = 3, writes: bool = True):
        self.folder = model_dir / "checkpoints"
        self._keep = keep
        self.judged_by = "loss"
        self._writes = writes
        self._saved: Position | None = None

    def positions(self) -> list[Position]:
        """Returns where there is a checkpoint, ascending."""
        if not self.folder.is_dir():
            return []
        found = (_NAME.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(Position(int(match[1]), int(match[2] or 0)) for match in found if match)

    def epochs(self) -> list[int]:
        """Returns the epochs after which there is a checkpoint, ascending."""
        return [position.epoch for position in self.positions() if not position.step]

    def path(self, position: Position) -> pathlib.Path:
        """Returns the folder of a checkpoint."""
        step = f"-step-{position.step:06d}" if position.step else ""
        return self.folder / f"epoch-{position.epoch:04d}{step}"

    def save(
        self,
        model: keras.Model,
        position: Position,
        history: list[dict[str, float]],
        seconds: float = 0.0,
    ) -> None:
        """Saves the state at `position`, then removes what is neither among the last nor best.

        Raises:
            UserError: the disk is full or cannot be written; the checkpoints before are intact.
        """
        if position == self._saved:
            return
        self._saved = position
        # Of several workers all have to read the metrics, which are sums over them.
        state = TrainingState(
            *position,
            history,
            _values(_seed_variables(model)),
            _values(_metric_variables(model)) if position.step else [],
            self.judged_by,
            seconds,
        )
        if not self._writes:
            # Keras's saving talks to the other workers: they all have to do it.
            with tempfile.TemporaryDirectory() as folder:
                model.save(pathlib.Path(folder) / "model.keras")
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            flush(self.folder.parent)
            self._remove_unfinished()
            self._write(model, state)
        except OSError as error:
            raise UserError(
                f"{self.path(position)} cannot be saved: {error.strerror or error}; the "
                "checkpoints before it are intact; mend that and run the same command again"
            ) from error
        self._prune(state)

    def _write(self, model: keras.Model, state: TrainingState) -> None:
        path = self.path(state.position)
        temporary = path.with_name(_TEMPORARY + path.name)
        temporary.mkdir()
        try:
            model.save(temporary / "model.keras")
            (temporary / "state.json").write_text(json.dumps(vars(state)))
            names = ("model.keras", "state.json")
            sums = "".join(f"{_digest(temporary / name)}  {name}\n" for name in names)
            (temporary / _SUMS).write_text(sums)
            for file in temporary.iterdir():
                flush(file)
            flush(temporary)
            temporary.rename(path)
            flush(self.folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _remove_unfinished(self) -> None:
        """Removes what a killed save or removal left; only the one who trains may call it."""
        for path in self.folder.glob(f"{_TEMPORARY}*"):
            shutil.rmtree(path)

    def verify(self, position: Position) -> TrainingState:
        """Returns the state of a checkpoint that is what was written.

        Raises:
            DamagedError: a file is missing, or its content changed.
        """
        folder = self.path(position)
        try:
            lines = (folder / _SUMS).read_text(encoding="utf-8").splitlines()
            sums = {name: digest for digest, name in (line.split("  ") for line in lines)}
            for name in ("model.keras", "state.json"):
                if _digest(folder / name) != sums.get(name):
                    raise DamagedError(f"{folder} is damaged: {name} is not what was written")
        except DamagedError:
            raise
        except FileNotFoundError as error:
            missing = pathlib.Path(error.filename).name
            raise DamagedError(f"{folder} is damaged: {missing} is missing") from error
        except (OSError, ValueError) as error:
            raise DamagedError(f"{folder} is damaged: {_SUMS} cannot be read") from error
        try:
            return TrainingState(**json.loads((folder / "state.json").read_bytes()))
        except (ValueError, TypeError) as error:
            raise DamagedError(
                f"{folder} cannot be used: state.json is not of this version of ige"
            ) from error

    def newest(self) -> TrainingState | None:
        """Returns the state of the newest usable checkpoint, None if there is none.

        Only the one who trains may call it: newer ones, which are damaged, are reported and
        renamed to `damaged-...`; what a kill during the last save left is removed.

        Raises:
            UserError: there are checkpoints, but all are damaged.
        """
        damaged = []
        for position in reversed(self.positions()):
            try:
                state = self.verify(position)
            except DamagedError as error:
                damaged.append((position, error))
                continue
            for newer, error in damaged:
                path = self.path(newer)
                renamed = path.with_name(f"damaged-{path.name}")
                shutil.rmtree(renamed, ignore_errors=True)
                path.rename(renamed)
                print(f"{error}; renamed to {renamed.name}")
            # If that was the save of the last epoch, no other one will do it.
            self._remove_unfinished()
            self._prune(state)
            return state
        if damaged:
            reasons = "; ".join(str(error) for _, error in damaged)
            raise UserError(
                f"no checkpoint is usable: {reasons}; put a copy back, or start over with "
                '--gin_param="train.overwrite=True"'
            )
        return None

    def best(self) -> int | None:
        """Returns the best epoch that has a checkpoint, the earliest of equals."""
        epochs = self.epochs()
        # The newest knows the figures of all before it.
        return self.verify(Position(epochs[-1])).best_of(epochs) if epochs else None

    def restore(self, model: keras.Model, state: TrainingState) -> None:
        """Loads the weights, optimizer, random and metric states of a verified checkpoint into a
        compiled model whose variables all exist."""
        with self._damage_explained(state.position):
            model.load_weights(self.path(state.position) / "model.keras")
        _assign(_seed_variables(model), state.random_states)
        if state.step:
            _assign(_metric_variables(model), state.metric_states)

    def load_model(self, epoch: int) -> keras.Model:
        """Returns the network of a checkpoint, without what training needs.

        Raises:
            UserError: it is damaged.
        """
        position = Position(epoch)
        try:
            self.verify(position)
        except DamagedError as error:
            raise UserError(
                f"{error}; --command=train goes on from the checkpoint before it, "
                "evaluate.checkpoint (vis., predict.) chooses another one"
            ) from error
        with self._damage_explained(position):
            return keras.saving.load_model(
                self.path(position) / "model.keras", compile=False, safe_mode=True
            )

    @contextlib.contextmanager
    def _damage_explained(self, position: Position) -> Iterator[None]:
        """Turns what Keras raises for a file that does not fit into one line."""
        try:
            yield
        except UserError:  # of what gin has for the loaded network
            raise
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{self.path(position)} cannot be loaded: {first_line(error)}; was it made by "
                "another version?"
            ) from error

    def _prune(self, state: TrainingState) -> None:
        whole = self.epochs()
        keep = {Position(epoch) for epoch in {*whole[-self._keep :], state.best_of(whole)}}
        last = self.positions()[-1]
        for position in self.positions():
            if position not in keep | {last}:
                # Renamed first: a folder of that name is whole at all times.
                path = self.path(position)
                shutil.rmtree(path.rename(path.with_name(_TEMPORARY + path.name)))
