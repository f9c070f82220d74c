import dataclasses
import re
from functools import partial

import keras
import numpy as np
import pytest

from ige.errors import UserError
from ige.geometry import cameras
from ige.geometry.cameras import Camera
from ige.hpe import layers
from ige.hpe.data.h3m_lift import PoseSequence
from ige.hpe.losses import PoseLoss
from ige.hpe.models.baseline import get_baseline_inference
from ige.hpe.problem import HpeProblem
from ige.hpe.skeleton import convert, get_skeleton
from ige.problem import precision

CAMERA_IDS = ("a", "b")
FRAMES = {"S1": 4, "S8": 3, "S9": 5}


def camera(angle: float) -> Camera:
    """A camera 5 m from the origin, at `angle` about the vertical, that looks at it, level."""
    forward = np.array([np.cos(angle), np.sin(angle), 0])
    down = np.array([0, 0, -1.0])
    return Camera(
        rotation=np.stack([np.cross(down, forward), down, forward]),
        translation=-5000 * forward,
        focal_length=np.array([1100.0, 1200.0]),
        center=np.array([500.0, 510.0]),
        radial=np.array([-0.2, 0.25, -0.003]),
        tangential=np.array([-0.001, -0.0014]),
    )


class Recordings:
    """Stands for a prepared `h3m_lift`: one recording per subject, random joints."""

    provenance = {"dataset": "random"}
    skeleton = get_skeleton("h36m_32")

    def __init__(self, detections: bool = False, test_scale: float = 1.0):
        rng = np.random.default_rng(1)
        self.keypoint_skeleton = get_skeleton("mpii_16") if detections else None
        self._all = {}
        for subject, frames in FRAMES.items():
            poses = rng.normal(scale=400, size=(frames, 32, 3)).astype(np.float32)
            if subject == "S9":
                poses *= test_scale
            pixels = rng.uniform(0, 1000, (frames, 16, 2)).astype(np.float32)
            self._all[subject] = PoseSequence(
                subject=subject,
                action="Walking" if subject == "S9" else "Sitting",
                name="Walking 1",
                frame_rate=50.0,
                poses=poses,
                cameras={
                    name: camera(angle) for name, angle in zip(CAMERA_IDS, (0, 2), strict=True)
                },
                # Camera "a" of S8 has none.
                keypoints={
                    name: pixels
                    for name in CAMERA_IDS
                    if detections and (subject, name) != ("S8", "a")
                },
            )

    def prepare(self):
        pass

    def replace(self, change):
        self._all = {subject: change(sequence) for subject, sequence in self._all.items()}

    def sequences(self, split):
        return [s for s in self._all.values() if (s.subject == "S9") == (split == "test")]


def problem(recordings=None, **kwargs) -> HpeProblem:
    return HpeProblem(dataset=recordings or Recordings(), loss=PoseLoss, **kwargs)


def standardised(**kwargs) -> HpeProblem:
    return problem(root_relative=True, standardise=True, metric_scale=False, **kwargs)


def test_rows_are_every_frame_from_every_camera():
    assert problem().examples_per_epoch("train") == 2 * (4 + 3)
    assert problem().examples_per_epoch("test") == 2 * 5


def test_inputs_are_the_projection_of_the_labels():
    inputs, labels = problem().arrays("test")
    expected = cameras.project_normalised(labels[:5].astype(np.float64), camera(0.0))
    np.testing.assert_allclose(inputs["pose_2d"][:5], expected, atol=1e-6)
    assert labels.dtype == inputs["pose_2d"].dtype == np.float32


def test_labels_are_metres_in_the_camera_frame():
    """Camera a looks along world x from x = -5 m: depth = x + 5, right = -y, down = -z."""
    recordings = Recordings()
    _, labels = problem(recordings).arrays("test")
    world = recordings.sequences("test")[0].poses / 1000
    world = convert(world, get_skeleton("h36m_32"), get_skeleton("h36m_16"))
    expected = np.stack([-world[..., 1], -world[..., 2], world[..., 0] + 5], axis=-1)
    np.testing.assert_allclose(labels[:5], expected, atol=1e-5)


def test_root_relative_labels_have_their_hips_around_the_origin():
    _, labels = problem(root_relative=True, metric_scale=False).arrays("test")
    root = problem().root
    assert [get_skeleton("h36m_16").joints[i] for i in root] == ["left_hip", "right_hip"]
    np.testing.assert_allclose(labels[:, list(root)].mean(axis=1), 0, atol=1e-6)


def test_detections_bring_their_skeleton_and_leave_out_views_without():
    recordings = Recordings(detections=True)
    lifting = problem(recordings, input_skeleton="h36m_17")
    assert lifting.input_skeleton.name == "mpii_16"
    inputs, labels = lifting.arrays("train")
    assert len(labels) == len(inputs["pose_2d"]) == 2 * 4 + 3
    pixels = recordings.sequences("train")[1].keypoints["b"]
    expected = (pixels - [500, 510]) / [1100, 1200]
    np.testing.assert_allclose(inputs["pose_2d"][-3:], expected, atol=1e-6)


def test_networks_are_told_of_the_distortion_when_asked():
    recordings = Recordings()
    sequence = recordings.sequences("train")[0]
    other = sequence.cameras["b"]._replace(
        radial=np.array([1.0, 2, 3]), tangential=np.array([4.0, 5])
    )
    changed = dataclasses.replace(sequence, cameras=sequence.cameras | {"b": other})
    recordings.replace(lambda old: changed if old is sequence else old)
    lifting = problem(recordings, distortion_inputs=True)
    inputs, labels = lifting.arrays("train")
    assert {name: spec.shape for name, spec in lifting.input_spec.items()} == {
        "pose_2d": (16, 2),
        "radial": (3,),
        "tangential": (2,),
    }
    # Four frames from camera "a", as many from the other, then another sequence.
    first = sequence.cameras["a"]
    for name in ("radial", "tangential"):
        rows = [
            *[getattr(first, name)] * 4,
            *[getattr(other, name)] * 4,
            *[getattr(first, name)] * 6,
        ]
        np.testing.assert_allclose(inputs[name], rows, rtol=1e-6)
    # With them, the labels are projected to the 2D poses.
    points = cameras.distort(cameras.perspective(labels), inputs["radial"], inputs["tangential"])
    np.testing.assert_allclose(points, inputs["pose_2d"], atol=1e-5)
    assert problem().arrays("train")[0].keys() == {"pose_2d"}


def test_other_skeletons():
    lifting = problem(skeleton="h36m_17", input_skeleton="martinez_16")
    inputs, labels = lifting.arrays("train")
    assert inputs["pose_2d"].shape[1:] == lifting.input_spec["pose_2d"].shape == (16, 2)
    assert labels.shape[1:] == lifting.output_spec.shape == (17, 3)
    assert lifting.root == (0,)


def test_held_out_subjects():
    lifting = problem(validation_subjects=["S8"])
    assert lifting.has_validation
    assert not problem().has_validation
    assert lifting.examples_per_epoch("train") == 2 * 4
    assert lifting.examples_per_epoch("validation") == 2 * 3


def test_held_out_subjects_are_the_validation_split_and_no_others():
    """Rows go by subject: 2 cameras x 4 frames of S1, then 2 x 3 of S8."""
    everyone, lifting = problem(), problem(validation_subjects=["S8"])
    for split, rows in (("train", slice(0, 8)), ("validation", slice(8, 14))):
        for got, expected in zip(lifting.arrays(split), everyone.arrays("train"), strict=True):
            keras.tree.map_structure(
                lambda a, b, rows=rows: np.testing.assert_array_equal(a, b[rows]), got, expected
            )
    for got, expected in zip(lifting.arrays("test"), everyone.arrays("test"), strict=True):
        keras.tree.map_structure(np.testing.assert_array_equal, got, expected)


def test_statistics_leave_out_who_is_held_out():
    inputs, labels = standardised().arrays("train")
    lifting = standardised(validation_subjects=["S8"])
    expected = labels[:8].std(axis=0, dtype=np.float64)
    np.testing.assert_allclose(lifting.loss.get_config()["std"], expected, rtol=1e-6)
    model = lifting.build_model(get_baseline_inference)
    for name, rows in (("standardise_2d", inputs["pose_2d"]), ("unstandardise_3d", labels)):
        mean = np.squeeze(model.get_layer(name).mean)
        np.testing.assert_allclose(mean, rows[:8].mean(axis=0), atol=1e-6)


def test_what_never_moves_has_a_deviation_of_a_millionth():
    recordings = Recordings()
    (test,) = recordings.sequences("test")
    still = np.repeat(test.poses[:1], 3, axis=0)
    one = {"a": test.cameras["a"]}
    recordings.replace(lambda sequence: dataclasses.replace(sequence, poses=still, cameras=one))
    lifting = standardised(recordings=recordings)
    np.testing.assert_array_equal(lifting.loss.get_config()["std"], np.full((16, 3), 1e-6))
    inputs, _ = lifting.arrays("train")
    model = lifting.build_model(get_baseline_inference)
    assert np.isfinite(model.predict(inputs, verbose=0)).all()


def test_statistics_come_from_the_training_split_alone():
    far, near = (standardised(recordings=Recordings(test_scale=scale)) for scale in (1.0, 100.0))
    models = [p.build_model(get_baseline_inference) for p in (far, near)]
    for name in ("standardise_2d", "unstandardise_3d"):
        first, second = (np.asarray(model.get_layer(name).mean) for model in models)
        np.testing.assert_array_equal(first, second)
    assert not np.allclose(far.arrays("test")[1], near.arrays("test")[1])


def test_standardised_loss_is_the_squared_error_of_standardised_labels(rng):
    """Martinez et al. 2017, summed over x, y and z and averaged over joints and poses."""
    lifting = standardised()
    _, labels = lifting.arrays("train")
    std = labels.std(axis=0, dtype=np.float64)
    predictions = labels + rng.normal(size=labels.shape).astype(np.float32)
    expected = np.mean(np.sum(((predictions - labels) / std) ** 2, axis=-1))
    assert float(lifting.loss(labels, predictions)) == pytest.approx(expected, rel=1e-5)


def test_network_sees_standardised_inputs_and_gives_metres():
    lifting = standardised()
    inputs, labels = lifting.arrays("train")

    def network(tensors, output_spec):
        return keras.layers.Dense(3, kernel_initializer="zeros")(tensors["pose_2d"])

    model = lifting.build_model(network)
    predictions = model.predict(inputs, verbose=0)
    np.testing.assert_allclose(predictions[0], labels.mean(axis=0), atol=1e-5)
    standard = keras.Model(model.inputs, model.get_layer("standardise_2d").output)
    got = standard.predict(inputs, verbose=0)
    np.testing.assert_allclose(got.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(got.std(axis=0), 1, atol=1e-3)


def test_predictions_have_the_size_of_the_training_subjects():
    lifting = problem()
    model = lifting.build_model(get_baseline_inference)
    predictions = model.predict(lifting.arrays("test")[0], verbose=0)
    _, labels = lifting.arrays("train")
    bones = np.array(lifting.skeleton.bones)

    def lengths(poses):
        return np.linalg.norm(poses[:, bones[:, 0]] - poses[:, bones[:, 1]], axis=-1).sum(axis=1)

    np.testing.assert_allclose(lengths(predictions), lengths(labels).mean(), rtol=1e-4)


class Perfect:
    """A model that knows the answer, up to a change of it."""

    def __init__(self, lifting, change):
        self._poses = change(lifting.arrays("test")[1])

    def predict(self, dataset, verbose):
        return self._poses


@pytest.mark.parametrize(
    ("change", "zero"),
    [
        (
            lambda poses: poses,
            {"mpjpe", "n_mpjpe", "p_mpjpe", "opt_scale", "sequence_p_mpjpe", "mpjve"},
        ),
        (lambda poses: poses + 1, {"mpjpe", "n_mpjpe", "p_mpjpe", "sequence_p_mpjpe", "mpjve"}),
        (lambda poses: 2 * poses, {"n_mpjpe", "p_mpjpe", "opt_scale", "sequence_p_mpjpe"}),
        (lambda poses: poses * [-1, 1, 1], set()),
    ],
)
def test_report_of_known_predictions(change, zero, tmp_path):
    """Each metric forgives what it is meant to forgive, and nothing else; none a mirror image."""
    lifting = problem()
    report = lifting.report(Perfect(lifting, change), "test", 4, tmp_path)
    metrics = ("mpjpe", "n_mpjpe", "p_mpjpe", "opt_scale", "sequence_p_mpjpe", "mpjve")
    assert {metric for metric in metrics if report.figures[metric] < 1e-2} == zero
    assert report.figures["poses"] == 10
    assert list(report.figures["by_action"]) == ["Walking"]


def test_report_of_a_constant_offset_of_one_joint_by_hand(tmp_path):
    """170 mm at one of 17 joints: MPJPE 10 mm; 16 of 17 joints within 150 mm."""

    def change(poses):
        moved = poses.copy()
        moved[:, 1, 0] += 0.17
        return moved

    lifting = problem()
    assert lifting.skeleton.joints[1] == "right_knee"
    figures = lifting.report(Perfect(lifting, change), "test", 4, tmp_path).figures
    assert figures["mpjpe"] == pytest.approx(10, abs=1e-3)
    assert figures["pck150"] == pytest.approx(100 * 16 / 17)
    assert figures["mpjve"] == pytest.approx(0, abs=1e-3)
    not_counted = problem(count_root=False)
    figures = not_counted.report(Perfect(not_counted, change), "test", 4, tmp_path).figures
    assert figures["mpjpe"] == pytest.approx(170 / 16, abs=1e-3)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (
            {"root_relative": True},
            "hpe.HpeProblem.metric_scale: got True with root_relative = True, expected False",
        ),
        ({"standardise": True}, "metric_scale: got True with standardise = True, expected False"),
        ({"skeleton": "h36m_18"}, "did you mean h36m_1"),
        ({"validation_subjects": ["S2"]}, "got ['S2'], expected some of the training subjects"),
        ({"validation_subjects": ["S1", "S8"]}, "split 'train' has no sequences"),
    ],
)
def test_mistakes(kwargs, message):
    with pytest.raises(UserError, match=re.escape(message)):
        problem(**kwargs).arrays("train")


@pytest.mark.parametrize(
    ("alignment", "options", "metric"),
    [
        ("opt_scale", {}, True),
        ("opt_scale", {"metric_scale": False}, False),
        ("none", {"metric_scale": False}, True),
        ("none", {"metric_scale": False, "root_relative": True}, False),
        ("none", {"metric_scale": False, "standardise": True}, False),
    ],
)
def test_outputs_become_metres_where_they_are_absolute(alignment, options, metric):
    loss = partial(PoseLoss, alignment)
    spec = HpeProblem(dataset=Recordings(), loss=loss, **options).output_spec
    assert spec.skeleton == get_skeleton("h36m_16")
    assert (spec.to_metres is not None) == metric


def test_the_last_of_the_iterates_is_the_prediction():
    """Each of the three of the size of the training subjects."""
    lifting = problem()

    def three_poses(inputs, output_spec):
        outputs = keras.layers.Dense(144)(keras.layers.Flatten()(inputs["pose_2d"]))
        return keras.layers.Reshape((3, 16, 3))(outputs)

    model = lifting.build_model(three_poses)
    used = lifting.for_prediction(model)
    lifting.check_model(used, "it")
    inputs, _ = lifting.arrays("test")
    iterates = model.predict(inputs, verbose=0)
    np.testing.assert_array_equal(used.predict(inputs, verbose=0), iterates[:, -1])
    bones = [list(bone) for bone in lifting.skeleton.bones]
    sizes = layers.bone_lengths(iterates, bones).numpy()
    np.testing.assert_allclose(sizes, sizes[0, 0], rtol=1e-5)
    assert lifting.for_prediction(used) is used


def test_model_of_other_shapes_is_refused():
    model = problem().build_model(get_baseline_inference)
    message = (
        "x was trained on inputs {'pose_2d': (16, 2)}, the config asks for {'pose_2d': (17, 2)}"
    )
    with pytest.raises(UserError, match=re.escape(message)):
        problem(input_skeleton="h36m_17").check_model(model, "x")
    message = "x predicts (16, 3), the config expects (17, 3)"
    with pytest.raises(UserError, match=re.escape(message)):
        problem(skeleton="h36m_17").check_model(model, "x")


def test_model_of_other_joints_is_refused_though_their_number_fits():
    model = problem().build_model(get_baseline_inference)
    h36m = ", ".join(get_skeleton("h36m_16").joints)
    martinez = ", ".join(get_skeleton("martinez_16").joints)
    message = (
        f"x takes 2D poses of h36m_16 ({h36m}), the config asks for martinez_16 ({martinez}); "
        "evaluate it with the config it was trained with"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        problem(input_skeleton="martinez_16").check_model(model, "x")
    message = message.replace("takes 2D", "predicts 3D")
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        problem(skeleton="martinez_16").check_model(model, "x")


def test_a_network_knows_where_its_people_were():
    """What is saved with the weights: where 98 % of the training poses were, and how large."""
    made = problem()
    observed, predicted = layers.description(made.build_model(get_baseline_inference))
    assert (observed.skeleton, predicted.skeleton) == (made.input_skeleton, made.skeleton)
    poses = made.arrays("train")[0]["pose_2d"]
    middle = poses.mean(axis=1)
    np.testing.assert_allclose(observed.centers, np.quantile(middle, (0.01, 0.99), axis=0))
    squares = np.square(poses - middle[:, np.newaxis]).sum(axis=-1)
    sizes = np.sqrt(squares.mean(axis=-1))
    np.testing.assert_allclose(observed.sizes, np.quantile(sizes, (0.01, 0.99)), rtol=1e-5)


@pytest.mark.parametrize("make", [problem, standardised])
def test_what_makes_metres_is_float32_in_mixed_precision(make):
    """Millimetres at a distance of 5 m are below the precision of bfloat16."""
    with precision("mixed_bfloat16"):
        model = make().build_model(get_baseline_inference)
    types = {layer.name: layer.compute_dtype for layer in model.layers}
    assert types["first_dense"] == "bfloat16"
    scaling = {"metric_scale", "standardise_2d", "unstandardise_3d"} & types.keys()
    assert scaling
    assert {types[name] for name in scaling} == {"float32"}
    assert model.output.dtype == "float32"


def test_every_row_has_the_distortion_of_its_camera():
    """Two cameras, one after the other, of S9's 5 frames; other coefficients in 'b'."""
    recordings = Recordings()
    lens = {"radial": np.array([0.1, 0.2, 0.3]), "tangential": np.array([0.01, 0.02])}

    def change(sequence):
        other = sequence.cameras["b"]._replace(**lens)
        return dataclasses.replace(sequence, cameras=sequence.cameras | {"b": other})

    recordings.replace(change)
    made = HpeProblem(recordings, PoseLoss, distortion_inputs=True)
    inputs, _ = made.arrays("test")
    assert inputs.keys() == made.input_spec.keys() == {"pose_2d", *lens}
    for name, coefficients in lens.items():
        expected = [getattr(camera(0), name)] * 5 + [coefficients] * 5
        np.testing.assert_allclose(inputs[name], expected, rtol=1e-6)


def test_loss_and_metrics_know_the_root():
    """Left and right hip of the 16 joints; the midpoint of the hips is the 17th joint."""
    hips = [get_skeleton("h36m_16").index(f"{side}_hip") for side in ("left", "right")]
    assert problem().loss.get_config()["root"] == hips
    assert [metric.name for metric in problem().get_metrics(None)] == ["mpjpe_mm", "opt_scale_mm"]
    assert [metric.name for metric in standardised().get_metrics(None)] == ["mpjpe_mm"]
    for metric in problem().get_metrics(None):
        assert metric.get_config()["root"] == hips
        assert metric.get_config()["append_root"]
