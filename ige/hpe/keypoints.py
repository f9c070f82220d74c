"""Reads the 2D keypoints that a user's detector found, whatever layout it wrote them in."""

import dataclasses
import itertools
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from tqdm import tqdm

from ige.data.archives import MAX_ARCHIVE_BYTES, read_file
from ige.data.damage import one_line, reading
from ige.data.npz import load_npz
from ige.errors import UserError, did_you_mean, nearest
from ige.hpe import formats, media
from ige.hpe.formats import Detections, at, shown
from ige.hpe.skeleton import SKELETONS, Skeleton, get_skeleton

_READ = (
    "OpenPose (--write_json), AlphaPose, MMPose (--save-predictions) or COCO JSON, or .json or "
    ".npz with keypoints (frames, joints, 3) and skeleton"
)
_SHOWN = {"openpose_25": "BODY_25", "openpose_18": "COCO with 18 joints"}
_SHOWN |= {"coco_17": "COCO with 17 joints", "halpe_26": "Halpe with 26 joints"}

_OWN = ("keypoints", "skeleton", "image_size", "focal_length", "center", "frame_rate")
Pair = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Keypoints:
    """Every person that a detector found in every frame.

    Attributes:
        path: the file or folder, for messages.
        format: said to the user: 'OpenPose JSON, BODY_25'.
        skeleton: the joints.
        points: (people, joints, 2) float64, pixels; NaN where missing.
        scores: (people, joints) float64; 0 where missing, 1 where the format has none.
        frames: (people,) index into frame_names, non-decreasing.
        frame_names: of every frame, those without a person included.
        ids: (people,) the file's own track ids; None unless everybody has one, and nobody that of
            another person of the frame.
        image_size: width, height in pixels, if the file says it.
        focal_length: in x and y, pixels; in our own layout only, like the next two.
        center: principal point, pixels.
        frame_rate: frames per second.
        video: whether the frames may be those of a video, one after the other; images otherwise.
    """

    path: pathlib.Path
    format: str
    skeleton: Skeleton
    points: np.ndarray
    scores: np.ndarray
    frames: np.ndarray
    frame_names: tuple[str, ...]
    ids: np.ndarray | None = None
    image_size: Pair | None = None
    focal_length: Pair | None = None
    center: Pair | None = None
    frame_rate: float | None = None
    video: bool = True


def _content(path: pathlib.Path) -> bytes:
    with reading(str(path)):
        return read_file(path, MAX_ARCHIVE_BYTES)


def _parse(path: pathlib.Path, data: bytes) -> Any:
    """Returns the document in a JSON file.

    Raises:
        UserError: an image, a video, nothing, or no JSON.
    """
    if not data.strip():
        raise UserError(f"{path}: got an empty file, expected {_READ}; run the detector again")
    media.refuse(path, media.by_content(data))
    with reading(str(path)):
        try:
            return json.loads(data)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            media.refuse(path, media.by_name(path))
            if data.lstrip()[:1] not in (b"{", b"[", b"\xef"):
                raise UserError(f"{path}: got another layout, expected {_READ}") from error
            raise UserError(
                f"{path}: got no valid JSON ({one_line(error)}); run the detector again"
            ) from error


def _table(detections: Detections, path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """Returns (people, joints, 3) x, y, confidence and the frame (people,) of everybody.

    Raises:
        UserError: nobody is there, people differ in the number of joints, or something is no
            number.
    """
    rows = [person.values for _, people in detections.frames for person in people]
    counts = [len(people) for _, people in detections.frames]
    frames = np.repeat(np.arange(len(counts)), counts)
    if not rows:
        raise UserError(
            f"{path}: got no person in any of {len(counts)} frames, expected one at least; lower "
            "the thresholds of the detector"
        )
    types = set(map(type, itertools.chain.from_iterable(rows)))
    if len(set(map(len, rows))) > 1 or len(rows[0]) % 3 or not types <= {int, float}:
        _refuse_row(rows, frames, detections, path)
    try:
        table = np.array(rows, np.float64)
    except OverflowError as error:
        raise UserError(f"{path}: got a number beyond float64; run the detector again") from error
    return table.reshape(len(rows), -1, 3), frames


def _refuse_row(rows: list[list], frames: np.ndarray, detections: Detections, path: Any) -> None:
    """Raises a UserError about the first row that is no row of numbers like the first."""
    for row, frame in zip(rows, frames, strict=True):
        where = at(str(path), detections.frames[frame][0])
        for value in row:
            if type(value) not in (int, float):
                raise UserError(
                    f"{where}: keypoints: got {shown(value)}, expected numbers; run the detector "
                    "again"
                )
        if len(row) % 3 or len(row) != len(rows[0]):
            expected = f"{len(rows[0])} as before" if len(rows[0]) % 3 == 0 else "x, y, confidence"
            raise UserError(
                f"{where}: keypoints: got {len(row)} numbers, expected {expected}; give files of "
                "one detector"
            )


def _skeleton_of(joints: int, detections: Detections, name: str | None, where: str) -> Skeleton:
    """Returns the skeleton of people with so many joints.

    Raises:
        UserError: none is known, or it has another number of joints.
    """
    if name is not None:
        if detections.skeletons not in (formats.OPENPOSE, formats.COMMON):
            for stated in detections.skeletons.values():
                _check_override(name, get_skeleton(stated), where)
        skeleton = get_skeleton(name)
        if skeleton.num_joints != joints:
            raise UserError(
                f"{where}: got {joints} joints, expected the {skeleton.num_joints} of "
                f"hpe.predict.skeleton = {name!r}; set it to the skeleton of the detector"
            )
        return skeleton
    if detections.reason:
        raise UserError(
            f"{where}: {detections.reason}; set hpe.predict.skeleton to a skeleton "
            "with these joints"
        )
    if joints not in detections.skeletons:
        known = ", ".join(f"{count} ({name})" for count, name in detections.skeletons.items())
        raise UserError(
            f"{where}: got {joints} joints, expected {known}; set hpe.predict.skeleton to a "
            "skeleton with these joints, or use another model of the detector"
        )
    return get_skeleton(detections.skeletons[joints])


def _check_override(name: str | None, stated: Skeleton, where: str) -> None:
    """Refuses a skeleton that is not the one that the file states."""
    if name is not None and get_skeleton(name) != stated:
        raise UserError(
            f"{where}: got hpe.predict.skeleton = {name!r}, but the file says {stated.name}; leave "
            "the parameter out, or correct the file"
        )


def _ids(detections: Detections, frames: np.ndarray) -> np.ndarray | None:
    ids = [person.id for _, people in detections.frames for person in people]
    # AlphaPose calls everybody 0 as long as it does not track.
    known = None not in ids and len(set(ids)) > 1
    if not known or len(set(zip(frames.tolist(), ids, strict=True))) < len(ids):
        return None
    return np.array(ids)


def _keypoints(
    path: pathlib.Path,
    layout: str,
    skeleton: Skeleton,
    table: np.ndarray,
    frames: np.ndarray,
    names: tuple[str, ...],
    ids: np.ndarray | None = None,
    **camera: Any,
) -> Keypoints:
    """Checks x, y, confidence (people, joints, 3) and leaves out whoever has no joint at all.

    Raises:
        UserError: something that is there is not finite, nobody is there, or these are no pixels.
    """
    missing = table[..., 2] <= 0
    bad = ~np.isfinite(table).all(axis=-1) & ~missing
    if bad.any():
        person, joint = np.argwhere(bad)[0]
        raise UserError(
            f"{at(str(path), names[frames[person]])}: {skeleton.joints[joint]}: got "
            f"{', '.join(f'{value:g}' for value in table[person, joint])}, expected finite x, y "
            "and confidence; give missing joints confidence 0"
        )
    seen = ~missing.all(axis=1)
    if not seen.any():
        raise UserError(
            f"{path}: got no person in any of {len(names)} frames, expected one at least; lower "
            "the thresholds of the detector"
        )
    points = np.where(missing[..., np.newaxis], np.nan, table[..., :2])
    extent = np.nanmax(np.abs(points[seen]))
    if extent <= 1 or extent > 1e7:
        raise UserError(
            f"{path}: got coordinates up to {extent:.3g}, expected pixels; run the detector "
            "without scaling its output (OpenPose: --keypoint_scale 0)"
        )
    shown_name = _SHOWN.get(skeleton.name, skeleton.name)
    return Keypoints(
        path=path,
        format=f"{layout}, {shown_name}",
        skeleton=skeleton,
        points=points[seen],
        scores=np.where(missing, 0.0, table[..., 2])[seen],
        frames=frames[seen],
        frame_names=names,
        ids=None if ids is None else ids[seen],
        **camera,
    )


def _from_detections(detections: Detections, path: pathlib.Path, skeleton: str | None) -> Keypoints:
    table, frames = _table(detections, path)
    names = tuple(name for name, _ in detections.frames)
    chosen = _skeleton_of(table.shape[1], detections, skeleton, at(str(path), names[frames[0]]))
    table = table[:, : chosen.num_joints]
    if detections.visibility:
        table[..., 2] = np.minimum(table[..., 2], 1)
    return _keypoints(
        path,
        detections.format,
        chosen,
        table,
        frames,
        names,
        _ids(detections, frames),
        image_size=detections.image_size,
        video=detections.video,
    )


def _array(members: Mapping[str, Any], key: str, path: pathlib.Path) -> np.ndarray:
    """Returns a member of our own layout as float64.

    Raises:
        UserError: it holds something else than numbers, or rows of different lengths.
    """
    value = members[key]
    with reading(f"{path}: {key}"):
        array = value if isinstance(value, np.ndarray) else _nested(value)
    if array is None or array.dtype.kind not in "fiu":
        got = shown(value) if array is None else f"an array of {array.dtype}"
        raise UserError(
            f"{path}: {key}: got {got}, expected numbers; save it as a plain array of floats"
        )
    return array.astype(np.float64)


def _nested(value: Any) -> np.ndarray | None:
    """Returns nested lists of numbers as an array, None if anything else is in them."""
    inner, depth = [value], 0
    while inner and all(type(part) is list for part in inner):
        inner, depth = list(itertools.chain.from_iterable(inner)), depth + 1
    if not set(map(type, inner)) <= {int, float}:
        return None
    array = np.array(value, np.float64)
    return array if array.ndim == depth else None


def _numbers(members: Mapping[str, Any], key: str, count: int, path: pathlib.Path) -> Any:
    """Returns one positive number or `count` of them as a tuple, None if they are not given."""
    if key not in members:
        return None
    array = _array(members, key, path)
    numbers = array.ravel()
    if key == "focal_length" and numbers.size == 1:
        numbers = numbers.repeat(2)
    if array.ndim > 1 or numbers.size != count or not (np.isfinite(numbers) & (numbers > 0)).all():
        raise UserError(
            f"{path}: {key}: got {shown(numbers[:4].tolist())}, expected {count} positive numbers; "
            "correct it"
        )
    return tuple(numbers.tolist()) if count > 1 else float(numbers[0])


def _own(members: Mapping[str, Any], path: pathlib.Path, skeleton: str | None) -> Keypoints:
    """Reads our own layout: one person, x and y or x, y and confidence of every joint."""
    for key in members.keys() - set(_OWN):
        if hint := did_you_mean(str(key), _OWN):
            raise UserError(f"{path}: got {one_line(key)}; {hint}")
    table = _array(members, "keypoints", path)
    if table.ndim != 3 or table.shape[2] not in (2, 3) or not table.size:
        raise UserError(
            f"{path}: keypoints: got shape {table.shape}, expected (frames, joints, 3) of x, y, "
            "confidence, or (frames, joints, 2)"
        )
    name = members.get("skeleton", skeleton)
    name = name.item() if isinstance(name, np.ndarray) and name.size == 1 else name
    if not isinstance(name, str):
        raise UserError(
            f"{path}: skeleton: got {shown(name)}, expected one of {', '.join(SKELETONS)}; put it "
            "into the file or set hpe.predict.skeleton"
        )
    if name not in SKELETONS:
        raise UserError(f"{path}: skeleton: got {one_line(repr(name))}; {nearest(name, SKELETONS)}")
    chosen = get_skeleton(name)
    _check_override(skeleton, chosen, str(path))
    if table.shape[1] != chosen.num_joints:
        raise UserError(
            f"{path}: keypoints: got {table.shape[1]} joints, expected the {chosen.num_joints} of "
            f"skeleton {chosen.name}; name the skeleton of the keypoints"
        )
    if table.shape[2] == 2:
        # Without confidences, (0, 0) says that a joint is missing.
        seen = table.any(axis=2, keepdims=True).astype(table.dtype)
        table = np.concatenate([table, seen], axis=2)
    pairs = {key: _numbers(members, key, 2, path) for key in _OWN[2:5]}
    rate = _numbers(members, "frame_rate", 1, path)
    frames, names = np.arange(len(table)), tuple(map(str, range(len(table))))
    return _keypoints(
        path,
        "ige keypoints",
        chosen,
        table,
        frames,
        names,
        np.zeros(len(table), int),  # one person, wherever it is
        frame_rate=rate,
        **pairs,
    )


def _read_folder(path: pathlib.Path, skeleton: str | None) -> Keypoints:
    """Reads a folder with one file of every frame, or with the one file of all."""
    with reading(str(path)):
        there = sorted(file for file in path.iterdir() if not file.name.startswith("."))
    files = [file for file in there if file.suffix.lower() == ".json"]
    if not files:
        if any(media.by_name(file) for file in there):
            media.refuse(path, "a folder of images or videos")
        got = f"{len(there)} other files" if there else "an empty folder"
        raise UserError(f"{path}: got {got}, expected *.json of OpenPose or MMPose, one per frame")
    if len(files) == 1:
        return read_keypoints(files[0], skeleton)
    frames, layout, first = {}, "", files[0]
    for file in tqdm(files, desc="keypoints", unit=" files", disable=None, leave=False):
        frame = formats.read_frame(_parse(file, _content(file)), str(file))
        if frame is None or (layout and frame[0] not in ("", layout)):
            got = frame[0] if frame else "the layout of a whole video, or another"
            raise UserError(
                f"{file}: got {got} among {len(files)} files, expected one frame of one detector "
                f"in each, as in {first.name}; give one file, or a folder of one detector's frames"
            )
        layout, first = (frame[0], file) if frame[0] and not layout else (layout, first)
        frames[file.stem.removesuffix("_keypoints")] = frame[1]
    ordered, video = formats.in_order(frames)
    return _from_detections(formats.of_frames(layout, ordered, video), path, skeleton)


def read_keypoints(path: pathlib.Path, skeleton: str | None = None) -> Keypoints:
    """Reads the keypoints of a file or a folder.

    Args:
        path: JSON of OpenPose (or a folder of its files), AlphaPose, MMPose or COCO; or our own
            layout, .json or .npz: `keypoints` (frames, joints, 2 or 3) with `skeleton`, the name
            of one, and perhaps image_size, focal_length, center and frame_rate.
        skeleton: name of the skeleton, in place of what the file says.

    Raises:
        UserError: whatever is wrong with it, in one line.
    """
    if path.is_dir():
        return _read_folder(path, skeleton)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; give what a detector wrote: {_READ}")
    data = _content(path)
    document = load_npz(path) if data[:2] == b"PK" else _parse(path, data)
    if isinstance(document, dict) and "keypoints" in document:
        return _own(document, path, skeleton)
    detections = None if data[:2] == b"PK" else formats.read_document(document, str(path))
    if detections is None:
        raise UserError(f"{path}: got another layout, expected {_READ}")
    return _from_detections(detections, path, skeleton)
