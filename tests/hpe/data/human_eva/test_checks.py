import numpy as np

from ige.hpe.data.human_eva.checks import Reading, cut


def poses_of(text):
    """A pose per digit, of which one joint is not finite where there is an X."""
    poses = np.zeros((len(text), 2, 3))
    for frame, letter in enumerate(text):
        poses[frame] = 0.0 if letter == "X" else float(letter)
        poses[frame, 1, 2] = np.nan if letter == "X" else float(letter)
    return poses


def test_runs_are_numbered_like_videopose3ds():
    chunks = cut(poses_of("012XX567X9"))
    read = {number: poses[:, 0, 0].tolist() for number, poses in chunks.items()}
    assert read == {0: [0, 1, 2], 2: [5, 6, 7], 4: [9]}
    assert Reading(chunks, 10).left_out == 3
    assert {poses.dtype for poses in chunks.values()} == {np.dtype(np.float32)}


def test_runs_at_the_ends():
    assert {number: len(poses) for number, poses in cut(poses_of("X12")).items()} == {1: 2}
    assert {number: len(poses) for number, poses in cut(poses_of("12")).items()} == {0: 2}
    assert cut(poses_of("XX")) == {}


def test_what_is_too_large_for_float32_is_no_pose():
    poses = poses_of("123")
    poses[1, 0, 0] = 1e300
    assert {number: len(run) for number, run in cut(poses).items()} == {0: 1, 2: 1}
