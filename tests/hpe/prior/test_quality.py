"""How good a prior is, of poses on a line and of a body that are known by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ige.hpe.prior import quality
from ige.hpe.skeleton import get_skeleton

H36M_17 = get_skeleton("h36m_17")
# Poses of one joint at 0, 1, ... 6 of a line; their fifth neighbours are 5, 4, 3, 3, 3, 4, 5 away.
LINE = np.pad(np.arange(7.0)[:, np.newaxis, np.newaxis], ((0, 0), (0, 0), (0, 2)))


def on_line(*places):
    return tf.constant([[[place, 0, 0]] for place in places], tf.float32)


@pytest.mark.parametrize(
    ("places", "density", "coverage"),
    [
        ([3, 100], 7 / 5 / 2, 1),  # in all neighbourhoods, and in none
        ([-4.5, 100], 1 / 5 / 2, 1 / 7),  # in that of 0
        ([-4.5, -4.5], 1 / 5, 1 / 7),  # density counts every one, coverage does not
        ([8.5, -4.5], 3 / 5 / 2, 3 / 7),
        ([100], 0, 0),
    ],
)
def test_density_and_coverage_by_hand(places, density, coverage):
    real, fakes = tf.constant(LINE, tf.float32), on_line(*places)
    assert float(quality.density(real, fakes)) == pytest.approx(density)
    assert float(quality.coverage(real, fakes)) == pytest.approx(coverage)


def test_asymmetry_by_hand():
    """One of six bones on the left is 0.3 longer in one pose, and as much shorter in another."""
    poses = np.zeros((3, 17, 3))
    poses[0, H36M_17.index("left_wrist")] = [0, 0, 0.3]
    poses[1, H36M_17.index("right_wrist")] = [0, 0.3, 0]
    assert float(quality.asymmetry(tf.constant(poses), H36M_17)) == pytest.approx(0.3 / 6 * 2 / 3)


@pytest.fixture
def views():
    """Of a generator that moves one joint, 2 m per unit, along x and z, and not along y."""
    latent = keras.Input((2,), name="latent")
    dense = keras.layers.Dense(3)
    generator = keras.Model({"latent": latent}, keras.layers.Reshape((1, 3))(dense(latent)))
    dense.set_weights([np.array([[1, 0, 0], [0, 0, 1]]), np.zeros(3)])
    return quality._Views(generator, 2.0)


def test_images_by_hand(views):
    """The camera is 4.5 m away and 1 m above the floor; its image's y goes down."""
    poses = tf.constant([[[0, 0, 0.5]], [[0.5, 0, 0]], [[0.5, 0, 0]]])
    images = views.images(poses, tf.constant([0, 0, np.pi / 2], tf.float32)).numpy()
    expected = [[[0, 0]], [[1145 / 4.5, 1145 / 4.5]], [[0, 1145 / 5.5]]]
    np.testing.assert_allclose(images, expected, atol=1e-3)


def test_poses_that_the_prior_has_are_fitted(views):
    poses = tf.constant([[[0.1, 0, 0.4]], [[-0.2, 0, 0.6]], [[0.05, 0, 0.5]]])
    pixels, millimetres = tf.function(views.fit)(poses)
    assert float(pixels) < 0.1
    assert float(millimetres) < 1


def test_what_the_prior_does_not_have_is_left(views):
    """The first image is taken along y: it says nothing of y, where the pose is 0.1 x 2 m off."""
    pixels, millimetres = tf.function(views.fit)(tf.constant([[[0, 0.1, 0.5]]]))
    assert float(pixels) < 0.1
    assert float(millimetres) == pytest.approx(200, rel=1e-3)
