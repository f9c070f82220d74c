import pathlib
import re

import gin
import keras
import numpy as np
import pytest
import tensorflow as tf

from ige import configs, descents, transfer
from ige.checkpoints import Checkpoints, Position
from ige.costs import count_parameters
from ige.errors import UserError
from ige.hpe import layers
from ige.hpe.energies import ConsistencyEnergy, FeasibilityEnergy
from ige.hpe.losses import PoseLoss
from ige.hpe.models.baseline import get_baseline_inference
from ige.hpe.models.ige import get_ige_inference
from ige.hpe.skeleton import get_skeleton
from ige.problem import precision
from ige.runs import default_model_dir
from ige.unroll import UnrolledAdam, UnrolledSGD

SKELETON = get_skeleton("h36m_16")
BONES = [list(bone) for bone in SKELETON.bones]
TERMS = {"feasibility": FeasibilityEnergy, "consistency": ConsistencyEnergy}


def exactly(message):
    """Matches the message, behind which gin says where it was called."""
    return rf"^{re.escape(message)}(\n|$)"


def in_metres(outputs, name="in_metres"):
    """Of the size of a person, and in front of the camera, where a fresh base has nobody."""
    scaled = layers.BoneLengthScale(BONES, 4.0, dtype="float32", name=name)(outputs)
    offset = [0.0, 0.0, 5.0]
    return keras.layers.Rescaling(1.0, offset, dtype="float32", name=f"{name}_ahead")(scaled)


def small_base(inputs, output_spec, **options):
    return get_baseline_inference(inputs, output_spec, filters=8, num_blocks=1, **options)


def sgd(energy, **options):
    return UnrolledSGD(
        energy, 4, learned=("learning_rate",), learning_rate=0.1, momentum=0.1, **options
    )


def keras_inputs():
    return {
        "pose_2d": keras.Input((16, 2), name="pose_2d"),
        "radial": keras.Input((3,), name="radial"),
        "tangential": keras.Input((2,), name="tangential"),
    }


def build(inference_fn=small_base, optimizer=sgd, init_model_id=None, **options):
    keras.utils.set_random_seed(0)
    inputs = keras_inputs()
    spec = layers.PoseSpec(SKELETON, in_metres)
    options = TERMS | options
    outputs = get_ige_inference(inputs, spec, inference_fn, init_model_id, optimizer, **options)
    return keras.Model(inputs, outputs)


@pytest.fixture
def inputs(rng):
    arrays = {
        "pose_2d": rng.normal(0, 0.1, (6, 16, 2)),
        "radial": rng.normal(0, 0.1, (6, 3)),
        "tangential": rng.normal(0, 0.001, (6, 2)),
    }
    return {name: tf.constant(array, tf.float32) for name, array in arrays.items()}


def give_energy_some_slope(model, rng):
    """A fresh energy is almost flat."""
    for weight in descents.optimizer(model).energy.weights:
        weight.assign(rng.normal(0, 0.1, weight.shape))


DESCENTS = [name for name in configs.list_configs(configs.config_folder()) if "hpe/ige" in name]


def bindings_of(name):
    """Returns what a config says of data, problem and base network."""
    gin.clear_config()
    configs.parse([name])
    scopes = ("hpe.h3m_lift", "hpe.HpeProblem", "hpe.get_baseline_inference")
    return {
        (scope, parameter): value
        for scope in scopes
        for parameter, value in gin.get_bindings(scope, resolve_references=False).items()
    } | {"keypoints": gin.get_bindings("hpe.h3m_lift")["keypoints"]}


@pytest.mark.parametrize("name", DESCENTS)
def test_configs_descend_from_a_base_of_the_same_kind(name):
    own = bindings_of(name)
    base = gin.get_bindings("hpe.get_ige_inference")["init_model_id"]
    assert base == re.match(r"hpe/ige\d-(b\d+-\d(-hourglass)?)", name)[1]
    # Why it has no dropout: docs/ige.md.
    no_dropout = {("hpe.get_baseline_inference", "dropout_rate"): 0.0}
    assert own | bindings_of(f"hpe/{base}") | no_dropout == own


def test_parameters_of_the_published_network():
    """b128-1, two perceptrons of 120 and 496 distances, three numbers of the optimiser."""

    def published_base(inputs, output_spec):
        return get_baseline_inference(inputs, output_spec, filters=128, num_blocks=1)

    def published_optimizer(energy, **options):
        learned = ("learning_rate", "momentum", "gradient_clip_value")
        options |= {"momentum": 0.1, "gradient_clip_value": 1.0, "learned": learned}
        return UnrolledSGD(energy, 4, **options)

    perceptrons = sum((features + 1) * 256 + (256 + 1) * 8 for features in (120, 496))
    for freeze_base in (False, True):
        model = build(published_base, published_optimizer, freeze_base=freeze_base)
        assert count_parameters(model) == 43_824 + perceptrons + 3 == 206_147


def test_feasibility_is_told_the_hips():
    hips = descents.optimizer(build()).energy.feasibility.get_config()["hips"]
    assert {SKELETON.joints[hip] for hip in hips} == {"left_hip", "right_hip"}


def test_iterates_start_with_the_pose_of_the_base_in_metres(inputs, rng):
    model = build()
    give_energy_some_slope(model, rng)
    iterates = model(inputs)
    assert iterates.shape == (6, 5, 16, 3)
    base = model.get_layer("base")
    np.testing.assert_allclose(iterates[:, 0], in_metres(base(inputs)), rtol=1e-5)
    np.testing.assert_allclose(layers.bone_lengths(iterates[:, 0], BONES), 4.0, rtol=1e-5)
    moved = np.abs(np.diff(iterates, axis=1)).max(axis=(2, 3))
    assert (moved > 1e-4).all()


def test_energy_falls_and_is_returned_for_every_iterate(inputs, rng):
    def slow(energy, **options):
        return UnrolledSGD(energy, 4, learning_rate=1e-3, **options)

    model = build(optimizer=slow, feasibility=None)
    give_energy_some_slope(model, rng)
    _, energies = keras.Model(model.inputs, descents.optimizer(model).output)(inputs)
    assert energies.shape == (6, 5)
    assert (np.diff(energies, axis=1) < 0).all()


@pytest.mark.parametrize("term", TERMS)
def test_a_term_can_be_off(term, inputs, rng):
    model = build(**{term: None})
    left = descents.optimizer(model).energy
    assert getattr(left, term) is None
    give_energy_some_slope(model, rng)
    before = model(inputs)
    lens = {name: inputs[name] + 0.1 for name in ("radial", "tangential")}
    changed = np.abs(model(inputs | lens) - before).max()
    assert (changed > 0) == (term == "feasibility")


def test_any_optimizer_will_do(inputs, rng):
    model = build(optimizer=lambda energy, **options: UnrolledAdam(energy, 2, **options))
    give_energy_some_slope(model, rng)
    # Adam's first step is its learning rate, for every coordinate.
    step = np.abs(np.diff(model(inputs), axis=1))[:, 0]
    np.testing.assert_allclose(step, 0.1, rtol=0.05)


def test_training_reaches_everything(inputs, rng):
    model = build()
    give_energy_some_slope(model, rng)
    truth = tf.constant(rng.normal([0, 0, 5], 0.4, (6, 16, 3)), tf.float32)
    loss = PoseLoss("opt_scale", 1, root=(0,))
    with tf.GradientTape() as tape:
        value = loss(truth, model(inputs, training=True))
    gradients = tape.gradient(value, model.trainable_variables)
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert np.isfinite(gradient).all(), variable.path
        assert np.abs(gradient).max() > 0, variable.path


def test_a_frozen_base_predicts_in_training_as_it_does_later(inputs, rng):
    model = build(freeze_base=True)
    give_energy_some_slope(model, rng)
    frozen = model.get_layer("frozen_base")
    assert frozen.trainable_variables == []
    of_others = {variable.path.split("/")[0] for variable in model.trainable_variables}
    assert of_others == {"observed", "descent"}
    before = [variable.numpy() for variable in frozen.variables]
    np.testing.assert_array_equal(model(inputs, training=True)[:, 0], model(inputs)[:, 0])
    for old, variable in zip(before, frozen.variables, strict=True):
        np.testing.assert_array_equal(old, variable)
    trained = build(freeze_base=False)
    assert np.abs(trained(inputs, training=True)[:, 0] - trained(inputs)[:, 0]).max() > 0.01


@pytest.mark.parametrize("options", [{}, {"freeze_base": True}, {"consistency": None}])
def test_saved_and_loaded_it_predicts_the_same(options, inputs, rng, tmp_path):
    model = build(**options)
    give_energy_some_slope(model, rng)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    np.testing.assert_array_equal(model(inputs), again(inputs))
    assert count_parameters(again) == count_parameters(model)


def test_descends_in_full_precision_under_a_half_one(inputs):
    with precision("mixed_bfloat16"):
        model = build()
    assert model.get_layer("base").get_layer("first_dense").compute_dtype == "bfloat16"
    assert model(inputs).dtype == tf.float32
    for name in ("metric_start", "observed_distances", "observed", "descent"):
        assert model.get_layer(name).compute_dtype == "float32"


@pytest.fixture(scope="module")
def base_run():
    """The run 'base' of a small base; returns its network."""
    keras.utils.set_random_seed(1)
    inputs = keras_inputs()
    spec = layers.PoseSpec(SKELETON, in_metres)
    model = keras.Model(inputs, in_metres(small_base(inputs, spec), "metric_scale"))
    model.compile(keras.optimizers.Adam(), "mse")
    folder = default_model_dir("hpe/base")
    Checkpoints(folder).save(model, Position(3), [{"loss": 1.0}] * 3)
    folder.joinpath("config.json").write_text('{"config": "hpe/base", "parameters": {}}')
    return model


@pytest.fixture(autouse=True)
def no_config(monkeypatch):
    """No experiment is configured here."""
    monkeypatch.setattr(transfer.parameters, "resolved", lambda roots: {})


def test_the_base_starts_with_the_weights_of_another_run(base_run, inputs, capsys):
    model = build(init_model_id="base")
    np.testing.assert_allclose(model(inputs)[:, 0], base_run(inputs), rtol=1e-5)
    folder = default_model_dir("hpe/base")
    assert capsys.readouterr().out == f"starting from {folder / 'checkpoints/epoch-0003'}\n"
    # A run with a name of its own starts from one beside it.
    frozen = build(init_model_id="base", freeze_base=True)
    np.testing.assert_allclose(frozen(inputs)[:, 0], base_run(inputs), rtol=1e-5)


@pytest.mark.usefixtures("base_run")
def test_a_run_of_another_network_is_refused():
    def wider(inputs, output_spec):
        return get_baseline_inference(inputs, output_spec, filters=9, num_blocks=1)

    path = default_model_dir("hpe/base") / "checkpoints/epoch-0003"
    message = (
        "hpe.get_ige_inference.init_model_id: layer 'first_dense' has weights of shapes "
        f"[(32, 8)] in {path}, [(32, 9)] here; name a run of the same network"
    )
    with pytest.raises(UserError, match=exactly(message)):
        build(wider, init_model_id="base")


@pytest.mark.parametrize(
    ("name", "command", "hint"),
    [
        ("b128-1", "python -m ige --gin_file=hpe/b128-1 --command=train", ""),
        (
            "own",
            "python -m ige --gin_file=hpe/... --command=train "
            "--gin_param=\"default_model_dir.model_id='own'\"",
            "",
        ),
        (
            "martines",
            "python -m ige --gin_file=hpe/... --command=train "
            "--gin_param=\"default_model_dir.model_id='martines'\"",
            ": did you mean martinez?",
        ),
    ],
)
def test_a_missing_run_says_which_command_makes_it(name, command, hint):
    message = (
        f"hpe.get_ige_inference.init_model_id: no trained model {name!r} in "
        f"{default_model_dir('hpe/' + name)}; make it with `{command}` and the --gin_param of this "
        f"run, or name another run{hint}"
    )
    with pytest.raises(UserError, match=exactly(message)):
        build(init_model_id=name)


@pytest.mark.parametrize(
    ("options", "inputs", "to_metres", "message"),
    [
        (
            {"feasibility": None, "consistency": None},
            keras_inputs(),
            in_metres,
            "got feasibility = None and consistency = None, expected at least one of the terms, "
            "such as @hpe.FeasibilityEnergy",
        ),
        (
            TERMS,
            keras_inputs(),
            None,
            "got poses that are not absolute and in metres; set hpe.HpeProblem.root_relative = "
            "False, standardise = False and metric_scale = True",
        ),
    ],
)
def test_what_cannot_be_descended_is_refused(options, inputs, to_metres, message):
    spec = layers.PoseSpec(SKELETON, to_metres)
    with pytest.raises(UserError, match=exactly(f"hpe.get_ige_inference: {message}")):
        get_ige_inference(inputs, spec, small_base, None, sgd, **options)


def test_consistency_needs_the_camera():
    inputs = {"pose_2d": keras.Input((16, 2), name="pose_2d")}
    message = (
        "hpe.get_ige_inference.consistency: got no camera, expected its distortion as inputs; set "
        "hpe.HpeProblem.distortion_inputs = True"
    )
    with pytest.raises(UserError, match=exactly(message)):
        get_ige_inference(
            inputs, layers.PoseSpec(SKELETON, in_metres), small_base, None, sgd, **TERMS
        )


def test_terms_and_arrays_as_documented(inputs, rng, tmp_path):
    """The code of docs/ige.md: a width of the hips, and what a descent goes through."""
    page = pathlib.Path(__file__).parents[3] / "docs/ige.md"
    term, arrays, elsewhere = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    documented = {"__name__": "my_terms"}
    exec(term, documented)
    model = build(feasibility=documented["HipWidth"], consistency=None)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    names = {"model": again, "inputs": inputs}
    exec(arrays, names)
    hips = names["iterates"].numpy()[:, :, [SKELETON.index(f"{s}_hip") for s in ("left", "right")]]
    width = np.linalg.norm(hips[:, :, 0] - hips[:, :, 1], axis=-1)
    np.testing.assert_allclose(names["energies"], (width - 0.26) ** 2, rtol=1e-3, atol=1e-6)
    assert float(names["rate"]) == pytest.approx(0.1)
    exec(elsewhere, names)
    np.testing.assert_allclose(names["iterates"][0, :, 0], [0, 0.5, 0.75, 0.875, 0.9375])
