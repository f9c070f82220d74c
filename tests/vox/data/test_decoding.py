import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from ige.vox.data.decoding import Decoder
from ige.vox.data.shapes import stack


@pytest.mark.parametrize("compiled", [False, True])
def test_examples_are_those_of_stack(toy_shapes, compiled):
    """Views of a shape after one another, in any order that is asked for."""
    shapes = toy_shapes.shapes("train")
    shapes[5] = dataclasses.replace(shapes[5], translate=np.array([0, -0.25, -0.5]), scale=0.5)
    decoder = Decoder(shapes)
    assert (len(decoder), decoder.views) == (12, 2)
    indices = tf.constant([3, 10, 0], tf.int64)
    unpacked = tf.function(decoder.unpacked, jit_compile=compiled)
    inputs, labels = unpacked(decoder(indices))
    arrays = stack(shapes)
    for row, (shape, view) in enumerate([(1, 1), (5, 0), (0, 0)]):
        for name in ("image", "silhouette", "rotation", "centre", "focal", "planes"):
            np.testing.assert_array_equal(inputs[name][row], arrays[name][shape, view], name)
        np.testing.assert_array_equal(labels[row], shapes[shape].occupancy)
    np.testing.assert_allclose(np.diff(inputs["planes"])[:, 0], [1, 2, 1], rtol=1e-6)


def test_cameras_are_those_of_the_grid(toy_shapes):
    """From the middle of a grid of .5, at (.25, 0, -.25): twice as many sides away."""
    shapes = toy_shapes.shapes("train")[:2]
    placed = dataclasses.replace(shapes[1], translate=np.array([0, -0.25, -0.5]), scale=0.5)
    decoder = Decoder([shapes[0], placed])
    inputs, _ = decoder.unpacked(decoder(tf.range(4)))
    distance = np.linalg.norm(placed.views.centre, axis=-1)
    expected = np.stack([distance - 0.5, distance + 0.5], axis=-1) / 0.5
    np.testing.assert_allclose(inputs["planes"][2:], expected, rtol=1e-6)
    expected = (placed.views.centre - [0.25, 0, -0.25]) / 0.5
    np.testing.assert_allclose(inputs["centre"][2:], expected, rtol=1e-6)
    np.testing.assert_array_equal(inputs["centre"][:2], shapes[0].views.centre)
    for name in ("rotation", "focal"):
        np.testing.assert_array_equal(inputs[name][2:], getattr(placed.views, name))


def test_soft_borders_are_mixed_with_white(toy_shapes):
    decoder = Decoder(toy_shapes.shapes("train"))
    rgba = np.array([[[200, 0, 100, 128], [200, 0, 100, 127], [9, 9, 9, 0], [1, 2, 3, 255]]])
    examples = decoder(tf.constant([0])) | {"image": tf.constant(rgba[np.newaxis], tf.uint8)}
    inputs, _ = decoder.unpacked(examples)
    # 200 * 128 / 255 + 127 = 227.4 and so on.
    expected = [[227, 127, 177], [228, 128, 178], [255, 255, 255], [1, 2, 3]]
    np.testing.assert_array_equal(inputs["image"][0, 0], expected)
    np.testing.assert_array_equal(inputs["silhouette"][0, 0], [True, False, False, True])
