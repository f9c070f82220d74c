"""The evaluator: values by hand, invariants of the alignments, averages, the table, refusals."""

import json
import re

import numpy as np
import pytest

from ige.errors import UserError
from ige.hpe import metrics
from ige.hpe.metrics import format_summary, frame_errors, summarise

# Root and two joints, mm.
TRUE = np.array([[0.0, 0, 4000], [300, 0, 4000], [0, 400, 4000]])
ONE = np.zeros(1)


def moved(*offsets):
    """Returns the true pose with every joint moved by an offset, mm."""
    return TRUE + np.array(offsets, float)


def error_of(prediction, metric, **options):
    options = {"root": 0} | options
    return frame_errors(np.array([prediction], float), TRUE[None], ONE, **options)[metric][0]


def test_metrics_are_the_documented_ones():
    errors = frame_errors(TRUE[None], TRUE[None], ONE, root=0)
    assert list(errors) == [
        "mpjpe",
        "n_mpjpe",
        "p_mpjpe",
        "opt_scale",
        "sequence_p_mpjpe",
        "mpjve",
        "pck150",
        "auc",
    ]
    assert {values.shape for values in errors.values()} == {(1,)}
    assert {values.dtype for values in errors.values()} == {np.dtype(np.float64)}


def test_perfect_predictions(rng):
    poses = rng.normal(size=(5, 6, 3)) * 300
    errors = frame_errors(poses, poses, [1, 1, 1, 2, 2], root=2)
    for metric in ("mpjpe", "n_mpjpe", "p_mpjpe", "opt_scale", "sequence_p_mpjpe"):
        np.testing.assert_allclose(errors[metric], 0, atol=1e-9)
    np.testing.assert_array_equal(errors["mpjve"], [np.nan, 0, 0, np.nan, 0])
    np.testing.assert_array_equal(errors["pck150"], 100)
    np.testing.assert_array_equal(errors["auc"], 100)


def test_mpjpe_by_hand():
    # Moved as a whole by (7, 8, 9), then the joints off by 3-4-5 and by 13.
    prediction = moved([0, 0, 0], [3, 0, 4], [0, 0, -13]) + np.array([7, 8, 9])
    assert error_of(prediction, "mpjpe") == pytest.approx((0 + 5 + 13) / 3)
    # With joint 1 as the root the others are off by (-3, 0, -4) and (-3, 0, -17).
    expected = (5 + 0 + np.sqrt(9 + 289)) / 3
    assert error_of(prediction, "mpjpe", root=1) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"count_root": False}, (5 + 13) / 2),
        ({"joints": [0, 2]}, (0 + 13) / 2),
        ({"joints": [0, 2], "count_root": False}, 13),
        ({"joints": (1,)}, 5),
    ],
)
def test_joints_that_count(options, expected):
    prediction = moved([0, 0, 0], [3, 0, 4], [0, 0, -13])
    assert error_of(prediction, "mpjpe", **options) == pytest.approx(expected)


def test_alignments_use_the_joints_that_do_not_count():
    # Joint 1 is right, joint 2 twice as far out: s = (300^2 + 2 400^2) / (300^2 + 4 400^2).
    prediction = moved([0, 0, 0], [0, 0, 0], [0, 400, 0])
    scale = (9 + 32) / (9 + 64)
    assert error_of(prediction, "n_mpjpe", joints=[1]) == pytest.approx(300 * (1 - scale))
    assert error_of(prediction, "p_mpjpe", joints=[1]) > 1


def test_n_mpjpe_by_hand():
    # Relative poses: p = g but for joint 1, half as far out. In 100 mm: <p, g> = 4.5 + 16,
    # <p, p> = 2.25 + 16.
    prediction = moved([0, 0, 0], [-150, 0, 0], [0, 0, 0])
    scale = 20.5 / 18.25
    expected = (0 + abs(150 * scale - 300) + abs(400 * scale - 400)) / 3
    assert error_of(prediction, "n_mpjpe") == pytest.approx(expected)


def test_optimal_scale_is_about_the_camera_centre():
    assert error_of(0.01 * TRUE, "opt_scale") == pytest.approx(0, abs=1e-9)
    # Relative to the root, a pose moved sideways is right; about the camera centre it is not:
    # <p, g> / <p, p> with p = g + (30, 0, 0).
    prediction = moved(*[[30, 0, 0]] * 3)
    scale = np.sum(prediction * TRUE) / np.sum(prediction**2)
    expected = np.linalg.norm(scale * prediction - TRUE, axis=1).mean()
    assert expected > 10
    assert error_of(prediction, "n_mpjpe") == pytest.approx(0, abs=1e-9)
    assert error_of(prediction, "opt_scale") == pytest.approx(expected)


def turned(poses, scale=1.0):
    """Returns poses turned by a quarter about z, scaled and moved."""
    return scale * poses @ [[0, 1, 0], [-1, 0, 0], [0, 0, 1]] + [10, 20, 30]


def test_procrustes_forgives_similarity_transforms_but_no_reflection(rng):
    poses = rng.normal(size=(4, 8, 3)) * 300
    ids = np.zeros(4)
    scales = np.array([1, 2, 3, 4]).reshape(4, 1, 1)
    errors = frame_errors(turned(poses, scales), poses, ids, root=0)
    np.testing.assert_allclose(errors["p_mpjpe"], 0, atol=1e-9)
    assert (errors["sequence_p_mpjpe"] > 10).all()
    errors = frame_errors(poses * [-1, 1, 1], poses, ids, root=0)
    assert (errors["p_mpjpe"] > 10).all()


def test_sequence_procrustes_uses_one_transform_per_sequence(rng):
    poses = rng.normal(size=(4, 8, 3)) * 300
    scales = np.array([2, 2, 5, 5]).reshape(4, 1, 1)
    predictions = turned(poses, scales) + rng.normal(size=(4, 1, 3)) * 1000  # the root may move
    errors = frame_errors(predictions, poses, ["a", "a", "b", "b"], root=0)
    np.testing.assert_allclose(errors["sequence_p_mpjpe"], 0, atol=1e-9)
    errors = frame_errors(predictions, poses, ["a"] * 4, root=0)
    assert (errors["sequence_p_mpjpe"] > 10).all()


def test_whole_tracks_count_where_people_are(rng):
    """A root that wanders is an error of a track; a track that is turned and scaled is none."""
    poses = rng.normal(size=(4, 8, 3)) * 300
    wandering = poses + rng.normal(size=(4, 1, 3)) * 1000
    for predictions, whole_tracks, wrong in (
        (wandering, False, False),
        (wandering, True, True),
        (turned(wandering, 2), False, False),
    ):
        errors = frame_errors(predictions, poses, ONE.repeat(4), root=0, whole_tracks=whole_tracks)
        assert (errors["sequence_p_mpjpe"].max() > 10) == wrong
        np.testing.assert_allclose(errors["p_mpjpe"], 0, atol=1e-9)
    errors = frame_errors(turned(wandering, 2), wandering, ONE.repeat(4), root=0, whole_tracks=True)
    np.testing.assert_allclose(errors["sequence_p_mpjpe"], 0, atol=1e-9)


def test_whole_tracks_by_hand():
    """Two poses, one on either side, are 100 mm nearer to the middle than they should be."""
    truth = TRUE + np.array([[[200, 0, 0]], [[-200, 0, 0]]])
    poses = TRUE + np.array([[[100, 0, 0]], [[-100, 0, 0]]])
    options = {"root": 0, "include_procrustes": True}
    apart = frame_errors(poses, truth, np.zeros(2), **options)["sequence_p_mpjpe"]
    np.testing.assert_allclose(apart, 0, atol=1e-9)
    whole = frame_errors(poses, truth, np.zeros(2), **options, whole_tracks=True)
    # The best scale makes neither the poses nor the way right.
    assert (whole["sequence_p_mpjpe"] > 10).all()
    assert (whole["sequence_p_mpjpe"] < 100).all()


def test_velocity_by_hand():
    """Joint 1 is off by 0, 6, 6 and, in the second sequence, 100, 103 mm along x."""
    truth = np.tile(TRUE, (5, 1, 1)) + np.arange(5).reshape(5, 1, 1)
    prediction = truth.copy()
    prediction[:, 1, 0] += [0, 6, 6, 100, 103]
    prediction += np.array([5, 9, -4, 8, 0]).reshape(5, 1, 1)  # of the root: does not count
    errors = frame_errors(prediction, truth, [7, 7, 7, 3, 3], root=0)
    np.testing.assert_allclose(errors["mpjve"], [np.nan, 2, 0, np.nan, 1])
    errors = frame_errors(prediction, truth, [7, 7, 7, 3, 3], root=0, count_root=False)
    np.testing.assert_allclose(errors["mpjve"], [np.nan, 3, 0, np.nan, 1.5])


@pytest.mark.parametrize(
    ("distance", "pck", "passed"),
    [
        (0, 100, 31),
        (0.1, 100, 30),
        (5, 100, 30),
        (5.1, 100, 29),
        (149, 100, 1),
        (150, 100, 1),
        (150.1, 0, 0),
        (1000, 0, 0),
    ],
)
def test_correct_joints_by_hand(distance, pck, passed):
    prediction = moved([0, 0, 0], [0, 0, distance], [0, 0, 0])
    # An error equal to a threshold is within it; 31 thresholds 0, 5, ..., 150.
    assert error_of(prediction, "pck150", joints=[1]) == pck
    assert error_of(prediction, "auc", joints=[1]) == pytest.approx(100 * passed / 31)
    assert error_of(prediction, "pck150") == pytest.approx((200 + pck) / 3)
    assert error_of(prediction, "auc") == pytest.approx((200 + 100 * passed / 31) / 3)


def test_auc_is_the_mean_of_pck_over_thresholds(rng):
    truth = rng.normal(size=(50, 6, 3)) * 300
    predictions = truth + rng.normal(size=truth.shape) * 60
    relative = [poses - poses[:, :1] for poses in (predictions, truth)]
    distances = np.linalg.norm(relative[0] - relative[1], axis=-1)
    curve = [100 * (distances <= threshold).mean(axis=1) for threshold in range(0, 151, 5)]
    assert len(curve) == 31
    errors = frame_errors(predictions, truth, np.zeros(50), root=0)
    np.testing.assert_allclose(errors["auc"], np.mean(curve, axis=0))
    np.testing.assert_allclose(errors["pck150"], curve[-1])


def test_undefined_metrics_are_nan(rng):
    poses = rng.normal(size=(3, 5, 3))
    errors = frame_errors(
        poses, poses, np.arange(3), root=0, include_procrustes=False, absolute=False
    )
    undefined = {metric for metric, values in errors.items() if np.isnan(values).all()}
    assert undefined == {"p_mpjpe", "sequence_p_mpjpe", "opt_scale", "mpjve"}
    assert not any(np.isnan(errors[metric]).any() for metric in errors.keys() - undefined)


def test_blocks_do_not_change_the_result(rng, monkeypatch):
    truth = rng.normal(size=(60, 5, 3)) * 300
    predictions = truth + rng.normal(size=truth.shape) * 60
    ids = np.repeat(["b", "c", "a", "d"], [1, 30, 19, 10])
    whole = frame_errors(predictions, truth, ids, root=0)
    monkeypatch.setattr(metrics, "_BLOCK", 20)
    blocks = frame_errors(predictions, truth, ids, root=0)
    for metric in whole:
        np.testing.assert_allclose(blocks[metric], whole[metric], rtol=1e-9)
    assert np.flatnonzero(np.isnan(blocks["mpjve"])).tolist() == [0, 1, 31, 50]


def test_float32_is_computed_in_float64():
    # At 1e6 mm float32 has steps of 0.0625 mm, which this difference is not a multiple of.
    truth = np.array([[[0, 0, 1e6], [0, 0, 1.25e6]]], np.float32)
    prediction = np.array([[[0.01, 0, 1e6], [0, 0, 1.25e6]]], np.float32)
    error = frame_errors(prediction, truth, ONE, root=0)["mpjpe"][0]
    assert error == pytest.approx(float(np.float32(0.01)) / 2, rel=1e-9)


def test_averages_by_hand():
    errors = {"mpjpe": np.array([1.0, 2, 3, 10]), "mpjve": np.array([np.nan, 4, 6, np.nan])}
    errors["opt_scale"] = np.full(4, np.nan)
    summary = summarise(errors, ["Walking", "Walking", "Walking", "Eating"])
    assert summary == {
        "over_frames": {"mpjpe": 4.0, "mpjve": 5.0, "opt_scale": None},
        "over_actions": {"mpjpe": (2 + 10) / 2, "mpjve": 5.0, "opt_scale": None},
        "by_action": {
            "Eating": {"mpjpe": 10.0, "mpjve": None, "opt_scale": None},
            "Walking": {"mpjpe": 2.0, "mpjve": 5.0, "opt_scale": None},
        },
    }
    assert list(summary["by_action"]) == ["Eating", "Walking"]
    assert json.loads(json.dumps(summary)) == summary


def test_table():
    errors = {"mpjpe": np.array([1.0, 2, 3, 10]), "mpjve": np.array([np.nan, 4, 6, np.nan])}
    errors["auc"] = np.array([100.0, 50, 0, 75])
    errors["opt_scale"] = np.full(4, np.nan)
    table = format_summary(summarise(errors, ["Walking", "Walking", "Walking", "Eating"]))
    assert table.splitlines() == [
        "                           MPJPE     MPJVE          AUC",
        "                   root-relative  velocity  0 to 150 mm",
        "action                        mm  mm/frame            %",
        "-------------------------------------------------------",
        "Eating                     10.00         -        75.00",
        "Walking                     2.00      5.00        50.00",
        "-------------------------------------------------------",
        "mean over actions           6.00      5.00        62.50",
        "mean over frames            4.00      5.00        56.25",
    ]


def test_table_names_its_groups():
    errors = {"mpjpe": np.array([1.0])}
    assert format_summary(summarise(errors, ["S9"]), "subject").splitlines()[2].split() == [
        "subject",
        "mm",
    ]


POSES = np.zeros((4, 3, 3))
BAD = POSES.copy()
BAD[2, 1, 0] = np.nan
BAD[3, 0, 0] = np.inf


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (
            (POSES[:, :2], POSES, np.zeros(4)),
            {},
            "predictions: got shape (4, 2, 3), expected (4, 3, 3)",
        ),
        (
            (POSES, POSES[..., :2], np.zeros(4)),
            {},
            "truth: got shape (4, 3, 2), expected (poses, joints, 3), at least one of each",
        ),
        (
            (POSES[:0], POSES[:0], np.zeros(0)),
            {},
            "truth: got shape (0, 3, 3), expected (poses, joints, 3), at least one of each",
        ),
        (
            (BAD, POSES, np.zeros(4)),
            {},
            "predictions: got NaN or infinity in 2 of 4 poses, first in row 2, expected finite "
            "numbers",
        ),
        (
            (POSES, BAD, np.zeros(4)),
            {},
            "truth: got NaN or infinity in 2 of 4 poses, first in row 2, expected finite numbers",
        ),
        (
            (POSES, POSES, np.zeros(3)),
            {},
            "sequence_ids: got shape (3,), expected (4,), one per pose",
        ),
        (
            (POSES, POSES, [5, 6, 6, 5]),
            {},
            "sequence_ids: got the rows of sequence 5 in 2 pieces, expected them next to each "
            "other and in the order of time",
        ),
        (
            (POSES, POSES, np.zeros(4)),
            {"root": 3},
            "root: got 3, expected the index of one of 3 joints",
        ),
        (
            (POSES, POSES, np.zeros(4)),
            {"root": -1},
            "root: got -1, expected the index of one of 3 joints",
        ),
        (
            (POSES, POSES, np.zeros(4)),
            {"joints": [0, 3]},
            "joints: got [0, 3], expected indices of 3 joints, each at most once",
        ),
        (
            (POSES, POSES, np.zeros(4)),
            {"joints": [1, 1]},
            "joints: got [1, 1], expected indices of 3 joints, each at most once",
        ),
        (
            (POSES, POSES, np.zeros(4)),
            {"joints": [0], "count_root": False},
            "joints: got none to average over, expected at least one joint",
        ),
    ],
)
def test_refusals(arguments, options, message):
    with pytest.raises(UserError, match=re.escape(message)):
        frame_errors(*arguments, **({"root": 0} | options))


def test_refusal_of_groups():
    message = "groups: got shape (2,), expected (3,), one per pose"
    with pytest.raises(UserError, match=re.escape(message)):
        summarise({"mpjpe": np.zeros(3)}, ["a", "b"])
