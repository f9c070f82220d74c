"""Every shipped config: parsed, built on tiny data, trained, saved, evaluated; some continued."""

import json
import math
import re

import gin
import h5py
import matplotlib
import numpy as np
import pytest
import tensorflow as tf
import toy
from detectors import write

from ige import configs, figures
from ige.__main__ import main
from ige.checkpoints import Checkpoints, Position
from ige.errors import UserError

CONFIGS = list(configs.list_configs(configs.config_folder()))
# These have the parts of others: of other sizes, which `ige` would make as small as theirs, fewer,
# or with other data. One is trained by the README, and so in its test.
VARIANTS = [
    name
    for name in CONFIGS
    if re.search(r"/(b1024-2|ige8-b128-1|ige4-b(1024-2|128-1(-(consistency|hourglass))?))$", name)
    or re.match(r"vox/.*-(64|128)$", name)
]
NETWORKS = [name for name in CONFIGS if name.startswith("hpe/") and name not in VARIANTS]
# Readers start from a prior.
READERS = [name for name in CONFIGS if re.match(r"apo/.*-(guess|ige\d+)$", name)]
VOXELS = [name for name in CONFIGS if name.startswith("vox/") and name not in VARIANTS]
PRIORS = [name for name in CONFIGS if name not in {*NETWORKS, *READERS, *VOXELS, *VARIANTS}]
TINY_VOXELS = (
    "data = 'synthetic'",
    "shapenet_core.synthetic_models = 20",
    "shapenet_core.views = 2",
    "shapenet_core.image_size = 32",
    "shapenet_core.processes = 1",
)
SMALL_VOXELS = (
    "vox.get_baseline_inference.encoder = 'plain'",
    "vox.get_baseline_inference.width = 0.25",
    "vox.get_baseline_inference.filters = 2",
    "vox.get_baseline_inference.input_size = 32",
)
TINY_EVA = ("data = 'synthetic'", "human_eva.synthetic_frames = 12")
METRICS = {
    "mpjpe",
    "n_mpjpe",
    "p_mpjpe",
    "opt_scale",
    "sequence_p_mpjpe",
    "mpjve",
    "pck150",
    "auc",
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def ige(tiny, models, capsys):
    """Runs one command on a tiny, slim version of a config; returns status, stdout, stderr."""

    def run(name, command, *flags, bindings=()):
        small = [
            *tiny_data(name, tiny),
            f"default_model_dir.base_dir = {str(models)!r}",
            *([] if name in {*COMPILED, *VOXELS} else ["train.jit_compile = False"]),
            *(SMALL_VOXELS if name in VOXELS else ()),
            *small_reader(name),
            *small_ige(name),
            *small_prior(name),
            *bindings,
        ]
        arguments = [f"--gin_param={binding}" for binding in small]
        status = main([f"--gin_file={name}", f"--command={command}", *arguments, *flags])
        out, err = capsys.readouterr()
        return status, out, err

    return run


def tiny_data(name, tiny):
    if name.startswith("apo/eva"):
        return TINY_EVA
    return TINY_VOXELS if name.startswith("vox/") else tiny


def small_reader(name):
    return [] if name in {*PRIORS, *VOXELS} else ["hpe.get_baseline_inference.filters = 16"]


# What is compiled with XLA here; test_readme does it with others.
COMPILED = ("hpe/martinez",)
# What is trained in two parts: one of each kind of model, the others have no other variables.
CONTINUED = ("hpe/b128-1", "hpe/ige4-b128-1-per-step", "apo/eva-big")


def small_ige(name):
    """Returns what keeps a descent small."""
    if "ige" not in name:
        return []
    of_poses = ["hpe.FeasibilityEnergy"] if name in NETWORKS else []
    if of_poses and not name.endswith("-feasibility"):
        of_poses.append("hpe.ConsistencyEnergy")
    of_voxels = ("vox.RealismEnergy", "vox.ConsistencyEnergy") if name in VOXELS else ()
    return [
        f"UnrolledSGD.num_steps = {1 if name in VOXELS else 2}",
        "UnrolledSGD.isolate = False",
        *(f"{energy}.hidden_units = 8" for energy in of_poses),
        *(
            f"{energy}.{size}"
            for energy in of_voxels
            for size in ("hidden_units = 4", "num_scales = 1")
        ),
    ]


def small_prior(name):
    """Returns what keeps a prior small, and short what is fitted with it."""
    if not name.startswith("apo/"):
        return []
    return [
        "train.steps_per_epoch = 5",
        "hpe.get_generator_inference.widths = (8,)",
        *(["hpe.get_critic.widths = (8,)"] if name in PRIORS else []),
        *(f"{scope}LBFGS.max_iterations = 2" for scope in ("", "start/")),
        "LBFGS.jit_compile = False",
        "hpe.infer.batch_frames = 100",
        # Measuring a prior takes longer than the rest: one config does it.
        *([] if name == "apo/eva-big" else ["hpe.PosePriorProblem.held_out = 0"]),
    ]


def train_base(ige, models, name):
    """Trains what a config starts from, if it starts from a run."""
    base = re.sub(r"/ige\d+-(b\d+-\d+).*", r"/\1", name)
    base = re.sub(r"^vox/ige\d+-", "vox/baseline-", base)
    if name in READERS:
        base = re.sub(r"-ige\d+$", "-guess", re.sub(r"-guess$", "", name))
    if base != name:
        train_once(ige, models, base)


def train_once(ige, models, name):
    """Trains a config for an epoch, unless a test before did."""
    if Checkpoints(models / name).epochs():
        return
    train_base(ige, models, name)
    status, out, err = ige(name, "train", "--epochs=1")
    assert status == 0, err
    where = models / name
    assert re.search(rf"^trained to epoch 1 at [\d,]+ examples/s in {where}$", out, re.M)
    if name in READERS:
        assert f"starting from {models / 'apo/h3m-big/checkpoints/epoch-'}" in out


def train_whole(ige, models, name):
    """Trains a config for an epoch, and some for another one; returns the last epoch."""
    train_once(ige, models, name)
    if name not in CONTINUED:
        return 1
    status, out, err = ige(name, "train", "--epochs=2")
    assert status == 0, err
    assert f"continuing {models / name} after epoch 1" in out
    assert Checkpoints(models / name).epochs() == [1, 2]
    return 2


def test_every_config_is_tried():
    """Each kind of config has its test below."""
    assert sorted(NETWORKS + READERS + PRIORS + VOXELS + VARIANTS) == sorted(CONFIGS)
    assert len(VARIANTS) == 10
    assert NETWORKS
    assert VOXELS
    assert READERS
    assert all(name.startswith("apo/") for name in PRIORS)
    assert {*COMPILED, *CONTINUED} <= {*CONFIGS}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_trains_and_evaluates(ige, models, name):
    epoch = train_whole(ige, models, name)
    status, out, err = ige(name, "evaluate", "--gin_param=include_procrustes=True")
    assert status == 0, err
    figures = json.loads((models / name / "evaluation.json").read_text())
    absolute = name != "hpe/martinez"
    for metric in METRICS - (set() if absolute else {"opt_scale"}):
        assert math.isfinite(figures[metric]), metric
        assert figures["over_actions"][metric] == figures[metric]
        assert f"{figures[metric]:.2f}" in out
    assert (figures["opt_scale"] is not None) == absolute
    assert figures["config"] == name
    assert figures["epoch"] == epoch
    assert 0 < figures["parameters"] < figures["flops"]
    assert figures["training_seconds"] > 0
    assert figures["labels"].keys() >= METRICS
    assert figures["joints"] == "17 joints of h36m_17, root counted"
    assert figures["data"]["version"] == "1.0.0"
    assert {"Walking", "Sitting"} <= figures["by_action"].keys()
    assert all(action in out for action in figures["by_action"])

    source = name.rpartition("-")[2]
    expected = source if source in ("hourglass", "finetuned", "detections") else "projection"
    assert figures["trained_with"]["hpe.h3m_lift.keypoints"] == repr(expected)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_built_for_its_data(name, tiny):
    """As shipped, encoder and all; what it makes of an example has a loss, and all that a descent
    learns has a gradient, also where its energies see less than every cell."""
    start = ["init_model_id = None"] if "/ige" in name else []
    configs.parse([name], [*tiny_data(name, tiny), *start])
    trained = gin.get_bindings("ige.train")
    problem = trained["problem"]
    model = problem.build_model(trained["inference_fn"])
    steps = int(re.search(r"/ige(\d)", name).group(1)) if start else 0
    expected = (int(name.rpartition("-")[2]),) * 3 if name.startswith("vox/") else (16, 3)
    iterates = (steps + 1,) if steps else ()
    assert model.output_shape == (None, *iterates, *expected)
    for inputs, labels in problem.get_dataset("test", 1).take(1):
        with tf.GradientTape() as tape:
            outputs = model(inputs)
            loss = problem.loss(labels, outputs)
        assert np.isfinite(outputs).all()
        assert math.isfinite(loss)
    if steps and not name.endswith("-128"):  # which takes long
        for gradient in tape.gradient(loss, model.trainable_weights):
            assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", VOXELS)
def test_every_network_of_voxels_trains_and_evaluates(ige, models, name):
    epoch = train_whole(ige, models, name)
    descends = name.startswith("vox/ige")
    bindings = ["every_iterate = True"] if descends else []
    status, out, err = ige(name, "evaluate", bindings=bindings)
    assert status == 0, err
    figures = json.loads((models / name / "evaluation.json").read_text())
    for figure in ("iou", "iou_published", "f_score"):
        assert 0 <= figures[figure] <= 100
        assert f"{figures[figure]:.2f}" in out
    # Of a chair and a table, two held-out ones of either, by two views.
    assert figures["over_actions"] == pytest.approx(
        {f: figures[f] for f in figures["over_actions"]}
    )
    assert (figures["by_class"].keys(), figures["examples"]) == ({"chair", "table"}, 8)
    assert figures["epoch"] == epoch
    assert 0 < figures["parameters"] < figures["flops"]
    assert len(figures.get("iterates", ())) == (2 if descends else 0)
    history = Checkpoints(models / name).verify(Position(epoch)).history
    assert history[-1].keys() == {f"{split}{f}" for split in ("", "val_") for f in ("iou", "loss")}


def test_a_descent_starts_from_a_base_of_the_same_cells(ige, models):
    train_once(ige, models, "vox/baseline-32")
    bindings = ["default_model_dir.model_id = 'other'", "shapenet_core.synthetic_seed = 1"]
    status, _, err = ige("vox/ige4-32", "train", bindings=bindings)
    assert status == 2
    assert err.splitlines()[-1] == (
        f"ige: vox.get_ige_inference.init_model_id: {models / 'vox/baseline-32'} was trained with "
        "vox.shapenet_core.synthetic_seed = 0, here it is 1; name a run that was trained with the "
        "same"
    )


@pytest.mark.parametrize("name", PRIORS)
def test_every_prior_trains_fits_and_evaluates(ige, models, name):
    epoch = train_whole(ige, models, name)
    expected = {"critic_loss", "generator_loss"}
    if name == "apo/eva-big":
        figures = ("density", "coverage", "asymmetry_mm", "fit_px", "fit_mm", *expected)
        expected |= {f"val_{figure}" for figure in figures}
    history = Checkpoints(models / name).verify(Position(epoch)).history
    assert [figures.keys() for figures in history] == epoch * [expected]

    results = models / name / "results.h5"
    status, _, err = ige(name, "evaluate")
    assert status == 2
    assert err == f"ige: {results} has not been made; run the same with --command=infer first\n"
    status, out, err = ige(name, "infer")
    assert status == 0, err
    with h5py.File(results) as file:
        fitted = len(file)
    found = rf"^{fitted} sequences, \d+ frames, [\d,]+ frames/s, energy \S+\n{results}\n\Z"
    assert re.search(found, out, re.MULTILINE)
    status, out, err = ige(name, "infer")
    assert status == 0, err
    assert out == f"{fitted} of {fitted} sequences were fitted before\n{results}\n"

    status, out, err = ige(name, "evaluate")
    assert status == 0, err
    evaluated = assert_evaluated(models / name, out)
    assert evaluated["epoch"] == epoch
    assert evaluated["fitted_with"]["epoch"] == str(epoch)
    assert f"test: fitted with epoch {epoch} at " in out
    assert evaluated["fitted_with"]["hpe.FittingEnergy.consistency"] == "1.0"


def assert_evaluated(folder, out):
    """Asserts that the errors of fitted or read motions are there; returns all that is."""
    evaluated = json.loads((folder / "evaluation.json").read_text())
    for metric in ("p_mpjpe", "sequence_p_mpjpe"):
        assert 0 < evaluated[metric] < math.inf
        assert f"{evaluated[metric]:.2f}" in out
    assert 0 < evaluated["parameters"] < evaluated["flops"]
    return evaluated


@pytest.mark.parametrize("name", READERS)
def test_every_reader_of_a_prior_trains_evaluates_and_starts_a_fit(ige, models, name):
    train_once(ige, models, name)
    status, out, err = ige(name, "evaluate")
    assert status == 0, err
    assert_evaluated(models / name, out)
    reader = name.partition("/")[2]
    bindings = [
        f"hpe.Fitter.guess_model_id = {reader!r}",
        f"hpe.PosePriorProblem.results = 'results-{reader}.h5'",
    ]
    status, out, err = ige("apo/h3m-big", "infer", bindings=bindings)
    assert status == 0, err
    assert out.splitlines()[-1] == str(models / "apo/h3m-big" / f"results-{reader}.h5")


def test_a_reader_of_another_prior_is_refused(ige, models):
    train_once(ige, models, "apo/h3m-big-guess")
    train_once(ige, models, "apo/h3m-small")
    bindings = ["hpe.Fitter.guess_model_id = 'h3m-big-guess'", "hpe.infer.overwrite = True"]
    status, _, err = ige("apo/h3m-small", "infer", bindings=bindings)
    assert status == 2
    assert err == (
        f"ige: hpe.Fitter.guess_model_id: {models / 'apo/h3m-big-guess'} was trained with "
        "hpe.PosePriorProblem.latents = 32, here it is 8; name a run that was trained with the "
        "same\n"
    )


def test_a_reader_does_not_go_on_with_other_2d_poses(ige, models):
    name = "apo/h3m-big-guess"
    train_once(ige, models, "apo/h3m-big-guess")
    bindings = ["hpe.PosePriorProblem.keypoint_noise = 5.0"]
    status, _, err = ige(name, "train", "--epochs=3", bindings=bindings)
    assert status == 2
    assert err == (
        f"ige: {models / name} was trained with another config (hpe.PosePriorProblem.keypoint_noise"
        ": 0.0 -> 5.0); restore these values, choose another default_model_dir.model_id, or start "
        'over with --gin_param="train.overwrite=True"\n'
    )


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("validation", "infer.split: got 'validation', which has no sequences; choose another"),
        (
            "Test",
            "hpe.infer.split: got 'Test', expected one of 'test', 'validation', 'train'; did you "
            "mean test?",
        ),
    ],
)
def test_a_split_of_nothing_is_not_fitted(ige, models, split, message):
    train_once(ige, models, "apo/h3m-big")
    status, _, err = ige("apo/h3m-big", "infer", bindings=[f"hpe.infer.split = {split!r}"])
    assert (status, err) == (2, f"ige: {message}\n")


def test_a_prior_draws_what_it_makes(ige, models):
    train_once(ige, models, "apo/h3m-big")
    status, out, err = ige("apo/h3m-big", "vis")
    assert status == 0, err
    folder = models / "apo/h3m-big/vis"
    made = ["generated.png", "latent.html"]
    assert {str(folder / file) for file in made} <= set(out.splitlines())
    assert all((folder / file).stat().st_size > 1000 for file in made)


# The others differ in nothing that these two commands see, or are in the README and so in its test.
DRAWN = ["hpe/martinez", "hpe/b128-1-hourglass", "hpe/b128-1-detections"]


@pytest.mark.parametrize("name", DRAWN)
def test_every_kind_of_network_draws_and_predicts(ige, models, name):
    train_once(ige, models, name)
    status, out, err = ige(name, "vis")
    assert status == 0, err
    made = ["poses.png", "errors.png", "sequence.gif", "viewer.html"]
    assert out.splitlines()[-len(made) :] == [str(models / name / "vis" / file) for file in made]
    assert all((models / name / "vis" / file).stat().st_size > 1000 for file in made)

    table = np.abs(np.random.default_rng(0).normal(500, 100, (5, 17, 3)))
    source = write(models / "seen.json", {"skeleton": "h36m_17", "keypoints": table.tolist()})
    flags = (f"--input={source}", f"--output={models / 'out'}")
    status, out, err = ige(name, "predict", *flags, bindings=["hpe.predict.pictures = False"])
    assert status == 0, err
    assert np.isfinite(np.load(models / "out" / "poses.npz")["poses_camera"]).all()


NAME = "hpe/b128-1"


@pytest.fixture
def trained(ige):
    assert ige(NAME, "train", "--epochs=2")[0] == 0


def test_prepare_prints_where_the_data_came_from(ige):
    status, out, err = ige(NAME, "prepare")
    assert status == 0, err
    provenance = json.loads(out)
    assert provenance["dataset"] == "h3m_lift"
    assert provenance["files"][0]["name"].endswith("h36m.zip")


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize(
    ("bindings", "absent", "text"),
    [
        (["include_procrustes = False"], {"p_mpjpe", "sequence_p_mpjpe"}, "root counted"),
        (["hpe.HpeProblem.count_root = False"], set(), "16 joints of h36m_17, root not counted"),
        (["evaluate.checkpoint = 'best'"], set(), "epoch"),
        (["evaluate.checkpoint = 1"], set(), "epoch 1 of"),
        (["evaluate.split = 'train'"], set(), "train: "),
        (["evaluate.batch_size = 7"], set(), "test: "),
        # How it was trained does not matter to an evaluation.
        (["batch_size = 32", "optimizers.Adam.beta_1 = 0.8"], set(), "test: "),
    ],
)
def test_ways_to_evaluate(ige, models, bindings, absent, text):
    status, out, err = ige(NAME, "evaluate", bindings=bindings)
    assert status == 0, err
    assert text in out
    figures = json.loads((models / NAME / "evaluation.json").read_text())
    assert {metric for metric in METRICS if figures[metric] is None} == absent


@pytest.mark.usefixtures("trained")
def test_evaluation_does_not_depend_on_the_batch_size(ige, models):
    found = []
    for size in (5, 4096):
        ige(NAME, "evaluate", bindings=[f"evaluate.batch_size = {size}"])
        figures = json.loads((models / NAME / "evaluation.json").read_text())
        found.append([figures[metric] for metric in sorted(METRICS)])
    assert found[0] == pytest.approx(found[1], rel=1e-4)


@pytest.mark.usefixtures("trained")
def test_evaluating_other_data_says_so(ige, models):
    status, out, err = ige(NAME, "evaluate", bindings=["h3m_lift.synthetic_seed = 1"])
    assert status == 0, err
    assert "trained with hpe.h3m_lift.synthetic_seed = 0, evaluated with 1" in out
    figures = json.loads((models / NAME / "evaluation.json").read_text())
    assert figures["evaluated_with"].keys() == {"hpe.h3m_lift.synthetic_seed", "data.files"}
    assert figures["evaluated_with"]["hpe.h3m_lift.synthetic_seed"] == "1"


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize(
    ("command", "bindings", "message"),
    [
        (
            "train",
            ["batch_size = 32", "epochs = 3"],
            "was trained with another config (train.batch_size: 64 -> 32); restore these values, "
            "choose another default_model_dir.model_id, or start over with "
            '--gin_param="train.overwrite=True"',
        ),
        (
            "evaluate",
            ["hpe.get_baseline_inference.residual = False"],
            "was trained with another config (hpe.get_baseline_inference.residual: True -> False)",
        ),
        (
            "evaluate",
            ["default_model_dir.model_id = 'none'"],
            "/hpe/none; train it first: the same with --command=train",
        ),
        (
            "evaluate",
            ["evaluate.checkpoint = 'worst'"],
            "evaluate.checkpoint: got 'worst', expected 'last', 'best' or one of the epochs [1, 2]",
        ),
        (
            "evaluate",
            ["evaluate.batch_size = 0"],
            "evaluate.batch_size: got 0, expected at least 1",
        ),
        ("train", ["problem = @hpe.HpeProblem", "epochs = 3"], "expected an object of Problem"),
        (
            "train",
            ["optimizer = @optimizers.Adam", "epochs = 3"],
            "expected an object of Optimizer",
        ),
        ("evaluate", ["evaluate.split = 'tset'"], "split: got 'tset', expected one of train,"),
        (
            "evaluate",
            ["evaluate.split = 'validation'"],
            "split 'validation' has no sequences: hpe.HpeProblem.validation_subjects is []",
        ),
        (
            "evaluate",
            ["keypoints = 'detections'"],
            "was trained on inputs {'pose_2d': (16, 2)}, the config asks for {'pose_2d': (17, 2)}",
        ),
        (
            "train",
            ["data = 'synthetik'", "epochs = 3"],
            "hpe.h3m_lift.data: got 'synthetik', expected one of 'auto', 'baseline', 'official', "
            "'videopose3d', 'synthetic'; did you mean synthetic?",
        ),
        (
            "train",
            ["default_model_dir.model_id = ''", "epochs = 3"],
            "default_model_dir.model_id: got an empty name, expected a name or None",
        ),
        (
            "train",
            [
                "default_model_dir.model_id = 'odd'",
                "hpe.get_baseline_inference.kernel_initializer = 'he_norml'",
            ],
            "hpe.get_baseline_inference: Keras has no initializer 'he_norml'; use one like",
        ),
        (
            "train",
            ["hpe.HpeProblem.validation_subjects = ('S8')"],
            "validation_subjects: got 'S8', expected tuple[str, ...] | list[str]",
        ),
        ("train", ["hpe.HpeProblem.skeleton = 'h36m_15'", "epochs = 3"], "did you mean h36m_1"),
    ],
)
def test_mistakes_are_one_line_and_change_nothing(ige, models, command, bindings, message):
    # Of folders the name counts: a lock comes and goes in them.
    def look():
        return {p: p.is_dir() or p.stat().st_mtime_ns for p in models.rglob("*")}

    before = look()
    status, _, err = ige(NAME, command, bindings=bindings)
    assert status == 2
    *notices, error = err.splitlines()
    assert error.startswith("ige: ")
    assert message in error
    assert all(notice.startswith("h3m_lift: built ") for notice in notices)
    assert look() == before


def test_best_is_chosen_on_the_held_out_subjects(ige, models):
    held_out = [
        "hpe.HpeProblem.validation_subjects = ('S8',)",
        "default_model_dir.model_id = 'held-out'",
    ]
    assert ige(NAME, "train", "--epochs=2", bindings=held_out)[0] == 0
    history = Checkpoints(models / "hpe/held-out").verify(Position(2)).history
    assert all("val_opt_scale_mm" in figures for figures in history)
    status, out, err = ige(NAME, "evaluate", bindings=[*held_out, "evaluate.split = 'validation'"])
    assert status == 0, err
    assert "validation: " in out


@pytest.fixture
def descending(ige, trained):
    """Runs a command on a small network that descends an energy, trained for an epoch."""

    def run(command, *flags, bindings=()):
        named = ["default_model_dir.model_id = 'descending'", *bindings]
        return ige("hpe/ige4-b128-1-feasibility", command, *flags, bindings=named)

    assert run("train", "--epochs=1")[0] == 0
    return run


def test_evaluation_shows_every_iterate_and_further_steps(descending, models):
    path = models / "hpe/descending/evaluation.json"
    bindings = ["UnrolledSGD.test_steps = 3", "every_iterate = True"]
    status, out, err = descending("evaluate", bindings=bindings)
    assert status == 0, err
    assert "trained with UnrolledSGD.test_steps = None, evaluated with 3\n" in out
    further = json.loads(path.read_text())
    assert further["evaluated_with"]["UnrolledSGD.test_steps"] == "3"
    assert len(further["iterates"]) == 4
    assert further["iterates"][3] == further["over_actions"]
    table = out.partition("means over actions\n")[2].splitlines()
    for step in range(4):
        error = further["iterates"][step]["mpjpe"]
        assert table[4 + step].split()[:2] == [str(step), f"{error:.2f}"]
    assert descending("evaluate")[0] == 0
    figures = json.loads(path.read_text())
    assert "iterates" not in figures
    assert figures["over_actions"] == pytest.approx(further["iterates"][2])
    assert figures["flops"] < further["flops"]


@pytest.mark.parametrize(
    ("command", "binding", "change"),
    [
        ("train", "UnrolledSGD.test_steps = 3", "UnrolledSGD.test_steps: None -> 3"),
        ("evaluate", "UnrolledSGD.num_steps = 3", "UnrolledSGD.num_steps: 2 -> 3"),
    ],
)
def test_only_an_evaluation_goes_further(descending, command, binding, change):
    status, _, err = descending(command, bindings=[binding])
    assert status == 2
    assert f"was trained with another config ({change})" in err


@pytest.mark.usefixtures("trained")
def test_only_a_descent_has_iterates(ige):
    status, _, err = ige(NAME, "evaluate", bindings=["hpe.HpeProblem.every_iterate = True"])
    assert status == 2
    assert err == (
        "ige: hpe.HpeProblem.every_iterate: got True for a network that makes one prediction, "
        "expected one that descends an energy, such as hpe/ige4-b128-1\n"
    )


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize(
    ("binding", "old"),
    [
        ("hpe.get_baseline_inference.residual = False", "True"),
        ("hpe.HpeProblem.validation_subjects = ('S8',)", "()"),
        ("hpe.HpeProblem.input_skeleton = 'martinez_16'", "'h36m_16'"),
    ],
)
def test_a_base_of_another_kind_is_refused(ige, models, binding, old):
    """Or one that has seen the subjects who are held out here."""
    named = ["default_model_dir.model_id = 'refused'", binding]
    status, _, err = ige("hpe/ige4-b128-1", "train", bindings=named)
    assert status == 2
    parameter, value = binding.split(" = ")
    assert err == (
        f"ige: hpe.get_ige_inference.init_model_id: {models / NAME} was trained with {parameter} = "
        f"{old}, here it is {value}; name a run that was trained with the same\n"
    )
    assert not (models / "hpe/refused").exists()


def test_an_evaluation_need_not_say_where_the_weights_came_from(descending):
    bindings = ["init_model_id = 'elsewhere'", "freeze_base = True"]
    status, out, err = descending("evaluate", bindings=bindings)
    assert status == 0, err
    assert "get_ige_inference.init_model_id = 'b128-1', evaluated with 'elsewhere'\n" in out


@pytest.mark.parametrize("command", ["evaluate", "vis"])
def test_a_descent_has_a_step_at_least(descending, command):
    status, _, err = descending(command, bindings=["UnrolledSGD.test_steps = 0"])
    assert status == 2
    assert err == ("ige: UnrolledSGD.test_steps: got 0, expected a whole number from 1 on\n")


def test_a_run_goes_on_without_the_run_that_it_started_from(descending, models):
    """And shows, when asked, the errors of every iterate while it trains."""
    (models / NAME).rename(models / "elsewhere")
    try:
        again = descending("train", "--epochs=2", bindings=["every_iterate = True"])
        overwritten = descending("train", bindings=["train.overwrite = True"])
    finally:
        (models / "elsewhere").rename(models / NAME)
    status, out, err = again
    assert status == 0, err
    assert "starting from" not in out
    figures = Checkpoints(models / "hpe/descending").verify(Position(2)).history[-1]
    names = {f"{name}_mm{step}" for name in ("mpjpe", "opt_scale") for step in ("", "_0", "_1")}
    assert figures.keys() == names | {"loss"}
    status, _, err = overwritten
    assert status == 2
    assert err.startswith("ige: hpe.get_ige_inference.init_model_id: no trained model 'b128-1' in ")
    assert Checkpoints(models / "hpe/descending").epochs() == [1, 2]  # nothing is lost


@pytest.mark.usefixtures("trained")
def test_windows_are_opened_where_there_is_a_display(ige, monkeypatch):
    shown = []
    monkeypatch.setattr(figures, "require_windows", lambda: shown.append("can"))
    monkeypatch.setattr(figures, "show", lambda figures: shown.append(len(figures)))
    assert ige(NAME, "vis")[0] == 0
    assert shown == []
    assert ige(NAME, "vis", bindings=["vis.show = True"])[0] == 0
    assert shown == ["can", 2]


@pytest.mark.usefixtures("trained")
def test_without_a_display_nothing_is_drawn_in_vain(ige, models, monkeypatch):
    monkeypatch.setitem(matplotlib.rcParams, "backend", "agg")
    status, _, err = ige(NAME, "vis", f"--output={models / 'none'}", bindings=["vis.show = True"])
    assert status == 2
    assert err.startswith("ige: windows cannot be opened: ")
    assert not (models / "none").exists()


def test_a_problem_without_pictures_says_so(tmp_path):
    problem = toy.LineProblem()
    with pytest.raises(UserError, match=r"^LineProblem has no pictures: it does not define vis$"):
        problem.vis(None, "test", 1, tmp_path, None, tmp_path)
