"""What `vis` draws of reconstructions: the right examples, from the right side."""

import dataclasses
import json
import re
import types
import zlib

import keras
import numpy as np
import pytest
from PIL import Image

from ige import descents
from ige.errors import UserError
from ige.vox import outputs, pictures
from ige.vox.data.shapes import Shape
from ige.vox.grids import cell_centres, iou, pack
from ige.vox.observations import encode_png
from ige.vox.rendering import render
from ige.vox.surfaces import PREDICTION, TRUTH, cells_mesh
from ige.vox.views import DISTANCE, Views, random_views

CELLS, SIZE, VIEWS = 16, 32, 2
MODELS = 5


def _box(width: float) -> np.ndarray:
    """Returns a solid box (R, R, R) at small x, of which little is at small z."""
    axis = cell_centres(CELLS)
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    return (x < -0.1) & (np.abs(y) < 0.3) & (z > -width)


def _shape(index: int) -> Shape:
    """Returns a model whose images have its number and that of the view in the corner."""
    name = f"{index}" * 12
    views = random_views(name, VIEWS)
    occupancy = _box(0.3)
    _, depths = render(cells_mesh(occupancy, TRUTH), views, SIZE)
    rgba = np.full((VIEWS, SIZE, SIZE, 4), 120, np.uint8)
    rgba[..., 3] = np.where(depths > 0, 255, 0)
    rgba[:, 0, 0, 3] = 255
    rgba[:, 0, 0, 0] = index
    rgba[:, 0, 0, 1] = range(VIEWS)
    return Shape(
        "03001627" if index % 2 else "09999999",
        name,
        CELLS,
        SIZE,
        zlib.compress(pack(occupancy).tobytes()),
        tuple(map(encode_png, rgba)),
        None,
        Views(*(field.astype(np.float32) for field in views)),
        np.full(3, -0.5, np.float32),
        1.0,
    )


class Problem:
    """Stands for a `VoxProblem` of five models with two views each."""

    def __init__(self):
        self.shapes = [_shape(index) for index in range(MODELS)]

    def decoder(self, split):
        assert split == "test"
        return types.SimpleNamespace(shapes=self.shapes, views=VIEWS)

    def measurement(self, model):
        return outputs.measurement(model)

    def threshold(self, measure, batch_size):
        assert batch_size == 4
        return 0.6

    def get_dataset(self, split, batch_size):
        rows = [(shape, view) for shape in self.shapes for view in range(VIEWS)]
        for start in range(0, len(rows), batch_size):
            some = rows[start : start + batch_size]
            yield (
                {
                    "image": np.stack([shape.image(view) for shape, view in some]),
                    "silhouette": np.stack([shape.silhouette(view) for shape, view in some]),
                    "rotation": np.stack([shape.views.rotation[view] for shape, view in some]),
                    "centre": np.stack([shape.views.centre[view] for shape, view in some]),
                    "focal": np.stack([shape.views.focal[view] for shape, view in some]),
                    "planes": np.stack([shape.cameras.planes[view] for shape, view in some]),
                },
                np.stack([shape.occupancy for shape, _ in some]),
            )


class Boxes(keras.layers.Layer):
    """Stands for a network: reads the row's number from the corner of the image, and predicts one
    layer less of the box for every row; logits are 1 or -1, and .3, under the threshold, beyond."""

    def call(self, inputs):
        corner = keras.ops.cast(inputs["image"][:, 0, 0, :2], "float32")
        row = corner[:, 0] * VIEWS + corner[:, 1]
        z = cell_centres(CELLS).astype(np.float32)
        kept = z > -0.3 + keras.ops.reshape(row, (-1, 1, 1, 1)) / CELLS
        logits = keras.ops.where(kept, np.where(_box(0.3), 1.0, -1.0), np.where(_box(0.3), 0.3, -1))
        return keras.ops.cast(logits, "float32")

    def compute_output_spec(self, inputs):
        return keras.KerasTensor((None, CELLS, CELLS, CELLS), "float32")


def _inputs():
    specs = {"image": ((SIZE, SIZE, 3), "uint8"), "silhouette": ((SIZE, SIZE), "bool")}
    specs |= {
        "rotation": ((3, 3), "float32"),
        "centre": ((3,), "float32"),
        "focal": ((), "float32"),
        "planes": ((2,), "float32"),
    }
    return {
        name: keras.Input(shape, dtype=dtype, name=name) for name, (shape, dtype) in specs.items()
    }


@pytest.fixture(scope="module")
def problem():
    return Problem()


@pytest.fixture(scope="module")
def network():
    inputs = _inputs()
    return keras.Model(inputs, Boxes()(inputs))


@pytest.fixture
def drawn(problem, network, tmp_path, monkeypatch):
    """Draws, and returns the examples, the title, and the data of the page."""
    calls = []
    monkeypatch.setattr(pictures, "_PIXELS", 16)  # what takes longest
    real = pictures.draw_examples

    def draw_examples(*args):
        calls.append(args)
        return real(*args)

    monkeypatch.setattr(pictures, "draw_examples", draw_examples)

    def draw(example=None, model=network):
        made = pictures.draw(problem, model, "test", 4, tmp_path, example)
        assert made.paths == [tmp_path / "shapes.png", tmp_path / "viewer.html"]
        assert sorted(tmp_path.iterdir()) == made.paths
        assert len(made.figures) == 1
        text = made.paths[1].read_text("utf-8")
        page = json.loads(re.search(r'json">(.*?)</script>', text, re.DOTALL)[1])
        return *calls[-1], page

    return draw


def test_best_median_and_worst(drawn):
    """Every row is worse than the one before; two of each rank, of two models."""
    examples, title, page = drawn()
    assert [(e.rank, e.shape.model[0], e.view) for e in examples] == [
        ("best", "0", 0),
        ("best", "1", 0),
        ("median", "2", 1),
        ("median", "3", 0),
        ("worst", "4", 1),
        ("worst", "3", 1),
    ]
    # Of the 13 layers of the box.
    overlaps = [iou(e.predicted[-1], e.shape.occupancy) for e in examples]
    np.testing.assert_allclose(13 * np.array(overlaps), [13, 11, 8, 7, 4, 6])
    assert title == "test: mean IoU 65.4 % of 10 views, cells solid above 0.6"
    assert [scene["name"] for scene in page["scenes"][:2]] == [
        "best: 09999999 000000000000, view 0",
        "best: chair 111111111111, view 0",
    ]
    np.testing.assert_allclose([scene["ious"] for scene in page["scenes"]], np.c_[overlaps])


def test_an_example_comes_first(drawn):
    for name, view in (("222222222222", 0), ("222222222222, view 1", 1), ("chair 222222222222", 0)):
        examples, _, page = drawn(name)
        first = examples[0]
        assert (first.rank, first.shape.model, first.view) == ("chosen", "222222222222", view)
        assert page["scenes"][0]["name"] == f"chosen: 09999999 222222222222, view {view}"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("22222222222", "did you mean 222222222222?"),
        ("table", "such as '000000000000'"),
        ("000000000000, view 2", "such as '000000000000'"),
    ],
)
def test_an_unknown_example(drawn, name, hint):
    with pytest.raises(UserError) as error:
        drawn(name)
    assert str(error.value) == (
        f"vis.example: got {name!r}; expected the id of one of 5 models, or one of its views from "
        f"'ID, view 0' to 'ID, view 1'; {hint}"
    )


def test_every_iterate_is_in_the_page(drawn):
    inputs = _inputs()
    logits = Boxes()(inputs)
    layer = keras.layers.Lambda(
        lambda x: keras.ops.stack([x - 9, -x, x], axis=1), output_shape=(3, *[CELLS] * 3)
    )
    model = descents.last(keras.Model(inputs, layer(logits)))
    examples, _, page = drawn(model=model)
    assert page["steps"] == ["first guess", "step 1", "step 2: result"]
    assert examples[0].predicted.shape == (3, CELLS, CELLS, CELLS)
    assert page["scenes"][0]["ious"] == [0, 0, 1]


def test_panels_are_what_the_cameras_see(problem):
    """Where the shape is in the image, it is in the second and third panel; in the others it is
    seen by a camera that moved by 130 degrees, as far from it and as high."""
    shape = problem.shapes[3]
    example = pictures.Example("best", shape, 1, np.stack([_box(-0.2), _box(0.0)]))
    image, predicted, true, *behind = pictures._panels(example)
    np.testing.assert_array_equal(image, shape.image(1))
    small = np.asarray(Image.fromarray(true).resize((SIZE, SIZE), Image.Resampling.NEAREST))
    seen = (small < 255).any(axis=-1)
    assert (seen == shape.silhouette(1)).mean() > 0.98
    assert 0.1 < (predicted < 255).any(axis=-1).sum() / (true < 255).any(axis=-1).sum() < 0.95
    # Blue is told from grey.
    assert predicted[..., 2].astype(int).sum() > predicted[..., 0].astype(int).sum()
    camera, other = example.camera, pictures._behind(example.camera)
    for one in (camera, other):
        np.testing.assert_allclose(one.rotation @ -one.centre, [0, 0, DISTANCE], atol=1e-6)
    assert other.centre[1] == pytest.approx(camera.centre[1])
    flat = np.array([camera.centre[[0, 2]], other.centre[[0, 2]]], float)
    cosine = flat[0] @ flat[1] / np.linalg.norm(flat, axis=-1).prod()
    assert np.degrees(np.arccos(cosine)) == pytest.approx(130, abs=0.01)
    expected, _ = render(
        cells_mesh(_box(0.0), PREDICTION), Views(*(np.asarray(f)[np.newaxis] for f in other)), 64
    )
    ink = (expected[0] < 255).any(axis=-1)
    found = (np.asarray(Image.fromarray(behind[0]).resize((64, 64), 0)) < 255).any(axis=-1)
    assert (ink & found).sum() / (ink | found).sum() > 0.9


def test_the_camera_is_that_of_the_grid(problem):
    """From the middle of a grid of .5, at (.25, 0, -.25): twice as many sides away."""
    corner = np.array([0, -0.25, -0.5], np.float32)
    shape = dataclasses.replace(problem.shapes[3], translate=corner, scale=0.5)
    expected = (shape.views.centre[1] - [0.25, 0, -0.25]) / 0.5
    inputs = pictures._inputs(shape, 1)
    np.testing.assert_allclose(inputs["centre"], [expected], rtol=1e-6)
    near = 2 * (np.linalg.norm(shape.views.centre[1]) - 0.5)
    np.testing.assert_allclose(inputs["planes"], [[near, near + 2]], rtol=1e-6)
    example = pictures.Example("best", shape, 1, np.stack([shape.occupancy]))
    for camera in (example.camera, example.scene.view):
        np.testing.assert_allclose(camera.centre, expected, rtol=1e-6)
        np.testing.assert_array_equal(camera.rotation, shape.views.rotation[1])


def test_nothing_solid_is_said(problem):
    empty = np.zeros((1, CELLS, CELLS, CELLS), bool)
    figure = pictures.draw_examples([pictures.Example("worst", problem.shapes[0], 0, empty)], "")
    said = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert said == ["no solid cell"] * 2
    assert "IoU 0.0 %" in [text.get_text() for text in figure.texts]
