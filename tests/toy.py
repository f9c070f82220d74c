"""The smallest problem that the trainer can train: a line through points."""

import keras
import numpy as np

from ige.problem import Report, TfdsProblem


class Builder:
    """Stands for a tfds builder whose data is there."""

    provenance = {"dataset": "line", "version": "1.0.0"}

    def __init__(self):
        self.prepared = 0

    def prepare(self):
        self.prepared += 1


class Record:
    """Stands for the record of a run's config."""

    def __init__(self):
        self.calls = []

    def check(self):
        self.calls.append("check")

    def write(self):
        self.calls.append("write")


class LineProblem(TfdsProblem):
    """y = 2 x + 1, 64 training and 10 test examples."""

    free_parameters = frozenset({"toy.problem.note"})
    data_selectors = frozenset({"toy.data"})

    def __init__(self, validation: bool = False, poisoned: tuple[tuple[str, int], ...] = ()):
        """Args:
        validation: there are held-out examples.
        poisoned: (split, row) whose label is NaN.
        """
        super().__init__(Builder())
        self._validation = validation
        self._poisoned = poisoned

    input_spec = {"x": keras.layers.InputSpec(shape=(1,), dtype="float32")}
    output_spec = keras.layers.InputSpec(shape=(1,), dtype="float32")

    @property
    def has_validation(self):
        return self._validation

    @property
    def loss(self):
        return keras.losses.MeanSquaredError()

    def get_metrics(self, model):
        return [keras.metrics.MeanAbsoluteError(name="mae")]

    def load_arrays(self, split):
        x = np.linspace(-1, 1, 64 if split == "train" else 10, dtype=np.float32)[:, None]
        y = 2 * x + 1
        for poisoned, row in self._poisoned:
            if poisoned == split:
                y[row] = np.nan
        return {"x": x}, y

    def report(self, model, split, batch_size, run_folder):
        _, labels = self.arrays(split)
        predictions = model.predict(self.get_dataset(split, batch_size), verbose=0)
        error = float(np.abs(predictions - labels).mean())
        return Report(f"mean error {error:.3f}", {"error": error})


def line(inputs, output_spec):
    """A network with what makes exact resumption hard: dropout and batch statistics."""
    x = keras.layers.Dense(8)(inputs["x"])
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.25)(x)
    return keras.layers.Dense(output_spec.shape[-1])(x)
