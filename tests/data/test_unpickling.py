"""Pickles that misuse what is admitted; `test_npz.py` has those that ask for more."""

import collections
import pickle
import pickletools
import re
import struct

import numpy as np
import pytest

from ige.data import unpickling
from ige.data.unpickling import restricted_load

ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR"
FLOAT = b"cnumpy\ndtype\n(X\x02\x00\x00\x00f8K\x00K\x01tR"


def _bytes(data):
    return b"B" + struct.pack("<I", len(data)) + data


def _integer(value):
    return pickle.dumps(value, 2)[2:-1]


def _state(shape, data, dtype=FLOAT):
    """Opcodes of (1, shape, dtype, False, data)."""
    return b"(K\x01(" + b"".join(map(_integer, shape)) + b"t" + dtype + b"\x89" + data + b"t"


def _refused(pickled, reason):
    with pytest.raises(pickle.UnpicklingError, match=f"^{re.escape(reason)}$"):
        restricted_load(pickled)


def test_the_opcodes_of_these_tests_are_those_of_an_array():
    pickled = ARRAY + _state((2,), _bytes(struct.pack("<2d", 1.0, 2.0))) + b"b."
    np.testing.assert_array_equal(restricted_load(pickled), [1.0, 2.0])
    theirs = pickle.loads(pickled)
    np.testing.assert_array_equal(theirs, [1.0, 2.0])
    assert theirs.dtype == np.float64


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=">i4").reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array([True, False]),
        np.array(["Walking", "é"]),
        np.array([b"ab", b"\xff"]),
        np.float32([[]]),
        np.array(2.5),
        np.array([1 + 2j]),
    ],
)
def test_arrays_of_every_type(array, protocol):
    got = restricted_load(pickle.dumps({"a": array}, protocol))["a"]
    theirs = pickle.loads(pickle.dumps({"a": array}, protocol))["a"]
    assert got.dtype == theirs.dtype
    assert got.shape == array.shape
    np.testing.assert_array_equal(got, array)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_containers(protocol):
    content = [
        collections.OrderedDict(a=1, b=[2]),
        {"c": (3, {4, 5}, frozenset([6]), b"\x007")} if protocol > 2 else {},
        np.int64(9),
    ]
    assert restricted_load(pickle.dumps(content, protocol)) == content


@pytest.mark.parametrize("shape", [(2**40,), (3,), (0,), (2, 2**62), (1,) * 40])
def test_an_array_has_as_many_values_as_its_shape_says(shape):
    pickled = ARRAY + _state(shape, _bytes(bytes(16))) + b"b."
    with pytest.raises(pickle.UnpicklingError, match=r"^it has an array of shape \(") as caught:
        restricted_load(pickled)
    assert str(caught.value).endswith(" without its values") == (shape in [(3,), (0,)])


@pytest.mark.parametrize("shape", [(-1,), (True,), (None,), (2.0,)])
def test_a_shape_has_lengths(shape):
    _refused(ARRAY + _state(shape, _bytes(bytes(8))) + b"b.", "it has an array without a shape")


def test_an_array_of_objects_has_as_many_as_its_shape_says():
    dtype = FLOAT.replace(b"f8", b"O8")
    assert restricted_load(ARRAY + _state((1,), b"]K\x07a", dtype) + b"b.").tolist() == [7]
    _refused(
        ARRAY + _state((2**33,), b"]K\x07a", dtype) + b"b.", f"it has an array of shape ({2**33},)"
    )
    _refused(
        ARRAY + _state((2,), b"]K\x07a", dtype) + b"b.",
        "it has an array of shape (2,) without its values",
    )
    _refused(
        ARRAY + _state((8,), _bytes(bytes(8)), dtype) + b"b.",
        "it has an array of shape (8,) without its values",
    )


@pytest.mark.parametrize(
    "name", ["f9", "M8[s]", "V8", "f8,f8", "(1000000000,)f8", "S9999999", "object", "O;f8"]
)
def test_other_dtypes_are_refused(name):
    text = b"X" + struct.pack("<I", len(name)) + name.encode()
    _refused(FLOAT.replace(b"X\x02\x00\x00\x00f8", text) + b".", f"it has the dtype {name!r}")


@pytest.mark.parametrize("part", ["names", "fields", "subarray"])
def test_the_state_of_a_dtype_makes_no_other_dtype(part):
    rest = {"subarray": "N", "names": "N", "fields": "N"} | {part: "(K\x01t"}
    state = "(K\x03X\x01\x00\x00\x00<" + "".join(rest.values()) + "J\xff\xff\xff\xffK\x08K\x3ft"
    _refused(FLOAT + state.encode("latin-1") + b"b.", "it has a structured dtype")


def test_size_and_flags_of_a_dtype_are_its_own():
    # 63: every flag, among them "these bytes are pointers to objects".
    state = b"(K\x03X\x01\x00\x00\x00<NNNK\x60K\x08K\x3ft"
    values = _bytes(struct.pack("<2d", 1.0, 2.0))
    got = restricted_load(ARRAY + _state((2,), values, FLOAT + state + b"b") + b"b.")
    assert got.dtype.flags == np.dtype("f8").flags
    assert got.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("pickled", "reason"),
    [
        (b"cnumpy\nndarray\n(K\x05tR.", "it calls what it may not call"),
        (b"X\x01\x00\x00\x00a(tR.", "it calls what it may not call"),
        (b"cnumpy\ndtype\n(X\x02\x00\x00\x00f8t\x81.", "it makes instances of classes"),
        (b"(cnumpy\nndarray\nK\x05o.", "it makes instances of classes"),
        (b"(K\x05inumpy\nndarray\n.", "it makes instances of classes"),
        (b"\x82\x01.", "it makes instances of classes"),
        (
            b"c_codecs\nencode\n}X\x01\x00\x00\x00aK\x01sb.",
            "it sets the state of a _Admitted",
        ),
        (b"cnumpy\nndarray\n}b.", "it sets the state of a type"),
        (b"}}b.", "it sets the state of a dict"),
        (b"cnumpy.core.multiarray\nscalar\n(K\x01C\x01btR.", "it has a int where a dtype belongs"),
        (
            b"cnumpy.core.multiarray\nscalar\n(" + FLOAT.replace(b"f8", b"O8") + b"K\x01tR.",
            "it has an object where a number belongs",
        ),
        (
            b"cnumpy.core.multiarray\nscalar\n(" + FLOAT + ARRAY + b"tR.",
            "it has a _Array where bytes belong",
        ),
        (b"cos\nsys\x1btem\n.", "it asks for ?"),
        (b"\x96" + struct.pack("<Q", 2**40) + b"ab.", "it ends too early"),
    ],
)
def test_misuse(pickled, reason):
    _refused(pickled, reason)


@pytest.mark.parametrize("hashing", [b"}%sK\x01s.", b"(%sK\x01d.", b"}(%sK\x01u.", b"\x8f(%s\x90."])
def test_deep_tuples_are_not_hashed(hashing):
    """Python's hash of a tuple calls itself: in a deep enough one it ends the process."""
    _refused(hashing.replace(b"%s", b")" + b"\x85" * 1000), "it has tuples as keys")


@pytest.mark.parametrize("kind", [b"set", b"frozenset"])
def test_deep_tuples_are_not_put_into_sets(kind):
    pickled = b"c__builtin__\n" + kind + b"\n(](" + b")" + b"\x85" * 1000 + b"etR."
    _refused(pickled, "it has tuples as keys")
    _refused(b"(" + b")" + b"\x85" * 1000 + b"\x91.", "it has tuples as keys")
    items = b"ccollections\nOrderedDict\n(](](" + b")" + b"\x85" * 1000 + b"K\x01eetR."
    _refused(items, "it has tuples as keys")


def test_values_are_not_copied_again_and_again():
    values = _bytes(bytes(2**20)) + b"q\x000"
    array = ARRAY + _state((2**17,), b"h\x00") + b"b"
    assert restricted_load(values + array + b".").shape == (2**17,)
    _refused(values + b"](" + 3 * array + b"e.", "it has more values than it has room for")
    encoded = b"c_codecs\nencode\n(X" + struct.pack("<I", 2**20) + b"a" * 2**20 + b"q\x00tR0]("
    again = b"c_codecs\nencode\n(h\x00tR"
    assert restricted_load(encoded + again + b"e.") == [b"a" * 2**20]
    _refused(encoded + 2 * again + b"e.", "it has more values than it has room for")


@pytest.mark.parametrize(
    ("copied", "content"),
    [
        (b"c__builtin__\nset\n(h\x00tR", b"](%se"),
        (b"c__builtin__\nfrozenset\n(h\x00tR", b"(%st"),
        (b"c__builtin__\nset\n(h\x00tR", b"\x8f(%s\x90"),
        (b"c__builtin__\nset\n(h\x00tR", b"(%s\x91"),
    ],
)
def test_containers_are_not_copied_again_and_again(copied, content):
    numbers = b"".join(b"K%c" % i for i in range(100))
    made = content.replace(b"%s", numbers) + b"q\x000]("
    assert len(restricted_load(made + copied + b"e.")) == 1
    _refused(made + 19 * copied + b"e.", "it has more values than it has room for")


def test_an_array_of_bytes_is_not_copied_again_and_again():
    values = b"\x96" + struct.pack("<Q", 2**16) + bytes(2**16) + b"q\x000]("
    one = b"cnumpy.core.numeric\n_frombuffer\n(h\x00" + FLOAT + b"J\x00\x20\x00\x00\x85U\x01CtR"
    assert restricted_load(values + one + b"e.")[0].shape == (2**13,)
    _refused(values + 3 * one + b"e.", "it has more values than it has room for")


def test_operations_are_counted(monkeypatch):
    monkeypatch.setattr(unpickling, "MAX_OPERATIONS", 100)
    restricted_load(b"]" * 99 + b".")
    _refused(b"]" * 100 + b".", "it has more than 100 operations")


def test_what_comes_after_the_pickle_is_damage():
    with pytest.raises(ValueError, match=r"^it goes on after its end$"):
        restricted_load(pickle.dumps(1) + b"x")


@pytest.mark.parametrize("opcode", pickletools.opcodes, ids=lambda opcode: opcode.name)
def test_every_opcode_is_admitted_or_refused(opcode):
    """None of them makes anything but containers and arrays."""
    code = opcode.code.encode("latin-1")
    for before in (b"", b"}", b"](", b"cnumpy\nndarray\n)", ARRAY + b")", b"(K\x01K\x02"):
        for after in (b"", b"0\n", bytes(8), b"\xff" * 8, b"\x01\x00\x00\x00a" + bytes(8)):
            try:
                loaded = restricted_load(before + code + after + b".")
            except (pickle.UnpicklingError, ValueError, LookupError, TypeError, AttributeError):
                continue
            except (EOFError, struct.error, OverflowError):
                continue
            kinds = int | float | str | bytes | bytearray | list | tuple | dict | set | frozenset
            assert isinstance(loaded, kinds | np.ndarray | type | None), before + code + after
