import inspect
import json
import re

import gin
import numpy as np
import pytest
import tensorflow_datasets as tfds

from ige.data import workers
from ige.errors import UserError
from ige.vox.data.shapenet_core import builder, shapenet_core
from ige.vox.data.shapes import stack
from ige.vox.grids import cell_centres, unpack
from ige.vox.views import LEGACY_FOV, focal_length, random_views


def listed(dataset):
    return {
        split: [(shape.synset, shape.model) for shape in dataset.shapes(split)]
        for split in ("train", "validation", "test")
    }


def box(sides, resolution=32):
    inside = [np.abs(cell_centres(resolution)) < side / 2 for side in sides]
    return np.einsum("i,j,k->ijk", *inside) > 0


def test_models_and_views(files, manual, make, capsys):
    files.write_zips(manual)
    made = make()
    assert listed(made) == {
        "train": [(files.CHAIR, "a"), (files.TABLE, "d")],
        "validation": [(files.CHAIR, "b")],
        "test": [(files.CHAIR, "c")],
    }
    for split in ("train", "validation", "test"):
        for shape in made.shapes(split):
            sides, _ = files.MODELS[shape.synset, shape.model]
            np.testing.assert_array_equal(shape.occupancy, box(sides))
            np.testing.assert_array_equal(shape.translate, [-0.5, -0.5, -0.5])
            assert shape.scale == 1
            views = random_views(shape.model, 2)
            for ours, theirs in zip(shape.views, views, strict=True):
                assert ours.dtype == np.float32
                np.testing.assert_allclose(ours, theirs, atol=1e-6)
            for i in range(2):
                seen = shape.silhouette(i)
                np.testing.assert_array_equal(seen, shape.depth[i] > 0)
                assert 0 < seen.sum() < seen.size
                red, *others = np.moveaxis(shape.image(i)[seen].astype(int), -1, 0)
                assert red.min() > 60
                assert np.max(others) == 0
                assert (shape.image(i)[~seen] == 255).all()
    provenance = made.provenance
    assert json.loads(json.dumps(provenance)) == provenance
    sizes = {name: (manual / name).stat().st_size for name in ("all.csv", "03001627.zip")}
    assert provenance["files"][:2] == [{"name": n, "size": s} for n, s in sizes.items()]
    assert {key: provenance[key] for key in ("dataset", "version", "config", "layout")} == {
        "dataset": "shapenet_core",
        "version": "2.0.0",
        "config": "32-2x16",
        "layout": "zips",
    }
    assert provenance["models"] == {"train": 2, "validation": 1, "test": 1}
    assert (provenance["refused"], provenance["skipped"]) == ({}, [])
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        "shapenet_core: built 32-2x16 from zips: 4 models (train 2, validation 1, test 1)\n"
    )


def test_by_default_and_with_plain_tfds_the_same_is_built(files, manual, tmp_path):
    """Of one synset: every split has to have a model."""
    models = {key: value for key, value in files.MODELS.items() if key[0] == files.CHAIR}
    files.write_zips(manual, files.entries(models))
    made = shapenet_core(data_dir=str(tmp_path / "tfds"), manual_dir=str(manual), processes=1)
    (shape,) = made.shapes("test")
    assert made.provenance["config"] == "32-24x128"
    assert (len(shape.pngs), shape.depth.shape) == (24, (24, 128, 128))
    plain = tfds.builder("shapenet_core", data_dir=str(tmp_path / "plain"), processes=1)
    plain.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual))
    (example,) = plain.as_dataset(split="test")
    np.testing.assert_array_equal(example["occupancy"], shape.occupancy)
    np.testing.assert_array_equal(example["images"][23], shape.rgba(23))


def test_the_depth_of_a_box(files, manual, make):
    """Its points are on the box."""
    files.write_zips(manual)
    (shape,) = make(image_size=32).shapes("validation")
    focal = float(shape.views.focal[0])
    row, column = np.nonzero(shape.silhouette(0))
    z = shape.depth[0][row, column]
    rays = np.stack([column + 0.5, row + 0.5, np.zeros(len(row))], -1) / 32 - 0.5
    rays = np.stack([rays[:, 0] / focal, rays[:, 1] / focal, np.ones(len(row))], -1)
    points = rays * z[:, None] @ shape.views.rotation[0] + shape.views.centre[0]
    np.testing.assert_allclose(np.abs(points).max(axis=1), 0.125, atol=1e-4)


def test_arrays_for_training(files, manual, make):
    files.write_zips(manual)
    made = make()
    shapes = made.shapes("train")
    arrays = stack(shapes, views=[1])
    assert {name: (array.shape, array.dtype.name) for name, array in arrays.items()} == {
        "image": ((2, 1, 16, 16, 3), "uint8"),
        "silhouette": ((2, 1, 16, 16), "bool"),
        "depth": ((2, 1, 16, 16), "float32"),
        "occupancy": ((2, 4096), "uint8"),
        "rotation": ((2, 1, 3, 3), "float32"),
        "centre": ((2, 1, 3), "float32"),
        "focal": ((2, 1), "float32"),
        "planes": ((2, 1, 2), "float32"),
    }
    np.testing.assert_array_equal(unpack(arrays["occupancy"][1], (32, 32, 32)), shapes[1].occupancy)
    np.testing.assert_array_equal(arrays["image"][1, 0], shapes[1].image(1))
    np.testing.assert_array_equal(arrays["silhouette"][1, 0], shapes[1].silhouette(1))
    np.testing.assert_array_equal(arrays["depth"][1, 0], shapes[1].depth[1])
    np.testing.assert_array_equal(arrays["centre"][1, 0], shapes[1].views.centre[1])
    fewer = made.shapes("train", views=1)
    assert [len(shape.pngs) for shape in fewer] == [1, 1]
    np.testing.assert_array_equal(fewer[0].depth, shapes[0].depth[:1])
    np.testing.assert_array_equal(fewer[0].views.focal, shapes[0].views.focal[:1])


def test_a_layout_that_is_chosen_has_a_build_of_its_own(files, manual, make):
    files.write_zips(manual)
    files.write_folders(manual)
    for data, layout, config in (
        ("auto", "zips", "32-2x16"),
        ("folders", "folders", "folders-32-2x16"),
    ):
        provenance = make(data=data).provenance
        assert (provenance["layout"], provenance["config"]) == (layout, config)


@pytest.mark.parametrize("layout", ["folders", "version 2"])
def test_other_layouts_give_the_same(files, manual, make, tmp_path, layout):
    if layout == "folders":
        files.write_folders(manual)
    else:
        files.write_zips(manual, files.entries(version=2))
    made = make()
    other = tmp_path / "other"
    other.mkdir()
    files.write_zips(other)
    expected = make(manual_dir=str(other), data_dir=str(tmp_path / "other_tfds"))
    assert made.provenance["layout"] == ("folders" if layout == "folders" else "zips")
    for ours, theirs in zip(made.shapes("train"), expected.shapes("train"), strict=True):
        assert (ours.synset, ours.model, ours.pngs) == (theirs.synset, theirs.model, theirs.pngs)
        np.testing.assert_array_equal(ours.occupancy, theirs.occupancy)


def test_several_processes_give_the_same(files, manual, make, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "_WORTHWHILE", 1)
    files.write_zips(manual)
    ours = make(processes=2, data_dir=str(tmp_path / "two")).shapes("train")
    for one, two in zip(make().shapes("train"), ours, strict=True):
        assert (one.model, one.pngs, one.grid) == (two.model, two.pngs, two.grid)


def test_settings_and_synsets(files, manual, make):
    files.write_zips(manual)
    made = make(resolution=64, legacy_fov=True, view_seed=3, synsets=[files.CHAIR])
    assert made.provenance["config"] == "64-2x16-legacy_fov-seed3-03001627"
    (shape,) = made.shapes("train")
    assert (shape.resolution, shape.occupancy.shape) == (64, (64, 64, 64))
    np.testing.assert_allclose(shape.views.focal, focal_length(LEGACY_FOV), rtol=1e-6)
    np.testing.assert_allclose(shape.views.centre, random_views("a", 2, seed=3).centre, atol=1e-6)


BROKEN = {
    "nan": (b"v nan 0 0\nv 0 1 0\nv 0 0 1\nf 1 2 3\n", "has vertices that are not finite"),
    "points": (b"v 0 0 0\nv 0 .1 0\n", "has no faces"),
    "empty": (b"", "has no faces"),
    "large": (b"v 0 0 0\nv 0 9 0\nv 0 0 .1\nf 1 2 3\n", "is outside the cube from -0.5 to 0.5"),
}


def test_refused_models_are_counted_by_reason(files, manual, make, capsys):
    found = files.entries()
    models = dict(files.MODELS)
    for name, (obj, _) in BROKEN.items():
        found[f"{files.CHAIR}/{name}/model.obj"] = obj
        models[files.CHAIR, name] = (None, "train")
    found[f"{files.CHAIR}/stray/model.obj"] = files.box_obj(1, 1, 1)
    models[files.CHAIR, "gone"] = (None, "test")
    files.write_zips(manual, found, files.splits_text(models))
    made = make()
    assert listed(made)["train"] == [(files.CHAIR, "a"), (files.TABLE, "d")]
    assert made.provenance["models"] == {"train": 2, "validation": 1, "test": 1}
    assert made.provenance["refused"] == {
        "has no faces": ["03001627/empty: has no faces", "03001627/points: has no faces"],
        "is outside the cube from -0.5 to 0.5": [
            "03001627/large: is outside the cube from -0.5 to 0.5: a coordinate is 9"
        ],
        "has vertices that are not finite": ["03001627/nan: has vertices that are not finite"],
    }
    assert capsys.readouterr().err == (
        "shapenet_core: built 32-2x16 from zips: 4 models (train 2, validation 1, test 1); "
        "refused 2 because it has no faces, the first 03001627/empty: has no faces; "
        "refused 1 because it is outside the cube from -0.5 to 0.5, the first 03001627/large: is "
        "outside the cube from -0.5 to 0.5: a coordinate is 9; "
        "refused 1 because it has vertices that are not finite, the first 03001627/nan: has "
        "vertices that are not finite; "
        "skipped 1 of 03001627 that all.csv has and zips have not, the first gone; "
        "skipped 1 that all.csv has not\n"
    )


def test_a_split_without_models(files, manual, make):
    found = files.entries() | {f"{files.CHAIR}/b/model.obj": b""}
    files.write_zips(manual, found)
    message = (
        "shapenet_core: got 1 models of the validation split that cannot be used, expected one at "
        f"least that can; the first: {files.CHAIR}/b: has no faces; get the files again"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        make().prepare()


def test_a_split_that_is_missing_is_missed_before_anything_is_built(files, manual, make, tmp_path):
    files.write_zips(manual, splits=files.splits_text().replace(",val", ",train"))
    message = (
        "shapenet_core: got no models of the validation split, expected one at least; get the "
        "missing files"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        make().prepare()
    assert not list(tmp_path.rglob("*.npz"))


def test_a_synset_may_be_named_twice(files, manual, make):
    models = {key: value for key, value in files.MODELS.items() if key[0] == files.CHAIR}
    files.write_zips(manual, files.entries(models))
    made = make(synsets=[files.CHAIR, files.CHAIR])
    assert made.provenance["config"] == "32-2x16-03001627"
    assert made.provenance["models"] == {"train": 1, "validation": 1, "test": 1}


class _InterruptedError(Exception):
    pass


def test_an_interrupted_build_goes_on(files, manual, make, monkeypatch, tmp_path):
    files.write_zips(manual)
    performed = []
    perform = builder.perform

    def interrupted(task):
        if task.files is not None:
            performed.append(task.files.model)
            if task.files.model == "b":
                raise _InterruptedError
        return perform(task)

    monkeypatch.setattr(builder, "perform", interrupted)
    with pytest.raises(_InterruptedError):
        make().prepare()
    assert performed == ["a", "d", "b"]
    performed.clear()

    def counted(task):
        if task.files is not None:
            performed.append(task.files.model)
        return perform(task)

    monkeypatch.setattr(builder, "perform", counted)
    made = make()
    assert listed(made)["train"] == [(files.CHAIR, "a"), (files.TABLE, "d")]
    assert performed == ["b", "c"]
    np.testing.assert_array_equal(
        made.shapes("train")[0].occupancy, box(files.MODELS[files.CHAIR, "a"][0])
    )
    assert [p.name for p in (tmp_path / "tfds/shapenet_core/32-2x16").iterdir()] == ["2.0.0"]


def test_an_interrupted_build_of_other_files_does_not(files, manual, make, monkeypatch):
    files.write_zips(manual)
    perform = builder.perform

    def interrupted(task):
        if task.files.model == "b":
            raise _InterruptedError
        return perform(task)

    with monkeypatch.context() as patch:
        patch.setattr(builder, "perform", interrupted)
        with pytest.raises(_InterruptedError):
            make().prepare()
    found = files.entries() | {f"{files.CHAIR}/a/model.obj": files.box_obj(0.25, 0.25, 0.5)}
    files.write_zips(manual, found)
    np.testing.assert_array_equal(make().shapes("train")[0].occupancy, box((0.25, 0.25, 0.5)))


def test_generated_furniture(tmp_path, capsys):
    arguments = {
        "data": "synthetic",
        "data_dir": str(tmp_path),
        "synthetic_models": 20,
        "views": 1,
        "image_size": 16,
        "processes": 1,
    }
    made = shapenet_core(**arguments)
    assert [len(models) for models in listed(made).values()] == [14, 2, 4]
    assert made.provenance["config"] == "synthetic-seed0-20-32-1x16"
    assert made.provenance["refused"] == {}
    assert all(0.002 < shape.occupancy.mean() < 0.5 for shape in made.shapes("train"))
    capsys.readouterr()
    shapenet_core(**arguments).prepare()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"data": "zip"},
            "shapenet_core.data: got 'zip', expected one of auto, zips, folders, synthetic; did "
            "you mean zips?",
        ),
        (
            {"resolution": 48},
            "shapenet_core.resolution: got 48, expected one of 32, 64, 128, 256; set it to one of "
            "them",
        ),
        (
            {"views": 0},
            "shapenet_core.views: got 0, expected an integer from 1 to 1000; set "
            "shapenet_core.views to one",
        ),
        (
            {"synsets": ["chair"]},
            "shapenet_core.synsets: got ['chair'], expected a list of ids of eight digits, such as "
            "['03001627']",
        ),
        (
            {"synsets": "03001627"},
            "shapenet_core.synsets: got '03001627', expected a list of ids of eight digits, such "
            "as ['03001627']",
        ),
        (
            {"data": "synthetic", "synthetic_models": 3},
            "shapenet_core.synthetic_models: got 3, expected an integer from 20 to 100000; set "
            "shapenet_core.synthetic_models to one",
        ),
    ],
)
def test_choices(make, arguments, message):
    # gin appends the call it was in; the command line takes that off again.
    with pytest.raises(UserError, match=f"^{re.escape(message)}(\n  In call to|$)"):
        make(**arguments)


def test_plain_tfds_reads_arrays(files, manual, make):
    files.write_zips(manual)
    made = make()
    made.prepare()
    folder = f"{manual.parent}/tfds/shapenet_core/32-2x16/2.0.0"
    (example,) = tfds.builder_from_directory(folder).as_dataset(split="validation")
    (shape,) = made.shapes("validation")
    np.testing.assert_array_equal(example["occupancy"], shape.occupancy)
    np.testing.assert_array_equal(example["images"][1], shape.rgba(1))
    np.testing.assert_array_equal(example["depth"].numpy() * 2.0**-14, shape.depth)


def test_it_is_a_gin_configurable():
    with gin.unlock_config():
        gin.bind_parameter("vox.shapenet_core.data", "zip")
    with pytest.raises(UserError, match=r"^shapenet_core\.data: got 'zip', "):
        shapenet_core()
    assert "resolution" in inspect.signature(shapenet_core).parameters


@pytest.mark.real_data
def test_the_nine_shared_meshes(real_data, make):
    made = make(manual_dir=str(real_data / "shapenet"))
    assert [len(models) for models in listed(made).values()] == [5, 2, 2]
    assert made.provenance["refused"] == {}
