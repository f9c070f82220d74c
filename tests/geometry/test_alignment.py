"""Alignment: invariants, SciPy, degenerate poses, gradients against finite differences."""

import numpy as np
import pytest
import scipy.spatial
import tensorflow as tf
from scipy.spatial.transform import Rotation

from ige.geometry import alignment

CUBE = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)


def squared_error(aligned, truth):
    return np.square(np.asarray(aligned) - truth).sum(axis=(-2, -1))


def gradients(function, predictions, rng):
    """Returns (automatic, central difference) gradients of a random linear form of the result."""
    weights = rng.normal(size=predictions.shape)
    variable = tf.constant(predictions)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        value = tf.reduce_sum(weights * function(variable))
    steps = 1e-6 * np.eye(predictions.size).reshape(-1, *predictions.shape)
    up, down = (
        np.sum(weights * function(tf.constant(predictions + s)).numpy(), (1, 2))
        for s in (steps, -steps)
    )
    return tape.gradient(value, variable).numpy(), ((up - down) / 2e-6).reshape(predictions.shape)


def test_root_aligned_by_hand():
    poses = np.array([[[1.0, 2, 3], [3, 4, 5], [7, 7, 7]]])
    np.testing.assert_array_equal(
        alignment.root_aligned(poses, [0]), [[[0, 0, 0], [2, 2, 2], [6, 5, 4]]]
    )
    np.testing.assert_array_equal(
        alignment.root_aligned(poses, (0, 1)), [[[-1, -1, -1], [1, 1, 1], [5, 4, 3]]]
    )


def test_scale_aligned_by_hand():
    # <p, g> = 2 + 4, <p, p> = 1 + 1: s = 3.
    predictions, truth = np.array([[1.0, 0, 0], [0, 1, 0]]), np.array([[2.0, 5, 0], [6, 4, 1]])
    np.testing.assert_allclose(alignment.scale_aligned(predictions, truth), 3 * predictions)


def test_scale_aligned_is_the_best_scale(rng):
    predictions, truth = rng.normal(size=(2, 50, 6, 3))
    best = squared_error(alignment.scale_aligned(predictions, truth), truth)
    scale = np.sum(predictions * truth, (1, 2)) / np.sum(predictions**2, (1, 2))
    for other in (scale - 0.01, scale + 0.01):
        assert (squared_error(other[:, None, None] * predictions, truth) > best).all()


def test_scale_aligned_undoes_any_scale(rng):
    truth = rng.normal(size=(6, 3))
    for scale in (1e-3, 2.0, -5.0):
        np.testing.assert_allclose(alignment.scale_aligned(scale * truth, truth), truth)


def test_scale_aligned_of_zeros_is_zero_without_gradient(rng):
    predictions, truth = tf.zeros((2, 4, 3), tf.float64), rng.normal(size=(2, 4, 3))
    with tf.GradientTape() as tape:
        tape.watch(predictions)
        aligned = alignment.scale_aligned(predictions, truth)
    np.testing.assert_array_equal(aligned, 0)
    np.testing.assert_array_equal(tape.gradient(aligned, predictions), 0)


def test_gradient_of_scale_aligned(rng):
    predictions, truth = rng.normal(size=(2, 6, 3))
    automatic, expected = gradients(lambda p: alignment.scale_aligned(p, truth), predictions, rng)
    np.testing.assert_allclose(automatic, expected, rtol=1e-6, atol=1e-8)


def scipy_squared_error(predictions, truth):
    predictions, truth = (x - x.mean(axis=0) for x in (predictions, truth))
    rotation, _ = Rotation.align_vectors(truth, predictions)
    turned = rotation.apply(predictions)
    square = np.sum(turned**2)
    scale = np.sum(turned * truth) / square if square else 0.0
    return squared_error(scale * turned, truth)


def degenerate_poses(rng):
    """Returns name -> (predictions, truth), (8, 3)."""
    pose, other = rng.normal(size=(2, 8, 3))
    line = np.outer(rng.normal(size=8), [1.0, 2, -1])
    return {
        "generic": (pose, other),
        "mirrored": (pose * [-1, 1, 1], pose),
        "mirrored through the origin": (-pose, pose),
        "planar": (pose * [1, 1, 0], other),
        "planar truth": (pose, other * [0, 1, 1]),
        "both planar": (pose * [1, 1, 0], other * [0, 1, 1]),
        "planar, mirrored": (pose * [-1, 1, 0], pose * [1, 1, 0]),
        "collinear": (line, other),
        "collinear truth": (pose, line),
        "both collinear": (line, line[::-1] @ np.eye(3)[[1, 2, 0]]),
        "coincident": (np.ones((8, 3)), other),
        "coincident truth": (pose, np.ones((8, 3))),
        "zero": (np.zeros((8, 3)), other),
        "all zero": (np.zeros((8, 3)), np.zeros((8, 3))),
        "isotropic": (CUBE, CUBE @ Rotation.from_rotvec([0.3, -1, 2]).as_matrix()),
        "isotropic, mirrored": (CUBE, CUBE * [-1, 1, 1] + 0.1 * pose),
        "small": (1e-9 * pose, 1e9 * other),
    }


@pytest.mark.filterwarnings("ignore:Optimal rotation is not uniquely:UserWarning")
@pytest.mark.parametrize("name", degenerate_poses(np.random.default_rng(0)))
def test_procrustes_error_agrees_with_scipy(name, rng):
    predictions, truth = degenerate_poses(rng)[name]
    aligned = alignment.procrustes_aligned(predictions, truth).numpy()
    assert np.isfinite(aligned).all()
    expected = scipy_squared_error(predictions, truth)
    unit = max(np.square(truth).sum(), 1e-30)
    np.testing.assert_allclose(squared_error(aligned, truth) / unit, expected / unit, atol=1e-10)


def test_procrustes_agrees_with_scipy_on_random_poses(rng):
    predictions, truth = rng.normal(size=(2, 100, 17, 3)) * 300
    aligned = alignment.procrustes_aligned(predictions, truth).numpy()
    for p, g, a in zip(predictions, truth, aligned, strict=True):
        p, g_centred = p - p.mean(axis=0), g - g.mean(axis=0)
        rotation, _ = Rotation.align_vectors(g_centred, p)
        turned = rotation.apply(p)
        scale = np.sum(turned * g_centred) / np.sum(p**2)
        np.testing.assert_allclose(a, scale * turned + g.mean(axis=0), atol=1e-5)


def test_procrustes_agrees_with_scipy_procrustes_where_no_reflection_is_better(rng):
    truth = rng.normal(size=(30, 10, 3))
    predictions = truth + 0.1 * rng.normal(size=truth.shape)
    aligned = alignment.procrustes_aligned(predictions, truth).numpy()
    for p, g, a in zip(predictions, truth, aligned, strict=True):
        _, _, disparity = scipy.spatial.procrustes(g, p)
        np.testing.assert_allclose(squared_error(a, g) / np.sum((g - g.mean(0)) ** 2), disparity)


def test_procrustes_undoes_any_similarity_transform(rng):
    truth = rng.normal(size=(20, 9, 3))
    turned = truth @ Rotation.random(20, rng=rng).as_matrix()
    predictions = 0.01 * turned + rng.normal(size=(20, 1, 3))
    np.testing.assert_allclose(alignment.procrustes_aligned(predictions, truth), truth, atol=1e-9)


def test_procrustes_does_not_mirror():
    # Four corners of a cube, mirrored: SciPy's own Procrustes, which mirrors, finds no error.
    pose = np.array([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]])
    mirrored = pose * [-1, 1, 1]
    assert scipy.spatial.procrustes(pose, mirrored)[2] < 1e-12
    aligned = alignment.procrustes_aligned(mirrored, pose).numpy()
    assert squared_error(aligned, pose) > 0.1
    edges = aligned[1:] - aligned[0]
    assert np.linalg.det(edges) < 0  # as in the mirrored prediction


@pytest.mark.parametrize("name", degenerate_poses(np.random.default_rng(0)))
def test_nearest_rotation_is_a_rotation(name, rng):
    predictions, truth = degenerate_poses(rng)[name]
    rotation = alignment.nearest_rotation(tf.constant(predictions.T @ truth)).numpy()
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rotation), 1)


def test_procrustes_of_coincident_points_is_the_mean_of_the_truth(rng):
    truth = rng.normal(size=(8, 3))
    aligned = alignment.procrustes_aligned(np.full((8, 3), 4.0), truth)
    np.testing.assert_allclose(aligned, np.tile(truth.mean(axis=0), (8, 1)))


def test_procrustes_of_a_sequence_uses_one_transform(rng):
    # Two frames, each a similarity transform of the truth, but not the same one.
    truth = rng.normal(size=(2, 8, 3))
    predictions = truth * [[[1]], [[2]]]
    one_each = alignment.procrustes_aligned(predictions, truth)
    np.testing.assert_allclose(one_each, truth, atol=1e-12)
    stacked = alignment.procrustes_aligned(predictions.reshape(16, 3), truth.reshape(16, 3))
    assert squared_error(stacked, truth.reshape(16, 3)) > 0.1


def test_procrustes_compiles(rng):
    pairs = [pair for name, pair in degenerate_poses(rng).items() if name != "small"]
    predictions, truth = (np.stack(poses) for poses in zip(*pairs, strict=True))
    compiled = tf.function(alignment.procrustes_aligned, jit_compile=True)(predictions, truth)
    eager = alignment.procrustes_aligned(predictions, truth)
    np.testing.assert_allclose(
        squared_error(compiled, truth), squared_error(eager, truth), atol=1e-6
    )


def test_procrustes_keeps_the_type_and_computes_in_float64(rng):
    # In float32 the covariance of points 1 apart at distance 1e4 would have no correct digit.
    truth = rng.normal(size=(8, 3))
    predictions = (truth + 1e4).astype(np.float32)
    aligned = alignment.procrustes_aligned(predictions, truth.astype(np.float32))
    assert aligned.dtype == tf.float32
    np.testing.assert_allclose(aligned, truth, atol=2e-3)


@pytest.mark.parametrize("name", ["generic", "mirrored", "planar", "isotropic", "planar truth"])
def test_gradient_of_procrustes(name, rng):
    predictions, truth = degenerate_poses(rng)[name]
    if name != "isotropic":  # equal singular values, where gradients of U and V are infinite
        predictions = predictions + 0.1 * rng.normal(size=predictions.shape) * (predictions != 0)
    automatic, expected = gradients(
        lambda p: alignment.procrustes_aligned(p, tf.broadcast_to(truth, p.shape)), predictions, rng
    )
    np.testing.assert_allclose(automatic, expected, rtol=1e-5, atol=1e-7)


def gradient_of_procrustes(predictions, truth, weights):
    with tf.GradientTape() as tape:
        tape.watch(predictions)
        value = tf.reduce_sum(weights * alignment.procrustes_aligned(predictions, truth))
    return tape.gradient(value, predictions)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_gradient_of_procrustes_is_bounded(jit_compile, rng):
    """A change of the prediction by one part changes the result by few parts, degenerate or not."""
    function = tf.function(gradient_of_procrustes, jit_compile=jit_compile)
    weights = tf.constant(rng.normal(size=(8, 3)))
    for name, poses in degenerate_poses(rng).items():
        gradient = function(*map(tf.constant, poses), weights).numpy()
        assert np.isfinite(gradient).all(), name
        sizes = [np.linalg.norm(array) for array in (gradient, *poses)]
        assert sizes[0] * sizes[1] <= 1e3 * sizes[2], name
