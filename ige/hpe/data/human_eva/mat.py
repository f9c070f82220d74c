"""Reads .mat files of MATLAB 5 to 7.

SciPy's reader is made for files that one trusts: altered ones crash Python in it.
"""

import math
import struct
import zlib
from collections.abc import Collection
from typing import Any

import numpy as np

MAX_BYTES = 2**28
"""Bound of what the variables of a file unpack to, 256 MiB: 3,500 frames of 120 markers take 10."""

_HEADER = 128
_DEEPEST = 20  # cells in structs in cells ...
_MATRIX, _COMPRESSED = 14, 15
_TYPES = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
    16: "u1",
    17: "u2",
    18: "u4",
}
"""Type of an element -> of its numbers; the last three are UTF-8, -16 and -32."""

_CELL, _STRUCT, _CHARACTERS, _NUMBERS = 1, 2, 4, range(6, 16)
_COMPLEX = 0x800
_ENCODINGS = {1: "utf-8", 2: "utf-16-le", 4: "utf-32-le"}


class _Elements:
    """Goes through the elements of a file, or of an element.

    Whatever is wrong with one raises ValueError or struct.error.
    """

    def __init__(self, data: memoryview, order: str):
        self._data = data
        self._order = order
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes that have not been read."""
        return len(self._data) - self._at

    def next(self) -> tuple[int, memoryview]:
        """Returns type and content of the next element."""
        (kind,) = struct.unpack_from(f"{self._order}I", self._data, self._at)
        if kind >> 16:  # type and size in four bytes, content in the other four
            kind, size, start = kind & 0xFFFF, kind >> 16, self._at + 4
            end, after = start + size, self._at + 8
        else:
            (size,) = struct.unpack_from(f"{self._order}I", self._data, self._at + 4)
            start = self._at + 8
            end = start + size
            after = end if kind == _COMPRESSED else end + -size % 8
        if end > min(len(self._data), after):
            raise ValueError("it ends too early")
        self._at = min(after, len(self._data))
        return kind, self._data[start:end]

    def numbers(self) -> np.ndarray:
        """Returns the numbers of the next element."""
        kind, content = self.next()
        if kind not in _TYPES:
            raise ValueError(f"an element of type {kind} where numbers belong")
        return np.frombuffer(content, self._order + _TYPES[kind])

    def matrix(self) -> "_Matrix":
        """Returns the next element, an array."""
        kind, content = self.next()
        if kind != _MATRIX:
            raise ValueError(f"an element of type {kind} where an array belongs")
        return _Matrix(content, self._order)


class _Matrix:
    """An array whose name and shape have been read, but not yet what is in it."""

    def __init__(self, content: memoryview, order: str):
        self.name = ""
        self._is_empty = not content
        self._parts = _Elements(content, order)
        if content:
            flags, *_ = self._parts.numbers().tolist()
            self._kind, self._is_complex = flags & 0xFF, flags & _COMPLEX
            self._shape = self._parts.numbers().tolist()
            self.name = self._parts.numbers().tobytes().decode("ascii")
            if any(not isinstance(size, int) or size < 0 for size in self._shape):
                raise ValueError(f"an array of shape {self._shape}")

    def read(self, depth: int = 0) -> Any:
        """Returns the array: numbers as such, text as str, cells and structs as a list.

        Structs are dicts. Lists have one dimension, in which columns follow each other.
        """
        if self._is_empty:
            return np.zeros((0, 0))
        if depth > _DEEPEST:
            raise ValueError(f"more than {_DEEPEST} arrays in each other")
        if self._kind == _CELL:
            return [self._parts.matrix().read(depth + 1) for _ in range(self._count(1))]
        if self._kind == _STRUCT:
            fields = self._fields()
            return [
                {field: self._parts.matrix().read(depth + 1) for field in fields}
                for _ in range(self._count(len(fields)))
            ]
        if self._kind == _CHARACTERS:
            codes = self._parts.numbers()
            codes = codes.astype(codes.dtype.newbyteorder("<"))
            return codes.tobytes().decode(_ENCODINGS[codes.itemsize])
        if self._kind not in _NUMBERS or self._is_complex:
            raise ValueError(f"an array of class {self._kind}, complex or not")
        return self._parts.numbers().reshape(self._shape, order="F")

    def _count(self, arrays: int) -> int:
        """Returns the number of elements; each has that many arrays, which take 8 bytes or more."""
        count = math.prod(self._shape)
        if count * max(arrays, 1) * 8 > self._parts.left:
            raise ValueError(f"{count} elements in {self._parts.left} bytes")
        return count

    def _fields(self) -> list[str]:
        (width,) = self._parts.numbers().tolist()
        names = self._parts.numbers().tobytes()
        if not isinstance(width, int) or width < 1 or len(names) % width:
            raise ValueError(f"names of {width} bytes each in {len(names)} bytes")
        starts = range(0, len(names), width)
        return [names[i : i + width].partition(b"\0")[0].decode("ascii") for i in starts]


def read_mat5(data: bytes, names: Collection[str]) -> dict[str, Any]:
    """Returns the variables of these names that a file has; see `_Matrix.read` for what they are.

    Raises:
        ValueError, struct.error, zlib.error: not such a file, damaged, or too large.
    """
    order = {b"IM": "<", b"MI": ">"}.get(data[126:_HEADER])
    if order is None or struct.unpack(f"{order}H", data[124:126]) != (0x0100,):
        raise ValueError("not the format of MATLAB 5 to 7; save it with -v7")
    found, room = {}, MAX_BYTES
    elements = _Elements(memoryview(data)[_HEADER:], order)
    while elements.left:
        kind, content = elements.next()
        if kind == _COMPRESSED:
            stream = zlib.decompressobj()
            content = stream.decompress(content, room + 1)
            room -= len(content)
            if room < 0:
                raise ValueError(f"it unpacks to more than {MAX_BYTES:,} bytes")
            if not stream.eof:
                raise ValueError("a compressed variable ends too early")
            matrix = _Elements(memoryview(content), order).matrix()
        elif kind == _MATRIX:
            matrix = _Matrix(content, order)
        else:
            raise ValueError(f"an element of type {kind} where an array belongs")
        if matrix.name in names:
            found[matrix.name] = matrix.read()
    return found
