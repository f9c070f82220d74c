import math

import numpy as np
import pytest
from scipy import ndimage

from ige.vox import voxels
from ige.vox.grids import cell_centres
from ige.vox.meshes import Mesh, RefusedError
from ige.vox.voxels import voxelise


def joined(*meshes):
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([m.faces + s for m, s in zip(meshes, starts, strict=False)]),
        np.concatenate([mesh.colours for mesh in meshes]),
    )


@pytest.mark.parametrize(
    ("shape", "volume"),
    [
        ("sphere", 4 / 3 * math.pi * 0.4**3),
        ("cube", 0.75**3),
        ("torus", 2 * math.pi**2 * 0.3 * 0.12**2),
    ],
)
def test_volumes(request, shape, volume):
    solid = voxelise(request.getfixturevalue(shape), 64)
    assert solid.sum() / 64**3 == pytest.approx(volume, rel=0.02)


def test_the_cells_of_a_sphere(sphere):
    """Every cell whose centre is clearly inside, and none that is clearly outside."""
    solid = voxelise(sphere, 32)
    c = cell_centres(32)
    radius = np.sqrt(c[:, None, None] ** 2 + c[:, None] ** 2 + c**2)
    assert solid[radius < 0.398].all()
    assert not solid[radius > 0.401].any()


@pytest.mark.parametrize("resolution", [16, 32, 43, 128])
@pytest.mark.parametrize("side", [0.5, 0.53, 0.56, 0.6])
def test_a_box_is_the_cells_whose_centres_are_inside(cube, side, resolution):
    """Also where its edges end between centres, next to cells that no solid one shares a face
    with."""
    solid = voxelise(cube._replace(vertices=cube.vertices / 0.75 * side), resolution)
    inside = np.abs(cell_centres(resolution)) <= side / 2
    np.testing.assert_array_equal(solid, np.einsum("i,j,k->ijk", *[inside] * 3) > 0)


def test_a_leg_too_thin_for_a_centre_reaches_the_top_it_carries(cube):
    """Of .02, between the lines through the centres of cells of 1/16; the top begins at .26."""
    box = cube.vertices / 0.75
    top = cube._replace(vertices=box * (0.5, 0.2, 0.5) + (0, 0.36, 0))
    leg = cube._replace(vertices=box * (0.02, 0.6, 0.02) + (0.13, -0.04, 0.13))
    solid = voxelise(joined(top, leg), 16)
    np.testing.assert_array_equal(np.flatnonzero(solid[10, :, 10]), np.arange(2, 15))


@pytest.mark.parametrize("up", [1, -1])
def test_a_sheet_reaches_the_slab_it_carries(cube, up):
    """Of .001, between the centres of cells of 1/128, of which the next to last is in line with it;
    the slab is from .2 to .4, above or below."""
    box = cube.vertices / 0.75
    slab = cube._replace(vertices=box * (0.5, 0.2, 0.5) + (0, up * 0.3, 0))
    sheet = cube._replace(vertices=box * (0.001, 0.5, 0.3) + (0.0021, up * -0.05, 0))
    solid = voxelise(joined(slab, sheet), 128)
    np.testing.assert_array_equal(np.flatnonzero(solid[64, ::up, 64]), np.arange(26, 115))


def test_a_box_larger_than_the_grid_fills_it(cube):
    """By no more than the margin that models may have."""
    assert voxelise(cube._replace(vertices=cube.vertices / 0.75 * 1.019), 64).all()


@pytest.mark.parametrize("permutation", [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
def test_no_axis_is_mistaken_for_another(cube, permutation):
    sides = np.array([0.25, 0.5, 0.75])[list(permutation)]
    solid = voxelise(cube._replace(vertices=cube.vertices / 0.75 * sides), 16)
    inside = [np.abs(cell_centres(16)) < side / 2 for side in sides]
    np.testing.assert_array_equal(solid, np.einsum("i,j,k->ijk", *inside) > 0)


def test_neither_normals_nor_seams_matter(sphere, rng):
    """Faces turned around at random, each with corners of its own."""
    flipped = rng.random(len(sphere.faces)) < 0.5
    faces = np.where(flipped[:, np.newaxis], sphere.faces[:, ::-1], sphere.faces)
    apart = Mesh(
        sphere.vertices[faces].reshape(-1, 3),
        np.arange(faces.size).reshape(-1, 3),
        sphere.colours,
    )
    np.testing.assert_array_equal(voxelise(apart, 32), voxelise(sphere, 32))


def test_a_gap_opens_the_lines_through_it_and_no_others(cube):
    corners = cube.vertices[cube.faces[0]]
    (axis,) = np.flatnonzero(np.ptp(corners, axis=0) == 0)
    smaller = 0.8 * corners + 0.2 * corners[0]
    open_cube = Mesh(
        np.concatenate([cube.vertices, smaller]),
        np.concatenate([cube.faces[1:], [[8, 9, 10]]]),
        cube.colours,
    )
    lost = (voxelise(cube, 64) & ~voxelise(open_cube, 64)).any(axis=axis).sum()
    assert lost == pytest.approx((1 - 0.8**2) * 48**2 / 2, rel=0.1)


def test_what_is_inside_counts_as_solid(cube):
    inner = cube._replace(vertices=cube.vertices / 2)
    np.testing.assert_array_equal(voxelise(joined(cube, inner), 16), voxelise(cube, 16))


def test_a_box_without_a_lid_stays_open():
    """Walls without thickness: they keep their cells, and the room between them is empty."""
    corners = 0.375 * (2 * np.argwhere(np.ones((2, 2, 2))) - 1.0)
    quads = [(0, 1, 5, 4), (0, 1, 3, 2), (4, 5, 7, 6), (0, 2, 6, 4), (1, 3, 7, 5)]  # none at y = +
    faces = np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])
    box = Mesh(corners, faces, np.zeros((len(faces), 3), np.uint8))
    solid = voxelise(box, 10)  # walls at 1.25 and 8.75 cells
    assert not solid[2:8, 2:, 2:8].any()
    assert solid[2:8, 1, 2:8].all()
    assert solid[1, 2:8, 2:8].all()
    assert solid[8, 2:8, 2:8].all()
    assert not solid[0].any()
    assert not solid[:, 9].any()


@pytest.mark.parametrize("resolution", [16, 32, 64, 128])
def test_what_is_thinner_than_a_cell_is_kept_in_one_piece(cube, resolution):
    """An askew leg of .01 by .74 by .01, which lines through the centres of cells pass by."""
    tilt = np.array([[1, 0.2, 0], [0, 1, 0], [0, 0.1, 1]])
    sides = np.array([0.01, 0.75 - 1 / 128, 0.01])  # its ends are inside of cells
    leg = cube._replace(vertices=cube.vertices / 0.75 * sides @ tilt.T + (0.013, 0, 0.013))
    solid = voxelise(leg, resolution)
    tall = np.abs(cell_centres(resolution)) < 0.375
    np.testing.assert_array_equal(solid.any(axis=(0, 2)), tall)
    assert ndimage.label(solid, np.ones((3, 3, 3)))[1] == 1
    # A row has no more cells than the leg's section, moved by the tilt, can touch.
    assert solid.sum(axis=(0, 2)).max() <= (6 if resolution < 128 else 9)


def test_a_sheet_keeps_one_layer():
    sheet = Mesh(
        np.array([[-0.4, -0.4, 0], [0.4, -0.4, 0], [0.4, 0.4, 0], [-0.4, 0.4, 0.0]]),
        np.array([[0, 1, 2], [0, 2, 3]]),
        np.zeros((2, 3), np.uint8),
    )
    solid = voxelise(sheet, 16)
    inside = np.abs(cell_centres(16)) < 0.4 + 0.5 / 16
    np.testing.assert_array_equal(solid.sum(axis=2), np.outer(inside, inside))


@pytest.mark.parametrize(
    ("name", "most", "along"),
    [("MAX_LAYERS", 4, "a line"), ("MAX_CROSSINGS", 2 * 96**2 + 2 * 48**2, "an axis")],
)
def test_how_many_surfaces_are_followed(monkeypatch, cube, name, most, along):
    """Two cubes, one in the other: four surfaces on the lines through both."""
    both = joined(cube, cube._replace(vertices=cube.vertices / 2))
    monkeypatch.setattr(voxels, "_AT_ONCE", 1000)  # a part of the lines, as at 256
    expected = voxelise(cube, 128)
    monkeypatch.setattr(voxels, name, most)
    np.testing.assert_array_equal(voxelise(both, 128), expected)
    monkeypatch.setattr(voxels, name, most - 1)
    with pytest.raises(
        RefusedError, match=f"^has too many surfaces: more than {most - 1:,} along {along}$"
    ):
        voxelise(both, 128)
