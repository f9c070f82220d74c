"""IGE-Net: a first guess of a pose, improved by steps down a learned energy.

Jack et al., "IGE-Net: Inverse Graphics Energy Networks for Human Pose Estimation and Single-View
Reconstruction", CVPR 2019.
"""

import gin
import keras

from ige import transfer
from ige.errors import UserError
from ige.hpe.energies import PoseEnergy
from ige.hpe.layers import PoseSpec
from ige.layers import InferenceMode
from ige.problem import InferenceFn, Tensors
from ige.unroll import UnrolledOptimizer

_NAME = "hpe.get_ige_inference"
# What poses mean to the base; and whom it has seen: of held-out subjects, nobody.
_AS_THE_BASE = (
    *(f"hpe.HpeProblem.{name}" for name in ("skeleton", "input_skeleton", "validation_subjects")),
    *(f"hpe.HpeProblem.{name}" for name in ("root_relative", "standardise")),
    "hpe.h3m_lift.keypoints",
)


@gin.configurable(module="hpe", denylist=["inputs", "output_spec"])
def get_ige_inference(
    inputs: Tensors,
    output_spec: PoseSpec,
    inference_fn: InferenceFn = gin.REQUIRED,
    init_model_id: str | None = gin.REQUIRED,
    optimizer: type[UnrolledOptimizer] = gin.REQUIRED,
    feasibility: type[keras.layers.Layer] | None = None,
    consistency: type[keras.layers.Layer] | None = None,
    freeze_base: bool = False,
) -> keras.KerasTensor:
    """The pose of another network, then those that steps down an energy make of it.

    The energy does not depend on the scale of a pose but for its limits, which are in metres: the
    descent starts from the other network's pose in metres.

    Args:
        inputs: `pose_2d` (batch, joints, 2) and, for the consistency, `radial` (batch, 3) and
            `tangential` (batch, 2).
        output_spec: spec of the 3D pose.
        inference_fn: the other network, the base.
        init_model_id: the run that the base takes its weights from; None to start afresh.
        optimizer: class of the unrolled optimiser, made with the energy.
        feasibility: class of the term of the body, as `FeasibilityEnergy` is; None to leave it out.
        consistency: class of the term of the image, as `ConsistencyEnergy` is; None to leave it
            out.
        freeze_base: train the energy and the optimiser only; the base then predicts in training
            as it does later, without dropout.

    Returns:
        (batch, steps + 1, joints, 3): all iterates, the base's pose first.

    Raises:
        UserError: no such run, no term, no camera for the consistency, or poses that are not
            absolute.
    """
    if feasibility is None and consistency is None:
        raise UserError(
            f"{_NAME}: got feasibility = None and consistency = None, expected at least one of the "
            "terms, such as @hpe.FeasibilityEnergy"
        )
    if output_spec.to_metres is None:
        raise UserError(
            f"{_NAME}: got poses that are not absolute and in metres; set hpe.HpeProblem."
            "root_relative = False, standardise = False and metric_scale = True"
        )
    if consistency is not None and "radial" not in inputs:
        raise UserError(
            f"{_NAME}.consistency: got no camera, expected its distortion as inputs; set "
            "hpe.HpeProblem.distortion_inputs = True"
        )
    base_inputs = {
        name: keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=name)
        for name, tensor in inputs.items()
    }
    base = keras.Model(base_inputs, inference_fn(base_inputs, output_spec), name="base")
    if init_model_id is not None:
        transfer.initialise(base, "hpe", init_model_id, f"{_NAME}.init_model_id", _AS_THE_BASE)
    if freeze_base:
        base = InferenceMode(base, trainable=False, name="frozen_base")
    start = output_spec.to_metres(base(inputs), "metric_start")

    conditions, terms = {}, {}
    if feasibility is not None:
        hips = [output_spec.skeleton.index(f"{side}_hip") for side in ("left", "right")]
        terms["feasibility"] = feasibility(hips, dtype="float32", name="feasibility")
    if consistency is not None:
        terms["consistency"] = term = consistency(dtype="float32", name="consistency")
        conditions = {name: inputs[name] for name in ("pose_2d", "radial", "tangential")}
        conditions["observed"] = term.observe(inputs["pose_2d"])
    descend = optimizer(PoseEnergy(**terms, dtype="float32"), return_energies=True, name="descent")
    iterates, _ = descend(start, conditions)
    return iterates
