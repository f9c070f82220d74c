"""The tfds dataset `h3m_lift`: one example per recording of Human3.6M."""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from ige.data.examples import Info, as_bytes, read_examples
from ige.errors import UserError
from ige.hpe.data.builds import note_of_skipped
from ige.hpe.data.h3m_lift.checks import NUM_JOINTS, refuse_behind_camera
from ige.hpe.data.h3m_lift.detections import EXCLUDED, Key
from ige.hpe.data.h3m_lift.layouts import LAYOUTS, Record
from ige.hpe.data.h3m_lift.names import CAMERA_IDS, FRAME_RATE, SPLITS, SUBJECTS, sort_key
from ige.hpe.data.h3m_lift.sources import Source, find_source, missing_message
from ige.hpe.data.sequences import (
    PoseSequence,
    camera_features,
    stack_cameras,
    unstack_cameras,
)

_DESCRIPTION = """Recordings of Human3.6M for lifting 2D poses to 3D: the 32 joints in the world
frame (mm, z up, 50 frames per second), the four calibrated cameras, and, in the configs that have
them, 2D detections per camera."""
_CITATION = """@article{h36m_pami,
  author = {Ionescu, Catalin and Papava, Dragos and Olaru, Vlad and Sminchisescu, Cristian},
  title = {Human3.6M: Large Scale Datasets and Predictive Methods for 3D Human Sensing in Natural
    Environments},
  journal = {IEEE Transactions on Pattern Analysis and Machine Intelligence},
  year = {2014}
}"""


@dataclasses.dataclass
class H3mLiftConfig(tfds.core.BuilderConfig):
    """Which 2D poses a build has.

    Attributes:
        keypoints: one of `sources.KEYPOINTS`.
        num_keypoints: joints of a 2D pose, None for 'projection', which stores none.
    """

    keypoints: str = "projection"
    num_keypoints: int | None = None


class H3mLift(tfds.core.GeneratorBasedBuilder):
    """tfds builder; use `h3m_lift`, which finds the files and keeps the build up to date.

    Args:
        source: files to build from; default: those that are in tfds' folder of manual downloads.
        **kwargs: of tfds.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "One example per recording."}
    BUILDER_CONFIGS = [
        H3mLiftConfig(name="projection", description="no 2D poses: project the 3D ones"),
        H3mLiftConfig(
            name="hourglass",
            description="stacked hourglass, trained on MPII",
            keypoints="hourglass",
            num_keypoints=16,
        ),
        H3mLiftConfig(
            name="finetuned",
            description="stacked hourglass, fine-tuned on Human3.6M",
            keypoints="finetuned",
            num_keypoints=16,
        ),
    ]
    # tfds 4.9.10 finds this path with importlib_resources, which it does not require.
    code_path = tfds.core.Path(__file__)
    MANUAL_DOWNLOAD_INSTRUCTIONS = missing_message(pathlib.Path("the folder"))

    def __init__(self, *, source: Source | None = None, **kwargs: Any):
        self._source = source
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "subject": tfds.features.Text(),
            "action": tfds.features.Text(),
            "name": tfds.features.Text(),
            "poses": as_bytes(None, NUM_JOINTS, 3, dtype=np.float32),
            "cameras": camera_features(len(CAMERA_IDS)),
        }
        if joints := self.builder_config.num_keypoints:
            features["keypoints"] = as_bytes(None, len(CAMERA_IDS), joints, 2, dtype=np.float32)
            features["has_keypoints"] = as_bytes(len(CAMERA_IDS), dtype=np.bool_)
        return Info(
            builder=self,
            description=_DESCRIPTION,
            features=tfds.features.FeaturesDict(features),
            homepage="http://vision.imar.ro/human3.6m",
            citation=_CITATION,
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        source = self._source or find_source(
            pathlib.Path(dl_manager.manual_dir), LAYOUTS, self.builder_config.keypoints, None
        )
        records = source.layout.index()
        present = {record.subject for record in records}
        for split, subjects in SPLITS.items():
            if not present & set(subjects):
                raise UserError(
                    f"h3m_lift: {_names(source)}: no recordings of the {split} subjects "
                    f"{', '.join(subjects)}, got {', '.join(sorted(present)) or 'none'}; "
                    "get the missing files"
                )
        self.info.metadata.update(
            layout=source.layout.kind,
            files=source.files(),
            recordings={
                subject: sum(record.subject == subject for record in records)
                for subject in SUBJECTS
            },
            frames={},
            keypoints={"source": "projection"},
            skipped=source.layout.skipped,
        )
        keys: set[Key] = set()
        if source.detections is not None:
            keys = self._index_detections(source, records)
        return {
            split: self._generate_examples(
                source, [record for record in records if record.subject in subjects], keys, split
            )
            for split, subjects in SPLITS.items()
        }

    def _index_detections(self, source: Source, records: list[Record]) -> set[Key]:
        """Returns which detections are used, and records the counts of those and the others.

        Raises:
            UserError: no recording has any.
        """
        source.detections.load()
        there = source.detections.keys()
        wanted = {
            (record.subject, str(record.name), camera)
            for record in records
            for camera in CAMERA_IDS
        }
        excluded = sorted(key for key in there & wanted if key in EXCLUDED)
        used = (there & wanted) - set(excluded)
        if not used:
            raise UserError(
                f"h3m_lift: {source.detections.files()[0]['name']}: no 2D poses of any of the "
                f"{len(records)} recordings in {_names(source)}; get the detections that belong "
                "to the poses"
            )
        self.info.metadata["keypoints"] = {
            "source": source.detections.name,
            "skeleton": source.detections.skeleton.name,
            "views": len(used),
            "views_without": len(wanted - used),
            "views_without_poses": len(there - wanted),
            "excluded": [f"{' '.join(key)}: {EXCLUDED[key]}" for key in excluded],
        }
        return used

    def _generate_examples(
        self, source: Source, records: list[Record], keys: set[Key], split: str
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        cameras = {
            subject: source.layout.cameras(subject)
            for subject in sorted({record.subject for record in records})
        }
        frames = 0
        progress = {"desc": f"h3m_lift {split}", "unit": " recordings", "disable": None}
        for record in tqdm(records, leave=False, **progress):
            poses = source.layout.read(record)
            refuse_behind_camera(poses, cameras[record.subject], record.origin)
            frames += len(poses)
            example = {
                "subject": record.subject,
                "action": record.name.action,
                "name": str(record.name),
                "poses": poses,
                "cameras": stack_cameras(cameras[record.subject]),
            }
            if source.detections is not None:
                example |= _keypoints(source, record, keys, len(poses))
            yield f"{record.subject} {record.name}", example
        self.info.metadata["frames"][split] = frames


def _names(source: Source) -> str:
    """Returns the names of the files that the poses come from."""
    return ", ".join(entry["name"] for entry in source.layout.files())


def _keypoints(source: Source, record: Record, keys: set[Key], frames: int) -> dict[str, Any]:
    """Returns the 2D poses of a recording, NaN for the cameras that have none."""
    joints = source.detections.skeleton.num_joints
    keypoints = np.full((frames, len(CAMERA_IDS), joints, 2), np.nan, np.float32)
    flags = np.zeros(len(CAMERA_IDS), bool)
    for index, camera in enumerate(CAMERA_IDS):
        key = (record.subject, str(record.name), camera)
        if key in keys:
            keypoints[:, index] = source.detections.read(key, frames)
            flags[index] = True
    return {"keypoints": keypoints, "has_keypoints": flags}


def read_sequences(folder: pathlib.Path, split: str) -> list[PoseSequence]:
    """Returns every recording of a split of a build, by subject and name.

    Args:
        folder: the build, `<data_dir>/h3m_lift/<config>/<version>`.
        split: 'train' or 'test'.
    """
    sequences = read_examples(folder, split, _sequence)
    return sorted(sequences, key=lambda sequence: sort_key(sequence.subject, sequence.name))


def _sequence(example: dict[str, Any]) -> PoseSequence:
    cameras = unstack_cameras(example["cameras"])
    flags = example.get("has_keypoints", np.zeros(len(cameras), bool))
    return PoseSequence(
        *(example[key].decode() for key in ("subject", "action", "name")),
        frame_rate=FRAME_RATE,
        poses=example["poses"],
        cameras=cameras,
        keypoints={
            camera: np.ascontiguousarray(example["keypoints"][:, i])
            for i, camera in enumerate(cameras)
            if flags[i]
        },
    )


def summary(config: str, metadata: dict[str, Any]) -> str:
    """Returns what a build is made of, in one line; `metadata` is what it recorded of itself."""
    recordings = metadata["recordings"]
    parts = [
        f"built {config} from {metadata['layout']} files: {sum(recordings.values())} recordings "
        f"({', '.join(f'{subject} {count}' for subject, count in recordings.items())}), "
        f"{sum(metadata['frames'].values()):,} frames"
    ]
    keypoints = metadata["keypoints"]
    if "views" in keypoints:
        parts.append(
            f"2D poses of {keypoints['views']} views, none for {keypoints['views_without']}, "
            f"unused for want of poses {keypoints['views_without_poses']}"
        )
    parts += [f"excluded {text}" for text in keypoints.get("excluded", ())]
    parts += note_of_skipped(metadata)
    if missing := [subject for subject, count in recordings.items() if not count]:
        parts.append(f"NO RECORDINGS of {', '.join(missing)}: get the missing files")
    return "; ".join(parts)
