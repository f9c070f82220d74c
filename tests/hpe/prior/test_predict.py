"""What `predict` makes of a prior: motions of a generator that is known by hand, seen by a camera
that is known too."""

import json
import pathlib
import re
import types

import gin
import keras
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ige import configs, parameters, transfer
from ige.adversarial import AdversarialModel
from ige.errors import UserError
from ige.hpe.keypoints import Keypoints
from ige.hpe.people import Track
from ige.hpe.predict import Camera
from ige.hpe.prior.fitting import Fitter
from ige.hpe.prior.predict import fit_track
from ige.hpe.prior.problem import PosePriorProblem
from ige.hpe.skeleton import Skeleton, get_skeleton

H36M_17 = get_skeleton("h36m_17")
FRAMES, SIZE = 6, 1.7
HEIGHT, PITCH, ROLL = 1.4, 12.0, 5.0
FOCAL_LENGTH, CENTER = np.array([1100.0, 1000.0]), np.array([510.0, 490.0])
CAMERA = Camera((1000, 1000), (1100.0, 1000.0), (510.0, 490.0), PITCH, ROLL, HEIGHT)
# A pose is somebody who stands, in heights, plus each of two latents times one of these.
DIRECTIONS = np.random.default_rng(5).normal(scale=0.03, size=(2, 17, 3))


def _person():
    """(17, 3) heights: stands over the origin, left at +x, nose to the front."""
    heights = {"hip": 0.53, "knee": 0.28, "ankle": 0.04, "shoulder": 0.83, "elbow": 0.65}
    heights |= {"wrist": 0.49, "pelvis": 0.53, "spine": 0.68, "thorax": 0.83}
    heights |= {"nose": 0.92, "head_top": 1.0}
    x = {"left": 0.1, "right": -0.1, "centre": 0.0}
    return np.array(
        [
            (x[side], -0.06 * (joint == "nose"), heights[re.sub("left_|right_", "", joint)])
            for joint, side in zip(H36M_17.joints, H36M_17.sides, strict=True)
        ]
    )


def _motion():
    """(FRAMES, 17, 3) metres, world frame: somebody of 1.7 m who turns and goes to the right."""
    t = np.arange(FRAMES)
    latents = np.stack([np.sin(t / 4), np.cos(t / 3)], axis=1)
    poses = SIZE * (_person() + np.tensordot(latents, DIRECTIONS, 1))
    turns = Rotation.from_euler("z", 0.4 + 0.1 * t[:, np.newaxis]).as_matrix()
    places = np.stack([0.1 * t - 0.3, np.full(FRAMES, 4.5), np.zeros(FRAMES)], axis=1)
    return poses @ turns.swapaxes(1, 2) + places[:, np.newaxis]


def _to_camera():
    """World to camera by hand: a level one, looking along y, turned down, then clockwise."""
    level = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0.0]])
    down = Rotation.from_euler("x", PITCH, degrees=True).as_matrix()
    clockwise = Rotation.from_euler("z", -ROLL, degrees=True).as_matrix()
    return clockwise @ down @ level


def _seen(poses):
    """Returns the pixels (..., 2) of world points (..., 3)."""
    x, y, z = np.moveaxis((poses - [0, 0, HEIGHT]) @ _to_camera().T, -1, 0)
    return np.stack([x / z, y / z], axis=-1) * FOCAL_LENGTH + CENTER


@pytest.fixture(scope="module")
def model():
    inputs = keras.Input((2,), name="latent")
    dense = keras.layers.Dense(51)
    generator = keras.Model({"latent": inputs}, keras.layers.Reshape((17, 3))(dense(inputs)))
    dense.set_weights([DIRECTIONS.reshape(2, 51), _person().ravel()])
    pose = keras.Input((17, 3))
    critic = keras.Model(pose, keras.layers.Dense(1)(keras.layers.Flatten()(pose)))
    return AdversarialModel(generator, critic)


@pytest.fixture
def parsed():
    """Binds what the prior of these tests is, as a user would; more bindings may be given."""

    def parse(*bindings):
        prior = "hpe.PosePriorProblem"
        own = [f"{prior}.skeleton = 'h36m_17'", f"{prior}.latents = 2", "hpe.Fitter.starts = 4"]
        fast = ["LBFGS.jit_compile = False", "start/LBFGS.jit_compile = False"]
        configs.parse(["apo/h3m-big"], [*own, *fast, *bindings])

    return parse


@pytest.fixture
def predict(parsed, model, tmp_path):
    """Runs the command of the config; returns what is in poses.npz."""

    def run(skeleton, table, *bindings):
        camera = [f"hpe.predict.{name} = {getattr(CAMERA, name)}" for name in ("pitch", "roll")]
        parsed(*camera, f"hpe.predict.camera_height = {HEIGHT}", *bindings)
        source = tmp_path / "seen.json"
        document = {"skeleton": skeleton, "keypoints": table.tolist(), "frame_rate": 10}
        intrinsics = {"focal_length": FOCAL_LENGTH.tolist(), "center": CENTER.tolist()}
        source.write_text(json.dumps(document | intrinsics))
        trained = types.SimpleNamespace(model=model, path="the prior")
        folder = tmp_path / "out"
        folder.mkdir()
        gin.get_configurable(parameters.task_command("predict"))(
            lambda problem, checkpoint: trained, source, lambda: folder
        )
        return np.load(folder / "poses.npz")

    return run


def _only(message):
    """Returns the pattern of a message; gin adds a line to it, which the command does not show."""
    return f"^{re.escape(message)}(\\n  In call|$)"


def _track(skeleton, points, pieces=(0,)):
    names = tuple(map(str, range(len(points))))
    scores = np.isfinite(points[..., 0]).astype(float)
    rows = np.arange(len(points))
    source = Keypoints(pathlib.Path("seen.json"), "", skeleton, points, scores, rows, names)
    return Track(source, rows, points, np.array(pieces), [])


def _fit(model, track, camera=CAMERA, **weights):
    """Fits as the config says, but for weights of the energy."""
    with gin.unlock_config():
        for term, weight in weights.items():
            gin.bind_parameter(f"hpe.FittingEnergy.{term}", weight)
    problem = PosePriorProblem(None, skeleton="h36m_17", latents=2, center=("pelvis",))
    return fit_track(track, model, H36M_17, camera, 10.0, problem=problem, fitter=Fitter)


def test_a_known_motion_comes_back(predict, capsys):
    """Of COCO's joints, with confidences: some of a frame, and all of another, were not seen."""
    coco = get_skeleton("coco_17")
    truth = _motion()
    table = np.zeros((FRAMES, 17, 3))
    body = [i for i, joint in enumerate(coco.joints) if joint in H36M_17.joints]
    table[:, body, :2] = _seen(truth)[:, [H36M_17.index(coco.joints[i]) for i in body]]
    table[:, body, 2] = 0.9
    table[:, 1:5] = [300, 300, 0.9]  # eyes and ears, which the prior does not know
    left_ankle = coco.index("left_ankle")
    table[1, left_ankle] = [5, 5, 0.1]
    table[3, :, 2] = 0
    packed = predict("coco_17", table)

    rest = [0, 1, 2, 4, 5]
    np.testing.assert_allclose(packed["poses_upright"][rest], truth[rest], atol=0.02)
    between = packed["poses_upright"][[2, 4]].mean(axis=0)
    np.testing.assert_allclose(packed["poses_upright"][3], between, atol=1e-6)
    pixels = (packed["poses_camera"][..., :2] / packed["poses_camera"][..., 2:])[rest]
    np.testing.assert_allclose(pixels * FOCAL_LENGTH + CENTER, _seen(truth)[rest], atol=2)
    # The camera is over the origin, and the floor is where it was said to be.
    np.testing.assert_allclose(packed["rotation"], _to_camera().T, atol=1e-9)
    moved = packed["poses_camera"] @ packed["rotation"].T + [0, 0, HEIGHT]
    np.testing.assert_allclose(packed["poses_upright"], moved, atol=1e-6)

    joints = packed["keypoint_joints"].tolist()
    assert joints == ["nose", *coco.joints[5:]]
    unseen = np.argwhere(~packed["observed"]).tolist()
    assert unseen == [[1, joints.index("left_ankle")], *([3, joint] for joint in range(13))]
    np.testing.assert_allclose(packed["keypoints"][1][:-2], table[1, [0, *range(5, 15)], :2])
    # Where the ankle is by the fit, not where somebody who was not sure saw it.
    expected = _seen(truth)[1, H36M_17.index("left_ankle")]
    np.testing.assert_allclose(packed["keypoints"][1, joints.index("left_ankle")], expected, atol=4)

    out = capsys.readouterr().out
    assert "left out, as the prior has none of them: left_eye, right_eye, left_ear, " in out
    assert "camera looks 12.0° down, turned 5.0° clockwise, as given; 1.4 m above the floor" in out
    number = r"([\d.e-]+)"
    weighted = rf"1 x consistency {number} \+ 1e-05 x smoothness {number} \+ 2e-05 x prior {number}"
    terms = rf"{number} = {weighted}\n"
    energy, consistency, smoothness, prior = map(
        float, re.search(rf"fitted 6 frames, [\d.,]+ frames/s, energy {terms}", out).groups()
    )
    assert energy == pytest.approx(consistency + 1e-5 * smoothness + 2e-5 * prior, rel=1e-3)
    off = re.search(r"joints are ([\d.]+) pixels from the keypoints in the median", out)
    assert float(off.group(1)) < 1
    names = ["poses.npz", "poses.json", "poses.bvh", "viewer.html", "sequence.gif"]
    assert [pathlib.Path(line).name for line in out.splitlines()[-5:]] == names


def test_pieces_are_motions_by_themselves(parsed, model):
    """Frames of one piece hold together, be it at the cost of the keypoints; others do not."""
    parsed()
    truth = _motion()[[0, -1]]
    tracks = (_track(H36M_17, _seen(truth), pieces) for pieces in ((0, 1), (0,)))
    apart, together = (_fit(model, track, smoothness=1e3, prior=0.0).upright for track in tracks)
    # A single image hardly tells how far away somebody is.
    np.testing.assert_allclose(apart, truth, atol=0.2)
    assert np.abs(truth[1] - truth[0]).max() > 0.5
    assert np.abs(together[1] - together[0]).max() < 0.02


def test_joints_hang_on_what_is_left(parsed, model):
    """The root and a joint between are unknown to the prior; what hung on the root stays whole."""
    parsed("LBFGS.max_iterations = 2", "start/LBFGS.max_iterations = 2")
    joints = ("left_eye", "nose", "neck_end", "left_hip", "right_hip", "left_knee", "right_knee")
    skeleton = Skeleton("mine", (*joints, "left_ankle"), (-1, 0, 0, 2, 2, 3, 4, 5))
    points = np.full((1, 8, 2), np.nan)
    shared = [i for i, joint in enumerate(skeleton.joints) if joint in H36M_17.joints]
    points[:, shared] = _seen(_motion()[:1])[:, [H36M_17.index(skeleton.joints[i]) for i in shared]]
    found = _fit(model, _track(skeleton, points)).keypoint_skeleton
    assert found.name == "part of mine"
    assert found.joints == ("nose", "left_hip", "right_hip", *joints[5:], "left_ankle")
    assert found.parents == (-1, 0, 0, 1, 2, 3)


NONE = "expected those of the camera that filmed: the prior knows people on the floor of a world"


@pytest.mark.parametrize(
    ("camera", "message"),
    [
        (
            Camera(focal_length=1100.0, center=(500, 500)),
            f"predict: got no camera_height (metres) and no pitch (degrees), {NONE}; give "
            '--gin_param="hpe.predict.camera_height=1.5" --gin_param="hpe.predict.pitch=10.0"',
        ),
        (
            Camera(roll=3.0),
            "predict: got no focal_length (pixels), no image_size (or center, pixels), no "
            f"camera_height (metres) and no pitch (degrees), {NONE}; give "
            '--gin_param="hpe.predict.focal_length=1145.0" '
            '--gin_param="hpe.predict.image_size=(1000,1000)" '
            '--gin_param="hpe.predict.camera_height=1.5" --gin_param="hpe.predict.pitch=10.0"',
        ),
        (
            Camera(image_size=(1000, 1000), pitch=10.0, height=1.5),
            f"predict: got no focal_length (pixels), {NONE}; give "
            '--gin_param="hpe.predict.focal_length=1145.0"',
        ),
        (
            Camera((1000, 1000), 1100.0, pitch=10.0, height=-1.5),
            "hpe.predict.camera_height: got -1.5, expected metres above the floor, more than 0 and "
            "at most 1000",
        ),
        (
            Camera((1000, 1000), 1100.0, pitch=100.0, height=1.5),
            "pitch: got 100.0, expected degrees from -90 to 90",
        ),
    ],
)
def test_a_camera_that_is_not_known_is_refused(model, camera, message):
    with pytest.raises(UserError, match=_only(message)):
        _fit(model, _track(H36M_17, _seen(_motion())), camera)


def test_few_joints_are_refused(model):
    joints = ("nose", "left_hip", "right_hip", "left_knee", "right_knee", "left_eye")
    skeleton = Skeleton("mine", joints, (-1, 0, 0, 1, 2, 0))
    message = (
        "seen.json: got 5 joints of mine that h36m_17 has, expected at least 6; give the "
        "keypoints of another skeleton"
    )
    with pytest.raises(UserError, match=_only(message)):
        _fit(model, _track(skeleton, np.ones((2, 6, 2))))


def test_a_piece_of_which_nothing_is_seen_is_refused(model):
    points = _seen(_motion())
    points[2:5] = np.nan
    message = (
        "seen.json: frames 2 to 4: got no joint that the prior has, expected some; lower "
        "hpe.predict.min_confidence, choose another hpe.predict.person, or cut these frames out"
    )
    with pytest.raises(UserError, match=_only(message)):
        _fit(model, _track(H36M_17, points, (0, 2, 5)))


def test_a_network_that_is_no_prior_is_refused(model):
    message = (
        "predict: the network is no prior, expected one that generates poses; use a config such "
        "as apo/h3m-big"
    )
    with pytest.raises(UserError, match=_only(message)):
        _fit(model.generator, _track(H36M_17, _seen(_motion())))


def test_a_guess_from_other_joints_is_refused(parsed, model, monkeypatch):
    """A network reads the joints that it was trained with."""
    parsed("hpe.Fitter.guess_model_id = 'mine'")
    inputs = keras.Input((16, 2), name="directions")
    states = keras.layers.Dense(5, name="states")(keras.layers.Flatten()(inputs))
    network = keras.Model({"directions": inputs}, states)
    monkeypatch.setattr(transfer, "load", lambda *_: (network, pathlib.Path("mine")))
    message = (
        "hpe.Fitter.guess_model_id: got 'mine', which reads 16 joints of a 2D pose, expected the "
        "17 that are seen; leave it out"
    )
    with pytest.raises(UserError, match=_only(message)):
        _fit(model, _track(H36M_17, _seen(_motion())))
