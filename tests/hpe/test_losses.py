"""Pose loss and metric: hand-worked values, round trips, XLA, and agreement with the evaluator."""

import re
from functools import partial

import gin
import keras
import numpy as np
import pytest
import tensorflow as tf

from ige.errors import UserError
from ige.hpe import metrics
from ige.hpe.losses import PoseLoss, PoseMetric, pose_error
from ige.hpe.skeleton import convert, get_skeleton

# Two joints; the differences are (3, 4, 0) and (0, 0, 2).
TRUE = np.array([[[0.0, 0, 10], [1, 1, 10]]])
PRED = np.array([[[3.0, 4, 10], [1, 1, 12]]])
IN_FRONT = np.array([0, 0, 4])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (25 + 4) / 2),
        ({"order": 1.0}, (5 + 2) / 2),
        ({"order": 3.0}, (125 + 8) / 2),
        ({"joint_reduction": "sum"}, 25 + 4),
        ({"order": 1.0, "joint_reduction": "sum"}, 5 + 2),
        # The second joint relative to the first: (1, 1, 0) and (-2, -3, 2).
        ({"alignment": "origin"}, (0 + 9 + 16 + 4) / 2),
        # Relative to the midpoint, the joints are off by half of that each.
        ({"alignment": "origin", "root": (0, 1)}, 29 / 4),
        # ... and the midpoint itself, now a joint, by nothing.
        ({"alignment": "origin", "root": (0, 1), "append_root": True}, 29 / 4 * 2 / 3),
        # The midpoints are off by (1.5, 2, 1).
        ({"root": (0, 1), "append_root": True}, (25 + 4 + 2.25 + 4 + 1) / 3),
        # One root joint is a joint already.
        ({"root": (1,), "append_root": True}, (25 + 4) / 2),
        ({"std": [[1, 2, 1], [5, 5, 0.5]]}, (9 + 4 + 16) / 2),
        # The root, joint 0, is 10 away: the labels become (0, 0, 1) and (0.1, 0.1, 1).
        ({"rescale_labels": True}, (9 + 16 + 81 + 0.81 + 0.81 + 121) / 2),
    ],
)
def test_values_by_hand(options, expected):
    np.testing.assert_allclose(pose_error(TRUE, PRED, **options), [expected])
    loss = PoseLoss(dtype="float64", **options)
    np.testing.assert_allclose(loss(TRUE, PRED), expected)


def test_best_scale_by_hand():
    # <p, g> = 1, <p, p> = 2: p is halved, and off by (0.5, 0, 0) and (0, -0.5, 0).
    true, pred = np.array([[[1.0, 0, 0], [0, 0, 0]]]), np.array([[[1.0, 0, 0], [0, 1, 0]]])
    np.testing.assert_allclose(pose_error(true, pred, "opt_scale", order=1.0), [0.5])
    np.testing.assert_allclose(pose_error(true, 7 * pred, "opt_scale", order=1.0), [0.5])
    # The magnitude of a negative scale halves -p: off by (1.5, 0, 0) and (0, 0.5, 0).
    np.testing.assert_allclose(pose_error(true, -7 * pred, "opt_scale", order=1.0), [1.0])


def test_appended_root_takes_part_in_the_alignment():
    # <p, g> = 1 + 1 and <p, p> = 1 + 2. The midpoints (1, 0.5, 0) and (0.5, 0.5, 0) add 0.75 to
    # the one and 1.25 to the other.
    true, pred = np.array([[[1.0, 0, 0], [0, 1, 0]]]), np.array([[[1.0, 0, 0], [1, 1, 0]]])
    scaled = 2.75 / 4.25 * pred
    middle = np.concatenate([scaled - true, (scaled - true).mean(axis=1, keepdims=True)], axis=1)
    expected = np.linalg.norm(middle, axis=-1).sum()
    options = {"order": 1.0, "joint_reduction": "sum", "root": (0, 1), "append_root": True}
    np.testing.assert_allclose(pose_error(true, pred, "opt_scale", **options), [expected])


def test_rescaled_labels_weigh_near_and_far_people_alike():
    options = {"alignment": "opt_scale", "order": 1.0, "rescale_labels": True}
    near = pose_error(TRUE, PRED, **options)
    np.testing.assert_allclose(pose_error(5 * TRUE, PRED, **options), near)
    np.testing.assert_allclose(pose_error(TRUE, PRED, "opt_scale", order=1.0), 10 * near)


def test_rescaling_takes_the_distance_of_the_midpoint_of_the_root():
    # Joints at z = 2 and 4: divided by 3.
    true = np.array([[[0.0, 0, 2], [0, 0, 4]]])
    error = pose_error(true, 0 * true, order=1.0, rescale_labels=True, root=(0, 1))
    np.testing.assert_allclose(error, [(2 / 3 + 4 / 3) / 2])


@pytest.mark.parametrize("jit_compile", [False, True])
def test_root_at_the_camera_centre_stays_finite(jit_compile):
    """There is no distance to divide by: the labels become 0, and p costs its own length."""
    true, pred = tf.constant([[[0.0, 0, 0], [1, 2, 3]]]), tf.constant([[[3.0, 0, 4], [0, 2, 0]]])

    @tf.function(jit_compile=jit_compile)
    def evaluate(pred):
        with tf.GradientTape() as tape:
            tape.watch(pred)
            error = pose_error(true, pred, order=1.0, joint_reduction="sum", rescale_labels=True)
        return error, tape.gradient(error, pred)

    error, gradient = evaluate(pred)
    np.testing.assert_allclose(error, [5 + 2])
    np.testing.assert_allclose(gradient, [[[0.6, 0, 0.8], [0, 1, 0]]], rtol=1e-6)


def test_standardised_squared_error_of_martinez(rng):
    true, pred = rng.normal(size=(2, 6, 16, 3))
    mean, std = rng.normal(size=(16, 3)), rng.uniform(0.5, 2, size=(16, 3))
    standardised = [(poses - mean) / std for poses in (true, pred)]
    expected = np.mean(np.square(standardised[0] - standardised[1]))
    loss = PoseLoss(std=std.tolist(), dtype="float64")
    np.testing.assert_allclose(loss(true, pred), 3 * expected)


@pytest.mark.parametrize("alignment", ["none", "origin", "opt_scale"])
@pytest.mark.parametrize("order", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_gradient_is_zero_at_zero_error(alignment, order, jit_compile, rng):
    poses = tf.constant(rng.normal(size=(3, 5, 3)), tf.float32)

    @tf.function(jit_compile=jit_compile)
    def gradient(pred):
        with tf.GradientTape() as tape:
            tape.watch(pred)
            loss = PoseLoss(alignment, order, rescale_labels=False)(poses, pred)
        return tape.gradient(loss, pred)

    assert np.isfinite(gradient(poses)).all()
    if alignment != "opt_scale":  # there the scale is 1 but for rounding
        np.testing.assert_array_equal(gradient(poses), 0)


@pytest.mark.parametrize("alignment", ["none", "origin", "opt_scale"])
@pytest.mark.parametrize("order", [1.0, 2.0])
def test_gradient_agrees_with_finite_differences(alignment, order, rng):
    true, pred = rng.normal(size=(2, 1, 5, 3)) + IN_FRONT
    options = {"alignment": alignment, "order": order, "root": (1, 2), "append_root": True}
    variable = tf.constant(pred)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        value = pose_error(true, variable, **options)
    steps = 1e-6 * np.eye(15).reshape(15, 5, 3)
    true = np.repeat(true, 15, axis=0)
    up, down = (pose_error(true, pred + s, **options).numpy() for s in (steps, -steps))
    expected = ((up - down) / 2e-6).reshape(1, 5, 3)
    np.testing.assert_allclose(tape.gradient(value, variable), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "none"])
def test_reduction_over_the_batch(reduction):
    errors = np.array([14.5, 4 * 14.5])
    true, pred = np.concatenate([TRUE, 2 * TRUE]), np.concatenate([PRED, 2 * PRED])
    expected = {"sum_over_batch_size": errors.mean(), "sum": errors.sum(), "none": errors}
    np.testing.assert_allclose(PoseLoss(reduction=reduction)(true, pred), expected[reduction])


# Three iterates of TRUE, off by (3, 4, 0) in one joint, by (0, 0, 2) in the other, and by nothing.
OFF = np.array([[[3, 4, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 2]], [[0, 0, 0], [0, 0, 0]]])
ITERATES = TRUE[:, np.newaxis] + OFF


@pytest.mark.parametrize(
    ("decay", "expected"), [(0.5, (5 + 2 * 2) / 7), (1.0, (5 + 2) / 3), (2.0, (4 * 5 + 2 * 2) / 7)]
)
def test_loss_of_iterates_weighs_each_by_the_next_one_times_the_decay(decay, expected):
    """The weights 1, 1 / decay, 1 / decay^2 over their sum."""
    loss = PoseLoss(order=1, joint_reduction="sum", iterate_decay=decay)
    assert loss(TRUE, ITERATES).numpy() == pytest.approx(expected)
    both = loss(np.repeat(TRUE, 2, 0), np.concatenate([ITERATES, ITERATES[:, [2, 2, 2]]]))
    assert both.numpy() == pytest.approx(expected / 2)
    assert loss(TRUE, ITERATES[:, :1]).numpy() == pytest.approx(5)


@pytest.mark.parametrize(("iterate", "expected"), [(0, 2500), (1, 1000), (-1, 0)])
def test_metric_of_an_iterate(iterate, expected):
    metric = PoseMetric("none", iterate=iterate)
    assert metric(TRUE, ITERATES).numpy() == pytest.approx(expected)
    assert metric(TRUE, ITERATES[:, iterate]).numpy() == pytest.approx(expected)


def test_loss_round_trip():
    options = {
        "alignment": "opt_scale",
        "order": 1.0,
        "joint_reduction": "sum",
        "rescale_labels": True,
        "root": [0, 1],
        "append_root": True,
        "allow_negative_scale": True,
        "std": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]],
        "iterate_decay": 0.5,
        "reduction": "sum",
        "name": "distance",
        "dtype": "float64",
    }
    loss = PoseLoss(**options)
    assert loss.get_config() == options
    serialised = keras.losses.serialize(loss)
    assert serialised["registered_name"] == "ige>PoseLoss"
    again = keras.losses.deserialize(serialised)
    assert isinstance(again, PoseLoss)
    assert again.get_config() == options
    np.testing.assert_array_equal(again(TRUE, PRED), loss(TRUE, PRED))


def test_loss_is_configurable():
    with gin.unlock_config():
        gin.parse_config("hpe.PoseLoss.order = 1\nhpe.PoseLoss.joint_reduction = 'sum'")
    try:
        np.testing.assert_allclose(PoseLoss(root=(0,))(TRUE, PRED), 7)
        # A saved loss keeps its own settings.
        config = PoseLoss(order=2.0, joint_reduction="mean").get_config()
        np.testing.assert_allclose(PoseLoss.from_config(config)(TRUE, PRED), 14.5)
    finally:
        gin.clear_config()


def test_metric_round_trip():
    options = {"alignment": "opt_scale", "root": [0, 1], "append_root": True}
    options |= {"iterate": 2, "name": "scaled", "dtype": "float32"}
    metric = PoseMetric(**options)
    assert metric.get_config() == options
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert isinstance(again, PoseMetric)
    assert again.get_config() == options
    again.update_state(TRUE, PRED)
    metric.update_state(TRUE, PRED)
    assert float(again.result()) == float(metric.result()) > 0


def test_loss_of_iterates_is_that_of_each(rng):
    """With what an alignment does to each of them by itself."""
    truth = rng.normal(size=(3, 5, 3)) + IN_FRONT
    iterates = rng.normal(size=(3, 4, 5, 3)) + IN_FRONT
    options = {"alignment": "opt_scale", "order": 1, "rescale_labels": True, "reduction": "none"}
    weights = 0.9 ** np.array([0, -1, -2, -3])
    each = np.stack([PoseLoss(**options)(truth, iterates[:, t]) for t in range(4)], axis=1)
    got = PoseLoss(**options)(truth, iterates)
    np.testing.assert_allclose(got, each @ weights / weights.sum(), rtol=1e-5)


def test_metric_in_millimetres_by_hand():
    metric = PoseMetric()
    metric.update_state(TRUE, PRED)
    # sqrt(29) m for joint 1, 0 for the root.
    assert float(metric.result()) == pytest.approx(1000 * 29**0.5 / 2)


def toy_model(joints, jit_compile):
    inputs = keras.Input((joints, 3))
    outputs = keras.layers.Dense(3, kernel_initializer="identity")(inputs)
    model = keras.Model(inputs, outputs)
    model.compile(
        optimizer=keras.optimizers.Adam(0.1),
        loss=PoseLoss("opt_scale", 1.0, "sum", rescale_labels=True, root=(0, 1), append_root=True),
        metrics=[PoseMetric(root=(0, 1), append_root=True)],
        jit_compile=jit_compile,
    )
    return model


@pytest.mark.parametrize("jit_compile", [False, True])
def test_partial_last_batch_weighs_right(jit_compile, rng):
    true, pred = (rng.normal(size=(2, 7, 5, 3)) + IN_FRONT).astype(np.float32)
    results = toy_model(5, jit_compile).evaluate(
        pred, true, batch_size=3, return_dict=True, verbose=0
    )
    options = {"root": (0, 1), "append_root": True, "order": 1.0}
    expected = 1000 * np.mean(pose_error(true, pred, "origin", **options))
    assert results["mpjpe_mm"] == pytest.approx(expected, rel=1e-5)


def test_training_under_xla_lowers_the_loss(rng):
    true = (rng.normal(size=(32, 5, 3)) + IN_FRONT).astype(np.float32)
    history = toy_model(5, True).fit(true * [1, 2, 1], true, epochs=20, batch_size=10, verbose=0)
    losses = history.history["loss"]
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(("alignment", "metric"), [("origin", "mpjpe"), ("opt_scale", "opt_scale")])
def test_metric_agrees_with_the_evaluator(alignment, metric, rng):
    """On 16 joints with the pelvis appended, as on the 17 joints of the evaluator."""
    source, target = get_skeleton("h36m_16"), get_skeleton("h36m_17")
    true, pred = rng.normal(size=(2, 9, 16, 3)) + IN_FRONT
    root = (source.index("left_hip"), source.index("right_hip"))
    keras_metric = PoseMetric(alignment, root=root, append_root=True)
    keras_metric.update_state(true, pred)
    errors = metrics.frame_errors(
        1000 * convert(pred, source, target),
        1000 * convert(true, source, target),
        np.zeros(9),
        root=target.index("pelvis"),
    )
    assert float(keras_metric.result()) == pytest.approx(errors[metric].mean(), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"alignment": "scale"},
            "hpe.PoseLoss.alignment: got 'scale', expected one of none, origin, opt_scale",
        ),
        (
            {"joint_reduction": "max"},
            "hpe.PoseLoss.joint_reduction: got 'max', expected one of mean, sum",
        ),
        ({"order": 0}, "hpe.PoseLoss.order: got 0, expected a number above 0"),
        (
            {"reduction": "avg"},
            "hpe.PoseLoss.reduction: got 'avg', expected one of sum_over_batch_size, sum, mean, "
            "mean_with_sample_weight, none",
        ),
        ({"root": ()}, "hpe.PoseLoss.root: got [], expected indices of one or more joints"),
        ({"root": (-1,)}, "hpe.PoseLoss.root: got [-1], expected indices of one or more joints"),
    ],
)
def test_loss_refusals(options, message):
    with pytest.raises(UserError, match=re.escape(message)):
        PoseLoss(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"alignment": "procrustes"},
            "PoseMetric.alignment: got 'procrustes', expected one of none, origin, opt_scale",
        ),
        ({"root": ()}, "PoseMetric.root: got [], expected indices of one or more joints"),
    ],
)
def test_metric_refusals(options, message):
    with pytest.raises(UserError, match=re.escape(message)):
        PoseMetric(**options)


def test_a_mirrored_pose_costs_more_than_any_other_unless_allowed(rng):
    """-y is scaled to y by the signed scale, to -y by its magnitude: the error is 2 |y|."""
    labels = tf.constant(rng.normal([0, 0, 5], size=(4, 16, 3)))
    norms = tf.reduce_mean(tf.norm(labels, axis=-1), axis=-1)
    error = partial(pose_error, labels, -3 * labels, alignment="opt_scale", order=1)
    np.testing.assert_allclose(error(), 2 * norms, rtol=1e-12)
    np.testing.assert_allclose(error(allow_negative_scale=True), 0, atol=1e-12)


def test_descent_leads_a_mirrored_pose_back_to_the_front():
    """From behind the camera, through its plane, to the pose."""
    labels = tf.constant([[[0.0, 1.0, 5.0], [1.0, 0.0, 5.0]]])
    poses = tf.Variable(-labels + [[[0.5, 0.0, 0.0], [0.0, 0.5, 0.0]]])
    optimizer = keras.optimizers.Adam(0.05)
    optimizer.build([poses])

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(pose_error(labels, poses, alignment="opt_scale", order=1))
        optimizer.apply_gradients([(tape.gradient(loss, poses), poses)])
        return loss

    for _ in range(600):
        loss = step()
    assert (poses.numpy()[..., 2] > 0).all()
    assert float(loss) < 0.5
