"""Features of tfds that store voxel grids and depths compactly."""

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from ige.vox.grids import pack, packed_size


def unpack_bits(packed: tf.Tensor, shape: tuple[int, ...]) -> tf.Tensor:
    """Returns the boolean grids (..., *shape) of `grids.pack`ed ones (..., packed_size), uint8.

    In the graph, so that a batch travels packed to wherever it is used.
    """
    shifts = tf.range(7, -1, -1, dtype=tf.int32)
    bits = tf.bitwise.right_shift(tf.cast(packed, tf.int32)[..., tf.newaxis], shifts) & 1
    leading = tf.shape(packed)[:-1]
    bits = tf.reshape(bits, tf.concat([leading, [-1]], axis=0))[..., : int(np.prod(shape))]
    return tf.reshape(bits > 0, tf.concat([leading, shape], axis=0))


class Deflated(tfds.features.Tensor):
    """An array, to be made with `encoding='zlib'`, whose examples are deflated bytes already.

    Deflating takes longer than all else that a builder does, so it is left to those who build.
    """

    def encode_example(self, example_data: bytes) -> bytes:
        """Returns what is stored: the same."""
        return example_data


class Occupancy(tfds.features.Tensor):
    """A boolean grid, stored as deflated bits.

    `python -m benchmarks.voxels` compares that with bits as they are and with run lengths.
    """

    def __init__(self, *, shape: tuple[int, ...]):
        """Args:
        shape: of the grid, without unknown dimensions.
        """
        self._grid = tuple(shape)
        super().__init__(
            shape=(packed_size(self._grid),),
            dtype=np.uint8,
            encoding=tfds.features.Encoding.ZLIB,
        )

    def get_tensor_info(self) -> tfds.features.TensorInfo:
        """Returns what examples have: the grid itself."""
        return tfds.features.TensorInfo(shape=self._grid, dtype=np.bool_)

    def encode_example(self, example_data: np.ndarray) -> bytes:
        """Returns what is stored of a boolean grid.

        Raises:
            ValueError: it has another type or shape.
        """
        if example_data.dtype != np.bool_ or example_data.shape != self._grid:
            raise ValueError(
                f"got {example_data.dtype} of shape {example_data.shape}, expected bool of shape "
                f"{self._grid}"
            )
        return super().encode_example(pack(example_data))

    def decode_example(self, tfexample_data: tf.Tensor) -> tf.Tensor:
        """Returns the boolean grid."""
        return unpack_bits(super().decode_example(tfexample_data), self._grid)

    def to_json_content(self) -> dict[str, Any]:
        """Returns what `from_json_content` needs to make this feature again."""
        return {"shape": list(self._grid)}

    @classmethod
    def from_json_content(cls, value: dict[str, Any]) -> "Occupancy":
        """Returns the feature that `to_json_content` described."""
        return cls(shape=tuple(value["shape"]))
