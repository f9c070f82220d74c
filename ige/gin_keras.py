"""Keras classes as gin configurables: `@optimizers.Adam()`, `@regularizers.L2()`, ..."""

import inspect

import gin
import keras


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
    "optimizers",
    "optimizers.schedules",
    "regularizers",
    "constraints",
    "initializers",
):
    _register(_name)


@gin.configurable(module="ige")
def exponential_decay(initial: float = 1e-3, factor: float = 0.99):
    """Returns a schedule epoch -> learning rate: `initial * factor ** epoch`, epochs from 0."""

    def learning_rate(epoch: int) -> float:
        return initial * factor**epoch

    return learning_rate
