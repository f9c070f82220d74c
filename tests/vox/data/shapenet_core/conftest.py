"""ShapeNetCore in the layouts that people have on disk, made by code."""

import types
import zipfile

import pytest

from ige.vox.data.shapenet_core import shapenet_core

CHAIR, TABLE = "03001627", "04379243"


def box_obj(x, y, z):
    """A box about the origin, with these sides."""
    corners = [(a * x / 2, b * y / 2, c * z / 2) for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)]
    quads = ((1, 2, 4, 3), (5, 7, 8, 6), (1, 5, 6, 2), (3, 4, 8, 7), (1, 3, 7, 5), (2, 6, 8, 4))
    lines = ["mtllib model.mtl", "usemtl paint"]
    lines += [f"v {a} {b} {c}" for a, b, c in corners]
    lines += [f"f {' '.join(map(str, quad))}" for quad in quads]
    return "\n".join(lines).encode()


# Model -> the sides of its box, and its split in all.csv.
MODELS = {
    (CHAIR, "a"): ((0.5, 0.25, 0.75), "train"),
    (CHAIR, "b"): ((0.25, 0.25, 0.25), "val"),
    (CHAIR, "c"): ((0.75, 0.25, 0.25), "test"),
    (TABLE, "d"): ((0.5, 0.5, 0.5), "train"),
}
PAINT = b"newmtl paint\nKd 1 0 0\nmap_Kd images/texture.png\n"


def entries(models=MODELS, version=1):
    """Name of every file -> its content, with the synsets at the top."""
    files = {}
    for (synset, model), (sides, _) in models.items():
        folder = f"{synset}/{model}" + ("/models" if version == 2 else "")
        name = "model" if version == 1 else "model_normalized"
        files[f"{folder}/{name}.obj"] = box_obj(*sides)
        files[f"{folder}/model.mtl"] = PAINT
        files[f"{folder}/../images/texture.png".replace("/models/..", "").replace("/..", "")] = b"?"
    return files


def splits_text(models=MODELS):
    lines = ["id,synsetId,subSynsetId,modelId,split"]
    lines += [
        f"{i:06},{s},{s},{m},{split}" for i, ((s, m), (_, split)) in enumerate(models.items())
    ]
    return "\n".join(lines) + "\n\n"


def write_zips(folder, files=None, splits=None):
    files = entries() if files is None else files
    for synset in sorted({name.partition("/")[0] for name in files}):
        with zipfile.ZipFile(folder / f"{synset}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                if name.startswith(synset):
                    archive.writestr(name, data)
    (folder / "all.csv").write_text(splits_text() if splits is None else splits)


def write_folders(folder, files=None):
    for name, data in (entries() if files is None else files).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / "all.csv").write_text(splits_text())


@pytest.fixture(scope="session")
def files():
    """The writers above."""
    return types.SimpleNamespace(**globals())


@pytest.fixture
def manual(tmp_path):
    folder = tmp_path / "manual"
    folder.mkdir()
    return folder


@pytest.fixture
def make(tmp_path, manual):
    """Returns a data set of this test's folders, small and built in this process."""
    small = {"resolution": 32, "views": 2, "image_size": 16, "processes": 1}
    folders = {"data_dir": str(tmp_path / "tfds"), "manual_dir": str(manual)}
    return lambda **kwargs: shapenet_core(**{**small, **folders, **kwargs})
