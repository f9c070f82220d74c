import types

import keras
import numpy as np
import pytest
import tensorflow as tf
import walkers

from ige.hpe.prior import quality
from ige.hpe.skeleton import get_skeleton

H36M_17 = get_skeleton("h36m_17")


def line(*places):
    """Poses of one joint, on a line."""
    return tf.constant(np.array(places, np.float32).reshape(-1, 1, 1) * [[[1.0, 0, 0]]], tf.float32)


# The 5th neighbours of 0 to 5 are 5, 4, 3, 3, 4 and 5 away.
REAL = line(0, 1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    ("fakes", "density", "coverage"),
    [
        # Within 3 of 2 and of 3, 4 of 1 and of 4, 5 of 0 and of 5: in all 6 neighbourhoods.
        ([2.5], 6 / 5, 1),
        # Of 0 (5), 1 (4 exactly), and not of 2 (3): -3 is 3 from 0, 4 from 1.
        ([-3], 2 / 5, 2 / 6),
        # -4.5 is in that of 0 alone; 100 in none.
        ([-4.5, 100], 1 / 2 / 5, 1 / 6),
        ([100, -100], 0, 0),
    ],
)
def test_density_and_coverage_by_hand(fakes, density, coverage):
    assert float(quality.density(REAL, line(*fakes))) == pytest.approx(density)
    assert float(quality.coverage(REAL, line(*fakes))) == pytest.approx(coverage)


def test_the_same_poses_are_dense_and_cover(rng):
    """Every pose lies in the neighbourhoods of six on average: those of five and its own."""
    poses = tf.constant(rng.normal(size=(200, 17, 3)), tf.float32)
    assert float(quality.coverage(poses, poses)) == 1
    assert float(quality.density(poses, poses)) == pytest.approx(6 / 5, abs=0.02)


def test_more_of_one_distribution_are_as_dense(rng):
    real, fakes = (tf.constant(rng.normal(size=(n, 1, 3)), tf.float32) for n in (300, 2000))
    assert float(quality.density(real, fakes)) == pytest.approx(1, abs=0.1)
    assert float(quality.coverage(real, fakes)) > 0.95
    assert float(quality.coverage(real, fakes[:3])) < 0.2  # few modes


def test_asymmetry_by_hand():
    """One of the left bones is 0.3 longer than the right one."""
    pose = walkers.person()[np.newaxis].copy()
    assert float(quality.asymmetry(pose, H36M_17)) == pytest.approx(0, abs=1e-12)
    knee, ankle = (H36M_17.index(f"left_{joint}") for joint in ("knee", "ankle"))
    along = pose[0, ankle] - pose[0, knee]
    pose[0, ankle] += 0.3 * along / np.linalg.norm(along)
    left = [bone for bone in H36M_17.bones if H36M_17.sides[bone[0]] == "left"]
    assert float(quality.asymmetry(pose, H36M_17)) == pytest.approx(0.3 / len(left))
    # Turned and moved it is the same.
    assert float(quality.asymmetry(-pose[..., [1, 0, 2]] + 5, H36M_17)) == pytest.approx(
        0.3 / len(left)
    )


@pytest.fixture(scope="module")
def measured():
    """Returns a function: held-out poses -> figures of the generator of `walkers`."""
    model = walkers.model()
    metrics = quality.metrics(model, H36M_17, 1.65)

    @tf.function
    def measure(poses):
        for metric in metrics:
            metric.update_state(poses, poses)

    def figures(poses):
        for metric in metrics:
            metric.reset_state()
        measure(tf.constant(poses, tf.float32))
        return {metric.name: float(metric.result()) for metric in metrics}

    return figures


def test_what_the_generator_can_show_is_fitted(measured):
    latents = np.random.default_rng(0).normal(size=(40, 2))
    poses = walkers.person() + np.tensordot(latents, walkers.DIRECTIONS, 1)
    figures = measured(poses)
    assert figures["fit_px"] < 0.1
    assert figures["fit_mm"] < 0.5
    assert figures["coverage"] > 0.9
    assert figures["density"] == pytest.approx(1, abs=0.3)
    # The knees go opposite ways: 0.1 of a height, which changes lengths to the second order.
    assert 0 < figures["asymmetry_mm"] < 50


def test_what_it_cannot_show_is_not(measured):
    """The head is 0.1 of a height too high: 165 mm, which no latent can change."""
    poses = np.repeat(walkers.person()[np.newaxis], 40, axis=0)
    poses[:, H36M_17.index("head_top"), 2] += 0.1
    figures = measured(poses)
    assert figures["fit_mm"] == pytest.approx(165 / 17, rel=0.3)
    # 4.5 m away with a focal length of 1145 pixels.
    assert figures["fit_px"] == pytest.approx(165 / 17 * 1.145 / 4.5, rel=0.3)


def test_a_level_camera_goes_round():
    """From the front, 1 m above the floor and 4.5 m away, and from where it is a quarter on."""
    latent = keras.Input((2,), name="latent")
    views = quality._Views(types.SimpleNamespace(inputs=[latent]), metres=2.0)
    poses = tf.constant([[[0.25, 0.0, 1.0]]] * 2)  # 0.5 m to the side, 2 m high
    images = views.images(poses, tf.constant([0.0, np.pi / 2]))
    expected = [[[0.5 / 4.5, -1 / 4.5]], [[0, -1 / 5]]]
    np.testing.assert_allclose(images, 1145 * np.array(expected), atol=1e-3)
