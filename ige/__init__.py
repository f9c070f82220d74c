"""Deep-learning research on 3D human poses and shapes, configured by gin."""

__version__ = "0.1.0"
