"""Deep-learning research on 3D human poses and shapes: a Problem, an inference_fn, a few lines of gin."""

__version__ = "0.1.0"
