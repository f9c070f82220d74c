import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from ige.errors import UserError
from ige.unroll import UnrolledSGD
from ige.vox.losses import VoxelLoss
from ige.vox.models.baseline import get_baseline_inference
from ige.vox.problem import VoxProblem

TINY = functools.partial(
    get_baseline_inference, encoder="plain", width=0.25, filters=2, input_size=32
)


@pytest.fixture
def problem(toy_shapes):
    return VoxProblem(toy_shapes, VoxelLoss, views=1, held_out_views=2)


def test_views_of_every_split(problem):
    counts = {split: problem.examples_per_epoch(split) for split in ("train", "validation", "test")}
    assert counts == {"train": 6, "validation": 4, "test": 6}
    with pytest.raises(UserError, match=r"^split: got 'tset', expected one of train, validation"):
        problem.examples_per_epoch("tset")


def test_views_that_are_not_stored(toy_shapes):
    """Of held-out shapes as many as there are will do: five by default."""
    problem = VoxProblem(toy_shapes, VoxelLoss, views=3, held_out_views=5)
    with pytest.raises(
        UserError, match=r"^vox\.VoxProblem\.views: got 3, expected at most the 2 that are stored;"
    ):
        problem.examples_per_epoch("train")
    assert problem.examples_per_epoch("validation") == 4


def test_specs_are_those_of_the_data(problem):
    for inputs, labels in problem.get_dataset("test", 4):
        assert inputs.keys() == problem.input_spec.keys()
        for name, spec in problem.input_spec.items():
            assert (inputs[name].shape[1:], inputs[name].dtype) == (spec.shape, spec.dtype)
        assert labels.shape[1:] == problem.output_spec.shape


def test_feed_is_a_function_of_the_step(problem):
    """Whatever step it begins with, and goes through all examples in an epoch."""

    def batches(start, count):
        feed = problem.get_training_feed(2, 3, 0, start, 5)
        rows = (keras.tree.map_structure(lambda t: t[0], chunk) for chunk in feed.chunks)
        return [feed.fetch(row) for row, _ in zip(rows, range(count), strict=False)]

    whole = batches(0, 7)
    for (inputs, labels), (others, other_labels) in zip(whole[4:], batches(4, 3), strict=True):
        np.testing.assert_array_equal(inputs["image"], others["image"])
        np.testing.assert_array_equal(labels, other_labels)
    seen = {labels[i].numpy().tobytes() for _, labels in whole[:3] for i in range(2)}
    assert len(seen) == 6


class Truth(keras.layers.Layer):
    """Predicts grids that it knows, by where the camera is."""

    def __init__(self, centres, logits):
        super().__init__()
        self.centres, self.logits = centres, logits

    def call(self, centre):
        away = keras.ops.sum(keras.ops.abs(centre[:, None] - self.centres[None]), axis=-1)
        return keras.ops.take(self.logits, keras.ops.argmin(away, axis=1), axis=0)


def knowing(problem, split, change, change_of_validation=None):
    """Returns a model that predicts probabilities `change(labels)` of the examples of a split and
    of validation, unless those have a change of their own."""
    centres, logits = [], []
    for name, of_labels in {"validation": change_of_validation or change, split: change}.items():
        for inputs, labels in problem.get_dataset(name, 100):
            probabilities = of_labels(labels.numpy())
            centres.append(inputs["centre"].numpy())
            logits.append(np.log(probabilities / (1 - probabilities)).astype(np.float32))
    inputs = {
        name: keras.Input(spec.shape, dtype=spec.dtype, name=name)
        for name, spec in problem.input_spec.items()
    }
    layer = Truth(np.concatenate(centres), np.concatenate(logits))
    return keras.Model(inputs, layer(inputs["centre"]))


def test_report_of_a_model_that_knows(problem, tmp_path):
    """Solid cells have .7, others .3: right from .3 to .7, all solid below."""
    model = knowing(problem, "test", lambda labels: np.where(labels, 0.7, 0.32))
    for batch_size in (2, 100):
        report = problem.report(model, "test", batch_size, tmp_path)
        assert report.figures["threshold"] == 0.35
        for figure in ("iou", "iou_published", "f_score"):
            assert report.figures[figure] == pytest.approx(100)
        assert report.figures["by_class"].keys() == {"chair", "table"}
        assert report.figures["examples"] == 6
    first, header, *rows = report.text.splitlines()
    assert first == "test: 3 shapes, 2 views of each; threshold 0.35, chosen on validation"
    assert header.split() == ["IoU", "IoU", "at", "0.4", "F-score", "at", "1%"]
    assert [row.rpartition("   ")[0].split("  ")[0] for row in rows] == [
        "chair",
        "table",
        "mean of classes",
        "mean of examples",
    ]


def test_all_of_validation_chooses_the_threshold(problem, tmp_path):
    """That of its first batch would be .65, at which the other shape is empty."""

    def uneven(labels):
        found = np.where(labels, 0.9, 0.62)
        found[2:] = np.where(labels[2:], 0.52, 0.12)
        return found

    model = knowing(problem, "test", lambda labels: np.where(labels, 0.9, 0.12), uneven)
    for batch_size in (2, 4):
        report = problem.report(model, "test", batch_size, tmp_path)
        assert report.figures["threshold"] == 0.15


def test_the_test_split_does_not_choose_the_threshold(problem, tmp_path):
    """Its own best would be .6; at that of validation all of it is solid."""
    model = knowing(
        problem,
        "test",
        lambda labels: np.where(labels, 0.9, 0.62),
        lambda labels: np.where(labels, 0.52, 0.12),
    )
    report = problem.report(model, "test", 6, tmp_path)
    assert report.figures["threshold"] == 0.15
    shares = [100 * shape.occupancy.mean() for shape in problem.dataset.shapes("test")]
    for figure in ("iou", "iou_published"):
        assert report.figures[figure] == pytest.approx(np.mean(shares))
        by_class = {name: row[figure] for name, row in report.figures["by_class"].items()}
        chairs = (shares[0] + shares[2]) / 2
        assert chairs != shares[1]
        assert by_class == pytest.approx({"chair": chairs, "table": shares[1]})
        assert report.figures["over_actions"][figure] == pytest.approx((chairs + shares[1]) / 2)


def rising(state, conditions):
    """A step of 1 adds 1 to every logit."""
    return -tf.reduce_sum(state, axis=(1, 2, 3))


def descending(problem, test_steps=None):
    """Returns a network whose first guess has .35 in solid cells and .12 in empty ones; then .59
    and .27, then .80 and .50."""
    base = knowing(problem, "test", lambda labels: np.where(labels, 0.35, 0.12))
    descent = UnrolledSGD(rising, 2, test_steps, learning_rate=1.0)
    return keras.Model(base.inputs, descent(base.output))


def test_report_of_iterates(toy_shapes, tmp_path):
    problem = VoxProblem(toy_shapes, VoxelLoss, held_out_views=2, every_iterate=True)
    model = problem.for_prediction(descending(problem))
    figures = problem.report(model, "test", 6, tmp_path).figures
    # The lowest above the .502 of empty cells in the last iterate. At .4 all of that is solid.
    assert figures["threshold"] == 0.55
    all_solid = 100 * np.mean([shape.occupancy.mean() for shape in toy_shapes.shapes("test")])
    assert figures["iterates"] == pytest.approx([0, 100, 100])
    assert (figures["iou"], figures["f_score"]) == pytest.approx((100, 100))
    assert figures["iou_published"] == pytest.approx(all_solid)
    fewer = problem.for_prediction(descending(problem, test_steps=1))
    report = problem.report(fewer, "test", 6, tmp_path)
    assert report.figures["threshold"] == 0.3
    assert report.text.splitlines()[-1] == "IoU of the iterates, mean of examples: 100.00  100.00"


@pytest.mark.parametrize("test_steps", [None, 1])
def test_metrics_of_iterates(toy_shapes, test_steps):
    problem = VoxProblem(toy_shapes, VoxelLoss, held_out_views=2, every_iterate=True)
    model = descending(problem, test_steps)
    (inputs, labels), *_ = problem.get_dataset("test", 6)
    found = {}
    for metric in problem.get_metrics(model):
        metric.update_state(labels, model(inputs, training=False))
        found[metric.name] = float(metric.result())
    # Above one half: nothing, what is solid, everything.
    all_solid = np.mean([shape.occupancy.mean() for shape in toy_shapes.shapes("test")])
    expected = (
        {"iou_0": 0, "iou_1": 1, "iou": all_solid} if test_steps is None else {"iou_0": 0, "iou": 1}
    )
    assert found == pytest.approx(expected)


def test_iterates_are_for_networks_that_descend(toy_shapes, tmp_path):
    problem = VoxProblem(toy_shapes, VoxelLoss, every_iterate=True)
    model = problem.build_model(TINY)
    with pytest.raises(UserError) as caught:
        problem.get_metrics(model)
    assert str(caught.value) == (
        "vox.VoxProblem.every_iterate: got True for a network that makes one prediction, expected "
        "one that descends an energy, such as vox/ige4-32"
    )


@pytest.mark.parametrize("option", ["views", "held_out_views"])
def test_there_is_a_view_at_least(toy_shapes, option):
    with pytest.raises(UserError, match=rf"^vox\.VoxProblem\.{option}: got 0, expected an integer"):
        VoxProblem(toy_shapes, VoxelLoss, **{option: 0})
