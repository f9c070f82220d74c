import functools
import inspect
import re

import gin
import keras
import numpy as np
import pytest
import tensorflow as tf

from ige import configs, descents
from ige.errors import UserError
from ige.unroll import UnrolledSGD
from ige.vox.data.shapenet_core import shapenet_core
from ige.vox.energies import ConsistencyEnergy, RealismEnergy
from ige.vox.losses import VoxelLoss
from ige.vox.models.baseline import get_baseline_inference
from ige.vox.models.ige import _AS_THE_BASE, get_ige_inference
from ige.vox.outputs import with_iterates
from ige.vox.problem import VoxProblem

BASE = functools.partial(
    get_baseline_inference, encoder="plain", width=0.25, filters=2, input_size=32
)
OPTIMIZER = functools.partial(UnrolledSGD, num_steps=2, learned=["learning_rate"], isolate=False)
SMALL = {"hidden_units": 4, "num_outputs": 2, "num_scales": 2}
TERMS = {
    "realism": functools.partial(RealismEnergy, **SMALL),
    "consistency": functools.partial(ConsistencyEnergy, **SMALL),
}


@pytest.fixture
def problem(toy_shapes):
    return VoxProblem(toy_shapes, VoxelLoss, held_out_views=2)


def build(problem, **options):
    settings = {"inference_fn": BASE, "init_model_id": None, "optimizer": OPTIMIZER} | options
    return problem.build_model(functools.partial(get_ige_inference, **settings))


@pytest.mark.parametrize("terms", [["realism"], ["consistency"], ["realism", "consistency"]])
def test_iterates_begin_with_the_base_and_are_saved(problem, tmp_path, terms):
    model = build(problem, **{name: TERMS[name] for name in terms})
    assert model.output_shape == (None, 3, 8, 8, 8)
    (inputs, _), *_ = problem.get_dataset("test", 6)
    iterates = model(inputs)
    guess, _ = model.get_layer("base")(inputs)
    np.testing.assert_allclose(iterates[:, 0], guess, rtol=1e-5)
    assert np.abs(iterates[:, 1] - iterates[:, 0]).max() > 0
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(inputs), iterates, rtol=1e-4, atol=1e-5)
    last = problem.for_prediction(loaded)
    np.testing.assert_allclose(last(inputs), iterates[:, -1], rtol=1e-4, atol=1e-5)
    whole, names = with_iterates(last)
    np.testing.assert_allclose(whole(inputs), iterates, rtol=1e-4, atol=1e-5)
    assert names == ["first guess", "step 1", "step 2: result"]
    assert descents.optimizer(last).return_energies


def test_the_energy_sees_features_and_the_share_of_each_pixel_that_is_object(problem):
    """A column of the silhouette in four is a quarter, whichever: none falls between the pixels."""
    model = build(problem, **TERMS)
    (inputs, _), *_ = problem.get_dataset("test", 6)
    stripes = np.zeros(inputs["silhouette"].shape, bool)
    stripes[:, :, ::4] = True
    stripes[:, 16:] = True
    seen = keras.Model(model.inputs, model.get_layer("seen").output)
    found = seen(inputs | {"silhouette": tf.constant(stripes)}, training=False).numpy()
    _, features = model.get_layer("base")(inputs, training=False)
    np.testing.assert_allclose(found[..., :-1], features, rtol=1e-5)
    assert np.ptp(features) > 0
    np.testing.assert_allclose(found[:, :3, 1:-1, -1], 0.25, atol=0.02)
    np.testing.assert_allclose(found[:, 5:, :, -1], 1, rtol=1e-6)


def test_what_the_base_has_learned_is_named_as_in_gin():
    """A name that gin does not know would never differ between two runs."""
    for name in _AS_THE_BASE:
        configurable, _, parameter = name.rpartition(".")
        assert parameter in inspect.signature(gin.get_configurable(configurable)).parameters, name


def test_the_base_has_learned_from_the_same_shapes():
    """What it may differ in: where they are and how they were seen."""
    free = {"data", "data_dir", "manual_dir", "processes", "beam_options"}
    free |= {"views", "image_size", "view_seed"}
    learned = {name.removeprefix("vox.shapenet_core.") for name in _AS_THE_BASE}
    assert learned - {"vox.VoxProblem.dataset"} == (
        inspect.signature(shapenet_core).parameters.keys() - free
    )


@pytest.mark.parametrize("cells", [32, 64, 128])
def test_configs_descend_from_the_frozen_base_of_their_own_cells(cells):
    """With first convolutions of 32 places along a side, whatever the cells."""
    configs.parse([f"vox/ige4-{cells}"])
    network = gin.get_bindings("vox.get_ige_inference")
    assert (network["init_model_id"], network["freeze_base"]) == (f"baseline-{cells}", True)
    assert gin.get_bindings("vox.shapenet_core")["resolution"] == cells
    for term in ("RealismEnergy", "ConsistencyEnergy"):
        assert gin.get_bindings(f"vox.{term}")["stride"] == cells // 32


@pytest.mark.parametrize("freeze", [False, True])
def test_learns_energy_and_optimiser_and_base_unless_frozen(problem, freeze):
    model = build(problem, freeze_base=freeze, **TERMS)
    weights = {w.path: w.numpy() for w in model.trainable_weights}
    assert any("plain_0_conv" in path for path in weights) != freeze
    assert any("log_silhouette_weight" in path for path in weights)
    (inputs, labels), *_ = problem.get_dataset("train", 12)
    statistics = {w.path: w.numpy() for w in model.non_trainable_weights if "norm/m" in w.path}
    assert statistics
    model(inputs, training=True)
    moved = [(w.numpy() != statistics.get(w.path, w)).any() for w in model.non_trainable_weights]
    assert any(moved) != freeze
    if freeze:
        return
    model.compile(keras.optimizers.Adam(1e-2), problem.loss, jit_compile=False)
    first = model.train_on_batch(inputs, labels)
    for _ in range(10):
        last = model.train_on_batch(inputs, labels)
    assert last < first
    unmoved = [w.path for w in model.trainable_weights if (w.numpy() == weights[w.path]).all()]
    assert unmoved == []


def test_no_term_is_refused(problem):
    message = "vox.get_ige_inference: got realism = None and consistency = None, expected at least"
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        build(problem)
