"""Keras classes as gin configurables: `@optimizers.Adam()`, `@regularizers.L2()`, ..."""

import inspect
from collections.abc import Callable

import gin
import keras

from ige.errors import UserError


def _register(module_name: str) -> None:
    """Registers the public classes of `keras.<module_name>` under their Keras names."""
    module = keras
    for part in module_name.split("."):
        module = getattr(module, part)
    registered = set()
    for name, item in vars(module).items():
        is_class = inspect.isclass(item) and not inspect.isabstract(item)
        # Keras exports some classes under a second, lower-case or older name.
        if is_class and name[0].isupper() and item not in registered:
            gin.external_configurable(item, name=name, module=f"keras.{module_name}")
            registered.add(item)


for _name in (
    "callbacks",
    "optimizers",
    "optimizers.schedules",
    "regularizers",
    "constraints",
    "initializers",
):
    _register(_name)


@gin.configurable(module="ige")
def exponential_decay(factor: float = 0.99) -> Callable[[int], float]:
    """Returns epoch (from 0) -> `factor ** epoch`, what to multiply the learning rate by.

    Raises:
        UserError: the factor is not positive.
    """
    if factor <= 0:
        raise UserError(f"exponential_decay.factor: got {factor}, expected a number above 0")

    def multiplier(epoch: int) -> float:
        return factor**epoch

    return multiplier
