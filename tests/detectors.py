"""Writes keypoints as detectors do."""

import json

import numpy as np

from ige.hpe.skeleton import get_skeleton

COCO = get_skeleton("coco_17")


def table(joints=17, frames=3, seed=0):
    """Returns (frames, joints, 3): x, y in 100-500, confidence in 0.25-1, all exact in decimal."""
    rng = np.random.default_rng(seed)
    xy = rng.integers(400, 2000, size=(frames, joints, 2)) / 4
    return np.concatenate([xy, rng.integers(1, 5, size=(frames, joints, 1)) / 4], axis=-1)


def flat(pose):
    return np.asarray(pose).ravel().tolist()


def openpose(poses, ids=(-1,), key="pose_keypoints_2d"):
    """One frame with the people (people, joints, 3)."""
    people = [{"person_id": list(ids), key: flat(pose), "face_keypoints_2d": []} for pose in poses]
    return {"version": 1.3, "people": people}


def instances(poses):
    return [
        {
            "keypoints": pose[:, :2].tolist(),
            "keypoint_scores": pose[:, 2].tolist(),
            "bbox": [[0, 0, 9, 9]],
            "bbox_score": 0.5,
        }
        for pose in np.asarray(poses)
    ]


def mmpose(frames, meta, first=1):
    entries = [{"frame_id": i, "instances": instances(f)} for i, f in enumerate(frames, first)]
    return {"meta_info": meta, "instance_info": entries}


def results(frames, name="{}.jpg", idx=None):
    extra = {} if idx is None else {"idx": idx}
    return [
        {
            "image_id": name.format(i) if isinstance(name, str) else i,
            "category_id": 1,
            "keypoints": flat(pose),
            "score": 2.5,
            **extra,
        }
        for i, poses in enumerate(frames)
        for pose in poses
    ]


def annotations(frames, **images):
    """COCO's annotations; `images` goes into every image."""
    return {
        "images": [{"id": 7 * i, "file_name": f"{i}.png", **images} for i in range(len(frames))],
        "annotations": [
            {"id": 1, "image_id": 7 * i, "category_id": 1, "keypoints": flat(pose)}
            for i, poses in enumerate(frames)
            for pose in poses
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO.joints)}],
    }


def meta_of(name, skeleton):
    ids = {str(i): joint for i, joint in enumerate(skeleton.joints)}
    return {"dataset_name": name, "keypoint_id2name": ids}


def write(path, document):
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def write_folder(folder, frames, name="walk_{:012d}_keypoints.json"):
    folder.mkdir()
    for i, people in enumerate(frames):
        write(folder / name.format(i), openpose(people))
    return folder


def one_each(poses):
    return [[pose] for pose in poses]


# Format -> (skeleton, document of poses (frames, joints, 3)); all that one file can hold.
LAYOUTS = {
    "COCO results JSON, COCO with 17 joints": (
        "coco_17",
        lambda poses: results(one_each(poses), name=None),
    ),
    "AlphaPose JSON, COCO with 17 joints": ("coco_17", lambda poses: results(one_each(poses))),
    "AlphaPose JSON, Halpe with 26 joints": ("halpe_26", lambda poses: results(one_each(poses))),
    "AlphaPose JSON, COCO with 18 joints": (
        "openpose_18",
        lambda poses: {f"{i}.jpg": openpose([pose]) for i, pose in enumerate(poses)},
    ),
    "MMPose JSON, COCO with 17 joints": (
        "coco_17",
        lambda poses: mmpose(one_each(poses), meta_of("coco", COCO), first=0),
    ),
    "MMPose JSON, Halpe with 26 joints": (
        "halpe_26",
        lambda poses: mmpose(one_each(poses), {}, first=0)["instance_info"],
    ),
    "MMPose JSON, h36m_17": (
        "h36m_17",
        lambda poses: mmpose(one_each(poses), {"dataset_name": "h36m"}, first=0),
    ),
    "MMPose JSON, mpii_16": (
        "mpii_16",
        lambda poses: mmpose(one_each(poses), meta_of("?", get_skeleton("mpii_16")), first=0),
    ),
    "ige keypoints, h36m_16": (
        "h36m_16",
        lambda poses: {"skeleton": "h36m_16", "keypoints": poses.tolist()},
    ),
}
