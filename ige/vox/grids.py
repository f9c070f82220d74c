"""Voxel grids: cubes of cells over the object frame, and how they are kept small.

A grid of resolution R covers -.5 to .5 along x, y and z; the centre of cell i is (i + .5) / R - .5.
"""

import math
from collections.abc import Sequence

import numpy as np


def cell_centres(resolution: int) -> np.ndarray:
    """Returns the coordinates (R,) float64 of the centres of the cells along any axis."""
    return (np.arange(resolution) + 0.5) / resolution - 0.5


def cell_of(coordinates: np.ndarray, resolution: int) -> np.ndarray:
    """Returns the int64 index of the cell that each coordinate is in.

    It is outside of 0 to R - 1 for coordinates outside of the grid.
    """
    return np.floor((np.asarray(coordinates) + 0.5) * resolution).astype(np.int64)


def iou(first: np.ndarray, second: np.ndarray) -> float:
    """Returns the intersection over union of two boolean grids; 1 if both are empty."""
    union = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / union if union else 1.0


def packed_size(shape: Sequence[int]) -> int:
    """Returns the bytes that `pack` makes of a grid of that shape."""
    return -(-math.prod(shape) // 8)


def pack(occupancy: np.ndarray) -> np.ndarray:
    """Returns the bits of a boolean array, eight to a byte: (packed_size,) uint8.

    The first cell is the highest bit of the first byte; the last byte is filled up with zeros.
    """
    return np.packbits(np.asarray(occupancy, bool).ravel())


def unpack(packed: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Returns the boolean arrays (..., *shape) that `pack` made `packed` (..., packed_size) of."""
    bits = np.unpackbits(packed, axis=-1, count=math.prod(shape))
    return bits.view(bool).reshape(*packed.shape[:-1], *shape)
