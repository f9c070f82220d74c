"""Human3.6M for lifting 2D poses to 3D: `h3m_lift` reads every layout that people have on disk."""

from ige.hpe.data.h3m_lift.dataset import H3mLiftDataset, h3m_lift
from ige.hpe.data.sequences import PoseSequence

__all__ = ["H3mLiftDataset", "PoseSequence", "h3m_lift"]
