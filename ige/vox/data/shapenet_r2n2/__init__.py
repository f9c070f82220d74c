"""The voxels and renderings of 3D-R2N2: `shapenet_r2n2`."""

from ige.vox.data.shapenet_r2n2.dataset import ShapenetR2n2Dataset, shapenet_r2n2

__all__ = ["ShapenetR2n2Dataset", "shapenet_r2n2"]
