"""The .binvox format of Patrick Min: a text header, then run lengths of cells.

Cells are stored with y fastest, then z, then x; grids here are indexed [x, y, z].
"""

import math
from typing import NamedTuple

import numpy as np

from ige.errors import UserError

MAX_RESOLUTION = 1024
"""Bound along an axis: what binvox itself can write on a GPU. A grid of it takes 1 GiB."""

_MAX_HEADER = 2**16
_COUNTS = {"dim": 3, "translate": 3, "scale": 1}
_LONGEST = 255
_LARGEST = 1e30  # of a number that float32 has too


class Binvox(NamedTuple):
    """A voxel grid and where it is in the frame of its model.

    The centre of cell i is at (i + .5) / dim * scale + translate, along each axis, as binvox
    itself means it (trimesh means i * scale / (dim - 1) + translate).

    Attributes:
        occupancy: (x, y, z) bool.
        translate: (3,) float64, the corner of the grid.
        scale: length of the grid along an axis.
    """

    occupancy: np.ndarray
    translate: np.ndarray
    scale: float


def read_binvox(data: bytes, origin: str) -> Binvox:
    """Returns the grid in the bytes of a .binvox file.

    Comments, indentation, blank lines and any order of the header's lines are accepted; translate
    and scale may be missing (0 and 1).

    Args:
        data: all of the file.
        origin: names the file, for messages.

    Raises:
        UserError: the file is damaged, or larger than `MAX_RESOLUTION`.
    """
    header, start = _read_header(data, origin)
    dim = header.get("dim")
    if dim is None:
        raise UserError(f"{origin}: dim: missing, expected a line 'dim 32 32 32'; get it again")
    shape = tuple(int(size) for size in dim)
    if shape != tuple(dim) or not all(1 <= size <= MAX_RESOLUTION for size in shape):
        raise UserError(
            f"{origin}: dim: got {' '.join(f'{size:g}' for size in dim)}, expected three integers "
            f"from 1 to {MAX_RESOLUTION}; get the file again"
        )
    scale = float(header.get("scale", (1.0,))[0])
    if scale <= 0:
        raise UserError(f"{origin}: scale: got {scale:g}, expected more than 0; get the file again")
    runs = np.frombuffer(data, np.uint8, offset=start)
    values, counts = runs[::2], runs[1::2]
    cells = math.prod(shape)
    # Added up before anything is made of it: a short file may announce any number of cells.
    if len(runs) % 2 or int(counts.sum(dtype=np.int64)) != cells:
        raise UserError(
            f"{origin}: got {int(counts.sum(dtype=np.int64)):,} cells in {len(runs):,} bytes, "
            f"expected {cells:,}; get the file again"
        )
    if (values > 1).any():
        raise UserError(
            f"{origin}: got a cell of value {values.max()}, expected 0 or 1; get the file again"
        )
    occupancy = np.repeat(values.astype(bool), counts)
    x, y, z = shape
    return Binvox(
        np.ascontiguousarray(occupancy.reshape(x, z, y).transpose(0, 2, 1)),
        np.array(header.get("translate", (0.0, 0.0, 0.0))),
        scale,
    )


def write_binvox(grid: Binvox) -> bytes:
    """Returns the bytes of a .binvox file."""
    cells = np.asarray(grid.occupancy, bool).transpose(0, 2, 1).ravel()
    starts = np.flatnonzero(np.concatenate([[True], cells[1:] != cells[:-1]]))
    lengths = np.diff(np.append(starts, len(cells)))
    # A run of more than 255 cells is several: all but the last of them are full.
    parts = -(-lengths // _LONGEST)
    counts = np.full(parts.sum(), _LONGEST, np.uint8)
    counts[np.cumsum(parts) - 1] = lengths - _LONGEST * (parts - 1)
    runs = np.stack([np.repeat(cells[starts], parts).astype(np.uint8), counts], axis=-1)
    header = (
        "#binvox 1\n"
        f"dim {' '.join(map(str, grid.occupancy.shape))}\n"
        f"translate {' '.join(repr(float(value)) for value in grid.translate)}\n"
        f"scale {float(grid.scale)!r}\n"
        "data\n"
    )
    return header.encode("ascii") + runs.tobytes()


def _read_header(data: bytes, origin: str) -> tuple[dict[str, tuple[float, ...]], int]:
    """Returns the numbers of the header by name, and where the runs begin."""
    if not data.lstrip().startswith(b"#binvox"):
        raise UserError(f"{origin}: got no '#binvox' at the start; expected a .binvox file")
    header: dict[str, tuple[float, ...]] = {}
    start = 0
    while True:
        end = data.find(b"\n", start, _MAX_HEADER)
        if end < 0:
            raise UserError(f"{origin}: the header has no line 'data'; get the file again")
        words = data[start:end].decode("ascii", "replace").split()
        start = end + 1
        if words == ["data"]:
            return header, start
        # Comments begin with #; binvox 1.x and others add lines that say nothing of the grid.
        if words and words[0] in _COUNTS:
            header[words[0]] = _numbers(words, origin)


def _numbers(words: list[str], origin: str) -> tuple[float, ...]:
    """Returns the finite numbers after the name of a header's line."""
    name, count = words[0], _COUNTS[words[0]]
    try:
        numbers = tuple(float(word) for word in words[1:])
    except ValueError:
        numbers = ()
    if len(numbers) != count or not all(abs(number) <= _LARGEST for number in numbers):
        raise UserError(
            f"{origin}: {name}: got {' '.join(words[1:])!r:.60}, expected {count} finite "
            f"number{'s' if count > 1 else ''}; get the file again"
        )
    return numbers
