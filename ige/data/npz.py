"""Reads .npz archives that hold pickled objects, without running what a pickle asks for."""

import io
import pathlib
import pickle
import warnings
from typing import Any

import numpy as np

from ige.data.archives import MAX_ARCHIVE_BYTES, Bounds, Zip
from ige.data.damage import one_line, reading
from ige.data.unpickling import num_elements, restricted_load
from ige.errors import UserError


def _read_array(data: bytes) -> Any:
    """Returns one .npy member: an array, or the object inside a 0-dimensional object array."""
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"version {version} of the .npy format")
    shape, order, dtype = readers[version](stream)
    if dtype.hasobject:
        objects = restricted_load(data, stream.tell())
        if not isinstance(objects, np.ndarray) or objects.shape != shape:
            kind = type(objects).__name__
            raise ValueError(f"a pickled {kind} where an array of shape {shape} is announced")
        return objects.item() if shape == () else objects
    values = memoryview(data)[stream.tell() :]
    if len(values) != num_elements(shape) * dtype.itemsize:
        raise ValueError(f"{len(values)} bytes where shape {shape} of {dtype} is announced")
    return np.frombuffer(values, dtype).reshape(shape, order="F" if order else "C").copy()


def load_npz(path: pathlib.Path) -> dict[str, Any]:
    """Returns the members of an .npz archive by name.

    Object arrays are unpickled with `RestrictedUnpickler`, so that opening a file that somebody
    else made runs none of their code; 0-dimensional ones come as the object they hold.

    Raises:
        UserError: the archive is damaged or expands beyond the bounds in `archives`, or a pickle
            asks for more than arrays and containers.
    """
    members = {}
    with reading(str(path)):
        archive = Zip(path, Bounds(member=MAX_ARCHIVE_BYTES))
    with archive:
        for entry in archive.names():
            origin = f"{path}: {entry}"
            # Headers that Python 2 wrote, or nobody, make parsers warn.
            with reading(origin), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    members[entry.removesuffix(".npy")] = _read_array(archive.read(entry))
                except pickle.UnpicklingError as error:
                    raise UserError(
                        f"{origin}: refused to unpickle: {one_line(error)}; expected NumPy arrays "
                        "and plain containers"
                    ) from error
    return members
