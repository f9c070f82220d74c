"""ShapeNetCore as voxels and views: `shapenet_core` reads the layouts that people have on disk."""

from ige.vox.data.shapenet_core.dataset import ShapenetCoreDataset, shapenet_core

__all__ = ["ShapenetCoreDataset", "shapenet_core"]
