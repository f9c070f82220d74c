"""Trains the lifting networks with ige and with eager PyTorch, side by side.

    pip install torch==2.13.0
    python -m benchmarks.lifting

(or `pip install '.[benchmarks]'`, which says the same.)
"""

import keras
import numpy as np

from benchmarks import opponent
from benchmarks.opponent import Comparison, Lifter

RATIOS = {"hpe/b128-1": 4.0, "hpe/b1024-2": 2.0}
"""At least, at batch 64 on 2 cores."""


def operations(model: keras.Model) -> int:
    """Returns the operations in matrix products that training takes per example: two per weight
    forward, for the gradient of the weights, and, but for the first layer, of the inputs."""
    sizes = [int(np.prod(layer.kernel.shape)) for layer in model.layers if hasattr(layer, "kernel")]
    return 6 * sum(sizes) - 2 * sizes[0]


if __name__ == "__main__":
    opponent.main(
        __doc__.splitlines()[0],
        [
            Comparison(config, "hpe.get_baseline_inference", [], Lifter, operations, least)
            for config, least in RATIOS.items()
        ],
    )
