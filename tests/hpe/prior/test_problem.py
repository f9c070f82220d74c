import dataclasses
import re
import types

import h5py
import numpy as np
import pytest
import walkers

from ige import runners, runs, transfer
from ige.errors import UserError
from ige.geometry import cameras
from ige.hpe import metrics
from ige.hpe.prior import normalisation, results
from ige.hpe.prior.problem import PosePriorProblem
from ige.hpe.skeleton import get_skeleton
from ige.problem import Pictures

# Recordings of walkers.Dataset: five of each training subject with 40 frames, two of the test's.
FRAMES = 40


def recordings(problem, split):
    return {(view.subject, view.name) for view in problem.views(split)}


@pytest.mark.parametrize(("share", "held_out"), [(0.1, 1), (0.2, 2), (0.34, 3), (0.9, 9)])
def test_held_out_recordings_are_not_trained_on(share, held_out):
    problem = walkers.problem(held_out=share)
    train, validation = (recordings(problem, split) for split in ("train", "validation"))
    assert len(validation) == held_out
    assert not train & validation
    assert len(train | validation) == 10
    assert problem.examples_per_epoch("train") == FRAMES * (10 - held_out)
    assert len(problem.arrays("validation")[1]) == FRAMES * held_out


def test_nothing_is_held_out_on_demand():
    problem = walkers.problem(held_out=0)
    assert not problem.has_validation
    assert len(recordings(problem, "train")) == 10
    assert problem.views("validation") == []
    assert problem.get_metrics(None) == []
    assert problem.judged_by == "generator_loss"


@pytest.mark.parametrize("share", [0, 0.2])
def test_test_subjects_are_never_trained_on(share, monkeypatch):
    """The published code's last version trains on those that it is tested on."""
    problem, asked = walkers.problem(held_out=share), []
    sequences = problem.dataset.sequences
    monkeypatch.setattr(
        problem.dataset, "sequences", lambda split: asked.append(split) or sequences(split)
    )
    problem.arrays("train")
    problem.views("train")
    assert problem.metres == pytest.approx(1.65)
    if share:
        list(problem.get_dataset("validation", 8))
    assert set(asked) == {"train"}
    tested = {view.subject for view in problem.views("test")}
    assert tested == {"S9"}
    assert not tested & {subject for subject, _ in recordings(problem, "train")}


def test_real_poses_are_as_the_prior_has_them():
    problem = walkers.problem(held_out=0)
    inputs, poses = problem.arrays("train")
    assert inputs == {}
    assert poses.shape == (10 * FRAMES, 17, 3)
    assert poses.dtype == np.float32
    skeleton = problem.skeleton
    np.testing.assert_allclose(normalisation.heading(poses, skeleton), 0, atol=1e-5)
    np.testing.assert_allclose(poses[:, skeleton.index("pelvis"), :2], 0, atol=1e-6)
    ankles = [skeleton.index(f"{side}_ankle") for side in ("left", "right")]
    tall = poses[:, skeleton.index("head_top")] - poses[:, ankles].mean(axis=1)
    for person in np.split(tall, 2):  # of the tallest pose of everyone
        assert np.linalg.norm(person, axis=1).max() == pytest.approx(1, abs=1e-5)


def test_poses_in_metres():
    of_heights, in_metres = (walkers.problem(scale_to_height=scale) for scale in (True, False))
    poses = [problem.arrays("train")[1] for problem in (of_heights, in_metres)]
    heights = np.linalg.norm(poses[1], axis=(1, 2)) / np.linalg.norm(poses[0], axis=(1, 2))
    np.testing.assert_allclose(heights, 1.65, rtol=1e-3)
    assert (in_metres.metres, in_metres.start_size) == (1, 1)
    assert (of_heights.metres, of_heights.start_size) == (pytest.approx(1.65, rel=1e-3), 1.65)


def test_held_out_poses_are_one_batch_from_all_over():
    problem = walkers.problem(held_out=0.5)  # 200 poses: 8, every 25th
    batches = list(problem.get_dataset("validation", 3))
    assert len(batches) == 1
    _, poses = problem.arrays("validation")
    expected = poses[[0, 28, 56, 85, 113, 142, 170, 199]]
    np.testing.assert_array_equal(batches[0][1], expected)


def test_few_held_out_poses_are_taken_all_the_same():
    problem = walkers.problem(held_out=0.1)  # 40 poses
    ((_, poses),) = problem.get_dataset("validation", 3)
    assert len(poses) == 6


def shorten(problem, monkeypatch, frames):
    sequences = problem.dataset.sequences
    monkeypatch.setattr(
        problem.dataset,
        "sequences",
        lambda split: [dataclasses.replace(s, poses=s.poses[:frames]) for s in sequences(split)],
    )


def test_too_few_held_out_poses_are_refused(monkeypatch):
    problem = walkers.problem(held_out=0.1)
    shorten(problem, monkeypatch, 5)
    message = (
        "hpe.PosePriorProblem.held_out: got 0.1, which is 5 poses, expected at least 6; choose "
        "more, or 0"
    )
    with pytest.raises(UserError, match=f"^{message}$"):
        problem.get_dataset("validation", 8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latents": 0}, "latents: got 0, expected at least 1"),
        ({"held_out": 1}, "held_out: got 1, expected 0 up to, not including, 1"),
        ({"held_out": -0.1}, "held_out: got -0.1, expected 0 up to, not including, 1"),
        ({"keypoint_noise": -1}, "keypoint_noise: got -1, expected at least 0"),
        ({"keypoint_noise": np.nan}, "keypoint_noise: got nan, expected at least 0"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(UserError, match=f"^{re.escape('hpe.PosePriorProblem.' + message)}\n"):
        walkers.problem(**changes)


def test_a_share_of_no_sequence_is_refused():
    problem = walkers.problem(held_out=0.05)
    message = (
        "hpe.PosePriorProblem.held_out: got 0.05 of 10 training recordings, which is none; choose "
        "more, or 0"
    )
    with pytest.raises(UserError, match=f"^{message}$"):
        problem.views("validation")


def test_views_are_what_cameras_see_of_every_second_frame():
    problem = walkers.problem()
    views = problem.views("test")
    assert [view.key for view in views] == [
        "S9 Walking 1 left",
        "S9 Walking 1 right",
        "S9 Eating 1 left",
        "S9 Eating 1 right",
    ]
    walking = problem.dataset.sequences("test")[0]
    for view in views[:2]:
        assert view.frame_rate == 10
        np.testing.assert_allclose(view.poses, walking.poses[::2] / 1000, rtol=1e-6)
        camera = walkers.CAMERAS[view.camera_id]
        np.testing.assert_allclose(view.camera.translation, camera.translation / 1000)
        points = cameras.world_to_camera(walking.poses[::2].astype(np.float64), camera)
        np.testing.assert_allclose(view.keypoints, cameras.project(points, camera), atol=1e-6)
    everything = problem.views("test", everything=True)
    assert [(len(view.poses), view.frame_rate) for view in everything] == 2 * [(6, 20)] + 2 * [
        (10, 20)
    ]


def test_views_of_one_camera():
    problem = walkers.problem(camera="right")
    assert {view.camera_id for view in problem.views("test")} == {"right"}
    assert len(problem.views("test", everything=True)) == 4
    with pytest.raises(
        UserError,
        match=r"^hpe.PosePriorProblem.camera: got 'rigth'; did you mean right\?; cameras: left, "
        r"right$",
    ):
        walkers.problem(camera="rigth").views("test")


@pytest.mark.parametrize("rate", [8, 15, 40])
def test_a_frame_rate_that_does_not_divide_is_refused(rate):
    message = (
        f"hpe.PosePriorProblem.frame_rate: got {rate}, expected one that divides the 20 frames per "
        "second of the recordings"
    )
    with pytest.raises(UserError, match=f"^{message}$"):
        walkers.problem(frame_rate=rate).views("test")


def test_noise_is_the_same_every_time_and_another_one_for_every_view():
    exact, noisy, again = (
        walkers.problem(keypoint_noise=noise, held_out=0).views("train") for noise in (0, 8, 8)
    )
    noise = [n.keypoints - e.keypoints for n, e in zip(noisy, exact, strict=True)]
    for first, second in zip(noisy, again, strict=True):
        np.testing.assert_array_equal(first.keypoints, second.keypoints)
    assert not np.allclose(noise[0], noise[1])
    # 20 views of 20 frames and 17 joints: 13600 numbers; 4 standard errors.
    assert np.std(noise) == pytest.approx(8, abs=0.2)
    assert np.mean(noise) == pytest.approx(0, abs=0.28)


def test_detections_are_what_is_seen_where_there_are_any(monkeypatch):
    """In a skeleton of their own, of the cameras that have them."""
    problem = walkers.problem()
    (walking, *_), seen = problem.dataset.sequences("test"), get_skeleton("h36m_16")
    keypoints = {"right": np.random.default_rng(0).normal(size=(6, 16, 2)).astype(np.float32)}
    walking = dataclasses.replace(walking, keypoints=keypoints)
    monkeypatch.setattr(problem.dataset, "keypoint_skeleton", seen, raising=False)
    monkeypatch.setattr(problem.dataset, "sequences", lambda split: [walking])
    (view,) = problem.views("test")
    assert view.camera_id == "right"
    assert view.keypoint_skeleton is seen
    np.testing.assert_array_equal(view.keypoints, keypoints["right"][::2])


@pytest.fixture(scope="module")
def prior():
    return walkers.model()


@pytest.fixture
def fits(tmp_path, prior):
    """Writes results: the truth, 1.1 times as large and elsewhere, of so many views."""

    def write(problem, count=4):
        parts = results.Parts(tmp_path / problem.results)
        made = []
        for view in problem.views("test")[:count]:
            frames = len(view.poses)
            poses = 1100 * view.poses + np.array([200, 0, 0])
            blanks = (np.zeros((frames, 2)), np.zeros(frames), np.zeros((frames, 2)), np.ones(()))
            attributes = {"energy": 1.0, "frame_rate": 10.0, "seconds": frames / 4}
            made.append(results.Fit(view.key, poses, *blanks, attributes))
        settings = {"epoch": "7", "weights": transfer.digest(prior)}
        parts.add(made, settings, problem.skeleton)
        parts.join()

    return write


def test_a_report_is_of_what_was_fitted(fits, prior, tmp_path):
    problem = walkers.problem()
    fits(problem)
    report = problem.report(prior, "test", 1, tmp_path)
    assert report.text.startswith(
        "test: fitted with epoch 7 at 4 frames/s; 16 poses of 4 sequences; 17 joints of h36m_17\n"
    )
    figures = report.figures
    assert figures["p_mpjpe"] == pytest.approx(0, abs=1e-2)
    assert figures["sequence_p_mpjpe"] == pytest.approx(0, abs=1e-2)
    assert figures["poses"] == 16
    assert figures["fitted_with"] == {"epoch": "7", "weights": transfer.digest(prior)}
    assert figures["by_action"].keys() == {"Walking", "Eating"}


def test_errors_are_those_of_whole_tracks(fits, tmp_path):
    """One transform for the places of a sequence too: a wrong walk is an error."""
    problem = walkers.problem()
    views = problem.views("test")
    still = [view.poses - view.poses[:, :1] * [1, 1, 0] for view in views]
    _, figures = problem.measure(views, still)
    assert figures["p_mpjpe"] == pytest.approx(0, abs=1e-3)
    expected = metrics.frame_errors(
        np.concatenate(still) * 1000,
        np.concatenate([view.poses for view in views]) * 1000,
        np.repeat(np.arange(4), [len(view.poses) for view in views]),
        root=0,
        whole_tracks=True,
    )["sequence_p_mpjpe"]
    walking = expected[:6].mean()
    assert walking > 5
    assert figures["by_action"]["Walking"]["sequence_p_mpjpe"] == pytest.approx(walking)


def test_a_report_without_results_is_refused(fits, tmp_path):
    problem = walkers.problem()
    path = tmp_path / "results.h5"
    message = f"{path} has not been made; run the same with --command=infer first"
    with pytest.raises(UserError, match=f"^{message}$"):
        problem.report(None, "test", 1, tmp_path)
    fits(problem, count=3)
    message = (
        f"{path} lacks 1 of 4 sequences of the test split, such as S9 Eating 1 right; run the same "
        "with --command=infer"
    )
    with pytest.raises(UserError, match=f"^{message}$"):
        problem.report(None, "test", 1, tmp_path)


def test_a_report_of_what_other_weights_or_frames_were_fitted_with_is_refused(
    fits, prior, tmp_path
):
    problem = walkers.problem()
    fits(problem)
    other = walkers.model()
    other.generator.set_weights([2 * weights for weights in other.generator.get_weights()])
    path = tmp_path / "results.h5"
    message = (
        f"{path} was fitted with other weights of the prior, those of epoch 7, expected these; set "
        "evaluate.checkpoint, or fit again: --command=infer "
        '--gin_param="infer.overwrite=True"'
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        problem.report(other, "test", 1, tmp_path)
    message = (
        f"{path}: S9 Walking 1 left has 3 poses at 10 frames per second, expected 6 at 20; set "
        "hpe.PosePriorProblem.frame_rate, or fit these data again: --command=infer "
        '--gin_param="infer.overwrite=True"'
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        walkers.problem(frame_rate=20.0).report(prior, "test", 1, tmp_path)


def test_as_many_poses_of_another_frame_rate_are_refused(fits, prior, tmp_path):
    """Of six frames every third and every fifth are two, but not the same two."""
    fits(walkers.problem())
    with h5py.File(tmp_path / "results.h5", "r+") as file:
        file["S9 Walking 1 left"].attrs["frame_rate"] = 20 / 3
    with pytest.raises(UserError, match=r"has 3 poses at 6.66667 frames per second, expected 3 at"):
        walkers.problem().report(prior, "test", 1, tmp_path)


def test_parts_of_a_recording_are_held_out_together():
    """HumanEva's chunks are parts of a recording without the frames that have no pose."""
    problem = walkers.problem(held_out=0.34)
    parts = [
        dataclasses.replace(sequence, name=f"{sequence.name} chunk{part}")
        for sequence in problem.dataset.sequences("train")
        for part in range(3)
    ]
    problem.dataset.sequences = lambda split: parts
    train, validation = (
        {(view.subject, view.name.partition(" chunk")[0]) for view in problem.views(split)}
        for split in ("train", "validation")
    )
    assert len(validation) == 3
    assert not train & validation
    assert len(problem.views("validation")) == 2 * 3 * 3  # cameras, recordings, parts


def test_a_model_that_is_no_prior_is_refused():
    problem = walkers.problem()
    problem.check_model(walkers.model(), "here")
    message = "here is no prior of poses, expected one, such as that of apo/h3m-big; to start"
    with pytest.raises(UserError, match=f"^{message}"):
        problem.check_model(walkers.model().generator, "here")
    with pytest.raises(UserError, match=r"^here was trained on inputs \{'latent': \(2,\)\}"):
        walkers.problem(latents=3).check_model(walkers.model(), "here")


@pytest.mark.parametrize("parameter", ["skeleton", "evaluation_skeleton"])
def test_unknown_skeletons_are_refused(parameter):
    message = f"hpe.PosePriorProblem.{parameter}: got 'h36m_18'; did you mean h36m_17 or "
    with pytest.raises(UserError, match=f"^{message}"):
        walkers.problem(**{parameter: "h36m_18"})


@pytest.mark.parametrize("name", ["", "-mine"])
def test_results_have_an_evaluation_and_pictures_of_their_own(fits, tmp_path, monkeypatch, name):
    problem = walkers.problem(results=f"results{name}.h5")
    fits(problem)
    record = {"config": "apo/walkers", "parameters": {}}
    trained = runners.Trained(walkers.model(), tmp_path, 3, 0.5, record, {})
    monkeypatch.setattr(runners, "load_trained", lambda *_: trained)
    monkeypatch.setattr(runners, "default_model_dir", lambda _: tmp_path)
    before = set(tmp_path.iterdir())
    drawn = []
    monkeypatch.setattr(
        PosePriorProblem, "vis", lambda *arguments: drawn.append(arguments[4]) or Pictures([], [])
    )
    runners.evaluate("apo/walkers", problem)
    runners.vis("apo/walkers", problem=problem)
    made = {path.name for path in set(tmp_path.iterdir()) - before}
    assert made == {f"evaluation{name}.json", f"vis{name}"}
    assert drawn == [tmp_path / f"vis{name}"]
    assert runs.evaluated_variants(tmp_path) == [name.removeprefix("-")]


def test_skeletons_that_cannot_be_had_are_refused():
    with pytest.raises(UserError, match="h36m_17"):
        PosePriorProblem(walkers.Dataset(), skeleton="h36m_17", evaluation_skeleton="h36m_24")


def split_of(count, held_out):
    """Returns which of so many training recordings are held out, and which trained with."""
    recorded = [types.SimpleNamespace(subject=f"S{i % 5}", recording=f"{i}") for i in range(count)]
    dataset = types.SimpleNamespace(
        prepare=lambda: None, sequences=lambda split: recorded * (split == "train")
    )
    problem = PosePriorProblem(dataset, "h36m_17", held_out=held_out)
    return tuple(
        [int(s.recording) for s in problem._sequences(split)] for split in ("validation", "train")
    )


@pytest.mark.parametrize(
    ("count", "held_out", "expected"),
    [(20, 0.1, 2), (12, 0.25, 3), (5, 0.4, 2), (4, 0.75, 3), (6, 0, 0), (100, 0.29, 29)],
)
def test_as_many_recordings_are_held_out_as_are_asked_for(count, held_out, expected):
    held, trained = split_of(count, held_out)
    assert len(held) == expected
    assert sorted(held + trained) == list(range(count))
    assert (held, trained) == split_of(count, held_out)  # the same in every run


def test_what_is_held_out_is_drawn():
    """Every tenth of Human3.6M's recordings would be of the same few actions of all subjects."""
    steps = {int(step) for step in np.diff(split_of(200, 0.1)[0])}
    assert len(steps) > 5


def test_holding_out_nothing_by_mistake_is_refused():
    message = (
        "hpe.PosePriorProblem.held_out: got 0.1 of 9 training recordings, which is none; choose "
        "more, or 0"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        split_of(9, 0.1)
