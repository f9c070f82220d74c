import gzip
import re
import tarfile

import numpy as np
import pytest

from ige.errors import UserError
from ige.vox.data.shapenet_r2n2 import layouts
from ige.vox.data.shapenet_r2n2.layouts import split_names
from ige.vox.data.shapes import stack
from ige.vox.observations import Refusal
from ige.vox.r2n2 import R2n2Files, read_metadata, read_model
from ige.vox.views import FOV, focal_length

SPLITS = {"train": list("abcdefg"), "validation": ["h"], "test": ["i", "j"]}


def listed(dataset):
    return {split: [shape.model for shape in dataset.shapes(split)] for split in SPLITS}


def test_the_archives(files, whole, manual, make, capsys):
    files.write_archives(manual, whole)
    made = make()
    assert listed(made) == SPLITS
    shape = made.shapes("test")[1]
    expected = files.grid("j")
    assert (shape.synset, shape.model, shape.resolution) == (files.CHAIR, "j", 32)
    np.testing.assert_array_equal(shape.occupancy, expected.occupancy)
    np.testing.assert_allclose(shape.translate, expected.translate, rtol=1e-6)
    assert shape.scale == 0.75
    assert shape.depth is None
    assert shape.pngs == tuple(files.png("j", view) for view in range(24))
    image, seen = shape.image(5), shape.silhouette(5)
    assert (image[50, 50] == (9, 0, 5)).all()
    assert (image[0, 0] == 255).all()
    assert (image[50, 70] == 127).all()  # half of black and half of white
    assert seen[40:90, 30:71].all()
    assert seen.sum() == 50 * 41
    assert {name: array.shape for name, array in stack([shape], [0, 3]).items()} == {
        "image": (1, 2, 137, 137, 3),
        "silhouette": (1, 2, 137, 137),
        "occupancy": (1, 4096),
        "rotation": (1, 2, 3, 3),
        "centre": (1, 2, 3),
        "focal": (1, 2),
        "planes": (1, 2, 2),
    }
    assert made.provenance["layout"] == "archives"
    assert capsys.readouterr().err == (
        "shapenet_r2n2: built published from archives: 10 models (train 7, validation 1, test 2)\n"
    )


def test_folders_give_the_same(files, whole, manual, make, tmp_path):
    files.write_folders(manual, whole)
    made = make()
    assert made.provenance["layout"] == "folders"
    assert listed(made) == SPLITS
    assert made.shapes("test")[1].pngs == tuple(files.png("j", view) for view in range(24))


def test_models_are_split_by_their_ids(files, manual, make):
    """Whatever order the archives have."""
    files.write_archives(manual, files.entries(files.MODELS[::-1]))
    assert listed(make()) == SPLITS


def test_published_splits():
    """80 % rounded down, as in the published code; a tenth of it, rounded up, is held out."""
    names = split_names(6778)  # chairs
    assert names.index("test") == int(0.8 * 6778)
    assert names.count("validation") == 543
    assert split_names(6) == ["train"] * 3 + ["validation"] + ["test"] * 2
    assert names == sorted(names, key=("train", "validation", "test").index)


def test_cameras_by_hand():
    """A row (azimuth 90, elevation 30, ratio .8) of a renderer whose camera turned by -azimuth.

    In Blender it is at (cos 30 cos 90, -cos 30 sin 90, sin 30) * .8 * 1.75, and Blender's (x, y, z)
    is (x, z, -y) of the file.
    """
    rows = b"90 30 0 0.8 25\n" + b"0 25 0 1 25\n" * 23
    views = read_metadata(rows)
    np.testing.assert_allclose(views.centre[0], 1.4 * np.array([0, 0.5, np.sqrt(0.75)]), atol=1e-12)
    np.testing.assert_allclose(
        views.centre[1], 1.75 * np.array([np.cos(np.radians(25)), np.sin(np.radians(25)), 0])
    )
    np.testing.assert_allclose(views.focal, focal_length(FOV))
    forward = views.rotation[:, 2]
    np.testing.assert_allclose(
        forward, -views.centre / np.linalg.norm(views.centre, axis=-1, keepdims=True), atol=1e-12
    )


def _spoilt(whole, model, name, data):
    """The archives with another content of a file; None removes it."""
    files = {archive: dict(entries) for archive, entries in whole.items()}
    for entries in files.values():
        for path in list(entries):
            if f"/{model}/" in path and path.endswith(name):
                entries[path] = data
                if data is None:
                    del entries[path]
    return files


def test_refused_models_are_counted(files, whole, manual, make, capsys):
    empty = files.grid("b")._replace(occupancy=np.zeros((32, 32, 32), bool))
    small = files.grid("b")._replace(occupancy=np.ones((2, 2, 2), bool))
    binvox = whole["ShapeNetVox32"][f"ShapeNetVox32/{files.CHAIR}/d/model.binvox"]
    faults = {
        ("a", "07.png"): None,
        ("b", "binvox"): files.write_binvox(empty),
        ("c", "binvox"): files.write_binvox(small),
        ("d", "binvox"): binvox[:-2],
        ("e", "00.png"): files.png("e", 0, size=100),
        ("f", "23.png"): files.png("f", 23)[:60],
        ("i", "metadata.txt"): files.metadata(23),
    }
    spoilt = whole
    for (model, name), data in faults.items():
        spoilt = _spoilt(spoilt, model, name, data)
    files.write_archives(manual, spoilt)
    made = make()
    assert listed(made) == {"train": ["g"], "validation": ["h"], "test": ["j"]}
    refused = made.provenance["refused"]
    assert {
        reason: [text.split(":")[0] for text in texts] for reason, texts in refused.items()
    } == {
        "has no full set of views": [f"{files.CHAIR}/a"],
        "has no solid voxel": [f"{files.CHAIR}/b"],
        "has voxels of another size": [f"{files.CHAIR}/c"],
        "has voxels that cannot be read": [f"{files.CHAIR}/d"],
        "has an image that cannot be read": [f"{files.CHAIR}/e", f"{files.CHAIR}/f"],
        "has cameras that cannot be read": [f"{files.CHAIR}/i"],
    }
    assert refused["has no full set of views"] == [
        f"{files.CHAIR}/a: has no full set of views: 07.png is missing"
    ]
    assert capsys.readouterr().err.count("; refused ") == 6


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<html>", "07.png: not a PNG file"),
        (None, "07.png: got 100 x 100 pixels, expected 137"),
    ],
)
def test_images_are_refused_by_name(files, data, message):
    images = _rendering(files) | {"07.png": files.png("a", 7, size=100) if data is None else data}
    refusal = read_model(R2n2Files(files.write_binvox(files.grid("a")), images))
    reason = "has an image that cannot be read"
    assert refusal == Refusal(reason, f"{reason}: {message}")


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ({"scale": 1e-30}, "at -0.3 -0.2 -0.1, sides of 1e-30"),
        ({"scale": 101.0}, "at -0.3 -0.2 -0.1, sides of 101"),
        # What is solid ends at .61 along x, or begins at -.61 along y.
        (
            {"translate": np.array([0.01, -0.2, -0.1]), "scale": 0.96},
            "at 0.01 -0.2 -0.1, sides of 0.96",
        ),
        ({"translate": np.array([-0.3, -0.8, -0.1])}, "at -0.3 -0.8 -0.1, sides of 0.75"),
        # As of a header that does not say.
        ({"translate": np.zeros(3), "scale": 1.0}, "at 0 0 0, sides of 1"),
    ],
)
def test_grids_out_of_place_are_refused(files, place, text):
    """Of which cameras would see nothing, or infinities in single precision."""
    binvox = files.write_binvox(files.grid("a")._replace(**place))
    refusal = read_model(R2n2Files(binvox, _rendering(files)))
    assert refusal == Refusal("has voxels out of place", f"has voxels out of place: {text}")


def test_grids_may_reach_beyond_their_models(files):
    """What is solid ends at .59 along x, and begins at -.59 along y."""
    place = {"translate": np.array([-0.01, -0.83, -0.1]), "scale": 0.96}
    binvox = files.write_binvox(files.grid("a")._replace(**place))
    assert read_model(R2n2Files(binvox, _rendering(files))).grid.scale == 0.96


@pytest.mark.parametrize("ratio", [0.28, 101.0])
def test_cameras_in_the_object_or_nowhere_are_refused(files, ratio):
    rows = files.metadata().decode().splitlines()
    rows[5] = f"15 25 0 {ratio} 25"
    rendering = _rendering(files) | {"rendering_metadata.txt": "\n".join(rows).encode()}
    refusal = read_model(R2n2Files(files.write_binvox(files.grid("a")), rendering))
    reason = "has cameras that cannot be read"
    text = "got a camera that is turned, at the pole, in the object or nowhere"
    assert refusal == Refusal(reason, f"{reason}: {text}")


def _rendering(files):
    """Every file of a model's rendering."""
    images = {f"{view:02d}.png": files.png("a", view) for view in range(24)}
    return images | {"rendering_metadata.txt": files.metadata()}


def test_views_that_are_not_beside_each_other(files, whole, manual, make, monkeypatch):
    """Those of a model wait for the last; no more than a bound are kept waiting."""
    renderings = dict(sorted(whole["ShapeNetRendering"].items(), key=lambda item: item[0][-20:]))
    files.write_archives(manual, {**whole, "ShapeNetRendering": renderings})
    # The training models' views, less those of one that is whole with its last file.
    most = sum(
        len(data)
        for name, data in whole["ShapeNetRendering"].items()
        if re.search(r"/[a-g]/rendering/(\d\d\.png|rendering_metadata)", name)
    )
    monkeypatch.setattr(layouts, "MAX_WAITING", most)
    assert make().shapes("train")[0].pngs == tuple(files.png("a", view) for view in range(24))
    monkeypatch.setattr(layouts, "MAX_WAITING", most // 2)
    with pytest.raises(UserError, match=r"models before any of these has all, expected at most "):
        make(data_dir=str(manual / "other")).prepare()


def test_no_more_waits_than_the_views_of_one_model(files, whole, manual, make, monkeypatch):
    files.write_archives(manual, whole)
    largest = max(sum(len(files.png(m, view)) for view in range(24)) for m in files.MODELS)
    monkeypatch.setattr(layouts, "MAX_WAITING", largest + len(files.metadata()))
    make().prepare()


@pytest.mark.parametrize(
    "rows",
    [
        b"0 25 0 1 25\n" * 23,
        b"0 25 0 1\n" * 24,
        b"0 25 0 nan 25\n" * 24,
        b"0 25 0 0 25\n" * 24,
        b"0 25 0 101 25\n" * 24,
        b"0 90 0 1 25\n" * 24,
        b"0 25 5 1 25\n" * 24,
        b"0 25 x 1 25\n" * 24,
        b"\xff" * 24,
    ],
)
def test_other_cameras_are_refused(rows):
    with pytest.raises(ValueError, match=r"expected 24 of 5|turned|could not convert|codec"):
        read_metadata(rows)


def test_images_without_alpha_get_one(files, whole, manual, make):
    files.write_archives(manual, _spoilt(whole, "j", "00.png", files.png("j", 0, mode="RGB")))
    shape = make().shapes("test")[1]
    assert shape.rgba(0).shape == (137, 137, 4)
    assert shape.silhouette(0).all()


def test_nothing_found(files, whole, manual, make):
    message = (
        f"shapenet_r2n2: no voxels and renderings of 3D-R2N2 in {manual}; put ShapeNetVox32.tgz "
        "and ShapeNetRendering.tgz there, or the same extracted, from http://3d-r2n2.stanford.edu"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        make().prepare()
    files.write_archives(manual, {"ShapeNetVox32": whole["ShapeNetVox32"]})
    message = (
        f"shapenet_r2n2: {manual}/ShapeNetRendering.tgz is missing; get it from "
        "http://3d-r2n2.stanford.edu and put it there"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        make().prepare()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../ShapeNetVox32/x", "name is outside the archive"),
        ("/etc/passwd", "name is absolute"),
    ],
)
def test_paths_that_lead_out_are_refused(files, whole, manual, make, name, message):
    voxels = whole["ShapeNetVox32"] | {name: b""}
    files.write_archives(manual, {**whole, "ShapeNetVox32": voxels})
    with pytest.raises(
        UserError, match=f"^{re.escape(f'{manual}/ShapeNetVox32.tgz: {name!r}')}"
    ) as caught:
        make().prepare()
    assert message in str(caught.value)


def test_a_bomb_is_refused_before_it_is_unpacked(files, whole, manual, make):
    files.write_archives(manual, whole)
    path = manual / "ShapeNetRendering.tgz"
    bomb = tarfile.TarInfo(f"ShapeNetRendering/{files.CHAIR}/a/rendering/00.png")
    bomb.size = 100_000_000_000
    path.write_bytes(gzip.compress(bomb.tobuf(tarfile.GNU_FORMAT) + bytes(2048)))
    message = (
        f"{path}: {bomb.name}: got 100,000,000,000 bytes unpacked, expected 0 to 16,777,216; get "
        "the file again"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        make().prepare()


def test_a_truncated_archive(files, whole, manual, make):
    files.write_archives(manual, whole)
    path = manual / "ShapeNetRendering.tgz"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match=f"^{path}: cannot be read: "):
        make().prepare()


def test_an_archive_of_something_else(files, whole, manual, make):
    files.write_archives(manual, {**whole, "ShapeNetVox32": {"notes.txt": b""}})
    message = (
        f"{manual}/ShapeNetVox32.tgz: got no ShapeNetVox32/SYNSET/MODEL/model.binvox, expected the "
        "voxels of 3D-R2N2; get it again"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        make().prepare()
