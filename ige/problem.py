"""What is to be learned: data, loss and metrics, independent of the network that learns it."""

import abc
import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ige import descents
from ige.data import batches
from ige.errors import UserError

Tensors = dict[str, keras.KerasTensor]
InferenceFn = Callable[[Tensors, keras.layers.InputSpec], Any]


@contextlib.contextmanager
def precision(dtype_policy: str | None) -> Iterator[None]:
    """Sets Keras's dtype policy for the layers that are made meanwhile; None leaves it."""
    previous = keras.config.dtype_policy()
    if dtype_policy is not None:
        keras.config.set_dtype_policy(dtype_policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(previous)


def check_kind(parameter: str, value: Any, kind: type) -> None:
    """Refuses what is not an object of a class, such as the class itself: `@Adam` for `@Adam()`."""
    if not isinstance(value, kind):
        raise UserError(
            f"{parameter}: got {value!r}, expected an object of {kind.__name__}; bind it to "
            "`@name()`, with parentheses"
        )


@dataclasses.dataclass(frozen=True)
class Report:
    """What `evaluate` says of a model: a table for people and the same figures for programs."""

    text: str
    figures: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Pictures:
    """What `vis` made: files, and the figures of matplotlib among them, to be shown in windows."""

    paths: list[pathlib.Path]
    figures: list[Any]


class Problem(abc.ABC):
    """A task: data, loss, metrics. Pairs with an `inference_fn(inputs, output_spec) -> outputs`.

    Attributes:
        free_parameters: gin parameters that a trained model does not depend on.
        data_selectors: gin configurables, or single parameters, that may differ between training
            and evaluation.
        judged_by: name of the figure that is lowest for the best epoch: 'loss' or a metric. Of
            held-out examples, if there are any; then a loss that sums over the batch will not do,
            because Keras weighs a smaller last batch less than its share.
        variant: name of what is evaluated and drawn, where one trained model has several such: each
            gets files of its own, `evaluation-<variant>.json`. Empty for the usual one.
    """

    free_parameters: frozenset[str] = frozenset()
    data_selectors: frozenset[str] = frozenset()
    judged_by: str = "loss"
    variant: str = ""

    @property
    def has_validation(self) -> bool:
        """Whether the split 'validation' has examples."""
        return False

    @property
    @abc.abstractmethod
    def input_spec(self) -> dict[str, keras.layers.InputSpec]:
        """Specs of one example's inputs, without the batch dimension."""

    @property
    @abc.abstractmethod
    def output_spec(self) -> keras.layers.InputSpec:
        """Spec of one example's prediction, without the batch dimension."""

    @property
    @abc.abstractmethod
    def loss(self) -> keras.losses.Loss | None:
        """The loss of a batch; None if the model has its own."""

    @abc.abstractmethod
    def get_metrics(self, model: keras.Model) -> list[keras.metrics.Metric]:
        """Returns what is shown while a model is trained."""

    @abc.abstractmethod
    def prepare(self) -> None:
        """Builds what the data needs on disk; does nothing when it is there."""

    @abc.abstractmethod
    def examples_per_epoch(self, split: str) -> int:
        """Returns the number of examples of a split: 'train', 'validation' or 'test'."""

    @abc.abstractmethod
    def get_dataset(self, split: str, batch_size: int) -> tf.data.Dataset:
        """Returns every example of a split once, in order, as batches of (inputs, labels)."""

    @abc.abstractmethod
    def get_training_feed(
        self,
        batch_size: int,
        steps_per_epoch: int,
        seed: int,
        start_step: int,
        steps_per_chunk: int,
    ) -> batches.Feed:
        """Returns shuffled batches of the training split from `start_step` on."""

    @abc.abstractmethod
    def report(
        self, model: keras.Model, split: str, batch_size: int, run_folder: pathlib.Path
    ) -> Report:
        """Evaluates a model on a split.

        Args:
            model: a trained model.
            split: 'train', 'validation' or 'test'.
            batch_size: examples per call of the network.
            run_folder: folder of its run, for what other commands have written there.
        """

    def vis(
        self,
        model: keras.Model,
        split: str,
        batch_size: int,
        folder: pathlib.Path,
        example: str | None,
        run_folder: pathlib.Path,
    ) -> Pictures:
        """Draws what a model makes of a split.

        Args:
            model: a trained model.
            split: 'train', 'validation' or 'test'.
            batch_size: examples per call of the network.
            folder: where the pictures go; it exists.
            example: name of what is shown in detail; None for a typical one.
            run_folder: folder of its run, for what other commands have written there.

        Raises:
            UserError: this problem has no pictures, or no such example.
        """
        raise UserError(f"{type(self).__name__} has no pictures: it does not define vis")

    @property
    @abc.abstractmethod
    def provenance(self) -> dict[str, Any]:
        """Which data this is: name, version, files."""

    def preprocess(self, inputs: Tensors) -> Tensors:
        """Layers between the inputs and the `inference_fn`; saved with the weights."""
        return inputs

    def postprocess(self, outputs: Any) -> Any:
        """Layers between the `inference_fn` and the prediction; saved with the weights."""
        return outputs

    def build_model(self, inference_fn: InferenceFn) -> keras.Model:
        """Returns the functional model inputs -> preprocess -> inference_fn -> postprocess.

        Keras's dtype policy holds for the `inference_fn`; what is before and after it is float32.
        """
        inputs = {
            name: keras.Input(spec.shape, dtype=spec.dtype, name=name)
            for name, spec in self.input_spec.items()
        }
        with precision("float32"):
            preprocessed = self.preprocess(inputs)
        outputs = inference_fn(preprocessed, self.output_spec)
        with precision("float32"):
            if keras.backend.standardize_dtype(outputs.dtype) != "float32":
                outputs = keras.layers.Activation("linear", name="as_float32")(outputs)
            return keras.Model(inputs, self.postprocess(outputs))

    def for_prediction(self, model: keras.Model) -> keras.Model:
        """Returns a loaded model as it is used after training: with one prediction per example,
        the last of the iterates if the model predicts all."""
        iterates = model.output_shape[2:] == tuple(self.output_spec.shape)
        return descents.last(model) if iterates else model

    def check_model(self, model: keras.Model, origin: str) -> None:
        """Refuses a loaded model that was made for other inputs or outputs.

        Raises:
            UserError: names both sides.
        """
        expected = {name: tuple(spec.shape) for name, spec in self.input_spec.items()}
        got = {tensor.name: tuple(tensor.shape[1:]) for tensor in model.inputs}
        if got != expected:
            raise UserError(
                f"{origin} was trained on inputs {got}, the config asks for {expected}; "
                "evaluate it with the config it was trained with"
            )
        if tuple(model.output_shape[1:]) != tuple(self.output_spec.shape):
            raise UserError(
                f"{origin} predicts {tuple(model.output_shape[1:])}, the config expects "
                f"{tuple(self.output_spec.shape)}; evaluate it with the config it was trained with"
            )


class TfdsProblem(Problem):
    """A problem whose examples come from a tfds dataset and are kept as arrays in memory.

    Subclasses turn the stored sequences or objects into rows with `load_arrays`.
    """

    def __init__(self, dataset: Any):
        """Args:
        dataset: a tfds builder with `prepare()` and `provenance`.
        """
        self._dataset = dataset
        self._arrays: dict[str, tuple[dict[str, np.ndarray], np.ndarray]] = {}

    @property
    def dataset(self) -> Any:
        """The tfds builder."""
        return self._dataset

    @abc.abstractmethod
    def load_arrays(self, split: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Returns (inputs, labels) of a split: arrays with one row per example."""

    def arrays(self, split: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Returns (inputs, labels) of a split, loaded once."""
        if split not in self._arrays:
            self.prepare()
            self._arrays[split] = self.load_arrays(split)
        return self._arrays[split]

    def prepare(self) -> None:
        self._dataset.prepare()

    @property
    def provenance(self) -> dict[str, Any]:
        self.prepare()
        return self._dataset.provenance

    def examples_per_epoch(self, split: str) -> int:
        return len(self.arrays(split)[1])

    def get_dataset(self, split: str, batch_size: int) -> tf.data.Dataset:
        return batches.ordered_batches(
            self.arrays(split), self.examples_per_epoch(split), batch_size
        )

    def get_training_feed(
        self,
        batch_size: int,
        steps_per_epoch: int,
        seed: int,
        start_step: int,
        steps_per_chunk: int,
    ) -> batches.Feed:
        return batches.shuffled_feed(
            self.arrays("train"),
            self.examples_per_epoch("train"),
            batch_size,
            steps_per_epoch,
            seed,
            start_step,
            steps_per_chunk,
        )
