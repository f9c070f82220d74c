import io
import re

import numpy as np
import pytest
import scipy.io

from ige.errors import UserError
from ige.hpe.data.human_eva import mocap
from ige.hpe.data.human_eva.capture import mat_bytes
from ige.hpe.data.human_eva.mocap import measurement, read_mat, read_mp

POSITIONS = np.arange(1.0, 19.0).reshape(3, 2, 3)
LABELS = ("PELO", "PELP")


def saved(compressed=True, **content):
    stream = io.BytesIO()
    scipy.io.savemat(stream, content, do_compression=compressed)
    return stream.getvalue()


def groups(labels, name="POINT", parameter="LABELS"):
    """What a .c3d file says, as structs that MATLAB made of plain texts."""
    point = {"name": parameter, "data": np.array([labels], object)}
    return {"name": name, "Parameter": point}


def refused(data, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        read_mat(data, "Walking_1.mat")


def test_markers_as_the_support_code_writes_them():
    markers = read_mat(mat_bytes(LABELS, POSITIONS), "Walking_1.mat")
    assert markers.labels == LABELS
    np.testing.assert_array_equal(markers.positions, POSITIONS)
    np.testing.assert_array_equal(markers.at("PELP"), POSITIONS[:, 1])


@pytest.mark.parametrize("compressed", [True, False])
def test_markers_as_others_write_them(compressed):
    """No rows of structs, numbers of another type, names after that of the person."""
    data = saved(
        compressed,
        Markers=POSITIONS.astype(np.float32),
        ParameterGroup=groups(["Anna:PELO", " Anna: PELP "]),
        Event=np.zeros((0, 0)),
    )
    markers = read_mat(data, "Walking_1.mat")
    assert markers.labels == LABELS
    np.testing.assert_array_equal(markers.positions, POSITIONS)


def test_a_marker_that_was_not_seen():
    """At (0, 0, 0) in the file, or no number; a 0 among others is a position."""
    positions = POSITIONS.copy()
    positions[0, 1] = 0.0
    positions[1, 0, 2] = np.nan
    positions[2, 1, 0] = 0.0
    data = saved(Markers=positions, ParameterGroup=groups(LABELS))
    read = read_mat(data, "Walking_1.mat").positions
    assert np.isnan(read).all(axis=-1).tolist() == [[False, True], [True, False], [False, False]]
    np.testing.assert_array_equal(read[2], positions[2])


def test_axes_are_the_directions_to_the_three_points_after_the_origin():
    """Origin, then a point on the z, the x and the y axis, however far."""
    positions = np.array([[[5, 5, 5], [5, 5, 9], [8, 5, 5], [5, 6, 5]]], float)
    markers = mocap.Markers(("PELO", "PELP", "PELA", "PELL"), positions, "Walking_1.mat")
    np.testing.assert_array_equal(markers.axes("PELO"), [np.eye(3)])
    message = (
        "Walking_1.mat: Markers: PELP is marker 2 of 4, expected the points of three axes after "
        "it; get the file again"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        markers.axes("PELP")
    message = "Walking_1.mat: LABELS: no marker RFRM or RFRA among 4; get the file again"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        markers.index("RFRM", "RFRA")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not the format of MATLAB 5 to 7; save it with -v7"),
        (b"\x89HDF\r\n\x1a\n" * 20, "not the format of MATLAB 5 to 7; save it with -v7"),
        (mat_bytes(LABELS, POSITIONS)[:-20], "it ends too early"),
        (saved(Markers=POSITIONS), "ParameterGroup missing"),
        (saved(AnalogSignals=POSITIONS), "Markers and ParameterGroup missing"),
        (saved(Markers=POSITIONS, ParameterGroup=groups(LABELS, name="X")), "POINT missing"),
        (
            saved(Markers=POSITIONS, ParameterGroup=groups(LABELS, parameter="X")),
            "LABELS missing",
        ),
        (
            saved(Markers="none", ParameterGroup=groups(LABELS)),
            "could not convert string to float: 'none'",
        ),
    ],
)
def test_other_files_are_refused(data, reason):
    refused(data, f"Walking_1.mat: cannot be read: {reason}; get the file again")


def test_other_shapes_are_refused():
    named = {"ParameterGroup": groups(LABELS)}
    expected = "expected (frames, markers, 3); get the file again"
    for positions in (POSITIONS[0], POSITIONS[..., :2], POSITIONS[:0]):
        refused(
            saved(Markers=positions, **named),
            f"Walking_1.mat: Markers: got shape {positions.shape}, {expected}",
        )
    refused(
        saved(Markers=POSITIONS, ParameterGroup=groups([*LABELS, "PELA"])),
        "Walking_1.mat: LABELS: got 3 names of 2 markers; get the file again",
    )


def test_measurements_of_a_person():
    data = b"$Bodymass = 68.5\r\n$LShoulderOffset = 41.0\n$RShoulderOffset=38\n\n$Name = 1e1\n"
    measures = read_mp(data, "S1.mp")
    assert measures == {
        "Bodymass": 68.5,
        "LShoulderOffset": 41.0,
        "RShoulderOffset": 38.0,
        "Name": 10.0,
    }
    assert measurement(measures, "LShoulderOffset", "S1.mp") == 41.0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "S1.mp: $LShoulderOffset is missing; get the file again"),
        (
            b"$LShoulderOffset = wide\n",
            "S1.mp: cannot be read: could not convert string to float: 'wide'; get the file again",
        ),
        (
            b"$LShoulderOffset = nan\n",
            "S1.mp: $LShoulderOffset: got nan, expected 0 to 1000 mm; get the file again",
        ),
        (
            b"$LShoulderOffset = -41\n",
            "S1.mp: $LShoulderOffset: got -41, expected 0 to 1000 mm; get the file again",
        ),
    ],
)
def test_other_measurements_are_refused(data, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        measurement(read_mp(data, "S1.mp"), "LShoulderOffset", "S1.mp")
