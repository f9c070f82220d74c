import io
import tarfile
import zipfile

import pytest

from ige.data.archives import Folder, open_archive

FILES = {"b/two.txt": b"2", "b/one.txt": b"11", "top.txt": b"333"}


def _write(kind, folder):
    if kind == "folder":
        for name, data in FILES.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(data)
        return folder
    path = folder / f"files.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.mkdir("b")
            for name, data in FILES.items():
                archive.writestr(name, data)
        return path
    with tarfile.open(path, "w:gz" if kind != "tar" else "w") as archive:
        top = tarfile.TarInfo("b")
        top.type = tarfile.DIRTYPE
        archive.addfile(top)
        for name, data in FILES.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "tgz", "tar.gz"])
def test_every_kind_has_the_same_files(tmp_path, kind):
    with open_archive(_write(kind, tmp_path)) as archive:
        assert sorted(archive.names()) == sorted(FILES)
        for name in reversed(archive.names()):
            assert archive.read(name) == FILES[name]


def test_patterns_choose_files_of_a_folder(tmp_path):
    folder = Folder(_write("folder", tmp_path), ["b/*.txt"])
    assert folder.names() == ["b/one.txt", "b/two.txt"]
    assert folder.size() == 3
