"""`shapenet_core`: finds the files, builds the tfds dataset when it has to, reads it back."""

import pathlib
import re
import shutil
from collections.abc import Sequence
from typing import Literal

import gin
import tensorflow_datasets as tfds

from ige.data.builds import check_choice, check_integer, choose_folders
from ige.data.damage import one_line
from ige.data.workers import available_cores
from ige.errors import UserError
from ige.vox.data.builds import RECORDED, ShapeDataset
from ige.vox.data.names import SPLITS
from ige.vox.data.shapenet_core.builder import (
    ShapenetCore,
    ShapenetCoreConfig,
    config_name,
)
from ige.vox.data.shapenet_core.layouts import LAYOUTS, Layout, find_layout
from ige.vox.data.shapenet_core.synthetic import SyntheticSpec, write_synthetic
from ige.vox.observations import Recipe

DATA = ("auto", *LAYOUTS, "synthetic")
RESOLUTIONS = (32, 64, 128, 256)


class ShapenetCoreDataset(ShapeDataset):
    """A build of `shapenet_core`, made on the first use. See `shapenet_core` for the arguments."""

    name = "shapenet_core"
    builder = ShapenetCore
    recorded = RECORDED
    splits = SPLITS

    def __init__(
        self,
        data: str,
        recipe: Recipe,
        synsets: Sequence[str],
        processes: int,
        beam_options: Sequence[str] | None,
        data_dir: pathlib.Path,
        manual_dir: pathlib.Path,
        spec: SyntheticSpec | None,
    ):
        super().__init__(data_dir, manual_dir, generated=spec is not None)
        self._data = data
        self._recipe = recipe
        self._synsets = tuple(sorted(set(synsets)))
        self._processes = processes
        self._beam_options = beam_options
        self._spec = spec

    @property
    def _config_folder(self) -> pathlib.Path:
        name = config_name(self._recipe, self._synsets)
        if self._spec is not None:
            name = f"{self._spec.name}-{name}"
        elif self._data != "auto":
            name = f"{self._data}-{name}"
        return self._build_folder(name)

    @property
    def _work_dir(self) -> pathlib.Path:
        return self._config_folder.parent / f"models-{self.builder.VERSION}"

    def _find(self) -> tuple[Layout, pathlib.Path]:
        layouts = [self._data] if self._data in LAYOUTS else LAYOUTS
        return find_layout(self._manual_dir, layouts), self._config_folder

    def _existing_build(self) -> pathlib.Path | None:
        return self._config_folder if self._whole(self._config_folder) else None

    def _make_builder(self, source: Layout, config: str) -> ShapenetCore:
        if config not in ShapenetCore.builder_configs:
            config = ShapenetCoreConfig(self._recipe, self._synsets, name=config)
        return ShapenetCore(
            source=source,
            processes=self._processes,
            work_dir=self._work_dir,
            on_beam=self._beam_options is not None,
            config=config,
            data_dir=str(self._data_dir),
        )

    def _build(self, source: Layout, folder: pathlib.Path) -> None:
        try:
            super()._build(source, folder)
        except UserError:
            raise
        except (ValueError, RuntimeError) as error:
            if self._beam_options is None:
                raise
            raise UserError(
                f"shapenet_core.beam_options: Apache Beam: {one_line(error)}; change the options, "
                "or leave them out to build on this machine"
            ) from error
        shutil.rmtree(self._work_dir, ignore_errors=True)

    def _download_config(self) -> tfds.download.DownloadConfig | None:
        if self._beam_options is None:
            return None
        try:
            from apache_beam.options.pipeline_options import PipelineOptions
        except ImportError as error:
            raise UserError(
                "shapenet_core.beam_options: Apache Beam is not installed; "
                "pip install 'ige[beam]', or leave the options out"
            ) from error
        options = PipelineOptions(list(self._beam_options))
        return tfds.download.DownloadConfig(beam_options=options)

    def _generate(self, folder: pathlib.Path) -> None:
        write_synthetic(folder, self._spec)


@gin.configurable(module="vox")
def shapenet_core(
    data: Literal["auto", "zips", "folders", "synthetic"] = "auto",
    resolution: int = 32,
    views: int = 24,
    image_size: int = 128,
    legacy_fov: bool = False,
    view_seed: int = 0,
    synsets: Sequence[str] = (),
    processes: int | None = None,
    beam_options: Sequence[str] | None = None,
    data_dir: str | None = None,
    manual_dir: str | None = None,
    synthetic_seed: int = 0,
    synthetic_models: int = 2000,
) -> ShapenetCoreDataset:
    """Models of ShapeNetCore: solid voxels, and renderings from random views. Reads nothing yet.

    Args:
        data: layout of the files; 'auto' takes what is there, 'synthetic' generates furniture.
        resolution: cells along a side, 32, 64, 128 or 256.
        views: cameras around every model.
        image_size: pixels along a side of a rendering.
        legacy_fov: the field of view of the published code, 84.87 degrees, in which models are
            small; otherwise 49.13 degrees.
        view_seed: other seeds give other views.
        synsets: which models to take; none for all that are there.
        processes: that build; None for one on each core.
        beam_options: options of Apache Beam, such as ['--runner=FlinkRunner'], to build on the
            machines that they name, which must see the folders; None to build on this one.
        data_dir: tfds folder; default: $TFDS_DATA_DIR, else ~/tensorflow_datasets.
        manual_dir: folder of the files; default: <data_dir>/downloads/manual/shapenet_core.
        synthetic_seed: seed of the generated furniture.
        synthetic_models: generated models, a half of them chairs, a half tables.

    Raises:
        UserError: an unknown choice or a number out of range.
    """
    check_choice("shapenet_core.data", data, DATA)
    if resolution not in RESOLUTIONS:
        raise UserError(
            f"shapenet_core.resolution: got {resolution!r}, expected one of "
            f"{', '.join(map(str, RESOLUTIONS))}; set it to one of them"
        )
    check_integer("shapenet_core.views", views, 1, 1000)
    check_integer("shapenet_core.image_size", image_size, 8, 1024)
    check_integer("shapenet_core.view_seed", view_seed, 0, 2**31)
    check_integer(
        "shapenet_core.processes", available_cores() if processes is None else processes, 1, 1024
    )
    if isinstance(synsets, str) or not all(
        isinstance(synset, str) and re.fullmatch(r"\d{8}", synset) for synset in synsets
    ):
        raise UserError(
            f"shapenet_core.synsets: got {synsets!r}, expected a list of ids of eight digits, such "
            "as ['03001627']"
        )
    spec = None
    if data == "synthetic":
        spec = SyntheticSpec(seed=synthetic_seed, models=synthetic_models)
    recipe = Recipe(resolution, views, image_size, legacy_fov, view_seed)
    folders = choose_folders("shapenet_core", data_dir, manual_dir, spec and spec.name)
    return ShapenetCoreDataset(
        data, recipe, synsets, processes or available_cores(), beam_options, *folders, spec
    )
