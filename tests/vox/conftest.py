"""Shapes whose volumes are known, and meshes as files have them."""

import zlib

import numpy as np
import pytest
import trimesh

from ige.vox.data.shapes import Shape
from ige.vox.frustum import frustum_occupancy
from ige.vox.grids import pack
from ige.vox.meshes import Mesh
from ige.vox.observations import encode_png
from ige.vox.views import Views, random_views

RED = (200, 40, 40)


def as_mesh(shape: trimesh.Trimesh) -> Mesh:
    faces = np.asarray(shape.faces, np.int64)
    return Mesh(np.array(shape.vertices, float), faces, np.tile(np.uint8(RED), (len(faces), 1)))


@pytest.fixture(scope="session")
def sphere():
    """Radius .4."""
    return as_mesh(trimesh.creation.icosphere(subdivisions=5, radius=0.4))


@pytest.fixture(scope="session")
def cube():
    """Sides of .75: faces on borders of cells at 64."""
    return as_mesh(trimesh.creation.box((0.75, 0.75, 0.75)))


@pytest.fixture(scope="session")
def torus():
    """Radii .3 and .12, about the z axis."""
    return as_mesh(trimesh.creation.torus(0.3, 0.12, 64, 32))


class ToyShapes:
    """A data set in memory: boxes of 8 cells along a side, seen by two cameras."""

    provenance = {"dataset": "toy", "version": "1.0.0"}
    counts = {"train": 6, "validation": 2, "test": 3}

    def __init__(self, resolution: int = 8, image_size: int = 32):
        self.resolution = resolution
        self.image_size = image_size

    def prepare(self) -> None:
        """Nothing is on disk."""

    def shapes(self, split: str, views: int | None = None) -> list[Shape]:
        return [self._shape(f"{split} {i}", i, views) for i in range(self.counts[split])]

    def _shape(self, name: str, number: int, count: int | None) -> Shape:
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        occupancy = np.zeros((self.resolution,) * 3, bool)
        corner = rng.integers(1, self.resolution // 2, 3)
        sides = rng.integers(2, self.resolution // 2 + 1, 3)
        occupancy[tuple(slice(c, c + s) for c, s in zip(corner, sides, strict=True))] = True
        views = Views(*(field[:count] for field in random_views(name, 2)))
        pngs = []
        for i in range(len(views.focal)):
            view = Views(*(field[i] for field in views))
            seen = frustum_occupancy(occupancy, view, self.image_size).any(axis=-1)
            rgba = np.zeros((*seen.shape, 4), np.uint8)
            rgba[seen] = (*RED, 255)
            pngs.append(encode_png(rgba))
        return Shape(
            synset=("03001627", "04379243")[number % 2],
            model=name,
            resolution=self.resolution,
            image_size=self.image_size,
            grid=zlib.compress(pack(occupancy).tobytes()),
            pngs=tuple(pngs),
            depth_data=None,
            views=Views(*(field.astype(np.float32) for field in views)),
            translate=np.full(3, -0.5, np.float32),
            scale=1.0,
        )


@pytest.fixture
def toy_shapes():
    return ToyShapes()
