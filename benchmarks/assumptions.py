"""Measures what `predict` assumes, on the recordings of hpe/b128-1: joints put together, and up.

python -m benchmarks.assumptions

Needs Human3.6M (or what lies in its place) and, for the second table, a trained hpe/b128-1.
"""

import argparse

import gin
import numpy as np

from benchmarks.processes import describe_machine
from ige import configs, runners
from ige.geometry import cameras
from ige.geometry.units import MM_PER_METRE
from ige.hpe.gravity import camera_to_upright
from ige.hpe.skeleton import SYNTHESISED, Skeleton, convert, get_skeleton

_CONFIG = "hpe/b128-1"
_RECORDED = get_skeleton("h36m_32")
_TARGET = get_skeleton("h36m_17")


def without(joint: str) -> Skeleton:
    """Returns the joints of the target without one."""
    joints = tuple(name for name in _TARGET.joints if name != joint)
    return Skeleton(f"without {joint}", joints, (-1, *[0] * (len(joints) - 1)))


def put_together(poses: np.ndarray) -> dict[str, np.ndarray]:
    """Returns joint -> distance (n,) from the recorded one, mm, of poses (n, 32, 3)."""
    truth = convert(poses, _RECORDED, _TARGET)
    found = {}
    for joint in SYNTHESISED:
        if joint in _TARGET.joints and _TARGET.sides[_TARGET.index(joint)] == "centre":
            lacking = without(joint)
            made = convert(convert(truth, _TARGET, lacking), lacking, _TARGET)
            index = _TARGET.index(joint)
            found[joint] = np.linalg.norm(made[:, index] - truth[:, index], axis=-1)
    return found


def angle(poses: np.ndarray, rotation: np.ndarray) -> float:
    """Returns degrees between the estimated and the true up, of poses (n, 17, 3) of a camera."""
    estimated = camera_to_upright(poses, _TARGET)[0].T @ [0, 0, 1]
    return float(np.degrees(np.arccos(np.clip(estimated @ rotation @ [0, 0, 1], -1, 1))))


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gin_param", action="append", default=[], help="binding, as for ige")
    name = configs.parse([_CONFIG], parser.parse_args().gin_param)
    problem = gin.get_configurable("hpe.HpeProblem")()
    print(describe_machine())
    recorded = [s for split in ("train", "test") for s in problem.dataset.sequences(split)]
    poses = np.concatenate([sequence.poses for sequence in recorded]).astype(np.float64)
    print(f"joints put together, median distance from the recorded one in {len(poses):,} poses:")
    for joint, distances in put_together(poses).items():
        print(f"  {joint:10}{np.median(distances):6.1f} mm")

    print("up, degrees from the true one: median, 90 % of the views below, most")
    views = problem.views("test")
    true, rotations = [], []
    for sequence, camera_id in views:
        camera = sequence.cameras[camera_id]
        world = convert(sequence.poses.astype(np.float64), _RECORDED, _TARGET)
        true.append(cameras.world_to_camera(world, camera).numpy() / MM_PER_METRE)
        rotations.append(camera.rotation)
    trained = runners.load_trained(name, problem, "evaluate", "last")
    predicted = problem.predict(trained.model, "test", 4096).astype(np.float64)
    predicted = convert(predicted, problem.skeleton, _TARGET)
    ends = np.cumsum([len(sequence.poses) for sequence, _ in views])[:-1]
    for what, moving in (("true poses", true), (_CONFIG, np.split(predicted, ends))):
        angles = [angle(*pair) for pair in zip(moving, rotations, strict=True)]
        figures = (np.median(angles), np.quantile(angles, 0.9), max(angles))
        print(f"  {what:12}" + "".join(f"{figure:6.1f}" for figure in figures))


if __name__ == "__main__":
    main()
