"""IGE-Net for voxels: a first guess of the grid, improved by steps down a learned energy.

Jack et al., "IGE-Net: Inverse Graphics Energy Networks for Human Pose Estimation and Single-View
Reconstruction", CVPR 2019. The descent takes place in the object frame, on logits.
"""

import gin
import keras

from ige import transfer
from ige.errors import UserError
from ige.layers import InferenceMode
from ige.problem import InferenceFn, Tensors
from ige.unroll import UnrolledOptimizer
from ige.vox.energies import VoxelEnergy
from ige.vox.models.baseline import DECODED
from ige.vox.views import Cameras

_NAME = "vox.get_ige_inference"
# Which shapes and cells the base has learned.
_AS_THE_BASE = (
    "vox.VoxProblem.dataset",
    *(
        f"vox.shapenet_core.{name}"
        for name in ("resolution", "legacy_fov", "synsets", "synthetic_seed", "synthetic_models")
    ),
)


@gin.configurable(module="vox", denylist=["inputs", "output_spec"])
def get_ige_inference(
    inputs: Tensors,
    output_spec: keras.layers.InputSpec,
    inference_fn: InferenceFn = gin.REQUIRED,
    init_model_id: str | None = gin.REQUIRED,
    optimizer: type[UnrolledOptimizer] = gin.REQUIRED,
    realism: type[keras.layers.Layer] | None = None,
    consistency: type[keras.layers.Layer] | None = None,
    freeze_base: bool = False,
) -> keras.KerasTensor:
    """The grid of another network, then those that steps down an energy make of it.

    Args:
        inputs: `image` (batch, size, size, 3) uint8, `silhouette` (batch, size, size) bool and the
            camera.
        output_spec: spec of the grid (R, R, R).
        inference_fn: the other network, the base, `vox.get_baseline_inference`.
        init_model_id: the run that the base takes its weights from; None to start afresh.
        optimizer: class of the unrolled optimiser, made with the energy.
        realism: class of the term of the grid, as `RealismEnergy` is; None to leave it out.
        consistency: class of the term of the image, as `ConsistencyEnergy` is; None to leave it
            out.
        freeze_base: train the energy and the optimiser only.

    Returns:
        (batch, steps + 1, R, R, R) logits in the object frame: all iterates, the base's first.

    Raises:
        UserError: no such run, or no term.
    """
    if realism is None and consistency is None:
        raise UserError(
            f"{_NAME}: got realism = None and consistency = None, expected at least one of the "
            "terms, such as @vox.RealismEnergy"
        )
    resolution = output_spec.shape[0]
    base_inputs = {
        name: keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=name)
        for name, tensor in inputs.items()
    }
    base = keras.Model(base_inputs, inference_fn(base_inputs, output_spec))
    if init_model_id is not None:
        transfer.initialise(base, "vox", init_model_id, f"{_NAME}.init_model_id", _AS_THE_BASE)
    base = keras.Model(base_inputs, [base.output, base.get_layer(DECODED).output], name="base")
    if freeze_base:
        base = InferenceMode(base, trainable=False, name="frozen_base")
    start, features = base(inputs)

    conditions, terms = {}, {}
    if realism is not None:
        terms["realism"] = realism(dtype="float32", name="realism")
    if consistency is not None:
        terms["consistency"] = term = consistency(dtype="float32", name="consistency")
        silhouette = keras.layers.Rescaling(1.0, dtype="float32", name="silhouette_as_float")(
            keras.layers.Reshape((*inputs["silhouette"].shape[1:], 1))(inputs["silhouette"])
        )
        silhouette = keras.layers.Resizing(
            resolution, resolution, antialias=True, dtype="float32", name="silhouette_of_cells"
        )(silhouette)
        conditions = term.observe(features, silhouette)
        conditions |= {name: inputs[name] for name in Cameras._fields}
    descend = optimizer(VoxelEnergy(**terms, dtype="float32"), return_energies=True, name="descent")
    iterates, _ = descend(start, conditions)
    return iterates
