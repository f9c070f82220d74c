"""Every command of the README is executed, as typed, on a small archive in the place it names."""

import pathlib
import re
import shlex
import shutil

import numpy as np
import pytest
from detectors import LAYOUTS, write, write_folder
from PIL import Image

from ige.__main__ import main
from ige.hpe.data.h3m_lift.synthetic import SyntheticSpec, write_synthetic
from ige.hpe.skeleton import get_skeleton
from ige.vox.binvox import read_binvox
from ige.vox.data.shapenet_core.synthetic import SyntheticSpec as ShapesSpec
from ige.vox.data.shapenet_core.synthetic import write_synthetic as write_shapes

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PREDICT = (ROOT / "docs/predict.md").read_text(encoding="utf-8")
FENCED = re.findall(r"^```(\w*)\n(.*?)^```$", README + PREDICT, re.DOTALL | re.MULTILINE)
BLOCKS = [block for language, block in FENCED if not language]
COMMANDS = list(dict.fromkeys(line for block in BLOCKS for line in block.splitlines()))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home folder with a tiny h36m.zip where users put theirs, and the models of the tests."""
    home = tmp_path_factory.mktemp("readme")
    manual = home / "tensorflow_datasets/downloads/manual/h3m_lift"
    manual.mkdir(parents=True)
    write_synthetic(manual, SyntheticSpec(sequences=1, frames=12))
    people = np.array([person("coco_17", frame) for frame in range(12)])
    write(home / "keypoints.json", LAYOUTS["AlphaPose JSON, COCO with 17 joints"][1](people))
    shapes = home / "tensorflow_datasets/downloads/manual/shapenet_core"
    shapes.mkdir()
    write_shapes(shapes, ShapesSpec(models=20))
    picture = Image.new("RGB", (80, 80), "white")
    picture.paste("red", (20, 20, 60, 60))
    picture.save(home / "chair.png")
    write_folder(home / "keypoints", [[person("openpose_25", frame)] for frame in range(12)])
    return home


def person(skeleton, frame):
    """Returns (joints, 3): somebody who moves to the right."""
    heights = {"ankle": 800, "knee": 650, "hip": 500, "shoulder": 300, "elbow": 400, "wrist": 480}
    sides = {"left": 540, "right": 460}
    return [
        (sides.get(side, 500) + frame, heights.get(joint, 250), 0.9)
        for side, _, joint in (name.partition("_") for name in get_skeleton(skeleton).joints)
    ]


def test_every_command_is_run_by_a_test_or_the_makefile():
    makefile = (ROOT / "Makefile").read_text()
    for command in COMMANDS:
        program, *arguments = shlex.split(command)
        if program == "make":
            assert f"{arguments[0]}:" in makefile
        elif program == "tensorboard":
            assert arguments[0] == "--logdir"  # test_training reads the logs with its own reader
        else:
            assert (program, *arguments[:2]) == ("python", "-m", "ige")


IGE_COMMANDS = [command for command in COMMANDS if command.startswith("python -m ige")]
# What takes minutes as typed, whatever the data: the steps of a prior, and of its fits; XLA, for
# each step down an energy.
_FIT = [
    f"{scope}LBFGS.{short}"
    for scope in ("", "start/")
    for short in ("max_iterations=5", "jit_compile=False")
]
SMALL_VOXELS = [
    "train.steps_per_epoch=1",
    "shapenet_core.views=2",
    "shapenet_core.image_size=32",
    "vox.get_baseline_inference.encoder='plain'",
    "vox.get_baseline_inference.width=0.25",
    "vox.get_baseline_inference.input_size=32",
    "vox.get_baseline_inference.filters=4",
]
SMALL_DESCENT = [
    "UnrolledSGD.num_steps=1",
    "UnrolledSGD.isolate=False",
    "vox.RealismEnergy.num_scales=1",
    "vox.ConsistencyEnergy.num_scales=1",
]
SHORTER = {
    ("apo", "train"): ["train.steps_per_epoch=5", "train.jit_compile=False"],
    ("apo", "infer"): _FIT,
    ("apo", "predict"): _FIT,
    **{("ige", name): ["UnrolledSGD.num_steps=1"] for name in ("train", "evaluate", "vis")},
    **{("vox", name): SMALL_VOXELS for name in ("prepare", "train", "evaluate", "vis")},
    # Hardly trained: some cell is above a low threshold.
    ("vox", "predict"): [*SMALL_VOXELS, "vox.predict.threshold=0.01"],
}
EPOCHS = 3  # of the priors, which measure themselves after each; and in place of 200, the default


def arguments_of(command):
    """Returns the arguments as typed, and those that make the long ones shorter."""
    (name,) = re.findall(r"--command=(\w+)", command)
    again = "default_model_dir" in command  # of a network that was compiled before
    (method, *_) = re.findall("--gin_file=(?:hpe/)?([a-z]+)", command) or [None]
    more = [f"--gin_param={binding}" for binding in SHORTER.get((method, name), [])]
    if name == "train" and again:
        more.append("--gin_param=train.jit_compile=False")
    if "vox/ige" in command:
        more += [f"--gin_param={binding}" for binding in SMALL_DESCENT]
    if name == "train" and method == "vox":
        more.append("--epochs=1")
    elif name == "train" and (method == "apo" or "--epochs" not in command):
        more.append(f"--epochs={EPOCHS}")
    return shlex.split(command)[3:] + more


def test_commands_as_typed(home, monkeypatch, capsys):
    """One after the other: evaluation needs what training left."""
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.chdir(home)
    assert len(IGE_COMMANDS) >= 8
    for command in IGE_COMMANDS:
        status = main(arguments_of(command))
        out, err = capsys.readouterr()
        assert status == 0, (command, err)
        assert out, command
    made = home / "ige_models/hpe/b128-1"
    assert (made / "evaluation.json").is_file()
    assert (made / "vis/viewer.html").is_file()
    assert (home / "out/poses.bvh").is_file()
    assert (home / "pictures/poses.png").is_file()
    assert (home / "ige_models/compare.md").is_file()
    for file in ("poses.png", "errors.png", "descent.png", "sequence.gif", "viewer.html"):
        assert (home / "ige_models/hpe/ige4-b128-1/vis" / file).stat().st_size > 1000
    for file in ("shapes.png", "viewer.html"):
        assert (home / "ige_models/vox/ige4-32/vis" / file).stat().st_size > 1000
    assert read_binvox((home / "shapes/chair.binvox").read_bytes(), "").occupancy.any()
    assert (home / "shapes/chair.obj").is_file()
    assert (home / "shapes/viewer.html").is_file()
    assert (home / "ige_models/hpe/b128-1-large-batches/checkpoints/epoch-0010").is_dir()
    assert (home / "my/models_dir/hpe/b128-1/checkpoints" / f"epoch-{EPOCHS:04}").is_dir()
    shutil.rmtree(home / "my")


@pytest.mark.parametrize("path", re.findall(r"\]\(((?:docs|ige|config)/[^)]+)\)", README))
def test_links_lead_somewhere(path):
    assert (ROOT / path).is_file()


def test_config_names_exist():
    for name in set(
        re.findall(r"hpe/[a-z][\w-]*\d[\w-]*|hpe/martinez|(?:apo|vox)/[a-z][\w-]*\d[\w-]*", README)
    ):
        if "large" not in name:
            assert (ROOT / "config" / f"{name}.gin").is_file(), name
