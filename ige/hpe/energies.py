"""The energy of a 3D pose given a 2D one (Jack et al., "IGE-Net", CVPR 2019).

Two terms, each a multilayer perceptron of squared distances between points: how feasible the pose
is as a body, whatever its position, orientation and size, and how consistent it is with what the
camera sees.
"""

from collections.abc import Sequence

import gin
import keras
import numpy as np
import tensorflow as tf

from ige.errors import UserError
from ige.geometry import cameras


def coordinates(points: tf.Tensor) -> list[tf.Tensor]:
    """Returns the coordinates of points (batch, J, d): d tensors (batch, J).

    As products with constant matrices: operations on slices are fused by XLA into loops over the
    few coordinates of a joint, which on a CPU are several times as slow as those over its joints.
    """
    points = tf.convert_to_tensor(points)
    joints, dimensions = points.shape[1:]
    flat = tf.reshape(points, (-1, joints * dimensions))
    chosen = np.eye(joints * dimensions).reshape(-1, joints, dimensions)
    return [_times(flat, chosen[..., i]) for i in range(dimensions)]


def pair_distances(
    points: Sequence[tf.Tensor], others: Sequence[tf.Tensor] | None = None
) -> tf.Tensor:
    """Returns the squared distances (batch, J (J - 1) / 2) of all pairs i < j of points; behind
    them, if there are others, those (J K) of every point from each of these.

    Differences are products with constant matrices: half the time of gathering both ends, for the
    derivative of a gather is a scatter; nor is one of joining the two kinds of distances.

    Args:
        points: their `coordinates`, d tensors (batch, J).
        others: the same, (batch, K).
    """
    joints = points[0].shape[-1]
    pairs = np.subtract(*(np.eye(joints)[:, ends] for ends in np.triu_indices(joints, k=1)))
    if others is None:
        differences = [_times(coordinate, pairs) for coordinate in points]
    else:
        count = others[0].shape[-1]
        begin = np.concatenate([pairs, np.repeat(np.eye(joints), count, axis=1)], axis=1)
        end = np.tile(np.eye(count), joints)
        end = np.concatenate([np.zeros((count, pairs.shape[1])), end], axis=1)
        differences = [
            _times(coordinate, begin) - _times(other, end)
            for coordinate, other in zip(points, others, strict=True)
        ]
    return tf.add_n([tf.square(difference) for difference in differences])


def _times(rows: tf.Tensor, matrix: np.ndarray) -> tf.Tensor:
    return tf.matmul(rows, tf.constant(matrix, rows.dtype))


def project(
    poses: Sequence[tf.Tensor],
    radial: tf.Tensor,
    tangential: tf.Tensor,
    min_depth: float,
    max_radius: float,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns where a camera sees poses, normalised; always finite.

    As `ige.geometry.cameras.project_normalised` in front of the camera and in its image. Depths
    below `min_depth`, those behind the camera too, count as that depth: such a joint is seen far
    out on its own side. Undistorted points further from the centre than `max_radius` are drawn
    in to it: the polynomials of a distortion mean nothing there.

    Args:
        poses: their `coordinates`, x, y and z (batch, J).
        radial: (batch, 3).
        tangential: (batch, 2).
        min_depth: in the unit of the poses.
        max_radius: normalised.

    Returns:
        x and y (batch, J).
    """
    x, y, z = poses
    depth = tf.maximum(z, min_depth)
    x, y = x / depth, y / depth
    square = tf.square(x) + tf.square(y)
    limit = max_radius**2
    inside = max_radius * tf.math.rsqrt(tf.maximum(square, limit))
    inside = tf.where(square > limit, inside, 1.0)
    return cameras.distort_coordinates(x * inside, y * inside, radial, tangential)


def softabs(x: tf.Tensor) -> tf.Tensor:
    """Returns sqrt(x^2 + 1) - 1: a smooth |x|, quadratic at 0."""
    return tf.sqrt(tf.square(x) + 1) - 1


def _num_pairs(joints: int) -> int:
    return joints * (joints - 1) // 2


class _Term(keras.layers.Layer):
    """A perceptron of squared distances: hidden softplus units, outputs, the sum of their softabs.

    Args:
        hidden_units: width of the hidden layer.
        num_outputs: outputs.
        init_scale: of the variance scaling that both kernels begin with; small, so that the first
            descents move little.
        limits: numbers above 0 of the subclass, by their names.
    """

    def __init__(
        self,
        hidden_units: int,
        num_outputs: int,
        init_scale: float,
        limits: dict[str, float],
        **kwargs,
    ):
        super().__init__(**kwargs)
        counts = {"hidden_units": hidden_units, "num_outputs": num_outputs}
        numbers = {"init_scale": init_scale} | limits
        for name, value in (counts | numbers).items():
            kind = int if name in counts else int | float
            if isinstance(value, bool) or not isinstance(value, kind) or not 0 < value < np.inf:
                expected = "a whole number from 1 on" if name in counts else "a number above 0"
                raise UserError(
                    f"hpe.{type(self).__name__}.{name}: got {value!r}, expected {expected}"
                )
        self._options = counts | numbers
        self.hidden, self.outputs = (
            keras.layers.Dense(
                units,
                kernel_initializer=keras.initializers.VarianceScaling(init_scale),
                dtype=self.dtype_policy,
                name=name,
            )
            for name, units in (("hidden", hidden_units), ("outputs", num_outputs))
        )

    def build_perceptron(self, num_distances: int) -> None:
        """Makes the weights."""
        self.hidden.build((None, num_distances))
        self.outputs.build((None, self._options["hidden_units"]))

    def energy(self, hidden: tf.Tensor) -> tf.Tensor:
        """Returns the energy (batch,) of the hidden units before their softplus (batch, units)."""
        return tf.reduce_sum(softabs(self.outputs(tf.nn.softplus(hidden))), axis=-1)

    def get_config(self):
        return super().get_config() | self._options


@keras.saving.register_keras_serializable(package="ige")
class FeasibilityEnergy(_Term):
    """How unlike a body a pose is: of its joints' squared distances over that of the hips.

    Args:
        hips: indices of the two hips.
        hidden_units: width of the hidden layer.
        num_outputs: outputs, the softabs of which are summed.
        init_scale: of the variance scaling that kernels begin with.
        min_hip_distance: a smaller distance of the hips counts as that, metres.
    """

    def __init__(
        self,
        hips: tuple[int, int],
        hidden_units: int = 256,
        num_outputs: int = 8,
        init_scale: float = 1e-3,
        min_hip_distance: float = 0.05,
        **kwargs,
    ):
        limits = {"min_hip_distance": min_hip_distance}
        super().__init__(hidden_units, num_outputs, init_scale, limits, **kwargs)
        self._hips = list(hips)
        self._min_hip_distance = min_hip_distance

    def build(self, poses_shape):
        self.build_perceptron(_num_pairs(poses_shape[-2]))

    def call(self, poses):
        """(batch, joints, 3) metres -> (batch,)."""
        distances = pair_distances(coordinates(poses))
        ends = np.transpose(np.triu_indices(poses.shape[-2], k=1))
        of_hips = np.all(ends == sorted(self._hips), axis=1, keepdims=True)
        hip_distance = tf.maximum(_times(distances, of_hips), self._min_hip_distance**2)
        return self.energy(self.hidden(distances / hip_distance))

    def get_config(self):
        return super().get_config() | {"hips": self._hips}


@keras.saving.register_keras_serializable(package="ige")
class ConsistencyEnergy(_Term):
    """How little a pose looks like what the camera sees: of the squared distances of the projected
    joints, of the observed ones, and of the ones from the others.

    What the hidden units get from the observed joints alone is the same for all poses, and so not
    computed here, but once for all steps of a descent: `observed` is `observe` of the joints.

    Args:
        hidden_units: width of the hidden layer.
        num_outputs: outputs, the softabs of which are summed.
        init_scale: of the variance scaling that kernels begin with.
        min_depth: of a joint that is projected, metres; see `project`.
        max_radius: of a projected point, normalised; see `project`.
    """

    def __init__(
        self,
        hidden_units: int = 256,
        num_outputs: int = 8,
        init_scale: float = 1e-3,
        min_depth: float = 0.1,
        max_radius: float = 2.0,
        **kwargs,
    ):
        self._limits = {"min_depth": min_depth, "max_radius": max_radius}
        super().__init__(hidden_units, num_outputs, init_scale, self._limits, **kwargs)

    def observe(self, pose_2d: keras.KerasTensor) -> keras.KerasTensor:
        """Returns, with layers of its own, what the hidden units (batch, units) get from observed
        joints (batch, joints, 2).

        Its kernel begins with the variance scaling of its own 120 inputs, not of all 496.
        """
        distances = PairDistances(dtype=self.compute_dtype, name="observed_distances")(pose_2d)
        return keras.layers.Dense(
            self._options["hidden_units"],
            use_bias=False,
            kernel_initializer=keras.initializers.VarianceScaling(self._options["init_scale"]),
            dtype=self.dtype_policy,
            name="observed",
        )(distances)

    def build(
        self, poses_shape, observed_shape, pose_2d_shape, radial_shape=None, tangential_shape=None
    ):
        joints = poses_shape[-2]
        self.build_perceptron(_num_pairs(joints) + joints * pose_2d_shape[-2])

    def call(self, poses, observed, pose_2d, radial, tangential):
        """(batch, joints, 3) metres, (batch, units), (batch, joints, 2), (batch, 3), (batch, 2)
        -> (batch,)."""
        projected = project(coordinates(poses), radial, tangential, **self._limits)
        distances = pair_distances(projected, coordinates(pose_2d))
        return self.energy(self.hidden(distances) + observed)


@keras.saving.register_keras_serializable(package="ige")
class PairDistances(keras.layers.Layer):
    """The squared distances (batch, J (J - 1) / 2) of all pairs of points (batch, J, d)."""

    def call(self, points):
        return pair_distances(coordinates(points))


@keras.saving.register_keras_serializable(package="ige")
class PoseEnergy(keras.layers.Layer):
    """The sum of the terms, as an unrolled optimiser takes it: (poses, conditions) -> (batch,).

    Args:
        feasibility: None to leave it out.
        consistency: None to leave it out; its conditions are `observed`, `pose_2d`, `radial` and
            `tangential`.
    """

    def __init__(
        self,
        feasibility: keras.layers.Layer | None = None,
        consistency: keras.layers.Layer | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.feasibility = feasibility
        self.consistency = consistency

    def build(self, poses_shape, conditions_shape=None):
        # Loaded terms are built already.
        if self.feasibility is not None and not self.feasibility.built:
            self.feasibility.build(poses_shape)
        if self.consistency is not None and not self.consistency.built:
            shapes = {f"{name}_shape": shape for name, shape in conditions_shape.items()}
            self.consistency.build(poses_shape, **shapes)

    def call(self, poses, conditions):
        energies = []
        if self.feasibility is not None:
            energies.append(self.feasibility(poses))
        if self.consistency is not None:
            energies.append(self.consistency(poses, **conditions))
        return tf.add_n(energies)

    def get_config(self):
        terms = {"feasibility": self.feasibility, "consistency": self.consistency}
        serialized = {
            name: term and keras.saving.serialize_keras_object(term) for name, term in terms.items()
        }
        return super().get_config() | serialized

    @classmethod
    def from_config(cls, config):
        terms = {
            name: config[name] and keras.saving.deserialize_keras_object(config[name])
            for name in ("feasibility", "consistency")
        }
        return cls(**(config | terms))


# Not as decorators: Keras has to see the arguments of a layer's `__init__`.
for _class in (FeasibilityEnergy, ConsistencyEnergy):
    gin.external_configurable(_class, module="hpe", denylist=["hips", "name"])
