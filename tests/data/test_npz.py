import collections
import io
import os
import pathlib
import pickle
import re
import zipfile

import numpy as np
import pytest

from ige.data import npz
from ige.data.unpickling import restricted_load
from ige.errors import UserError


def _npy_of_pickle(pickled):
    """A .npy member of an object array () whose pickle is `pickled`."""
    stream = io.BytesIO()
    header = {"descr": "|O", "fortran_order": False, "shape": ()}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + pickled


def _write(path, **members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_objects_of_every_protocol_come_back(tmp_path, protocol):
    content = {
        "S1": {"Walking": [np.arange(6, dtype=np.float32).reshape(3, 2), np.float64(2.5)]},
        "ordered": collections.OrderedDict(a=(1, 2.0, None, True)),
        "raw": b"\x00\xff",
        "set": {1, 2},
    }
    array = np.empty((), object)
    array[()] = content
    path = tmp_path / "a.npz"
    _write(path, positions=_npy_of_pickle(pickle.dumps(array, protocol)))
    got = npz.load_npz(path)["positions"]
    np.testing.assert_array_equal(got["S1"]["Walking"][0], [[0, 1], [2, 3], [4, 5]])
    assert got["S1"]["Walking"][0].dtype == np.float32
    assert got["S1"]["Walking"][1] == 2.5
    assert got["ordered"] == {"a": (1, 2.0, None, True)}
    assert got["raw"] == b"\x00\xff"
    assert got["set"] == {1, 2}


@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
def test_names_of_old_and_new_numpy_are_admitted(core):
    pickled = pickle.dumps(np.arange(3), 2)
    other = pickled.replace(b"cnumpy._core.", b"cnumpy.core.")
    assert other != pickled
    chosen = pickled if core == "numpy._core" else other
    np.testing.assert_array_equal(restricted_load(chosen), [0, 1, 2])


def test_plain_arrays_need_no_pickle(tmp_path):
    path = tmp_path / "a.npz"
    plain = np.arange(6.0).reshape(2, 3)
    np.savez_compressed(path, plain=plain, fortran=np.asfortranarray(plain), scalar=np.int8(7))
    got = npz.load_npz(path)
    np.testing.assert_array_equal(got["plain"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(got["fortran"], [[0, 1, 2], [3, 4, 5]])
    assert got["scalar"] == 7


class _Runs:
    """Pickles into a call."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("function", "argument"),
    [
        (os.system, "touch {}"),
        (eval, "open('{}', 'w')"),
        (pathlib.Path, "{}"),
        (np.load, "{}"),
    ],
)
def test_what_a_pickle_asks_for_is_refused_by_name(tmp_path, function, argument):
    name = f"{function.__module__}.{function.__name__}"
    touched = tmp_path / "touched"
    path = tmp_path / "a.npz"
    pickled = pickle.dumps(_Runs(function, argument.format(touched)))
    _write(path, positions_3d=_npy_of_pickle(pickled))
    message = (
        f"{path}: positions_3d.npy: refused to unpickle: it asks for {name}; "
        "expected NumPy arrays and plain containers"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        npz.load_npz(path)
    assert not touched.exists()


def test_codecs_serve_for_bytes_only():
    pickled = b"\x80\x02c_codecs\nencode\n" + pickle.dumps(("61", "hex"), 2)[2:-1] + b"R."
    with pytest.raises(pickle.UnpicklingError, match=r"_codecs\.encode with .hex. is not admitted"):
        restricted_load(pickled)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "File is not a zip file"),
        (b"PK\x03\x04 cut off", "File is not a zip file"),
    ],
)
def test_no_archive(tmp_path, data, reason):
    path = tmp_path / "a.npz"
    path.write_bytes(data)
    message = f"{path}: cannot be read: {reason}; get the file again"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        npz.load_npz(path)


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9])
def test_damaged_members_are_one_error(tmp_path, keep):
    array = np.array({"S1": np.zeros(50)}, object)
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, allow_pickle=True)
    path = tmp_path / "a.npz"
    _write(path, positions_2d=stream.getvalue()[: int(keep * len(stream.getvalue()))])
    with pytest.raises(UserError, match=f"^{re.escape(str(path))}: positions_2d.npy: "):
        npz.load_npz(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=re.escape(str(tmp_path / "none.npz"))):
        npz.load_npz(tmp_path / "none.npz")


def _npy(array):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, allow_pickle=True)
    return stream.getvalue()


def _header(**header):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue()


PLAIN = {"descr": "<f8", "fortran_order": False, "shape": (2,)}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (_header(**PLAIN) + bytes(15), "15 bytes where shape (2,) of float64 is announced"),
        (_header(**PLAIN) + bytes(17), "17 bytes where shape (2,) of float64 is announced"),
        (
            _header(**PLAIN | {"shape": (2**31, 2**31)}) + bytes(16),
            "refused to unpickle: it has an array of shape (2147483648, 2147483648); expected "
            "NumPy arrays and plain containers",
        ),
        (
            _header(**PLAIN | {"shape": (-1,)}) + bytes(16),
            "refused to unpickle: it has an array without a shape; expected NumPy arrays and plain "
            "containers",
        ),
        (
            _header(**PLAIN | {"descr": "|O"}) + pickle.dumps(np.array([1, 2, None])),
            "a pickled _Array where an array of shape (2,) is announced",
        ),
        (
            _header(**PLAIN | {"descr": "|O"}) + pickle.dumps([1, 2]),
            "a pickled list where an array of shape (2,) is announced",
        ),
        (b"\x93NUMPY\x09\x00" + bytes(100), "version (9, 0) of the .npy format"),
    ],
)
def test_headers_that_announce_something_else(tmp_path, data, reason):
    path = tmp_path / "a.npz"
    _write(path, member=data)
    if not reason.startswith("refused"):
        reason = f"cannot be read: {reason}; get the file again"
    with pytest.raises(UserError, match=f"^{re.escape(f'{path}: member.npy: {reason}')}$"):
        npz.load_npz(path)


def test_arrays_of_objects_come_as_arrays(tmp_path):
    path = tmp_path / "a.npz"
    _write(path, member=_npy(np.array([1, None])))
    assert npz.load_npz(path)["member"].tolist() == [1, None]


def test_a_member_is_read_to_its_checksum(tmp_path):
    path = tmp_path / "a.npz"
    _write(path, member=_npy(np.array({"S1": np.arange(50.0)}, object)))
    data = bytearray(path.read_bytes())
    data[data.index(np.float64(7.0).tobytes()) + 2] ^= 1
    path.write_bytes(data)
    message = f"{path}: member.npy: cannot be read: Bad CRC-32 for file 'member.npy'; get the file"
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        npz.load_npz(path)


def test_a_small_archive_that_expands_too_much_is_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, zeros=np.zeros(20_000_000))
    most = 2**26 + 100 * path.stat().st_size
    assert most < 160_000_000
    message = f"{path}: got 160,000,128 bytes unpacked, expected 0 to {most:,}; get the file again"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        npz.load_npz(path)


@pytest.mark.parametrize("name", ["../a", "/a"])
def test_members_that_lead_elsewhere_are_refused(tmp_path, name):
    path = tmp_path / "a.npz"
    _write(path, **{name: _npy(np.ones(2))})
    with pytest.raises(UserError, match=f"^{re.escape(str(path))}: '{name}.npy': name is "):
        npz.load_npz(path)
