"""The tfds dataset `shapenet_core`: one example per model of ShapeNetCore."""

import json
import pathlib
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow_datasets as tfds
from tqdm import tqdm

from ige.data.examples import Info
from ige.data.workers import available_cores, map_in_order, worthwhile
from ige.files import write_text
from ige.vox.data import shapes
from ige.vox.data.builds import check_split
from ige.vox.data.names import SPLITS
from ige.vox.data.shapenet_core.layouts import Layout, Record, find_layout, missing_message
from ige.vox.observations import Observation, Recipe, Refusal, Task, perform

_DESCRIPTION = """Models of ShapeNetCore as solid voxels, with renderings, silhouettes and depths
from random views."""
_CITATION = """@article{chang2015shapenet,
  author = {Chang, Angel X. and Funkhouser, Thomas and Guibas, Leonidas and Hanrahan, Pat and Huang,
    Qixing and Li, Zimo and Savarese, Silvio and Savva, Manolis and Song, Shuran and Su, Hao and
    Xiao, Jianxiong and Yi, Li and Yu, Fisher},
  title = {ShapeNet: An Information-Rich 3D Model Repository},
  journal = {arXiv:1512.03012},
  year = {2015}
}"""
_SOURCE = "source.json"
_REFUSED = "refused-{}.jsonl"


class ShapenetCoreConfig(tfds.core.BuilderConfig):
    """What a build has of which models."""

    def __init__(self, recipe: Recipe, synsets: Sequence[str] = (), **kwargs: Any):
        """Args:
        recipe: what is built of every model.
        synsets: which models; none for all that are there.
        **kwargs: of tfds; the name is `config_name` of the others by default.
        """
        description = f"{recipe.resolution}^3 cells, {recipe.views} views"
        kwargs = {"name": config_name(recipe, synsets), "description": description} | kwargs
        super().__init__(**kwargs)
        self.recipe = recipe
        self.synsets = tuple(synsets)


def config_name(recipe: Recipe, synsets: Sequence[str]) -> str:
    """Names a build in folders: '32-24x128', '32-24x128-02691156-03001627'."""
    return "-".join([recipe.name, *sorted(synsets)])


class ShapenetCore(tfds.core.GeneratorBasedBuilder):
    """tfds builder; use `shapenet_core`, which finds the files and keeps the build up to date.

    Args:
        source: files to build from; default: those that are in tfds' folder of manual downloads.
        processes: that build; None for one on each core.
        work_dir: keeps what is built until all of it is, for a build that goes on; None for none.
        on_beam: build on Apache Beam, with the options that `download_and_prepare` is given;
            `work_dir` is needed, in a place that all machines see.
        **kwargs: of tfds.
    """

    VERSION = tfds.core.Version("2.0.0")
    RELEASE_NOTES = {
        "2.0.0": "Cells beside solids that only an edge of these touches are empty.",
        "1.0.0": "One example per model.",
    }
    BUILDER_CONFIGS = [ShapenetCoreConfig(Recipe(resolution)) for resolution in (32, 64, 128, 256)]
    # tfds 4.9.10 finds this path with importlib_resources, which it does not require.
    code_path = tfds.core.Path(__file__)
    MANUAL_DOWNLOAD_INSTRUCTIONS = missing_message(pathlib.Path("the folder"))

    def __init__(
        self,
        *,
        source: Layout | None = None,
        processes: int | None = None,
        work_dir: pathlib.Path | None = None,
        on_beam: bool = False,
        **kwargs: Any,
    ):
        self._on_beam = on_beam
        self._there: dict[str, int] = {}
        self._source = source
        self._processes = processes or available_cores()
        self._work_dir = work_dir
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        recipe = self.builder_config.recipe
        return Info(
            builder=self,
            description=_DESCRIPTION,
            features=shapes.features(recipe.resolution, recipe.views, recipe.image_size, True),
            homepage="https://shapenet.org",
            citation=_CITATION,
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        source = self._source or find_layout(pathlib.Path(dl_manager.manual_dir))
        records = source.index(self.builder_config.synsets)
        by_split = {split: [r for r in records if r.split == split] for split in SPLITS}
        for split, found in by_split.items():
            check_split(self.name, split, len(found))
        if self._work_dir is not None:
            _start_or_go_on(self._work_dir, source.files())
        self.info.metadata.update(
            layout=source.kind, files=source.files(), models={}, refused={}, skipped=source.skipped
        )
        if self._on_beam:
            from ige.vox.data.shapenet_core.beams import Examples  # an extra

            recipe = self.builder_config.recipe
            self._there = {split: len(found) for split, found in by_split.items()}
            return {
                split: Examples(source, found, recipe, self._work_dir / _REFUSED.format(split))
                for split, found in by_split.items()
            }
        return {
            split: self._generate_examples(source, found, split)
            for split, found in by_split.items()
        }

    def _generate_examples(
        self, source: Layout, records: list[Record], split: str
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        refused = []
        processes = worthwhile(len(records), self._processes)
        built = map_in_order(perform, self._tasks(source, records), processes)
        progress = tqdm(
            zip(records, built, strict=True),
            total=len(records),
            desc=f"shapenet_core {split}",
            unit=" models",
            leave=False,
            disable=None,
        )
        for record, result in progress:
            if isinstance(result, Refusal):
                refused.append((result.reason, f"{record.synset}/{record.model}: {result.text}"))
                progress.set_postfix(refused=len(refused))
                continue
            made = result if isinstance(result, Observation) else Observation.load(result)
            yield shapes.observed(record.synset, record.model, made)
        self._count(split, len(records), refused)

    def _count(self, split: str, there: int, refused: Sequence[tuple[str, str]]) -> None:
        """Records how many models a split has, and (reason, text) of those that it has not.

        Raises:
            UserError: it has none.
        """
        check_split(self.name, split, there, [text for _, text in refused])
        self.info.metadata["models"][split] = there - len(refused)
        for reason, text in refused:
            self.info.metadata["refused"].setdefault(reason, []).append(text)

    def _process_pipeline_result(self, pipeline_result: Any) -> None:
        """Counts what was refused on other machines; each wrote lines of [reason, text]."""
        for split, there in self._there.items():
            lines = (self._work_dir / _REFUSED.format(split)).read_text("utf-8").splitlines()
            self._count(split, there, sorted(map(json.loads, lines)))

    def _tasks(self, source: Layout, records: list[Record]) -> Iterator[Task]:
        """Yields what there is to do; files are read as they are needed."""
        for record in records:
            path = None
            if self._work_dir is not None:
                path = self._work_dir / record.synset / f"{record.model}.npz"
            there = path is not None and path.exists()
            files = None if there else source.read(record)
            yield Task(files, self.builder_config.recipe, path)


def _start_or_go_on(work_dir: pathlib.Path, files: list[dict]) -> None:
    """Empties the folder of an interrupted build unless it was made from the same files."""
    text = json.dumps(files)
    path = work_dir / _SOURCE
    if path.is_file() and path.read_text("utf-8") == text:
        return
    shutil.rmtree(work_dir, ignore_errors=True)
    work_dir.mkdir(parents=True)
    write_text(path, text)
