"""What `vis` draws of a network: the right examples, in the right place, the right way up."""

import re
import types

import gin
import numpy as np
import pytest
from PIL import Image

from ige import configs
from ige.errors import UserError
from ige.hpe import metrics, pictures
from ige.hpe.skeleton import convert, get_skeleton

H36M_17 = get_skeleton("h36m_17")
PELVIS = H36M_17.index("pelvis")


class Offset:
    """Stands for a network: knows the truth, and moves the left wrist by 20 micrometres more in
    every row of the split, in a direction that scaling the pose cannot make good. Then it scales
    all by 1.3, and turns it about the hips by 0.1 radians about the camera's axis."""

    layers = ()

    def __init__(self, truth, skeleton):
        wrist = skeleton.index("left_wrist")
        hips = [skeleton.index(f"{side}_hip") for side in ("left", "right")]
        root = truth[:, hips].mean(axis=1, keepdims=True)
        relative = (truth - root).astype(np.float64)
        across = np.cross(relative[:, wrist], [0, 0, 1])
        across /= np.linalg.norm(across, axis=1, keepdims=True)
        relative[:, wrist] += 2e-5 * np.arange(len(truth))[:, np.newaxis] * across
        self.straight = 1.3 * relative
        sine, cosine = np.sin(0.1), np.cos(0.1)
        self.turned = self.straight @ [[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]]
        self._poses = self.straight

    def turning(self):
        self._poses = self.turned
        return self

    def predict(self, dataset, verbose):
        assert sum(len(labels) for _, labels in dataset) == len(self._poses)
        return self._poses.astype(np.float32)


@pytest.fixture(scope="module")
def problem(tiny):
    configs.parse(["hpe/b128-1"], tiny)
    problem = gin.get_configurable("hpe.HpeProblem")()
    gin.clear_config()
    return problem


@pytest.fixture(scope="module")
def model(problem):
    _, truth = problem.arrays("test")
    return lambda: Offset(truth, problem.skeleton)


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

    def draw(example=None, network=None, files=False):
        if not files:  # what is drawn is looked at, not drawn
            monkeypatch.setattr(pictures, "save", lambda figure, path: None)
            for name in ("write_gif", "write_viewer"):
                monkeypatch.setattr(pictures, name, keep(name, lambda *args, **kwargs: None))
        made = problem.vis(network or model(), "test", 256, tmp_path, example, tmp_path)
        return calls, made

    return draw


def test_files(drawn, tmp_path):
    _, made = drawn(files=True)
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


def test_examples_are_upright_scaled_and_aligned(drawn, problem, model):
    """Heights are those of the recording; what was moved apart from the wrist is undone: the scale
    in both panels, the turn in one."""
    calls, _ = drawn(network=model().turning())
    (examples,) = calls["draw_examples"]
    views = problem.views("test")
    names = [f"{sequence.subject} {sequence.name}, camera {camera}" for sequence, camera in views]
    others = [joint for joint in range(17) if H36M_17.joints[joint] != "left_wrist"]
    hands = H36M_17.index("left_wrist")
    for example in examples:
        name, _, frame = example.name.rpartition(", frame ")
        view = names.index(name)
        sequence, _ = views[view]
        row = 12 * view + int(frame)
        np.testing.assert_array_equal(example.pose_2d, problem.arrays("test")[0]["pose_2d"][row])
        recorded = convert(sequence.poses[int(frame)], get_skeleton("h36m_32"), H36M_17) / 1000
        recorded -= recorded[PELVIS]
        np.testing.assert_allclose(example.truth[:, 2], recorded[:, 2], atol=1e-5)
        # A turn about the vertical leaves distances in the plane.
        np.testing.assert_allclose(
            np.linalg.norm(example.truth[:, :2], axis=1),
            np.linalg.norm(recorded[:, :2], axis=1),
            atol=1e-5,
        )
        off = 2e-5 * row
        np.testing.assert_allclose(example.aligned[others], example.truth[others], atol=1e-3 + off)
        assert np.linalg.norm(example.aligned[hands] - example.truth[hands]) < 1e-3 + off
        # Turned by 0.1 radians, and as large as before.
        size = np.linalg.norm(example.scaled) / np.linalg.norm(example.truth)
        assert size == pytest.approx(np.cos(0.1), abs=0.006)
        moved = np.linalg.norm(example.scaled - example.truth, axis=1).mean()
        assert example.scaled_error == pytest.approx(1000 * moved, rel=1e-3)
        assert example.scaled_error > 15
        moved = np.linalg.norm(example.aligned - example.truth, axis=1).mean()
        assert example.aligned_error == pytest.approx(1000 * moved, rel=1e-3)
        assert example.aligned_error < 3


def test_joints_that_do_not_count(drawn, tiny, model, tmp_path):
    configs.parse(["hpe/b128-1"], [*tiny, "hpe.HpeProblem.count_root = False"])
    problem = gin.get_configurable("hpe.HpeProblem")()
    calls, _ = drawn()
    (counted,) = calls["draw_examples"]
    problem.vis(model(), "test", 256, tmp_path, None, tmp_path)
    (not_counted,) = calls["draw_examples"]
    assert not_counted[4].scaled_error == pytest.approx(counted[4].scaled_error * 17 / 16)
    errors, _, joints, _ = calls["draw_errors"]
    assert errors.shape[1] == len(joints) == 16
    assert "pelvis" not in joints


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
    sequence, _ = problem.views("test")[view]
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
    assert steps == [str(frame) for frame in range(0, 12, 2)]  # 50 per second shown at 25
    assert [len(motion) for motion in motions] == [6, 6, 6]


def test_an_unknown_sequence_is_refused(drawn):
    with pytest.raises(UserError, match=r"^vis.example: got 'S9 Walkin'; did you mean S9 Walking"):
        drawn("S9 Walkin")


class Descent:
    """Stands for all that a network of two steps predicts: the truth at 1.2 times its size, off by
    0.2 m, 0.1 m and nothing along x; energies are 3, 2 and 1, and the number of the row."""

    def __init__(self, inputs, truth):
        self._rows = {pose.tobytes(): row for row, pose in enumerate(inputs["pose_2d"])}
        self._truth = truth
        self.batch_sizes = set()

    def predict(self, inputs, batch_size, verbose):
        self.batch_sizes.add(batch_size)
        assert inputs.keys() == {"pose_2d"}
        rows = np.array([self._rows[pose.tobytes()] for pose in inputs["pose_2d"]])
        off = np.array([[0.2, 0, 0], [0.1, 0, 0], [0, 0, 0]], np.float32)
        poses = 1.2 * (self._truth[rows, np.newaxis] + off[:, np.newaxis])
        return poses, rows[:, np.newaxis] + np.array([3.0, 2, 1])


@pytest.fixture
def descending(drawn, problem, monkeypatch):
    """As `drawn`, of a network that descends; returns also what was handed to `draw_descent`."""
    whole = Descent(*problem.arrays("test"))
    layer = types.SimpleNamespace(num_steps=1, test_steps=2)
    monkeypatch.setattr(pictures.descents, "whole", lambda model: whole)
    monkeypatch.setattr(pictures.descents, "optimizer", lambda model: layer)
    figures = []
    draw_descent = pictures.vis.draw_descent
    monkeypatch.setattr(
        pictures.vis, "draw_descent", lambda *args: figures.append(args) or draw_descent(*args)
    )

    def draw(example=None, **kwargs):
        calls, made = drawn(example, **kwargs)
        assert whole.batch_sizes == {256}
        return calls | {"draw_descent": figures[-1]}, made

    return draw


def test_files_of_a_descent(descending, tmp_path):
    _, made = descending(files=True)
    names = ["poses.png", "errors.png", "descent.png", "sequence.gif", "viewer.html"]
    assert made.paths == [tmp_path / name for name in names]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    assert len(made.figures) == 3
    page = (tmp_path / "viewer.html").read_text()
    assert '["first guess","step 1","step 2: result"]' in page


def test_errors_of_a_descent_are_those_of_the_report(descending, problem, monkeypatch):
    """Of every ninth pose. Procrustes undoes all that is wrong with the poses."""
    monkeypatch.setattr(pictures, "_DESCENT_POSES", 100)
    calls, _ = descending()
    energies, errors, num_steps = calls["draw_descent"]
    assert num_steps == 1
    rows = np.arange(0, problem.examples_per_epoch("test"), 9)
    np.testing.assert_array_equal(energies, rows[:, np.newaxis] + [3, 2, 1])
    scaled, aligned = errors["best scale about the camera"], errors["Procrustes"]
    assert scaled.shape == aligned.shape == (len(rows), 3)
    assert aligned.max() < 0.01
    assert scaled[:, 2].max() < 0.01
    _, labels = problem.arrays("test")
    truth = 1000 * convert(labels[rows], problem.skeleton, H36M_17)
    for iterate, off in enumerate((200, 100)):
        expected = metrics.frame_errors(truth + np.array([off, 0, 0]), truth, rows, root=PELVIS)[
            "opt_scale"
        ]
        assert expected.min() > off / 2
        np.testing.assert_allclose(scaled[:, iterate], expected, rtol=1e-3)


def test_the_viewer_shows_the_iterates(descending, problem):
    """The result is the truth after scaling, and lies on what the camera saw, distortion and all;
    the iterates before it are on a side of both."""
    sequence, camera = problem.views("test")[5]
    assert np.abs(sequence.cameras[camera].radial).max() > 0.1
    calls, _ = descending(f"{sequence.subject} {sequence.name}, camera {camera}")
    _, motions, _, steps = calls["write_viewer"]
    truth, predicted, seen, projected = motions
    names = ["ground truth", "prediction", "2D input", "projection"]
    assert [motion.name for motion in motions] == names
    assert steps == [str(frame) for frame in range(0, 12, 2)]
    assert predicted.poses.shape == (6, 3, 17, 3)
    np.testing.assert_allclose(predicted.poses[:, 2], truth.poses, atol=1e-5)
    np.testing.assert_allclose(projected.poses[:, 2], seen.poses, atol=1e-6)
    assert projected.unit == seen.unit == "focal lengths"
    assert predicted.errors[:, 2].max() < 0.02
    for iterate in (0, 1):
        off = predicted.poses[:, iterate] - truth.poses
        np.testing.assert_allclose(
            1000 * np.linalg.norm(off, axis=-1), predicted.errors[:, iterate], atol=0.1
        )
        # x is on the camera's right in the image and in the world as it is drawn.
        assert off[..., 0].min() > 0.05
        aside = projected.poses[:, iterate] - seen.poses
        _, labels = problem.arrays("test")
        depth = labels[60:72:2, :, 2]
        np.testing.assert_allclose(aside[..., 0] * depth, 0.2 - 0.1 * iterate, rtol=0.3)


def test_the_page_of_a_descent_has_fewer_frames_and_says_so(descending, monkeypatch):
    monkeypatch.setattr(pictures, "_VIEWER_POSES", 9)
    calls, _ = descending("S9 Walking")
    _, motions, title, steps = calls["write_viewer"]
    assert [len(motion) for motion in motions] == [3, 3, 3, 3]
    assert steps == ["0", "2", "4"]
    assert title.startswith("S9 Walking, camera ")
    assert title.endswith(", up to frame 4")
