"""Checkpoints of a run: written whole or not at all, pruned, restored.

<model folder>/checkpoints/epoch-0005/model.keras   network, weights, optimizer
                                     /state.json    epoch, history, random states
"""

import contextlib
import dataclasses
import json
import pathlib
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from ige.errors import UserError
from ige.files import flush

_NAME = re.compile(r"epoch-(\d{4,})")


@dataclasses.dataclass(frozen=True)
class TrainingState:
    """Where a run is.

    Attributes:
        epoch: epochs that are finished.
        step: optimizer steps that are finished.
        history: one dict of figures per finished epoch.
        random_states: states of the network's seed generators (dropout), in the network's order;
            Keras leaves them out of its files.
    """

    epoch: int
    step: int
    history: list[dict[str, float]]
    random_states: list[list[int]]

    @property
    def judged_by(self) -> float:
        """The figure that is lowest for the best epoch: the loss of held-out examples, if any."""
        figures = self.history[-1]
        return figures.get("val_loss", figures["loss"])


def _seed_variables(model: keras.Model) -> list[Any]:
    # Each generator is an attribute of its layer; the model lists its state among its variables.
    return [variable for variable in model.variables if "seed_generator_state" in variable.path]


class Checkpoints:
    """The checkpoints of one model folder.

    Args:
        model_dir: folder of the run.
        keep: how many of the last checkpoints stay; the best one always stays.
    """

    def __init__(self, model_dir: pathlib.Path, keep: int = 3):
        self.folder = model_dir / "checkpoints"
        self._keep = keep

    def epochs(self) -> list[int]:
        """Returns the epochs that have a checkpoint, ascending."""
        if not self.folder.is_dir():
            return []
        found = (_NAME.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted(int(match[1]) for match in found if match)

    def path(self, epoch: int) -> pathlib.Path:
        """Returns the folder of the checkpoint after `epoch` epochs."""
        return self.folder / f"epoch-{epoch:04d}"

    def save(self, model: keras.Model, epoch: int, history: Sequence[dict[str, float]]) -> None:
        """Saves the state after `epoch` epochs, then removes what is neither last nor best."""
        self.folder.mkdir(parents=True, exist_ok=True)
        state = TrainingState(
            epoch=epoch,
            step=int(model.optimizer.iterations),
            history=list(history),
            random_states=[np.asarray(v).tolist() for v in _seed_variables(model)],
        )
        temporary = pathlib.Path(tempfile.mkdtemp(prefix="saving-", dir=self.folder))
        try:
            model.save(temporary / "model.keras")
            (temporary / "state.json").write_text(json.dumps(dataclasses.asdict(state)))
            for path in temporary.iterdir():
                flush(path)
            shutil.rmtree(self.path(epoch), ignore_errors=True)
            temporary.rename(self.path(epoch))
            flush(self.folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self._prune()

    def state(self, epoch: int) -> TrainingState:
        """Returns the state that the checkpoint of `epoch` recorded."""
        text = (self.path(epoch) / "state.json").read_text(encoding="utf-8")
        return TrainingState(**json.loads(text))

    def last(self) -> int | None:
        """Returns the newest epoch that has a checkpoint."""
        return max(self.epochs(), default=None)

    def best(self) -> int | None:
        """Returns the best epoch that has a checkpoint, the earliest of equals."""
        return min(self.epochs(), key=lambda epoch: self.state(epoch).judged_by, default=None)

    def restore(self, model: keras.Model, epoch: int) -> TrainingState:
        """Loads weights, optimizer and random states of a checkpoint into a compiled model."""
        state = self.state(epoch)
        model.optimizer.build(model.trainable_variables)
        with self._damage_explained(epoch):
            model.load_weights(self.path(epoch) / "model.keras")
        for variable, value in zip(_seed_variables(model), state.random_states, strict=True):
            variable.assign(np.asarray(value, variable.dtype))
        return state

    def load_model(self, epoch: int) -> keras.Model:
        """Returns the network of a checkpoint, without what training needs."""
        with self._damage_explained(epoch):
            return keras.saving.load_model(self.path(epoch) / "model.keras", compile=False)

    @contextlib.contextmanager
    def _damage_explained(self, epoch: int) -> Iterator[None]:
        """Turns what Keras raises for a damaged file into one line."""
        try:
            yield
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise UserError(
                f"{self.path(epoch)} cannot be read ({str(error).splitlines()[0]}); remove that "
                "folder to go on from the checkpoint before it"
            ) from error

    def _prune(self) -> None:
        keep = {*self.epochs()[-self._keep :], self.best()}
        for epoch in self.epochs():
            if epoch not in keep:
                shutil.rmtree(self.path(epoch))
