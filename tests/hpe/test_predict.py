"""From a file of keypoints to 3D, by the command: what it writes, says and refuses."""

import json
import re

import bvhio
import gin
import keras
import numpy as np
import pytest
from detectors import LAYOUTS, annotations, write, write_folder
from PIL import Image

from ige import configs, runners
from ige.__main__ import main
from ige.checkpoints import Checkpoints, Position
from ige.errors import UserError
from ige.geometry import cameras
from ige.hpe.bvh import bvh_motion
from ige.hpe.skeleton import convert, get_skeleton

NAME = "hpe/b128-1"
H36M = get_skeleton("h36m_32")
H36M_17 = get_skeleton("h36m_17")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def slim(tiny, models):
    """Bindings of a small network, trained for an epoch."""
    bindings = [
        *tiny,
        f"default_model_dir.base_dir = {str(models)!r}",
        "hpe.get_baseline_inference.filters = 16",
        "train.jit_compile = False",
    ]
    arguments = [f"--gin_param={binding}" for binding in bindings]
    assert main([f"--gin_file={NAME}", "--command=train", "--epochs=1", *arguments]) == 0
    gin.clear_config()
    return bindings


@pytest.fixture
def predict(slim, tmp_path, capsys):
    """Runs the command; returns status, what it said, errors, and the folder that it writes to."""

    def run(source, *bindings, name=NAME):
        folder = tmp_path / "out"
        arguments = [f"--gin_param={binding}" for binding in (*slim, *bindings)]
        if source is not None:
            arguments.append(f"--input={source}")
        capsys.readouterr()
        status = main([f"--gin_file={name}", "--command=predict", f"--output={folder}", *arguments])
        out, err = capsys.readouterr()
        return status, out, err, folder

    return run


@pytest.fixture(scope="module")
def view(slim):
    """A recorded person: camera, its poses in mm, and their projection, (frames, 32, 2) pixels."""
    configs.parse([NAME], slim)
    problem = gin.get_configurable("hpe.HpeProblem")()
    sequence, camera_id = problem.views("test")[0]
    camera = sequence.cameras[camera_id]
    poses = cameras.world_to_camera(sequence.poses.astype(np.float64), camera)
    gin.clear_config()
    return camera, poses.numpy(), cameras.project(poses, camera).numpy()


def seen_as(pixels, skeleton):
    """Returns (frames, joints, 3) of a skeleton; joints that Human3.6M lacks have confidence 0."""
    skeleton = get_skeleton(skeleton)
    table = np.zeros((len(pixels), skeleton.num_joints, 3))
    for i, joint in enumerate(skeleton.joints):
        if joint in H36M.joints:
            table[:, i, :2] = pixels[:, H36M.index(joint)]
            table[:, i, 2] = 1
    return table


@pytest.fixture
def own(view, tmp_path):
    """A file of the network's own joints, with what is known of the camera."""
    camera, _, pixels = view
    return write(
        tmp_path / "keypoints.json",
        {
            "skeleton": "h36m_16",
            "keypoints": seen_as(pixels, "h36m_16").tolist(),
            "focal_length": camera.focal_length.tolist(),
            "center": camera.center.tolist(),
            "frame_rate": 50,
        },
    )


def relative(poses):
    return poses - poses[:, :1]


def test_writes_every_file(predict, own):
    status, out, err, folder = predict(own)
    assert status == 0, err
    names = ["poses.npz", "poses.json", "poses.bvh", "viewer.html", "sequence.gif"]
    assert [line for line in out.splitlines() if line.startswith(f"{folder}")] == [
        str(folder / name) for name in names
    ]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    packed = np.load(folder / "poses.npz")
    assert packed["poses_camera"].shape == packed["poses_upright"].shape == (12, 17, 3)
    assert packed["joints"].tolist() == list(H36M_17.joints)
    assert packed["parents"].tolist() == list(H36M_17.parents)
    assert packed["frames"].tolist() == [str(frame) for frame in range(12)]
    assert packed["frame_rate"] == 50
    assert packed["skeleton"] == "h36m_17"
    assert packed["keypoint_skeleton"] == "h36m_16"
    readable = json.loads((folder / "poses.json").read_text())
    assert readable.keys() == set(packed.files)
    for name in ("poses_camera", "poses_upright", "keypoints", "rotation", "focal_length"):
        np.testing.assert_allclose(readable[name], packed[name], atol=6e-5)
    with Image.open(folder / "sequence.gif") as image:
        assert image.n_frames == 6  # 12 frames at 50 per second, shown at 25
    page = (folder / "viewer.html").read_text()
    assert "2D keypoints" in page
    assert "prediction" in page


def test_the_bvh_file_holds_the_motion(predict, own):
    """Read by a reader of others; a bone is as long in every frame, so it holds the rigid motion,
    which the command says how far it is from the poses."""
    _, out, _, folder = predict(own)
    upright = np.load(folder / "poses.npz")["poses_upright"]
    expected, skeleton = bvh_motion(upright, H36M_17)
    hierarchy = bvhio.readAsHierarchy(str(folder / "poses.bvh"))
    for frame in (0, 5, 11):
        hierarchy.loadPose(frame)
        found = {joint.Name: joint.PositionWorld for joint, _, _ in hierarchy.layout()}
        for i, joint in enumerate(skeleton.joints):
            x, y, z = found[joint]
            np.testing.assert_allclose([x, -z, y], expected[frame, i], atol=0.005)
    assert bvhio.readAsBvh(str(folder / "poses.bvh")).FrameTime == pytest.approx(0.02)
    moved = 1000 * np.linalg.norm(expected - upright, axis=-1).mean()
    assert f"move joints by {moved:.0f} mm on average" in out


def test_frames_relate_as_the_rotation_says(predict, own):
    """Turned upright, and lowered onto the floor; a rotation keeps all distances."""
    _, _, _, folder = predict(own)
    packed = np.load(folder / "poses.npz")
    np.testing.assert_allclose(packed["rotation"] @ packed["rotation"].T, np.eye(3), atol=1e-9)
    lowest = packed["poses_upright"][..., 2].min(axis=1)
    assert np.quantile(lowest, 0.05) == pytest.approx(0, abs=1e-9)  # the feet are on the floor
    difference = packed["poses_upright"] - packed["poses_camera"] @ packed["rotation"].T
    np.testing.assert_allclose(difference[..., :2], 0, atol=1e-9)
    assert np.ptp(difference[..., 2]) < 1e-9


def test_a_given_camera_predicts_what_evaluation_does(predict, own, view, models):
    """The network's own output for the normalised 2D pose, apart from where it stands."""
    camera, _, pixels = view
    predict(own)
    poses = np.load(own.parent / "out" / "poses.npz")["poses_camera"]
    normalised = (seen_as(pixels, "h36m_16")[..., :2] - camera.center) / camera.focal_length
    model = Checkpoints(models / NAME).load_model(1)
    expected = model.predict({"pose_2d": normalised.astype(np.float32)}, verbose=0)
    expected = convert(expected, get_skeleton("h36m_16"), H36M_17)
    inside = np.abs(relative(poses) - relative(expected)).max(axis=(1, 2)) < 1e-5
    assert inside.mean() > 0.9  # a frame may be outside of what the network was trained on


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_predicts_alike(predict, own, view, tmp_path, layout):
    """The joints that a layout lacks are put together from others: near the recorded ones."""
    camera, _, pixels = view
    predict(own)
    expected = np.load(tmp_path / "out" / "poses.npz")
    skeleton, document = LAYOUTS[layout]
    source = write(tmp_path / "detected.json", document(seen_as(pixels, skeleton)))
    given = [
        f"hpe.predict.focal_length = ({', '.join(map(str, camera.focal_length))})",
        f"hpe.predict.center = ({', '.join(map(str, camera.center))})",
        "hpe.predict.frame_rate = 50.0",
        "hpe.predict.pictures = False",
    ]
    status, out, err, folder = predict(source, *given)
    assert status == 0, err
    assert out.startswith(f"{source}: {layout}, 12 frames\n")
    found = np.load(folder / "poses.npz")
    assert found["frame_rate"] == 50
    size = np.ptp(expected["keypoints"], axis=(0, 1)).max()
    assert np.abs(found["keypoints"] - expected["keypoints"]).max() < 0.1 * size
    shared = [
        i
        for i, joint in enumerate(get_skeleton("h36m_16").joints)
        if joint in get_skeleton(skeleton).joints and joint in H36M.joints
    ]
    np.testing.assert_allclose(
        found["keypoints"][:, shared], expected["keypoints"][:, shared], atol=1e-6
    )


def test_a_folder_of_openpose_files(predict, view, tmp_path):
    """The person walks out of the 6th frame; two others are never nearly as large."""
    _, _, pixels = view
    poses = seen_as(pixels, "openpose_25")
    other = poses * [0.3, 0.3, 1]
    frames = [[other[i], poses[i]] if i != 5 else [other[i]] for i in range(len(poses))]
    folder = write_folder(tmp_path / "video", frames)
    status, out, err, made = predict(folder, "hpe.predict.image_size = (1000, 1000)")
    assert status == 0, err
    assert f"{folder}: OpenPose JSON, BODY_25, 12 frames" in out
    assert "2 people in 12 frames, took the largest" in out
    assert "not seen in 1 of 12 frames (walk_000000000005)" in out
    observed = np.load(made / "poses.npz")["observed"]
    assert observed.all(axis=1).tolist() == [frame != 5 for frame in range(12)]
    assert not observed[5].any()
    assert "camera: focal length 1145, 1145, centre 500, 500 pixels" in out
    assert "30 frames per second, for want of hpe.predict.frame_rate" in out
    assert len(np.load(made / "poses.npz")["poses_camera"]) == 12


def test_pictures_are_optional(predict, own):
    _, _, _, folder = predict(own, "hpe.predict.pictures = False")
    assert sorted(path.name for path in folder.iterdir()) == [
        "poses.bvh",
        "poses.json",
        "poses.npz",
    ]


def test_the_image_size_of_the_file_is_used(predict, own):
    write(
        own,
        {k: v for k, v in json.loads(own.read_text()).items() if k in ("keypoints", "skeleton")}
        | {"image_size": [1000, 900]},
    )
    _, out, _, _ = predict(own, "hpe.predict.pictures = False")
    assert "camera: focal length 1145, 1145, centre 500, 450 pixels" in out
    _, out, _, _ = predict(
        own, "hpe.predict.pictures = False", "hpe.predict.image_size = (2000, 1000)"
    )
    assert "camera: focal length 2290, 2290, centre 1000, 500 pixels" in out


def test_unrelated_images_are_people_of_their_own(predict, view, tmp_path):
    """Every pose is of the largest person of its own image; images without anybody are left out."""
    _, _, pixels = view
    rng = np.random.default_rng(0)
    poses = seen_as(pixels, "coco_17")
    frames = []
    for i in range(12):
        large = poses[i] * [0.8, 0.8, 1] + [*rng.uniform(0, 3000, 2), 0]
        frames.append([poses[i] * [0.3, 0.3, 1] + [*rng.uniform(0, 3000, 2), 0], large])
    frames[4] = []
    source = write(tmp_path / "images.json", annotations(frames))
    status, out, err, folder = predict(source, "hpe.predict.pictures = False")
    assert status == 0, err
    assert "12 unrelated images: took the largest person of 11" in out
    packed = np.load(folder / "poses.npz")
    assert packed["frames"].tolist() == [f"{i}.png" for i in range(12) if i != 4]
    joint = get_skeleton("coco_17").index("left_knee")
    expected = [frames[i][1][joint, :2] for i in range(12) if i != 4]
    found = packed["keypoints"][:, get_skeleton("h36m_16").index("left_knee")]
    np.testing.assert_allclose(found, expected)


def test_invented_legs_do_not_tell_which_way_is_up(predict, own):
    document = json.loads(own.read_text())
    table = np.array(document["keypoints"])
    legs = [
        i
        for i, joint in enumerate(get_skeleton("h36m_16").joints)
        if "knee" in joint or "ank" in joint
    ]
    table[:, legs, 2] = 0
    write(own, document | {"keypoints": table.tolist()})
    _, out, _, folder = predict(own, "hpe.predict.pictures = False")
    assert "never seen, put straight on" in out
    assert "camera taken as level: the legs are never seen; see hpe.predict.pitch" in out
    observed = np.load(folder / "poses.npz")["observed"]
    assert np.flatnonzero(~observed[0]).tolist() == legs


def test_pictures_of_an_earlier_prediction_do_not_stay(predict, own):
    predict(own)
    _, _, _, folder = predict(own, "hpe.predict.pictures = False")
    assert {path.name for path in folder.iterdir()} == {"poses.bvh", "poses.json", "poses.npz"}


def test_a_second_prediction_replaces_the_first(predict, own):
    predict(own, "hpe.predict.pictures = False")
    status, _, _, folder = predict(own, "hpe.predict.pictures = False", "hpe.predict.pitch = 90.0")
    assert status == 0
    # The camera looks straight down: what is deep for it is low.
    np.testing.assert_allclose(
        np.load(folder / "poses.npz")["rotation"], [[1, 0, 0], [0, -1, 0], [0, 0, -1]], atol=1e-9
    )


def test_prediction_needs_no_data_set(predict, own, monkeypatch, tmp_path):
    """Whoever was given the weights alone can use them."""
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setenv("TFDS_DATA_DIR", str(empty))
    status, _, err, _ = predict(own, "hpe.predict.pictures = False")
    assert status == 0, err
    assert list(empty.iterdir()) == []


def without(joint, pixels):
    """Keypoints of a skeleton of which nothing can stand for one joint."""
    table = seen_as(pixels, "h36m_16")
    table[:, get_skeleton("h36m_16").index(joint), 2] = 0
    return table


@pytest.mark.parametrize(
    ("change", "bindings", "message"),
    [
        (
            {},
            ["hpe.predict.person = 1"],
            "got hpe.predict.person = 1, expected 0 (the largest), the only one",
        ),
        (
            {},
            ["hpe.predict.min_confidence = 2.0"],
            "hpe.predict.min_confidence: got 2.0, expected 0 to 1",
        ),
        (
            {},
            ["hpe.predict.frame_rate = 0.0"],
            "hpe.predict.frame_rate: got 0.0, expected 0.001 to 100000",
        ),
        ({}, ["hpe.predict.batch_size = 0"], "hpe.predict.batch_size: got 0, expected at least 1"),
        (
            {},
            ["hpe.predict.picture_frames = 0"],
            "hpe.predict.picture_frames: got 0, expected at least 1",
        ),
        (
            {},
            ["hpe.predict.image_size = (100, 100)"],
            "outside of an image of 100 x 100; set hpe.predict.",
        ),
        ({}, ["hpe.predict.pitch = 100.0"], "pitch: got 100.0, expected degrees from -90 to 90"),
        (
            {},
            ["hpe.predict.camera_height = 1.5"],
            "hpe.predict.camera_height: got 1.5, but a lifting network finds the floor by the "
            "feet; leave it out",
        ),
        (
            {},
            ["hpe.predict.checkpoint = 7"],
            "predict.checkpoint: got 7, expected 'last', 'best' or",
        ),
        (
            {},
            ["hpe.predict.skeleton = 'mpii_16'"],
            "got hpe.predict.skeleton = 'mpii_16', but the file says h36m_16; leave the parameter "
            "out, or correct the file",
        ),
        ({}, ["hpe.predict.persn = 1"], "predict' doesn't have a parameter named 'persn'"),
        ({"skeleton": "h36m_71"}, [], "skeleton: got 'h36m_71'; did you mean h36m_17"),
        ({"keypoints": []}, [], "keypoints: got shape (0,), expected (frames, joints, 3) of x, y"),
        (
            {},
            ["hpe.get_baseline_inference.residual = False"],
            "was trained with another config (hpe.get_baseline_inference.residual: True -> False)",
        ),
        (
            {},
            ["default_model_dir.model_id = 'none'"],
            "/hpe/none; train it first: the same with --command=train",
        ),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(predict, own, change, bindings, message):
    write(own, json.loads(own.read_text()) | change)
    status, _, err, folder = predict(own, *bindings)
    assert status == 2
    (line,) = err.splitlines()
    assert line.startswith("ige: ")
    assert message in line
    assert not folder.exists()


def test_no_input(predict):
    _, _, err, _ = predict(None)
    assert err == (
        "ige: --input: got none, expected a file or folder, such as --input=poses.json or "
        "--input=chair.png\n"
    )


def test_no_such_input(predict):
    _, _, err, _ = predict("/none/such.json")
    assert err == "ige: --input: no such file or folder: /none/such.json\n"


def test_output_is_a_folder(predict, own):
    (own.parent / "out").write_text("mine")
    status, _, err, folder = predict(own)
    assert status == 2
    assert err == f"ige: --output: {folder} is a file or in one, expected a folder\n"
    assert folder.read_text() == "mine"


def test_the_default_output_is_named_after_the_input(slim, own, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    bindings = [f"--gin_param={binding}" for binding in (*slim, "hpe.predict.pictures = False")]
    assert main([f"--gin_file={NAME}", "--command=predict", f"--input={own}", *bindings]) == 0
    assert (tmp_path / "keypoints-3d" / "poses.npz").is_file()


def test_a_bust_is_refused(predict, own, view):
    """Nothing stands for the hips."""
    _, _, pixels = view
    table = seen_as(pixels, "h36m_16")
    joints = get_skeleton("h36m_16").joints
    table[:, [i for i, joint in enumerate(joints) if joint.endswith("hip")], 2] = 0
    write(own, json.loads(own.read_text()) | {"keypoints": table.tolist()})
    status, _, err, _ = predict(own)
    assert status == 2
    assert re.search(r"(left|right)_hip is never seen, expected shoulders and hips", err)


def test_a_config_without_prediction_says_so():
    message = (
        "--command=predict: vox/mine cannot do it, expected a config that binds a `predict`; "
        "`--command=list` shows the configs"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        runners.predict("vox/mine", "poses.json")


def test_a_network_of_an_earlier_version_is_refused(predict, own, models):
    """It does not say which joints it takes."""
    folder = models / "hpe" / "old"
    inputs = keras.Input((16, 2), name="pose_2d")
    outputs = keras.layers.Reshape((16, 3))(keras.layers.Dense(48)(keras.layers.Flatten()(inputs)))
    model = keras.Model({"pose_2d": inputs}, outputs)
    model.compile(loss="mse")
    record = models / NAME / "config.json"
    Checkpoints(folder).save(model, Position(1), [{"loss": 1.0}])
    (folder / "config.json").write_text(record.read_text())
    status, _, err, _ = predict(own, "default_model_dir.model_id = 'old'")
    assert status == 2
    assert "the network does not say which joints it takes and predicts" in err


@pytest.mark.real_data
def test_people_of_mpii_are_lifted(real_data, predict, tmp_path):
    """Real people in unrelated images, in COCO's joints: each image gives a pose of its own."""
    people = json.loads((real_data / "mpii" / "valid.json").read_text())
    mpii, coco = get_skeleton("mpii_16"), get_skeleton("coco_17")
    shared = [joint for joint in coco.joints if joint in mpii.joints]
    images = {}
    for person in people:
        table = np.zeros((17, 3))
        for joint in shared:
            index = mpii.index(joint)
            table[coco.index(joint)] = [*person["joints"][index], 2 * person["joints_vis"][index]]
        images.setdefault(person["image"], []).append(table)
    source = write(tmp_path / "mpii.json", annotations(list(images.values())))
    status, out, err, folder = predict(source, "hpe.predict.pictures = False")
    assert status == 0, err
    assert f"{len(images)} unrelated images" in out
    packed = np.load(folder / "poses.npz")
    assert len(packed["frames"]) > 0.9 * len(images)
    assert np.isfinite(packed["poses_camera"]).all()
    knee = get_skeleton("h36m_16").index("left_knee")
    tables = list(images.values())
    for frame, pose, seen in zip(
        packed["frames"], packed["keypoints"], packed["observed"], strict=True
    ):
        own = [table[coco.index("left_knee"), :2] for table in tables[int(frame.split(".")[0])]]
        assert not seen[knee] or np.abs(np.array(own) - pose[knee]).max(axis=1).min() < 1e-6
