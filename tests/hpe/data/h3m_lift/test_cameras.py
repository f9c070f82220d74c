import re

import numpy as np
import pytest

from ige.errors import UserError
from ige.hpe.data.h3m_lift import cameras
from ige.hpe.data.h3m_lift.names import CAMERA_IDS, SUBJECTS


def _pinhole(camera, point):
    """Depth and pixel of a world point, without distortion."""
    x, y, z = camera.rotation @ (np.array(point) - camera.translation)
    return z, camera.focal_length * (x / z, y / z) + camera.center


@pytest.mark.parametrize("subject", SUBJECTS)
def test_published_cameras_look_at_a_person_in_the_middle(subject):
    found = cameras.published_cameras(subject)
    assert tuple(found) == CAMERA_IDS
    for camera in found.values():
        np.testing.assert_allclose(camera.rotation @ camera.rotation.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(camera.rotation) == pytest.approx(1.0)
        depth, waist = _pinhole(camera, (0.0, 0.0, 900.0))
        assert 3000.0 < depth < 7000.0
        assert (waist > 250.0).all()
        assert (waist < 750.0).all()
        # Image y points down: the head is above the feet.
        assert _pinhole(camera, (0.0, 0.0, 1700.0))[1][1] < waist[1] - 100.0
        assert _pinhole(camera, (0.0, 0.0, 0.0))[1][1] > waist[1] + 100.0


def _assert_same(got, expected, rotation_error):
    assert tuple(got) == CAMERA_IDS
    for camera_id in CAMERA_IDS:
        for field in got[camera_id]._fields:
            error = np.abs(getattr(got[camera_id], field) - getattr(expected[camera_id], field))
            assert error.max() <= rotation_error, field


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_format_tells_the_same(files, tmp_path, subject):
    published = cameras.published_cameras(subject)
    _assert_same(cameras.read_cameras_h5(files.cameras_h5(), subject, "cameras.h5"), published, 0.0)
    (tmp_path / "metadata.xml").write_text(files.metadata_xml())
    got = cameras.read_metadata_xml(tmp_path / "metadata.xml", subject)
    _assert_same(got, published, 1e-12)


def test_cameras_go_by_name_not_by_number(files):
    def swap(group, subject, index):
        if subject == "S9" and index in (1, 2):
            digits = CAMERA_IDS[2 - index]
            group["Name"][:] = np.array([[ord(digit)] for digit in digits])

    got = cameras.read_cameras_h5(files.cameras_h5(swap), "S9", "cameras.h5")
    published = cameras.published_cameras("S9")
    assert tuple(got) == CAMERA_IDS
    np.testing.assert_array_equal(got["54138969"].translation, published["55011271"].translation)


def _delete(*path):
    def change(group, subject, index):
        if subject == "S5" and index == 2:
            del group[path[0]]

    return change


def _replace(key, value):
    def change(group, subject, index):
        if subject == "S5" and index == 2:
            del group[key]
            group[key] = value(cameras.published_cameras("S5")["55011271"])

    return change


_NAME = np.array([[ord(digit)] for digit in "54138969"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_delete("R"), "x.h5: subject5/camera2: 'R' is missing; get the file again"),
        (_delete("Name"), "x.h5: subject5/camera2: 'Name' is missing; get the file again"),
        (
            _replace("R", lambda camera: np.zeros(9)),
            "x.h5: subject5/camera2: 'R': got shape (9,), expected (3, 3); get the file again",
        ),
        (
            _replace("f", lambda camera: np.array([["a"], ["b"]], "S1")),
            "x.h5: subject5/camera2: f: got |S1, expected numbers; get the file again",
        ),
        (
            _replace("f", lambda camera: -camera.focal_length),
            "x.h5: subject5/camera2: focal_length: got -1149.68, expected more than 0; get",
        ),
        (
            _replace("R", lambda camera: camera.rotation * 1e200),
            "x.h5: subject5/camera2: rotation: got a matrix that is inf from orthonormal with ",
        ),
        (
            _replace("k", lambda camera: np.zeros(2)),
            "x.h5: subject5/camera2: 'k': got shape (2,), expected (3,); get the file again",
        ),
        (
            _replace("R", lambda camera: -camera.rotation),
            "x.h5: subject5/camera2: rotation: got a matrix that is ",
        ),
        (
            _replace("R", lambda camera: 1.01 * camera.rotation),
            "x.h5: subject5/camera2: rotation: got a matrix that is 0.02 from orthonormal with "
            "determinant 1.03, expected a rotation; get the file again",
        ),
        (
            _replace("T", lambda camera: camera.translation * np.nan),
            "x.h5: subject5/camera2: translation is not finite; get the file again",
        ),
        (
            _replace("Name", lambda camera: np.full((8, 1), ord("0"))),
            "x.h5: subject5/camera2: 'Name': got '00000000', expected one of 54138969, 55011271, "
            "58860488, 60457274; get the file again",
        ),
        (
            _replace("Name", lambda camera: _NAME),
            "x.h5: subject5 has no camera 55011271; get the file again",
        ),
    ],
)
def test_spoilt_cameras_h5(files, change, message):
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        cameras.read_cameras_h5(files.cameras_h5(change), "S5", "x.h5")


def test_missing_group_and_damage(files):
    with pytest.raises(UserError, match=re.escape("x.h5: subject2/camera1 is missing; get")):
        cameras.read_cameras_h5(files.cameras_h5(), "S2", "x.h5")
    with pytest.raises(UserError, match=re.escape("x.h5: cannot be read: ")):
        cameras.read_cameras_h5(files.cameras_h5()[:1000], "S1", "x.h5")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<metadata><w0>[1 2]</w0></metadata>", "w0: got 2 numbers, expected 300; get the file"),
        ("<metadata><w1/></metadata>", "'w0' is missing; get the file again"),
        ("<metadata><w0>[1 x]</w0></metadata>", "w0: cannot be read: could not convert string"),
        ("<metadata>", "cannot be read: no element found: line 1, column 10; get the file again"),
        (
            '<!DOCTYPE m [<!ENTITY a "1 1 1"><!ENTITY b "&a;&a;&a;">]><m><w0>&b;</w0></m>',
            "cannot be read: it has a document type 'm', which metadata.xml has not; get the file",
        ),
        (
            '<!DOCTYPE m SYSTEM "file:///etc/passwd"><m><w0/></m>',
            "cannot be read: it has a document type 'm', which metadata.xml has not; get the file",
        ),
        ("<metadata><w0/></metadata>", "w0: got 0 numbers, expected 300; get the file again"),
        ("\0", "cannot be read: unclosed token: line 1, column 0; get the file again"),
    ],
)
def test_spoilt_metadata(tmp_path, text, message):
    path = tmp_path / "metadata.xml"
    path.write_text(text)
    with pytest.raises(UserError, match=re.escape(f"{path}: {message}")):
        cameras.read_metadata_xml(path, "S1")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, 9.9, None),  # other angles are another rotation
        (8 * 6 + 3, np.nan, "camera 54138969: translation is not finite; get the file again"),
        (66 + 8 * 6, np.inf, "camera 55011271: rotation is not finite; get the file again"),
        (264, 0.0, "camera 54138969: focal_length: got 0, expected more than 0; get the file"),
        (264 + 9 + 1, -5.0, "camera 55011271: focal_length: got -5, expected more than 0; get"),
        (264 + 8, np.nan, "camera 54138969: tangential is not finite; get the file again"),
    ],
)
def test_numbers_that_cannot_be(files, tmp_path, place, value, message):
    path = tmp_path / "metadata.xml"
    change = np.arange(300) == place
    path.write_text(files.metadata_xml(lambda numbers: np.where(change, value, numbers)))
    if message is None:
        assert len(cameras.read_metadata_xml(path, "S9")) == 4
        return
    with pytest.raises(UserError, match=f"^{re.escape(f'{path}: w0: S9, {message}')}"):
        cameras.read_metadata_xml(path, "S9")


def test_a_metadata_file_beyond_the_bound(tmp_path):
    path = tmp_path / "metadata.xml"
    with path.open("wb") as file:
        file.truncate(2**22 + 1)
    message = f"{path}: got 4,194,305 bytes unpacked, expected 0 to 4,194,304; get the file again"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        cameras.read_metadata_xml(path, "S1")


def test_metadata_without_the_subject(files, tmp_path):
    path = tmp_path / "metadata.xml"
    path.write_text(files.metadata_xml())
    message = f"{path}: w0 has no cameras for S2; get the file again"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        cameras.read_metadata_xml(path, "S2")
