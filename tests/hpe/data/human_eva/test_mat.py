"""What SciPy writes is read; what nobody should write is refused."""

import io
import re
import struct
import zlib

import numpy as np
import pytest
import scipy.io

from ige.hpe.data.human_eva import mat
from ige.hpe.data.human_eva.mat import read_mat5

LITTLE = b" " * 124 + struct.pack("<H", 0x0100) + b"IM"
CUT = zlib.compress(bytes(100))[:-6]
BIG = b" " * 124 + struct.pack(">H", 0x0100) + b"MI"


def saved(compressed=False, **content):
    stream = io.BytesIO()
    scipy.io.savemat(stream, content, do_compression=compressed)
    return stream.getvalue()


def element(kind, data, order="<"):
    """An element, filled up to 8 bytes."""
    return struct.pack(f"{order}2I", kind, len(data)) + data + bytes(-len(data) % 8)


def matrix(kind, shape, *parts, order="<", name=b"x"):
    """An array of a class, with what is in it."""
    head = (
        element(6, struct.pack(f"{order}2I", kind, 0), order),
        element(5, struct.pack(f"{order}{len(shape)}i", *shape), order),
        element(1, name, order),
    )
    return element(14, b"".join((*head, *parts)), order)


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("dtype", ["f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])
def test_numbers(compressed, dtype):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    (read,) = read_mat5(saved(compressed, x=array, y=array), ["x"]).values()
    np.testing.assert_array_equal(read, array)
    assert read.dtype == array.dtype


def test_text_cells_and_structs():
    cells = np.empty((2, 2), object)
    cells[:] = [["a", "b"], ["c", np.ones((1, 1))]]
    content = {"cells": cells, "struct": {"name": "Grüße", "more": {"x": 2.0}}, "none": ""}
    read = read_mat5(saved(**content), content)
    assert read["cells"] == ["a", "c", "b", 1.0]  # columns follow each other
    (struct_read,) = read["struct"]
    assert struct_read == {"name": "Grüße", "more": [{"x": 2.0}]}
    assert read["none"] == ""


def test_the_other_order_of_bytes():
    """By hand: the numbers 1 and 258, and the text "ab"."""
    numbers = matrix(6, (1, 2), element(9, struct.pack(">2d", 1, 258), ">"), order=">")
    text = matrix(4, (1, 2), element(4, b"\0a\0b", ">"), order=">", name=b"y")
    read = read_mat5(BIG + numbers + text, ["x", "y"])
    np.testing.assert_array_equal(read["x"], [[1, 258]])
    assert read["y"] == "ab"


def deep(levels):
    part = matrix(6, (1, 1), element(9, struct.pack("<d", 1)))
    for _ in range(levels):
        part = matrix(1, (1, 1), part)
    return part


def test_arrays_in_each_other():
    assert read_mat5(LITTLE + deep(2), ["x"]) == {"x": [[1.0]]}
    with pytest.raises(ValueError, match=r"^more than 20 arrays in each other$"):
        read_mat5(LITTLE + deep(25), ["x"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (element(9, bytes(8)), "an element of type 9 where an array belongs"),
        (matrix(5, (1, 1)), "an array of class 5, complex or not"),
        (matrix(6, (1, -1)), "an array of shape [1, -1]"),
        (
            matrix(6, (2, 2), element(9, bytes(8))),
            "cannot reshape array of size 1 into shape (2,2)",
        ),
        (matrix(6, (1, 1), element(14, b"")), "an element of type 14 where numbers belong"),
        (matrix(1, (2**30, 2**30)), f"{2**60} elements in 0 bytes"),
        (
            matrix(2, (2**30, 1), element(5, struct.pack("<i", 4)), element(1, b"")),
            f"{2**30} elements in 0 bytes",
        ),
        (
            matrix(2, (1, 1), element(5, struct.pack("<i", 0)), element(1, b"name")),
            "names of 0 bytes each in 4 bytes",
        ),
        (
            matrix(2, (1, 1), element(5, struct.pack("<i", 3)), element(1, b"name")),
            "names of 3 bytes each in 4 bytes",
        ),
        (matrix(6, (1, 1))[:-1], "it ends too early"),
        (
            struct.pack("<2I", 15, len(CUT)) + CUT,
            "a compressed variable ends too early",
        ),
    ],
)
def test_other_content_is_refused(content, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        read_mat5(LITTLE + content, ["x"])


@pytest.mark.parametrize("data", [b"", LITTLE[:-1], b"\x89HDF\r\n\x1a\n" * 20, bytes(200)])
def test_other_formats_are_refused(data):
    message = "not the format of MATLAB 5 to 7; save it with -v7"
    with pytest.raises(ValueError, match=f"^{message}$"):
        read_mat5(data, ["x"])


def test_a_file_that_unpacks_to_too_much(monkeypatch):
    monkeypatch.setattr(mat, "MAX_BYTES", 10_000)
    data = saved(True, x=np.ones(3000))
    assert len(data) < 2_000
    with pytest.raises(ValueError, match=r"^it unpacks to more than 10,000 bytes$"):
        read_mat5(data, ["x"])
