"""Learning to read the parameters of a pose prior from single 2D poses."""

import pathlib
from collections.abc import Sequence

import gin
import keras
import numpy as np
from keras import tree

from ige.hpe import gaps, layers
from ige.hpe.losses import PoseLoss, PoseMetric
from ige.hpe.prior.levelled import Levelled, level
from ige.hpe.prior.problem import PosePriorProblem
from ige.hpe.prior.views import View
from ige.hpe.skeleton import Skeleton, conversion_matrix
from ige.problem import Report, TfdsProblem

# Parameters that say what the 2D poses are.
_SEEN = frozenset(
    {
        "hpe.h3m_lift.keypoints",
        "hpe.h3m_lift.detections",
        "hpe.PosePriorProblem.keypoint_noise",
    }
)


class GuessSpec(layers.PoseSpec):
    """Spec of a pose (joints, 3) in the levelled frame, and of the prior that it is made with.

    Args:
        prior: the problem of the prior.
        keypoint_skeleton: joints of the 2D poses.
    """

    def __init__(self, prior: PosePriorProblem, keypoint_skeleton: Skeleton):
        super().__init__(prior.skeleton, None)
        self.latents = prior.latents
        self.size = prior.start_size
        self.to_keypoints = conversion_matrix(prior.skeleton, keypoint_skeleton)


def levelled(views: Sequence[View]) -> Levelled:
    """Returns what a level camera would see of every frame of views, one after the other.

    A joint that is not seen is put between where it is before and after.
    """
    frames = [len(view.keypoints) for view in views]
    keypoints = np.concatenate([view.keypoints for view in views])
    seen = np.isfinite(keypoints).all(axis=-1, keepdims=True)  # half of a place is none
    keypoints = gaps.over_time(np.where(seen, keypoints, np.nan), np.cumsum([0, *frames[:-1]]))
    camera = tree.map_structure(
        lambda *fields: np.repeat(np.stack(fields), frames, axis=0),
        *(view.camera for view in views),
    )
    seen = np.isfinite(keypoints).all(axis=-1)
    return level(np.where(seen[..., np.newaxis], keypoints, 0), seen, camera)


@gin.configurable(module="hpe")
class GuessProblem(TfdsProblem):
    """Predict a pose, by way of a prior's parameters, from what one frame of a camera shows.

    Inputs: `directions` (2D joints, 2), `camera_height` (1,); see `ige.hpe.prior.levelled`.
    Labels: (joints, 3), levelled frame, metres.

    Args:
        prior: the problem of the prior, whose training and held-out sequences these are too.
        loss: class of the loss, made with the root.
    """

    judged_by = "mpjpe_mm"

    def __init__(self, prior: PosePriorProblem = gin.REQUIRED, loss: type[PoseLoss] = gin.REQUIRED):
        super().__init__(prior.dataset)
        self.prior = prior
        self._loss_class = loss
        # What the prior does not see, but the network reads.
        self.free_parameters = prior.free_parameters - _SEEN
        self.data_selectors = prior.data_selectors | _SEEN

    @property
    def _keypoint_skeleton(self) -> Skeleton:
        return self.dataset.keypoint_skeleton or self.prior.skeleton

    @property
    def input_spec(self) -> dict[str, keras.layers.InputSpec]:
        shapes = {"directions": (self._keypoint_skeleton.num_joints, 2), "camera_height": (1,)}
        return {
            name: keras.layers.InputSpec(shape=shape, dtype="float32")
            for name, shape in shapes.items()
        }

    @property
    def output_spec(self) -> GuessSpec:
        return GuessSpec(self.prior, self._keypoint_skeleton)

    @property
    def _root(self) -> tuple[int, int]:
        return tuple(self.prior.skeleton.index(f"{side}_hip") for side in ("left", "right"))

    @property
    def loss(self) -> PoseLoss:
        return self._loss_class(root=self._root)

    def get_metrics(self, model: keras.Model) -> list[keras.metrics.Metric]:
        return [PoseMetric("origin", self._root)]

    @property
    def has_validation(self) -> bool:
        return self.prior.has_validation

    def load_arrays(self, split: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
        rows = []
        for view in self.prior.views(split, everything=True):
            seen = levelled([view])
            parts = (seen.directions, seen.camera_height, seen.from_world(view.poses))
            rows.append([part.astype(np.float32) for part in parts])
        directions, heights, poses = (np.concatenate(parts) for parts in zip(*rows, strict=True))
        return {"directions": directions, "camera_height": heights}, poses

    def report(
        self, model: keras.Model, split: str, batch_size: int, run_folder: pathlib.Path
    ) -> Report:
        """Returns the errors of the poses that are read, in mm, of the frames that `infer` fits."""
        views = self.prior.views(split)
        seen = levelled(views)
        inputs = {name: getattr(seen, name).astype(np.float32) for name in self.input_spec}
        poses = model.predict(inputs, batch_size, verbose=0)
        in_world = seen.poses_to_world(poses.astype(np.float64))
        ends = np.cumsum([len(view.poses) for view in views])[:-1]
        text, figures = self.prior.measure(views, np.split(in_world, ends))
        return Report(f"{split}: {text}", figures)

    def postprocess(self, outputs: keras.KerasTensor) -> keras.KerasTensor:
        return layers.PredictedPose(self.prior.skeleton, name="predicted_pose")(outputs)
