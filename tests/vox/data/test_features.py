import re
import zlib

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from ige.vox.data.features import Deflated, Occupancy, unpack_bits
from ige.vox.grids import pack


@pytest.mark.parametrize("shape", [(4, 4, 4), (3, 5, 2), (1, 1, 1)])
def test_grids_come_back(shape, rng):
    feature = tfds.features.FeaturesDict({"grid": Occupancy(shape=shape)})
    for grid in (rng.random(shape) < 0.5, np.zeros(shape, bool), np.ones(shape, bool)):
        stored = feature.serialize_example({"grid": grid})
        read = feature.deserialize_example(stored)["grid"]
        assert read.dtype == tf.bool
        np.testing.assert_array_equal(read, grid)


def test_deflated_arrays_come_back(tmp_path, rng):
    array = rng.integers(0, 2**16, (2, 3, 4), np.uint16)
    features = tfds.features.FeaturesDict(
        {"depth": Deflated(shape=array.shape, dtype=np.uint16, encoding="zlib")}
    )
    features.save_config(tmp_path)
    for feature in (features, tfds.features.FeaturesDict.from_config(tmp_path)):
        stored = feature.serialize_example({"depth": zlib.compress(array.tobytes())})
        np.testing.assert_array_equal(feature.deserialize_example(stored)["depth"], array)


def test_a_grid_of_one_value_takes_few_bytes():
    stored = Occupancy(shape=(32, 32, 32)).encode_example(np.ones((32, 32, 32), bool))
    assert zlib.decompress(stored) == b"\xff" * 4096
    assert len(stored) < 100


def test_its_description_comes_back(tmp_path):
    features = tfds.features.FeaturesDict({"grid": Occupancy(shape=(2, 3, 4))})
    features.save_config(tmp_path)
    read = tfds.features.FeaturesDict.from_config(tmp_path)["grid"]
    assert isinstance(read, Occupancy)
    assert (read.shape, read.dtype) == ((2, 3, 4), np.bool_)


@pytest.mark.parametrize("grid", [np.zeros((2, 2, 2)), np.zeros((2, 2, 3), bool)])
def test_other_arrays_are_refused(grid):
    message = f"got {grid.dtype} of shape {grid.shape}, expected bool of shape (2, 2, 2)"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Occupancy(shape=(2, 2, 2)).encode_example(grid)


def test_a_batch_is_unpacked_in_the_graph(rng):
    grids = rng.random((4, 2, 3, 3, 3)) < 0.5
    packed = np.stack([[pack(grid) for grid in row] for row in grids])
    unpacked = tf.function(unpack_bits)(tf.constant(packed), (3, 3, 3))
    np.testing.assert_array_equal(unpacked, grids)
