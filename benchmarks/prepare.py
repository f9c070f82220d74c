"""Measures `prepare` and the start of training on an archive as large as Human3.6M.

    python -m benchmarks.prepare

Writes `data_3d_h36m.npz`, the layout of VideoPose3D, with procedural motion: 7 subjects, 30
recordings each, 2,500 frames each; with four cameras 2.1 million pairs of poses. Then runs
`--command=prepare` and one epoch of `hpe/b128-1` on it, each in a process of its own. Writing the
archive is not measured. Needs 1 GB of disk in the folder for temporary files (or `--folder`), and a
few minutes.
"""

import argparse
import pathlib
import tempfile

import numpy as np
from tqdm import tqdm

from benchmarks.processes import Measured, Span, describe_machine, run_ige
from ige.hpe.data.h3m_lift.actions import ACTIONS
from ige.hpe.data.h3m_lift.body import BUILDS, pose
from ige.hpe.data.h3m_lift.names import FRAME_RATE

CAMERAS = 4
SECONDS = {"prepare": 180.0, "first training step": 30.0}
GIGABYTES = {"prepare": 6.0, "training, one epoch": 6.0}
"""At most, on 2 cores."""


def write_archive(path: pathlib.Path, recordings: int, frames: int) -> None:
    """Writes `data_3d_h36m.npz` with `recordings` of every subject, `frames` frames each."""
    time = np.arange(frames) / FRAME_RATE
    actions = list(ACTIONS)
    positions = {}
    with tqdm(total=len(BUILDS) * recordings, desc="writing the archive", disable=None) as progress:
        for number, (subject, build) in enumerate(BUILDS.items()):
            positions[subject] = {}
            for i in range(recordings):
                rng = np.random.default_rng([number, i])
                action = actions[i % len(actions)]
                poses = pose(build, ACTIONS[action](rng, build, time))
                metres = (poses / 1000.0).astype(np.float32)
                positions[subject][f"{action} {i // len(actions)}".removesuffix(" 0")] = metres
                progress.update()
    np.savez_compressed(path, positions_3d=np.array(positions, object))


def _time(what: str, span: Span) -> str:
    return (
        f"{what}: {span.seconds:.1f} s (at most {SECONDS[what]:g}), {span.cpu_seconds:.1f} s of CPU"
    )


def _memory(what: str, gigabytes: float) -> str:
    return f"{what}: {gigabytes:.1f} GB (at most {GIGABYTES[what]:g})"


def measure(folder: pathlib.Path) -> dict[str, Measured]:
    """Runs both commands on the archive in `folder`."""
    arguments = [
        "--gin_file=hpe/b128-1",
        f"--gin_param=h3m_lift.manual_dir = '{folder}'",
        f"--gin_param=h3m_lift.data_dir = '{folder / 'tfds'}'",
        f"--gin_param=default_model_dir.base_dir = '{folder / 'models'}'",
        "--epochs=1",
    ]
    return {
        command: run_ige(f"--command={command}", *arguments) for command in ("prepare", "train")
    }


def main() -> None:
    """Writes the archive, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", help="where to work (default: the folder of temporary files)")
    parser.add_argument("--recordings", type=int, default=30, help="of every subject")
    parser.add_argument("--frames", type=int, default=2500, help="of every recording")
    arguments = parser.parse_args()
    machine = describe_machine()
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="ige-benchmark-") as name:
        folder = pathlib.Path(name)
        write_archive(folder / "data_3d_h36m.npz", arguments.recordings, arguments.frames)
        measured = measure(folder)
    pairs = len(BUILDS) * arguments.recordings * arguments.frames * CAMERAS
    print(f"{pairs:,} pairs of poses; {machine}")
    prepare, train = measured["prepare"], measured["train"]
    print(_time("prepare", prepare.whole))
    print(_memory("prepare", prepare.gigabytes))
    print(_time("first training step", train.first_step))
    print(_memory("training, one epoch", train.gigabytes))


if __name__ == "__main__":
    main()
