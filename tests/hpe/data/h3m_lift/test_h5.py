import io
import re
import zlib

import h5py
import numpy as np
import pytest

from ige.errors import UserError
from ige.hpe.data.h3m_lift import checks, h5

VALUES = np.arange(96 * 7, dtype=np.float32).reshape(96, 7)


def _file(make):
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        make(file)
    return stream.getvalue()


def _read(data):
    with h5.opened(data) as file:
        return h5.read_dataset(file, "a/b", "x.h5")


def _refused(make, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        _read(_file(make))


@pytest.mark.parametrize(
    "packing",
    [
        {},
        {"chunks": (96, 3)},
        {"compression": "gzip"},
        {"compression": "gzip", "shuffle": True},
        {"compression": "gzip", "shuffle": True, "fletcher32": True, "chunks": (50, 4)},
        {"fletcher32": True},
        {"maxshape": (96, None)},
    ],
)
def test_every_way_to_pack_numbers(packing):
    data = _file(lambda file: file.create_dataset("a/b", data=VALUES, **packing))
    np.testing.assert_array_equal(_read(data), VALUES)


@pytest.mark.parametrize("key", ["a", "a/c", "a/b/c", "c"])
def test_what_is_not_there(key):
    with (
        h5.opened(_file(lambda file: file.create_dataset("a/b", data=VALUES))) as file,
        pytest.raises(UserError, match=rf"^x\.h5: '{key}' is missing; get the file again$"),
    ):
        h5.read_dataset(file, key, "x.h5")


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (np.array([b"ab"]), "|S2"),
        (np.array([1j]), "complex128"),
        (np.array([True]), "bool"),
        (np.array(["text"], h5py.string_dtype()), "object"),
        (np.zeros(2, [("x", "f8")]), "[('x', '<f8')]"),
    ],
)
def test_only_numbers_are_read(value, name):
    _refused(
        lambda file: file.create_dataset("a/b", data=value),
        f"x.h5: a/b: got {name}, expected numbers; get the file again",
    )


@pytest.mark.parametrize("packing", [{}, {"chunks": (96, 64), "compression": "gzip"}])
def test_what_is_announced_but_not_there_takes_no_memory(packing):
    _refused(
        lambda file: file.create_dataset("a/b", (96, 10**9), np.float64, **packing),
        "x.h5: a/b: got shape (96, 1000000000), 768,000,000,000 bytes, expected at most "
        "67,108,864; get the file again",
    )


def test_chunks_are_not_larger_than_the_bound():
    _refused(
        lambda file: file.create_dataset(
            "a/b", (96, 2), np.float64, chunks=(1, 10**6), maxshape=(96, None)
        ),
        "x.h5: a/b: got chunks (1, 1000000), 768,000,000 bytes, expected at most 67,108,864; "
        "get the file again",
    )


def test_the_bound_is_far_beyond_the_longest_recording():
    assert 10 * 6400 * checks.NUM_JOINTS * 3 * 8 < checks.MAX_ARRAY_BYTES


def _chunk(packed, **packing):
    def make(file):
        made = file.create_dataset("a/b", (96, 7), np.float32, chunks=(96, 7), **packing)
        made.id.write_direct_chunk((0, 0), packed)

    return make


OTHER_LENGTH = "x.h5: a/b: got a chunk of other than the announced 2,688 bytes; get the file again"


@pytest.mark.parametrize(
    ("packed", "packing"),
    [
        (zlib.compress(bytes(50_000_000)), {"compression": "gzip"}),
        (zlib.compress(bytes(2689)), {"compression": "gzip"}),
        (zlib.compress(bytes(2687)), {"compression": "gzip"}),
        (zlib.compress(bytes(2688))[:10], {"compression": "gzip"}),
        (b"abc", {"fletcher32": True}),
        (bytes(2688), {"fletcher32": True}),
    ],
)
def test_a_chunk_unpacks_to_its_own_size(packed, packing, monkeypatch):
    unpacked = []
    decompressobj = zlib.decompressobj

    class Watched:
        def decompress(self, *arguments):
            unpacked.append(decompressobj().decompress(*arguments))
            return unpacked[-1]

    monkeypatch.setattr(h5.zlib, "decompressobj", Watched)
    _refused(_chunk(packed, **packing), OTHER_LENGTH)
    assert max(map(len, unpacked), default=0) <= 2688 + 5


def test_a_chunk_that_skips_a_filter():
    def make(file):
        made = file.create_dataset("a/b", (2,), np.float32, chunks=(2,), compression="gzip")
        made.id.write_direct_chunk((0,), np.float32([1, 2]).tobytes(), filter_mask=1)

    assert _read(_file(make)).tolist() == [1, 2]


def test_other_filters_are_refused():
    _refused(
        lambda file: file.create_dataset("a/b", data=VALUES, compression="lzf"),
        "x.h5: a/b: packed by filters [32000], expected gzip with or without shuffling and "
        "checksums, each once; write the file again",
    )


def test_a_filter_twice_is_refused():
    def make(file):
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((96, 7))
        properties.set_deflate(1)
        properties.set_deflate(1)
        space = h5py.h5s.create_simple((96, 7))
        file.create_group("a")
        h5py.h5d.create(file["a"].id, b"b", h5py.h5t.IEEE_F32LE, space, properties)

    _refused(
        make,
        "x.h5: a/b: packed by filters [1, 1], expected gzip with or without shuffling and "
        "checksums, each once; write the file again",
    )


@pytest.mark.parametrize(
    "link",
    [
        h5py.ExternalLink("other.h5", "b"),
        h5py.ExternalLink("/dev/zero", "b"),
        h5py.SoftLink("/c"),
    ],
)
@pytest.mark.parametrize("place", ["a", "a/b"])
def test_links_are_refused(link, place):
    def make(file):
        file.create_dataset("c", data=VALUES)
        file[place] = link

    _refused(make, "x.h5: 'a/b': got a link, expected values; get the file again")


def test_values_in_other_files_are_refused(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(800))
    message = "x.h5: a/b: values in another file, expected them in this one; get the file again"
    _refused(
        lambda file: file.create_dataset(
            "a/b", (100,), np.float64, external=[(str(secret), 0, 800)]
        ),
        message,
    )

    def virtual(file):
        layout = h5py.VirtualLayout((100,), np.float64)
        layout[:] = h5py.VirtualSource("other.h5", "b", (100,))
        file.create_virtual_dataset("a/b", layout)

    _refused(virtual, message)


@pytest.mark.parametrize("empty", [h5py.Empty("f4"), np.float32(1)])
def test_what_has_no_shape_has_none(empty):
    data = _file(lambda file: file.create_dataset("a/b", data=empty))
    assert _read(data).shape == ()
