import io
import os
import re
import stat
import tarfile
import zipfile
import zlib

import pytest

from ige.data import archives
from ige.data.archives import Folder, open_archive
from ige.errors import UserError

FILES = {"b/two.txt": b"2", "b/one.txt": b"11", "top.txt": b"333"}
KINDS = ["zip", "tar", "tgz", "tar.gz"]


def _write_zip(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("b")
        for name, data in files.items():
            archive.writestr(name, data)


def _add(archive, name, data=b"", kind=tarfile.REGTYPE):
    member = tarfile.TarInfo(name)
    member.type, member.size, member.linkname = kind, len(data), "/etc/passwd"
    archive.addfile(member, io.BytesIO(data))


def _write_tar(path, files):
    with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as archive:
        _add(archive, "b", kind=tarfile.DIRTYPE)
        for name, data in files.items():
            _add(archive, name, data)


def _write(kind, folder, files=FILES):
    if kind == "folder":
        for name, data in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(data)
        return folder
    path = folder / f"files.{kind}"
    (_write_zip if kind == "zip" else _write_tar)(path, files)
    return path


def _read_all(path):
    with open_archive(path) as archive:
        return {name: archive.read(name) for name in archive.names()}


def _refused(path, message):
    with pytest.raises(UserError, match=f"^{re.escape(f'{path}: {message}')}$"):
        _read_all(path)


@pytest.mark.parametrize("kind", ["folder", *KINDS])
def test_every_kind_has_the_same_files(tmp_path, kind):
    with open_archive(_write(kind, tmp_path)) as archive:
        assert sorted(archive.names()) == sorted(FILES)
        for name in reversed(archive.names()):
            assert archive.read(name) == FILES[name]


def test_patterns_choose_files_of_a_folder(tmp_path):
    folder = Folder(_write("folder", tmp_path), ["b/*.txt"])
    assert folder.names() == ["b/one.txt", "b/two.txt"]
    assert folder.size() == 3


@pytest.mark.parametrize("kind", ["zip", "tgz"])
@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("../up.txt", "outside the archive"),
        ("b/../../up.txt", "outside the archive"),
        ("b\\..\\..\\up.txt", "outside the archive"),
        ("/etc/passwd", "absolute"),
        ("\\\\host\\share", "absolute"),
        ("C:\\up.txt", "absolute"),
        ("b/one\n.txt", "unprintable"),
        ("b/one\x1b[2J.txt", "unprintable"),
    ],
)
def test_names_that_lead_elsewhere_are_refused(tmp_path, kind, name, fault):
    _refused(
        _write(kind, tmp_path, FILES | {name: b"x"}),
        f"{name!r}: name is {fault}, expected a path below the archive's top; rename or remove it",
    )


@pytest.mark.parametrize("name", ["..one.txt", "b..c/one...txt", "./one.txt"])
@pytest.mark.parametrize("kind", ["zip", "tgz"])
def test_dots_in_names_are_no_way_out(tmp_path, kind, name):
    assert _read_all(_write(kind, tmp_path, {name: b"x"})) == {name: b"x"}


LINK = (
    "odd: a link, a device or a sparse file, expected files and folders; make the archive again "
    "without it"
)


@pytest.mark.parametrize("kind", ["tar", "tgz"])
@pytest.mark.parametrize(
    "member",
    [
        *(tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE),
        b"Q",  # nobody's
    ],
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind, member):
    path = _write(kind, tmp_path)
    with tarfile.open(path, "w" if kind == "tar" else "w:gz") as archive:
        _add(archive, "one.txt", b"1")
        _add(archive, "odd", kind=member)
    _refused(path, LINK)


def test_a_sparse_file_in_a_tar_is_refused(tmp_path):
    path = tmp_path / "files.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("odd")
        member.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": "100000000"}
        archive.addfile(member)
    _refused(path, LINK)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_in_a_zip_are_refused(tmp_path, kind):
    path = tmp_path / "files.zip"
    with zipfile.ZipFile(path, "w") as archive:
        entry = zipfile.ZipInfo("odd")
        entry.external_attr = (kind | 0o644) << 16
        archive.writestr(entry, "/etc/passwd")
    _refused(path, LINK)


@pytest.mark.parametrize("again", ["top.txt", "./top.txt", "b//../top.txt"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", ["zip", "tgz"])
def test_names_that_are_there_twice_are_refused(tmp_path, kind, again):
    path = _write(kind, tmp_path)
    if kind == "zip":
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(again, b"other")
    else:
        with tarfile.open(path, "w:gz") as archive:
            _add(archive, "top.txt", b"1")
            _add(archive, again, b"2")
    if ".." in again:
        message = (
            f"{again!r}: name is outside the archive, expected a path below the archive's "
            "top; rename or remove it"
        )
    else:
        message = f"{again}: there twice, expected every name once; make the archive again"
    _refused(path, message)


def test_encrypted_files_are_refused(tmp_path):
    path = _write("zip", tmp_path, {"one.txt": b"1"})
    data = bytearray(path.read_bytes())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    _refused(
        path,
        "one.txt: encrypted, expected files without a password; make the archive again without one",
    )


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_packing_is_refused(tmp_path, method):
    path = tmp_path / "files.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("one.txt", b"1")
    _refused(path, f"one.txt: packed by method {method}, expected deflate; make the archive again")


def test_the_bounds_are_far_beyond_the_real_archives():
    frames, joints, bytes_each = 6400, 32 * 3, 8
    assert 50 * frames * joints * bytes_each < archives.MAX_MEMBER_BYTES
    videos, keypoints = 840, 17 * 2
    # No video is as long as the longest.
    assert 2 * videos * frames * keypoints * bytes_each < archives.MAX_ARCHIVE_BYTES
    assert 20 * 5 * videos < archives.MAX_MEMBERS


@pytest.mark.parametrize("kind", KINDS)
def test_a_member_beyond_the_bound_is_refused(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", 20_000)
    large = _write(kind, tmp_path, {"large": bytes(20_001)})
    _refused(large, "large: got 20,001 bytes unpacked, expected 0 to 20,000; get the file again")
    assert len(_read_all(_write(kind, tmp_path, {"fits": bytes(20_000)}))["fits"]) == 20_000


def test_a_file_beyond_the_bound_is_refused(tmp_path, monkeypatch):
    folder = _write("folder", tmp_path)
    monkeypatch.setattr(archives.read_file, "__defaults__", (2,))
    message = f"{tmp_path}/top.txt: got 3 bytes unpacked, expected 0 to 2; get the file again"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        _read_all(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_beyond_the_bound_is_refused(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(archives, "MAX_ARCHIVE_BYTES", 200)
    path = _write(kind, tmp_path, {"a": bytes(100), "b2": bytes(100), "c": bytes(1)})
    _refused(path, "got 201 bytes unpacked, expected 0 to 200; get the file again")


@pytest.mark.parametrize("kind", ["zip", "tgz"])
def test_an_archive_that_expands_too_much_is_refused(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(archives, "FREE_BYTES", 1000)
    path = _write(kind, tmp_path, {"zeros": bytes(2_000_000)})
    most = 1000 + 100 * path.stat().st_size
    assert most < 2_000_000
    _refused(path, f"got 2,000,000 bytes unpacked, expected 0 to {most:,}; get the file again")
    path = _write(kind, tmp_path, {"noise": os.urandom(2_000_000)})
    assert len(_read_all(path)["noise"]) == 2_000_000


def test_too_many_members_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 3)
    message = "got more than 3 members, expected at most as many; get the file again"
    _refused(_write("zip", tmp_path), message)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        (archives.Bounds(member=600), "large: got 601 bytes unpacked, expected 0 to 600"),
        (archives.Bounds(archive=606), "got 607 bytes unpacked, expected 0 to 606"),
        (archives.Bounds(members=3), "got more than 3 members, expected at most as many"),
    ],
)
def test_other_bounds(tmp_path, kind, bounds, message):
    path = _write(kind, tmp_path, FILES | {"large": bytes(601)})
    refused = pytest.raises(UserError, match=re.escape(f"{message}; get the file again"))
    with refused, (archives.Zip if kind == "zip" else archives.Tar)(path, bounds) as archive:
        archive.names()


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_tar_is_streamed(tmp_path, kind):
    with archives.Tar(_write(kind, tmp_path)) as archive:
        assert dict(archive.stream()) == FILES


def test_a_stream_that_ends_early_is_refused(tmp_path):
    path = _write("tar", tmp_path)
    path.write_bytes(path.read_bytes()[: 4 * 512])
    with archives.Tar(path) as archive, pytest.raises(tarfile.ReadError):
        list(archive.stream())


def test_a_zip_member_that_unpacks_to_more_than_it_says_is_not_unpacked(tmp_path, monkeypatch):
    path = _write("zip", tmp_path, {"bomb": bytes(20_000_000)})
    data = bytearray(path.read_bytes())
    central = data.rindex(b"PK\x01\x02")
    checksum, size = zlib.crc32(bytes(1000)), 1000
    data[central + 16 : central + 20] = checksum.to_bytes(4, "little")
    data[central + 24 : central + 28] = size.to_bytes(4, "little")
    path.write_bytes(data)
    lengths = []
    decompressobj = zlib.decompressobj

    class Watched:
        def __init__(self, *arguments):
            self._object = decompressobj(*arguments)

        def decompress(self, *arguments):
            unpacked = self._object.decompress(*arguments)
            lengths.append(len(unpacked))
            return unpacked

        def __getattr__(self, name):
            return getattr(self._object, name)

    monkeypatch.setattr(zlib, "decompressobj", Watched)
    with open_archive(path) as archive:
        assert archive.read("bomb") == bytes(1000)
    assert 0 < max(lengths) <= 4096


@pytest.mark.parametrize("length", [-1, 1])
def test_a_zip_member_of_another_length_is_damaged(tmp_path, length):
    path = tmp_path / "files.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("one.txt", b"12345")
    data = bytearray(path.read_bytes())
    data[data.rindex(b"PK\x01\x02") + 24] += length
    path.write_bytes(data)
    with pytest.raises((EOFError, zipfile.BadZipFile)):
        _read_all(path)


@pytest.mark.parametrize("kind", ["tar", "tgz"])
@pytest.mark.parametrize("place", [0, 100, 156, 512 + 3, 1536 + 148])
def test_a_tar_with_a_damaged_header_is_not_a_shorter_one(tmp_path, kind, place):
    path = _write("tar", tmp_path)
    data = bytearray(path.read_bytes())
    data[place] ^= 0xFF
    path.write_bytes(data)
    if kind == "tgz":
        packer = zlib.compressobj(wbits=31)
        path = path.with_suffix(".tgz")
        path.write_bytes(packer.compress(bytes(data)) + packer.flush())
    with pytest.raises(tarfile.ReadError):
        _read_all(path)


@pytest.mark.parametrize("blocks", range(1, 8))
def test_a_tar_that_is_cut_off_is_not_a_shorter_one(tmp_path, blocks):
    path = _write("tar", tmp_path)  # a folder and three files of two blocks each, then zeros
    path.write_bytes(path.read_bytes()[: 512 * blocks])
    with pytest.raises(tarfile.ReadError):
        _read_all(path)


def test_a_tar_that_goes_on_after_its_end_is_damaged(tmp_path):
    path = _write("tar", tmp_path)
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(tarfile.ReadError, match=r"^it goes on after its end$"):
        _read_all(path)


def test_the_checksum_of_a_gzip_stream_is_compared(tmp_path):
    path = _write("tgz", tmp_path)
    data = bytearray(path.read_bytes())
    data[-6] ^= 1
    path.write_bytes(data)
    with pytest.raises(OSError, match=r"^CRC check failed"):
        _read_all(path)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (-512, "x: got -512 bytes unpacked, expected 0 to 268,435,456; get the file again"),
        (2**60, f"x: got {2**60:,} bytes unpacked, expected 0 to 268,435,456; get the file again"),
    ],
)
def test_sizes_that_cannot_be(tmp_path, size, message):
    member = tarfile.TarInfo("x")
    member.size = size
    path = tmp_path / "files.tar"
    path.write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    _refused(path, message)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
@pytest.mark.parametrize("size", [-1024, 2**40])
def test_headers_that_announce_what_cannot_be(tmp_path, kind, size):
    member = tarfile.TarInfo("x")
    member.type, member.size = kind, size
    path = tmp_path / "files.tar"
    path.write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
    _refused(
        path,
        f"a header: got {size:,} bytes unpacked, expected 0 to 268,435,456; get the file again",
    )


@pytest.mark.parametrize("name", ["files.zip", "files.tgz"])
def test_a_pipe_is_not_waited_for(tmp_path, name):
    path = tmp_path / name
    os.mkfifo(path)
    _refused(path, "got a device or a pipe, expected a file; put the file there or remove it")


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (os.mkfifo, "a device or a pipe"),
        (lambda path: path.symlink_to("/dev/zero"), "a device or a pipe"),
        (lambda path: path.symlink_to("nowhere"), "a link to nothing"),
        (lambda path: path.symlink_to(path.name), "a link to nothing"),
    ],
)
def test_what_is_no_file_in_a_folder_is_refused(tmp_path, make, kind):
    make(_write("folder", tmp_path) / "b" / "odd.txt")
    message = f"{tmp_path}/b/odd.txt: got {kind}, expected a file; put the file there or remove it"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        Folder(tmp_path).names()
    assert Folder(tmp_path, ["*.txt"]).names() == ["top.txt"]


def test_links_to_files_and_folders_of_a_folder_are_followed(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    _write("folder", elsewhere)
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "S1").symlink_to(elsewhere / "b")
    (folder / "one.txt").symlink_to(elsewhere / "top.txt")
    archive = Folder(folder, ["S1/*.txt", "*.txt"])
    assert archive.names() == ["S1/one.txt", "S1/two.txt", "one.txt"]
    assert archive.read("S1/one.txt") == b"11"
    assert archive.read("one.txt") == b"333"


def test_unprintable_names_in_a_folder_are_refused(tmp_path):
    (tmp_path / "one\n.txt").touch()
    message = (
        f"{tmp_path}: 'one\\n.txt': name is unprintable, expected a path below the archive's top; "
        "rename or remove it"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        _read_all(tmp_path)
