"""The archives of 3D-R2N2, made by code."""

import io
import tarfile
import types

import numpy as np
import pytest
from PIL import Image

from ige.vox.binvox import Binvox, write_binvox
from ige.vox.data.shapenet_r2n2 import shapenet_r2n2

CHAIR = "03001627"
MODELS = tuple("abcdefghij")
"""Eight for training, of which one is for validation, and two for tests."""


def grid(model):
    """A box whose height differs from model to model."""
    cells = np.zeros((32, 32, 32), bool)
    cells[4:20, 8 : 12 + MODELS.index(model), 10:14] = True
    return Binvox(cells, np.array([-0.3, -0.2, -0.1]), 0.75)


def png(model, view, size=137, mode="RGBA"):
    """Red of one strength for each view, before nothing; half-transparent on a border."""
    pixels = np.zeros((size, size, 4), np.uint8)
    pixels[40:90, 30:70] = (MODELS.index(model), 0, view, 255)
    pixels[40:90, 70] = (0, 0, 0, 128)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, "png")
    return stream.getvalue()


def metadata(rows=24):
    return "".join(f"{15 * i} {25 + i / 8} 0 {0.65 + i / 100} 25\n" for i in range(rows)).encode()


def entries(models=MODELS):
    """Archive -> its files."""
    voxels, renderings = {}, {}
    for model in models:
        voxels[f"ShapeNetVox32/{CHAIR}/{model}/model.binvox"] = write_binvox(grid(model))
        folder = f"ShapeNetRendering/{CHAIR}/{model}/rendering"
        for view in range(24):
            renderings[f"{folder}/{view:02d}.png"] = png(model, view)
        renderings[f"{folder}/renderings.txt"] = b"00.png\n"
        renderings[f"{folder}/rendering_metadata.txt"] = metadata()
    return {"ShapeNetVox32": voxels, "ShapeNetRendering": renderings}


def write_archives(folder, archives):
    for archive, files in archives.items():
        with tarfile.open(folder / f"{archive}.tgz", "w:gz", compresslevel=1) as file:
            for name, data in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                file.addfile(member, io.BytesIO(data))


def write_folders(folder, archives):
    for files in archives.values():
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)


@pytest.fixture(scope="session")
def files():
    """The writers above."""
    return types.SimpleNamespace(**globals())


@pytest.fixture(scope="session")
def whole():
    """Every file of the archives; not to be changed."""
    return entries()


@pytest.fixture
def manual(tmp_path):
    folder = tmp_path / "manual"
    folder.mkdir()
    return folder


@pytest.fixture
def make(tmp_path, manual):
    """Returns a data set of this test's folders, built in this process."""
    folders = {"data_dir": str(tmp_path / "tfds"), "manual_dir": str(manual)}
    return lambda **kwargs: shapenet_r2n2(**{"processes": 1, **folders, **kwargs})
