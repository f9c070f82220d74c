"""Reads .npz archives that hold pickled objects, without running what a pickle asks for."""

import collections
import pathlib
import pickle
import zipfile
import zlib
from typing import IO, Any

import numpy as np

from ige.errors import UserError


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Stands in for `_codecs.encode`, with which protocol 2 writes bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"_codecs.encode with {encoding!r} is not admitted")
    return text.encode("latin-1")


def _numpy_globals() -> dict[tuple[str, str], Any]:
    """Returns what NumPy's arrays, dtypes and scalars are pickled with, under old and new names."""
    _, (reconstruct_type, *_), _ = np.empty(0, object).__reduce__()
    reconstruct = np.empty(0).__reduce__()[0]
    scalar = np.float64(0).__reduce__()[0]
    from_buffer = np.zeros(1).__reduce_ex__(5)[0]
    found = {("numpy", "ndarray"): reconstruct_type, ("numpy", "dtype"): np.dtype}
    for core in ("numpy.core", "numpy._core"):
        found[f"{core}.multiarray", "_reconstruct"] = reconstruct
        found[f"{core}.multiarray", "scalar"] = scalar
        found[f"{core}.numeric", "_frombuffer"] = from_buffer
    return found


_ADMITTED: dict[tuple[str, str], Any] = {
    **_numpy_globals(),
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): collections.OrderedDict,
    **{
        (module, kind.__name__): kind
        for module in ("builtins", "__builtin__")
        for kind in (set, frozenset, bytearray, complex)
    },
}


class RestrictedUnpickler(pickle.Unpickler):
    """Admits NumPy arrays, dtypes and scalars, and plain containers; refuses all else by name."""

    def find_class(self, module: str, name: str) -> Any:
        """Returns an admitted global.

        Raises:
            pickle.UnpicklingError: the pickle asks for something else.
        """
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _ADMITTED[module, name]


def restricted_load(stream: IO[bytes]) -> Any:
    """Returns the object pickled in `stream`; ASCII strings of Python 2 become `str`.

    Raises:
        pickle.UnpicklingError: damaged, or it asks for anything but arrays and containers.
    """
    return RestrictedUnpickler(stream, encoding="latin1").load()


def _read_array(stream: IO[bytes]) -> Any:
    """Returns one .npy member: an array, or the object inside a 0-dimensional object array."""
    version = np.lib.format.read_magic(stream)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"version {version} of the .npy format")
    shape, order, dtype = readers[version](stream)
    if dtype.hasobject:
        objects = restricted_load(stream)
        if not isinstance(objects, np.ndarray):
            raise ValueError(f"a pickled {type(objects).__name__} where an array is announced")
        return objects.item() if shape == () else objects
    values = np.frombuffer(stream.read(), dtype, count=int(np.prod(shape)))
    return values.reshape(shape, order="F" if order else "C").copy()


def load_npz(path: pathlib.Path) -> dict[str, Any]:
    """Returns the members of an .npz archive by name.

    Object arrays are unpickled with `RestrictedUnpickler`, so that opening a file that somebody
    else made runs none of their code; 0-dimensional ones come as the object they hold.

    Raises:
        UserError: the archive is damaged, or a pickle asks for more than arrays and containers.
    """
    members = {}
    origin = str(path)
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.namelist():
                origin = f"{path}: {entry}"
                with archive.open(entry) as stream:
                    members[entry.removesuffix(".npy")] = _read_array(stream)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{origin}: refused to unpickle: {error}; expected NumPy arrays and plain containers"
        ) from error
    except (
        OSError,
        EOFError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RuntimeError,
        zlib.error,
        zipfile.BadZipFile,
    ) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{origin}: cannot be read: {reason}; get the file again") from error
    return members
