"""What is built of a model, whatever its files are like."""

import dataclasses
import subprocess
import sys
import zlib

import numpy as np
import pytest

from ige.vox import voxels
from ige.vox.meshes import read_obj
from ige.vox.observations import (
    DEPTH_UNIT,
    ModelFiles,
    Observation,
    Recipe,
    Refusal,
    Task,
    observe,
    perform,
)
from ige.vox.rendering import render
from ige.vox.views import LEGACY_FOV, random_views

OBJ = b"""mtllib model.mtl
v -0.25 -0.25 -0.25
v 0.25 -0.25 -0.25
v 0.25 0.25 -0.25
v -0.25 0.25 -0.25
v 0 0 0.4
usemtl paint
f 1 2 3 4
f 1 2 5
f 2/1/1 3/1/1 5/1/1
f 3 4 5
f 4 1 5
"""
MTL = b"newmtl paint\nKd 0.1 0.2 0.3\n"
SMALL = Recipe(resolution=8, views=1, image_size=8)
RUNS = 300


def files(obj=OBJ, mtl=MTL):
    return ModelFiles("03001627", "a", obj, {"model.mtl": mtl})


def mutated(rng, data):
    """Bytes changed, lost, doubled, or numbers replaced by others that people write."""
    data = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(len(data)))
        kind = rng.integers(4)
        if kind == 0:
            data[at] = rng.integers(256)
        elif kind == 1:
            del data[at : at + int(rng.integers(1, 12))]
        elif kind == 2:
            data[at:at] = data[at : at + int(rng.integers(1, 30))]
        else:
            odd = [
                b"1e-40",
                b"nan",
                b"-inf",
                b"-1",
                b"0",
                b"99999999999999999999",
                b"0.5",
                b"f",
                b"/",
            ]
            data[at : at + 1] = odd[rng.integers(len(odd))]
        if not data:
            data = bytearray(b" ")
    return bytes(data)


def test_hostile_files_are_built_or_refused(rng):
    outcomes = set()
    for _ in range(RUNS):
        result = observe(files(mutated(rng, OBJ), mutated(rng, MTL)), SMALL)
        outcomes.add(type(result))
        if isinstance(result, Observation):
            assert result.occupancy.any()
            assert np.isfinite(result.views.centre).all()
        else:
            assert result.text.isprintable()
            assert result.text.startswith(result.reason)
    assert outcomes == {Observation, Refusal}


@pytest.mark.parametrize("size", ["1e-300", "1e-30", "1e-9", "0.003"])
def test_specks_are_built_or_refused(size):
    obj = f"v 0.01 0.01 0.01\nv {size} 0.01 0.01\nv 0.01 {size} 0.01\nf 1 2 3\n".encode()
    tiny = f"v 0 0 0\nv {size} 0 0\nv 0 {size} 0\nf 1 2 3\n".encode()
    assert isinstance(observe(files(obj), SMALL), Observation | Refusal)
    assert isinstance(observe(files(tiny), SMALL), Refusal)


def test_surfaces_that_are_too_many_are_refused(monkeypatch):
    monkeypatch.setattr(voxels, "MAX_LAYERS", 1)
    text = "has too many surfaces: more than 1 along a line"
    assert observe(files(), SMALL) == Refusal("has too many surfaces", text)


def test_processes_that_build_import_no_tensorflow():
    code = "import ige.vox.observations, ige.vox.r2n2, sys; print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"


def test_what_is_saved_comes_back(tmp_path):
    path = tmp_path / "03001627" / "a.npz"
    recipe = Recipe(resolution=8, views=3, image_size=8)
    built = perform(Task(files(), recipe, None))
    assert perform(Task(files(), recipe, path)) == path
    assert perform(Task(None, recipe, path)) == path
    read = Observation.load(path)
    assert read.images == built.images
    assert len(set(read.images)) == 3
    assert read.depth == built.depth
    np.testing.assert_array_equal(read.occupancy, built.occupancy)
    for ours, theirs in zip(read.views, built.views, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_views_are_those_of_the_recipe():
    recipe = dataclasses.replace(SMALL, view_seed=3, legacy_fov=True)
    for ours, theirs in zip(
        observe(files(), recipe).views, random_views("a", 1, LEGACY_FOV, 3), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_depths_are_rounded_to_their_unit():
    built = observe(files(), dataclasses.replace(SMALL, image_size=32))
    _, depths = render(read_obj(OBJ, {}), built.views, 32)
    stored = np.frombuffer(zlib.decompress(built.depth), np.uint16).reshape(1, 32, 32)
    assert (stored > 0).any()
    np.testing.assert_allclose(stored * DEPTH_UNIT, depths, rtol=0, atol=DEPTH_UNIT / 2)


def test_a_refused_model_leaves_no_file(tmp_path):
    path = tmp_path / "a.npz"
    refusal = perform(Task(files(b""), SMALL, path))
    assert refusal == Refusal("has no faces", "has no faces")
    assert not path.exists()
