import contextlib
import os
import re

import numpy as np
import pytest

from ige.errors import UserError
from ige.hpe.data.h3m_lift import layouts
from ige.hpe.data.h3m_lift.cameras import published_cameras

WRITTEN = ("baseline", "baseline-tree", "official", "official-without-metadata", "videopose3d")


@pytest.mark.parametrize("written", WRITTEN)
def test_every_layout_gives_the_same_recordings(files, tmp_path, written):
    files.write_layout(written, tmp_path)
    layout = layouts.find_layout(tmp_path)
    assert layout.kind == written.partition("-")[0]
    records = layout.index()
    assert {(r.subject, str(r.name)) for r in records} == {
        sequence[:2] for split in files.SEQUENCES.values() for sequence in split
    }
    spelt = {"S1": {"WalkDog": "WalkingDog", "Photo 1": "TakingPhoto 1"}}
    for record in records:
        name = str(record.name)
        expected = files.poses_of(record.subject, spelt.get(record.subject, {}).get(name, name))
        poses = layout.read(record)
        assert poses.dtype == np.float32
        # A float32 of 11 m in metres is exact to 0.5 um.
        np.testing.assert_allclose(poses, expected, rtol=0, atol=1e-3)
    for subject in files.RECORDINGS:
        got, expected = layout.cameras(subject), published_cameras(subject)
        assert list(got) == list(expected)
        for camera_id, camera in got.items():
            for a, b in zip(camera, expected[camera_id], strict=True):
                np.testing.assert_allclose(a, b, rtol=0, atol=1e-9)
    assert layout.skipped == []
    layout.close()


def test_preference_and_files(files, tmp_path):
    files.write_layout("videopose3d", tmp_path)
    assert layouts.find_layout(tmp_path).kind == "videopose3d"
    files.write_layout("official", tmp_path)
    official = layouts.find_layout(tmp_path)
    assert official.kind == "official"
    names = [entry["name"] for entry in official.files()]
    assert names == [
        *(f"official/Poses_D3_Positions_S{s}.tgz" for s in (1, 11, 5, 6, 7, 8, 9)),
        "official/metadata.xml",
    ]
    files.write_layout("baseline", tmp_path)
    baseline = layouts.find_layout(tmp_path)
    assert baseline.kind == "baseline"
    size = (tmp_path / "h36m.zip").stat().st_size
    assert baseline.files() == [{"name": "h36m.zip", "size": size}]
    assert layouts.find_layout(tmp_path, ["videopose3d"]).kind == "videopose3d"


def test_an_extracted_folder_is_one_entry(files, tmp_path):
    entries = files.baseline_entries()
    files.write_tree(tmp_path / "h36m", entries | {"notes.txt": b"not read"})
    (entry,) = layouts.find_layout(tmp_path).files()
    size = sum(len(data) for data in entries.values())
    assert entry == {"name": "h36m/", "files": len(entries), "size": size}


def test_nothing_is_found_where_nothing_is(tmp_path):
    assert layouts.find_layout(tmp_path) is None
    assert layouts.find_layout(tmp_path / "missing") is None


def test_recordings_of_no_action_are_skipped_aloud(files, tmp_path):
    files.write_official(tmp_path, also=["_ALL", "_ALL 1"])
    layout = layouts.find_layout(tmp_path)
    assert len(layout.index()) == 11
    assert len(layout.skipped) == 14
    assert "S9 _ALL 1: belongs to no action, no protocol uses it" in layout.skipped
    layout.close()


def test_shadow_files_of_macos_are_no_recordings(files, tmp_path):
    entries = files.baseline_entries()
    shadow = {"S1/MyPoses/3D_positions/._WalkingDog.h5": b"", "._cameras.h5": b""}
    files.write_zip(tmp_path / "h36m.zip", shadow | entries)
    assert len(layouts.find_layout(tmp_path).index()) == 11


def _baseline_with(files, folder, name, data):
    files.write_zip(folder / "h36m.zip", files.baseline_entries() | {name: data})
    return layouts.find_layout(folder)


def _read_all(layout):
    with contextlib.closing(layout):
        for record in layout.index():
            layout.read(record)


def _h5(array):
    return lambda files: files.h5_bytes(**{"3D_positions": array})


SPOILT = "S9/MyPoses/3D_positions/Walking 2.h5"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            _h5(np.zeros((3, 96))),
            "3D_positions: got shape (3, 96), expected (96, frames); get the file again",
        ),
        (
            _h5(np.zeros((96, 0))),
            "poses: got 0 frames, expected at least 1; get the file again",
        ),
        (
            _h5(np.where(np.arange(4) == 2, np.nan, np.ones((96, 1)))),
            "poses: frame 2 is not finite (1 of 4 frames); get the file again",
        ),
        (lambda files: files.h5_bytes(other=1), "'3D_positions' is missing; get the file again"),
        (lambda files: b"not HDF5", "cannot be read: "),
        (lambda files: files.h5_bytes(**{"3D_positions": np.zeros((96, 9))})[:900], "cannot be"),
    ],
)
def test_spoilt_h5(files, tmp_path, data, message):
    layout = _baseline_with(files, tmp_path, SPOILT, data(files))
    expected = f"{tmp_path}/h36m.zip: h36m/{SPOILT}: {message}"
    with pytest.raises(UserError, match=f"^{re.escape(expected)}"):
        _read_all(layout)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "S1/MyPoses/3D_positions/WalkDog.h5",
            "S1 WalkDog is also in {zip}: h36m/S1/MyPoses/3D_positions/WalkingDog.h5; remove one "
            "of them",
        ),
        (
            "S4/MyPoses/3D_positions/Walking.h5",
            "subject: got 'S4', expected one of S1, S5, S6, S7, S8, S9, S11; remove it",
        ),
        (
            "S5/MyPoses/3D_positions/Walking 1 (copy).h5",
            "sequence name: got 'Walking 1 (copy)', expected an action and perhaps a number, such "
            "as 'Walking 1'; rename or remove it",
        ),
    ],
)
def test_recordings_that_cannot_be(files, tmp_path, name, message):
    layout = _baseline_with(files, tmp_path, name, b"")
    path = tmp_path / "h36m.zip"
    expected = f"{path}: h36m/{name}: {message.format(zip=path)}"
    with pytest.raises(UserError, match=f"^{re.escape(expected)}$"):
        layout.index()


def test_an_archive_without_cameras(files, tmp_path):
    entries = files.baseline_entries()
    del entries["cameras.h5"]
    files.write_zip(tmp_path / "h36m.zip", entries)
    message = f"{tmp_path}/h36m.zip: cameras.h5 is missing; get the archive again"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        layouts.find_layout(tmp_path).cameras("S1")


def test_two_files_of_cameras(files, tmp_path):
    entries = files.baseline_entries()
    files.write_zip(tmp_path / "h36m.zip", entries | {"old/cameras.h5": entries["cameras.h5"]})
    message = (
        f"{tmp_path}/h36m.zip: h36m/old/cameras.h5: there is also h36m/cameras.h5; remove one of "
        "them"
    )
    with (
        contextlib.closing(layouts.find_layout(tmp_path)) as layout,
        pytest.raises(UserError, match=f"^{re.escape(message)}$"),
    ):
        layout.cameras("S1")


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        ("baseline", "h36m.zip"),
        ("videopose3d", "data_3d_h36m.npz"),
        ("official", "Poses_D3_Positions_S9.tgz"),
        ("official", "metadata.xml"),
        ("baseline", "S9/MyPoses/3D_positions/Walking.h5"),
        ("official", "S9/MyPoseFeatures/D3_Positions/Walking.cdf"),
    ],
)
@pytest.mark.parametrize("kind", ["a device or a pipe", "a link to nothing"])
def test_what_is_no_file_is_refused_and_not_waited_for(files, tmp_path, layout, name, kind):
    if name == "metadata.xml":
        files.write_official(tmp_path, metadata=False)
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    if kind == "a link to nothing":
        (tmp_path / name).symlink_to("nowhere")
    else:
        os.mkfifo(tmp_path / name)
    message = f"{tmp_path}/{name}: got {kind}, expected a file; put the file there or remove it"
    found = layouts.find_layout(tmp_path)
    assert found.kind == layout
    for ask in (found.files, lambda: (found.index(), found.cameras("S9"))):
        with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
            ask()
    found.close()


def test_links_to_archives_are_followed(files, tmp_path):
    files.write_layout("baseline", tmp_path / "elsewhere")
    data = tmp_path / "data"
    data.mkdir()
    (data / "h36m.zip").symlink_to(tmp_path / "elsewhere" / "h36m.zip")
    assert len(layouts.find_layout(data).index()) == 11


def test_a_cut_off_download(files, tmp_path):
    files.write_layout("baseline", tmp_path)
    path = tmp_path / "h36m.zip"
    path.write_bytes(path.read_bytes()[:-2000])
    message = f"{path}: cannot be read: File is not a zip file; get the file again"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        layouts.find_layout(tmp_path).index()
    files.write_official(tmp_path / "official")
    path = tmp_path / "official" / "Poses_D3_Positions_S9.tgz"
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(UserError, match=f"^{re.escape(str(path))}: cannot be read: "):
        _read_all(layouts.find_layout(tmp_path, ["official"]))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda files, folder: files.cdf_bytes(np.zeros((1, 3, 51)), folder),
            "Pose: got shape (1, 3, 51), expected (1, frames, 96); get the file again",
        ),
        (
            lambda files, folder: files.cdf_bytes(np.zeros((1, 3, 96)), folder, "Pos"),
            "cannot be read: ",
        ),
        (lambda files, folder: b"", "cannot be read: "),
        (lambda files, folder: b"\xcd\xf3\x00\x01\x00\x00\xff\xff", "cannot be read: "),
        (
            lambda files, folder: files.cdf_bytes(np.zeros((1, 9, 96)), folder)[:1500],
            "cannot be read: ",
        ),
    ],
)
def test_spoilt_cdf(files, tmp_path, spoil, message):
    files.write_official(tmp_path)
    entry = "S7/MyPoseFeatures/D3_Positions/Walking.cdf"
    path = tmp_path / "Poses_D3_Positions_S7.tgz"
    files.write_tar(path, {entry: spoil(files, tmp_path)})
    with pytest.raises(UserError, match=f"^{re.escape(f'{path}: {entry}: {message}')}"):
        _read_all(layouts.find_layout(tmp_path))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            {"positions_2d": {}},
            "'positions_3d' is missing, it has positions_2d; get the file again",
        ),
        (
            {"positions_3d": {"S1": np.zeros((2, 32, 3))}},
            "'positions_3d': expected a dict of subjects of dicts of recordings; get the file "
            "again",
        ),
        (
            {"positions_3d": {"S1": {"Walking": np.zeros((2, 17, 3))}}},
            "positions_3d['S1']['Walking']: poses: got shape (2, 17, 3), expected "
            "(frames, 32, 3); get the file again",
        ),
        (
            {"positions_3d": {"S1": {"Walking": np.array(["a"])}}},
            "positions_3d['S1']['Walking']: poses: got <U1, expected numbers; get the file again",
        ),
    ],
)
def test_spoilt_npz(files, tmp_path, members, message):
    path = tmp_path / "data_3d_h36m.npz"
    files.write_npz(path, **members)
    with pytest.raises(UserError, match=f"^{re.escape(f'{path}: {message}')}$"):
        _read_all(layouts.find_layout(tmp_path))
