import keras
import numpy as np
import pytest
import tensorflow as tf

from ige.vox import frustum, grids
from ige.vox.data.shapes import Shape
from ige.vox.resampling import (
    ToObjectFrame,
    cells_in_frustum,
    frustum_in_cells,
    nearest,
    to_frustum,
    to_object,
    trilinear,
)
from ige.vox.views import Cameras, Views, project, random_views


def cameras(count, dtype="float64"):
    views = random_views("somebody", count)
    distance = np.linalg.norm(views.centre, axis=-1, keepdims=True)
    planes = np.concatenate([distance - 0.5, distance + 0.5], axis=-1)
    return views, Cameras(*(tf.constant(field, dtype) for field in (*views, planes)))


def view_of(views, index):
    return Views(*(field[index] for field in views))


def test_cells_of_the_frustum_are_where_the_data_sets_have_them():
    views, of_batch = cameras(3)
    at = frustum_in_cells(of_batch, 5, 8).numpy()
    for i in range(3):
        points = frustum.frustum_points(view_of(views, i), 5).reshape(-1, 3)
        np.testing.assert_allclose((at[i] + 0.5) / 8 - 0.5, points, atol=1e-12)


def test_every_cell_is_found_where_its_centre_is_projected_to():
    views, of_batch = cameras(2)
    at = cells_in_frustum(of_batch, 4, 6).numpy()
    centres = grids.cell_centres(4)
    points = np.stack(np.meshgrid(centres, centres, centres, indexing="ij"), axis=-1).reshape(-1, 3)
    for i in range(2):
        view = view_of(views, i)
        (columns, rows), depths = (np.transpose(part) for part in project(points, view))
        cell = np.floor((np.linalg.norm(view.centre) + 0.5 - depths) * 6)  # from the far end
        np.testing.assert_allclose(at[i, :, 0], rows * 6 - 0.5)
        np.testing.assert_allclose(at[i, :, 1], columns * 6 - 0.5)
        np.testing.assert_array_equal(5 - np.floor(at[i, :, 2] + 0.5), cell)


def test_the_middle_of_the_object_frame_is_in_the_middle_of_the_frustum():
    """Of one cell its centre is the origin: the middle of the image, at the camera's distance."""
    _, of_batch = cameras(3)
    np.testing.assert_allclose(cells_in_frustum(of_batch, 1, 9), np.full((3, 1, 3), 4.0), atol=1e-9)


def test_a_grid_of_its_own_size_is_the_same_in_the_frustum(rng):
    """A cell of a small grid, off the middle of the object, is where the point in it is."""
    views, _ = cameras(2)
    corner, side = np.array([-0.3, -0.1, 0.05]), 0.4
    shape = Shape("0", "a", 4, 32, b"", (), None, views, corner, side)
    in_grid = Cameras(*(tf.constant(field, "float64") for field in shape.cameras))
    at = cells_in_frustum(in_grid, 4, 6).numpy()
    centres = [low + side * (np.arange(4) + 0.5) / 4 for low in corner]
    points = np.stack(np.meshgrid(*centres, indexing="ij"), axis=-1).reshape(-1, 3)
    for i in range(2):
        view = view_of(views, i)
        (columns, rows), depths = (np.transpose(part) for part in project(points, view))
        np.testing.assert_allclose(at[i, :, 0], rows * 6 - 0.5, atol=1e-5)
        np.testing.assert_allclose(at[i, :, 1], columns * 6 - 0.5, atol=1e-5)
        depth = depths - np.linalg.norm(view.centre) + 0.5
        np.testing.assert_allclose(at[i, :, 2], depth * 6 - 0.5, atol=1e-5)
    back = frustum_in_cells(in_grid, 6, 4).numpy()
    of_middles = trilinear(tf.constant(back.reshape(2, 6, 6, 6, 3)), tf.constant(at), np.nan)
    cells = np.stack(np.meshgrid(*[np.arange(4.0)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    found = of_middles.numpy()
    inside = np.isfinite(found).all(axis=-1)
    assert inside.any()
    np.testing.assert_allclose(found[inside], np.stack([cells] * 2)[inside], atol=0.1)


def test_trilinear_by_hand():
    values = np.arange(8.0).reshape(1, 2, 2, 2, 1)
    at = [[[0, 0, 0], [1, 1, 1], [0.5, 0, 0], [0, 0.5, 0.5], [0, 0, -0.5], [-1, 0, 0], [9, 9, 9]]]
    # Half a cell beyond the border is half outside, a cell beyond it and more all of it.
    expected = [0, 7, 2, 1.5, 5, 10, 10]
    found = trilinear(tf.constant(values), tf.constant(at, tf.float64), 10.0)
    np.testing.assert_allclose(found[0, :, 0], expected)


def test_trilinear_of_axes_of_different_lengths(rng):
    """What is linear along each axis is so everywhere between the cells."""
    shape = (2, 3, 5)
    corners = rng.normal(size=(2, 2, 2, 2))
    x, y, z = np.meshgrid(*(np.linspace(0, 1, n) for n in shape), indexing="ij")

    def blended(x, y, z):
        weights = [[1 - t, t] for t in (x, y, z)]
        return np.einsum("nabc,a...,b...,c...->n...", corners, *map(np.array, weights))

    at = rng.uniform(0, 1, (2, 50, 3))
    found = trilinear(
        tf.constant(blended(x, y, z)[..., np.newaxis]),
        tf.constant(at * (np.array(shape) - 1)),
        np.nan,
    )
    for i in range(2):
        expected = blended(*np.moveaxis(at[i], -1, 0))[i]
        np.testing.assert_allclose(found[i, :, 0], expected, rtol=1e-9, atol=1e-9)


def test_nearest_by_hand():
    """To the border of a cell it is that cell, from the border of the grid on it is outside."""
    values = np.arange(24.0).reshape(2, 2, 3, 2, 1)
    one = [[0, 0, 0], [1, 2, 1], [0.4, 1.6, -0.4], [-0.6, 0, 0], [0, 2.6, 0], [0, 0, 99]]
    found = nearest(tf.constant(values), tf.constant([one, one], tf.float64), -1.0)
    expected = np.array([0, 11, 4, -1, -1, -1])
    np.testing.assert_array_equal(found[0, :, 0], expected)
    np.testing.assert_array_equal(found[1, :, 0], np.where(expected < 0, -1, expected + 12))


def test_nearest_is_exact_to_half_a_cell(rng):
    """Of a linear function it is off by no more than that changes in half a cell, and has the
    gradient of the cells that were asked for."""
    _, of_batch = cameras(2)
    slope = rng.normal(size=3)
    centres = grids.cell_centres(16)
    values = sum(np.meshgrid(*(a * centres for a in slope), indexing="ij"))
    batch = tf.constant(np.stack([values] * 2)[..., np.newaxis])
    with tf.GradientTape() as tape:
        tape.watch(batch)
        found = to_frustum(batch, of_batch, 12, np.nan, nearest)
    inside = np.isfinite(found)
    counts = tape.gradient(found, batch).numpy()
    assert counts.sum((1, 2, 3, 4)) == pytest.approx(inside.sum((1, 2, 3, 4)))
    for i in range(2):
        points = frustum.frustum_points(view_of(cameras(2)[0], i), 12)
        mask = inside[i, ..., 0]
        off = np.abs(found[i, ..., 0].numpy()[mask] - (points @ slope)[mask])
        assert off.max() <= np.abs(slope).sum() / 32 + 1e-9
        assert off.max() > 0
        np.testing.assert_array_equal(mask, (np.abs(points) < 0.5).all(axis=-1))


def test_linear_functions_come_back(rng):
    """What is linear in the object frame is so between its cells: exact, not to half a cell."""
    _, of_batch = cameras(2)
    slope = rng.normal(size=3)
    centres = grids.cell_centres(16)
    values = sum(np.meshgrid(*(a * centres for a in slope), indexing="ij"))
    in_frustum = to_frustum(
        tf.constant(np.stack([values] * 2)[..., np.newaxis]), of_batch, 12, np.nan
    ).numpy()
    for i in range(2):
        view = view_of(cameras(2)[0], i)
        points = frustum.frustum_points(view, 12)
        inside = np.isfinite(in_frustum[i, ..., 0])
        assert inside.mean() > 0.5
        np.testing.assert_allclose(in_frustum[i, ..., 0][inside], (points @ slope)[inside])


def test_a_ball_comes_back_from_the_frustum_where_it_was():
    """There and back again: its mean place to a fiftieth of a cell, its border to half a cell."""
    _, of_batch = cameras(3)
    centres = grids.cell_centres(32)
    x, y, z = np.meshgrid(centres, centres, centres, indexing="ij")
    offset = np.array([0.1, -0.05, 0.08])
    radius = np.sqrt((x - offset[0]) ** 2 + (y - offset[1]) ** 2 + (z - offset[2]) ** 2)
    # 1 inside, 0 outside, and a cell of slope between them: the share of the cell that is inside.
    ball = np.clip((0.25 - radius) * 32 + 0.5, 0, 1)
    batch = tf.constant(np.stack([ball] * 3)[..., np.newaxis])
    back = to_object(to_frustum(batch, of_batch, 32), of_batch, 32)[..., 0].numpy()
    for grid in back:
        middle = [(grid * axis).sum() / grid.sum() for axis in (x, y, z)]
        np.testing.assert_allclose(middle, offset, atol=0.02 / 32)
        solid = grid > 0.5
        assert solid[radius < 0.25 - 0.5 / 32].all()
        assert not solid[radius > 0.25 + 0.5 / 32].any()


def test_gradient_is_that_of_finite_differences(rng):
    _, of_batch = cameras(1)
    values = tf.constant(rng.normal(size=(1, 2, 2, 2, 1)))
    theory, numeric = tf.test.compute_gradient(lambda v: to_object(v, of_batch, 3), [values])
    np.testing.assert_allclose(theory[0], numeric[0], atol=1e-7)


def test_cells_behind_the_camera_are_outside(rng):
    """And those in its plane, of a grid that reaches there."""
    views = Views(np.eye(3)[np.newaxis], np.array([[0.0, 0.0, -0.125]]), np.array([1.0]))
    planes = np.array([[0.25, 1.25]])
    camera = Cameras(*(tf.constant(field, "float32") for field in (*views, planes)))
    at = cells_in_frustum(camera, 4, 4).numpy().reshape(4, 4, 4, 3)
    assert np.isfinite(at).all()
    assert (at[:, :, :2, 2] < -1).all()
    values = tf.constant(rng.random((1, 4, 4, 4, 1)), tf.float32)
    for sample in (trilinear, nearest):
        found = sample(values, tf.constant(at.reshape(1, 64, 3)), -7.0)
        np.testing.assert_array_equal(tf.reshape(found, (4, 4, 4))[:, :, :2], -7.0)


def test_layer_is_saved(rng, tmp_path):
    inputs = [keras.Input(shape) for shape in ((4, 4, 4), (3, 3), (3,), (), (2,))]
    model = keras.Model(inputs, ToObjectFrame(8, outside=-5.0, name="out")(*inputs))
    assert model.output_shape == (None, 8, 8, 8)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    _, of_batch = cameras(2, "float32")
    logits = rng.normal(size=(2, 4, 4, 4)).astype(np.float32)
    found = loaded([tf.constant(logits), *of_batch]).numpy()
    expected = to_object(tf.constant(logits[..., np.newaxis]), of_batch, 8, -5.0)[..., 0]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found.min() == pytest.approx(-5)  # logits are closer to 0: it is what no camera sees
