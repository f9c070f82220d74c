import errno
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
SETTINGS = {"hpe.infer.starts": "4", "epoch": "2", "weights": "0"}


def fit(key, frames=3):
    rng = np.random.default_rng(list(key.encode()))
    shapes = ((frames, 17, 3), (frames, 2), (frames,), (frames, 2), ())
    arrays = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
    attributes = {"subject": "S9", "seconds": 0.25, "frame_rate": 10.0, "energy": 1.5}
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


def damaged(path, reason):
    """Returns the pattern of the message about a damaged file."""
    expected = (
        "expected fits as --command=infer writes them; remove this file and run --command=infer "
        "again"
    )
    return rf"^{re.escape(str(path))} is damaged: {reason}; {re.escape(expected)}$"


def cut(path):
    path.write_bytes(path.read_bytes()[:-200])


def overwrite(path):
    path.write_bytes(b"garbage")


def replace(path):
    with h5py.File(path, "w") as file:
        file["x"] = 1


def blank(path):
    with h5py.File(path, "r+") as file:
        file.attrs["settings"] = "{}"


DAMAGES = {
    cut: r"Unable to synchronously open file \(truncated file: eof = \d+, [^\n;]+\)",
    overwrite: r"Unable to synchronously open file \(file signature not found\)",
    replace: r"Unable to synchronously open attribute \(can't locate attribute: '\w+'\)",
    blank: r"the attribute settings lacks epoch or weights: \{\}",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("where", ["file", "part"])
def test_damage_is_one_line_until_the_file_is_removed(parts, damage, where):
    add(parts, "a")
    add(parts, "b")
    path = parts.folder / "part-000001.h5"
    if where == "file":
        parts.join()
        path = parts.path
    damage(path)
    pattern = damaged(path, DAMAGES[damage])
    with pytest.raises(UserError, match=pattern):
        parts.settings()
    if where == "file":
        with pytest.raises(UserError, match=pattern):
            results.read(path)
    path.unlink()
    assert parts.settings() == (SETTINGS if where == "part" else None)
    assert parts.keys() == ({"b"} if where == "part" else set())


@pytest.mark.parametrize(
    ("what", "value", "reason"),
    [
        ("heading", None, r"[^\n;]*object 'heading' doesn't exist[^\n;]*"),
        ("heading", np.zeros(4), r"a/poses has the shape \(3, 17, 3\), expected \(4, 17, 3\)"),
        ("heading", 0.0, r"[^\n;]+"),
        ("size", np.zeros(3), r"a/size has the shape \(3,\), expected \(\)"),
        ("seconds", None, "a has no attribute seconds"),
        ("frame_rate", None, "a has no attribute frame_rate"),
        ("energy", None, "a has no attribute energy"),
    ],
)
def test_a_damaged_fit_is_one_line(parts, what, value, reason):
    add(parts, "a")
    parts.join()
    with h5py.File(parts.path, "r+") as file:
        del (file["a"] if what in file["a"] else file["a"].attrs)[what]
        if value is not None:
            file["a"][what] = value
    with pytest.raises(UserError, match=damaged(parts.path, reason)):
        results.read(parts.path)


def test_a_full_disk_is_no_damage(parts, monkeypatch):
    add(parts, "a")

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(h5py.Group, "copy", fail)
        with pytest.raises(OSError, match="No space left on device"):
            parts.join()
    parts.join()
    assert_whole(parts, "a")


def test_the_total_is_that_of_the_file(parts):
    add(parts, "a", "b")
    parts.join()
    add(parts, "c")
    parts.join()
    assert parts.total() == "3 sequences, 9 frames, energy 4.5"


@pytest.mark.parametrize(
    ("name", "variant"),
    [("results.h5", ""), ("results-ige4.h5", "ige4"), ("results-a.b_c-1.h5", "a.b_c-1")],
)
def test_results_are_named_by_what_tells_them_apart(name, variant):
    assert results.variant_of(name) == variant


@pytest.mark.parametrize("name", ["", "mine.h5", "results-.h5", "results-a/b.h5", "results.json"])
def test_other_names_are_refused(name):
    message = (
        f"hpe.PosePriorProblem.results: got {name!r}, expected results.h5 or a name such as "
        "results-mine.h5"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        results.variant_of(name)
