import contextlib
import pickle
import re
import zipfile

import pytest

from ige.errors import UserError
from ige.vox.data.shapenet_core.layouts import find_layout, read_splits

HEADER = "id,synsetId,subSynsetId,modelId,split\n"


def refused(message):
    return pytest.raises(UserError, match=f"^{re.escape(message)}$")


def test_splits(tmp_path):
    path = tmp_path / "all.csv"
    path.write_text(
        f"\ufeff{HEADER}\n1,03001627,03001627,a,train\n\n2,2691156,2691156,b,val\r\n"
        "3,03001627,03001627,c,test\n3,03001627,03001627,c,test\n",
        encoding="utf-8",
    )
    assert read_splits(path) == {
        ("03001627", "a"): "train",
        ("02691156", "b"): "validation",
        ("03001627", "c"): "test",
    }


def test_columns_in_another_order(tmp_path):
    path = tmp_path / "all.csv"
    path.write_text("\ufeffsplit,modelId,synsetId\nval,a,03001627\n", encoding="utf-8")
    assert read_splits(path) == {("03001627", "a"): "validation"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "",
            "got no column synsetId, modelId, split, expected the header "
            "id,synsetId,subSynsetId,modelId,split; get the file again",
        ),
        (
            "id,synsetId,split\n",
            "got no column modelId, expected the header id,synsetId,subSynsetId,modelId,split; get "
            "the file again",
        ),
        (
            f"{HEADER}1,03001627,03001627,a\n",
            "line 2: got 4 columns, expected 5; get the file again",
        ),
        (
            f"{HEADER}1,03001627,03001627,a,dev\n",
            "line 2: split: got 'dev', expected one of train, val, test; get the file again",
        ),
        (
            f"{HEADER}1,03001627,03001627,a,train\n2,03001627,03001627,a,test\n",
            "line 3: 03001627/a is in two splits; get the file again",
        ),
    ],
)
def test_damaged_splits(tmp_path, text, message):
    path = tmp_path / "all.csv"
    path.write_text(text)
    with refused(f"{path}: {message}"):
        read_splits(path)


@pytest.mark.parametrize("data", [b"\xff\xfe\0\0", HEADER.encode() + b'1,"2,3\n'])
def test_splits_that_are_no_text(tmp_path, data):
    path = tmp_path / "all.csv"
    path.write_bytes(data)
    with pytest.raises(UserError, match=f"^{path}: cannot be read: "):
        read_splits(path)


def test_nothing_found(manual, make):
    message = (
        f"shapenet_core: no models of ShapeNetCore in {manual}; put one of these there:\n"
        "  02691156.zip and so on, the archives of ShapeNetCore.v1, from https://shapenet.org or "
        "its organisation on Hugging Face (registration required)\n"
        "  02691156/ and so on, the same extracted\n"
        "with all.csv, the splits of SHREC16, from https://shapenet.org\n"
        "or run on generated data, which needs no files: --gin_param=\"data='synthetic'\""
    )
    with refused(message):
        make().prepare()


def test_splits_are_missing(files, manual, make):
    files.write_zips(manual)
    (manual / "all.csv").unlink()
    message = (
        f"shapenet_core: {manual}/all.csv is missing: it has the splits; get it from "
        "https://shapenet.org (SHREC16) and put it there"
    )
    with refused(message):
        make().prepare()


def test_archives_in_a_folder_of_their_own(files, manual):
    inner = manual / "ShapeNetCore.v1"
    inner.mkdir()
    files.write_zips(inner)
    (inner / "all.csv").rename(manual / "all.csv")
    layout = find_layout(manual)
    assert [entry["name"] for entry in layout.files()] == [
        "all.csv",
        "ShapeNetCore.v1/03001627.zip",
        "ShapeNetCore.v1/04379243.zip",
    ]
    records = layout.index(())
    assert [(r.synset, r.model, r.split) for r in records] == [
        (synset, model, {"val": "validation"}.get(split, split))
        for (synset, model), (_, split) in files.MODELS.items()
    ]
    assert layout.read(records[0]).materials == {"model.mtl": files.PAINT}
    layout.close()


def test_models_of_another_synset_are_not_of_this_one(files, manual):
    files.write_zips(
        manual, splits=files.splits_text(files.MODELS | {(files.CHAIR, "d"): (0, "train")})
    )
    (manual / f"{files.TABLE}.zip").rename(manual / "table.zip")
    with (
        zipfile.ZipFile(manual / "table.zip") as tables,
        zipfile.ZipFile(manual / f"{files.CHAIR}.zip", "a") as chairs,
    ):
        for name in tables.namelist():
            chairs.writestr(name, tables.read(name))
    layout = find_layout(manual)
    assert [record.model for record in layout.index(())] == ["a", "b", "c"]
    layout.close()


def test_another_process_opens_the_archives_itself(files, manual):
    files.write_zips(manual)
    layout = find_layout(manual)
    record = layout.index(())[0]
    with contextlib.closing(pickle.loads(pickle.dumps(layout))) as other:
        assert other.read(record) == layout.read(record)
    layout.close()


def test_models_that_are_published_as_broken_are_skipped(files, manual):
    excluded = "4a32519f44dc84aabafe26e2eb69ebf4"
    models = files.MODELS | {("04090263", excluded): ((0.5, 0.5, 0.5), "train")}
    files.write_zips(manual, files.entries(models), files.splits_text(models))
    layout = find_layout(manual)
    assert excluded not in [record.model for record in layout.index(())]
    assert layout.skipped == [f"04090263/{excluded}: published as empty or broken"]
    layout.close()


def test_ids_that_could_not_name_a_file(files, manual):
    names = ("x" * 201, "\u00e9")
    models = files.MODELS | {(files.CHAIR, name): ((0.5, 0.5, 0.5), "train") for name in names}
    files.write_zips(manual, files.entries(models), files.splits_text(models))
    layout = find_layout(manual)
    assert {record.model for record in layout.index(())} == {"a", "b", "c", "d"}
    assert layout.skipped == [
        f"2 of {files.CHAIR} that all.csv has and zips have not, the first {names[0]}"
    ]
    layout.close()


def test_an_unknown_synset(files, manual, make):
    files.write_zips(manual)
    message = (
        "shapenet_core.synsets: got 02691156, expected some of 03001627, 04379243, which are in "
        f"{manual}; choose of these, or get the missing files"
    )
    with refused(message):
        make(synsets=["02691156"]).prepare()


def test_archives_that_are_not_there_are_counted(files, manual):
    """But for synsets that nobody asked for."""
    files.write_zips(manual)
    rows = files.splits_text().splitlines()
    rows += ["9,02691156,02691156,x,train", "10,02691156,02691156,y,val", "11,09999999,9,z,test"]
    (manual / "all.csv").write_text("\n".join(rows))
    layout = find_layout(manual)
    layout.index(())
    assert layout.skipped == [
        "3 of 2 synsets that all.csv has and zips have not, the first 02691156"
    ]
    layout.index([files.CHAIR])
    assert layout.skipped == []
    layout.close()


def test_an_archive_of_something_else(files, manual, make):
    files.write_zips(manual, {f"{files.CHAIR}/notes.txt": b"", **files.entries()})
    with zipfile.ZipFile(manual / f"{files.CHAIR}.zip", "w") as archive:
        archive.writestr("notes.txt", "")
    message = (
        f"{manual}/03001627.zip: got no 03001627/MODEL/model.obj, expected ShapeNetCore's models; "
        "get it again"
    )
    with refused(message):
        make().prepare()


def _announce(path, name, size):
    """Has the directory of a zip file announce another size of a member."""
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\1\2", 0, data.rindex(name.encode()))
    data[entry + 24 : entry + 28] = size.to_bytes(4, "little")
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../../etc/model.obj", "name is outside the archive"),
        ("/etc/model.obj", "name is absolute"),
    ],
)
def test_paths_that_lead_out_are_refused(files, manual, make, name, message):
    files.write_zips(manual)
    with zipfile.ZipFile(manual / f"{files.CHAIR}.zip", "a") as archive:
        archive.writestr(name, b"")
    with refused(
        f"{manual}/03001627.zip: {name!r}: {message}, expected a path below the archive's top; "
        "rename or remove it"
    ):
        make().prepare()


def test_a_bomb_is_refused_before_it_is_unpacked(files, manual, make):
    files.write_zips(manual)
    path = manual / f"{files.CHAIR}.zip"
    _announce(path, f"{files.CHAIR}/c/model.obj", 2**32 - 2)
    with refused(
        f"{path}: {files.CHAIR}/c/model.obj: got 4,294,967,294 bytes unpacked, expected 0 to "
        "268,435,456; get the file again"
    ):
        make().prepare()


def test_many_members_that_expand_too_much_are_refused(files, manual, make):
    files.write_zips(manual)
    path = manual / f"{files.CHAIR}.zip"
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{files.CHAIR}/e/model.obj", bytes(80_000_000))
    most = 2**26 + 100 * path.stat().st_size
    assert most < 80_000_000
    with pytest.raises(UserError, match=re.escape(f"expected 0 to {most:,}; get the file again")):
        make().prepare()


def test_a_damaged_archive(files, manual, make):
    files.write_zips(manual)
    path = manual / f"{files.CHAIR}.zip"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match=f"^{path}: cannot be read: File is not a zip file"):
        make().prepare()


def test_a_damaged_member(files, manual, make):
    files.write_zips(manual)
    path = manual / f"{files.CHAIR}.zip"
    data = bytearray(path.read_bytes())
    start = data.index(b"03001627/a/model.obj") + 40
    data[start : start + 20] = bytes(20)
    path.write_bytes(data)
    with pytest.raises(UserError, match=f"^{path}: 03001627/a/model.obj: cannot be read: "):
        make().prepare()
