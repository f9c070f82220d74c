"""Lifting 2D poses of an unknown video: the camera, the network's range, the place in space."""

import pathlib
import re

import keras
import numpy as np
import pytest

from ige.errors import UserError
from ige.hpe import layers, lift
from ige.hpe.keypoints import Keypoints
from ige.hpe.people import Track
from ige.hpe.skeleton import get_skeleton

SKELETON = get_skeleton("h36m_16")
CENTERS = [[-0.3, -0.2], [0.3, 0.1]]
SIZES = [0.06, 0.14]


class Perfect(keras.layers.Layer):
    """Stands for a network: puts every joint at a depth of 1, so it returns the 2D pose it got."""

    def call(self, pose_2d):
        return keras.ops.concatenate([pose_2d, keras.ops.ones_like(pose_2d[..., :1])], axis=-1)


@pytest.fixture(scope="module")
def model():
    pose_2d = keras.Input((SKELETON.num_joints, 2), name="pose_2d")
    seen = layers.ObservedPose(SKELETON, CENTERS, SIZES)(pose_2d)
    predicted = layers.PredictedPose(SKELETON)(Perfect()(seen))
    return keras.Model({"pose_2d": pose_2d}, predicted)


@pytest.fixture
def flat(rng):
    """Returns a function: center (2,), size -> normalised 2D poses (5, joints, 2) of such a one."""

    def make(center, size):
        poses = rng.normal(size=(5, SKELETON.num_joints, 2))
        poses -= poses.mean(axis=1, keepdims=True)
        poses *= size / np.sqrt(np.square(poses).sum(axis=-1).mean(axis=-1))[:, None, None]
        return poses + center

    return make


def project(poses):
    return poses[..., :2] / poses[..., 2:]


def test_extent_by_hand():
    """Joints at the corners of a square of side 2 around (1, 5) are all sqrt(2) from it."""
    square = np.array([[0.0, 4.0], [2.0, 4.0], [2.0, 6.0], [0.0, 6.0]])
    center, size = layers.extent(square)
    np.testing.assert_allclose(center, [1, 5])
    assert size == pytest.approx(np.sqrt(2))


def test_a_pose_is_placed_where_it_came_from(rng):
    poses = rng.normal([0.5, -0.3, 4], 0.4, (50, SKELETON.num_joints, 3))
    moved = poses + rng.normal(0, 3, (50, 1, 3))
    placed = lift._placed(moved, project(poses), SKELETON, SKELETON)
    np.testing.assert_allclose(placed, poses, atol=1e-9)


def test_only_joints_that_both_skeletons_have_place_a_pose(rng):
    """The 17 joints have a pelvis that the 16 joints of the 2D pose lack."""
    whole = get_skeleton("h36m_17")
    poses = rng.normal([0, 0, 4], 0.4, (3, 17, 3))
    seen = project(poses)[:, [whole.index(joint) for joint in SKELETON.joints]]
    moved = poses + np.array([1, 2, 3])
    np.testing.assert_allclose(lift._placed(moved, seen, whole, SKELETON), poses, atol=1e-9)


@pytest.mark.parametrize("pose_2d", [np.zeros((1, 16, 2)), np.full((1, 16, 2), 0.3)])
def test_a_pose_in_one_point_of_the_image_is_placed_somewhere_finite(rng, pose_2d):
    placed = lift._placed(rng.normal(size=(1, 16, 3)), pose_2d, SKELETON, SKELETON)
    assert np.isfinite(placed).all()


def test_nothing_is_placed_behind_the_camera(rng):
    """The mirror image of a pose fits its projection best behind the camera."""
    poses = rng.normal([0, 0, 4], 0.4, (20, SKELETON.num_joints, 3))
    placed = lift._placed(poses * [-1, -1, 1], project(poses), SKELETON, SKELETON)
    assert placed[..., 2].min() >= 0.1 - 1e-9


def test_a_pose_like_those_of_the_training_is_lifted_as_it_is(model, flat):
    seen = flat([0.1, -0.1], 0.1)
    poses, moved = lift.lift(model, seen)
    assert moved == 0
    # The 2D pose at depth 1 is the pose that projects to it.
    np.testing.assert_allclose(project(poses), seen, atol=1e-6)
    np.testing.assert_allclose(poses[..., 2], 1, atol=1e-5)


def test_the_network_sees_only_what_it_was_trained_on(flat):
    observed = layers.ObservedPose(SKELETON, CENTERS, SIZES)
    for center, size in ([0.9, 0], 0.1), ([0, 0], 0.5), ([-2, 1], 0.01), ([0.1, 0.3], 0.2):
        seen, _, moved = lift._as_in_training(flat(center, size), observed)
        centers, sizes = layers.extent(seen)
        assert moved.all()
        assert (centers >= np.array(CENTERS[0]) - 1e-9).all()
        assert (centers <= np.array(CENTERS[1]) + 1e-9).all()
        assert (sizes >= SIZES[0] - 1e-9).all()
        assert (sizes <= SIZES[1] + 1e-9).all()


def test_turning_back_undoes_turning(flat):
    """A ray of the turned camera, turned back, goes through the pixel that it came from."""
    observed = layers.ObservedPose(SKELETON, CENTERS, [0.0, 9.0])
    given = flat([0.8, 0.4], 0.1)
    seen, back, moved = lift._as_in_training(given, observed)
    assert moved.all()
    rays = lift._homogeneous(given)
    turned = rays @ np.swapaxes(back, -1, -2)
    np.testing.assert_allclose(turned @ back, rays, atol=1e-9)
    # Apart from a shift (the mean of a projection is not the projection of the mean).
    difference = project(turned) - seen
    np.testing.assert_allclose(difference, difference[:, :1] + 0 * difference, atol=1e-9)
    assert np.abs(difference).max() < 0.02


class Depths(keras.layers.Layer):
    """Stands for a network that sees depth: gives the 2D pose that it got the true depths, which
    are in the weight."""

    def __init__(self, depths):
        super().__init__()
        self._depths = np.asarray(depths, np.float32)[..., None]

    def call(self, pose_2d):
        rays = keras.ops.concatenate([pose_2d, keras.ops.ones_like(pose_2d[..., :1])], axis=-1)
        return rays * self._depths


@pytest.mark.parametrize("angle", [0.5, -0.7])
@pytest.mark.parametrize("axis", [0, 1])
def test_what_a_turned_camera_sees_is_turned_back(rng, angle, axis):
    """A person in the middle of one camera is at the edge of another: the same in the room."""
    poses = rng.normal([0, 0, 4], 0.3, (4, 16, 3))
    sine, cosine = np.sin(angle), np.cos(angle)
    about_y = np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])
    turn = about_y if axis else about_y[[1, 0, 2]][:, [1, 0, 2]]
    edge = poses @ turn.T
    observed = layers.ObservedPose(SKELETON, [[-0.02, -0.02], [0.02, 0.02]], [0.01, 1.0])
    _, back, moved = lift._as_in_training(project(edge), observed)
    assert moved.all()
    # As deep for the turned camera as they are: only the turn that it makes is to be undone.
    depth = (edge @ np.linalg.inv(back))[..., 2]
    pose_2d = keras.Input((16, 2), batch_size=4, name="pose_2d")
    outputs = layers.PredictedPose(SKELETON)(Depths(depth)(observed(pose_2d)))
    found, _ = lift.lift(keras.Model({"pose_2d": pose_2d}, outputs), project(edge), batch_size=4)

    def relative(poses):
        return poses - poses.mean(axis=1, keepdims=True)

    # What the network sees is shifted: the mean of a projection is not the projected mean.
    np.testing.assert_allclose(relative(found), relative(edge), atol=0.08)
    assert np.abs(relative(found) - relative(edge)).mean() < 0.02
    assert np.abs(relative(edge @ turn @ turn) - relative(edge)).mean() > 0.05


def test_a_person_at_the_edge_is_lifted_like_one_in_the_middle(model, flat):
    """A pose in a plane that faces the camera, seen by one turned by 30 degrees: the same pose."""
    middle = flat([0.0, 0.0], 0.1)
    angle = np.radians(30)
    turn = np.array(
        [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    )
    edge = project(lift._homogeneous(middle) @ turn.T)
    assert edge[..., 0].min() > 0.3
    poses, moved = lift.lift(model, edge)
    assert moved == 1
    expected, _ = lift.lift(model, middle)

    def shape(poses):
        return np.linalg.norm(poses[:, :, None] - poses[:, None], axis=-1)

    error = np.abs(shape(poses) / shape(poses).mean() - shape(expected) / shape(expected).mean())
    assert error.max() < 0.15


def test_batches_do_not_matter(model, flat):
    seen = flat([0.8, 0], 0.1)
    np.testing.assert_allclose(
        lift.lift(model, seen, 2)[0], lift.lift(model, seen, 4096)[0], rtol=1e-6
    )


def test_a_network_that_asks_for_a_distortion_gets_none(flat):
    pose_2d = keras.Input((SKELETON.num_joints, 2), name="pose_2d")
    radial = keras.Input((3,), name="radial")
    seen = layers.ObservedPose(SKELETON, CENTERS, SIZES)(pose_2d)
    shift = keras.layers.Dense(2, kernel_initializer="ones")(radial)
    moved = keras.layers.Add()([seen, keras.layers.Reshape((1, 2))(shift)])
    predicted = layers.PredictedPose(SKELETON)(Perfect()(moved))
    network = keras.Model({"pose_2d": pose_2d, "radial": radial}, predicted)
    poses = flat((0.1, 0), 0.1)
    np.testing.assert_allclose(project(lift.lift(network, poses)[0]), poses, atol=1e-6)


def test_a_network_that_does_not_describe_itself_is_refused():
    inputs = keras.Input((16, 2), name="pose_2d")
    message = (
        "the network does not say which joints it takes and predicts: an earlier version of ige "
        "trained it, or a model_fn that does not use problem.build_model; train it again with "
        '--gin_param="train.overwrite=True"'
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        layers.description(keras.Model({"pose_2d": inputs}, Perfect()(inputs)))


OBSERVED = layers.ObservedPose(SKELETON, CENTERS, SIZES)
SQUARE = np.array([[[100.0, 40.0], [300.0, 40.0], [300.0, 240.0], [100.0, 240.0]]])


@pytest.mark.parametrize(
    ("given", "focal_length", "center", "words"),
    [
        (
            {"focal_length": 1000.0, "center": (300, 200)},
            (1000, 1000),
            (300, 200),
            "(centre: as given; focal length: as given)",
        ),
        (
            {"focal_length": (1000, 1100), "image_size": (640, 480)},
            (1000, 1100),
            (320, 240),
            "(centre: the middle of the image; focal length: as given)",
        ),
        (
            {"image_size": (480, 640)},
            (1.145 * 640, 1.145 * 640),
            (240, 320),
            "(centre: the middle of the image; focal length: 1.145 of the longer side)",
        ),
        (
            # The corners are 100 sqrt(2) from the middle; people are (0.06 + 0.14) / 2 large.
            {},
            (1000 * np.sqrt(2), 1000 * np.sqrt(2)),
            (200, 140),
            "for want of hpe.predict.focal_length and hpe.predict.image_size",
        ),
    ],
)
def test_the_camera_is_as_given_or_guessed_and_says_so(given, focal_length, center, words):
    options = {"focal_length": None, "center": None, "image_size": None} | given
    found = lift.find_intrinsics(SQUARE, OBSERVED, **options)
    np.testing.assert_allclose(found.focal_length, focal_length)
    np.testing.assert_allclose(found.center, center)
    assert words in found.note
    assert found.note.startswith(f"camera: focal length {focal_length[0]:.0f}, ")
    np.testing.assert_allclose(
        found.normalise(np.array([[center[0] + focal_length[0], center[1]]])), [[1, 0]]
    )


@pytest.mark.parametrize("focal_length", [0, -5.0, (1000, 0), 1e-300])
def test_a_focal_length_is_positive(focal_length):
    message = f"hpe.predict.focal_length: got {focal_length}, expected at least 1 pixel"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        lift.find_intrinsics(SQUARE, OBSERVED, focal_length, None, None)


@pytest.mark.parametrize(("name", "value"), [("focal_length", 1e300), ("center", (1e300, 0))])
def test_a_camera_has_sensible_numbers(name, value):
    options = {"focal_length": None, "center": None, "image_size": None, name: value}
    message = f"hpe.predict.{name}: got {value}, expected pixels, below 1e+06"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        lift.find_intrinsics(SQUARE, OBSERVED, **options)


def test_one_wrong_joint_does_not_move_the_camera(rng):
    """Nor does a person who walks: the camera looks at the middle of the walk."""
    walk = SQUARE + np.linspace(0, 400, 100)[:, None, None] * [1, 0]
    right = lift.find_intrinsics(walk, OBSERVED, None, None, None)
    np.testing.assert_allclose(right.center, [400, 140], atol=1e-9)
    walk[50, 0] = [500, 9000]
    wrong = lift.find_intrinsics(walk, OBSERVED, None, None, None)
    np.testing.assert_allclose(wrong.center, right.center, atol=10)
    np.testing.assert_allclose(wrong.focal_length, right.focal_length, rtol=1e-3)


def test_a_person_of_no_size_gives_no_camera():
    message = "keypoints: all joints lie in one point, expected a person"
    with pytest.raises(UserError, match=f"^{message}$"):
        lift.find_intrinsics(np.ones((3, 4, 2)), OBSERVED, None, None, None)


def track(points):
    names = ("first", "second")[: len(points)]
    rows = np.arange(len(points))
    scores = np.ones(points.shape[:2])
    source = Keypoints(pathlib.Path("poses.json"), "", SKELETON, points, scores, rows, names)
    return Track(source, rows, points, np.zeros(1, int), [])


@pytest.mark.parametrize(
    ("image_size", "scale", "message"),
    [
        (
            (320, 180),
            1,
            "poses.json: frame second: right_ankle is at (300, 240), outside of an image of 320 x "
            "180; set hpe.predict.image_size to that of the video",
        ),
        (
            (640, 480),
            1 / 640,
            "poses.json: all keypoints are between 0.06 and 0.47, expected pixels of an image of "
            "640 x 480; multiply them by its size",
        ),
        ((0, 480), 1, "hpe.predict.image_size: got 0 x 480, expected width and height in pixels"),
    ],
)
def test_keypoints_that_contradict_the_image_size_are_refused(image_size, scale, message):
    points = np.full((2, 16, 2), np.nan)
    points[1, :3] = SQUARE[0, [0, 1, 2]]
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        lift.inside(image_size, track(scale * points))


def test_a_few_joints_far_outside_are_taken_as_missing():
    points = np.full((2, 16, 2), 100.0)
    points[1, 3] = [3000, 100]
    made = lift.inside((640, 480), track(points))
    assert np.argwhere(np.isnan(made.points[..., 0])).tolist() == [[1, 3]]
    assert made.notes == ["outside of the image, taken as missing: 1 joints"]


def test_a_joint_a_little_outside_is_accepted():
    points = np.full((1, 16, 2), np.nan)
    points[0, 0] = [-30, 500]
    assert lift.inside((640, 480), track(points)).notes == []
