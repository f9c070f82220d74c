"""From images to voxels: which camera the network is told, and which way up files are."""

import json
import re
import types

import keras
import numpy as np
import pytest
import trimesh
from PIL import Image

from ige import descents
from ige.errors import UserError, first_line
from ige.vox import predict as module
from ige.vox.binvox import read_binvox
from ige.vox.grids import cell_centres
from ige.vox.predict import predict
from ige.vox.views import DISTANCE, FOV, Views, focal_length, project

SIZE, CELLS = 32, 16


class Extruded(keras.layers.Layer):
    """Stands for a network: solid is what the camera sees in the silhouette, within .2
    lengths of its frustum of the plane through the middle of the object that faces it; logits are 3
    there and -5 elsewhere."""

    def call(self, inputs):
        silhouette, rotation, centre, focal, planes = (
            keras.ops.cast(inputs[name], "float32")
            for name in ("silhouette", "rotation", "centre", "focal", "planes")
        )
        axis = cell_centres(CELLS).astype(np.float32)
        points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
        camera = keras.ops.matmul(
            points - centre[:, np.newaxis], keras.ops.swapaxes(rotation, 1, 2)
        )
        depth = camera[..., 2]
        at = camera[..., :2] / depth[..., np.newaxis] * focal[:, np.newaxis, np.newaxis] + 0.5
        pixels = keras.ops.cast(keras.ops.clip(at * SIZE, 0, SIZE - 1), "int32")
        flat = keras.ops.reshape(silhouette, (-1, SIZE * SIZE))
        seen = keras.ops.take_along_axis(flat, pixels[..., 1] * SIZE + pixels[..., 0], axis=1)
        near, far = keras.ops.split(planes, 2, axis=-1)
        middle = keras.ops.abs((depth - near) / (far - near) - 0.5) < 0.2
        solid = seen * keras.ops.cast(middle, "float32")
        return keras.ops.reshape(8 * solid - 5, (-1, CELLS, CELLS, CELLS))

    def compute_output_spec(self, inputs):
        return keras.KerasTensor((None, CELLS, CELLS, CELLS), "float32")


def _network(iterates=False):
    inputs = {
        "image": keras.Input((SIZE, SIZE, 3), dtype="uint8", name="image"),
        "silhouette": keras.Input((SIZE, SIZE), dtype="bool", name="silhouette"),
        "rotation": keras.Input((3, 3), name="rotation"),
        "centre": keras.Input((3,), name="centre"),
        "focal": keras.Input((), name="focal"),
        "planes": keras.Input((2,), name="planes"),
    }
    outputs = Extruded()(inputs)
    if not iterates:
        return keras.Model(inputs, outputs)
    # A first guess that is solid nowhere.
    both = keras.layers.Lambda(
        lambda logits: keras.ops.stack([logits - 9, logits], axis=1),
        output_shape=(2, CELLS, CELLS, CELLS),
    )(outputs)
    return descents.last(keras.Model(inputs, both))


@pytest.fixture(scope="module")
def network():
    return _network()


@pytest.fixture
def run(tmp_path, network, capsys):
    """Runs the command; returns the folder that it writes to and what it says."""

    def call(source, model=network, **arguments):
        folder = tmp_path / "out"
        folder.mkdir(exist_ok=True)
        path = tmp_path / "run" / "checkpoints" / "epoch-0001"
        capsys.readouterr()
        trained = types.SimpleNamespace(model=model, path=path, epoch=5)
        predict(lambda *_: trained, source, lambda: folder, problem=None, **arguments)
        return folder, capsys.readouterr().out

    return call


@pytest.fixture
def photo(tmp_path):
    """A letter L: a bar at the left, a foot at its bottom to the right."""
    rgba = np.zeros((SIZE, SIZE, 4), np.uint8)
    rgba[6:26, 10:15] = rgba[22:26, 10:22] = (200, 80, 40, 255)
    path = tmp_path / "letter.png"
    Image.fromarray(rgba).save(path)
    return path


def _occupancy(folder, name="letter"):
    grid = read_binvox((folder / f"{name}.binvox").read_bytes(), name)
    np.testing.assert_array_equal(grid.translate, -0.5)
    assert grid.scale == 1
    return grid.occupancy


def test_files_are_upright_and_face_the_camera(run, photo):
    folder, out = run(photo)
    assert sorted(path.name for path in folder.iterdir()) == [
        "letter.binvox",
        "letter.obj",
        "viewer.html",
    ]
    names = ("letter.binvox", "letter.obj", "viewer.html")
    assert out.splitlines()[-3:] == [str(folder / name) for name in names]
    occupancy = _occupancy(folder)
    assert occupancy.shape == (CELLS,) * 3
    x, y, z = (cell_centres(CELLS)[cells] for cells in np.nonzero(occupancy))
    assert x[y > 0].max() < 0.1  # the bar is at the left, so at small x
    assert x[y < y.min() + 0.1].max() > x[y > 0].max() + 0.1  # the foot is below
    # The plane that faces a camera above leans back: the top is behind, at smaller z.
    assert z[y > 0.15].mean() < -0.05
    assert z[y < -0.15].mean() > 0.05


def test_the_surface_is_around_the_cells(run, photo):
    folder, _ = run(photo)
    surface = trimesh.load(folder / "letter.obj", force="mesh")
    assert surface.is_watertight
    occupancy = _occupancy(folder)
    assert surface.volume == pytest.approx(occupancy.mean(), rel=0.25)
    cells = np.stack([cell_centres(CELLS)[at] for at in np.nonzero(occupancy)], axis=-1)
    np.testing.assert_allclose(
        surface.bounds, [cells.min(axis=0), cells.max(axis=0)], atol=0.6 / CELLS
    )


def test_another_azimuth_turns_the_object(run, photo):
    """Seen from along x, right in the image is at smaller z."""
    front, _ = run(photo, elevation=0.0)
    expected = _occupancy(front)
    side, _ = run(photo, elevation=0.0, azimuth=0.0)
    found = _occupancy(side)
    np.testing.assert_array_equal(found, np.flip(expected.transpose(2, 1, 0), axis=2))
    # The last cells whose centres are within .2: a frustum is as long as the object frame.
    depths = cell_centres(CELLS)[np.nonzero(expected)[2]]
    assert (depths.min(), depths.max()) == (-2.5 / CELLS, 2.5 / CELLS)


def test_the_camera_of_the_training(run, photo, monkeypatch):
    given = []
    real = module.outputs.probabilities
    monkeypatch.setattr(
        module.outputs, "probabilities", lambda *args: given.append(args[1]) or real(*args)
    )
    run(photo, pictures=False)
    (inputs,) = given
    view = Views(*(inputs[name][0].astype(float) for name in Views._fields))
    assert np.linalg.norm(view.centre) == pytest.approx(DISTANCE)
    assert np.degrees(np.arcsin(view.centre[1] / DISTANCE)) == pytest.approx(27.5)
    assert view.focal == pytest.approx(focal_length(FOV))
    at, _ = project(np.array([[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0]]), view)
    np.testing.assert_allclose(at[0], 0.5)
    assert at[1, 0] > 0.5 > at[2, 1]
    np.testing.assert_array_equal(inputs["silhouette"][0], (inputs["image"][0] < 255).any(axis=-1))


def test_a_folder_of_images(run, photo, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MAX_SCENES", 2)
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / f"{name}.png").write_bytes(photo.read_bytes())
    out, said = run(folder, batch_size=2)
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [f"{name}{suffix}" for name in "abc" for suffix in (".binvox", ".obj")] + ["viewer.html"]
    )
    np.testing.assert_array_equal(_occupancy(out, "a"), _occupancy(out, "c"))
    assert "viewer.html: the first 2 of 3 images" in said
    page = (out / "viewer.html").read_text("utf-8")
    assert '"name":"b"' in page
    assert '"name":"c"' not in page


def test_the_page_has_every_iterate(run, photo):
    folder, _ = run(photo, _network(iterates=True))
    page = (folder / "viewer.html").read_text("utf-8")
    data = json.loads(re.search(r'json">(.*?)</script>', page, re.DOTALL)[1])
    assert data["steps"] == ["first guess", "step 1: result"]
    assert len(data["scenes"][0]["predicted"]) == 2
    assert _occupancy(folder).any()  # of the last iterate


def test_threshold_of_the_evaluation(run, photo, tmp_path):
    """Logits of 3 are a probability of .953."""
    _, said = run(photo)
    assert (
        "cells are solid above 0.4, for want of vox.predict.threshold: --command=evaluate " in said
    )
    evaluation = tmp_path / "run" / "evaluation.json"
    evaluation.parent.mkdir()
    figures = {"threshold": 0.95, "epoch": 5, "evaluated_with": {}}
    evaluation.write_text(json.dumps(figures))
    folder, said = run(photo)
    assert f"cells are solid above 0.95, as {evaluation} has it" in said
    evaluation.write_text(json.dumps(figures | {"epoch": 4}))
    _, said = run(photo)
    assert f"cells are solid above 0.4, because {evaluation} is of epoch 4: --command=" in said
    evaluation.write_text(json.dumps(figures | {"evaluated_with": {"data.config": "other"}}))
    _, said = run(photo)
    assert f"solid above 0.4, because {evaluation} is of other data than the training: " in said
    evaluation.write_text(json.dumps(figures | {"threshold": 0.96}))
    with pytest.raises(UserError) as error:
        run(photo)
    assert first_line(error.value) == (
        "vox.predict.threshold: got 0.96, which no cell of 1 image reaches; lower it, or look at "
        "the image"
    )
    # What was written before would not belong to this.
    assert not (folder / "letter.obj").exists()
    folder, said = run(photo, threshold=0.5)
    assert "cells are solid" not in said
    assert (folder / "letter.obj").exists()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("threshold", 1.0, "more than 0, less than 1"),
        ("elevation", 90.0, "-89 to 89 degrees"),
        ("distance", 0.4, "1 to 100, lengths of the object"),
        ("fov", 0.0, "1 to 150 degrees"),
        ("batch_size", 0, "at least 1"),
    ],
)
def test_numbers_that_make_no_sense(run, photo, name, value, expected):
    with pytest.raises(UserError) as error:
        run(photo, **{name: value})
    assert first_line(error.value) == f"vox.predict.{name}: got {value}, expected {expected}"


def test_a_network_of_something_else(run, photo, tmp_path):
    inputs = {"pose_2d": keras.Input((16, 2), name="pose_2d")}
    other = keras.Model(inputs, keras.layers.Flatten()(inputs["pose_2d"]))
    with pytest.raises(UserError, match=r"epoch-0001: takes pose_2d, expected a network of images"):
        run(photo, other)


def test_a_bad_image_stops_before_anything_is_written(run, photo, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.png").write_bytes(photo.read_bytes())
    (folder / "b.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"b.png: not an image"):
        run(folder)
    assert list((tmp_path / "out").iterdir()) == []
