"""Numbers that a layer computes with: fixed or learned, one for all steps or one for each."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ige.errors import UserError, nearest

# A number; a list with one for each step; None switches off what it stands for.
Setting = float | Sequence[float] | None


@dataclasses.dataclass(frozen=True)
class Domain:
    """The values that a hyperparameter may have, and how a learned one stays among them.

    Attributes:
        expected: the values, in words.
        allows: whether a value is one of them.
        weight: value -> what is learned, initially.
        value: what is learned -> value, at each use.
    """

    expected: str
    allows: Callable[[float], bool]
    weight: Callable[[float], float]
    value: Callable[[tf.Tensor], tf.Tensor]


REAL = Domain("a finite number", math.isfinite, float, tf.identity)
# The logarithm is learned: a step of the outer optimiser changes the value by a factor.
POSITIVE = Domain("a number above 0", lambda v: 0 < v < math.inf, math.log, tf.exp)
# The logit is learned.
FRACTION = Domain(
    "a number between 0 and 1",
    lambda v: 0 < v < 1,
    lambda v: math.log(v) - math.log1p(-v),
    tf.sigmoid,
)


class Hyperparameters:
    """The hyperparameters of a layer that makes a number of steps.

    Args:
        owner: what they belong to, for messages.
        num_steps: steps that have a value of their own; further ones go on with the last.
        hyperparameters: name -> (setting, domain).
        learned: names of those that are learned, starting from these values.
        per_step: names of those of which each step has its own.

    Raises:
        UserError: a value or a name that makes no sense.
    """

    def __init__(
        self,
        owner: str,
        num_steps: int,
        hyperparameters: Mapping[str, tuple[Setting, Domain]],
        learned: Sequence[str],
        per_step: Sequence[str],
    ):
        self._owner = owner
        self._num_steps = num_steps
        self._domains = {name: domain for name, (_, domain) in hyperparameters.items()}
        self._settings = {
            name: list(setting) if isinstance(setting, Sequence) else setting
            for name, (setting, _) in hyperparameters.items()
        }
        self._learned = self._checked_names("learned", learned)
        self._per_step = self._checked_names("per_step", per_step)
        self._values = {name: self._checked_values(name) for name in self._settings}
        self._weights = {}

    def _checked_names(self, argument: str, names: Sequence[str]) -> list[str]:
        where = f"{self._owner}.{argument}"
        if isinstance(names, str):
            raise UserError(f"{where}: got {names!r}, expected a list of names: [{names!r}]")
        for name in names:
            if name not in self._settings:
                raise UserError(
                    f"{where}: no hyperparameter {name!r}; {nearest(name, self._settings)}"
                )
            if self._settings[name] is None:
                raise UserError(
                    f"{where}: {name} is None, expected a number to start from; set "
                    f"{self._owner}.{name}"
                )
        return list(names)

    def _checked_values(self, name: str) -> list[float]:
        """Returns the value of all steps, or that of each step, or nothing for None."""
        setting, domain = self._settings[name], self._domains[name]
        if setting is None:
            return []
        if isinstance(setting, list) and len(setting) != self._num_steps:
            raise UserError(
                f"{self._owner}.{name}: got {len(setting)} numbers, expected one, or one for each "
                f"of the {self._num_steps} steps"
            )
        values = setting if isinstance(setting, list) else [setting]
        for value in values:
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not domain.allows(value):
                raise UserError(f"{self._owner}.{name}: got {value!r}, expected {domain.expected}")
        spread = name in self._per_step and not isinstance(setting, list)
        return values * self._num_steps if spread else values

    def build(self, add_weight: Callable[..., Any]) -> None:
        """Makes the weights of those that are learned: (), or (steps,) if each has its own."""
        for name in self._learned:
            # Not plain numbers, which Keras rounds to single precision.
            weights = np.array([self._domains[name].weight(value) for value in self._values[name]])
            each = isinstance(self._settings[name], list) or name in self._per_step
            self._weights[name] = add_weight(
                name=name,
                shape=(len(weights),) if each else (),
                initializer=keras.initializers.Constant(weights if each else weights[0]),
            )

    def at(self, name: str, step: int, dtype: str) -> tf.Tensor | None:
        """Returns the value in a step, from 0; None if it is switched off."""
        values = self._values[name]
        if not values:
            return None
        step = min(step, len(values) - 1)
        if name not in self._weights:
            return tf.constant(values[step], dtype)
        weight = tf.convert_to_tensor(self._weights[name])
        return self._domains[name].value(weight[step] if weight.shape.rank else weight)

    def get_config(self) -> dict[str, Any]:
        """Returns the settings by their names, `learned` and `per_step`."""
        return self._settings | {"learned": self._learned, "per_step": self._per_step}
