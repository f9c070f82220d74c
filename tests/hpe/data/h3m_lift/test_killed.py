"""A build that is killed at any moment: the same command then gives the same data set."""

import json
import pathlib
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[4]
# Generating and building changes the file system 30 times, building in place of an older build 23
# times. Each build is killed just before one of these changes.
RNG = np.random.default_rng(0)
POINTS_OF_BUILD = RNG.choice(range(1, 31), 4, replace=False).tolist()
POINTS_OF_REBUILD = RNG.choice(range(1, 24), 6, replace=False).tolist()
ONES = np.ones((2, 32, 3), np.float32)
GENERATED = {"data": "synthetic", "synthetic_sequences": 1, "synthetic_frames": 2}


@pytest.fixture(scope="module")
def build():
    """Returns a function that builds in a process of its own, and returns how that ended."""
    command = [sys.executable, "-m", "tests.hpe.data.h3m_lift.killed"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as process:

        def run(kill_before=None, **arguments):
            request = {"arguments": arguments, "kill_before": kill_before}
            print(json.dumps(request), file=process.stdin, flush=True)
            return int(process.stdout.readline())

        yield run
        process.stdin.close()


def tree(folder):
    """Every file below a folder with its content, and every folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def assert_killed_and_mended(build, kill_before, folder, expected, **arguments):
    """Kills a build in `folder`; the next one gives the same as one in `expected` undisturbed."""
    assert build(kill_before, data_dir=str(folder), **arguments) == -signal.SIGKILL
    assert build(data_dir=str(folder), **arguments) == 0
    assert tree(folder) == tree(expected)


@pytest.fixture(scope="module")
def generated(build, tmp_path_factory):
    """A build of generated data that nobody killed."""
    folder = tmp_path_factory.mktemp("generated")
    assert build(data_dir=str(folder), **GENERATED) == 0
    return folder


@pytest.fixture(scope="module")
def rebuilt(build, files, tmp_path_factory):
    """Returns (files, a build of older ones, one of these made in its place)."""
    root = tmp_path_factory.mktemp("rebuilt")
    manual, older, newer = (root / name for name in ("manual", "older", "newer"))
    path = manual / "data_3d_h36m.npz"
    files.write_npz(path, positions_3d={s: {"Waiting": ONES} for s in files.RECORDINGS})
    assert build(data_dir=str(older), manual_dir=str(manual)) == 0
    files.write_videopose3d(path)
    shutil.copytree(older, newer)
    assert build(data_dir=str(newer), manual_dir=str(manual)) == 0
    assert tree(older) != tree(newer)
    return manual, older, newer


@pytest.mark.parametrize("kill_before", POINTS_OF_BUILD)
def test_a_build_is_killed(build, generated, tmp_path, kill_before):
    assert_killed_and_mended(build, kill_before, tmp_path, generated, **GENERATED)


@pytest.mark.parametrize("kill_before", POINTS_OF_REBUILD)
def test_a_build_in_place_of_an_older_one_is_killed(build, rebuilt, tmp_path, kill_before):
    manual, older, newer = rebuilt
    shutil.copytree(older, tmp_path, dirs_exist_ok=True)
    assert_killed_and_mended(build, kill_before, tmp_path, newer, manual_dir=str(manual))
