"""Examples of tfds data sets: how they are described, stored and read back."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import tensorflow_datasets as tfds

Example = TypeVar("Example")


class Info(tfds.core.DatasetInfo):
    """The description of a build that Google has no copy of."""

    def initialize_from_bucket(self) -> None:
        """Does nothing: tfds would look there, and leave a temporary folder behind."""


def as_bytes(*shape: int | None, dtype: type = np.float64) -> tfds.features.Tensor:
    """Returns a feature that is stored as raw bytes: exact, and much faster than numbers."""
    return tfds.features.Tensor(shape=shape, dtype=dtype, encoding=tfds.features.Encoding.BYTES)


class _AsStored(tfds.decode.SkipDecoding):
    """Leaves a feature as it is stored, and a sequence of them too, at once."""

    def decode_batch_example(self, example: Any) -> Any:
        return example


def read_examples(
    folder: pathlib.Path,
    split: str,
    convert: Callable[[dict[str, Any]], Example],
    undecoded: Sequence[str] = (),
) -> list[Example]:
    """Returns what `convert` makes of every example of a split of a build, in any order.

    Args:
        folder: the build.
        split: its name.
        convert: gets the features by name.
        undecoded: names of features that are left as they are stored, where there are such.
    """
    builder = tfds.builder_from_directory(folder)
    skip = {name: _AsStored() for name in undecoded if name in builder.info.features}
    dataset = builder.as_dataset(
        split=split,
        shuffle_files=False,
        decoders=skip or None,
        read_config=tfds.ReadConfig(try_autocache=False, add_tfds_id=False),
    )
    return [convert(example) for example in dataset.as_numpy_iterator()]
