"""Folders, .zip and .tar(.gz) files behind one interface; nothing is ever extracted to disk.

Archives come from strangers. One is refused as a whole when a member is anything but a file or a
folder, when a name leads out of the archive or is there twice, or when it expands beyond a bound.
"""

import abc
import contextlib
import gzip
import pathlib
import posixpath
import re
import stat
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple, Self

from ige.errors import UserError

MAX_MEMBER_BYTES = 2**28
"""Bound of one file, 256 MiB: the longest recording of Human3.6M takes 5 MiB as float64."""

MAX_ARCHIVE_BYTES = 2**32
"""Bound of all files of an archive, 4 GiB: all 2D poses of Human3.6M take 0.6 GiB as float64."""

MAX_RATIO = 100
"""How many times its size an archive may expand to, beyond `FREE_BYTES`: no file in an h36m.zip
shrinks to less than a thirteenth."""

FREE_BYTES = 2**26
"""What any archive may expand to, however small it is: 64 MiB."""

MAX_MEMBERS = 100_000
"""Bound of the number of members: Human3.6M has 840 videos."""


class Bounds(NamedTuple):
    """How large an archive may be; None for what holds for recordings of people.

    Attributes:
        member: bytes of one file; None for `MAX_MEMBER_BYTES`.
        archive: bytes of all files together; None for `MAX_ARCHIVE_BYTES`.
        members: number of files and folders; None for `MAX_MEMBERS`.
    """

    member: int | None = None
    archive: int | None = None
    members: int | None = None

    def filled(self) -> "Bounds":
        """Returns these bounds, with numbers in the place of None."""
        defaults = (MAX_MEMBER_BYTES, MAX_ARCHIVE_BYTES, MAX_MEMBERS)
        return Bounds(*(d if own is None else own for own, d in zip(self, defaults, strict=True)))


_DEFAULT = Bounds()
_DRIVE = re.compile(r"[A-Za-z]:")


class Archive(abc.ABC):
    """A read-only tree of files, named by POSIX paths relative to its top.

    Attributes:
        path: the folder or file.
    """

    def __init__(self, path: pathlib.Path):
        self.path = path

    @abc.abstractmethod
    def names(self) -> list[str]:
        """Returns the names of the regular files, in the order in which reading is fastest.

        Raises:
            UserError: there is something that no archive of data has; see the module.
        """

    @abc.abstractmethod
    def read(self, name: str) -> bytes:
        """Returns the content of a file.

        Raises:
            UserError: it is larger than `MAX_MEMBER_BYTES`.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Releases the archive."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def read_file(path: pathlib.Path, limit: int = MAX_MEMBER_BYTES) -> bytes:
    """Returns the content of a regular file, or of one behind symbolic links.

    Raises:
        UserError: it is something else, such as a pipe, which would block, or too large.
        OSError: it cannot be read.
    """
    refuse_special(path)
    if path.stat().st_size > limit:
        raise UserError(_too_large(str(path), path.stat().st_size, limit))
    return path.read_bytes()


def refuse_special(path: pathlib.Path) -> None:
    """Raises a UserError unless `path` is a regular file, or a link to one."""
    if path.is_file():
        return
    if not path.exists():
        kind = "a link to nothing" if path.is_symlink() else "nothing"
    else:
        kind = "a folder" if path.is_dir() else "a device or a pipe"
    raise UserError(f"{path}: got {kind}, expected a file; put the file there or remove it")


class Folder(Archive):
    """The files of a folder that match any of `patterns` (as in `pathlib.Path.glob`).

    Symbolic links are followed: people keep data on other disks.
    """

    def __init__(self, path: pathlib.Path, patterns: Sequence[str] = ("**/*",)):
        super().__init__(path)
        self._patterns = tuple(patterns)

    def names(self) -> list[str]:
        found = set()
        for pattern in self._patterns:
            for file in self.path.glob(pattern):
                if not file.is_dir():
                    name = file.relative_to(self.path).as_posix()
                    _check_name(name, self.path)
                    refuse_special(file)
                    found.add(name)
        return sorted(found)

    def read(self, name: str) -> bytes:
        return read_file(self.path / name)

    def close(self) -> None:
        """Does nothing: no file stays open."""

    def size(self) -> int:
        """Returns the bytes of all files together."""
        return sum((self.path / name).stat().st_size for name in self.names())


class Zip(Archive):
    """A .zip file.

    Args:
        path: the file.
        bounds: how large it may be.
    """

    def __init__(self, path: pathlib.Path, bounds: Bounds = _DEFAULT):
        super().__init__(path)
        refuse_special(path)
        self._file = zipfile.ZipFile(path)
        try:
            self._entries = self._checked(bounds.filled())
        except UserError:
            self.close()
            raise

    def _checked(self, bounds: Bounds) -> dict[str, zipfile.ZipInfo]:
        census = _Census(self.path, bounds)
        entries = {}
        for entry in self._file.infolist():
            # The type is in the upper half where a Unix wrote the archive; elsewhere it is 0.
            kind = stat.S_IFMT(entry.external_attr >> 16)
            expected = stat.S_IFDIR if entry.is_dir() else stat.S_IFREG
            census.add(entry.orig_filename, entry.file_size, kind in (0, expected), entry.is_dir())
            if entry.flag_bits & 1:
                raise UserError(
                    f"{self.path}: {entry.filename}: encrypted, expected files without a password; "
                    "make the archive again without one"
                )
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # Python inflates what bzip2 and LZMA packed without a bound.
                raise UserError(
                    f"{self.path}: {entry.filename}: packed by method {entry.compress_type}, "
                    "expected deflate; make the archive again"
                )
            if not entry.is_dir():
                entries[entry.filename] = entry
        return entries

    def names(self) -> list[str]:
        return list(self._entries)

    def read(self, name: str) -> bytes:
        size = self._entries[name].file_size
        with self._file.open(self._entries[name]) as stream:
            # Never read(): that inflates everything before it cuts off what was not announced.
            data = stream.read(size)
            # One byte more compares the checksum.
            if len(data) != size or stream.read(1):
                raise EOFError("its length is not the announced one")
        return data

    def close(self) -> None:
        self._file.close()


class Tar(Archive):
    """A .tar file, gzipped or not: reading it in another order than `names` is slow."""

    def __init__(self, path: pathlib.Path, bounds: Bounds = _DEFAULT):
        super().__init__(path)
        refuse_special(path)
        self._bounds = bounds.filled()
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(path.open("rb"))
            is_gzip = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            packed = stack.enter_context(gzip.GzipFile(fileobj=file)) if is_gzip else file
            self._stream = _BoundedStream(packed, path, self._bounds)
            self._file = stack.enter_context(tarfile.TarFile(fileobj=self._stream))
            self._open = stack.pop_all()
        self._members: dict[str, tarfile.TarInfo] | None = None

    def _index(self) -> dict[str, tarfile.TarInfo]:
        if self._members is None:
            self._members = {entry.name: entry for entry in self._checked()}
        return self._members

    def _checked(self) -> Iterator[tarfile.TarInfo]:
        """Goes through the files; at the end the archive is known to be whole."""
        census = _Census(self.path, self._bounds)
        for entry in self._file:
            plain = (entry.isreg() and not entry.issparse()) or entry.isdir()
            census.add(entry.name, entry.size, plain, entry.isdir())
            if entry.isreg():
                yield entry
        self._check_end()

    def stream(self) -> Iterator[tuple[str, bytes]]:
        """Yields the name and the content of every file, in one pass and without a list of them.

        For an archive of a million files, of which `names` and `read` make two passes. It is of no
        use for anything else afterwards.

        Raises:
            UserError: see the module.
        """
        for entry in self._checked():
            yield entry.name, self._content(entry)
            # tarfile remembers every member otherwise, a kilobyte each.
            self._file.members.clear()

    def _check_end(self) -> None:
        """Raises tarfile.ReadError unless zeros end the archive.

        `tarfile` takes a damaged header, and the end of the file, for the end of the archive.
        Reading on also compares the checksum of a gzip stream.
        """
        self._stream.seek(self._file.offset)
        if self._stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError(f"no member and no end at byte {self._file.offset}")
        while rest := self._stream.read(tarfile.RECORDSIZE):
            if rest.count(0) != len(rest):
                raise tarfile.ReadError("it goes on after its end")

    def names(self) -> list[str]:
        return list(self._index())

    def read(self, name: str) -> bytes:
        return self._content(self._index()[name])

    def _content(self, entry: tarfile.TarInfo) -> bytes:
        with self._file.extractfile(entry) as stream:
            data = stream.read()
        if len(data) != entry.size:
            raise EOFError("it ends too early")
        return data

    def close(self) -> None:
        self._open.close()


class _Census:
    """Counts the members of an archive and refuses those that no archive of data has."""

    def __init__(self, path: pathlib.Path, bounds: Bounds):
        self._path = path
        self._bounds = bounds
        self._max_bytes = _max_bytes(path, bounds)
        self._bytes = 0
        self._seen: set[str] = set()

    def add(self, name: str, size: int, is_plain: bool, is_folder: bool) -> None:
        """Counts a member.

        Args:
            name: its name.
            size: its bytes, as its header announces them.
            is_plain: whether it is a file or a folder, and no link or device.
            is_folder: whether it is a folder, which may be there twice.

        Raises:
            UserError: see the module.
        """
        _check_name(name, self._path)
        origin = f"{self._path}: {name}"
        if not is_plain:
            raise UserError(
                f"{origin}: a link, a device or a sparse file, expected files and folders; "
                "make the archive again without it"
            )
        if not 0 <= size <= self._bounds.member:
            raise UserError(_too_large(origin, size, self._bounds.member))
        self._bytes += size
        if self._bytes > self._max_bytes:
            raise UserError(_too_large(str(self._path), self._bytes, self._max_bytes))
        path = posixpath.normpath(name)
        if path in self._seen and not is_folder:
            raise UserError(
                f"{origin}: there twice, expected every name once; make the archive again"
            )
        self._seen.add(path)
        if len(self._seen) > self._bounds.members:
            raise UserError(
                f"{self._path}: got more than {self._bounds.members:,} members, expected at most "
                "as many; get the file again"
            )


class _BoundedStream:
    """What `tarfile` reads from: refuses to go where no archive within the bounds does."""

    def __init__(self, stream: BinaryIO, path: pathlib.Path, bounds: Bounds):
        self._stream = stream
        self._path = path
        self._max_member = bounds.member
        # A header, the fill of the last block and, rarely, a long name come with every member.
        self._limit = _max_bytes(path, bounds) + FREE_BYTES

    def read(self, size: int) -> bytes:
        if not 0 <= size <= self._max_member:
            raise UserError(_too_large(f"{self._path}: a header", size, self._max_member))
        self._check(self._stream.tell() + size)
        return self._stream.read(size)

    def seek(self, offset: int) -> int:
        self._check(offset)
        return self._stream.seek(offset)

    def tell(self) -> int:
        return self._stream.tell()

    def _check(self, offset: int) -> None:
        # Short reads at the end are the end's business, so a whole last chunk is granted.
        if not 0 <= offset <= self._limit + tarfile.RECORDSIZE:
            raise UserError(_too_large(str(self._path), offset, self._limit))


def _max_bytes(path: pathlib.Path, bounds: Bounds) -> int:
    """Returns what an archive may expand to."""
    return min(bounds.archive, FREE_BYTES + MAX_RATIO * path.stat().st_size)


def _too_large(origin: str, size: int, limit: int) -> str:
    return f"{origin}: got {size:,} bytes unpacked, expected 0 to {limit:,}; get the file again"


def _check_name(name: str, path: pathlib.Path) -> None:
    """Raises a UserError unless `name` is a printable path that stays inside the archive."""
    parts = re.split(r"[/\\]", name)
    if not name.isprintable():
        fault = "unprintable"
    elif not parts[0] or _DRIVE.match(name):
        fault = "absolute"
    elif ".." in parts:
        fault = "outside the archive"
    else:
        return
    raise UserError(
        f"{path}: {name!r}: name is {fault}, expected a path below the archive's top; "
        "rename or remove it"
    )


def open_archive(path: pathlib.Path, patterns: Sequence[str] = ("**/*",)) -> Archive:
    """Returns the archive behind a folder, a .zip or a .tar file.

    Raises:
        UserError: it has members that are refused; see the module.
        OSError, EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError: it cannot be read.
    """
    if path.is_dir():
        return Folder(path, patterns)
    return Zip(path) if path.suffix == ".zip" else Tar(path)
