"""Lifting 2D poses to 3D: data in the camera frame, pose loss, the table of errors."""

import functools
import itertools
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import gin
import keras
import numpy as np
from tqdm import tqdm

from ige import descents
from ige.errors import UserError
from ige.geometry import cameras
from ige.geometry.units import MM_PER_METRE
from ige.hpe import layers, metrics
from ige.hpe.data.builds import DATASETS, LOCATIONS
from ige.hpe.losses import PoseLoss, PoseMetric
from ige.hpe.skeleton import Skeleton, conversion_matrix, convert, get_skeleton
from ige.problem import Pictures, Report, Tensors, TfdsProblem
from ige.unroll import UnrolledOptimizer

_SPLITS = ("train", "validation", "test")
# What a network was trained on, without the few oddest poses.
_RANGE = (0.01, 0.99)
_POSES_FOR_RANGES = 100_000


def _check_descent(model: keras.Model) -> UnrolledOptimizer:
    """Returns the unrolled optimiser that `every_iterate` asks for."""
    layer = descents.optimizer(model)
    if layer is None:
        raise UserError(
            "hpe.HpeProblem.every_iterate: got True for a network that makes one prediction, "
            "expected one that descends an energy, such as hpe/ige4-b128-1"
        )
    return layer


@gin.configurable(module="hpe")
class HpeProblem(TfdsProblem):
    """Predict a 3D pose in the camera frame, in metres, from a 2D pose.

    Inputs: `pose_2d` (joints, 2), intrinsics-normalised: (pixels - centre) / focal length; if
    asked, the camera's distortion too, `radial` (3,) and `tangential` (2,).
    Labels: (joints, 3), camera frame, metres; root-relative if asked.

    A network predicts (batch, joints, 3), or all iterates of an unrolled optimiser (batch,
    iterates, joints, 3); then the last of them is its prediction.

    Args:
        dataset: builder of sequences with cameras, such as `@h3m_lift()`.
        loss: class of the loss, made with the skeleton's root.
        skeleton: name of the predicted skeleton.
        input_skeleton: name of the 2D skeleton when the 2D poses are projections; detections bring
            their own.
        evaluation_skeleton: name of the skeleton that errors are measured on, converted by joint
            name.
        root_relative: labels are relative to the root, as in Martinez et al. 2017; otherwise they
            are absolute.
        standardise: inputs and labels are standardised with the mean and the deviation of the
            training split, per coordinate; both are saved with the weights.
        distortion_inputs: networks are given the distortion of the camera too.
        metric_scale: scale predictions to the mean bone length of the training split, for losses
            that leave the scale free.
        validation_subjects: training subjects to hold out; the "best" checkpoint is chosen on them.
            The published protocols hold out none: then it is chosen by the training loss.
        include_procrustes: evaluate the Procrustes-aligned errors too.
        every_iterate: show the errors of all iterates, of networks that return them.
        count_root: the root joint counts in the averages (as published, although it is 0 by
            definition in root-relative errors: 17 joints instead of 16 lower them by 1/17).
    """

    free_parameters = LOCATIONS | {
        f"hpe.HpeProblem.{name}"
        for name in ("include_procrustes", "every_iterate", "count_root", "evaluation_skeleton")
    }
    data_selectors = DATASETS
    judged_by = "mpjpe_mm"

    def __init__(
        self,
        dataset: Any = gin.REQUIRED,
        loss: type[PoseLoss] = gin.REQUIRED,
        skeleton: str = "h36m_16",
        input_skeleton: str = "h36m_16",
        evaluation_skeleton: str = "h36m_17",
        root_relative: bool = False,
        standardise: bool = False,
        distortion_inputs: bool = False,
        metric_scale: bool = True,
        validation_subjects: tuple[str, ...] | list[str] = (),
        include_procrustes: bool = True,
        every_iterate: bool = False,
        count_root: bool = True,
    ):
        super().__init__(dataset)
        if root_relative and metric_scale:
            raise UserError(
                "hpe.HpeProblem.metric_scale: got True with root_relative = True, expected False: "
                "a root-relative pose has no camera centre to scale about"
            )
        if standardise and metric_scale:
            raise UserError(
                "hpe.HpeProblem.metric_scale: got True with standardise = True, expected False: "
                "standardised labels fix the scale"
            )
        self._loss_class = loss
        self.skeleton = get_skeleton(skeleton, "hpe.HpeProblem.skeleton")
        self._projected = get_skeleton(input_skeleton, "hpe.HpeProblem.input_skeleton")
        self.evaluation_skeleton = get_skeleton(
            evaluation_skeleton, "hpe.HpeProblem.evaluation_skeleton"
        )
        conversion_matrix(self.skeleton, self.evaluation_skeleton)  # refuses what cannot be had
        self._root_relative = root_relative
        self._standardise = standardise
        self._distortion_inputs = distortion_inputs
        self._metric_scale = metric_scale
        self._validation_subjects = tuple(validation_subjects)
        self._include_procrustes = include_procrustes
        self._every_iterate = every_iterate
        self._count_root = count_root

    @property
    def input_skeleton(self) -> Skeleton:
        """The skeleton of the 2D poses."""
        return self.dataset.keypoint_skeleton or self._projected

    @property
    def root(self) -> tuple[int, ...]:
        """Joints of the predicted skeleton whose midpoint is the root: pelvis, else hips."""
        if "pelvis" in self.skeleton.joints:
            return (self.skeleton.index("pelvis"),)
        return (self.skeleton.index("left_hip"), self.skeleton.index("right_hip"))

    @property
    def counted_joints(self) -> list[int]:
        """Joints of the evaluation skeleton that averages are taken over."""
        joints = self.evaluation_skeleton.joints
        return [i for i, joint in enumerate(joints) if self._count_root or joint != "pelvis"]

    @property
    def input_spec(self) -> dict[str, keras.layers.InputSpec]:
        shapes = {"pose_2d": (self.input_skeleton.num_joints, 2)}
        if self._distortion_inputs:
            shapes |= {"radial": (3,), "tangential": (2,)}
        return {
            name: keras.layers.InputSpec(shape=shape, dtype="float32")
            for name, shape in shapes.items()
        }

    @property
    def output_spec(self) -> layers.PoseSpec:
        metric = self._metric_scale
        if not (metric or self._root_relative or self._standardise):
            metric = self.loss.get_config()["alignment"] == "none"
        return layers.PoseSpec(self.skeleton, self._in_metres if metric else None)

    @property
    def loss(self) -> PoseLoss:
        std = self._statistics["pose_3d"][1].tolist() if self._standardise else None
        return self._loss_class(root=self.root, std=std)

    def get_metrics(self, model: keras.Model) -> list[keras.metrics.Metric]:
        absolute = {} if self._root_relative else {"opt_scale": "opt_scale_mm"}
        names = {"origin": "mpjpe_mm"} | absolute
        suffixes = {-1: ""}
        if self._every_iterate:
            layer = _check_descent(model)
            steps = min(layer.num_steps, layer.test_steps or layer.num_steps)  # of held-out ones
            suffixes |= {step: f"_{step}" for step in range(steps)}
        return [
            PoseMetric(alignment, self.root, True, iterate, name + suffix)
            for iterate, suffix in suffixes.items()
            for alignment, name in names.items()
        ]

    @property
    def has_validation(self) -> bool:
        return bool(self._validation_subjects)

    def _sequences(self, split: str) -> list[Any]:
        """Returns the recorded sequences of a split."""
        if split not in _SPLITS:
            raise UserError(f"split: got {split!r}, expected one of {', '.join(_SPLITS)}")
        self.prepare()
        if split == "test":
            return self.dataset.sequences("test")
        recorded = self.dataset.sequences("train")
        subjects = {sequence.subject for sequence in recorded}
        if unknown := set(self._validation_subjects) - subjects:
            raise UserError(
                f"hpe.HpeProblem.validation_subjects: got {sorted(unknown)}, expected some of the "
                f"training subjects {sorted(subjects)}"
            )
        held_out = split == "validation"
        chosen = [
            sequence
            for sequence in recorded
            if (sequence.subject in self._validation_subjects) == held_out
        ]
        if not chosen:
            raise UserError(
                f"split {split!r} has no sequences: hpe.HpeProblem.validation_subjects is "
                f"{list(self._validation_subjects)} of {sorted(subjects)}"
            )
        return chosen

    def views(self, split: str) -> list[tuple[Any, str]]:
        """Returns (sequence, camera id) for every 2D sequence of a split."""
        projected = self.dataset.keypoint_skeleton is None
        return [
            (sequence, camera)
            for sequence in self._sequences(split)
            for camera in (sequence.cameras if projected else sequence.keypoints)
        ]

    def _rows(self, sequence: Any, camera_ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Returns what some cameras see of a sequence of n frames, one camera after the other.

        Returns:
            Normalised 2D (cameras * n, joints, 2) and camera-frame 3D (cameras * n, joints, 3),
            metres.
        """
        each = zip(*(sequence.cameras[camera_id] for camera_id in camera_ids), strict=True)
        stacked = cameras.Camera(*map(np.stack, each))
        poses = sequence.poses.astype(np.float64)

        def in_camera(skeleton: Skeleton) -> np.ndarray:
            joints = convert(poses, self.dataset.skeleton, skeleton)
            # As one pose of many joints: a product of two matrices instead of one per frame.
            return cameras.world_to_camera(joints.reshape(1, -1, 3), stacked).numpy()

        points = in_camera(self.skeleton)
        if self.dataset.keypoint_skeleton is not None:
            pixels = [sequence.keypoints[camera_id] for camera_id in camera_ids]
            pixels = np.stack(pixels).reshape(len(camera_ids), -1, 2).astype(np.float64)
            pose_2d = cameras.normalise(pixels, stacked).numpy()
        else:
            same = self.input_skeleton == self.skeleton
            projected = points if same else in_camera(self.input_skeleton)
            pose_2d = cameras.project_normalised(projected, stacked).numpy()
        pose_2d = pose_2d.reshape(-1, self.input_skeleton.num_joints, 2)
        pose_3d = points.reshape(-1, self.skeleton.num_joints, 3) / MM_PER_METRE
        if self._root_relative:
            pose_3d -= pose_3d[:, list(self.root)].mean(axis=1, keepdims=True)
        return pose_2d, pose_3d

    def load_arrays(self, split: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
        views = self.views(split)
        rows = sum(len(sequence.poses) for sequence, _ in views)
        pose_2d = np.empty((rows, *self.input_spec["pose_2d"].shape), np.float32)
        pose_3d = np.empty((rows, *self.output_spec.shape), np.float32)
        distortion = {
            name: np.empty((rows, *spec.shape), np.float32)
            for name, spec in self.input_spec.items()
            if name != "pose_2d"
        }
        end = 0
        progress = tqdm(total=rows, desc=f"{split} poses", unit=" poses", leave=False, disable=None)
        with progress:
            for _, group in itertools.groupby(views, key=lambda view: id(view[0])):
                (sequence, *_), camera_ids = zip(*group, strict=True)
                start, end = end, end + len(camera_ids) * len(sequence.poses)
                pose_2d[start:end], pose_3d[start:end] = self._rows(sequence, camera_ids)
                for name, array in distortion.items():
                    of_each = [getattr(sequence.cameras[camera], name) for camera in camera_ids]
                    array[start:end] = np.repeat(of_each, len(sequence.poses), axis=0)
                progress.update(end - start)
        return {"pose_2d": pose_2d} | distortion, pose_3d

    @functools.cached_property
    def _statistics(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Returns mean and deviation of the training split, per joint and coordinate."""
        inputs, labels = self.arrays("train")
        return {
            name: (
                array.mean(axis=0, dtype=np.float64),
                np.maximum(array.std(axis=0, dtype=np.float64), 1e-6),
            )
            for name, array in (("pose_2d", inputs["pose_2d"]), ("pose_3d", labels))
        }

    def preprocess(self, inputs: Tensors) -> Tensors:
        pose_2d = self.arrays("train")[0]["pose_2d"]
        some = pose_2d[:: 1 + len(pose_2d) // _POSES_FOR_RANGES]
        centers, sizes = (np.quantile(values, _RANGE, axis=0) for values in layers.extent(some))
        observed = layers.ObservedPose(
            self.input_skeleton, centers.tolist(), sizes.tolist(), name="observed_pose"
        )
        pose_2d = observed(inputs["pose_2d"])
        if self._standardise:
            layer = layers.standardise(*self._statistics["pose_2d"], False, "standardise_2d")
            pose_2d = layer(pose_2d)
        return inputs | {"pose_2d": pose_2d}

    def postprocess(self, outputs: keras.KerasTensor) -> keras.KerasTensor:
        return layers.PredictedPose(self.skeleton, name="predicted_pose")(self._in_metres(outputs))

    def _in_metres(
        self, outputs: keras.KerasTensor, name: str = "metric_scale"
    ) -> keras.KerasTensor:
        if self._standardise:
            layer = layers.standardise(*self._statistics["pose_3d"], True, "unstandardise_3d")
            return layer(outputs)
        if self._metric_scale:
            bones = [list(bone) for bone in self.skeleton.bones]
            _, labels = self.arrays("train")
            # Bone by bone: all at once would take more memory than the labels.
            lengths = [
                np.linalg.norm(labels[:, child] - labels[:, parent], axis=-1).mean(dtype=np.float64)
                for child, parent in bones
            ]
            layer = layers.BoneLengthScale(bones, sum(lengths), dtype="float32", name=name)
            return layer(outputs)
        return outputs

    def check_model(self, model: keras.Model, origin: str) -> None:
        super().check_model(model, origin)
        sides = zip(
            ("takes 2D poses of", "predicts 3D poses of"),
            (layer.skeleton for layer in layers.description(model)),
            (self.input_skeleton, self.skeleton),
            strict=True,
        )
        for what, of_model, of_config in sides:
            if of_model.joints != of_config.joints:
                raise UserError(
                    f"{origin} {what} {of_model.name} ({', '.join(of_model.joints)}), the config "
                    f"asks for {of_config.name} ({', '.join(of_config.joints)}); evaluate it with "
                    "the config it was trained with"
                )

    def predict(self, model: keras.Model, split: str, batch_size: int) -> np.ndarray:
        """Returns the predictions (poses, joints, 3) for a split, in the order of its arrays."""
        return model.predict(self.get_dataset(split, batch_size), verbose=int(sys.stdout.isatty()))

    def vis(
        self,
        model: keras.Model,
        split: str,
        batch_size: int,
        folder: pathlib.Path,
        example: str | None,
        run_folder: pathlib.Path,
    ) -> Pictures:
        """Draws examples, errors and a sequence; see `ige.hpe.pictures`."""
        from ige.hpe import pictures  # matplotlib, which training can do without

        return pictures.draw(self, model, split, batch_size, folder, example)

    def report(
        self, model: keras.Model, split: str, batch_size: int, run_folder: pathlib.Path
    ) -> Report:
        """Returns the table of errors per action, in mm; see `ige.hpe.metrics`."""
        if self._every_iterate:
            _check_descent(model)
            model = keras.Model(model.inputs, model.get_layer("last_iterate").input)
        predictions = self.predict(model, split, batch_size)
        iterates = np.moveaxis(predictions, 1, 0) if self._every_iterate else [predictions]
        summaries = [self._summary(poses, split) for poses in iterates]
        target = self.evaluation_skeleton
        counted = target.num_joints - (not self._count_root)
        joints = (
            f"{counted} joints of {target.name}, root {'' if self._count_root else 'not '}counted"
        )
        poses = self.examples_per_epoch(split)
        text = f"{split}: {poses:,} poses; {joints}\n{metrics.format_summary(summaries[-1])}"
        figures = summaries[-1]["over_actions"] | summaries[-1]
        figures |= {"joints": joints, "poses": poses, "labels": metrics.LABELS}
        if self._every_iterate:
            means = [summary["over_actions"] for summary in summaries]
            rows = {str(step): errors for step, errors in enumerate(means)}
            text += f"\n\nmeans over actions\n{metrics.format_table([rows], 'iterate')}"
            figures["iterates"] = means
        return Report(text, figures)

    def _summary(self, predictions: np.ndarray, split: str) -> dict[str, Any]:
        """Returns the errors of predictions (poses, joints, 3) for a split, per action, in mm."""
        views = self.views(split)
        _, labels = self.arrays(split)
        frames = [len(sequence.poses) for sequence, _ in views]
        target = self.evaluation_skeleton
        errors = metrics.frame_errors(
            *(
                convert(poses, self.skeleton, target) * MM_PER_METRE
                for poses in (predictions, labels)
            ),
            np.repeat(np.arange(len(views)), frames),
            root=target.index("pelvis"),
            count_root=self._count_root,
            include_procrustes=self._include_procrustes,
            absolute=not self._root_relative,
        )
        actions = np.repeat([sequence.action for sequence, _ in views], frames)
        return metrics.summarise(errors, actions)
