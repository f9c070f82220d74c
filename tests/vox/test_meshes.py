import numpy as np
import pytest

from ige.vox import meshes
from ige.vox.meshes import RefusedError, read_obj

TRIANGLE = b"v 0 0 0\nv 0.25 0 0\nv 0 0.5 0\n"
MATERIALS = {
    "model.mtl": b"newmtl red\nKd 1 0 0\nnewmtl blue\nKd 0 0 .5\nmap_Kd ../../etc/passwd\n"
}


def test_a_triangle():
    mesh = read_obj(TRIANGLE + b"f 1 2 3\n", {})
    np.testing.assert_array_equal(
        mesh.vertices[mesh.faces[0]], [[0, 0, 0], [0.25, 0, 0], [0, 0.5, 0]]
    )
    assert (mesh.vertices.dtype, mesh.faces.dtype, mesh.colours.dtype) == (float, int, np.uint8)
    assert len(np.unique(mesh.colours)) == 1  # grey


@pytest.mark.parametrize("name", [b"model.mtl", b"./model.mtl"])
def test_colours_of_materials(name):
    obj = (
        b"mtllib "
        + name
        + b"\n"
        + TRIANGLE
        + b"v 0 0 0.5\nusemtl red\nf 1 2 3\nusemtl blue\nf 3 2 4\nf 2 3 4\n"
    )
    mesh = read_obj(obj, MATERIALS)
    colours = sorted(map(tuple, mesh.colours.tolist()))
    assert colours == [(0, 0, 128), (0, 0, 128), (255, 0, 0)]
    reds = mesh.faces[mesh.colours[:, 0] == 255]
    np.testing.assert_array_equal(mesh.vertices[reds[0]], [[0, 0, 0], [0.25, 0, 0], [0, 0.5, 0]])
    corners = mesh.vertices[mesh.faces[mesh.colours[:, 2] == 128]]
    second, third, fourth = [0.25, 0, 0], [0, 0.5, 0], [0, 0, 0.5]
    expected = [[third, second, fourth], [second, third, fourth]]
    np.testing.assert_array_equal(corners, expected)


def test_polygons_and_textures():
    square = TRIANGLE + b"v .25 .5 0\nvt 0 0\nvn 0 0 1\nf 1/1/1 2/1/1 4/1/1 3/1/1\n"
    mesh = read_obj(square, {})
    corners = mesh.vertices[mesh.faces]
    area = np.linalg.norm(
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
    )
    assert len(mesh.faces) == 2
    assert area.sum() / 2 == 0.125


@pytest.mark.parametrize(
    ("obj", "reason"),
    [
        (b"", "has no faces"),
        (TRIANGLE, "has no faces"),
        (b"\x89PNG\r\n\0\0", "has no faces"),
        (b"f 1 2 3\n", "has no faces"),
        (TRIANGLE + b"f 1 2 9\n", None),
        (TRIANGLE + b"f 1 2 3\nf 1 2 0", "has faces without vertices"),
        (TRIANGLE + b"f 00/1/1 2/1/1 3/1/1\n", "has faces without vertices"),
        (
            TRIANGLE + b"f 1 2 3\nv 0 0 0.5\nf -1 1 2\n",
            "counts vertices backwards where more follow",
        ),
        (TRIANGLE.replace(b"0.25", b"nan") + b"f 1 2 3\n", "has vertices that are not finite"),
        (TRIANGLE.replace(b"0.25", b"1e999") + b"f 1 2 3\n", "has vertices that are not finite"),
        (TRIANGLE.replace(b"0.25", b"7") + b"f 1 2 3\n", "is outside the cube from -0.5 to 0.5"),
        (TRIANGLE.replace(b"0.25", b"x") + b"f 1 2 3\n", None),
        (TRIANGLE + b"f 1 2 1\n", "has no face with an area"),
        (TRIANGLE + b"f 1 2\n", None),
    ],
)
def test_what_cannot_be_used_is_refused(obj, reason):
    with pytest.raises(RefusedError) as caught:
        read_obj(obj, {})
    known = {"cannot be read", "has faces without vertices", "has no faces", reason}
    assert caught.value.reason == reason if reason else caught.value.reason in known
    assert str(caught.value).startswith(caught.value.reason)
    assert str(caught.value).isprintable()


def test_vertices_counted_backwards_from_the_last():
    mesh = read_obj(TRIANGLE + b"f -1 1 -2\n", {})
    np.testing.assert_array_equal(
        mesh.vertices[mesh.faces[0]], [[0, 0.5, 0], [0, 0, 0], [0.25, 0, 0]]
    )


@pytest.mark.parametrize("vertex", [b"v nan 0 0\n", b"v 9 9 9\n"])
@pytest.mark.parametrize("face", [b"f 1 2 3\n", b"vt 0 0\nvn 0 0 1\nf 1/1/1 2/1/1 3/1/1\n"])
def test_vertices_of_no_face_do_not_matter(vertex, face):
    np.testing.assert_array_equal(
        np.abs(read_obj(TRIANGLE + vertex + face, {}).vertices).max(axis=0), [0.25, 0.5, 0]
    )


def test_files_round():
    assert read_obj(TRIANGLE.replace(b"0.5", b"0.509") + b"f 1 2 3\n", {}).vertices.max() == 0.509
    with pytest.raises(RefusedError, match=r"^is outside .*: a coordinate is 0\.511$"):
        read_obj(TRIANGLE.replace(b"0.5", b"0.511") + b"f 1 2 3\n", {})


def test_textures_and_normals_may_be_zero():
    assert len(read_obj(TRIANGLE + b"f 1/0/0 2/0/0 3/0/0\n", {}).faces) == 1


def test_a_mark_of_utf_8_is_left_out():
    assert len(read_obj(b"\xef\xbb\xbf" + TRIANGLE + b"f 1 2 3\n", {}).vertices) == 3


@pytest.mark.parametrize(
    ("name", "bound", "message"),
    [
        ("MAX_FACES", 3, "has too many faces: got 4, expected at most 3"),
        ("MAX_MATERIALS", 1, "has too many materials: got 2, expected at most 1"),
    ],
)
def test_how_much_a_file_may_have(monkeypatch, name, bound, message):
    obj = TRIANGLE + b"usemtl a\nf 1 2 3\nf 1 2 3\nusemtl b\nf 1 2 3\nusemtl a\nf 1 2 3\n"
    monkeypatch.setattr(meshes, name, bound + 1)
    assert len(read_obj(obj, {}).faces) == 4
    monkeypatch.setattr(meshes, name, bound)
    with pytest.raises(RefusedError, match=f"^{message}$"):
        read_obj(obj, {})
