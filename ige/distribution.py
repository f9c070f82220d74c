"""Training on several devices of one machine, or of several machines."""

import contextlib
import functools
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Literal

import gin
import keras
import tensorflow as tf

from ige.errors import UserError

# The connection broke off, or the other one was started again before this one noticed.
_LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError)
_REJOINED = "IGE_REJOINED"
_OF_ONE_DEVICE = (
    "clipnorm",
    "global_clipnorm",
    "clipvalue",
    "use_ema",
    "gradient_accumulation_steps",
)
_CLUSTER = (
    'expected {"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}, '
    "the same cluster for all workers and an index of its own for each"
)


@gin.configurable(module="ige")
def strategy(
    distribution: Literal["mirrored", "multi_worker"] | None = None,
) -> tf.distribute.Strategy:
    """Returns how training is spread; call it before TensorFlow computes anything.

    Every device takes its equal share of each batch, and gradients are summed: the losses are
    those of one device with the whole batch. Batch normalisation uses the whole batch's statistics.

    Args:
        distribution: None: one device. 'mirrored': all GPUs of this machine (without GPUs, its
            logical CPUs). 'multi_worker': all machines that the environment variable TF_CONFIG
            lists; waits for them.

    Raises:
        UserError: TF_CONFIG is missing or makes no sense.
    """
    if distribution is None:
        return tf.distribute.get_strategy()
    if distribution == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    workers, index = _cluster()
    print(
        f"worker {index} of {len(workers)}: waiting for the others of {', '.join(workers)}; "
        "worker 0 shows the progress"
    )
    return tf.distribute.MultiWorkerMirroredStrategy()


def _cluster() -> tuple[list[str], int]:
    """Returns the addresses of the workers, and the index of this one."""
    text = os.environ.get("TF_CONFIG")
    if not text:
        raise UserError(f"distribution='multi_worker': TF_CONFIG is not set; {_CLUSTER}")
    try:
        config = json.loads(text)
        workers, task = config["cluster"]["worker"], config["task"]
        if task["type"] != "worker" or not 0 <= task["index"] < len(workers):
            raise ValueError
        return workers, task["index"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"distribution='multi_worker': TF_CONFIG is {text!r}; {_CLUSTER}"
        ) from error


def is_chief() -> bool:
    """Whether this process is the one that writes files and prints."""
    return tf.distribute.get_strategy().extended.should_checkpoint


def is_multi_worker() -> bool:
    """Whether other processes train with this one."""
    return isinstance(tf.distribute.get_strategy(), tf.distribute.MultiWorkerMirroredStrategy)


def any_worker(flag: bool) -> bool:
    """Whether the flag is set in any worker; all have to ask."""
    return any(_all_values(int(flag)))


def from_chief(value: int) -> int:
    """Returns the chief's value in every worker; all have to ask."""
    return _all_values(value)[0]


def _all_values(value: int) -> list[int]:
    """Returns the values of all devices, in the order of the workers."""
    if not is_multi_worker():
        return [value]
    gather = _gather_function(tf.distribute.get_strategy())
    return gather(tf.constant(value, tf.int64)).numpy().tolist()


@functools.cache
def _gather_function(spread: tf.distribute.Strategy) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns value -> the values of all devices; compiled once, as TensorFlow asks for."""

    def own(value: tf.Tensor) -> tf.Tensor:
        rank = tf.distribute.get_replica_context().replica_id_in_sync_group
        return value * tf.one_hot(rank, spread.num_replicas_in_sync, dtype=value.dtype)

    return tf.function(
        lambda value: spread.reduce("SUM", spread.run(own, (value,)), axis=None), autograph=False
    )


def check(optimizer: keras.Optimizer, batch_size: int, dtype_policy: str | None) -> None:
    """Refuses what would not mean the same on several devices.

    Raises:
        UserError: a batch that cannot be shared out equally, or what Keras does with the gradients
            of each device before they are summed.
    """
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if batch_size % replicas:
        raise UserError(
            f"train.batch_size: got {batch_size}, expected a multiple of the {replicas} devices"
        )
    if replicas == 1:
        return
    for name in _OF_ONE_DEVICE:
        if getattr(optimizer, name):
            raise UserError(
                f"optimizer: got {name} on {replicas} devices, expected none: Keras applies it "
                "before the devices' gradients are summed; train on one device or without it"
            )
    if dtype_policy == "mixed_float16":
        raise UserError(
            f"train.dtype_policy: got 'mixed_float16' on {replicas} devices, expected "
            "'mixed_bfloat16': Keras looks for an overflow on each device by itself"
        )


def synchronise_batch_norm(model: keras.Model) -> None:
    """Makes batch normalisation use the statistics of all devices' examples."""
    if tf.distribute.get_strategy().num_replicas_in_sync > 1:
        # Not public, but what Keras itself walks a model with; `layers` stops at composite ones.
        for layer in model._flatten_layers():
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = True


def rejoined() -> bool:
    """Whether this process goes on for one that had lost another worker."""
    return _REJOINED in os.environ


@contextlib.contextmanager
def spread() -> Iterator[None]:
    """Spreads what is done meanwhile, as gin says; enter it before TensorFlow computes anything.

    When another worker is lost, this one starts its command again: TensorFlow cannot take up a
    connection within the process. The new one waits for the others, and they all go on from the
    last checkpoint.
    """
    how = None
    try:
        with (how := strategy()).scope():
            yield
    except _LOST:
        if how is not None and not isinstance(how, tf.distribute.MultiWorkerMirroredStrategy):
            raise
        print("lost another worker; starting again, waiting for it")
        sys.stdout.flush()
        os.environ[_REJOINED] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
