"""Folders, .zip and .tar(.gz) files behind one interface; nothing is ever extracted to disk."""

import abc
import pathlib
import tarfile
import zipfile
from collections.abc import Sequence
from typing import Self


class Archive(abc.ABC):
    """A read-only tree of files, named by POSIX paths relative to its top.

    Attributes:
        path: the folder or file.
    """

    def __init__(self, path: pathlib.Path):
        self.path = path

    @abc.abstractmethod
    def names(self) -> list[str]:
        """Returns the names of the regular files, in the order in which reading is fastest."""

    @abc.abstractmethod
    def read(self, name: str) -> bytes:
        """Returns the content of a file."""

    @abc.abstractmethod
    def close(self) -> None:
        """Releases the archive."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Folder(Archive):
    """The files of a folder that match any of `patterns` (as in `pathlib.Path.glob`)."""

    def __init__(self, path: pathlib.Path, patterns: Sequence[str] = ("**/*",)):
        super().__init__(path)
        self._patterns = tuple(patterns)

    def names(self) -> list[str]:
        found = {
            file.relative_to(self.path).as_posix()
            for pattern in self._patterns
            for file in self.path.glob(pattern)
            if file.is_file()
        }
        return sorted(found)

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def close(self) -> None:
        """Does nothing: no file stays open."""

    def size(self) -> int:
        """Returns the bytes of all files together."""
        return sum((self.path / name).stat().st_size for name in self.names())


class Zip(Archive):
    """A .zip file."""

    def __init__(self, path: pathlib.Path):
        super().__init__(path)
        self._file = zipfile.ZipFile(path)

    def names(self) -> list[str]:
        return [entry.filename for entry in self._file.infolist() if not entry.is_dir()]

    def read(self, name: str) -> bytes:
        return self._file.read(name)

    def close(self) -> None:
        self._file.close()


class Tar(Archive):
    """A .tar file, compressed or not: reading it in another order than `names` is slow."""

    def __init__(self, path: pathlib.Path):
        super().__init__(path)
        self._file = tarfile.open(path)  # noqa: SIM115 - held until `close`
        self._members: dict[str, tarfile.TarInfo] | None = None

    def _index(self) -> dict[str, tarfile.TarInfo]:
        if self._members is None:
            self._members = {entry.name: entry for entry in self._file if entry.isreg()}
        return self._members

    def names(self) -> list[str]:
        return list(self._index())

    def read(self, name: str) -> bytes:
        with self._file.extractfile(self._index()[name]) as stream:
            return stream.read()

    def close(self) -> None:
        self._file.close()


def open_archive(path: pathlib.Path, patterns: Sequence[str] = ("**/*",)) -> Archive:
    """Returns the archive behind a folder, a .zip or a .tar file.

    Raises:
        OSError, EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError: it cannot be read.
    """
    if path.is_dir():
        return Folder(path, patterns)
    return Zip(path) if path.suffix == ".zip" else Tar(path)
