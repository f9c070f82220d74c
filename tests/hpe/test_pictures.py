"""What `vis` draws of a network: the right examples, in the right place, the right way up."""

import re

import gin
import keras
import numpy as np
import pytest
from PIL import Image

from ige import configs
from ige.errors import UserError
from ige.hpe import pictures
from ige.hpe.skeleton import convert, get_skeleton

H36M_17 = get_skeleton("h36m_17")
PELVIS = H36M_17.index("pelvis")


class Offset(keras.Model):
    """Stands for a network: knows the truth, and moves the left wrist by 20 micrometres more in
    every row of the split, in a direction that scaling the pose cannot make good."""

    def __init__(self, truth, skeleton):
        super().__init__()
        wrist = skeleton.index("left_wrist")
        hips = [skeleton.index(f"{side}_hip") for side in ("left", "right")]
        across = np.cross(truth[:, wrist] - truth[:, hips].mean(axis=1), [0, 0, 1])
        across /= np.linalg.norm(across, axis=1, keepdims=True)
        self._poses = truth.copy()
        self._poses[:, wrist] += 2e-5 * np.arange(len(truth))[:, np.newaxis] * across

    def predict(self, dataset, verbose):
        assert sum(len(labels) for _, labels in dataset) == len(self._poses)
        return self._poses


@pytest.fixture(scope="module")
def problem(tiny):
    configs.parse(["hpe/b128-1"], tiny)
    problem = gin.get_configurable("hpe.HpeProblem")()
    gin.clear_config()
    return problem


@pytest.fixture(scope="module")
def model(problem):
    _, truth = problem.arrays("test")
    return Offset(truth, problem.skeleton)


@pytest.fixture
def drawn(problem, model, tmp_path, monkeypatch):
    """Draws, and returns what was handed to those who draw, by name, and the folder."""
    calls = {}

    def keep(name, draw):
        def call(*args, **kwargs):
            calls[name] = args
            return draw(*args, **kwargs)

        return call

    for module, name in (
        (pictures.vis, "draw_examples"),
        (pictures.vis, "draw_errors"),
        (pictures, "write_gif"),
        (pictures, "write_viewer"),
    ):
        monkeypatch.setattr(module, name, keep(name, getattr(module, name)))

    def draw(example=None):
        made = problem.vis(model, "test", 256, tmp_path, example)
        return calls, made

    return draw


def test_files(drawn, tmp_path):
    _, made = drawn()
    names = ["poses.png", "errors.png", "sequence.gif", "viewer.html"]
    assert made.paths == [tmp_path / name for name in names]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    assert len(made.figures) == 2
    with Image.open(tmp_path / "sequence.gif") as image:
        assert image.n_frames == 6  # 12 frames at 50 per second, shown at 25


def test_best_median_and_worst(drawn, problem):
    """The error grows from row to row; two of each rank, from two recordings."""
    calls, _ = drawn()
    (examples,) = calls["draw_examples"]
    assert [example.rank for example in examples] == 2 * ["best"] + 2 * ["median"] + 2 * ["worst"]
    rows = problem.examples_per_epoch("test")
    assert rows == 18 * 4 * 12
    views = problem.views("test")

    def name(row):
        sequence, camera = views[row // 12]
        return f"{sequence.subject} {sequence.name}, camera {camera}, frame {row % 12}"

    # A recording has 4 views, which is 48 rows.
    assert [example.name for example in examples[:2]] == [name(0), name(48)]
    assert [example.name for example in examples[4:]] == [name(rows - 1), name(rows - 49)]
    assert {examples[2].name, examples[3].name} == {name(rows // 2 - 1), name(rows // 2)}
    assert examples[4].scaled_error == pytest.approx(0.02 * (rows - 1) / 17, rel=0.05)


def test_errors_are_those_of_the_joints(drawn, problem):
    """One of 17 joints is off."""
    calls, _ = drawn()
    errors, actions, joints, quantity = calls["draw_errors"]
    assert errors.shape == (problem.examples_per_epoch("test"), 17)
    assert list(joints) == list(H36M_17.joints)
    assert quantity == "joint error at the best scale"
    assert actions[:48].tolist() == [problem.views("test")[0][0].action] * 48
    wrist = errors[:, H36M_17.index("left_wrist")]
    np.testing.assert_allclose(wrist, 0.02 * np.arange(len(wrist)), atol=0.02, rtol=0.02)
    assert errors[:, PELVIS].max() == 0


def test_the_sequence_is_in_the_world(drawn, problem):
    """Heights are the recorded ones, and so is where the person goes, seen from the camera."""
    calls, _ = drawn("S9 Walking")
    _, motions, frame_rate = calls["write_gif"]
    seen, truth, predicted = motions
    assert frame_rate == 50
    assert [motion.name for motion in motions] == ["2D input", "ground truth", "prediction"]
    view = next(i for i, (s, _) in enumerate(problem.views("test")) if s.name == "Walking")
    sequence, camera = problem.views("test")[view]
    recorded = convert(sequence.poses, get_skeleton("h36m_32"), H36M_17) / 1000
    np.testing.assert_allclose(truth.poses[..., 2], recorded[..., 2], atol=1e-5)
    lengths = np.linalg.norm(np.diff(recorded[:, PELVIS], axis=0), axis=-1)
    found = np.linalg.norm(np.diff(truth.poses[:, PELVIS], axis=0), axis=-1)
    np.testing.assert_allclose(found, lengths, atol=1e-5)
    # The camera sees on its right what has the larger x here.
    pixels = problem.arrays("test")[0]["pose_2d"][12 * view]
    np.testing.assert_array_equal(seen.poses[0], pixels)
    sides = [truth.poses[0, H36M_17.index(f"{side}_shoulder"), 0] for side in ("left", "right")]
    in_image = [pixels[problem.input_skeleton.index(f"{s}_shoulder"), 0] for s in ("left", "right")]
    assert (sides[0] < sides[1]) == (in_image[0] < in_image[1])
    # The prediction stands where the person does.
    np.testing.assert_allclose(predicted.poses[:, PELVIS], truth.poses[:, PELVIS], atol=1e-5)
    moved = np.linalg.norm(predicted.poses - truth.poses, axis=-1)
    np.testing.assert_allclose(1000 * moved, predicted.errors, atol=0.1)
    del camera


def test_a_camera_can_be_chosen(drawn, problem):
    sequence, camera = problem.views("test")[5]
    calls, _ = drawn(f"{sequence.subject} {sequence.name}, camera {camera}")
    np.testing.assert_array_equal(
        calls["write_gif"][1][0].poses, problem.arrays("test")[0]["pose_2d"][60:72]
    )


def test_the_typical_sequence_is_the_one_of_median_error(drawn, problem):
    """Errors grow from view to view, so it is the one in the middle."""
    calls, _ = drawn()
    middle = len(problem.views("test")) // 2
    np.testing.assert_array_equal(
        calls["write_gif"][1][0].poses,
        problem.arrays("test")[0]["pose_2d"][12 * middle : 12 * middle + 12],
    )


def test_the_viewer_has_the_same_motions(drawn):
    calls, _ = drawn()
    _, motions, title, steps = calls["write_viewer"]
    assert [motion.name for motion in motions] == ["ground truth", "prediction", "2D input"]
    assert re.fullmatch(r"S\d+ \w+, camera \d+", title)
    assert steps == [str(frame) for frame in range(12)]


def test_an_unknown_sequence_is_refused(drawn):
    with pytest.raises(UserError, match=r"^vis.example: got 'S9 Walkin'; did you mean S9 Walking"):
        drawn("S9 Walkin")
