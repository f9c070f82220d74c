"""When a build is reused, made again, or refused."""

import json
import os
import re
import tempfile
import threading

import numpy as np
import pytest

from ige.data import builds
from ige.errors import UserError
from ige.files import lock
from ige.hpe.data.h3m_lift import builder, dataset, h3m_lift


def test_a_build_is_reused_without_its_files(files, manual, make, monkeypatch):
    files.write_layout("videopose3d", manual)
    files.write_detections(manual / "data_2d_h36m_gt.npz")
    before = make(keypoints="detections")
    before.prepare()
    for path in manual.iterdir():
        path.unlink()
    monkeypatch.delattr(builder.H3mLift, "_generate_examples")
    after = make(keypoints="detections")
    assert files.listed(after.sequences("train")) == files.SEQUENCES["train"]
    assert after.provenance == before.provenance
    assert after.keypoint_skeleton.name == "h36m_17"
    assert make(keypoints="detections", detections="gt").provenance == before.provenance
    with pytest.raises(UserError, match=r"no Human3\.6M poses in"):
        make().prepare()


def test_other_files_make_another_build(files, manual, make, capsys):
    files.write_layout("videopose3d", manual)
    make().prepare()
    positions = {subject: {} for subject in files.RECORDINGS}
    for subject, name in files.every():
        positions[subject][name] = files.poses_of(subject, name)[:1] / np.float32(1000.0)
    files.write_npz(manual / "data_3d_h36m.npz", positions_3d=positions)
    capsys.readouterr()
    assert [frames for *_, frames in files.listed(make().sequences("train"))] == [1] * 6
    said = capsys.readouterr().err.splitlines()
    assert said[0] == (
        "h3m_lift: projection: data_3d_h36m.npz changed since it was made; building it again"
    )
    files.write_layout("baseline", manual)
    assert files.listed(make().sequences("train")) == files.SEQUENCES["train"]
    said = capsys.readouterr().err.splitlines()
    assert said[0] == (
        "h3m_lift: projection: made from videopose3d files, baseline files are there now; "
        "building it again"
    )


def test_an_explicit_layout_has_a_build_of_its_own(files, manual, make, capsys):
    files.write_layout("videopose3d", manual)
    files.write_layout("baseline", manual)
    assert make().provenance["layout"] == "baseline"
    explicit = make(data="videopose3d").provenance
    assert (explicit["layout"], explicit["config"]) == ("videopose3d", "videopose3d-projection")
    capsys.readouterr()
    make().prepare()
    assert capsys.readouterr().err == ""


class _InterruptedError(BaseException):
    pass


def _interrupt(*args, **kwargs):
    raise _InterruptedError


def _built(tmp_path):
    return sorted(path.parent.name for path in tmp_path.glob("tfds/h3m_lift/*/1.0.0"))


def test_an_interrupted_build_is_none(files, manual, make, monkeypatch, tmp_path):
    files.write_layout("baseline", manual)
    with monkeypatch.context() as patch:
        patch.setattr(builds.tfds.core.DatasetInfo, "write_to_directory", _interrupt)
        with pytest.raises(_InterruptedError):
            make().prepare()
    assert _built(tmp_path) == []
    assert files.listed(make().sequences("test")) == files.SEQUENCES["test"]
    assert _built(tmp_path) == ["projection"]


def _spoil(manual, monkeypatch):
    (manual / "h36m.zip").write_bytes(b"half of it")
    return UserError


def _interrupt_at_the_end(manual, monkeypatch):
    monkeypatch.setattr(builds.tfds.core.DatasetInfo, "write_to_directory", _interrupt)
    return _InterruptedError


@pytest.mark.parametrize("fail", [_spoil, _interrupt_at_the_end])
def test_a_build_stays_until_another_is_whole(files, manual, make, monkeypatch, tmp_path, fail):
    files.write_layout("videopose3d", manual)
    before = make().provenance
    files.write_layout("baseline", manual)
    with monkeypatch.context() as patch:
        error = fail(manual, patch)
        with pytest.raises(error):
            make().prepare()
    away = tmp_path / "away"
    manual.rename(away)
    manual.mkdir()
    assert make().provenance == before
    manual.rmdir()
    away.rename(manual)
    files.write_layout("baseline", manual)
    assert make().provenance["layout"] == "baseline"
    assert _left(tmp_path) == ["1.0.0"]


def _left(tmp_path):
    return [path.name for path in tmp_path.glob("tfds/h3m_lift/projection/*")]


@pytest.mark.parametrize("again", [False, True])
def test_what_a_killed_process_was_replacing_comes_back(
    files, manual, make, monkeypatch, tmp_path, again
):
    """Unless another build took its place already."""
    files.write_layout("baseline", manual)
    before = make().provenance
    folder = tmp_path / "tfds/h3m_lift/projection/1.0.0"
    folder.rename(folder.with_name("replaced.1.0.0"))
    if again:
        builds.shutil.copytree(folder.with_name("replaced.1.0.0"), folder)
    (tmp_path / "tfds/h3m_lift/.lock").touch()
    monkeypatch.delattr(builder.H3mLift, "_generate_examples")
    assert make().provenance == before
    assert _left(tmp_path) == ["1.0.0"]


def test_the_second_of_two_builds_waits_and_uses_the_first(
    files, manual, make, monkeypatch, tmp_path, capsys
):
    files.write_layout("baseline", manual)
    building, waiting, built = threading.Event(), threading.Event(), []
    build, say_held = dataset.H3mLiftDataset._build, dataset.H3mLiftDataset._say_held

    def slow_build(self, source, folder):
        building.set()
        assert waiting.wait(60)
        build(self, source, folder)
        built.append(folder)

    def say(self, holder):
        say_held(self, holder)
        waiting.set()

    monkeypatch.setattr(dataset.H3mLiftDataset, "_build", slow_build)
    monkeypatch.setattr(dataset.H3mLiftDataset, "_say_held", say)
    first, second = make(), make()
    thread = threading.Thread(target=first.prepare)
    thread.start()
    assert building.wait(60)
    second.prepare()
    thread.join()
    assert len(built) == 1
    assert second.provenance == first.provenance
    said = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        rf"h3m_lift: process {os.getpid()} on \S+ \(since [-0-9]+ [:0-9]+\) is building in "
        rf"{re.escape(str(tmp_path))}/tfds/h3m_lift; waiting until it is done",
        said[0],
    )
    assert len(said) == 2


def test_files_that_change_while_they_are_read(files, manual, make, monkeypatch):
    files.write_layout("videopose3d", manual)
    build = dataset.H3mLiftDataset._build

    def disturbed(self, source, folder):
        build(self, source, folder)
        with (manual / "data_3d_h36m.npz").open("ab") as file:
            file.write(b"more")

    with monkeypatch.context() as patch:
        patch.setattr(dataset.H3mLiftDataset, "_build", disturbed)
        message = f"h3m_lift: the files in {manual} changed while they were read; run the command"
        with pytest.raises(UserError, match=f"^{re.escape(message)} again$"):
            make().prepare()
    assert files.listed(make().sequences("test")) == files.SEQUENCES["test"]


def test_what_others_are_building_is_left_alone(files, manual, make, tmp_path):
    files.write_layout("baseline", manual)
    make().prepare()
    root = tmp_path / "tfds" / "h3m_lift"
    theirs = root / "hourglass" / "incomplete.ABC123_1.0.0"
    theirs.mkdir(parents=True)
    with lock(root / ".lock", _interrupt):
        make().prepare()
        assert theirs.exists()
    make().prepare()
    assert theirs.exists()  # no lock, no look: preparing what is there stays cheap
    (root / ".lock").touch()
    make().prepare()
    assert not theirs.exists()
    assert not (root / ".lock").exists()


def test_nothing_else_is_left_behind(files, manual, make, monkeypatch, tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    files.write_layout("baseline", manual)
    make().prepare()
    assert list(temporary.iterdir()) == []
    names = {path.name for path in (tmp_path / "tfds" / "h3m_lift").iterdir()}
    assert names == {".config", "projection"}


def test_what_a_killed_build_leaves_is_none(files, manual, make, tmp_path):
    files.write_layout("baseline", manual)
    make().prepare()
    whole = tmp_path / "tfds" / "h3m_lift" / "projection" / "1.0.0"
    whole.rename(whole.with_name("incomplete.ABC123_1.0.0"))
    (manual / "h36m.zip").rename(manual / "gone.zip")
    with pytest.raises(UserError, match=r"no Human3\.6M poses in"):
        make().prepare()
    (manual / "gone.zip").rename(manual / "h36m.zip")
    assert files.listed(make().sequences("test")) == files.SEQUENCES["test"]
    assert [path.name for path in whole.parent.iterdir()] == ["1.0.0"]


def test_bad_data_stops_the_build(files, manual, make, tmp_path):
    spoilt = "S9/MyPoses/3D_positions/Walking 2.h5"
    entries = files.baseline_entries()
    files.write_zip(manual / "h36m.zip", entries | {spoilt: entries[spoilt][:700]})
    message = f"{manual}/h36m.zip: h36m/{spoilt}: cannot be read: "
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        make().prepare()
    assert _built(tmp_path) == []


def test_a_damaged_build_says_what_to_do(files, manual, make, tmp_path):
    files.write_layout("videopose3d", manual)
    made = make()
    made.prepare()
    folder = tmp_path / "tfds" / "h3m_lift" / "projection" / "1.0.0"
    (shard,) = folder.glob("*test*")
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"delete this folder to build it again$") as caught:
        made.sequences("test")
    assert str(caught.value).startswith(f"{folder}: cannot be read: ")
    shard.unlink()
    with pytest.raises(UserError, match=r"delete this folder to build it again$"):
        made.sequences("test")
    (folder / "metadata.json").write_text("{")
    assert files.listed(make().sequences("test")) == files.SEQUENCES["test"]


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"name": 1}', b"\xff"])
def test_a_damaged_description_of_a_build(files, manual, make, tmp_path, name, data):
    files.write_layout("videopose3d", manual)
    made = make()
    made.prepare()
    folder = tmp_path / "tfds" / "h3m_lift" / "projection" / "1.0.0"
    (folder / name).write_bytes(data)
    with pytest.raises(UserError, match=r"; delete this folder to build it again$") as caught:
        make().sequences("test")
    assert str(caught.value).startswith(f"{folder}: cannot be read: ")
    assert str(caught.value).isprintable()


def test_a_build_with_fewer_frames_than_it_recorded(files, manual, make, tmp_path):
    files.write_layout("videopose3d", manual)
    made = make()
    made.prepare()
    folder = tmp_path / "tfds" / "h3m_lift" / "projection" / "1.0.0"
    metadata = json.loads((folder / "metadata.json").read_text())
    metadata["frames"]["test"] += 1
    (folder / "metadata.json").write_text(json.dumps(metadata))
    message = (
        f"{folder}: got 17 frames in the test split, expected 18; delete this folder to build it "
        "again"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        make().sequences("test")


def test_interrupted_generation_leaves_nothing(tmp_path, monkeypatch):
    arguments = {"data": "synthetic", "data_dir": str(tmp_path), "synthetic_frames": 2}

    def partly(folder, spec):
        (folder / "h36m.zip").write_bytes(b"part")
        raise _InterruptedError

    monkeypatch.setattr(dataset, "write_synthetic", partly)
    with pytest.raises(_InterruptedError):
        h3m_lift(**arguments).prepare()
    assert list((tmp_path / "downloads" / "generated" / "h3m_lift").iterdir()) == []
