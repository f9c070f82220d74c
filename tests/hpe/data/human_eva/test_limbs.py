import dataclasses
import re

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ige.errors import UserError
from ige.hpe.data.human_eva.capture import SHOULDER_OFFSETS, capture
from ige.hpe.data.human_eva.limbs import limb_ends, torso_radius
from ige.hpe.data.human_eva.synthetic import SyntheticSpec, recording
from ige.hpe.skeleton import get_skeleton

EVA_20 = get_skeleton("eva_20")
# Tilts of 3 in 4: the torso is 400 mm long, the upper arms 300 mm.
RADIUS, OFFSETS = 600.0, {"left": 800.0, "right": 450.0}


def ends(markers, positions=(0.0,)):
    return limb_ends(markers, np.array(positions), RADIUS, OFFSETS)


def at(poses, joint):
    return poses[:, EVA_20.index(joint)]


def changed(markers, change):
    """Markers of which `change` altered a copy of the positions, given their index."""
    positions = markers.positions.copy()
    change(positions, markers.index)
    return dataclasses.replace(markers, positions=positions)


# By hand, from the segments in conftest.py. The torso's lower end is 50 mm behind the pelvis; its
# upper end 400 (-0.6, 0, 0.8) from there. The left upper arm goes 300 (-0.8, 0, -0.6) from the
# shoulder, the forearm 250 (0.8, 0, -0.6) from its end; the right ones tilt by 0.6 and 0.8. The
# right forearm starts as far from the upper arm's end as the elbow is from where the arm would end
# without a tilt: (0, -300, 300).
EXPECTED = {
    "torso_distal": (-50, 0, 1000),
    "torso_proximal": (-290, 0, 1320),
    "head_proximal": (0, 0, 1400),
    "head_distal": (0, 0, 1716.103),
    "left_upper_arm_proximal": (0, 200, 1400),
    "left_upper_arm_distal": (-240, 200, 1220),
    "left_lower_arm_proximal": (-240, 200, 1220),
    "left_lower_arm_distal": (-40, 200, 1070),
    "right_upper_arm_proximal": (0, -200, 1400),
    "right_upper_arm_distal": (-180, -200, 1160),
    "right_lower_arm_proximal": (-180, -500, 1460),
    "right_lower_arm_distal": (-30, -500, 1260),
    "left_upper_leg_proximal": (0, 100, 950),
    "left_upper_leg_distal": (0, 100, 500),
    "left_lower_leg_proximal": (0, 100, 500),
    "left_lower_leg_distal": (0, 100, 100),
    "right_upper_leg_proximal": (0, -100, 950),
    "right_upper_leg_distal": (300, -100, 550),
    "right_lower_leg_proximal": (300, -100, 550),
    "right_lower_leg_distal": (300, -100, 150),
}


def test_the_ends_of_every_limb(files):
    poses = ends(files.standing())
    assert poses.shape == (1, 20, 3)
    for joint, expected in EXPECTED.items():
        np.testing.assert_allclose(at(poses, joint), [expected], rtol=0, atol=1e-9, err_msg=joint)


def test_the_ends_move_with_the_markers(files, rng):
    """Whoever is turned and shifted has ends that are turned and shifted."""
    markers = files.standing()
    turn, shift = Rotation.random(random_state=rng).as_matrix(), rng.normal(size=3)
    moved = dataclasses.replace(markers, positions=markers.positions @ turn.T + shift)
    expected = ends(markers) @ turn.T + shift
    np.testing.assert_allclose(ends(moved), expected, rtol=0, atol=1e-9)


def test_the_radius_of_the_torso(files):
    """Half of the 400 mm between the shoulders less 7 mm, in the frames that show both."""

    def lose(positions, index):
        positions[0, index("LSHO")] = np.nan
        positions[1, index("RSHO"), 1] -= 100.0

    assert torso_radius(files.standing()) == pytest.approx(193.0)
    assert torso_radius(changed(files.standing(3), lose)) == pytest.approx((243.0 + 193.0) / 2)


def test_between_frames(files):
    """Half a quarter turn to the left: axes turn evenly, joint centres go straight."""

    def turn(positions, index):
        x, y = positions[1, :, 0].copy(), positions[1, :, 1].copy()
        positions[1, :, 0], positions[1, :, 1] = -y, x

    poses = ends(changed(files.standing(2), turn), (0.0, 0.5, 1.0))
    half = np.sqrt(0.5)
    # The pelvis stays in its place; the left hip goes from (0, 100) to (-100, 0).
    low = [(-50, 0, 1000), (-50 * half, -50 * half, 1000), (0, -50, 1000)]
    np.testing.assert_allclose(at(poses, "torso_distal"), low, rtol=0, atol=1e-9)
    hip = [(0, 100, 950), (-50, 50, 950), (-100, 0, 950)]
    np.testing.assert_allclose(at(poses, "left_upper_leg_proximal"), hip, rtol=0, atol=1e-9)
    # The hip and the knee approach on their straight ways; the length is that of both frames.
    np.testing.assert_allclose(
        at(poses, "left_upper_leg_distal"), np.array(hip) - (0, 0, 450), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("marker", ["RFHD", "LFRA", "PELA", "LHUP", "HEDO", "RCLO"])
def test_a_frame_without_a_marker_has_no_pose(files, marker):
    """Nor have the moments before and after it; frames that are met exactly need no others."""

    def lose(positions, index):
        positions[2, index(marker)] = np.nan

    poses = ends(changed(files.standing(5), lose), (0.5, 1.0, 1.5, 2.0, 2.5, 3.0))
    there = np.isfinite(poses).all(axis=(1, 2))
    assert there.tolist() == [True, True, False, False, False, True]
    assert np.isnan(poses[~there]).all()


def test_moments_outside_of_the_recording_have_no_pose(files):
    poses = ends(files.standing(3), (-0.5, 0.0, 2.0, 2.5, 3.0))
    assert np.isfinite(poses).all(axis=(1, 2)).tolist() == [False, True, True, False, False]


def test_nothing_seen(files):
    markers = files.standing(2)
    poses = ends(
        dataclasses.replace(markers, positions=np.full_like(markers.positions, np.nan)), (0.0, 0.5)
    )
    assert np.isnan(poses).all()


@pytest.mark.parametrize(("by", "there"), [(0.005, True), (0.02, False)])
def test_axes_that_are_not_at_right_angles(files, by, there):
    """Moving the point on the x axis, 100 mm away, by 0.005 mm slants it by 0.00005."""

    def slant(positions, index):
        positions[0, index("LTIA"), 2] += by

    assert np.isfinite(ends(changed(files.standing(), slant))).all() == there


def test_axes_that_are_left_handed(files):
    def swap(positions, index):
        pair = [index("LTIA"), index("LTIL")]
        positions[0, pair] = positions[0, pair[::-1]]

    assert np.isnan(ends(changed(files.standing(), swap))).all()


def test_a_marker_that_there_should_be(files):
    markers = files.standing()
    labels = tuple("X" if label == "RTIB" else label for label in markers.labels)
    message = f"Walking_1.mat: LABELS: no marker RTIB among {len(labels)}; get the file again"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        ends(dataclasses.replace(markers, labels=labels))


@pytest.mark.parametrize("action", ["Walking", "Gestures", "Box"])
def test_a_body_that_is_captured_and_read(action):
    """The joints come back; head and torso have lengths of their own."""
    joints, *_ = recording(SyntheticSpec(frames=30), "S2", action, 3)
    body = dict(zip(get_skeleton("h36m_32").joints, np.moveaxis(joints, 1, 0), strict=True))
    markers = capture(joints)
    poses = limb_ends(
        markers, np.arange(float(len(joints))), torso_radius(markers), SHOULDER_OFFSETS
    )
    expected = {"torso_distal": "pelvis", "head_proximal": "thorax"}
    for side in ("left", "right"):
        for limb, (first, middle, last) in {
            "arm": ("shoulder", "elbow", "wrist"),
            "leg": ("hip", "knee", "ankle"),
        }.items():
            expected |= {
                f"{side}_upper_{limb}_proximal": f"{side}_{first}",
                f"{side}_upper_{limb}_distal": f"{side}_{middle}",
                f"{side}_lower_{limb}_proximal": f"{side}_{middle}",
                f"{side}_lower_{limb}_distal": f"{side}_{last}",
            }
    for end, joint in expected.items():
        np.testing.assert_allclose(at(poses, end), body[joint], rtol=0, atol=1e-6, err_msg=end)
    for end, start, towards in (
        ("head_distal", "head_proximal", body["head_top"]),
        ("torso_proximal", "torso_distal", body["thorax"]),
    ):
        limb, way = at(poses, end) - at(poses, start), towards - at(poses, start)
        apart = np.linalg.norm(np.cross(limb, way), axis=-1) / np.linalg.norm(way, axis=-1)
        np.testing.assert_allclose(apart, 0, rtol=0, atol=1e-6)
        assert ((limb * way).sum(axis=-1) > 0).all()
