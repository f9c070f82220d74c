import math
import re

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ige.errors import UserError
from ige.hpe import drawing
from ige.hpe.skeleton import Skeleton, get_skeleton

# A pelvis with a head and two feet.
TOY = Skeleton("toy", ("pelvis", "left_foot", "right_foot", "head_top"), (-1, 0, 0, 0))


def axes_of(width, height):
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure.add_axes((0, 0, 1, 1))


def test_a_person_who_faces_the_camera_has_the_left_hand_on_the_right():
    x, y = drawing.project(np.array([[1.0, 0, 0], [0, 0, 1.0]])).T
    assert x[0] > 0.8  # what is on the right of the camera
    assert y[1] < -0.9  # what is above; y is down
    np.testing.assert_allclose(x[1], 0, atol=1e-12)


def test_the_view_is_from_the_right_and_from_above():
    """Turned by 15 degrees to the left, then by 12 downwards: sines and cosines by hand."""
    seen = drawing.project(np.eye(3))
    expected = [[0.9659, 0.0538], [0.2588, -0.2008], [0, -0.9781]]
    np.testing.assert_allclose(seen, expected, atol=1e-4)


def test_lengths_are_kept_whatever_the_distance():
    near, far = drawing.project(np.array([[[0, 0, 0], [0, 0, 1.0]], [[0, 9, 0], [0, 9, 1.0]]]))
    np.testing.assert_allclose(near[1] - near[0], far[1] - far[0])


def test_upright_undoes_the_tilt_of_a_camera_but_not_its_heading():
    """A camera that looks along -x and 30 degrees down."""
    down = math.radians(30)
    forward = np.array([-math.cos(down), 0, -math.sin(down)])
    right = np.array([0, 1.0, 0])
    rotation = np.stack([right, np.cross(forward, right), forward])
    world = np.array([[0, 0, 1.8], [-1.0, 0, 0], [0, 1.0, 0]])  # above, ahead, on the right
    seen = world @ rotation.T @ drawing.upright(rotation)
    np.testing.assert_allclose(seen, [[0, 0, 1.8], [0, 1, 0], [1, 0, 0]], atol=1e-12)


def test_a_bone_is_two_ends_and_a_gap_in_the_colour_of_its_far_end():
    pose = np.array([[0.0, 0], [1, 5], [-1, 5], [0, -4]])
    axes = axes_of(1, 1)
    lines = drawing.draw_pose(axes, pose, TOY, linewidth=2)
    nan = np.nan
    np.testing.assert_array_equal(lines["left"].get_xydata(), [[1, 5], [0, 0], [nan, nan]])
    np.testing.assert_array_equal(lines["right"].get_xydata(), [[-1, 5], [0, 0], [nan, nan]])
    np.testing.assert_array_equal(lines["centre"].get_xydata(), [[0, -4], [0, 0], [nan, nan]])
    assert {side: line.get_color() for side, line in lines.items()} == {
        "left": "#0072B2",
        "right": "#D55E00",
        "centre": "#444444",
    }


@pytest.mark.parametrize("name", ["h36m_32", "h36m_16", "h36m_14", "coco_17"])
def test_all_bones_are_drawn(name):
    skeleton = get_skeleton(name)
    poses = np.arange(2 * skeleton.num_joints * 3.0).reshape(2, skeleton.num_joints, 3)
    paths = drawing.bone_paths(poses, skeleton)
    assert sum(path.shape[1] for path in paths.values()) == 3 * len(skeleton.bones)
    drawn = np.concatenate([path.reshape(2, -1, 3, 3)[:, :, :2] for path in paths.values()], axis=1)
    expected = poses[:, np.array(skeleton.bones)]
    np.testing.assert_array_equal(np.sort(drawn, axis=1), np.sort(expected, axis=1))


def test_the_ground_stays_when_its_centre_moves():
    """Within 0.6 m of (0.1, 0): x is -0.5, 0 and 0.5, y too; of (0.2, 0), -0.5 is out of sight."""
    path = drawing.ground_path(np.array([0.1, 0, 3]), 0.6)
    ends = path.reshape(-1, 3, 3)[:, :2]
    along_y, along_x = ends[:3], ends[3:]
    np.testing.assert_allclose(along_y[:, 0], [[-0.5, -0.6, 3], [0, -0.6, 3], [0.5, -0.6, 3]])
    np.testing.assert_allclose(along_x[:, 1], [[0.7, -0.5, 3], [0.7, 0, 3], [0.7, 0.5, 3]])
    moved = drawing.ground_path(np.array([0.2, 0, 3]), 0.6).reshape(-1, 3, 3)[:, :2]
    np.testing.assert_allclose(moved[:2, 0, 0], [0, 0.5])
    assert len(moved) == 5


def test_a_frame_is_to_scale_with_y_down():
    """4 by 1 units in 2 by 2 inches, of which 92 % are used; then at 3 units an inch."""
    axes = axes_of(2, 2)
    points = np.array([[0.0, 10], [np.nan, np.nan], [4, 11]])
    assert drawing.needed_scale(axes, points) == pytest.approx(2 / 0.92)
    drawing.frame(axes, points, 3)
    assert axes.get_xlim() == pytest.approx((-1, 5))
    assert axes.get_ylim() == pytest.approx((11.24, 5.24))


def test_a_single_point_can_be_framed():
    axes = axes_of(2, 2)
    points = np.zeros((3, 2))
    drawing.frame(axes, points, drawing.needed_scale(axes, points))
    assert axes.get_xlim() == (-1, 1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(value):
    message = "truth: got NaN or infinity in 2 of 6 numbers, expected finite numbers"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        drawing.check_finite("truth", np.array([[0, value], [value, 1], [2, 3]]))
