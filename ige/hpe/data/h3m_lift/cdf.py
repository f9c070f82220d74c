"""Reads a variable of a CDF file, the Common Data Format of Human3.6M's own archives.

After NASA's "CDF Internal Format Description", version 3. cdflib reads all of CDF, but believes
every count and offset in a file: a few damaged bytes keep it busy for hours or fill the memory.
Here every record lies within the file, is visited once, and unpacks to the size it has to have.
"""

import math
import zlib

import numpy as np

from ige.hpe.data.h3m_lift.checks import MAX_ARRAY_BYTES

_PLAIN = bytes.fromhex("cdf300010000ffff")
_PACKED = bytes.fromhex("cdf30001cccc0001")
_CDR, _GDR, _VARIABLE, _INDEX, _VALUES, _ZVARIABLE = 1, 2, 3, 6, 7, 8  # types of records
_WHOLE_PACKED, _PACKING, _PACKED_VALUES = 10, 11, 13
_GZIP = 5
_BIG_ENDIAN, _LITTLE_ENDIAN = {1, 2, 5, 7, 9, 11, 12, 18}, {4, 6, 13, 16, 17, 19}
_FLOATS = {21: "f4", 44: "f4", 22: "f8", 45: "f8"}
_MAX_DIMENSIONS = 10  # the limit of CDF itself
_MAX_ENTRIES = 1000  # of an index: a recording is one record, in one block


def read_variable(data: bytes, name: str) -> np.ndarray:
    """Returns a variable of floating-point numbers: (records, ...) in the order of rows.

    Args:
        data: content of the file.
        name: of the variable, in letters of either case.

    Raises:
        EOFError, ValueError, zlib.error: the file is damaged, another version of CDF, or has no
            such variable.
    """
    file = _File(_unpacked(data))
    file.expect(8, _CDR)
    gdr = file.integer(20, 8)
    encoding, flags = file.integer(36), file.integer(40)
    if encoding not in _BIG_ENDIAN | _LITTLE_ENDIAN:
        raise ValueError(f"numbers in encoding {encoding}")
    variable = file.variable(gdr, name)
    values = file.values(variable, ">" if encoding in _BIG_ENDIAN else "<")
    if flags & 1:
        return values
    # The first dimension runs fastest.
    turned = values.reshape(len(values), *values.shape[:0:-1])
    return turned.transpose(0, *range(values.ndim - 1, 0, -1))


def _unpacked(data: bytes) -> bytes:
    """Returns the content of a file that may be packed as a whole."""
    if data.startswith(_PLAIN):
        return data
    if not data.startswith(_PACKED):
        raise ValueError(f"it begins with {data[:8].hex()}, not as CDF 3 files do")
    file = _File(data)
    file.expect(8, _WHOLE_PACKED)
    packing = file.integer(20, 8)
    file.expect(packing, _PACKING)
    if (method := file.integer(packing + 12)) != _GZIP:
        raise ValueError(f"packed by method {method} and not by gzip")
    return _PLAIN + _inflated(file.slice(40, file.integer(8, 8) - 32), file.integer(28, 8))


def _inflated(packed: bytes, size: int) -> bytes:
    """Returns the bytes in a gzip stream, which must be `size` of them."""
    if not 0 < size <= 2 * MAX_ARRAY_BYTES:
        raise ValueError(f"it says that it unpacks to {size:,} bytes")
    stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
    data = stream.decompress(packed, size + 1)
    if len(data) != size or not stream.eof:
        raise ValueError(f"it does not unpack to the {size:,} bytes that it announces")
    return data


class _File:
    """The records of a file: big-endian integers at offsets."""

    def __init__(self, data: bytes):
        self._data = data

    def slice(self, offset: int, size: int) -> bytes:
        """Returns `size` bytes.

        Raises:
            EOFError: they are not in the file.
        """
        if offset < 0 or size < 0 or offset + size > len(self._data):
            raise EOFError(f"{size} bytes at byte {offset} of {len(self._data)}")
        return self._data[offset : offset + size]

    def integer(self, offset: int, size: int = 4) -> int:
        """Returns the integer of `size` bytes."""
        return int.from_bytes(self.slice(offset, size), "big", signed=True)

    def expect(self, offset: int, *kinds: int) -> int:
        """Returns the type of the record at `offset`, which must be one of `kinds`."""
        kind = self.integer(offset + 8)
        if kind not in kinds:
            raise ValueError(f"a record of type {kind} at byte {offset}, expected {kinds}")
        return kind

    def variable(self, gdr: int, name: str) -> "_Variable":
        """Returns the variable `name` of the file whose global record is at `gdr`."""
        self.expect(gdr, _GDR)
        for head, kind in ((gdr + 12, _VARIABLE), (gdr + 20, _ZVARIABLE)):
            place, visited = self.integer(head, 8), set()
            while place and place not in visited:
                visited.add(place)
                self.expect(place, kind)
                found = self.slice(place + 84, 256).split(b"\0")[0].decode("latin-1")
                if found.strip().lower() == name.lower():
                    return _Variable(self, place, self._sizes(gdr, place, kind))
                place = self.integer(place + 12, 8)
        raise ValueError(f"it has no variable {name!r}")

    def _sizes(self, gdr: int, place: int, kind: int) -> tuple[int, ...]:
        """Returns the shape of a record of a variable, less the dimensions that do not vary."""
        # The sizes of r-variables are those of the file, z-variables have their own.
        at = gdr + 56 if kind == _VARIABLE else place + 340
        count = self.integer(at)
        if not 0 <= count <= _MAX_DIMENSIONS:
            raise ValueError(f"a variable of {count} dimensions")
        sizes_at, varies_at = (gdr + 84, place + 340) if kind == _VARIABLE else (at + 4,) * 2
        varies_at += 0 if kind == _VARIABLE else 4 * count
        sizes = [self.integer(sizes_at + 4 * i) for i in range(count)]
        if any(size < 0 for size in sizes):
            raise ValueError(f"a variable of shape {sizes}")
        varies = [self.integer(varies_at + 4 * i) for i in range(count)]
        return tuple(size for size, vary in zip(sizes, varies, strict=True) if vary)

    def values(self, variable: "_Variable", order: str) -> np.ndarray:
        """Returns (records, ...) values as they are stored, in the byte order '<' or '>'."""
        shape = (variable.records, *variable.sizes)
        dtype = np.dtype(order + variable.dtype)
        size = math.prod(shape) * dtype.itemsize
        if size > MAX_ARRAY_BYTES:
            raise ValueError(f"a variable of shape {shape}, {size:,} bytes")
        if not size:
            return np.zeros(shape, dtype)
        data = b"".join(self._blocks(variable.index, size // variable.records, size))
        return np.frombuffer(data[:size], dtype).reshape(shape)

    def _blocks(self, index: int, record_bytes: int, size: int) -> list[bytes]:
        """Returns blocks of records, from the first on, of at least `size` bytes together."""
        blocks, first, left = [], 0, size
        for start, end, place in self._entries(index):
            if left <= 0:
                break
            if start != first or end < start or (end - start + 1) * record_bytes > MAX_ARRAY_BYTES:
                raise ValueError(f"records {start} to {end} where record {first} is due")
            need = (end - start + 1) * record_bytes
            if self.expect(place, _VALUES, _PACKED_VALUES) == _VALUES:
                # Room for more records than there are may follow the last one.
                blocks.append(self.slice(place + 12, min(need, left)))
            else:
                packed = self.slice(place + 24, self.integer(place + 16, 8))
                blocks.append(_inflated(packed, need))
            first, left = end + 1, left - need
        if left > 0:
            raise EOFError(f"it has no record {first}")
        return blocks

    def _entries(self, index: int) -> list[tuple[int, int, int]]:
        """Returns (first record, last record, offset) of every block below an index record."""
        entries, visited, places = [], set(), [index]
        while places:
            place = places.pop()
            if place in visited:
                raise ValueError(f"an index at byte {place} that leads to itself")
            visited.add(place)
            self.expect(place, _INDEX)
            room, used = self.integer(place + 20), self.integer(place + 24)
            self.slice(place + 28, 16 * room)
            if used > _MAX_ENTRIES or len(visited) > _MAX_ENTRIES:
                raise ValueError(f"an index of more than {_MAX_ENTRIES} entries")
            below = []
            for i in range(min(room, used)):
                start, end = (self.integer(place + 28 + 4 * (i + n * room)) for n in (0, 1))
                offset = self.integer(place + 28 + 8 * (room + i), 8)
                if self.integer(offset + 8) == _INDEX:
                    below.append(offset)
                else:
                    entries.append((start, end, offset))
            if following := self.integer(place + 12, 8):
                places.append(following)
            places += below[::-1]
        return sorted(entries)


class _Variable:
    """What a variable's record says.

    Attributes:
        records: number of records.
        sizes: shape of one.
        dtype: NumPy's name of the type, without a byte order.
        index: offset of the first index record.
    """

    def __init__(self, file: _File, place: int, sizes: tuple[int, ...]):
        self.sizes = sizes
        kind, last = file.integer(place + 20), file.integer(place + 24)
        self.index = file.integer(place + 28, 8)
        if kind not in _FLOATS or file.integer(place + 64) != 1:
            raise ValueError(f"values of type {kind}, expected floating-point numbers")
        if file.integer(place + 48):
            raise ValueError("sparse records")
        self.dtype = _FLOATS[kind]
        self.records = max(last, -1) + 1
