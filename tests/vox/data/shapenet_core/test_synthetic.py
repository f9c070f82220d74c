import zipfile

import numpy as np
import pytest
import trimesh

from ige.vox.data.shapenet_core.furniture import KINDS, box, cylinder, normalised
from ige.vox.data.shapenet_core.synthetic import SyntheticSpec, obj_text, write_synthetic
from ige.vox.meshes import read_obj


def closed(part):
    return trimesh.Trimesh(part.vertices, part.faces, process=False)


def test_parts_are_closed_and_face_outwards():
    """A volume that is positive and analytic."""
    solid = closed(box("a", (-0.1, 0.0, 0.2), (0.3, 0.5, 0.3)))
    assert solid.is_watertight
    assert solid.volume == pytest.approx(0.4 * 0.5 * 0.1)
    frustum = closed(cylinder("a", (0, 0, 0), (0.1, 0.3, 0), (0.2, 0.1)))
    assert frustum.is_watertight
    base = 12 / 2 * np.sin(np.pi / 6)  # area of a regular twelve-gon of radius 1
    assert frustum.volume == pytest.approx(0.3 / 3 * base * (0.04 + 0.02 + 0.01))


@pytest.mark.parametrize("synset", KINDS)
def test_furniture_fills_shapenets_frame_and_differs(synset):
    seen = set()
    for index in range(50):
        parts = normalised(KINDS[synset](np.random.default_rng([0, index])))
        everything = np.concatenate([part.vertices for part in parts])
        low, high = everything.min(axis=0), everything.max(axis=0)
        np.testing.assert_allclose(low + high, 0, atol=1e-12)
        assert np.linalg.norm(high - low) == pytest.approx(1)
        assert all(closed(part).volume > 0 for part in parts)
        seen.add(obj_text(parts))
    assert len(seen) == 50


@pytest.mark.parametrize("synset", KINDS)
def test_files_have_all_parts(synset):
    parts = normalised(KINDS[synset](np.random.default_rng(0)))
    mesh = read_obj(obj_text(parts).encode(), {})
    volume = sum(closed(part).volume for part in parts)
    assert closed(mesh).volume == pytest.approx(volume, rel=1e-3)


def test_no_model_is_there_twice(tmp_path):
    """Nor in two splits, then."""
    write_synthetic(tmp_path, SyntheticSpec(models=200))
    models = []
    for path in sorted(tmp_path.glob("*.zip")):
        with zipfile.ZipFile(path) as archive:
            models += [archive.read(name) for name in archive.namelist() if name.endswith(".obj")]
    assert len(models) == len(set(models)) == 200


def test_an_odd_number_of_models(tmp_path):
    write_synthetic(tmp_path, SyntheticSpec(models=21))
    assert len((tmp_path / "all.csv").read_text().splitlines()) == 1 + 21


def test_files_are_the_same_every_time(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_synthetic(tmp_path / name, SyntheticSpec(seed=3, models=20))
    for name in ("all.csv", "03001627.zip", "04379243.zip"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    lines = (tmp_path / "one" / "all.csv").read_text().splitlines()
    assert len(lines) == 21
    assert [sum(line.endswith(split) for line in lines) for split in ("train", "val", "test")] == [
        14,
        2,
        4,
    ]
    with zipfile.ZipFile(tmp_path / "one" / "03001627.zip") as archive:
        names = archive.namelist()
        assert len(names) == 20
        assert {entry.date_time[:3] for entry in archive.infolist()} == {(1980, 1, 1)}
        mesh = read_obj(archive.read(names[0]), {"model.mtl": archive.read(names[1])})
    assert 2 <= len(np.unique(mesh.colours, axis=0)) <= 3
