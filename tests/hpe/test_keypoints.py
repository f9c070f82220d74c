"""Files of every layout that detectors write: read back equal, or refused in one line."""

import io
import json
import pathlib
import re
import warnings

import hypothesis
import numpy as np
import pytest
from detectors import (
    LAYOUTS,
    annotations,
    flat,
    instances,
    meta_of,
    mmpose,
    one_each,
    openpose,
    results,
    table,
    write,
    write_folder,
)
from hypothesis import strategies as st

from ige.data.npz import load_npz
from ige.errors import UserError
from ige.hpe.keypoints import read_keypoints
from ige.hpe.skeleton import Skeleton, get_skeleton

COCO = get_skeleton("coco_17")
HALPE = get_skeleton("halpe_26")
READ = (
    "OpenPose (--write_json), AlphaPose, MMPose (--save-predictions) or COCO JSON, or .json or "
    ".npz with keypoints (frames, joints, 3) and skeleton"
)
DETECTORS = (
    "expected the 2D keypoints found in it; run OpenPose (--write_json), AlphaPose or MMPose "
    "(--save-predictions) on it first and give their JSON to --input"
)


def refused(message, path, skeleton=None):
    with pytest.raises(UserError) as caught:
        read_keypoints(path, skeleton)
    assert str(caught.value) == message.replace("PATH", str(path))


def check(found, poses, skeleton):
    assert found.skeleton == get_skeleton(skeleton)
    np.testing.assert_array_equal(found.points, poses[..., :2])
    np.testing.assert_array_equal(found.scores, poses[..., 2])
    np.testing.assert_array_equal(found.frames, range(len(poses)))
    assert found.points.dtype == found.scores.dtype == np.float64


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_reads_back(tmp_path, name):
    skeleton, document = LAYOUTS[name]
    poses = table(get_skeleton(skeleton).num_joints)
    found = read_keypoints(write(tmp_path / "any name", document(poses)))
    assert found.format == name
    check(found, poses, skeleton)
    assert [re.sub(r"\D", "", frame) for frame in found.frame_names] == ["0", "1", "2"]
    assert (found.image_size, found.focal_length, found.center, found.frame_rate) == (None,) * 4


@pytest.mark.parametrize(
    ("skeleton", "label"),
    [("openpose_25", "BODY_25"), ("openpose_18", "COCO with 18 joints")],
)
@pytest.mark.parametrize("key", ["pose_keypoints_2d", "pose_keypoints"])
def test_openpose(tmp_path, skeleton, label, key):
    poses = table(get_skeleton(skeleton).num_joints)
    folder = write_folder(tmp_path / "out", [])
    for i, pose in enumerate(poses):
        write(folder / f"walk_{i:012d}_keypoints.json", openpose([pose], key=key))
    found = read_keypoints(folder)
    assert found.format == f"OpenPose JSON, {label}"
    assert found.frame_names == tuple(f"walk_{i:012d}" for i in range(3))
    assert found.ids is None
    check(found, poses, skeleton)
    single = read_keypoints(folder / "walk_000000000001_keypoints.json")
    check(single, poses[1:2], skeleton)
    assert single.frame_names == ("0",)


def test_openpose_joints_by_hand(tmp_path):
    """Joint i at (10 i + 1, 10 i + 2): the names are those of OpenPose's documentation."""
    pose = np.array([(10 * i + 1, 10 * i + 2, 0.5) for i in range(25)])
    pose[4] = 0  # right wrist
    found = read_keypoints(write(tmp_path / "a.json", openpose([pose])))
    where = dict(zip(found.skeleton.joints, found.points[0].tolist(), strict=True))
    assert where["nose"] == [1, 2]
    assert where["thorax"] == [11, 12]
    assert where["left_shoulder"] == [51, 52]
    assert where["pelvis"] == [81, 82]
    assert where["right_ankle"] == [111, 112]
    assert where["left_ear"] == [181, 182]
    assert where["right_heel"] == [241, 242]
    assert np.isnan(where["right_wrist"]).all()
    assert found.scores[0, 4] == 0


def test_cmu_form_of_alphapose(tmp_path):
    pose = table(18)[0]
    body = {"version": "AlphaPose v0.3", "bodies": [{"joints": flat(pose)}]}
    found = read_keypoints(write(tmp_path / "a", {"2.jpg": body}))
    check(found, pose[np.newaxis], "openpose_18")
    assert found.frame_names == ("2.jpg",)


@pytest.mark.parametrize(("count", "body"), [(133, COCO), (136, HALPE)])
def test_whole_bodies_begin_with_the_body(tmp_path, count, body):
    poses = table(count)
    found = read_keypoints(write(tmp_path / "a", results(one_each(poses))))
    check(found, poses[:, : body.num_joints], body.name)


def test_missing_frames_and_people_are_frames(tmp_path):
    poses = table(25, 2)
    folder = write_folder(tmp_path / "out", [])
    for number, people in {9: [poses[0]], 10: [], 12: [poses[1], 0 * poses[1]]}.items():
        write(folder / f"{number}_keypoints.json", openpose(people))
    write(folder / "13_keypoints.json", {"people": [{"pose_keypoints_2d": []}]})
    (folder / ".hidden.json").touch()
    (folder / "9_rendered.png").touch()
    found = read_keypoints(folder)
    assert found.frame_names == ("9", "10", "11", "12", "13")
    assert found.frames.tolist() == [0, 3]  # nobody is made of zeros
    np.testing.assert_array_equal(found.points, poses[..., :2])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["b2.jpg", "b10.jpg", "a3.jpg"], ["a3.jpg", "b2.jpg", "b10.jpg"]),
        (["10.jpg", "8.jpg"], ["8.jpg", "9.jpg", "10.jpg"]),
        (["010.jpg", "008.jpg"], ["008.jpg", "009.jpg", "010.jpg"]),
        # Twenty numbers, one of which is there: not a video.
        (["0.jpg", "20.jpg"], ["0.jpg", "20.jpg"]),
        (["0.jpg", "19.jpg"], [f"{i}.jpg" for i in range(20)]),
        (["1", "01"], ["1", "01"]),
        (["x", "99999999999999999999"], ["99999999999999999999", "x"]),
    ],
)
def test_order_of_frames(tmp_path, names, expected):
    poses = table(frames=len(names))
    entries = results(one_each(poses))
    for entry, name in zip(entries, names, strict=True):
        entry["image_id"] = name
    found = read_keypoints(write(tmp_path / "a", entries))
    assert list(found.frame_names) == expected
    for pose, name in zip(poses, names, strict=True):
        (row,) = np.flatnonzero(found.frames == expected.index(name))
        np.testing.assert_array_equal(found.points[row], pose[:, :2])


def test_coco_annotations(tmp_path):
    poses = table(frames=4)
    poses[..., 2] = 2
    poses[1, 5] = [7, 8, 1]
    poses[2, 6] = 0
    document = annotations([[poses[0]], [], [poses[1], poses[2]], [0 * poses[3]]])
    document["annotations"].append({"image_id": 0, "bbox": [1, 2, 3, 4]})
    found = read_keypoints(write(tmp_path / "a", document))
    assert found.format == "COCO JSON, COCO with 17 joints"
    assert found.frame_names == ("0.png", "1.png", "2.png", "3.png")
    assert found.frames.tolist() == [0, 2, 2]
    assert found.points[1, 5].tolist() == [7, 8]
    expected = np.ones((3, 17))
    expected[2, 6] = 0
    np.testing.assert_array_equal(found.scores, expected)
    np.testing.assert_array_equal(np.isnan(found.points[..., 0]), expected == 0)
    assert found.image_size is None


def test_size_and_order_of_coco_images(tmp_path):
    poses = table(frames=2)
    document = annotations(one_each(poses), width=640, height=480)
    assert read_keypoints(write(tmp_path / "a", document)).image_size == (640, 480)
    for frame_id, image in zip([5, 2], document["images"], strict=True):
        image["frame_id"] = frame_id
    found = read_keypoints(write(tmp_path / "a", document))
    assert found.frame_names == ("1.png", "0.png")
    np.testing.assert_array_equal(found.points, poses[::-1, :, :2])
    document["images"][0]["width"] = 641
    assert read_keypoints(write(tmp_path / "a", document)).image_size is None


@pytest.mark.parametrize(
    ("idx", "expected"),
    [
        ([3, 3, 4], [3, 3, 4]),
        ([3.0, [3.0], [[4.0], [5.0]]], [3, 3, 4]),
        ([3, 4, 4], None),  # twice in the second frame
        ([3, 4, -1], None),
        ([3, 4, "5"], None),
        ([3, 4, True], None),
        ([3, 4, 10**30], None),
        ([3, 4, []], None),
    ],
)
def test_ids(tmp_path, idx, expected):
    poses = table()
    entries = results([[poses[0]], [poses[1], poses[2]]])
    for entry, value in zip(entries, idx, strict=True):
        entry["idx"] = value
    found = read_keypoints(write(tmp_path / "a", entries))
    assert (None if found.ids is None else found.ids.tolist()) == expected


def test_ids_of_openpose_and_mmpose(tmp_path):
    poses = table(25, 2)
    tracked = openpose(poses)
    for person, id_ in zip(tracked["people"], (8, 9), strict=True):
        person["person_id"] = [id_]
    assert read_keypoints(write(tmp_path / "a", tracked)).ids.tolist() == [8, 9]
    # AlphaPose calls everybody 0 as long as it does not track.
    assert read_keypoints(write(tmp_path / "a", openpose(poses[:1], ids=[8]))).ids is None
    assert read_keypoints(write(tmp_path / "a", openpose(poses[:1], ids=[-1]))).ids is None
    entries = mmpose([table(frames=2)], {})["instance_info"]
    for id_, instance in enumerate(entries[0]["instances"], 5):
        instance["track_id"] = id_
    assert read_keypoints(write(tmp_path / "a", entries)).ids.tolist() == [5, 6]


def test_other_forms_of_mmpose(tmp_path):
    poses = table()
    single = read_keypoints(write(tmp_path / "a", instances(poses)))
    assert single.frames.tolist() == [0, 0, 0]
    demo = {"meta_info": {"dataset_name": "coco"}, "instance_info": instances(poses)}
    np.testing.assert_array_equal(read_keypoints(write(tmp_path / "a", demo)).points, single.points)
    lists = [instances(poses[:1]), [], instances(poses[1:])]
    assert read_keypoints(write(tmp_path / "a", lists)).frames.tolist() == [0, 2, 2]
    folder = tmp_path / "predictions"
    folder.mkdir()
    for name, document in {"b.json": lists[0], "c.json": [], "a.json": lists[2]}.items():
        write(folder / name, document)
    found = read_keypoints(folder)
    assert found.format == "MMPose JSON, COCO with 17 joints"
    assert found.frame_names == ("a", "b", "c")
    assert found.frames.tolist() == [0, 0, 1]


def test_own_layout_in_npz(tmp_path):
    poses = table(16)
    path = tmp_path / "no suffix"
    camera = {"image_size": [1000, 800], "focal_length": 1100, "center": [500.5, 400]}
    with path.open("wb") as file:
        np.savez(file, keypoints=poses[..., :2], skeleton="h36m_16", frame_rate=25, **camera)
    found = read_keypoints(path)
    check(found, np.concatenate([poses[..., :2], np.ones((3, 16, 1))], axis=-1), "h36m_16")
    assert found.image_size == (1000, 800)
    assert found.focal_length == (1100, 1100)
    assert found.center == (500.5, 400)
    assert found.frame_rate == 25
    document = {"keypoints": poses.tolist(), "frame_rate": 50, **camera}
    document["focal_length"] = [3, 4]
    other = read_keypoints(write(tmp_path / "a.json", document), "mpii_16")
    check(other, poses, "mpii_16")
    assert (other.focal_length, other.frame_rate) == ((3, 4), 50)


def test_confidence_0_is_missing_whatever_stands_there(tmp_path):
    poses = table(16)
    poses[1, 3] = [np.nan, np.inf, 0]
    poses[2, 4, 2] = -0.5
    found = read_keypoints(write(tmp_path / "a", {"keypoints": poses.tolist()}), "h36m_16")
    assert np.argwhere(np.isnan(found.points[..., 0])).tolist() == [[1, 3], [2, 4]]
    assert np.argwhere(found.scores == 0).tolist() == [[1, 3], [2, 4]]


def test_the_data_set_goes_before_the_names_of_its_joints(tmp_path):
    """Names of h36m's joints have had left and right exchanged."""
    exchanged = Skeleton("?", COCO.joints[::-1], (-1, *[0] * 16))
    path = write(tmp_path / "a", mmpose(one_each(table()), meta_of("coco", exchanged)))
    assert read_keypoints(path).skeleton == COCO


def test_several_videos_are_refused(tmp_path):
    document = annotations(one_each(table()))
    for i, image in enumerate(document["images"]):
        image |= {"frame_id": i, "video_id": f"v{i}"}
    refused(
        "PATH: got the images of 3 videos (v0, v1, v2), expected one; make a file of each",
        write(tmp_path / "a", document),
    )


def test_two_columns_say_by_zeros_what_is_missing(tmp_path):
    poses = table()[..., :2]
    poses[1, 3] = 0
    found = read_keypoints(
        write(tmp_path / "a", {"skeleton": "coco_17", "keypoints": poses.tolist()})
    )
    assert np.argwhere(np.isnan(found.points[..., 0])).tolist() == [[1, 3]]


@pytest.mark.parametrize(
    ("names", "video"),
    [
        (["1.jpg", "2.jpg", "4.jpg"], True),
        (["1.jpg", "500.jpg", "9000.jpg"], False),
        (["a", "b"], False),
    ],
)
def test_numbers_tell_a_video_from_images(tmp_path, names, video):
    entries = results(one_each(table(frames=len(names))))
    for entry, name in zip(entries, names, strict=True):
        entry["image_id"] = name
    assert read_keypoints(write(tmp_path / "a", entries)).video == video


def test_given_skeleton_goes_before_the_file(tmp_path):
    path = write(tmp_path / "a", mmpose(one_each(table()), {"dataset_name": "posetrack18"}))
    assert read_keypoints(path, "h36m_17").skeleton.name == "h36m_17"
    refused(
        "PATH: frame 1: meta_info: got the joints of 'posetrack18', expected those of coco, "
        "halpe26, mpii, h36m, coco_wholebody, halpe; set hpe.predict.skeleton to a skeleton with "
        "these joints",
        path,
    )
    refused(
        "PATH: frame 1: got 17 joints, expected the 16 of hpe.predict.skeleton = 'mpii_16'; set it "
        "to the skeleton of the detector",
        path,
        "mpii_16",
    )


def documents():
    """Message -> document of files that are refused."""
    unknown, infinite = results([[], table(26, 1)]), table(16)
    unknown[0]["keypoints"][6 * 3] = np.nan  # x of the seventh joint
    unknown[0]["keypoints"][6 * 3 + 1 : 7 * 3] = [2, 3]
    infinite[2, 3] = [4, np.inf, 1]
    changed = results(one_each(table()))
    changed[1]["keypoints"][4] = "5"
    truth = results(one_each(table()))
    truth[2]["keypoints"][4] = True
    shorter = results(one_each(table()))
    del shorter[2]["keypoints"][-3:]
    cut = results(one_each(table()))
    del cut[0]["keypoints"][-1]
    elsewhere = annotations(one_each(table()))
    elsewhere["annotations"][1]["image_id"] = 3
    renamed = annotations(one_each(table()))
    renamed["categories"][0]["keypoints"][0] = "snout"
    uneven = instances(table())
    del uneven[1]["keypoint_scores"][0]
    again = "get the file again"
    rerun = "run the detector again"
    return {
        "frame 1.jpg: right_shoulder: got nan, 2, 3, expected finite x, y and confidence; give "
        "missing joints confidence 0": unknown,
        "frame 2: left_hip: got 4, inf, 1, expected finite x, y and confidence; give missing "
        "joints confidence 0": {"skeleton": "h36m_16", "keypoints": infinite.tolist()},
        "frame 1.jpg: keypoints: got '5', expected numbers; " + rerun: changed,
        "frame 2.jpg: keypoints: got True, expected numbers; " + rerun: truth,
        "frame 2.jpg: keypoints: got 48 numbers, expected 51 as before; give files of one "
        "detector": shorter,
        "frame 0.jpg: keypoints: got 50 numbers, expected x, y, confidence; give files of one "
        "detector": cut,
        "got a number beyond float64; " + rerun: [{"image_id": 1, "keypoints": [10**400] * 51}],
        "annotation 1: image_id: got 3, expected the id of one of the images; " + again: elsewhere,
        "frame 0.png: categories: got a list of 17 other joints, expected those of COCO; set "
        "hpe.predict.skeleton to a skeleton with these joints": renamed,
        "got 17 keypoints and 16 keypoint_scores that are no pairs of [x, y] and a score; "
        + again: uneven,
        "got coordinates up to 0.5, expected pixels; run the detector without scaling its output "
        "(OpenPose: --keypoint_scale 0)": {
            "skeleton": "h36m_16",
            "keypoints": np.full((2, 16, 2), 0.5).tolist(),
        },
        "frame 0: got 15 joints, expected 25 (openpose_25), 18 (openpose_18); set "
        "hpe.predict.skeleton to a skeleton with these joints, or use another model of the "
        "detector": openpose(table(15)),
        "people: got None, expected a list; " + again: {"people": None},
        "pose_keypoints_2d: got nothing, expected a list; " + again: {"people": [{}]},
        "got 7, expected an object with pose_keypoints_2d; " + again: {"people": [7]},
        "got no person in any of 1 frames, expected one at least; lower the thresholds of the "
        "detector": {"people": []},
        "got no person in any of 3 frames, expected one at least; lower the thresholds of the "
        "detector": {"skeleton": "h36m_16", "keypoints": np.zeros((3, 16, 3)).tolist()},
        "got no person in any of 0 frames, expected one at least; lower the thresholds of the "
        "detector": [],
        f"got another layout, expected {READ}": {"poses": []},
        "got no person in any of 2 frames, expected one at least; lower the thresholds of the "
        "detector": [{"image_id": i, "keypoints": []} for i in range(2)],
        "frame 0: instances: got None, expected a list; " + again: [
            {"frame_id": 0, "instances": None}
        ],
        "result 1: image_id: got True, expected a number or a name; " + again: [
            {"image_id": "1", "keypoints": []},
            {"image_id": True, "keypoints": []},
        ],
        "keypoints: got a list of 2, expected numbers; save it as a plain array of floats": {
            "keypoints": [[[1, 2]], [[1, None]]],
            "skeleton": "coco_17",
        },
        "keypoints: got shape (1, 2), expected (frames, joints, 3) of x, y, confidence, or "
        "(frames, joints, 2)": {"keypoints": [[1, 2]], "skeleton": "coco_17"},
        "skeleton: got None, expected one of h36m_32, h36m_17, h36m_16, h36m_14, h36m_24, "
        "martinez_16, mpii_16, coco_17, openpose_25, openpose_18, halpe_26, eva_20, eva_16, "
        "eva_15, eva_14; put it into the file or set hpe.predict.skeleton": {
            "keypoints": [[[1, 2]]]
        },
        "skeleton: got 'coco_71'; did you mean coco_17?": {
            "keypoints": [[[1, 2]]],
            "skeleton": "coco_71",
        },
        "keypoints: got 1 joints, expected the 17 of skeleton coco_17; name the skeleton of the "
        "keypoints": {"keypoints": [[[1, 2]]], "skeleton": "coco_17"},
        "got focal_lenght; did you mean focal_length?": {"keypoints": [], "focal_lenght": 3},
        "focal_length: got a list of 2, expected 2 positive numbers; correct it": {
            "keypoints": table(17).tolist(),
            "skeleton": "coco_17",
            "focal_length": [5, -5],
        },
    }


@pytest.mark.parametrize(("message", "document"), documents().items())
def test_refused_documents(tmp_path, message, document):
    refused(f"PATH: {message}", write(tmp_path / "a.json", document))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b" \n", f"PATH: got an empty file, expected {READ}; run the detector again"),
        (
            b'{"people": [}',
            "PATH: got no valid JSON (Expecting value: line 1 column 13 (char 12)); run the "
            "detector again",
        ),
        (b"hello", f"PATH: got another layout, expected {READ}"),
        (b"[[1, 2], [3, 4]]", f"PATH: got another layout, expected {READ}"),
        (b"7", f"PATH: got another layout, expected {READ}"),
    ],
)
def test_refused_content(tmp_path, content, message):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    refused(message, path)


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.json", b"\xff\xd8\xff\xe0", "an image"),
        ("a.json", b"\x89PNG\r\n", "an image"),
        ("a.json", b"RIFF\1\1\1\1WEBP", "an image"),
        ("a.json", b"RIFF\1\1\1\1AVI ", "a video"),
        ("a.json", b"\0\0\0\x20ftypisom", "a video"),
        ("a.json", b"\x1a\x45\xdf\xa3", "a video"),
        ("a.mp4", b"\0\1", "a video"),
        ("a.MOV", b"\0\1", "a video"),
        ("a.mkv", b"\0\1", "a video"),
        ("a.webm", b"\0\1", "a video"),
        ("a.jpg", b"\0\1", "an image"),
    ],
)
def test_refused_media(tmp_path, name, content, kind):
    path = tmp_path / name
    path.write_bytes(content)
    refused(f"PATH: got {kind}, {DETECTORS}", path)


def test_content_goes_before_the_name(tmp_path):
    pose = table(25, 1)
    check(read_keypoints(write(tmp_path / "a.mp4", openpose(pose))), pose, "openpose_25")
    path = tmp_path / "a.png"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(openpose(pose)).encode())
    check(read_keypoints(path), pose, "openpose_25")


def test_refused_folders(tmp_path):
    folder = tmp_path / "out"
    refused(f"PATH: no such file or folder; give what a detector wrote: {READ}", folder)
    folder.mkdir()
    expected = "expected *.json of OpenPose or MMPose, one per frame"
    refused(f"PATH: got an empty folder, {expected}", folder)
    (folder / "notes.txt").touch()
    refused(f"PATH: got 1 other files, {expected}", folder)
    (folder / "a.jpg").touch()
    refused(f"PATH: got a folder of images or videos, {DETECTORS}", folder)
    write(folder / "1.json", openpose(table(25)))
    assert len(read_keypoints(folder).points) == 3
    write(folder / "2.json", instances(table()))
    one_frame = "expected one frame of one detector in each, as in 1.json; give one file, or a "
    one_frame += "folder of one detector's frames"
    for document, got in (
        (instances(table()), "MMPose JSON"),
        (results(one_each(table())), "the layout of a whole video, or another"),
    ):
        write(folder / "2.json", document)
        with pytest.raises(UserError) as caught:
            read_keypoints(folder)
        assert str(caught.value) == f"{folder / '2.json'}: got {got} among 2 files, {one_frame}"


def test_one_file_of_all_frames_in_a_folder(tmp_path):
    poses = table()
    write(tmp_path / "alphapose-results.json", results(one_each(poses)))
    check(read_keypoints(tmp_path), poses, "coco_17")


def test_refused_npz(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, keypoints=np.array([[None, {}]], object), skeleton="coco_17")
    refused(
        "PATH: keypoints: got an array of object, expected numbers; save it as a plain array of "
        "floats",
        path,
    )
    np.savez(path, keypoints=np.array([pathlib.PurePosixPath("a")], object))
    with pytest.raises(UserError, match=r"keypoints.npy: refused to unpickle: "):
        read_keypoints(path)
    np.savez(path, positions_2d=table())
    refused(f"PATH: got another layout, expected {READ}", path)
    np.savez(path, keypoints=table(), skeleton="coco_17")
    path.write_bytes(path.read_bytes()[:-30])
    refused("PATH: cannot be read: File is not a zip file; get the file again", path)


@pytest.mark.parametrize(
    "content",
    [b"[" * 100_000, b"[" + b"9" * 5000 + b"]", b'{"keypoints":' + b"[" * 900 + b"]" * 900],
)
def test_hostile_json(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    assert not outcome(path)


def outcome(path, skeleton=None):
    """Returns whether a file is read; fails unless it is, or one line says why not."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            found = read_keypoints(path, skeleton)
        except UserError as error:
            told = str(error)
        else:
            people, joints = found.scores.shape
            assert found.points.shape == (people, joints, 2)
            assert joints == found.skeleton.num_joints
            missing = found.scores == 0
            assert not missing.all(axis=1).any()
            np.testing.assert_array_equal(
                np.isfinite(found.points), ~missing[..., None] & [True] * 2
            )
            assert (np.diff(found.frames) >= 0).all()
            assert 0 <= found.frames.min() <= found.frames.max() < len(found.frame_names)
            return True
    assert told.startswith(str(path))
    assert told.isprintable()
    return False


def valid_documents():
    poses = table(frames=2)
    documents = [
        document(table(get_skeleton(name).num_joints, 2)) for name, document in LAYOUTS.values()
    ]
    return [*documents, openpose(table(25)), annotations(one_each(poses)), instances(poses)]


def spots(document, trail=()):
    """Yields the way to every value inside a document, of long lists to the first three."""
    yield trail
    if isinstance(document, dict):
        for key, value in document.items():
            yield from spots(value, (*trail, key))
    elif isinstance(document, list):
        for index, value in enumerate(document[:3]):
            yield from spots(value, (*trail, index))


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS | st.sampled_from([10**400, "\n", -1, 2**70]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@hypothesis.given(data=st.data())
@hypothesis.settings(
    derandomize=True,
    deadline=None,
    max_examples=250,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
def test_altered_documents(tmp_path, data):
    document = json.loads(json.dumps(data.draw(st.sampled_from(valid_documents()))))
    for _ in range(data.draw(st.integers(1, 2))):
        *way, last = data.draw(st.sampled_from(list(spots(document))[1:]))
        inner = document
        for step in way:
            inner = inner[step]
        if data.draw(st.booleans()):
            inner[last] = data.draw(VALUES)
        elif isinstance(inner, dict):
            inner[data.draw(st.text(max_size=5))] = inner.pop(last)
        else:
            del inner[last]
        if not document:
            break
    outcome(write(tmp_path / "a.json", document))


@pytest.mark.parametrize("index", range(len(valid_documents())))
def test_altered_bytes(tmp_path, index, rng):
    path = write(tmp_path / "a.json", valid_documents()[index])
    assert outcome(path)
    valid = np.frombuffer(path.read_bytes(), np.uint8)
    for _ in range(40):
        changed = valid.copy()
        changed[rng.integers(len(valid), size=3)] = rng.integers(256, size=3)
        path.write_bytes(changed[: rng.integers(len(valid))] if rng.random() < 0.2 else changed)
        outcome(path)


@pytest.mark.parametrize("seed", range(3))
def test_altered_npz(tmp_path, seed):
    stream = io.BytesIO()
    np.savez(stream, keypoints=table(17), skeleton="coco_17", focal_length=1000.0)
    valid = np.frombuffer(stream.getvalue(), np.uint8)
    rng = np.random.default_rng(seed)
    path = tmp_path / "a.npz"
    for _ in range(60):
        changed = valid.copy()
        changed[rng.integers(len(valid), size=2)] = rng.integers(256, size=2)
        path.write_bytes(changed)
        outcome(path)


@pytest.mark.real_data
def test_mpii_people_out_and_back(real_data, tmp_path):
    """COCO's and OpenPose's joints of annotated people, through files of both."""
    mpii = get_skeleton("mpii_16")
    people = json.loads((real_data / "mpii" / "valid.json").read_bytes())
    shared = [joint for joint in mpii.joints if joint in COCO.joints]
    assert len(shared) == 12
    poses = np.zeros((len(people), 17, 3))
    body = np.zeros((len(people), 25, 3))
    openpose_25 = get_skeleton("openpose_25")
    for i, person in enumerate(people):
        for j, joint in enumerate(mpii.joints):
            value = [*person["joints"][j], 1] if person["joints_vis"][j] else [0, 0, 0]
            if joint in shared:
                poses[i, COCO.index(joint)] = value
            if joint in openpose_25.joints:
                body[i, openpose_25.index(joint)] = value
    poses[..., 2] *= 2  # labelled and visible
    document = annotations(one_each(poses))
    coco = read_keypoints(write(tmp_path / "a.json", document))
    folder = read_keypoints(write_folder(tmp_path / "out", one_each(body)))
    assert len(coco.points) == len(folder.points) == len(people)
    truth = np.array([person["joints"] for person in people])
    for joint in shared:
        seen = np.array([person["joints_vis"][mpii.index(joint)] for person in people]) > 0
        assert seen.any()
        for found in (coco, folder):
            points = found.points[:, found.skeleton.index(joint)]
            np.testing.assert_array_equal(points[seen], truth[seen, mpii.index(joint)])
            assert np.isnan(points[~seen]).all()


@pytest.mark.real_data
@pytest.mark.parametrize("name", LAYOUTS)
def test_recordings_out_and_back(real_data, tmp_path, name):
    """Projected motion capture is what it was; joints that it lacks are missing."""
    archive = load_npz(real_data / "h3m" / "data_2d_h36m_gt.npz")["positions_2d"]
    recording = np.asarray(next(iter(archive["S9"].values()))[0], np.float64)
    h36m, skeleton = get_skeleton("h36m_17"), get_skeleton(LAYOUTS[name][0])
    shared = [joint for joint in skeleton.joints if joint in h36m.joints]
    mine = [skeleton.index(joint) for joint in shared]
    poses = np.zeros((len(recording), skeleton.num_joints, 3))
    poses[:, mine, :2] = recording[:, [h36m.index(joint) for joint in shared]]
    poses[:, mine, 2] = 1
    found = read_keypoints(write(tmp_path / "a.json", LAYOUTS[name][1](poses)))
    np.testing.assert_array_equal(found.points[:, mine], poses[:, mine, :2])
    np.testing.assert_array_equal(found.scores, poses[..., 2])
    assert len(shared) >= 13
