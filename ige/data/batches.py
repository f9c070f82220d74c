"""Arrays in memory -> batches, gathered by index: no Python and no copy per example."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf


def _gatherer(arrays: Any) -> Callable[[tf.Tensor], Any]:
    """Returns indices (B,) -> the rows of every array in the nest `arrays`."""
    tensors = keras.tree.map_structure(tf.convert_to_tensor, arrays)
    return lambda indices: keras.tree.map_structure(
        lambda tensor: tf.gather(tensor, indices), tensors
    )


def shuffled_batches(
    arrays: Any,
    num_examples: int,
    batch_size: int,
    steps_per_epoch: int,
    seed: int,
    start_step: int,
) -> tf.data.Dataset:
    """Returns an endless dataset of shuffled batches that is a pure function of the step.

    Epoch e goes through the examples in an order drawn from (seed, e), so a run that starts again
    at `start_step` sees exactly the batches that it would have seen without the interruption.

    Args:
        arrays: nest of arrays with `num_examples` rows.
        num_examples: rows of every array.
        batch_size: rows of every batch; must not exceed `num_examples`.
        steps_per_epoch: batches of an epoch, at most `num_examples // batch_size`; the rows that
            this leaves out differ from epoch to epoch.
        seed: fixes the order.
        start_step: step, counted from the first epoch on, of the first batch.
    """
    gather = _gatherer(arrays)
    last = tf.constant(num_examples - 1, tf.int64)

    def batch(step: tf.Tensor) -> Any:
        seeds = tf.stack([tf.constant(seed, tf.int64), step // steps_per_epoch])
        places = step % steps_per_epoch * batch_size + tf.range(batch_size, dtype=tf.int64)
        return gather(tf.random.experimental.index_shuffle(places, seeds, last))

    steps = tf.data.Dataset.range(start_step, np.iinfo(np.int64).max)
    return steps.map(batch, num_parallel_calls=1, deterministic=True).prefetch(tf.data.AUTOTUNE)


def ordered_batches(arrays: Any, num_examples: int, batch_size: int) -> tf.data.Dataset:
    """Returns every example once, in order; the last batch may be smaller."""
    gather = _gatherer(arrays)
    starts = tf.data.Dataset.range(0, num_examples, batch_size)
    return starts.map(
        lambda start: gather(tf.range(start, tf.minimum(start + batch_size, num_examples)))
    ).prefetch(tf.data.AUTOTUNE)
