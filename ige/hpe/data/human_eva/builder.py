"""The tfds dataset `human_eva`: one example per run of frames with poses."""

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from ige.data.examples import Info, as_bytes, read_examples
from ige.errors import UserError
from ige.hpe.data.builds import note_of_skipped
from ige.hpe.data.h3m_lift.checks import refuse_behind_camera
from ige.hpe.data.human_eva.layouts import Layout, Record, find_layout, missing_message
from ige.hpe.data.human_eva.names import (
    CAMERA_IDS,
    FRAME_RATES,
    SPLITS,
    SUBJECTS,
    ChunkName,
    sort_key,
)
from ige.hpe.data.sequences import (
    PoseSequence,
    camera_features,
    stack_cameras,
    unstack_cameras,
)

_DESCRIPTION = """Recordings of HumanEva-I for lifting 2D poses to 3D: joints in the world frame
(mm, z up) and the three calibrated colour cameras. Frames without a pose end an example."""
_CITATION = """@article{sigal2010humaneva,
  author = {Sigal, Leonid and Balan, Alexandru O. and Black, Michael J.},
  title = {HumanEva: Synchronized Video and Motion Capture Dataset and Baseline Algorithm for
    Evaluation of Articulated Human Motion},
  journal = {International Journal of Computer Vision},
  year = {2010}
}"""


class HumanEva(tfds.core.GeneratorBasedBuilder):
    """tfds builder; use `human_eva`, which finds the files and keeps the build up to date.

    Args:
        source: files to build from; default: those that are in tfds' folder of manual downloads.
        **kwargs: of tfds.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "One example per run of frames with poses."}
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="auto", description="whatever files are there")]
    # tfds 4.9.10 finds this path with importlib_resources, which it does not require.
    code_path = tfds.core.Path(__file__)
    MANUAL_DOWNLOAD_INSTRUCTIONS = missing_message(pathlib.Path("the folder"))

    def __init__(self, *, source: Layout | None = None, **kwargs: Any):
        self._source = source
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "subject": tfds.features.Text(),
            "action": tfds.features.Text(),
            "name": tfds.features.Text(),
            "frame_rate": tfds.features.Scalar(np.float64),
            "poses": as_bytes(None, None, 3, dtype=np.float32),  # each layout has its own joints
            "cameras": camera_features(len(CAMERA_IDS)),
        }
        return Info(
            builder=self,
            description=_DESCRIPTION,
            features=tfds.features.FeaturesDict(features),
            homepage="http://humaneva.is.tue.mpg.de",
            citation=_CITATION,
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        source = self._source or find_layout(pathlib.Path(dl_manager.manual_dir))
        records = source.index()
        found = [(record.subject, record.action, record.trial) for record in records]
        self.info.metadata.update(
            layout=source.kind,
            files=source.files(),
            recordings={
                subject: len({r[1:3] for r in found if r[0] == subject}) for subject in SUBJECTS
            },
            frames={},
            left_out={},
            skeleton=source.skeleton.name,
            skipped=source.skipped,
        )
        return {
            split: self._generate_examples(
                source, [record for record in records if record.split == split], split
            )
            for split in SPLITS
        }

    def _generate_examples(
        self, source: Layout, records: list[Record], split: str
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        metadata = self.info.metadata
        cameras = {
            subject: source.cameras(subject)
            for subject in sorted({record.subject for record in records})
        }
        frames = left_out = 0
        progress = {"desc": f"human_eva {split}", "unit": " recordings", "disable": None}
        for record in tqdm(records, leave=False, **progress):
            reading = source.read(record)
            frames += reading.frames - reading.left_out
            left_out += reading.left_out
            if not reading.chunks:
                what = f"{record.subject} {record.action} {record.trial}"
                metadata["skipped"].append(f"{what}: no frame of {split} has a pose")
            for number, poses in reading.chunks.items():
                refuse_behind_camera(poses, cameras[record.subject], record.origin)
                name = str(ChunkName(record.action, record.trial, number))
                yield (
                    f"{record.subject} {name}",
                    {
                        "subject": record.subject,
                        "action": record.action,
                        "name": name,
                        "frame_rate": FRAME_RATES[record.trial],
                        "poses": poses,
                        "cameras": stack_cameras(cameras[record.subject]),
                    },
                )
        if not frames:
            raise UserError(
                f"human_eva: {source.files()[0]['name']}: no poses for the {split} split, in "
                f"{len(records)} recordings; get the missing files"
            )
        metadata["frames"][split], metadata["left_out"][split] = frames, left_out


def read_sequences(folder: pathlib.Path, split: str) -> list[PoseSequence]:
    """Returns every sequence of a split of a build, by subject and name.

    Args:
        folder: the build, `<data_dir>/human_eva/<config>/<version>`.
        split: 'train' or 'test'.
    """
    sequences = read_examples(folder, split, _sequence)
    return sorted(sequences, key=lambda sequence: sort_key(sequence.subject, sequence.name))


def _sequence(example: dict[str, Any]) -> PoseSequence:
    return PoseSequence(
        *(example[key].decode() for key in ("subject", "action", "name")),
        frame_rate=float(example["frame_rate"]),
        poses=example["poses"],
        cameras=unstack_cameras(example["cameras"]),
        keypoints={},
    )


def summary(config: str, metadata: dict[str, Any]) -> str:
    """Returns what a build is made of, in one line; `metadata` is what it recorded of itself."""
    recordings, left_out = metadata["recordings"], metadata["left_out"]
    parts = [
        f"built {config} from {metadata['layout']} files: {sum(recordings.values())} recordings "
        f"({', '.join(f'{subject} {count}' for subject, count in recordings.items())}), "
        f"{sum(metadata['frames'].values()):,} frames",
        f"left out for want of a pose: {left_out['train']:,} frames of train, "
        f"{left_out['test']:,} of test",
    ]
    parts += note_of_skipped(metadata)
    if missing := [subject for subject, count in recordings.items() if not count]:
        parts.append(f"NO RECORDINGS of {', '.join(missing)}: get the missing files")
    return "; ".join(parts)
