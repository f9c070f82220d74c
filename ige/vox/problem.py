"""Reconstructing solid voxels from a single view: data, loss, overlap with the truth."""

import functools
import pathlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gin
import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from ige import descents
from ige.data import batches
from ige.data.builds import check_integer
from ige.errors import UserError
from ige.problem import Pictures, Problem, Report
from ige.vox import metrics, outputs
from ige.vox.data.builds import DATASETS, LOCATIONS, ShapeDataset
from ige.vox.data.decoding import Decoder
from ige.vox.data.names import R2N2_SYNSETS, SPLITS
from ige.vox.data.shapes import Shape
from ige.vox.losses import IouMetric, VoxelLoss


@gin.configurable(module="vox")
class VoxProblem(Problem):
    """Predict which cells of the object frame are solid, from one view with a known camera.

    Inputs: `image` (size, size, 3) uint8 before white, `silhouette` (size, size) bool, and the
    camera, `rotation` (3, 3), `centre` (3,), `focal` () and `planes` (2,), see
    `ige.vox.views.Cameras`.
    Labels: (R, R, R) bool, by x, y, z. Predictions: their logits, in the same frame.

    Networks work in the frustum of the camera, where a pixel sees a column of cells, and end with
    `resampling.ToObjectFrame`. So the loss is in the frame that the overlap is measured in: one
    in the frustum would count cells near the camera more, which are smaller there, and would not
    know what is lost on the way to the object frame; the data sets measure in the latter.

    A network predicts (batch, R, R, R), or all iterates of an unrolled optimiser (batch, iterates,
    R, R, R); then the last of them is its prediction.

    Shapes stay as compressed as they are stored, and are decoded where batches are made. Every view
    of a training shape is an example. Views are drawn for every shape by itself: those of held-out
    shapes are held out too.

    Args:
        dataset: builder of shapes, such as `@shapenet_core()`.
        loss: class of the loss.
        views: views of each training shape to train on, the first; None for all that are stored.
        held_out_views: the same of validation and test shapes, to evaluate on, or fewer if fewer
            are stored.
        every_iterate: show the overlap of all iterates, of networks that return them.
    """

    free_parameters = LOCATIONS | {
        "vox.VoxProblem.every_iterate",
        "vox.VoxProblem.held_out_views",
    }
    data_selectors = DATASETS
    judged_by = "loss"

    def __init__(
        self,
        dataset: ShapeDataset = gin.REQUIRED,
        loss: type[VoxelLoss] = gin.REQUIRED,
        views: int | None = None,
        held_out_views: int = 5,
        every_iterate: bool = False,
    ):
        if views is not None:
            check_integer("vox.VoxProblem.views", views, 1, 1000)
        check_integer("vox.VoxProblem.held_out_views", held_out_views, 1, 1000)
        self.dataset = dataset
        self._loss_class = loss
        self._views = views
        self._held_out_views = held_out_views
        self._every_iterate = every_iterate
        self._decoders: dict[str, Decoder] = {}

    @property
    def has_validation(self) -> bool:
        return True

    def prepare(self) -> None:
        self.dataset.prepare()

    @property
    def provenance(self) -> dict[str, Any]:
        self.prepare()
        return self.dataset.provenance

    def decoder(self, split: str) -> Decoder:
        """Returns the examples of a split, read once.

        Raises:
            UserError: an unknown split, or one without shapes.
        """
        if split not in SPLITS:
            raise UserError(f"split: got {split!r}, expected one of {', '.join(SPLITS)}")
        if split not in self._decoders:
            self.prepare()
            views = self._views if split == "train" else self._held_out_views
            shapes = self.dataset.shapes(split, views)
            if not shapes:
                raise UserError(
                    f"split {split!r} has no shapes; build the data set of more models, or choose "
                    "another split"
                )
            if split == "train" and (views or 0) > len(shapes[0].pngs):
                raise UserError(
                    f"vox.VoxProblem.views: got {views}, expected at most the "
                    f"{len(shapes[0].pngs)} that are stored; lower it, or build more"
                )
            # Depths are for others: they are larger than all else of a shape.
            self._decoders[split] = Decoder([replace(shape, depth_data=None) for shape in shapes])
        return self._decoders[split]

    @functools.cached_property
    def _example(self) -> Shape:
        """A shape, for the sizes of all."""
        loaded = next(iter(self._decoders.values()), None) or self.decoder("validation")
        return loaded.shapes[0]

    @property
    def input_spec(self) -> dict[str, keras.layers.InputSpec]:
        size = self._example.image_size
        cameras = {"rotation": (3, 3), "centre": (3,), "focal": (), "planes": (2,)}
        return {
            "image": keras.layers.InputSpec(shape=(size, size, 3), dtype="uint8"),
            "silhouette": keras.layers.InputSpec(shape=(size, size), dtype="bool"),
        } | {
            name: keras.layers.InputSpec(shape=shape, dtype="float32")
            for name, shape in cameras.items()
        }

    @property
    def output_spec(self) -> keras.layers.InputSpec:
        return keras.layers.InputSpec(shape=(self._example.resolution,) * 3, dtype="float32")

    @property
    def loss(self) -> VoxelLoss:
        return self._loss_class()

    def get_metrics(self, model: keras.Model) -> list[keras.metrics.Metric]:
        names = {-1: "iou"}
        if self._every_iterate:
            layer = _descent(model)
            steps = min(layer.num_steps, layer.test_steps or layer.num_steps)  # of held-out ones
            names |= {step: f"iou_{step}" for step in range(steps)}
        return [IouMetric(iterate, name) for iterate, name in names.items()]

    def examples_per_epoch(self, split: str) -> int:
        return len(self.decoder(split))

    def get_dataset(self, split: str, batch_size: int) -> tf.data.Dataset:
        decoder = self.decoder(split)
        order = np.arange(len(decoder), dtype=np.int64)
        ordered = batches.ordered_batches(order, len(decoder), batch_size)
        return ordered.map(lambda indices: decoder.unpacked(decoder(indices))).prefetch(1)

    def get_training_feed(
        self,
        batch_size: int,
        steps_per_epoch: int,
        seed: int,
        start_step: int,
        steps_per_chunk: int,
    ) -> batches.Feed:
        """Returns shuffled batches of single views; see `Problem`. What travels is one step at a
        time: pixels take more memory than indices."""
        decoder = self.decoder("train")
        order = np.arange(len(decoder), dtype=np.int64)
        feed = batches.shuffled_feed(
            order, len(decoder), batch_size, steps_per_epoch, seed, start_step, steps_per_chunk
        )
        chunks = (
            feed.chunks.unbatch()
            .map(decoder, tf.data.AUTOTUNE)
            .batch(1, drop_remainder=True)
            .prefetch(2)
        )
        return batches.Feed(chunks, decoder.unpacked)

    def for_prediction(self, model: keras.Model) -> keras.Model:
        # By its rank: `output_spec` would read the data, which `predict` does not need.
        return descents.last(model) if len(model.output_shape) == 5 else model

    def vis(
        self,
        model: keras.Model,
        split: str,
        batch_size: int,
        folder: pathlib.Path,
        example: str | None,
        run_folder: pathlib.Path,
    ) -> Pictures:
        """Draws reconstructions and a page to turn one in; see `ige.vox.pictures`."""
        from ige.vox import pictures  # matplotlib, which training can do without

        return pictures.draw(self, model, split, batch_size, folder, example)

    def measurement(self, model: keras.Model) -> outputs.Measurement:
        """Returns what compares predictions with the truth; see `outputs.measurement`."""
        return outputs.measurement(model, self.get_dataset("validation", 1).element_spec)

    def _with_progress(self, split: str, batch_size: int) -> Iterator[Any]:
        bar = {"desc": f"evaluating {split}", "unit": " batches", "leave": False, "disable": None}
        return tqdm(self.get_dataset(split, batch_size), **bar)

    def threshold(self, measure: outputs.Measurement, batch_size: int) -> float:
        """Returns the probability from which cells count as solid: that with the highest mean
        overlap on the validation split."""
        found = [measure(*batch)[0] for batch in self._with_progress("validation", batch_size)]
        return metrics.choose_threshold(np.concatenate(found)[:, -1])

    def report(
        self, model: keras.Model, split: str, batch_size: int, run_folder: pathlib.Path
    ) -> Report:
        """Returns the table of overlaps and F-scores per class; see `ige.vox.metrics`."""
        if self._every_iterate:
            _descent(model)
            model, _ = outputs.with_iterates(model)
        measure = self.measurement(model)
        threshold = self.threshold(measure, batch_size)
        f_score = tf.function(
            lambda truth, found: metrics.f_scores(truth, found > threshold),
            autograph=False,
            reduce_retracing=True,
        )
        parts = []
        for inputs, labels in self._with_progress(split, batch_size):
            overlaps, probabilities = measure(inputs, labels)
            parts.append((overlaps, f_score(labels, probabilities)))
        of_iterates, f_scores = map(np.concatenate, zip(*parts, strict=True))
        chosen, published = map(metrics.THRESHOLDS.index, (threshold, metrics.PUBLISHED))
        figures = {
            "iou": of_iterates[:, -1, chosen],
            "iou_published": of_iterates[:, -1, published],
            "f_score": f_scores,
        }
        decoder = self.decoder(split)
        classes = [R2N2_SYNSETS.get(s.synset, s.synset) for s in decoder.shapes]
        summary = metrics.summarise(figures, np.repeat(classes, decoder.views))
        text = (
            f"{split}: {len(decoder.shapes):,} shapes, {decoder.views} views of each; threshold "
            f"{threshold}, chosen on validation\n{metrics.format_summary(summary)}"
        )
        if self._every_iterate:
            summary["iterates"] = (100 * of_iterates[:, :, chosen].mean(axis=0)).tolist()
            steps = "  ".join(f"{iou:.2f}" for iou in summary["iterates"])
            text += f"\nIoU of the iterates, mean of examples: {steps}"
        return Report(text, summary | {"threshold": threshold})


def _descent(model: keras.Model) -> Any:
    """Returns the unrolled optimiser that `every_iterate` asks for."""
    layer = descents.optimizer(model)
    if layer is None:
        raise UserError(
            "vox.VoxProblem.every_iterate: got True for a network that makes one prediction, "
            "expected one that descends an energy, such as vox/ige4-32"
        )
    return layer
