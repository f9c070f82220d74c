"""Single-view voxel reconstruction."""
