"""Measures how fast `predict` lifts: from keypoints in memory to upright poses, and the files.

python -m benchmarks.predict
"""

import argparse
import pathlib
import tempfile
import time

import gin
import keras
import numpy as np

from benchmarks.processes import describe_machine
from ige import configs
from ige.hpe import predict
from ige.hpe.keypoints import Keypoints
from ige.hpe.layers import ObservedPose, PredictedPose
from ige.hpe.people import choose
from ige.hpe.skeleton import get_skeleton

FRAMES_PER_SECOND = 20_000
_CONFIG = "hpe/b1024-2"
_MISSING = 0.02


def network() -> keras.Model:
    """Returns the network of the config; its weights are fresh, which does not change its speed."""
    configs.parse([_CONFIG])
    skeleton = get_skeleton("h36m_16")
    pose_2d = keras.Input((skeleton.num_joints, 2), name="pose_2d")
    observed = ObservedPose(skeleton, [[-1.0, -1.0], [1.0, 1.0]], [0.01, 1.0])(pose_2d)
    inference_fn = gin.get_configurable("get_baseline_inference")
    output_spec = keras.layers.InputSpec(shape=(skeleton.num_joints, 3))
    outputs = inference_fn({"pose_2d": observed}, output_spec)
    return keras.Model({"pose_2d": pose_2d}, PredictedPose(skeleton)(outputs))


def detections(frames: int) -> Keypoints:
    """Returns a person in COCO's joints who walks about; 2 % of the joints are not seen."""
    rng = np.random.default_rng(0)
    skeleton = get_skeleton("coco_17")
    walk = np.cumsum(rng.normal(0, 0.5, (frames, 1, 2)), axis=0)
    points = 500 + walk + rng.normal(0, 100, (1, 17, 2)) + rng.normal(0, 1, (frames, 17, 2))
    scores = np.where(rng.random((frames, 17)) < _MISSING, 0.0, 0.9)
    points[scores == 0] = np.nan
    names = tuple(map(str, range(frames)))
    return Keypoints(
        pathlib.Path("keypoints.json"), "made", skeleton, points, scores, np.arange(frames), names
    )


def main() -> None:
    """Lifts, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    model, keypoints = network(), detections(arguments.frames)
    machine = describe_machine()
    times = {"lifting": [], "files": []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(arguments.runs):
            start = time.perf_counter()
            track = choose(keypoints, None, 0.3)
            prediction = predict.lift_track(
                track, model, get_skeleton("h36m_17"), predict.Camera(), 30.0
            )
            lifted = time.perf_counter()
            predict.write(prediction, pathlib.Path(folder), picture_frames=0)
            times["lifting"].append(lifted - start)
            times["files"].append(time.perf_counter() - lifted)
    rates = {what: arguments.frames / min(seconds) for what, seconds in times.items()}
    print(
        f"{_CONFIG}, {arguments.frames:,} frames, best of {arguments.runs}: keypoints to upright "
        f"poses {rates['lifting']:,.0f} frames/s (at least {FRAMES_PER_SECOND:,}); .npz, .json "
        f"and .bvh {rates['files']:,.0f} frames/s; {machine}"
    )


if __name__ == "__main__":
    main()
