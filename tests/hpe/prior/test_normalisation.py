import re
import types

import numpy as np
import pytest

from ige.errors import UserError
from ige.hpe.prior import normalisation
from ige.hpe.skeleton import get_skeleton

H36M_24 = get_skeleton("h36m_24")
H36M_17 = get_skeleton("h36m_17")


def recording(subject, skeleton, **places):
    """A recording of one pose: all joints in the origin but those that are given."""
    pose = np.zeros((1, skeleton.num_joints, 3))
    for joint, place in places.items():
        pose[0, skeleton.index(joint)] = place
    return types.SimpleNamespace(subject=subject, poses=pose)


@pytest.mark.parametrize(("skeleton", "foot"), [(H36M_24, "toes"), (H36M_17, "ankle")])
def test_heights_by_hand(skeleton, foot):
    """Feet at (0, 3, 0) on average; ankles do not count where there are toes."""
    feet = {f"left_{foot}": (1, 3, 0), f"right_{foot}": (-1, 3, 0)}
    if foot == "toes":
        feet |= {"left_ankle": (0, 0, -9), "right_ankle": (0, 0, -9)}
    people = [
        recording("S1", skeleton, head_top=(0, 0, 4), **feet),
        recording("S5", skeleton, head_top=(0, 3, 7), **feet),
        recording("S1", skeleton, head_top=(0, 3, 2), **feet),
    ]
    assert normalisation.heights(people, skeleton) == {"S1": 5.0, "S5": 7.0}


@pytest.mark.parametrize("place", [(0, 0, 0), (0, np.nan, 1)])
def test_a_person_without_height_is_refused(place):
    message = (
        "subject S1: got height 0.0, expected one above 0; head and feet of all its poses "
        "coincide or are not finite"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        normalisation.heights([recording("S1", H36M_17, head_top=place)], H36M_17)


@pytest.mark.parametrize(
    ("left", "degrees"),
    [((1, 0, 0), 0), ((1, 1, 9), 45), ((0, 2, 0), 90), ((-1, 0, 0), 180), ((0, -1, 5), -90)],
)
def test_heading_is_where_the_left_hip_is(left, degrees):
    right = np.array([3, 4, 5])
    poses = recording("S1", H36M_17, left_hip=right + left, right_hip=right).poses
    np.testing.assert_allclose(np.degrees(normalisation.heading(poses, H36M_17)), [degrees])


def test_turning_by_hand():
    poses = np.array([[[1.0, 0, 5]], [[1, 0, 5]], [[0, 2, 0]]])
    turned = normalisation.turn(poses, np.radians([90, 180, 90]))
    np.testing.assert_allclose(turned, [[[0, 1, 5]], [[-1, 0, 5]], [[-2, 0, 0]]], atol=1e-15)


@pytest.fixture
def poses(rng):
    return rng.normal(size=(6, 17, 3))


def normalised(poses, unit=1.0, joints=("left_hip", "right_hip")):
    return normalisation.normalise(poses, H36M_17, [H36M_17.index(j) for j in joints], unit)


@pytest.mark.parametrize("joints", [("left_hip", "right_hip"), ("thorax",)])
def test_normalised_poses_face_the_front_over_the_origin(poses, joints):
    found = normalised(poses, joints=joints)
    np.testing.assert_allclose(normalisation.heading(found, H36M_17), 0, atol=1e-12)
    center = found[:, [H36M_17.index(joint) for joint in joints]].mean(axis=1)
    np.testing.assert_allclose(center[:, :2], 0, atol=1e-12)
    np.testing.assert_array_equal(found[..., 2], poses[..., 2])  # above the same floor


def test_normalised_poses_are_in_the_unit(poses):
    np.testing.assert_allclose(normalised(poses, unit=1.6), normalised(poses) / 1.6, atol=1e-12)
    assert normalised(poses.astype(np.float32)).dtype == np.float64


def test_where_a_person_stands_and_looks_does_not_matter(poses, rng):
    moved = normalisation.turn(poses, rng.uniform(-4, 4, size=6))
    moved[..., :2] += rng.normal(scale=10, size=(6, 1, 2))
    np.testing.assert_allclose(normalised(moved), normalised(poses), atol=1e-12)
