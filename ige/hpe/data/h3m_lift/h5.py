"""HDF5 files of 3d-pose-baseline's archive, read from memory."""

import io
import pathlib

import h5py
import numpy as np

from ige.errors import UserError


def read_dataset(data: bytes, key: str, origin: str) -> np.ndarray:
    """Returns the array `key` of an HDF5 file.

    Raises:
        UserError: it has none of this name.
        OSError, RuntimeError: the file is damaged.
    """
    with h5py.File(io.BytesIO(data), "r") as file:
        if not isinstance(file.get(key), h5py.Dataset):
            raise UserError(f"{origin}: {key!r} is missing; get the file again")
        return file[key][()]


def is_resource_fork(name: str) -> bool:
    """Whether an entry of an archive is only macOS's shadow of a file."""
    path = pathlib.PurePosixPath(name)
    return "__MACOSX" in path.parts or path.name.startswith("._")
