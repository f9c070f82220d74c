"""CDF files as cdflib writes them, and with single numbers of theirs replaced."""

import re
import struct
import zlib

import cdflib.cdfwrite
import numpy as np
import pytest

from ige.hpe.data.h3m_lift import cdf

BIG, LITTLE = 1, 6


def _write(path, values, encoding=LITTLE, majority="row_major", variable=None, whole=0):
    """Returns a file of a variable 'Pose' with one record per row of `values`."""
    writer = cdflib.cdfwrite.CDF(
        path, {"Encoding": encoding, "Majority": majority, "Compressed": whole}, delete=True
    )
    spec = {
        "Variable": "Pose",
        "Data_Type": writer.CDF_REAL4 if values.dtype == np.float32 else writer.CDF_REAL8,
        "Num_Elements": 1,
        "Rec_Vary": True,
        "Dim_Sizes": list(values.shape[1:]),
        "Compress": 0,
    }
    writer.write_var(spec | {"Variable": "Other"}, var_data=-values)
    writer.write_var(spec | (variable or {}), var_data=values)
    writer.close()
    return path.read_bytes()


VALUES = np.arange(2 * 5 * 3, dtype=np.float32).reshape(2, 5, 3)


@pytest.mark.parametrize("compress", [0, 6])
@pytest.mark.parametrize("whole", [0, 6])
@pytest.mark.parametrize("majority", ["row_major", "column_major"])
@pytest.mark.parametrize("encoding", [BIG, LITTLE])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_way_to_write_numbers(tmp_path, dtype, encoding, majority, whole, compress):
    values = VALUES.astype(dtype)
    # cdflib writes values as they come: give them as they lie where the first index is fastest.
    given = values if majority == "row_major" else values.swapaxes(1, 2).reshape(values.shape)
    data = _write(
        tmp_path / "a.cdf", given, encoding, majority, {"Compress": compress}, bool(whole)
    )
    got = cdf.read_variable(data, "Pose")
    assert got.dtype == values.dtype.newbyteorder(">" if encoding == BIG else "<")
    np.testing.assert_array_equal(got, values)
    np.testing.assert_array_equal(cdf.read_variable(data, "other"), -values)


def test_many_blocks(tmp_path):
    values = np.arange(40 * 3000.0).reshape(40, 3000)
    data = _write(tmp_path / "a.cdf", values, variable={"Compress": 6})
    assert data.count(struct.pack(">i", 13)) > 5  # records of packed values
    np.testing.assert_array_equal(cdf.read_variable(data, "Pose"), values)


def test_old_variables_share_the_sizes_of_the_file(tmp_path):
    writer = cdflib.cdfwrite.CDF(tmp_path / "a.cdf", {"rDim_sizes": [5, 3]})
    spec = {
        "Variable": "Pose",
        "Data_Type": writer.CDF_REAL4,
        "Num_Elements": 1,
        "Rec_Vary": True,
        "Var_Type": "rVariable",
        "Dim_Vary": [True, True],
        "Compress": 0,
    }
    writer.write_var(spec, var_data=VALUES)
    writer.close()
    got = cdf.read_variable((tmp_path / "a.cdf").read_bytes(), "Pose")
    np.testing.assert_array_equal(got, VALUES)


@pytest.fixture
def parts(tmp_path):
    """A file (its bytes), and where its records are."""
    data = _write(tmp_path / "a.cdf", VALUES)
    gdr = struct.unpack_from(">q", data, 20)[0]
    other = struct.unpack_from(">q", data, gdr + 20)[0]
    pose = struct.unpack_from(">q", data, other + 12)[0]
    index = struct.unpack_from(">q", data, pose + 28)[0]
    room = struct.unpack_from(">i", data, index + 20)[0]
    block = struct.unpack_from(">q", data, index + 28 + 8 * room)[0]
    return data, {"gdr": gdr, "other": other, "pose": pose, "index": index, "block": block}


@pytest.mark.parametrize(
    ("record", "offset", "kind", "value", "reason"),
    [
        (None, 0, ">q", 0, "it begins with 0000000000000000, not as CDF 3 files do"),
        (None, 16, ">i", 9, "a record of type 9 at byte 8, expected (1,)"),
        (None, 20, ">q", 2**60, "4 bytes at byte 1152921504606846984 of {size}"),
        (None, 20, ">q", -9, "4 bytes at byte -1 of {size}"),
        (None, 36, ">i", 3, "numbers in encoding 3"),
        ("gdr", 8, ">i", 3, "a record of type 3 at byte {gdr}, expected (2,)"),
        ("gdr", 20, ">q", 0, "it has no variable 'Pose'"),
        ("other", 12, ">q", 0, "it has no variable 'Pose'"),
        ("other", 8, ">i", 3, "a record of type 3 at byte {other}, expected (8,)"),
        ("pose", 84, ">B", 0, "it has no variable 'Pose'"),
        ("pose", 20, ">i", 51, "values of type 51, expected floating-point numbers"),
        ("pose", 64, ">i", 2, "values of type 21, expected floating-point numbers"),
        ("pose", 48, ">i", 1, "sparse records"),
        ("pose", 340, ">i", 2**31 - 1, "a variable of 2147483647 dimensions"),
        ("pose", 340, ">i", -1, "a variable of -1 dimensions"),
        ("pose", 344, ">i", -5, "a variable of shape [-5, 3]"),
        ("pose", 344, ">i", 2**30, "a variable of shape (2, 1073741824, 3), 25,769,803,776 bytes"),
        ("pose", 24, ">i", 10**7, "a variable of shape (10000001, 5, 3), 600,000,060 bytes"),
        ("pose", 24, ">i", 2, "it has no record 2"),
        ("index", 8, ">i", 7, "a record of type 7 at byte {index}, expected (6,)"),
        ("index", 20, ">i", 2**30, "17179869184 bytes at byte {entries} of {size}"),
        ("index", 20, ">i", -1, "-16 bytes at byte {entries} of {size}"),
        ("index", 24, ">i", 2**30, "an index of more than 1000 entries"),
        ("index", 24, ">i", 0, "it has no record 0"),
        ("index", 28, ">i", 1, "records 1 to 1 where record 0 is due"),
        ("block", 8, ">i", 9, "a record of type 9 at byte {block}, expected (7, 13)"),
    ],
)
def test_a_number_that_cannot_be(parts, record, offset, kind, value, reason):
    data, places = parts
    spoilt = bytearray(data)
    struct.pack_into(kind, spoilt, places.get(record, 0) + offset, value)
    places = places | {"size": len(data), "entries": places["index"] + 28}
    with pytest.raises((ValueError, EOFError), match=f"^{re.escape(reason.format(**places))}$"):
        cdf.read_variable(bytes(spoilt), "Pose")


def test_a_variable_that_follows_itself(parts):
    data, places = parts
    spoilt = bytearray(data)
    struct.pack_into(">q", spoilt, places["pose"] + 12, places["other"])
    with pytest.raises(ValueError, match=r"^it has no variable 'Missing'$"):
        cdf.read_variable(bytes(spoilt), "Missing")


def test_an_index_that_follows_itself(parts):
    data, places = parts
    spoilt = bytearray(data)
    struct.pack_into(">q", spoilt, places["index"] + 12, places["index"])
    reason = f"an index at byte {places['index']} that leads to itself"
    with pytest.raises(ValueError, match=f"^{reason}$"):
        cdf.read_variable(bytes(spoilt), "Pose")


def test_zero_records_and_zero_frames(parts):
    data, places = parts
    for offset, value, shape in ((24, -1, (0, 5, 3)), (344, 0, (2, 0, 3))):
        spoilt = bytearray(data)
        struct.pack_into(">i", spoilt, places["pose"] + offset, value)
        assert cdf.read_variable(bytes(spoilt), "Pose").shape == shape


@pytest.mark.parametrize("cut", [4, 30, 100, 400, 700])
def test_a_file_that_is_cut_off(parts, cut):
    with pytest.raises((ValueError, EOFError)):
        cdf.read_variable(parts[0][:-cut], "Pose")


def _packed(content, size):
    """A file packed as a whole that announces `size` bytes."""
    packer = zlib.compressobj(wbits=31)
    packed = packer.compress(content) + packer.flush()
    head = struct.pack(">qiqqi", 32 + len(packed), 10, 40 + len(packed), size, 0)
    method = struct.pack(">qiiiii", 28, 11, 5, 0, 1, 6)
    return bytes.fromhex("cdf30001cccc0001") + head + packed + method


def test_a_file_packed_as_a_whole_by_hand(parts):
    data = parts[0]
    whole = _packed(data[8:], len(data) - 8)
    np.testing.assert_array_equal(cdf.read_variable(whole, "Pose"), VALUES)


@pytest.mark.parametrize("length", [100_000_000, 1001, 999])
def test_a_file_that_unpacks_to_another_size(length, monkeypatch):
    unpacked = []
    decompressobj = zlib.decompressobj

    class Watched:
        def __init__(self, *arguments):
            self._object = decompressobj(*arguments)
            self.eof = True

        def decompress(self, *arguments):
            unpacked.append(len(data := self._object.decompress(*arguments)))
            return data

    monkeypatch.setattr(cdf.zlib, "decompressobj", Watched)
    reason = "it does not unpack to the 1,000 bytes that it announces"
    with pytest.raises(ValueError, match=f"^{reason}$"):
        cdf.read_variable(_packed(bytes(length), 1000), "Pose")
    assert 0 < max(unpacked) <= 1001


@pytest.mark.parametrize("cut", [8, 4, 1])
def test_the_checksum_of_what_is_packed_is_there(parts, cut):
    data = parts[0]
    packed = _packed(data[8:], len(data) - 8)
    spoilt = bytearray(packed)
    struct.pack_into(">q", spoilt, 8, struct.unpack_from(">q", packed, 8)[0] - cut)
    reason = f"it does not unpack to the {len(data) - 8:,} bytes that it announces"
    with pytest.raises(ValueError, match=f"^{reason}$"):
        cdf.read_variable(bytes(spoilt), "Pose")


def test_a_file_that_announces_too_much():
    with pytest.raises(ValueError, match=r"^it says that it unpacks to 1,099,511,627,776 bytes$"):
        cdf.read_variable(_packed(b"", 2**40), "Pose")


def test_other_packing(parts):
    data = bytearray(_packed(parts[0][8:], len(parts[0]) - 8))
    struct.pack_into(">i", data, len(data) - 16, 1)
    with pytest.raises(ValueError, match=r"^packed by method 1 and not by gzip$"):
        cdf.read_variable(bytes(data), "Pose")
