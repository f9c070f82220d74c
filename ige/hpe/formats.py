"""The JSON layouts in which detectors of 2D keypoints write what they found.

They are told apart by their content. Numbers are taken over as they stand in the file; whoever
calls converts and checks them in bulk.
"""

import dataclasses
import re
from typing import Any, NamedTuple

from ige.data.damage import one_line
from ige.errors import UserError
from ige.hpe.skeleton import SKELETONS

OPENPOSE = {25: "openpose_25", 18: "openpose_18"}
"""Joints per person -> skeleton, in OpenPose's files."""

COMMON = {17: "coco_17", 26: "halpe_26", 133: "coco_17", 136: "halpe_26"}
"""Joints per person -> skeleton, elsewhere. Whole bodies (133, 136) begin with the body."""

_DATASETS = {"coco": "coco_17", "halpe26": "halpe_26", "mpii": "mpii_16", "h36m": "h36m_17"}
_DATASETS |= {"coco_wholebody": "coco_17", "halpe": "halpe_26"}
_ALIASES = {"neck": "thorax", "hip": "pelvis", "root": "pelvis", "head": "head_top"}
_PARTS = ("pose_keypoints_2d", "pose_keypoints", "joints")
_KINDS = {list: "a list", dict: "an object", str: "a text", (int, str): "a number or a name"}
# Numbers of frames are those of a video if at least one in so many is there.
_SPARSEST = 10


class Person(NamedTuple):
    """One person of a frame, as the file has it.

    Attributes:
        values: x, y, confidence of every joint in a row; unchecked.
        id: what the file calls the person, None if it does not.
    """

    values: list
    id: int | None = None


@dataclasses.dataclass
class Detections:
    """What a document holds.

    Attributes:
        format: said to the user: 'OpenPose JSON'.
        frames: (name, people) of every frame, in order.
        skeletons: joints per person -> name of the skeleton.
        reason: why the skeleton is not known, if the file names joints that are not known.
        visibility: whether 0, 1, 2 (not there, hidden, visible) stand for confidences.
        image_size: width and height of all images.
        video: whether the frames are those of a video, one after the other.
    """

    format: str
    frames: list[tuple[str, list[Person]]]
    skeletons: dict[int, str]
    reason: str = ""
    visibility: bool = False
    image_size: tuple[float, float] | None = None
    video: bool = True


def shown(value: Any) -> str:
    """Returns a value of a JSON file for a message: cut short, on one line."""
    if isinstance(value, list | dict):
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value)}"
    return one_line(repr(value)[:40])


def at(path: str, name: str) -> str:
    """Returns where in a file a frame is, for a message."""
    return f"{path}: frame {name if name.isprintable() and len(name) < 100 else one_line(name)}"


def _member(record: Any, key: str, kind: Any, where: str) -> Any:
    """Returns record[key].

    Raises:
        UserError: the record is no object, or has nothing of this kind there.
    """
    if not isinstance(record, dict):
        raise UserError(
            f"{where}: got {shown(record)}, expected an object with {key}; get the file again"
        )
    value = record.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        got = shown(value) if key in record else "nothing"
        raise UserError(f"{where}: {key}: got {got}, expected {_KINDS[kind]}; get the file again")
    return value


def _id(value: Any) -> int | None:
    """Returns a track id, None if it is none. AlphaPose puts it into lists, for merged people of
    several; OpenPose writes [-1] where it does not track."""
    while isinstance(value, list) and value:
        value = value[0]
    known = type(value) in (int, float) and 0 <= value < 2**53 and value == int(value)
    return int(value) if known else None


def _add(people: list[Person], values: list, id_: Any) -> None:
    """Adds a person, unless the file has the person without any joints: a box alone."""
    if values:
        people.append(Person(values, _id(id_)))


def _number(name: str) -> re.Match | None:
    """Matches what is before, in and after the last number in the name of a frame."""
    return re.fullmatch(r"(.*?)([0-9]{1,15})([^0-9]*)", name, re.DOTALL)


def _natural(name: str) -> list:
    parts = re.split(r"([0-9]{1,15})", name)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)]


def in_order(frames: dict[str, list[Person]]) -> tuple[list[tuple[str, list[Person]]], bool]:
    """Returns named frames in natural order, and whether they are those of a video.

    Where names differ by a number alone they are frames of a video, and those without a file or an
    entry, in between, come without a person. If fewer than a tenth are there, they are images.
    """
    matches = {name: _number(name) for name in frames}
    around = {match and (match[1], match[3]) for match in matches.values()}
    if len(around) == 1 and None not in around:
        by_number = {int(match[2]): name for name, match in matches.items()}
        first, last = min(by_number), max(by_number)
        if len(by_number) == len(frames) and last - first < _SPARSEST * len(frames):
            (before, after), width = around.pop(), len(matches[by_number[first]][2])
            names = [
                by_number.get(n, f"{before}{n:0{width}}{after}") for n in range(first, last + 1)
            ]
            return [(name, frames.get(name, [])) for name in names], True
    return sorted(frames.items(), key=lambda frame: _natural(frame[0])), len(frames) == 1


def _openpose_people(document: dict, where: str) -> list[Person]:
    key = "people" if "people" in document else "bodies"
    people = []
    for person in _member(document, key, list, where):
        part = next((part for part in _PARTS if isinstance(person, dict) and part in person), "")
        values = _member(person, part or _PARTS[0], list, where)
        _add(people, values, person.get("person_id"))
    return people


def _mmpose_people(instances: list, where: str) -> list[Person]:
    people = []
    for instance in instances:
        points = _member(instance, "keypoints", list, where)
        scores = _member(instance, "keypoint_scores", list, where)
        try:
            values = [v for (x, y), s in zip(points, scores, strict=True) for v in (x, y, s)]
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{where}: got {len(points)} keypoints and {len(scores)} keypoint_scores that are "
                "no pairs of [x, y] and a score; get the file again"
            ) from error
        _add(people, values, instance.get("track_id"))
    return people


def _is_openpose(document: Any) -> bool:
    return isinstance(document, dict) and not document.keys().isdisjoint(("people", "bodies"))


def _has(record: Any, *keys: str) -> bool:
    return isinstance(record, dict) and record.keys() >= set(keys)


def read_frame(document: Any, where: str) -> tuple[str, list[Person]] | None:
    """Returns format and people of a document that holds one frame, None if it does not.

    A frame without a person may be of any format: ''.

    Raises:
        UserError: it is not as its layout has it.
    """
    if _is_openpose(document):
        return "OpenPose JSON", _openpose_people(document, where)
    if document == []:
        return "", []
    if isinstance(document, list) and _has(document[0], "keypoints", "keypoint_scores"):
        return "MMPose JSON", _mmpose_people(document, where)
    return None


def of_frames(
    format_: str, frames: list[tuple[str, list[Person]]], video: bool = True
) -> Detections:
    """Returns the detections of single frames."""
    skeletons = OPENPOSE if format_ == "OpenPose JSON" else COMMON
    return Detections(format_, frames, skeletons, video=video)


def _named(names: Any) -> str | None:
    """Returns the skeleton whose joints are called so, None if there is none."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    joints = [name.strip().lower().replace(" ", "_") for name in names]
    joints = tuple(_ALIASES.get(joint, joint) for joint in joints)
    return next((name for name, s in SKELETONS.items() if s.joints == joints), None)


def _mmpose_skeletons(meta: Any) -> tuple[dict[int, str], str]:
    """Returns joints per person -> skeleton by what `meta_info` says, or {} and why not.

    The data set goes before the names of the joints: those of h36m have had left and right
    exchanged, while its joints have always been in Human3.6M's order.
    """
    meta = meta if isinstance(meta, dict) else {}
    dataset, names = meta.get("dataset_name"), meta.get("keypoint_id2name")
    if dataset is None and names is None:
        return COMMON, ""
    name = _DATASETS.get(dataset) if isinstance(dataset, str) else None
    if isinstance(names, dict):
        name = name or _named(list(names.values()))
    if name is None:
        known = ", ".join(_DATASETS)
        return {}, f"meta_info: got the joints of {shown(dataset)}, expected those of {known}"
    whole = {count: name for count, body in COMMON.items() if body == name}
    return whole | {SKELETONS[name].num_joints: name}, ""


def _mmpose(document: Any, path: str) -> Detections:
    meta, entries = None, document
    if isinstance(document, dict):
        meta, entries = document.get("meta_info"), _member(document, "instance_info", list, path)
    skeletons = _mmpose_skeletons(meta)
    if entries and _has(entries[0], "keypoints"):
        return Detections("MMPose JSON", [("0", _mmpose_people(entries, path))], *skeletons)
    frames: dict[str, list[Person]] = {}
    for i, entry in enumerate(entries):
        name, instances = str(i), entry
        if not isinstance(entry, list):
            instances = _member(entry, "instances", list, f"{path}: frame {i}")
            if "frame_id" in entry:
                name = str(_member(entry, "frame_id", (int, str), f"{path}: frame {i}"))
        frames.setdefault(name, []).extend(_mmpose_people(instances, at(path, name)))
    ordered, video = in_order(frames)
    return Detections("MMPose JSON", ordered, *skeletons, video=video)


def _results(document: list, path: str) -> Detections:
    """COCO's results, and AlphaPose's, which name their images and call the track id idx."""
    frames: dict[str, list[Person]] = {}
    for i, result in enumerate(document):
        name = str(_member(result, "image_id", (int, str), f"{path}: result {i}"))
        values = _member(result, "keypoints", list, at(path, name))
        _add(frames.setdefault(name, []), values, result.get("track_id", result.get("idx")))
    is_alphapose = isinstance(document[0]["image_id"], str) or "idx" in document[0]
    name = "AlphaPose JSON" if is_alphapose else "COCO results JSON"
    ordered, video = in_order(frames)
    return Detections(name, ordered, COMMON, video=video)


def _alphapose(document: dict, path: str) -> Detections:
    """AlphaPose's `--format open` and `cmu`: the people of OpenPose's 18 joints by image."""
    frames = {name: _openpose_people(frame, at(path, name)) for name, frame in document.items()}
    ordered, video = in_order(frames)
    return Detections("AlphaPose JSON", ordered, OPENPOSE, video=video)


def _annotations(document: dict, path: str) -> Detections:
    """COCO's annotations: all images, in the order of the video if they are of one."""
    images = _member(document, "images", list, path)
    ids = [_member(image, "id", (int, str), f"{path}: images") for image in images]
    people: dict[int | str, list[Person]] = {id_: [] for id_ in ids}
    for i, entry in enumerate(_member(document, "annotations", list, path)):
        image = _member(entry, "image_id", (int, str), f"{path}: annotation {i}")
        if image not in people:
            raise UserError(
                f"{path}: annotation {i}: image_id: got {shown(image)}, expected the id of one of "
                "the images; get the file again"
            )
        if "keypoints" in entry:
            values = _member(entry, "keypoints", list, f"{path}: annotation {i}")
            _add(people[image], values, entry.get("track_id"))
    videos = dict.fromkeys(str(image.get("video_id")) for image in images)
    if len(videos) > 1:
        raise UserError(
            f"{path}: got the images of {len(videos)} videos ({', '.join(list(videos)[:5])}), "
            "expected one; make a file of each"
        )
    video = all(type(image.get("frame_id")) is int for image in images)
    if video:
        images = sorted(images, key=lambda image: image["frame_id"])
    names = [image.get("file_name", image["id"]) for image in images]
    frames = [(str(n), people[i["id"]]) for n, i in zip(names, images, strict=True)]
    sizes = {_size(image.get("width"), image.get("height")) for image in images}
    size = sizes.pop() if len(sizes) == 1 else None
    return Detections("COCO JSON", frames, *_category_skeletons(document), True, size, video)


def _size(width: Any, height: Any) -> tuple[float, float] | None:
    known = all(type(side) in (int, float) and 0 < side < 2**31 for side in (width, height))
    return (float(width), float(height)) if known else None


def _category_skeletons(document: dict) -> tuple[dict[int, str], str]:
    """Returns joints per person -> skeleton by the names in `categories`, or {} and why not."""
    categories = document.get("categories")
    for category in categories if isinstance(categories, list) else ():
        names = category.get("keypoints") if isinstance(category, dict) else None
        if names:
            name = _named(names)
            if name is None:
                return {}, f"categories: got {shown(names)} other joints, expected those of COCO"
            return {SKELETONS[name].num_joints: name}, ""
    return COMMON, ""


def read_document(document: Any, path: str) -> Detections | None:
    """Returns what a document of a detector holds, None if it has no known layout.

    Raises:
        UserError: it is not as its layout has it.
    """
    if _is_openpose(document):
        return of_frames("OpenPose JSON", [("0", _openpose_people(document, path))])
    if isinstance(document, dict):
        if "instance_info" in document:
            return _mmpose(document, path)
        if "annotations" in document:
            return _annotations(document, path)
        if document and all(_is_openpose(frame) for frame in document.values()):
            return _alphapose(document, path)
        return None
    if not isinstance(document, list):
        return None
    if not document:
        return Detections("JSON", [], COMMON)
    first = document[0]
    if _has(first, "image_id", "keypoints"):
        return _results(document, path)
    frames = isinstance(first, list) and (not first or isinstance(first[0], dict))
    if frames or _has(first, "instances") or _has(first, "keypoint_scores"):
        return _mmpose(document, path)
    return None
