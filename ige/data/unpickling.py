"""Unpickles arrays and plain containers, and nothing that could run somebody else's code."""

import io
import math
import pickle
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ige.data.archives import MAX_ARCHIVE_BYTES

MAX_OPERATIONS = 2_000_000
"""Bound of the operations of one pickle: VideoPose3D's archive of 840 videos has some 25 each."""

_DTYPE = re.compile(r"[<>|=]?(b1|[iuf][1248]|c8|c16|[SU]\d{1,6}|O8?)")


class _Dtype:
    """Stands in for `numpy.dtype` in a pickle: NumPy believes any state that it is given."""

    __slots__ = ("_name", "_order")

    def __init__(self, name: str, align: Any = False, copy: Any = False):
        if not isinstance(name, str) or not _DTYPE.fullmatch(name):
            raise pickle.UnpicklingError(f"it has the dtype {name!r:.40}")
        self._name = name
        self._order = "="

    def __setstate__(self, state: tuple) -> None:
        """Takes (version, byte order, no subarray, no names, no fields, size, alignment, flags)."""
        _, order, *structure = state
        if order not in ("<", ">", "|", "=") or structure[:3] != [None] * 3:
            raise pickle.UnpicklingError("it has a structured dtype")
        self._order = order

    def resolved(self) -> np.dtype:
        """Returns the dtype."""
        dtype = np.dtype(self._name)
        return dtype if self._order in "|=" else dtype.newbyteorder(self._order)


class _Array(np.ndarray):
    """An array that checks the state that it is restored from: it must be no larger than that."""

    def __setstate__(self, state: tuple) -> None:
        shape, dtype, fortran, data = state[-4:]
        dtype = _resolved(dtype)
        if isinstance(data, str):  # Python 2 had one type for both
            data = data.encode("latin-1")
        size = num_elements(shape) * (1 if dtype.hasobject else dtype.itemsize)
        if not isinstance(data, list if dtype.hasobject else bytes) or len(data) != size:
            raise pickle.UnpicklingError(f"it has an array of shape {shape} without its values")
        super().__setstate__((1, shape, dtype, bool(fortran), data))


def _resolved(dtype: Any) -> np.dtype:
    if not isinstance(dtype, _Dtype):
        raise pickle.UnpicklingError(f"it has a {type(dtype).__name__} where a dtype belongs")
    return dtype.resolved()


def num_elements(shape: Any) -> int:
    """Returns the number of elements of an array of this shape.

    Raises:
        pickle.UnpicklingError: not a shape, or none that fits in memory.
    """
    if not isinstance(shape, tuple) or any(type(n) is not int or n < 0 for n in shape):
        raise pickle.UnpicklingError("it has an array without a shape")
    # NumPy multiplies the dimensions that are not 0.
    if len(shape) > 32 or math.prod(max(n, 1) for n in shape) > MAX_ARCHIVE_BYTES:
        raise pickle.UnpicklingError(f"it has an array of shape {shape!r:.60}")
    return math.prod(shape)


class _Admitted:
    """A function that a pickle may call; without attributes that it might set."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable):
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)


def _reconstruct(kind: Any, shape: Any, typecode: Any) -> np.ndarray:
    return np.empty(0, np.int8).view(_Array)


def _scalar(dtype: Any, data: Any) -> Any:
    dtype = _resolved(dtype)
    if dtype.hasobject:
        raise pickle.UnpicklingError("it has an object where a number belongs")
    data = data.encode("latin-1") if isinstance(data, str) else data
    return _frombuffer(data, dtype, (), "C")[()]


def _frombuffer(data: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    dtype = dtype if isinstance(dtype, np.dtype) else _resolved(dtype)
    if not isinstance(data, bytes | bytearray):
        raise pickle.UnpicklingError(f"it has a {type(data).__name__} where bytes belong")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if order == "F" else "C").copy()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Stands in for `_codecs.encode`, with which protocol 2 writes bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"_codecs.encode with {encoding!r:.40} is not admitted")
    return text.encode("latin-1")


def _checked_keys(keys: Iterable[Any]) -> list:
    """Returns keys of a dict or elements of a set as a list.

    Raises:
        pickle.UnpicklingError: one is a tuple: Python crashes on the hash of a deep one.
    """
    keys = list(keys)
    if any(isinstance(key, tuple) for key in keys):
        raise pickle.UnpicklingError("it has tuples as keys")
    return keys


def _ordered_dict(items: Iterable = ()) -> dict:
    items = list(items)
    _checked_keys(key for key, _ in items)
    return dict(items)


_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _Dtype,
    **{
        (f"{core}.{module}", name): _Admitted(function)
        for core in ("numpy.core", "numpy._core")
        for module, name, function in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _frombuffer),
        )
    },
    ("_codecs", "encode"): _Admitted(_encode),
    ("collections", "OrderedDict"): _Admitted(_ordered_dict),
    **{
        (module, name): _Admitted(function)
        for module in ("builtins", "__builtin__")
        for name, function in (
            ("set", lambda items=(): set(_checked_keys(items))),
            ("frozenset", lambda items=(): frozenset(_checked_keys(items))),
            ("bytes", lambda: b""),  # others are written by their opcode or by _codecs
        )
    },
}


_COPIED = bytes | bytearray | str | list | tuple | dict | set | frozenset


class _Counted(dict):
    """Counts how often its values are asked for."""

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self._left = MAX_OPERATIONS

    def __getitem__(self, key: int) -> Any:
        self._left -= 1
        if self._left < 0:
            raise pickle.UnpicklingError(f"it has more than {MAX_OPERATIONS:,} operations")
        return super().__getitem__(key)


class RestrictedUnpickler(pickle._Unpickler):
    """Admits NumPy arrays, dtypes and scalars, and plain containers; refuses all else by name.

    This is Python's unpickler in Python (joblib builds on it too). The one in C cannot be kept
    from setting attributes, and takes memory for what a pickle only announces.
    """

    dispatch = dict(pickle._Unpickler.dispatch)

    def __init__(self, data: bytes, start: int = 0):
        self.stream = io.BytesIO(data)
        self.stream.seek(start)
        # Protocol 2 writes bytes as text, which is one copy more.
        self._budget = 2 * len(data)
        # An operation of one byte may make an object of a hundred.
        self.dispatch = _Counted(self.dispatch)
        super().__init__(self.stream, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        """Returns an admitted global.

        Raises:
            pickle.UnpicklingError: the pickle asks for something else.
        """
        if (module, name) not in _ADMITTED:
            asked = f"{module}.{name}"
            raise pickle.UnpicklingError(f"it asks for {asked if asked.isprintable() else '?'}")
        return _ADMITTED[module, name]

    def _call(self) -> None:
        function, arguments = self.stack[-2:]
        if not isinstance(function, _Admitted) and function is not _Dtype:
            raise pickle.UnpicklingError("it calls what it may not call")
        self._spend(arguments)
        self.load_reduce()

    def _build(self) -> None:
        instance, state = self.stack[-2:]
        if not isinstance(instance, _Dtype | _Array):
            raise pickle.UnpicklingError(f"it sets the state of a {type(instance).__name__}")
        self._spend(state)
        instance.__setstate__(state)
        self.stack.pop()

    def _spend(self, arguments: tuple) -> None:
        """Counts what is copied: a pickle may name the same values again and again."""
        self._budget -= sum(len(a) for a in arguments if isinstance(a, _COPIED))
        if self._budget < 0:
            raise pickle.UnpicklingError("it has more values than it has room for")

    def _set_item(self) -> None:
        _checked_keys(self.stack[-2:-1])
        self.load_setitem()

    def _set_items(self) -> None:
        _checked_keys(self.stack[::2])
        self.load_setitems()

    def _dict(self) -> None:
        _checked_keys(self.stack[::2])
        self.load_dict()

    def _add_items(self) -> None:
        _checked_keys(self.stack)
        self.load_additems()

    def _frozenset(self) -> None:
        _checked_keys(self.stack)
        self.load_frozenset()

    def _bytearray(self) -> None:
        size = int.from_bytes(self.read(8), "little")
        data = self.read(size)
        if len(data) != size:
            raise pickle.UnpicklingError("it ends too early")
        self.append(bytearray(data))

    def _refuse(self) -> None:
        raise pickle.UnpicklingError("it makes instances of classes")

    dispatch[pickle.REDUCE[0]] = _call
    dispatch[pickle.BUILD[0]] = _build
    dispatch[pickle.SETITEM[0]] = _set_item
    dispatch[pickle.SETITEMS[0]] = _set_items
    dispatch[pickle.DICT[0]] = _dict
    dispatch[pickle.ADDITEMS[0]] = _add_items
    dispatch[pickle.FROZENSET[0]] = _frozenset
    dispatch[pickle.BYTEARRAY8[0]] = _bytearray
    for code in (pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX):
        dispatch[code[0]] = _refuse
    for code in (pickle.EXT1, pickle.EXT2, pickle.EXT4):
        dispatch[code[0]] = _refuse


def restricted_load(data: bytes, start: int = 0) -> Any:
    """Returns the object pickled in `data` from `start` on; ASCII strings of Python 2 become `str`.

    Raises:
        pickle.UnpicklingError: damaged, or it asks for anything but arrays and containers.
        ValueError, LookupError, TypeError, and others that unpickling damaged data raises.
    """
    unpickler = RestrictedUnpickler(data, start)
    loaded = unpickler.load()
    if unpickler.stream.read(1):
        raise ValueError("it goes on after its end")
    return loaded
