"""Unrolled optimisers: a few steps down any energy as a layer that can be trained through.

The core of IGE-Net (Jack et al., "IGE-Net: Inverse Graphics Energy Networks for Human Pose
Estimation and Single-View Reconstruction", CVPR 2019): a network guesses, the optimiser improves
the guess, and what is learned is the energy. Nothing here knows what is optimised.
"""

import abc
from collections.abc import Sequence
from typing import Any

import gin
import keras
import tensorflow as tf
from keras import tree

from ige import energies
from ige.energies import HALF, Energy, Gradients, Structure
from ige.errors import UserError
from ige.hyperparameters import FRACTION, POSITIVE, REAL, Domain, Hyperparameters, Setting


class UnrolledOptimizer(keras.layers.Layer, abc.ABC):
    """Descends an energy for some steps and returns every iterate, the start included.

    Called with a state (what is optimised), conditions (what else the energy takes) and `active`
    (what of the state may change; None for all). The state and the conditions are a tensor, a list
    or a dict of tensors, (batch, ...). `active` is boolean: (batch,) for whole examples, or a
    structure like the state's with tensors of the state's shapes or (batch,).

    Returns the state's structure with the iterates along axis 1: (batch, steps + 1, ...). They are
    a tensor, not a list: the outputs of a functional model are the same few whether it trains or
    not, though the number of steps may differ. With `return_energies` it returns (iterates,
    energies), the energies (batch, steps + 1).

    An example whose energy or gradient is not finite stays where it is, and so does not show in
    other examples. Nor does it in the gradient of shared weights (see `isolate`), as long as one
    example of the batch, or of a device's share of it, is finite. All of that takes an energy that
    treats examples separately: batch normalisation in it must use its moving statistics.

    Computes in float32 under mixed precision, the energy's layers too (their policies are changed):
    the differences between iterates are lost in 8 bits. `dtype="float64"` is kept.

    Subclasses pass their hyperparameters to `__init__` under the names of their own arguments and
    implement `update`.

    Args:
        energy: a function or layer (state, conditions) -> (batch,), or a functional model of the
            state's tensors followed by the conditions'. A function that is to be saved has to be
            registered with Keras.
        num_steps: steps in training.
        test_steps: steps otherwise; None for as many. A loaded network takes it from gin where gin
            has one. What is compiled already keeps its number.
        hyperparameters: name -> (value, its domain). A list has a value for each step in training,
            and the last of them goes for further steps. None switches off what it stands for.
        learned: names of the hyperparameters that are learned, starting from these values.
        per_step: names of the hyperparameters of which each step has its own.
        return_energies: return the energy of every iterate too; evaluates the last one's.
        isolate: in training, evaluate examples that are not finite again at the values of one that
            is. Without it the gradient of shared weights is NaN as soon as one example's is:
            0 * NaN. Costs a second descent in the steps where there is such an example, and the
            derivatives by tensors that the energy closes over: it learns by variables only. An
            energy that draws random numbers draws others in the second descent. It does not see an
            infinite derivative of a gradient that is finite, such as that of x^1.5 at 0.

    Raises:
        UserError: a value that makes no sense; when called: a state without floating-point tensors,
            or an energy that does not return (batch,).
    """

    def __init__(
        self,
        energy: Energy,
        num_steps: int,
        test_steps: int | None,
        hyperparameters: dict[str, tuple[Setting, Domain]],
        learned: Sequence[str] = (),
        per_step: Sequence[str] = (),
        return_energies: bool = False,
        isolate: bool = True,
        dtype: Any = None,
        **kwargs,
    ):
        policy = keras.dtype_policies.get(dtype)
        full = "float32" if policy.compute_dtype in HALF else policy.compute_dtype
        super().__init__(dtype=full, **kwargs)
        if not callable(energy):
            raise UserError(
                f"{self._owner}.energy: got {energy!r}, expected a function or layer "
                "(state, conditions) -> (batch,)"
            )
        self.energy = energy
        self.num_steps = self._checked_steps("num_steps", num_steps)
        self.test_steps = test_steps
        self.return_energies = return_energies
        self.isolate = isolate
        self._hyperparameters = Hyperparameters(
            self._owner, num_steps, hyperparameters, learned, per_step
        )
        self._condition_dtypes = ()

    @property
    def _owner(self) -> str:
        return type(self).__name__

    @property
    def test_steps(self) -> int | None:
        return self._test_steps

    @test_steps.setter
    def test_steps(self, steps: int | None) -> None:
        self._test_steps = steps if steps is None else self._checked_steps("test_steps", steps)

    def _checked_steps(self, argument: str, steps: Any) -> int:
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise UserError(
                f"{self._owner}.{argument}: got {steps!r}, expected a whole number from 1 on"
            )
        return steps

    def __call__(self, state, conditions=(), active=None, **kwargs):
        energies.check_inputs(self._owner, state, conditions, active)
        if not self.built:  # `build` is told shapes only
            self._condition_dtypes = tuple(
                energies.dtype_name(tensor) for tensor in tree.flatten(conditions)
            )
        return super().__call__(state, conditions, active, **kwargs)

    def build(self, state_shape, conditions_shape=None, active_shape=None):
        self._hyperparameters.build(self.add_weight)
        dtypes = iter(self._condition_dtypes)

        def spec(shape: Sequence[int | None], dtype: str) -> keras.KerasTensor:
            floating = tf.as_dtype(dtype).is_floating
            return keras.KerasTensor(shape, self.compute_dtype if floating else dtype)

        state = tree.map_shape_structure(lambda shape: spec(shape, "float32"), state_shape)
        conditions = ()
        if conditions_shape is not None:
            conditions = tree.map_shape_structure(
                lambda shape: spec(shape, next(dtypes, "float32")), conditions_shape
            )
        energies.build(self.energy, state, conditions, self.dtype_policy, self._owner)

    def get_build_config(self):
        return (super().get_build_config() or {}) | {"dtypes": list(self._condition_dtypes)}

    def build_from_config(self, config):
        self._condition_dtypes = tuple(config["dtypes"])
        super().build_from_config(config)

    def compute_output_spec(self, state, conditions=(), active=None, training=None):
        count = self.num_steps + 1 if self.test_steps in (None, self.num_steps) else None

        def spec(batch: int | None, *shape: int | None) -> keras.KerasTensor:
            return keras.KerasTensor((batch, count, *shape), self.compute_dtype)

        iterates = tree.map_structure(lambda tensor: spec(*tensor.shape), state)
        batch = tree.flatten(state)[0].shape[0]
        return (iterates, spec(batch)) if self.return_energies else iterates

    def call(self, state, conditions=(), active=None, training=False):
        steps = self.num_steps if training else self.test_steps or self.num_steps

        def descend(*arguments):
            return self._descend(*arguments, active, steps)

        if training and self.isolate:
            gradients = energies.isolated_gradients
            iterates, passed = energies.differentiate_isolated(descend, state, conditions)
        else:
            gradients = energies.gradients
            (iterates, passed), _ = descend(gradients, state, conditions)
        stacked = [tf.stack(versions, axis=1) for versions in zip(*iterates, strict=True)]
        stacked = tree.pack_sequence_as(state, stacked)
        if not self.return_energies:
            return stacked
        last = tree.pack_sequence_as(state, iterates[-1])
        energy, *_ = gradients(self.energy, last, conditions, self.compute_dtype)
        return stacked, tf.stack([*passed, energy], axis=1)

    def _descend(
        self,
        gradients: Gradients,
        state: Structure,
        conditions: Structure,
        active: Structure,
        steps: int,
    ) -> tuple[tuple[list[list[tf.Tensor]], list[tf.Tensor]], tf.Tensor]:
        """Returns ((tensors of every iterate, energies of all but the last), all were finite)."""
        start = tree.flatten(state)
        masks = [tf.constant([True])] if active is None else tree.flatten(active)
        masks = masks * len(start) if len(masks) == 1 else masks
        masks = [energies.flat(tf.cast(mask, tf.bool)) for mask in masks]
        flats = [energies.flat(tensor) for tensor in start]
        slots = [self.slots(flat) for flat in flats]
        iterates, passed, all_finite = [start], [], []
        for step in range(steps):
            before = tree.pack_sequence_as(state, iterates[-1])
            energy, slopes, finite = gradients(self.energy, before, conditions, self.compute_dtype)
            for i, slope in enumerate(slopes):
                moves = masks[i] & finite[:, tf.newaxis]
                change, slots[i] = self.update(
                    tf.where(moves, energies.flat(slope), 0), slots[i], step
                )
                flats[i] += tf.where(moves, change, 0)
            iterates.append([tf.reshape(x, tf.shape(s)) for x, s in zip(flats, start, strict=True)])
            passed.append(energy)
            all_finite.append(finite)
        return (iterates, passed), tf.reduce_all(all_finite)

    def at(self, name: str, step: int) -> tf.Tensor | None:
        """Returns the value of a hyperparameter in a step, from 0; None if it is switched off."""
        return self._hyperparameters.at(name, step, self.compute_dtype)

    def slots(self, tensor: tf.Tensor) -> list[tf.Tensor]:
        """Returns what to remember of a tensor (batch, elements), before the first step."""
        return []

    @abc.abstractmethod
    def update(
        self, gradient: tf.Tensor, slots: list[tf.Tensor], step: int
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Returns what to add to a tensor (batch, elements), and its new slots. The gradient is 0
        where the tensor stays as it is: this and its derivative have to be finite there."""

    def get_config(self):
        energies.check_registered(self.energy, self._owner)
        energy = keras.saving.serialize_keras_object(self.energy)
        # `build` builds it; Keras would not do so for a layer of layers with no `build` of its own.
        energy.pop("build_config", None)
        return (
            super().get_config()
            | {
                "energy": energy,
                "num_steps": self.num_steps,
                "test_steps": self.test_steps,
                "return_energies": self.return_energies,
                "isolate": self.isolate,
            }
            | self._hyperparameters.get_config()
        )

    @classmethod
    def from_config(cls, config):
        config = config | {"energy": keras.saving.deserialize_keras_object(config["energy"])}
        return cls(**(config | _bound_test_steps(cls)))


@keras.saving.register_keras_serializable(package="ige")
class UnrolledSGD(UnrolledOptimizer):
    """Gradient descent: m <- |momentum| m + clip(gradient); x <- x - learning_rate m.

    Args:
        energy: see `UnrolledOptimizer`, as for all that is not listed here.
        learning_rate: above 0; its logarithm is learned.
        momentum: used by its absolute value; None for none.
        gradient_clip_value: largest absolute value of an element of the gradient, above 0; None
            for no limit; its logarithm is learned.
    """

    def __init__(
        self,
        energy: Energy,
        num_steps: int = 4,
        test_steps: int | None = None,
        learning_rate: Setting = 1.0,
        momentum: Setting = None,
        gradient_clip_value: Setting = None,
        learned: Sequence[str] = (),
        per_step: Sequence[str] = (),
        return_energies: bool = False,
        isolate: bool = True,
        **kwargs,
    ):
        hyperparameters = {
            "learning_rate": (learning_rate, POSITIVE),
            "momentum": (momentum, REAL),
            "gradient_clip_value": (gradient_clip_value, POSITIVE),
        }
        super().__init__(
            energy,
            num_steps,
            test_steps,
            hyperparameters,
            learned,
            per_step,
            return_energies,
            isolate,
            **kwargs,
        )

    def slots(self, tensor):
        return [] if self.at("momentum", 0) is None else [tf.zeros_like(tensor)]

    def update(self, gradient, slots, step):
        limit = self.at("gradient_clip_value", step)
        if limit is not None:
            gradient = tf.clip_by_value(gradient, -limit, limit)
        if slots:
            momentum = self.at("momentum", step)
            # Unlike that of `tf.abs`, this derivative is not 0 at 0, where it could never leave.
            momentum = tf.where(momentum < 0, -momentum, momentum)
            gradient = momentum * slots[0] + gradient
            slots = [gradient]
        return -self.at("learning_rate", step) * gradient, slots


@keras.saving.register_keras_serializable(package="ige")
class UnrolledAdam(UnrolledOptimizer):
    """Adam (Kingma and Ba, ICLR 2015), with epsilon inside the square root.

    Outside, as in the paper, the derivative by a gradient of 0 would be infinite.

    Args:
        energy: see `UnrolledOptimizer`, as for all that is not listed here.
        learning_rate: above 0, about what a step changes; its logarithm is learned.
        beta_1: decay of the mean of the gradients, between 0 and 1; its logit is learned.
        beta_2: decay of the mean of their squares, between 0 and 1; its logit is learned.
        epsilon: above 0, added to the root mean square (as its square, to the mean square); its
            logarithm is learned.
    """

    def __init__(
        self,
        energy: Energy,
        num_steps: int = 4,
        test_steps: int | None = None,
        learning_rate: Setting = 0.1,
        beta_1: Setting = 0.9,
        beta_2: Setting = 0.999,
        epsilon: Setting = 1e-3,
        learned: Sequence[str] = (),
        per_step: Sequence[str] = (),
        return_energies: bool = False,
        isolate: bool = True,
        **kwargs,
    ):
        hyperparameters = {
            "learning_rate": (learning_rate, POSITIVE),
            "beta_1": (beta_1, FRACTION),
            "beta_2": (beta_2, FRACTION),
            "epsilon": (epsilon, POSITIVE),
        }
        super().__init__(
            energy,
            num_steps,
            test_steps,
            hyperparameters,
            learned,
            per_step,
            return_energies,
            isolate,
            **kwargs,
        )

    def slots(self, tensor):
        return [tf.zeros_like(tensor), tf.zeros_like(tensor)]

    def update(self, gradient, slots, step):
        means = []
        for name, slot, value in zip(
            ("beta_1", "beta_2"), slots, (gradient, tf.square(gradient)), strict=True
        ):
            beta = self.at(name, step)
            means.append(beta * slot + (1 - beta) * value)
        # What is missing to 1 in the weights of these means, for they began at 0.
        first, second = (
            mean / (1 - tf.reduce_prod([self.at(name, i) for i in range(step + 1)]))
            for name, mean in zip(("beta_1", "beta_2"), means, strict=True)
        )
        scale = tf.sqrt(second + tf.square(self.at("epsilon", step)))
        return -self.at("learning_rate", step) * first / scale, means


def _bound_test_steps(cls: type[UnrolledOptimizer]) -> dict[str, Any]:
    """Returns the number of test steps that gin has for a class, as its argument."""
    try:
        bound = gin.get_bindings(cls)
    except ValueError:  # it is no configurable
        return {}
    return {name: value for name, value in bound.items() if name == "test_steps"}


# Not as decorators: Keras has to see the arguments of a layer's `__init__`.
for _class in (UnrolledSGD, UnrolledAdam):
    gin.external_configurable(_class, module="ige", denylist=["energy", "name"])
