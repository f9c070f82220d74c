"""Examples of views and shapes, kept as the compressed bytes that they are stored as.

A data set of 50,000 models with 24 views is 8 GB of PNG files and 80 GB of pixels; it is decoded
where batches are made, by TensorFlow's own operations.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from ige.vox.data.features import unpack_bits
from ige.vox.data.shapes import SOLID, Shape
from ige.vox.grids import packed_size
from ige.vox.rendering import WHITE
from ige.vox.views import Cameras


class Decoder:
    """What cameras see of shapes: examples by index, the views of one shape after the other.

    Args:
        shapes: of one resolution and image size, with equally many views.
    """

    def __init__(self, shapes: Sequence[Shape]):
        self.shapes = shapes
        self.views = len(shapes[0].pngs)
        self._resolution = shapes[0].resolution
        self._size = shapes[0].image_size
        self._pngs = tf.constant([png for shape in shapes for png in shape.pngs])
        self._grids = tf.constant([shape.grid for shape in shapes])
        cameras = [shape.cameras for shape in shapes]
        self._cameras = {
            field: tf.constant(np.concatenate([getattr(of_shape, field) for of_shape in cameras]))
            for field in Cameras._fields
        }

    def __len__(self) -> int:
        return len(self.shapes) * self.views

    def __call__(self, indices: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns examples (n,), as small as they may travel: `image` (n, size, size, 4) uint8, red
        to alpha, `occupancy` (n, R^3 / 8) uint8, packed, and the camera."""
        pngs = tf.gather(self._pngs, indices)
        image = tf.map_fn(
            lambda png: tf.io.decode_png(png, channels=4), pngs, fn_output_signature=tf.uint8
        )
        grids = tf.io.decode_compressed(tf.gather(self._grids, indices // self.views), "ZLIB")
        # All are of one length, which `decode_raw` asks for where it is to be static.
        occupancy = tf.io.decode_raw(grids, tf.uint8)
        examples = {
            "image": tf.ensure_shape(image, (None, self._size, self._size, 4)),
            "occupancy": tf.ensure_shape(occupancy, (None, packed_size((self._resolution,) * 3))),
        }
        return examples | {
            name: tf.gather(values, indices) for name, values in self._cameras.items()
        }

    def unpacked(self, examples: dict[str, tf.Tensor]) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """Returns (inputs, labels) of examples: inputs are `image` (n, size, size, 3) uint8 before
        white, `silhouette` (n, size, size) bool and the camera; labels (n, R, R, R) bool."""
        rgba = examples["image"]
        alpha = tf.cast(rgba[..., 3:], tf.float32) / 255
        colour = tf.cast(rgba[..., :3], tf.float32)
        inputs = {
            "image": tf.cast(tf.round(colour * alpha + WHITE * (1 - alpha)), tf.uint8),
            "silhouette": rgba[..., 3] >= SOLID,
        }
        cameras = {field: examples[field] for field in self._cameras}
        return inputs | cameras, unpack_bits(examples["occupancy"], (self._resolution,) * 3)
