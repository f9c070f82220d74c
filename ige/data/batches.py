"""Arrays in memory -> batches, gathered by index: no Python and no copy per example."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf


class Feed(NamedTuple):
    """What training steps are fed with.

    Attributes:
        chunks: endless dataset; every row of an element (rows, ...) becomes one step. A pure
            function of the step, so that a run goes on as if it had never stopped.
        fetch: row -> (inputs, labels) of the step; called inside the compiled step.
    """

    chunks: tf.data.Dataset
    fetch: Callable[[Any], Any]


def _gatherer(arrays: Any) -> Callable[[tf.Tensor], Any]:
    """Returns indices (B,) -> the rows of every array in the nest `arrays`."""
    tensors = keras.tree.map_structure(tf.convert_to_tensor, arrays)
    return lambda indices: keras.tree.map_structure(
        lambda tensor: tf.gather(tensor, indices), tensors
    )


def _keys(seed: int, epochs: tf.Tensor) -> tf.Tensor:
    """Returns a key (n, 3), uint64, for each epoch (n,).

    The shuffle uses few bits of a key, so small numbers would be few keys: these are hashed by the
    finalizer of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
    """

    def mixed(x: tf.Tensor) -> tf.Tensor:
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
            shifted = tf.bitwise.right_shift(x, tf.constant(shift, tf.uint64))
            x = tf.bitwise.bitwise_xor(x, shifted) * tf.constant(factor, tf.uint64)
        return x

    step = tf.constant(0x9E3779B97F4A7C15, tf.uint64)
    base = mixed(mixed(tf.constant(seed, tf.uint64) + step) + tf.cast(epochs, tf.uint64))
    return mixed(base[:, tf.newaxis] + step * tf.constant([1, 2, 3], tf.uint64))


def shuffled_feed(
    arrays: Any,
    num_examples: int,
    batch_size: int,
    steps_per_epoch: int,
    seed: int,
    start_step: int,
    steps_per_chunk: int,
) -> Feed:
    """Returns shuffled batches whose order is a pure function of the step.

    Epoch e goes through the examples in an order drawn from (seed, e), so a run that starts again
    at `start_step` sees exactly the batches that it would have seen without the interruption. Only
    indices travel; the arrays are gathered from where the steps run.

    Args:
        arrays: nest of arrays with `num_examples` rows.
        num_examples: rows of every array.
        batch_size: rows of every batch; must not exceed `num_examples`.
        steps_per_epoch: batches of an epoch; at most `num_examples // batch_size` of them go
            through the examples once, then the next order begins. The rows that this leaves out
            differ from order to order.
        seed: fixes the order.
        start_step: step, counted from the first epoch on, of the first batch.
        steps_per_chunk: rows of the elements of `chunks`, which are indices (rows, batch_size).
    """
    steps_per_pass = min(steps_per_epoch, num_examples // batch_size)
    last = tf.constant(num_examples - 1, tf.int64)
    in_batch = tf.range(batch_size, dtype=tf.int64)

    def chunk(first: tf.Tensor) -> tf.Tensor:
        steps = (first + tf.range(steps_per_chunk, dtype=tf.int64))[:, tf.newaxis]
        places = tf.reshape(steps % steps_per_pass * batch_size + in_batch, [-1])
        # The public index_shuffle takes one key for all places, but a chunk may span epochs; its 4
        # rounds leave many neighbours together, 8 none more than chance does.
        indices = tf.raw_ops.RandomIndexShuffle(
            index=places,
            seed=tf.repeat(_keys(seed, steps[:, 0] // steps_per_pass), batch_size, axis=0),
            max_index=last,
            rounds=8,
        )
        return tf.reshape(indices, (steps_per_chunk, batch_size))

    firsts = tf.data.Dataset.range(start_step, np.iinfo(np.int64).max, steps_per_chunk)
    return Feed(firsts.map(chunk).prefetch(2), _gatherer(arrays))


def ordered_batches(arrays: Any, num_examples: int, batch_size: int) -> tf.data.Dataset:
    """Returns every example once, in order; the last batch may be smaller."""
    gather = _gatherer(arrays)
    starts = tf.data.Dataset.range(0, num_examples, batch_size)
    return starts.map(
        lambda start: gather(tf.range(start, tf.minimum(start + batch_size, num_examples)))
    ).prefetch(tf.data.AUTOTUNE)
