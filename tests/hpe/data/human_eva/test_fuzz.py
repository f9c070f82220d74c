"""Altered files: a reader succeeds or says one line, and never does anything else."""

import io
import random

import pytest
import scipy.io

from ige.errors import UserError
from ige.hpe.data.human_eva.cameras import read_cal
from ige.hpe.data.human_eva.capture import mat_bytes
from ige.hpe.data.human_eva.mocap import measurement, read_mat, read_mp
from ige.hpe.data.human_eva.sync import read_ofs

RUNS = 150
READERS = {
    "Calibration_Data/C1.cal": read_cal,
    "Sync_Data/Box_1_(C1).ofs": read_ofs,
    "Mocap_Data/S1.mp": lambda data, origin: measurement(
        read_mp(data, origin), "LShoulderOffset", origin
    ),
}


def alter(data, chance):
    """Replaces, removes or repeats a few bytes."""
    data = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(data))
        end = min(len(data), start + chance.choice((1, 1, 4, 30)))
        new = chance.choice((chance.randbytes(end - start), b"", bytes(data[start:end]) * 2))
        data[start:end] = new
        if not data:
            break
    return bytes(data)


def said(read, data):
    """What a reader refuses a file with; None if it reads it."""
    try:
        read(data, "file")
    except UserError as error:
        return str(error)
    return None


def check(read, valid):
    assert said(read, valid) is None
    chance = random.Random(0)
    messages = [said(read, alter(valid, chance)) for _ in range(RUNS)]
    refused = [message for message in messages if message]
    assert len(refused) > RUNS / 4
    assert all(message.isprintable() for message in refused)
    assert all(message.startswith("file: ") for message in refused)


@pytest.mark.parametrize("name", READERS)
def test_text(generated, name):
    check(READERS[name], (generated / "S1" / name).read_bytes())


@pytest.mark.parametrize("compressed", [True, False])
def test_markers(files, compressed):
    markers = files.standing(2)
    valid = mat_bytes(markers.labels, markers.positions)
    if not compressed:
        stream = io.BytesIO()
        content = scipy.io.loadmat(io.BytesIO(valid))
        named = {name: content[name] for name in ("Markers", "ParameterGroup")}
        scipy.io.savemat(stream, named, do_compression=False)
        valid = stream.getvalue()
    check(read_mat, valid)
