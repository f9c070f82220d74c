"""When a build is reused, made again, or refused."""

import json
import re

import numpy as np
import pytest

from ige.errors import UserError
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
        patch.setattr(dataset.tfds.core.DatasetInfo, "write_to_directory", _interrupt)
        with pytest.raises(_InterruptedError):
            make().prepare()
    assert _built(tmp_path) == []
    assert files.listed(make().sequences("test")) == files.SEQUENCES["test"]
    assert _built(tmp_path) == ["projection"]


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
