"""What reads a prior's parameters, of a body that is known by hand."""

import keras
import numpy as np
import pytest

from ige.hpe.models.guess import LevelledEnergy, OverOrigin, PlacedPose, PlaceOnGround

POSE = np.array([[0, 0, 0], [0.3, 0.1, 0.5], [-0.3, 0, 0.5], [0, -0.1, 1]], np.float32)
EYE = np.eye(4).tolist()
HEIGHT = 1.2
# Latent, heading, place on the ground.
STATE = np.array([[0.5, -1.0, np.pi / 2, 0.7, 4.0]], np.float32)
# Of twice the pose, turned from x to y.
PLACED = np.stack([-2 * POSE[:, 1] + 0.7, 2 * POSE[:, 0] + 4, 2 * POSE[:, 2]], axis=1)
DIRECTIONS = np.stack([PLACED[:, 0], PLACED[:, 2] - HEIGHT], axis=1) / PLACED[:, 1:2]


@pytest.fixture
def placed():
    latent = keras.Input((2,), name="latent")
    dense = keras.layers.Dense(12)
    pose = keras.layers.Reshape((4, 3))(dense(latent))
    generator = keras.Model({"latent": latent}, pose)
    dense.set_weights([np.zeros((2, 12)), POSE.ravel()])
    return PlacedPose(generator, 2.0)


def test_poses_are_placed_by_hand(placed):
    np.testing.assert_allclose(placed(STATE)[0], PLACED, atol=1e-6)
    several = np.stack([STATE, STATE], axis=1)
    np.testing.assert_allclose(placed(several)[0, 1], PLACED, atol=1e-6)


def test_people_are_put_where_they_were_seen(placed):
    over_origin = np.concatenate([STATE[:, :3], np.zeros((1, 2), np.float32)], axis=1)
    args = (placed(over_origin), DIRECTIONS[np.newaxis], np.full((1, 1), HEIGHT, np.float32))
    np.testing.assert_allclose(PlaceOnGround(EYE)(over_origin, *args), STATE, atol=1e-4)


def test_energy_by_hand(placed):
    """None where the pose was seen; 0.1 off in one direction, and half the latents' squares."""
    energy = LevelledEnergy(placed, EYE, prior=0.1)
    seen = DIRECTIONS[np.newaxis].copy()
    seen[0, 2, 1] += 0.1
    conditions = {"directions": seen, "camera_height": np.full((1, 1), HEIGHT, np.float32)}
    expected = (1.145 * 0.1) ** 2 / 2 + 0.1 * (0.25 + 1) / 2
    assert float(energy(STATE, conditions)[0]) == pytest.approx(expected, rel=1e-4)


def test_headings_are_those_of_what_is_regressed():
    found = OverOrigin()(np.array([[7.0, 0, 3], [7, -2, 0]], np.float32)).numpy()
    np.testing.assert_allclose(found, [[7, np.pi / 2, 0, 0], [7, np.pi, 0, 0]], atol=1e-6)
