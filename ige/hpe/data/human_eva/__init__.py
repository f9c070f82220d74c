"""HumanEva-I for lifting 2D poses to 3D: `human_eva` reads the layouts that people have."""

from ige.hpe.data.human_eva.dataset import HumanEvaDataset, human_eva

__all__ = ["HumanEvaDataset", "human_eva"]
