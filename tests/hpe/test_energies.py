import itertools
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.spatial.transform import Rotation

from ige.errors import UserError
from ige.geometry import cameras
from ige.hpe import energies
from ige.hpe.energies import ConsistencyEnergy, FeasibilityEnergy, PoseEnergy

HIPS = (0, 1)
RADIAL = np.array([[-0.2, 0.25, -0.003]])
TANGENTIAL = np.array([[-0.001, -0.0014]])


@pytest.fixture
def poses(rng):
    """(4, 16, 3): people about 5 m in front of the camera, metres."""
    return rng.normal([0, 0, 5], 0.4, (4, 16, 3))


@pytest.fixture
def pose_2d(rng):
    return rng.normal(0, 0.1, (4, 16, 2))


def conditions(energy, pose_2d, kernel=None):
    """The conditions of the consistency for 2D poses; with a kernel for the observed distances."""
    inputs = keras.Input(pose_2d.shape[1:], dtype=energy.compute_dtype)
    constant = keras.Model(inputs, energy.observe(inputs))
    if kernel is not None:
        constant.set_weights([kernel])
    batch = len(pose_2d)
    tensors = {
        "pose_2d": pose_2d,
        "radial": np.repeat(RADIAL, batch, 0),
        "tangential": np.repeat(TANGENTIAL, batch, 0),
    }
    tensors = {name: tf.constant(array, energy.compute_dtype) for name, array in tensors.items()}
    return tensors | {"observed": constant(tensors["pose_2d"])}


def random_weights(layer, rng):
    """Weights of usual size, for a fresh energy is almost flat."""
    layer.set_weights([rng.normal(0, 0.3, weight.shape) for weight in layer.get_weights()])


def test_pair_distances_by_hand():
    points = energies.coordinates(np.array([[[0.0, 0, 0], [3, 4, 0], [0, 0, 2]]]))
    np.testing.assert_allclose(energies.pair_distances(points), [[25, 4, 29]])


def test_distances_from_others_by_hand():
    points, others = np.array([[[0.0, 0], [1, 1]]]), np.array([[[3.0, 4], [1, 0], [0, 0]]])
    distances = energies.pair_distances(*map(energies.coordinates, (points, others)))
    np.testing.assert_allclose(distances, [[2, 25, 1, 0, 13, 1, 2]])


def test_softabs_by_hand():
    np.testing.assert_allclose(energies.softabs(tf.constant([0.0, 0.75, -0.75])), [0, 0.25, 0.25])


def project(poses, radial, tangential):
    projected = energies.project(energies.coordinates(poses), radial, tangential, 0.1, 2.0)
    return np.stack(projected, axis=-1)


def test_projection_is_that_of_the_camera(poses):
    none = np.zeros(3)
    camera = cameras.Camera(none, none, none, none, RADIAL[0], TANGENTIAL[0])
    np.testing.assert_allclose(
        project(poses, RADIAL, TANGENTIAL),
        cameras.project_normalised(poses, camera),
        rtol=1e-12,
    )


def test_what_no_camera_sees_is_projected_to_the_rim():
    """Without distortion: 3 : 4 to the side at 1 m, 0, and behind the camera; then on its axis."""
    points = np.array([[3.0, 4, 1], [3, 4, 0], [3, 4, -5], [0, 0, 0]])
    projected = project(points[None], np.zeros((1, 3)), np.zeros((1, 2)))[0]
    np.testing.assert_allclose(projected, [[1.2, 1.6]] * 3 + [[0, 0]])
    # 0.01 m to the side at no depth: as at 10 cm.
    near = np.array([[0.01, 0, 0]])
    projected = project(near[None], np.zeros((1, 3)), np.zeros((1, 2)))[0]
    np.testing.assert_allclose(projected, [[0.1, 0]])


def perceptron(features, hidden_kernel, hidden_bias, kernel, bias):
    """Returns the energies (batch,) that the paper's perceptron has for features (batch, n)."""
    outputs = np.log1p(np.exp(features @ hidden_kernel + hidden_bias)) @ kernel + bias
    return (np.sqrt(outputs**2 + 1) - 1).sum(axis=1)


def test_feasibility_is_a_perceptron_of_120_distances_over_that_of_the_hips(poses, rng):
    energy = FeasibilityEnergy(HIPS, dtype="float64")
    energy(poses)
    random_weights(energy, rng)
    pairs = itertools.combinations(range(16), 2)
    distances = np.stack([((poses[:, i] - poses[:, j]) ** 2).sum(-1) for i, j in pairs], axis=1)
    hips = ((poses[:, 0] - poses[:, 1]) ** 2).sum(-1, keepdims=True)
    weights = energy.get_weights()
    assert [weight.shape for weight in weights] == [(120, 256), (256,), (256, 8), (8,)]
    expected = perceptron(distances / hips, *weights)
    np.testing.assert_allclose(energy(poses), expected, rtol=1e-10)


def test_feasibility_sees_neither_position_nor_orientation_nor_size(poses, rng):
    energy = FeasibilityEnergy(HIPS, dtype="float64")
    energy(poses)
    random_weights(energy, rng)
    turned = 3 * poses @ Rotation.random(rng=rng).as_matrix() + [1, 2, 3]
    np.testing.assert_allclose(energy(turned), energy(poses), rtol=1e-9)
    other = poses[:, ::-1] - [0, 0, 1]
    assert not np.isclose(energy(other), energy(poses), rtol=0.01).any()


def test_hips_in_any_order(poses, rng):
    """Of the 16 joints the left hip is the fourth, and the right one the first."""
    energy = FeasibilityEnergy((3, 0), dtype="float64")
    energy(poses)
    random_weights(energy, rng)
    ordered = FeasibilityEnergy((0, 3), dtype="float64")
    ordered(poses)
    ordered.set_weights(energy.get_weights())
    np.testing.assert_allclose(energy(poses), ordered(poses))
    np.testing.assert_allclose(energy(3 * poses), energy(poses), rtol=1e-9)
    assert energy.get_config()["hips"] == [3, 0]


def test_consistency_is_a_perceptron_of_496_distances(poses, pose_2d, rng):
    energy = ConsistencyEnergy(dtype="float64")
    of_observed = rng.normal(0, 0.3, (120, 256))
    given = conditions(energy, pose_2d, of_observed)
    energy(poses, **given)
    random_weights(energy, rng)
    projected = project(poses, RADIAL, TANGENTIAL)
    points = np.concatenate([projected, pose_2d], axis=1)
    kernel, *others = energy.get_weights()
    assert kernel.shape == (376, 256)
    # In the order of the kernel: projected pairs, projected to observed, observed pairs.
    pairs = [
        *itertools.combinations(range(16), 2),
        *itertools.product(range(16), range(16, 32)),
        *itertools.combinations(range(16, 32), 2),
    ]
    assert len(pairs) == len(set(pairs)) == 496
    distances = np.stack([((points[:, i] - points[:, j]) ** 2).sum(-1) for i, j in pairs], axis=1)
    expected = perceptron(distances, np.concatenate([kernel, of_observed]), *others)
    np.testing.assert_allclose(energy(poses, **given), expected, rtol=1e-9)


def test_consistency_does_not_see_the_size_of_a_scene(poses, pose_2d, rng):
    energy = ConsistencyEnergy(dtype="float64")
    given = conditions(energy, pose_2d)
    energy(poses, **given)
    random_weights(energy, rng)
    np.testing.assert_allclose(energy(3 * poses, **given), energy(poses, **given), rtol=1e-9)
    assert not np.isclose(energy(poses + 0.3, **given), energy(poses, **given), rtol=1e-3).any()


def test_a_fresh_energy_is_almost_flat(poses):
    """Variance scaling by 1e-3: kernels have variance 1e-3 / inputs; truncation keeps it."""
    keras.utils.set_random_seed(0)
    energy = FeasibilityEnergy(HIPS)
    energy(poses)
    np.testing.assert_allclose(np.var(energy.hidden.kernel), 1e-3 / 120, rtol=0.05)
    np.testing.assert_allclose(np.var(energy.outputs.kernel), 1e-3 / 256, rtol=0.1)
    inputs = keras.Input((16, 2))
    observed = keras.Model(inputs, ConsistencyEnergy().observe(inputs))
    assert np.var(observed.get_weights()[0]) < 1e-3 / 100


def of_both(pose_2d, rng, dtype="float64"):
    feasibility = FeasibilityEnergy(HIPS, hidden_units=8, num_outputs=2, dtype=dtype)
    consistency = ConsistencyEnergy(hidden_units=8, num_outputs=2, dtype=dtype)
    energy = PoseEnergy(feasibility, consistency, dtype=dtype)
    given = conditions(consistency, pose_2d)
    energy(tf.ones((len(pose_2d), 16, 3), dtype), given)
    random_weights(energy, rng)
    return energy, given


def test_gradient_agrees_with_finite_differences(poses, pose_2d, rng):
    energy, given = of_both(pose_2d, rng)
    point = tf.constant(poses)
    with tf.GradientTape() as tape:
        tape.watch(point)
        value = energy(point, given)
    slope = tape.gradient(value, point).numpy()
    direction = rng.normal(size=poses.shape)
    step = 1e-6
    ahead, behind = (energy(point + sign * step * direction, given) for sign in (1, -1))
    expected = (ahead - behind) / (2 * step)
    np.testing.assert_allclose((slope * direction).sum(axis=(1, 2)), expected, rtol=1e-5)


def test_sum_of_the_terms(poses, pose_2d, rng):
    energy, given = of_both(pose_2d, rng)
    expected = energy.feasibility(poses) + energy.consistency(poses, **given)
    np.testing.assert_allclose(energy(poses, given), expected)


def degenerate(poses):
    """Yields poses without hips, without depth, behind the camera, in a point, far too large."""
    hips, tiny = poses.copy(), poses.copy()
    hips[:, 1] = hips[:, 0]
    tiny[:, 0], tiny[:, 1] = 0, 1e-20
    yield from (hips, tiny)
    for depth in (0.0, 1e-30, -1e-30, -3.0):
        flat = poses.copy()
        flat[..., 2] = depth
        yield flat
    yield from (np.zeros_like(poses), np.ones_like(poses), 1e6 * poses)


def test_all_is_finite_where_depth_or_hips_vanish(poses, pose_2d, rng):
    """The energy, its gradient, and the gradient of that, with which a descent is trained."""
    energy, given = of_both(pose_2d, rng, "float32")
    for pose in degenerate(poses):
        point = tf.constant(pose, tf.float32)
        with tf.GradientTape() as outer:
            outer.watch(point)
            with tf.GradientTape() as inner:
                inner.watch(point)
                value = energy(point, given)
            slope = inner.gradient(value, point)
            norm = tf.reduce_sum(slope**2)
        second = outer.gradient(norm, [point, *energy.trainable_variables])
        for tensor in (value, slope, *second):
            assert np.isfinite(tensor).all()


def test_round_trip(poses, pose_2d, rng, tmp_path):
    feasibility = FeasibilityEnergy(HIPS, 8, 3, 0.5, min_hip_distance=0.2, name="body")
    consistency = ConsistencyEnergy(9, 4, 0.25, min_depth=0.3, max_radius=1.5)
    for energy in (feasibility, consistency):
        again = type(energy).from_config(energy.get_config())
        assert again.get_config() == energy.get_config()
    assert feasibility.get_config()["hips"] == [0, 1]
    assert consistency.get_config()["max_radius"] == 1.5
    energy = PoseEnergy(feasibility, None)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(energy))
    assert again.consistency is None
    assert again.feasibility.get_config() == feasibility.get_config()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_units": 0}, "hidden_units: got 0, expected a whole number from 1 on"),
        ({"num_outputs": 2.5}, "num_outputs: got 2.5, expected a whole number from 1 on"),
        ({"init_scale": -1.0}, "init_scale: got -1.0, expected a number above 0"),
        ({"min_depth": 0}, "min_depth: got 0, expected a number above 0"),
        ({"max_radius": float("inf")}, "max_radius: got inf, expected a number above 0"),
        ({"max_radius": True}, "max_radius: got True, expected a number above 0"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(UserError, match=rf"^hpe\.ConsistencyEnergy\.{re.escape(message)}$"):
        ConsistencyEnergy(**options)
