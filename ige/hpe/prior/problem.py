"""Learning what human poses look like, and measuring motions that were fitted with it."""

import dataclasses
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import gin
import keras
import numpy as np
import tensorflow as tf

from ige import transfer
from ige.adversarial import AdversarialModel
from ige.data import batches
from ige.errors import UserError, nearest
from ige.geometry import cameras
from ige.geometry.units import MM_PER_METRE
from ige.hpe import layers, metrics
from ige.hpe.data.builds import DATASETS, LOCATIONS
from ige.hpe.prior import normalisation, quality, results
from ige.hpe.prior.results import variant_of
from ige.hpe.prior.views import View
from ige.hpe.skeleton import conversion_matrix, convert, get_skeleton
from ige.problem import Pictures, Report, TfdsProblem

_ERRORS = ("p_mpjpe", "sequence_p_mpjpe")
_START_HEIGHT = 1.65
# Held-out poses that the quality is measured on, at most: it compares all pairs.
_HELD_OUT_POSES = 1024
_HELD_OUT_STEP = 25


@gin.configurable(module="hpe")
class PosePriorProblem(TfdsProblem):
    """Generate human poses as they are in the world: upright, over the origin, facing the front.

    Inputs of the generator: `latent` (latents,), drawn from N(0, 1).
    Labels: real poses (joints, 3), z up, 0 on the floor, in heights of the subject or in metres.

    Args:
        dataset: builder of sequences with cameras, such as `@h3m_lift()`.
        skeleton: name of the skeleton of the poses.
        evaluation_skeleton: name of the skeleton that errors are measured on, converted by joint
            name; None for the same.
        latents: numbers that a pose is made from, `n_z` in the published code.
        scale_to_height: poses are in heights of the subject, else in metres.
        center: joints whose midpoint is over the origin.
        held_out: share of the training recordings that the prior is measured on instead of trained
            with; 0 to train with all and measure nothing.
        camera: id of the camera whose view is fitted; None for all.
        frame_rate: frames per second of what is fitted; must divide that of the recordings.
        keypoint_noise: deviation of normal noise on the 2D poses, pixels.
        results: name of the file, in the folder of the run, that `infer` writes what it fitted to
            and `evaluate` and `vis` read: results.h5, or results-<name>.h5, whose errors and
            pictures go to evaluation-<name>.json and vis-<name>.
    """

    free_parameters = LOCATIONS | {
        "hpe.h3m_lift.keypoints",
        "hpe.h3m_lift.detections",
        *(
            f"hpe.PosePriorProblem.{name}"
            for name in ("camera", "frame_rate", "keypoint_noise", "evaluation_skeleton", "results")
        ),
    }
    free_in_fits = LOCATIONS | {
        "hpe.PosePriorProblem.evaluation_skeleton",
        "hpe.PosePriorProblem.results",
    }
    data_selectors = DATASETS

    def __init__(
        self,
        dataset: Any = gin.REQUIRED,
        skeleton: str = "h36m_24",
        evaluation_skeleton: str | None = None,
        latents: int = 32,
        scale_to_height: bool = True,
        center: tuple[str, ...] | list[str] = ("left_hip", "right_hip"),
        held_out: float = 0.1,
        camera: str | None = None,
        frame_rate: float = 10.0,
        keypoint_noise: float = 0.0,
        results: str = "results.h5",
    ):
        super().__init__(dataset)
        if latents < 1:
            raise UserError(f"hpe.PosePriorProblem.latents: got {latents}, expected at least 1")
        if not 0 <= held_out < 1:
            raise UserError(
                f"hpe.PosePriorProblem.held_out: got {held_out}, expected 0 up to, not including, 1"
            )
        if not keypoint_noise >= 0:
            raise UserError(
                f"hpe.PosePriorProblem.keypoint_noise: got {keypoint_noise}, expected at least 0"
            )
        self.skeleton = get_skeleton(skeleton, "hpe.PosePriorProblem.skeleton")
        self.evaluation_skeleton = get_skeleton(
            evaluation_skeleton or skeleton, "hpe.PosePriorProblem.evaluation_skeleton"
        )
        conversion_matrix(self.skeleton, self.evaluation_skeleton)  # refuses what cannot be had
        self._center = [self.skeleton.index(joint) for joint in center]
        self.latents = latents
        self.scale_to_height = scale_to_height
        self._held_out = held_out
        self._camera = camera
        self._frame_rate = frame_rate
        self._keypoint_noise = keypoint_noise
        self.variant = variant_of(results)
        self.results = results
        self._known_heights: dict[str, dict[str, float]] = {}

    @property
    def input_spec(self) -> dict[str, keras.layers.InputSpec]:
        return {"latent": keras.layers.InputSpec(shape=(self.latents,), dtype="float32")}

    @property
    def output_spec(self) -> keras.layers.InputSpec:
        return layers.PoseSpec(self.skeleton, None)

    @property
    def loss(self) -> None:
        """None: the adversarial model brings its losses."""

    @property
    def judged_by(self) -> str:
        return "fit_mm" if self.has_validation else "generator_loss"

    def get_metrics(self, model: keras.Model) -> list[keras.metrics.Metric]:
        if not self.has_validation:
            return []
        return quality.metrics(model, self.skeleton, self.metres)

    @property
    def has_validation(self) -> bool:
        return self._held_out > 0

    def _sequences(self, split: str) -> list[Any]:
        """Returns the recordings of a split, in the skeleton of the poses."""
        self.prepare()
        if split == "test":
            return self.dataset.sequences("test")
        recorded = self.dataset.sequences("train")
        if not self._held_out:
            return recorded if split == "train" else []
        # Drawn, since every so many-th would be of the same few actions; whole recordings, since
        # the parts of one are alike.
        recordings = sorted({(each.subject, each.recording) for each in recorded})
        drawn = np.random.default_rng(0).permutation(len(recordings))
        # 0.29 of 100 is 28.999999999999996.
        count = int(round(len(recordings) * self._held_out, 6))
        if not count:
            raise UserError(
                f"hpe.PosePriorProblem.held_out: got {self._held_out} of {len(recordings)} "
                "training recordings, which is none; choose more, or 0"
            )
        held_out = {recordings[i] for i in drawn[:count]}
        wanted = split != "train"
        return [s for s in recorded if ((s.subject, s.recording) in held_out) == wanted]

    def _converted(self, sequence: Any) -> np.ndarray:
        """Returns the poses (n, J, 3) of a recording, mm, float64."""
        poses = sequence.poses.astype(np.float64)
        return convert(poses, self.dataset.skeleton, self.skeleton)

    def _heights(self, split: str) -> dict[str, float]:
        """Returns subject -> height, mm."""
        recorded = "test" if split == "test" else "train"
        if recorded not in self._known_heights:
            self.prepare()
            in_skeleton = (
                dataclasses.replace(sequence, poses=self._converted(sequence))
                for sequence in self.dataset.sequences(recorded)
            )
            self._known_heights[recorded] = normalisation.heights(in_skeleton, self.skeleton)
        return self._known_heights[recorded]

    @property
    def metres(self) -> float:
        """Length of the unit of the poses: the mean height of the training subjects, or 1."""
        if not self.scale_to_height:
            return 1.0
        return float(np.mean(list(self._heights("train").values()))) / MM_PER_METRE

    @property
    def start_size(self) -> float:
        """Metres per unit of the poses, as a search starts: a height as published, or 1."""
        return _START_HEIGHT if self.scale_to_height else 1.0

    def load_arrays(self, split: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
        poses = []
        for sequence in self._sequences(split):
            unit = MM_PER_METRE
            if self.scale_to_height:
                unit = self._heights(split)[sequence.subject]
            poses.append(
                normalisation.normalise(
                    self._converted(sequence), self.skeleton, self._center, unit
                )
            )
        return {}, np.concatenate(poses).astype(np.float32)

    def get_dataset(self, split: str, batch_size: int) -> tf.data.Dataset:
        """Returns poses; the held-out ones as one batch, evenly chosen if there are many.

        Raises:
            UserError: too few are held out.
        """
        if split != "validation":
            return super().get_dataset(split, batch_size)
        _, poses = self.arrays(split)
        if len(poses) < quality.FEWEST:
            raise UserError(
                f"hpe.PosePriorProblem.held_out: got {self._held_out}, which is {len(poses)} "
                f"poses, expected at least {quality.FEWEST}; choose more, or 0"
            )
        # Frames next to each other are alike: neighbourhoods would be of a moment, not of a pose.
        count = max(min(len(poses) // _HELD_OUT_STEP, _HELD_OUT_POSES), quality.FEWEST)
        rows = np.linspace(0, len(poses) - 1, count).astype(int)
        return batches.ordered_batches(({}, poses[rows]), len(rows), len(rows))

    def for_prediction(self, model: keras.Model) -> keras.Model:
        return model

    def check_model(self, model: keras.Model, origin: str) -> None:
        if not isinstance(model, AdversarialModel):
            raise UserError(
                f"{origin} is no prior of poses, expected one, such as that of apo/h3m-big; to "
                "start where a network reads its parameters, see hpe.Fitter.guess_model_id"
            )
        super().check_model(model.generator, origin)

    def postprocess(self, outputs: keras.KerasTensor) -> keras.KerasTensor:
        return layers.PredictedPose(self.skeleton, name="predicted_pose")(outputs)

    def views(self, split: str, everything: bool = False) -> list[View]:
        """Returns what is to be fitted of a split; or every frame of every camera.

        Raises:
            UserError: no such camera, or a frame rate that does not divide that of a recording.
        """
        found = []
        for sequence in self._sequences(split):
            for camera_id in self._camera_ids(sequence, everything):
                rate = sequence.frame_rate if everything else self._frame_rate
                found.append(self._view(sequence, camera_id, rate))
        return found

    def _camera_ids(self, sequence: Any, everything: bool) -> Sequence[str]:
        there = list(sequence.cameras)
        if self.dataset.keypoint_skeleton is not None:
            there = list(sequence.keypoints)
        if self._camera is None or everything:
            return there
        if self._camera not in there:
            raise UserError(
                f"hpe.PosePriorProblem.camera: got {self._camera!r}; "
                f"{nearest(self._camera, there)}; cameras: {', '.join(there)}"
            )
        return [self._camera]

    def _view(self, sequence: Any, camera_id: str, frame_rate: float) -> View:
        step = sequence.frame_rate / frame_rate
        if step < 1 or abs(step - round(step)) > 1e-6:
            raise UserError(
                f"hpe.PosePriorProblem.frame_rate: got {self._frame_rate}, expected one that "
                f"divides the {sequence.frame_rate:g} frames per second of the recordings"
            )
        kept = slice(None, None, round(step))
        recorded = sequence.cameras[camera_id]
        camera = recorded._replace(translation=recorded.translation / MM_PER_METRE)
        poses = self._converted(sequence)[kept] / MM_PER_METRE
        skeleton = self.dataset.keypoint_skeleton
        if skeleton is not None:
            keypoints = np.asarray(sequence.keypoints[camera_id], np.float64)[kept]
        else:
            skeleton = self.skeleton
            points = cameras.world_to_camera(poses.reshape(1, -1, 3), camera)
            keypoints = cameras.project(points, camera).numpy().reshape(*poses.shape[:2], 2)
        view = View(
            sequence.subject,
            sequence.action,
            sequence.name,
            camera_id,
            camera,
            keypoints,
            skeleton,
            frame_rate,
            poses,
        )
        if self._keypoint_noise:
            rng = np.random.default_rng(list(view.key.encode()))
            noise = rng.normal(scale=self._keypoint_noise, size=keypoints.shape)
            view = dataclasses.replace(view, keypoints=keypoints + noise)
        return view

    def vis(
        self,
        model: keras.Model,
        split: str,
        batch_size: int,
        folder: pathlib.Path,
        example: str | None,
        run_folder: pathlib.Path,
    ) -> Pictures:
        """Draws generated poses, the latent, and fitted motions; see `ige.hpe.prior.pictures`."""
        from ige.hpe.prior import pictures  # matplotlib, which training can do without

        return pictures.draw(self, model, split, batch_size, folder, example, run_folder)

    def report(
        self, model: keras.Model, split: str, batch_size: int, run_folder: pathlib.Path
    ) -> Report:
        """Returns the errors of the motions that `infer` fitted, in mm.

        Args:
            model: the prior; the motions are in the results.
            split: 'train', 'validation' or 'test'.
            batch_size: not used.
            run_folder: has the results.

        Raises:
            UserError: there are no results, none of a sequence, of another frame rate, or of other
                weights.
        """
        path = run_folder / self.results
        settings, fits = results.read(path)
        views = self.views(split)
        if missing := [view.key for view in views if view.key not in fits]:
            raise UserError(
                f"{path} lacks {len(missing)} of {len(views)} sequences of the {split} split, such "
                f"as {missing[0]}; run the same with --command=infer"
            )
        if settings["weights"] != transfer.digest(model):
            raise UserError(
                f"{path} was fitted with other weights of the prior, those of epoch "
                f"{settings['epoch']}, expected these; set evaluate.checkpoint, or fit again:"
                ' --command=infer --gin_param="infer.overwrite=True"'
            )
        fitted = [fits[view.key] for view in views]
        for fit, view in zip(fitted, views, strict=True):
            rate = fit.attributes["frame_rate"]
            if rate != view.frame_rate or len(fit.poses) != len(view.poses):
                raise UserError(
                    f"{path}: {view.key} has {len(fit.poses)} poses at {rate:g} frames per second, "
                    f"expected {len(view.poses)} at {view.frame_rate:g}; set "
                    "hpe.PosePriorProblem.frame_rate, or fit these data again: --command=infer "
                    '--gin_param="infer.overwrite=True"'
                )
        seconds = sum(fit.attributes["seconds"] for fit in fitted)
        text, figures = self.measure(
            views, [fit.poses.astype(np.float64) / MM_PER_METRE for fit in fitted]
        )
        rate = figures["poses"] / seconds
        text = f"{split}: fitted with epoch {settings['epoch']} at {rate:,.0f} frames/s; {text}"
        return Report(text, figures | {"fitted_with": settings})

    def measure(
        self, views: Sequence[View], poses: Sequence[np.ndarray]
    ) -> tuple[str, dict[str, Any]]:
        """Returns the errors of poses of views, in mm: a table per action, and its figures.

        Args:
            views: with their true poses.
            poses: of each (n, J, 3), world frame, metres.
        """
        frames = [len(view.poses) for view in views]
        target = self.evaluation_skeleton

        def joined(poses: Iterable[np.ndarray]) -> np.ndarray:
            return convert(np.concatenate(list(poses)), self.skeleton, target) * MM_PER_METRE

        def errors(poses: Iterable[np.ndarray]) -> metrics.Errors:
            found = metrics.frame_errors(
                joined(poses),
                joined(view.poses for view in views),
                np.repeat(np.arange(len(views)), frames),
                root=0,
                absolute=False,
                whole_tracks=True,
            )
            return {name: found[name] for name in _ERRORS}

        mean_pose = self.arrays("train")[1].mean(axis=0, dtype=np.float64)
        of_mean_pose = errors(np.repeat(mean_pose[np.newaxis], n, axis=0) for n in frames)
        reference = float(of_mean_pose["p_mpjpe"].mean())
        actions = np.repeat([view.action for view in views], frames)
        summary = metrics.summarise(errors(poses), actions)
        joints = f"{target.num_joints} joints of {target.name}"
        text = (
            f"{sum(frames):,} poses of {len(views)} sequences; {joints}\n"
            f"{metrics.format_summary(summary)}\n"
            f"mean pose of the training: P-MPJPE {reference:.2f} mm over frames"
        )
        figures = summary["over_actions"] | summary | {"mean_pose_p_mpjpe": reference}
        return text, figures | {"joints": joints, "poses": sum(frames), "labels": metrics.LABELS}
