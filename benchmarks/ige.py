"""Trains an IGE-Net with ige and with eager PyTorch, side by side.

    pip install torch==2.13.0
    python -m benchmarks.ige

(or `pip install '.[benchmarks]'`, which says the same.) Both descend the same energy and train
through the steps; what does not change from step to step both compute once.
"""

import keras
import numpy as np
import torch

from benchmarks import opponent
from benchmarks.lifting import operations as base_operations
from benchmarks.opponent import Comparison, Lifter, Module
from ige import descents
from ige.hpe.energies import ConsistencyEnergy, FeasibilityEnergy
from ige.hpe.layers import BoneLengthScale

_CONFIG = "hpe/ige4-b128-1"
_LEAST = 4.0
"""Ratio to reach, at batch 64 on 2 cores."""


class Term(Module):
    """A perceptron of squared distances."""

    def __init__(self, layer: FeasibilityEnergy | ConsistencyEnergy):
        super().__init__()
        self.hidden, self.outputs = self.linear(layer.hidden), self.linear(layer.outputs)

    def forward(self, distances: torch.Tensor, constant: torch.Tensor | float = 0.0):
        """(batch, n), and what else the hidden units get -> energies (batch,)."""
        hidden = torch.nn.functional.softplus(self.hidden(distances) + constant)
        return (torch.sqrt(self.outputs(hidden).square() + 1) - 1).sum(dim=1)


class IgeNet(Module):
    """The network of `get_ige_inference` with both terms and `UnrolledSGD`."""

    def __init__(self, model: keras.Model):
        super().__init__()
        self.base = Lifter(model.get_layer("base"))
        self._scale: BoneLengthScale = model.get_layer("metric_start")
        descent = descents.optimizer(model)
        self._steps = descent.num_steps
        self.log_rate, self.momentum, self.log_limit = map(self.copy, descent.weights[:3])
        energy = descent.energy
        self._energy = energy
        self.feasibility, self.consistency = Term(energy.feasibility), Term(energy.consistency)
        self.observed = self.linear(model.get_layer("observed"))
        for part in (self.base, self.feasibility, self.consistency):
            self.copied += part.copied
        joints = model.output_shape[-2]
        self._pairs = torch.from_numpy(np.stack(np.triu_indices(joints, k=1)))

    def _pair_distances(self, points: torch.Tensor) -> torch.Tensor:
        """(batch, joints, d) -> (batch, pairs)."""
        # As fast as `points[:, ends]` and a product with a constant matrix, or faster.
        first, second = (points.index_select(1, ends) for ends in self._pairs)
        return (first - second).square().sum(dim=2)

    def _metric(self, poses: torch.Tensor) -> torch.Tensor:
        child, parent = map(list, zip(*self._scale.bones, strict=True))
        bones = poses[..., child, :] - poses[..., parent, :]
        lengths = (bones.square().sum(dim=-1) + 1e-24).sqrt().sum(dim=-1)
        return poses * (self._scale.length / lengths)[..., None, None]

    def _project(self, poses, radial, tangential) -> torch.Tensor:
        """`ige.hpe.energies.project`."""
        config = self._energy.consistency.get_config()
        points = poses[..., :2] / poses[..., 2:].clamp(min=config["min_depth"])
        square = points.square().sum(dim=-1, keepdim=True)
        limit = config["max_radius"] ** 2
        inside = config["max_radius"] * square.clamp(min=limit).rsqrt()
        points = points * torch.where(square > limit, inside, 1.0)
        square = points.square().sum(dim=-1, keepdim=True)
        k0, k1, k2 = radial[:, None].split(1, dim=-1)
        swapped = tangential[:, None].flip(-1)
        factor = 1 + square * (k0 + square * (k1 + square * k2))
        factor = factor + (swapped * points).sum(dim=-1, keepdim=True)
        return points * factor + swapped * square

    def _energies(self, poses, pose_2d, observed, radial, tangential) -> torch.Tensor:
        left, right = self._energy.feasibility.get_config()["hips"]
        hips = (poses[:, left] - poses[:, right]).square().sum(dim=1, keepdim=True)
        smallest = self._energy.feasibility.get_config()["min_hip_distance"] ** 2
        feasibility = self.feasibility(self._pair_distances(poses) / hips.clamp(min=smallest))
        projected = self._project(poses, radial, tangential)
        cross = (projected[:, :, None] - pose_2d[:, None]).square().sum(dim=-1).flatten(1)
        distances = torch.cat([self._pair_distances(projected), cross], dim=1)
        return feasibility + self.consistency(distances, observed)

    def forward(self, pose_2d, radial, tangential) -> torch.Tensor:
        """(batch, joints, 2), (batch, 3), (batch, 2) -> (batch, steps + 1, joints, 3)."""
        poses = self._metric(self.base(pose_2d))
        observed = self.observed(self._pair_distances(pose_2d))
        rate, limit = self.log_rate.exp(), self.log_limit.exp()
        velocity = torch.zeros_like(poses)
        iterates = [poses]
        for _ in range(self._steps):
            energy = self._energies(poses, pose_2d, observed, radial, tangential).sum()
            (slope,) = torch.autograd.grad(energy, poses, create_graph=True)
            velocity = self.momentum.abs() * velocity + slope.clamp(-limit, limit)
            poses = poses - rate * velocity
            iterates.append(poses)
        return self._metric(torch.stack(iterates, dim=1))


def operations(model: keras.Model) -> int:
    """Returns the operations in matrix products of weights that training takes per example.

    The base as in `benchmarks.lifting`, and two for each weight of the energy in each of six
    products of every step: forward, and the gradient by the pose; then, back through the forward
    product, the gradients by its weights and its inputs, and the same through that of the gradient.
    What comes from the observed joints alone: forward and the gradient by its weights, once.
    """
    descent = descents.optimizer(model)
    kernels = [weight for weight in descent.energy.weights if len(weight.shape) == 2]
    weights = sum(int(np.prod(kernel.shape)) for kernel in kernels)
    observed = int(np.prod(model.get_layer("observed").kernel.shape))
    base = base_operations(model.get_layer("base"))
    return base + descent.num_steps * 6 * 2 * weights + 2 * 2 * observed


if __name__ == "__main__":
    opponent.main(
        __doc__.splitlines()[0],
        [
            Comparison(
                _CONFIG,
                "hpe.get_ige_inference",
                ["init_model_id=None"],
                IgeNet,
                operations,
                _LEAST,
            )
        ],
    )
