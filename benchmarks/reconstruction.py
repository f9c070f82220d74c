"""Measures how fast voxels are reconstructed, how that grows, and what training needs.

    python -m benchmarks.reconstruction

Prints grids/s of `vox/baseline-<R>` and `vox/ige4-<R>` with random weights, random images, R = 32,
64 and 128; the exponent x of time ~ R^x between neighbours and from end to end; and the largest
memory of processes that make training steps. Each figure is from a process of its own.
"""

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

from benchmarks.processes import describe_machine

RESOLUTIONS = (32, 64, 128)
KINDS = ("baseline", "ige4")
_IMAGE_SIZE = 128
_BATCH = 4
_REPEATS = 7
_TRAINED = (("baseline-32", None), ("ige4-32", None), ("baseline-128", 4), ("ige4-128", 4))
"""What is trained, with batches of how many; None for the config's."""


def _network(config: str, batch_size: int | None) -> tuple[Any, dict, Any, int]:
    """Returns the network of a config with random weights, and random examples for it."""
    import gin
    import keras
    import numpy as np

    from ige import configs

    descends = ["init_model_id = None"] if "ige" in config else []
    configs.parse([f"vox/{config}"], descends)
    trained = gin.get_bindings("ige.train")
    batch = batch_size or trained["batch_size"]
    resolution = int(config.rpartition("-")[2])
    shapes = {
        "image": ((_IMAGE_SIZE, _IMAGE_SIZE, 3), "uint8"),
        "silhouette": ((_IMAGE_SIZE, _IMAGE_SIZE), "bool"),
        "rotation": ((3, 3), "float32"),
        "centre": ((3,), "float32"),
        "focal": ((), "float32"),
        "planes": ((2,), "float32"),
    }
    inputs = {
        name: keras.Input(shape, dtype=dtype, name=name) for name, (shape, dtype) in shapes.items()
    }
    spec = keras.layers.InputSpec(shape=(resolution,) * 3, dtype="float32")
    model = keras.Model(inputs, trained["inference_fn"](inputs, spec))

    from ige.vox.views import from_grid, random_views

    rng = np.random.default_rng(0)
    examples = from_grid(random_views("benchmark", batch))._asdict()
    examples["image"] = rng.integers(0, 256, (batch, *shapes["image"][0]), np.uint8)
    examples["silhouette"] = rng.random((batch, *shapes["silhouette"][0])) < 0.5
    labels = rng.random((batch, *spec.shape)) < 0.05
    return model, examples, labels, batch


def _predict(config: str, batch_size: int | None) -> dict[str, float]:
    """Returns the seconds that a grid takes, the median of some batches."""
    import tensorflow as tf

    model, examples, _, batch = _network(config, batch_size)
    outputs = tf.function(lambda inputs: model(inputs, training=False), autograph=False)
    examples = {name: tf.constant(values) for name, values in examples.items()}
    seconds = []
    for _ in range(_REPEATS + 1):
        start = time.perf_counter()
        outputs(examples).numpy()
        seconds.append((time.perf_counter() - start) / batch)
    return {"seconds": statistics.median(seconds[1:])}


def _train(config: str, batch_size: int | None) -> dict[str, float]:
    """Returns the peak memory, and the seconds of the quickest of three steps after the first."""
    import keras
    import tensorflow as tf

    from ige.vox.losses import VoxelLoss

    model, examples, labels, batch = _network(config, batch_size)
    model.compile(keras.optimizers.Adam(), VoxelLoss(), jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    step = tf.function(model.train_step, autograph=False)
    data = tf.nest.map_structure(tf.constant, (examples, labels))
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        float(step(data)["loss"])
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {"seconds": min(seconds[1:]), "gigabytes": peak, "batch": batch}


_PARTS = {"predict": _predict, "train": _train}


def _in_process(part: str, config: str, batch_size: int | None) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.reconstruction", "--part", part]
    command += ["--config", config, "--batch_size", str(batch_size or 0)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def exponent(seconds: dict[int, float], low: int, high: int) -> float:
    """Returns x of time ~ R^x between two resolutions."""
    return math.log(seconds[high] / seconds[low]) / math.log(high / low)


def main() -> None:
    """Prints the tables."""
    print(describe_machine())
    print("| network | " + " | ".join(f"grids/s at {r}" for r in RESOLUTIONS), end=" | ")
    print("x of R^x, 32 to 64 | 64 to 128 | 32 to 128 |")
    print("| --- |" + " --- |" * 6)
    for kind in KINDS:
        seconds = {r: _in_process("predict", f"{kind}-{r}", _BATCH)["seconds"] for r in RESOLUTIONS}
        rates = (f"{1 / seconds[r]:.1f}" for r in RESOLUTIONS)
        pairs = ((32, 64), (64, 128), (32, 128))
        growth = (f"{exponent(seconds, low, high):.2f}" for low, high in pairs)
        print(f"| `vox/{kind}-<R>` | {' | '.join((*rates, *growth))} |", flush=True)
    print("\n| training | batch | s per step | peak memory, GB |\n| --- | --- | --- | --- |")
    for config, batch_size in _TRAINED:
        found = _in_process("train", config, batch_size)
        print(
            f"| `vox/{config}` | {found['batch']} | {found['seconds']:.2f} | "
            f"{found['gigabytes']:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=tuple(_PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--config", help=argparse.SUPPRESS)
    parser.add_argument("--batch_size", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(_PARTS[options.part](options.config, options.batch_size or None)))
    else:
        main()
