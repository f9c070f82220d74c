"""Shapes whose volumes are known, and meshes as files have them."""

import numpy as np
import pytest
import trimesh

from ige.vox.meshes import Mesh

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
