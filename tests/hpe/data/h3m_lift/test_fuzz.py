"""Altered files: a reader succeeds or says one line, and never does anything else.

Altered are valid files of every format: bytes are replaced, removed or repeated, from fixed seeds.
The structure inside .npz and .json files comes from hypothesis.
"""

import io
import json
import random
import warnings
import zipfile
import zlib

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from ige.data import builds
from ige.data.archives import open_archive
from ige.data.damage import reading
from ige.data.npz import load_npz
from ige.errors import UserError
from ige.hpe.data.h3m_lift import cameras, cdf, dataset, detections, h5, layouts

SETTINGS = hypothesis.settings(
    derandomize=True,
    deadline=None,
    max_examples=60,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
RUNS = 200
POSES = np.arange(2 * 96, dtype=np.float32).reshape(96, 2)


def _read_archive(path):
    with reading(str(path)), open_archive(path) as archive:
        for name in archive.names():
            archive.read(name)


def _read_h5(path):
    with reading(str(path)), h5.opened(path.read_bytes()) as file:
        h5.read_dataset(file, "3D_positions", str(path))


def _read_cdf(path):
    with reading(str(path)):
        cdf.read_variable(path.read_bytes(), "Pose")


def _read_2d(path):
    found = detections.NpzDetections(path.parent, path, "x")
    found.load()
    for key in sorted(found.keys()):
        found.read(key, 2)


def _read_3d(path):
    layout = layouts.VideoPose3dLayout(path.parent, path)
    for record in layout.index():
        layout.read(record)


def _read_npz(path):
    _read_2d(path)
    _read_3d(path)


class _Source:
    """Stands in for the files that are there now."""

    kind = "videopose3d"
    files = staticmethod(lambda: [{"name": "data_3d_h36m.npz", "size": 1}])


def _read_json(path):
    (path.parent / "dataset_info.json").touch()
    recorded = builds.read_record(path.parent, dataset.H3mLiftDataset.recorded)
    if recorded:
        builds.difference(recorded, _Source)


def _h5(packing, files):
    stream = io.BytesIO()
    with h5.h5py.File(stream, "w") as file:
        file.create_dataset("3D_positions", data=POSES, **packing)
    return stream.getvalue()


def _npz(files, folder):
    path = folder / "valid.npz"
    views = [np.ones((2, 17, 2), np.float32)] * 4
    files.write_npz(
        path,
        positions_2d={"S9": {"Walking": views}},
        positions_3d={"S9": {"Walking": np.ones((2, 32, 3), np.float32)}},
        metadata=files.H36M_METADATA,
    )
    return path.read_bytes()


def _tgz(files, folder):
    files.write_tar(folder / "valid.tgz", {"S9/a.cdf": b"values" * 50, "S9/b.cdf": b"more"})
    return (folder / "valid.tgz").read_bytes()


def _zip(files, folder):
    files.write_zip(folder / "valid.zip", {"a.h5": b"values" * 50, "b.h5": b"more"})
    return (folder / "valid.zip").read_bytes()


def _member(files, folder):
    with zipfile.ZipFile(io.BytesIO(_npz(files, folder))) as archive:
        return archive.read("positions_2d.npy")


def _record(files, folder):
    entry = {"name": "data_3d_h36m.npz", "size": 1}
    empty = {"recordings": {}, "frames": {}, "keypoints": {}, "skipped": []}
    return json.dumps({"layout": "videopose3d", "files": [entry], **empty}).encode()


def _rezip(data):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("positions_2d.npy", data)
        archive.writestr("positions_3d.npy", data)
    return stream.getvalue()


def _regzip(data):
    packer = zlib.compressobj(1, wbits=31)
    return packer.compress(data) + packer.flush()


def _same(data):
    return data


# Name of the file -> (makes it, what packs it again after it was altered, reads it).
READERS = {
    "a.zip": (_zip, _same, _read_archive),
    "a.tgz": (_tgz, _same, _read_archive),
    # Behind the checksum of gzip.
    "b.tgz": (lambda *made: zlib.decompress(_tgz(*made), 31), _regzip, _read_archive),
    "a.h5": (lambda files, folder: _h5({}, files), _same, _read_h5),
    "b.h5": (
        lambda files, folder: _h5({"compression": "gzip", "fletcher32": True}, files),
        _same,
        _read_h5,
    ),
    "cameras.h5": (
        lambda files, folder: files.cameras_h5(),
        _same,
        lambda path: cameras.read_cameras_h5(path.read_bytes(), "S1", str(path)),
    ),
    "a.cdf": (lambda files, folder: files.cdf_bytes(POSES.T[None], folder), _same, _read_cdf),
    "a.npz": (_npz, _same, _read_npz),
    # Behind the checksum of zip.
    "b.npz": (_member, _rezip, _read_npz),
    "metadata.xml": (
        lambda files, folder: files.metadata_xml().encode(),
        _same,
        lambda path: cameras.read_metadata_xml(path, "S9"),
    ),
    "metadata.json": (_record, _same, _read_json),
}


def _altered(rng, data):
    """Returns data with a few bytes replaced, or a part removed or repeated."""
    changed = bytearray(data)
    place, length = rng.randrange(len(data)), rng.choice([1, 4, 8, 100, 512])
    match rng.randrange(8):
        case 0:
            return data[:place]
        case 1:
            return data[:place] + data[place + length :]
        case 2:
            return data[: place + length] + data[place:]
    # Headers and directories are at the ends.
    ends = [(0, len(data)), (0, min(1000, len(data))), (max(0, len(data) - 1000), len(data))]
    first, last = rng.choice(ends)
    for _ in range(rng.choice([1, 1, 2, 4])):
        place, width = rng.randrange(first, last), rng.choice([1, 1, 2, 4, 8])
        extreme = rng.choice([0, 1, 2 ** (8 * width - 1), 2 ** (8 * width) - 1])
        value = rng.choice([rng.randrange(2 ** (8 * width)), extreme])
        width = min(width, len(data) - place)
        changed[place : place + width] = value.to_bytes(8, "big")[-width:]
    return bytes(changed)


def _outcome(read, path):
    """Returns whether reading succeeds; fails unless it does or says one line about the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            read(path)
        except UserError as error:
            told = str(error)
        else:
            return True
    assert told.startswith(str(path))
    assert told.isprintable()
    return False


@pytest.mark.parametrize("name", READERS)
def test_altered_files(files, tmp_path, name):
    make, pack, read = READERS[name]
    valid = make(files, tmp_path)
    path = tmp_path / name
    path.write_bytes(pack(valid))
    if name != "b.npz":  # which lacks the metadata
        assert _outcome(read, path)
    outcomes = []
    for seed in range(RUNS):
        path.write_bytes(pack(_altered(random.Random(seed), valid)))
        outcomes.append(_outcome(read, path))
    assert outcomes.count(False) > RUNS / 50 or name == "metadata.json"


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
KEYS = st.sampled_from(["S1", "S9", "Walking", "Eating 1", "layout_name", "num_joints"]) | SCALARS
ARRAYS = st.builds(
    np.full,
    st.sampled_from([(), (0,), (2, 32, 3), (2, 17, 2), (4,), (4, 2, 17, 2), (2, 96)]),
    st.sampled_from([0.0, np.nan, 1e300, "1", None, 1j, True, 7]),
)
NESTED = st.recursive(
    SCALARS | ARRAYS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner, inner, inner)
        | st.dictionaries(KEYS, inner, max_size=3)
    ),
    max_leaves=8,
)
SUBJECTS = st.dictionaries(
    st.sampled_from(["S1", "S9", "S4"]),
    st.dictionaries(st.sampled_from(["Walking", "Walking 1", "_ALL", "?"]), NESTED, max_size=2)
    | NESTED,
    max_size=2,
)


@hypothesis.given(nested=NESTED | SUBJECTS, metadata=NESTED | st.none())
@SETTINGS
def test_anything_inside_an_npz(files, tmp_path, nested, metadata):
    path = tmp_path / "data_2d_h36m_x.npz"
    members = {"positions_2d": nested, "positions_3d": nested}
    for described in (metadata, files.H36M_METADATA):
        with zipfile.ZipFile(path, "w") as archive:
            for key, value in (members | {"metadata": described}).items():
                array = np.empty((), object)
                array[()] = value
                stream = io.BytesIO()
                np.lib.format.write_array(stream, array, allow_pickle=True)
                archive.writestr(f"{key}.npy", stream.getvalue())
        for read in (load_npz, _read_2d, _read_3d):
            _outcome(read, path)


@hypothesis.given(
    shape=st.lists(st.integers(0, 100), max_size=4).map(tuple) | st.just((96, 3)),
    kind=st.sampled_from(["f2", "f4", "f8", ">f8", "i1", "u8", "c8", "?", "S3", "O"]),
    value=st.sampled_from([0, 1, 127]),
)
@SETTINGS
def test_any_array_in_an_h5(tmp_path, shape, kind, value):
    hypothesis.assume(np.prod(shape) < 10**5)
    path = tmp_path / "a.h5"
    with h5.h5py.File(path, "w") as file:
        dtype = h5.h5py.string_dtype() if kind == "O" else np.dtype(kind)
        filled = np.full(shape, str(value) if kind == "O" else value, dtype)
        file.create_dataset("3D_positions", data=filled)
    assert _outcome(_read_h5, path) == (dtype.kind in "fiu")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
RECORD = st.fixed_dictionaries(
    {},
    optional={
        "layout": st.just("videopose3d") | JSON,
        "files": st.lists(st.fixed_dictionaries({"name": st.text(max_size=5) | JSON})) | JSON,
        "recordings": st.just({}) | JSON,
        "frames": st.just({}) | JSON,
        "keypoints": st.just({}) | JSON,
        "skipped": st.just([]) | JSON,
    },
)


@hypothesis.given(record=RECORD | JSON)
@SETTINGS
def test_any_record_of_a_build(tmp_path, record):
    path = tmp_path / "metadata.json"
    path.write_text(json.dumps(record), encoding="utf-8")
    assert _outcome(_read_json, path)


@pytest.mark.parametrize("data", [b"\xff\xfe", b"[" * 100_000, b"", b"{", b"\x00" * 10, b"1e999"])
def test_a_record_that_is_no_json_is_none(tmp_path, data):
    path = tmp_path / "metadata.json"
    path.write_bytes(data)
    assert _outcome(_read_json, path)
    assert builds.read_record(tmp_path, dataset.H3mLiftDataset.recorded) == {}
