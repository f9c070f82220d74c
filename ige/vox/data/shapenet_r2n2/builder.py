"""The tfds dataset `shapenet_r2n2`: one example per model that 3D-R2N2 rendered."""

import collections
import pathlib
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds
from tqdm import tqdm

from ige.data.examples import Info
from ige.data.workers import available_cores, map_in_order, worthwhile
from ige.vox.data import shapes
from ige.vox.data.builds import check_split
from ige.vox.data.names import SPLITS
from ige.vox.data.shapenet_r2n2.layouts import Layout, Record, find_layout, missing_message
from ige.vox.observations import Refusal
from ige.vox.r2n2 import IMAGE_SIZE, RESOLUTION, VIEWS, R2n2Files, read_model

_DESCRIPTION = """Models of ShapeNetCore as 32^3 voxels, with 24 renderings each, as published with
3D-R2N2."""
_CITATION = """@inproceedings{choy20163d,
  author = {Choy, Christopher B. and Xu, Danfei and Gwak, JunYoung and Chen, Kevin and Savarese,
    Silvio},
  title = {3D-R2N2: A Unified Approach for Single and Multi-view 3D Object Reconstruction},
  booktitle = {European Conference on Computer Vision},
  year = {2016}
}"""


class ShapenetR2n2(tfds.core.GeneratorBasedBuilder):
    """tfds builder; use `shapenet_r2n2`, which finds the files and keeps the build up to date.

    Args:
        source: files to build from; default: those that are in tfds' folder of manual downloads.
        processes: that check images; None for one on each core.
        **kwargs: of tfds.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "One example per model."}
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="published", description="32^3, 24 views")]
    # tfds 4.9.10 finds this path with importlib_resources, which it does not require.
    code_path = tfds.core.Path(__file__)
    MANUAL_DOWNLOAD_INSTRUCTIONS = missing_message(pathlib.Path("the folder"))

    def __init__(
        self, *, source: Layout | None = None, processes: int | None = None, **kwargs: Any
    ):
        self._source = source
        self._processes = processes or available_cores()
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return Info(
            builder=self,
            description=_DESCRIPTION,
            features=shapes.features(RESOLUTION, VIEWS, IMAGE_SIZE, has_depth=False),
            homepage="http://3d-r2n2.stanford.edu",
            citation=_CITATION,
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        source = self._source or find_layout(pathlib.Path(dl_manager.manual_dir))
        records = source.index()
        by_split = {split: [r for r in records if r.split == split] for split in SPLITS}
        for split, found in by_split.items():
            check_split(self.name, split, len(found))
        self.info.metadata.update(
            layout=source.kind, files=source.files(), models={}, refused={}, skipped=[]
        )
        return {
            split: self._generate_examples(source, found, split)
            for split, found in by_split.items()
        }

    def _generate_examples(
        self, source: Layout, records: list[Record], split: str
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        order: collections.deque[Record] = collections.deque()
        processes = worthwhile(len(records), self._processes)
        read = map_in_order(read_model, _files(source, records, order), processes)
        progress = {"desc": f"shapenet_r2n2 {split}", "unit": " models", "disable": None}
        refused = []
        for result in tqdm(read, total=len(records), leave=False, **progress):
            record = order.popleft()
            if isinstance(result, Refusal):
                refused.append(f"{record.synset}/{record.model}: {result.text}")
                self.info.metadata["refused"].setdefault(result.reason, []).append(refused[-1])
                continue
            yield (
                f"{record.synset} {record.model}",
                shapes.example(
                    record.synset,
                    record.model,
                    result.grid.occupancy,
                    result.images,
                    result.views,
                    translate=result.grid.translate,
                    scale=result.grid.scale,
                ),
            )
        check_split(self.name, split, len(records), refused)
        self.info.metadata["models"][split] = len(records) - len(refused)


def _files(
    source: Layout, records: list[Record], order: collections.deque[Record]
) -> Iterator[R2n2Files]:
    """Yields the files of models, and notes in `order` whose they are."""
    for record, files in source.read(records):
        order.append(record)
        yield files
