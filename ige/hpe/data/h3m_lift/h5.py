"""HDF5 files of 3d-pose-baseline's archive, read from memory."""

import contextlib
import io
import math
import pathlib
import zlib
from collections.abc import Iterator

import h5py
import numpy as np

from ige.errors import UserError
from ige.hpe.data.h3m_lift.checks import MAX_ARRAY_BYTES

_DEFLATE = h5py.h5z.FILTER_DEFLATE
_FLETCHER = h5py.h5z.FILTER_FLETCHER32
_FILTERS = {_DEFLATE, _FLETCHER, h5py.h5z.FILTER_SHUFFLE}
_CHECKSUM_BYTES = 4  # of Fletcher's, behind the values, which may be packed before or after


@contextlib.contextmanager
def opened(data: bytes) -> Iterator[h5py.File]:
    """Opens an HDF5 file in memory for reading.

    Raises:
        OSError and others of `damage.reading`: the file is damaged.
    """
    with h5py.File(io.BytesIO(data), "r") as file:
        yield file


def read_dataset(group: h5py.Group, key: str, origin: str) -> np.ndarray:
    """Returns the array of numbers `key` of a file or group.

    Only what is stored in the file itself is read, at most `MAX_ARRAY_BYTES` of it.

    Args:
        group: where it is.
        key: names joined by slashes.
        origin: names file and group, for messages.

    Raises:
        UserError: there is none of this name, it is elsewhere, too large, or no numbers.
        OSError, RuntimeError, ValueError, zlib.error: the file is damaged.
    """
    item = member(group, key, origin)
    if not isinstance(item, h5py.Dataset):
        raise UserError(f"{origin}: {key!r} is missing; get the file again")
    origin = f"{origin}: {key}"
    if item.dtype.kind not in "fiu":
        raise UserError(f"{origin}: got {item.dtype}, expected numbers; get the file again")
    shape = item.shape or ()
    size = math.prod(shape) * item.dtype.itemsize
    if size > MAX_ARRAY_BYTES:
        raise UserError(
            f"{origin}: got shape {shape}, {size:,} bytes, expected at most {MAX_ARRAY_BYTES:,}; "
            "get the file again"
        )
    if item.is_virtual or item.external:
        raise UserError(
            f"{origin}: values in another file, expected them in this one; get the file again"
        )
    if item.chunks:
        _check_chunks(item, origin)
    return np.asarray(item[()])


def member(group: h5py.Group, key: str, origin: str) -> h5py.Group | h5py.Dataset | None:
    """Returns the group or array `key` of a group, None without one.

    Raises:
        UserError: a link leads there, perhaps to another file.
    """
    found: h5py.Group | h5py.Dataset | None = group
    for name in key.split("/"):
        if not isinstance(found, h5py.Group) or name not in found:
            return None
        if not isinstance(found.get(name, getlink=True), h5py.HardLink):
            raise UserError(f"{origin}: {key!r}: got a link, expected values; get the file again")
        found = found[name]
    return found


def _check_chunks(item: h5py.Dataset, origin: str) -> None:
    """Raises a UserError unless every chunk unpacks to its own size.

    HDF5 unpacks whatever there is, and reads beyond the end of a chunk without its checksum.
    """
    properties = item.id.get_create_plist()
    filters = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    if not _FILTERS.issuperset(filters) or len(set(filters)) != len(filters):
        raise UserError(
            f"{origin}: packed by filters {filters}, expected gzip with or without shuffling and "
            "checksums, each once; write the file again"
        )
    size = math.prod(item.chunks) * item.dtype.itemsize
    whole = size * math.prod(-(-n // c) for n, c in zip(item.shape, item.chunks, strict=True))
    if whole > MAX_ARRAY_BYTES:
        raise UserError(
            f"{origin}: got chunks {item.chunks}, {whole:,} bytes, expected at most "
            f"{MAX_ARRAY_BYTES:,}; get the file again"
        )
    chunks: list = []
    item.id.chunk_iter(chunks.append)
    for chunk in chunks:
        mask, packed = item.id.read_direct_chunk(chunk.chunk_offset)
        used = [kind for i, kind in enumerate(filters) if not mask >> i & 1]
        if _unpacked_size(packed, used, size) != size:
            raise UserError(
                f"{origin}: got a chunk of other than the announced {size:,} bytes; "
                "get the file again"
            )


def _unpacked_size(packed: bytes, filters: list[int], size: int) -> int:
    """Returns the length of a chunk that went through `filters`, or one that is not `size`."""
    for kind in reversed(filters):
        if kind == _FLETCHER:
            packed = packed[:-_CHECKSUM_BYTES]
        elif kind == _DEFLATE:
            packed = zlib.decompressobj().decompress(packed, size + _CHECKSUM_BYTES + 1)
    return len(packed)


def is_resource_fork(name: str) -> bool:
    """Whether an entry of an archive is only macOS's shadow of a file."""
    path = pathlib.PurePosixPath(name)
    return "__MACOSX" in path.parts or path.name.startswith("._")
