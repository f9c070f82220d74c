"""Measures the table of errors, every metric of it, for as many poses as Human3.6M's test subjects.

python -m benchmarks.evaluate
"""

import argparse
import time

import numpy as np

from benchmarks.processes import describe_machine
from ige.hpe import metrics
from ige.hpe.skeleton import get_skeleton

SECONDS = 20.0
_SEQUENCE = 2500
_ACTIONS = 15


def main() -> None:
    """Makes poses, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--poses", type=int, default=500_000)
    poses = parser.parse_args().poses
    rng = np.random.default_rng(0)
    skeleton = get_skeleton("h36m_17")
    shape = (poses, skeleton.num_joints, 3)
    truth = rng.normal([0.0, 0.0, 5000.0], 300.0, shape).astype(np.float32)
    predictions = truth + rng.normal(0.0, 50.0, shape).astype(np.float32)
    sequences = np.arange(poses) // _SEQUENCE
    machine = describe_machine()
    start = time.perf_counter()
    errors = metrics.frame_errors(
        predictions, truth, sequences, root=skeleton.index("pelvis"), include_procrustes=True
    )
    table = metrics.format_summary(metrics.summarise(errors, sequences % _ACTIONS))
    seconds = time.perf_counter() - start
    print(table)
    print(f"{poses:,} poses in {seconds:.1f} s (at most {SECONDS:g}); {machine}")


if __name__ == "__main__":
    main()
