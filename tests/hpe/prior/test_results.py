import re
import shutil

import h5py
import numpy as np
import pytest

from ige.errors import UserError
from ige.hpe.prior import results
from ige.hpe.prior.results import Fit, Parts
from ige.hpe.skeleton import get_skeleton

H36M_17 = get_skeleton("h36m_17")
SETTINGS = {"hpe.infer.starts": "4", "epoch": "2"}


def fit(key, frames=3):
    rng = np.random.default_rng(list(key.encode()))
    shapes = ((frames, 17, 3), (frames, 2), (frames,), (frames, 2), ())
    arrays = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
    attributes = {"subject": "S9", "seconds": 0.25, "converged": True, "energy_prior": 1.5}
    return Fit(key, *arrays, attributes)


@pytest.fixture
def parts(tmp_path):
    return Parts(tmp_path / "results.h5")


def add(parts, *keys):
    parts.add([fit(key) for key in keys], SETTINGS, H36M_17)


def assert_whole(parts, *keys):
    """Asserts that a file has these fits, and that nothing else is there."""
    settings, fits = results.read(parts.path)
    assert settings == SETTINGS
    assert fits.keys() == set(keys)
    for key in keys:
        expected = fit(key)
        assert fits[key].attributes == expected.attributes
        for name in ("poses", "latents", "heading", "position", "size"):
            np.testing.assert_array_equal(getattr(fits[key], name), getattr(expected, name))
    assert [path.name for path in parts.path.parent.iterdir()] == [parts.path.name]


def test_parts_become_a_file_that_is_read_as_written(parts):
    assert parts.settings() is None
    assert parts.keys() == set()
    add(parts, "S9 Walking a", "S9 Walking b")
    add(parts, "S11 Eating a")
    keys = {"S9 Walking a", "S9 Walking b", "S11 Eating a"}
    assert (parts.settings(), parts.keys()) == (SETTINGS, keys)
    assert not parts.path.exists()
    parts.join()
    assert_whole(parts, *keys)
    assert (parts.settings(), parts.keys()) == (SETTINGS, keys)


def test_the_file_says_what_its_joints_are(parts):
    add(parts, "a")
    parts.join()
    with h5py.File(parts.path) as file:
        assert file.attrs["skeleton"] == "h36m_17"
        assert list(file.attrs["joints"]) == list(H36M_17.joints)
        assert list(file.attrs["parents"]) == list(H36M_17.parents)


def test_more_is_added_to_a_finished_file(parts):
    add(parts, "a")
    parts.join()
    before = parts.path.read_bytes()
    parts.join()  # there is nothing to join
    assert parts.path.read_bytes() == before
    add(parts, "b")
    assert parts.keys() == {"a", "b"}
    parts.join()
    assert_whole(parts, "a", "b")


@pytest.mark.parametrize("left", ["whole.h5", "part-000002.h5.tmp", ".part-000002.h5.tmp"])
def test_what_a_kill_leaves_is_not_in_the_way(parts, left):
    """Half a file, of a part or of the whole."""
    add(parts, "a")
    (parts.folder / left).write_bytes(b"half a file")
    assert parts.keys() == {"a"}
    add(parts, "b")
    parts.join()
    assert_whole(parts, "a", "b")


def test_parts_that_are_in_the_file_already_are_not_in_the_way(parts, tmp_path):
    """Killed after the file was put in its place, before the parts were removed."""
    add(parts, "a")
    add(parts, "b")
    shutil.copytree(parts.folder, tmp_path / "kept")
    parts.join()
    shutil.move(tmp_path / "kept", parts.folder)
    assert parts.keys() == {"a", "b"}
    parts.join()
    assert_whole(parts, "a", "b")


def test_removing(parts, tmp_path):
    add(parts, "a")
    parts.join()
    add(parts, "b")
    parts.remove()
    assert list(tmp_path.iterdir()) == []
    parts.remove()
    assert parts.settings() is None


def test_what_is_not_there_or_not_finished_is_not_read(parts):
    for what in ("has not been made", "was not finished"):
        message = f"{parts.path} {what}; run the same with --command=infer first"
        with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
            results.read(parts.path)
        add(parts, "a")


@pytest.mark.parametrize("damage", ["cut", "garbage", "other file"])
@pytest.mark.parametrize("where", ["file", "part"])
def test_damage_is_one_line(parts, damage, where):
    add(parts, "a")
    path = parts.folder / "part-000001.h5"
    if where == "file":
        parts.join()
        path = parts.path
    if damage == "other file":
        with h5py.File(path, "w") as file:
            file["x"] = 1
    else:
        path.write_bytes({"cut": path.read_bytes()[:-200], "garbage": b"garbage"}[damage])
    message = rf"^{re.escape(str(path))} cannot be read: [^\n]+; remove it and run --command=infer"
    with pytest.raises(UserError, match=rf"{message} again$"):
        results.read(path) if where == "file" else parts.settings()


def test_a_damaged_array_is_one_line(parts):
    add(parts, "a")
    parts.join()
    with h5py.File(parts.path, "r+") as file:
        del file["a/heading"]
    with pytest.raises(UserError, match=rf"^{re.escape(str(parts.path))} cannot be read: "):
        results.read(parts.path)
