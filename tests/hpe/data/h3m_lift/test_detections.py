import re

import numpy as np
import pytest

from ige.data.builds import MissingFilesError
from ige.errors import UserError
from ige.hpe.data.h3m_lift import detections

FOLDERS = {"hourglass": "StackedHourglass", "finetuned": "StackedHourglassFineTuned240"}


def _write_hourglass(files, place, kind, folder):
    """Puts the detections where one of the releases has them."""
    entries = files.hourglass_entries(FOLDERS[kind], extra=1)
    if place == "zip":
        files.write_zip(folder / "h36m.zip", entries)
    elif place == "zip-inside-poses":
        inside = {name.replace("/", "/MyPoses/3D_positions/", 1): e for name, e in entries.items()}
        files.write_zip(folder / "h36m.zip", inside)
    elif place == "tree":
        files.write_tree(folder / "h36m", entries)
    else:
        top = {f"h36m/{name}": data for name, data in entries.items()}
        files.write_tar(folder / detections.HOURGLASS_ARCHIVES[kind], top)


@pytest.mark.parametrize("kind", FOLDERS)
@pytest.mark.parametrize("place", ["zip", "zip-inside-poses", "tree", "tar"])
def test_hourglasses_wherever_they_are(files, tmp_path, place, kind):
    _write_hourglass(files, place, kind, tmp_path)
    found = detections.find_hourglass(tmp_path, kind)
    found.load()
    assert found.name == kind
    assert found.skeleton.name == "mpii_16"
    assert len(found.keys()) == 11 * 4
    got = found.read(("S1", "WalkDog", "58860488"), frames=3)
    np.testing.assert_array_equal(got, files.keypoints_of("S1", "WalkingDog", "58860488", 16))
    assert got.dtype == np.float32
    got = found.read(("S9", "Walking 10", "60457274"), frames=5)
    np.testing.assert_array_equal(got, files.keypoints_of("S9", "Walking 10", "60457274", 16))
    found.close()


def test_the_two_kinds_are_not_mixed_up(files, tmp_path):
    _write_hourglass(files, "tree", "finetuned", tmp_path)
    message = (
        f"keypoints = 'hourglass': no S*/StackedHourglass/*.h5 in {tmp_path}; put an h36m.zip that "
        "has them, stacked_hourglass.tar.gz, or the extracted folder there, or set "
        "keypoints = 'projection'"
    )
    with pytest.raises(MissingFilesError, match=f"^{re.escape(message)}$"):
        detections.find_hourglass(tmp_path, "hourglass")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (
            "S9/StackedHourglass/Walking_2.54138969.h5",
            lambda files: files.h5_bytes(poses=np.zeros((2, 16, 2))),
            "keypoints: got 2 frames, expected at least the 3 of the poses and at most 109; get "
            "the file again",
        ),
        (
            "S9/StackedHourglass/Walking_2.54138969.h5",
            lambda files: files.h5_bytes(poses=np.zeros((3, 17, 2))),
            "keypoints: got shape (3, 17, 2), expected (frames, 16, 2); get the file again",
        ),
        (
            "S9/StackedHourglass/Walking_2.54138969.h5",
            lambda files: files.h5_bytes(poses=np.full((3, 16, 2), np.inf)),
            "keypoints: frame 0 is not finite (3 of 3 frames); get the file again",
        ),
        (
            "S9/StackedHourglass/Walking_2.54138969.h5",
            lambda files: files.h5_bytes(pose=np.zeros((3, 16, 2))),
            "'poses' is missing; get the file again",
        ),
        (
            "S9/StackedHourglass/Walking_2.1234.h5",
            lambda files: b"",
            "camera: got 1234, expected one of 54138969, 55011271, 58860488, 60457274; remove it",
        ),
        (
            "S9/StackedHourglass/Walking 2.54138969.h5",
            lambda files: b"",
            "S9 Walking 2 54138969 is also in h36m/S9/StackedHourglass/Walking_2.54138969.h5; "
            "remove one of them",
        ),
    ],
)
def test_spoilt_hourglass(files, tmp_path, name, data, message):
    entries = files.hourglass_entries("StackedHourglass")
    files.write_zip(tmp_path / "h36m.zip", entries | {name: data(files)})
    found = detections.find_hourglass(tmp_path, "hourglass")
    expected = f"{tmp_path}/h36m.zip: h36m/{name}: {message}"
    with pytest.raises(UserError, match=f"^{re.escape(expected)}$"):  # noqa: PT012
        found.load()
        found.read(("S9", "Walking 2", "54138969"), frames=3)


def test_videopose3d_archives(files, tmp_path):
    files.write_detections(tmp_path / "data_2d_h36m_cpn_ft_h36m_dbb.npz", extra=2)
    found = detections.find_detections(tmp_path, "cpn_ft_h36m_dbb")
    found.load()
    assert found.name == "cpn_ft_h36m_dbb"
    assert found.skeleton.name == "h36m_17"
    assert len(found.keys()) == 11 * 4
    got = found.read(("S1", "Photo 1", "55011271"), frames=4)
    np.testing.assert_array_equal(got, files.keypoints_of("S1", "TakingPhoto 1", "55011271", 17))


COCO_SIDES = [[1, 3, 5, 7, 9, 11, 13, 15], [2, 4, 6, 8, 10, 12, 14, 16]]
MPII_SIDES = [[3, 4, 5, 13, 14, 15], [0, 1, 2, 10, 11, 12]]
H36M_SIDES = [[4, 5, 6, 11, 12, 13], [1, 2, 3, 14, 15, 16]]


@pytest.mark.parametrize(
    ("metadata", "name"),
    [
        ({"num_joints": 17, "keypoints_symmetry": H36M_SIDES}, "h36m_17"),
        ({"num_joints": 17, "keypoints_symmetry": COCO_SIDES}, "coco_17"),
        ({"num_joints": 16, "keypoints_symmetry": MPII_SIDES}, "mpii_16"),
        ({"num_joints": 16, "keypoints_symmetry": [s[::-1] for s in MPII_SIDES]}, "mpii_16"),
        ({"layout_name": "coco", "num_joints": 17}, "coco_17"),
        ({"layout_name": "h36m", "num_joints": 17, "keypoints_symmetry": H36M_SIDES}, "h36m_17"),
        ({"layout_name": "mpii"}, "mpii_16"),
    ],
)
def test_skeleton_of_metadata(metadata, name):
    assert detections.skeleton_of(metadata, "here").name == name


@pytest.mark.parametrize(
    ("metadata", "saw"),
    [
        (None, "layout_name None, num_joints None, keypoints_symmetry None"),
        (
            {"layout_name": "humaneva15", "num_joints": 15},
            "layout_name 'humaneva15', num_joints 15",
        ),
        ({"layout_name": "coco", "num_joints": 18}, "layout_name 'coco', num_joints 18"),
        (
            {"num_joints": 17, "keypoints_symmetry": H36M_SIDES[::-1]},
            "num_joints 17, keypoints_symmetry [[1, 2, 3, 14, 15, 16], [4, 5, 6, 11, 12, 13]]",
        ),
    ],
)
def test_unknown_skeletons_say_what_they_are(metadata, saw):
    with pytest.raises(UserError, match=re.escape(saw)) as caught:
        detections.skeleton_of(metadata, "a.npz: metadata")
    assert str(caught.value).startswith("a.npz: metadata: got layout_name ")
    assert str(caught.value).endswith(
        "expected those of h36m_17, coco_17, mpii_16; convert the file"
    )


def test_three_cameras_are_refused(files, tmp_path):
    path = tmp_path / "data_2d_h36m_x.npz"
    views = [np.zeros((3, 17, 2))] * 3
    files.write_npz(path, positions_2d={"S9": {"Walking": views}}, metadata=files.H36M_METADATA)
    message = (
        f"{path}: positions_2d['S9']['Walking']: got 3 cameras, expected 4; get the file again"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        detections.find_detections(tmp_path, "x").load()


def test_choosing_among_archives(files, tmp_path):
    message = (
        f"keypoints = 'detections': no data_2d_h36m_NAME.npz in {tmp_path}; put one there, such as "
        "data_2d_h36m_cpn_ft_h36m_dbb.npz, or set keypoints = 'projection'"
    )
    with pytest.raises(MissingFilesError, match=f"^{re.escape(message)}$"):
        detections.choose_detections([], tmp_path)
    assert detections.choose_detections(["gt"], tmp_path) == "gt"
    message = f"detections: got None with 2 files in {tmp_path}; set it to one of 'a', 'b'"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        detections.choose_detections(["b", "a"], tmp_path)
    files.write_detections(tmp_path / "data_2d_h36m_gt.npz")
    message = f"detections = 'gtt': no data_2d_h36m_gtt.npz in {tmp_path}; did you mean gt?"
    with pytest.raises(MissingFilesError, match=f"^{re.escape(message)}$"):
        detections.find_detections(tmp_path, "gtt")
