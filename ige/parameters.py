"""What gin knows after parsing: every parameter of an experiment, with its value.

gin offers no public way to list its macros and configurables; all access to its private tables that
is not about parsing is here.
"""

import dataclasses
import inspect
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from ige.errors import UserError, nearest

COMMANDS_WITH_CONFIG = ("train", "evaluate", "prepare", "default_model_dir")


def registry() -> list[Any]:
    from gin import config as gin_config

    return list(gin_config._REGISTRY._selector_map.values())


def bound_selectors() -> set[str]:
    """Returns the configurables that have bindings now."""
    from gin import config as gin_config

    return {selector.removeprefix("ige.") for _, selector in gin_config._CONFIG} - {"gin.macro"}


def macros() -> dict[str, Any]:
    """Returns every macro that has a value now."""
    from gin import config as gin_config

    return {
        scope: bindings["value"]
        for (scope, selector), bindings in gin_config._CONFIG.items()
        if selector == "gin.macro"
    }


def references(value: Any) -> Iterator[Any]:
    """Yields the gin references inside a value, containers included."""
    from gin import config as gin_config

    if isinstance(value, gin_config.ConfigurableReference):
        yield value
    elif isinstance(value, dict):
        for item in [*value.keys(), *value.values()]:
            yield from references(item)
    elif isinstance(value, list | tuple | set):
        for item in value:
            yield from references(item)


def is_macro(reference: Any) -> bool:
    return reference.selector == "gin.macro"


def macro_name(reference: Any) -> str:
    return reference.scoped_selector.rpartition("/")[0]


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One parameter of the resolved configuration."""

    value: Any
    bound: bool

    def __str__(self) -> str:
        return repr(self.value)


def resolved(roots: Sequence[str] = COMMANDS_WITH_CONFIG) -> dict[str, Parameter]:
    """Returns every parameter that `roots` can reach: `hpe.HpeProblem.skeleton` -> value.

    Unlike gin's own `config_str` it has the defaults too, and unlike `operative_config_str` it
    needs nothing to be called. Macros are replaced by their values.

    Raises:
        UserError: a value of the wrong type, or a required one that is missing.
    """
    import gin

    known = {configurable.selector for configurable in registry()}
    found: dict[str, Parameter] = {}
    waiting = [
        ([], selector) for selector in sorted(known) if selector.removeprefix("ige.") in roots
    ]
    seen = set()
    while waiting:
        scopes, selector = waiting.pop(0)
        # gin takes any unambiguous ending of a name, and people write `train.epochs`.
        key = "/".join([*scopes, selector.removeprefix("ige.")])
        if key in seen:
            continue
        seen.add(key)
        with gin.config_scope(scopes or None):
            bound = gin.get_bindings(selector, resolve_references=False, inherit_scopes=True)
        allowed = dict(_parameters(selector))
        for name in bound.keys() - allowed.keys():
            # gin takes any name where the configurable has **kwargs.
            raise UserError(f"{key}: no parameter {name!r}; {nearest(name, allowed)}")
        for name, parameter in allowed.items():
            value = _without_macros(bound.get(name, parameter.default))
            if value is gin.REQUIRED:
                raise UserError(f"{key}.{name}: got no value; bind it in the gin file")
            if value is inspect.Parameter.empty:
                continue
            if name in bound:
                _check_type(f"{key}.{name}", value, parameter.annotation)
            found[f"{key}.{name}"] = Parameter(value, name in bound)
            for reference in references(value):
                scope, referred = reference.config_key
                waiting.append((scope.split("/") if scope else [], referred))
        if selector.startswith("keras."):
            _check_keras(key, selector, scopes)
    return found


def _check_keras(key: str, selector: str, scopes: list[str]) -> None:
    """Makes a Keras object, which costs little, to see whether Keras takes its parameters."""
    import gin

    try:
        with gin.config_scope(scopes or None):
            gin.get_configurable(selector)()
    except (ValueError, TypeError) as error:
        raise UserError(f"{key}: Keras refuses it: {str(error).splitlines()[0]}") from error


def _parameters(selector: str) -> Iterator[tuple[str, inspect.Parameter]]:
    """Yields the parameters of a configurable that gin may set."""
    configurable = next(item for item in registry() if item.selector == selector)
    hidden = configurable.denylist or ()
    for name, parameter in inspect.signature(configurable.wrapped).parameters.items():
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) and (
            name not in hidden
        ):
            yield name, parameter


def _without_macros(value: Any, seen: tuple[str, ...] = ()) -> Any:
    """Replaces the macros in a value by what they stand for."""
    from gin import config as gin_config

    if isinstance(value, gin_config.ConfigurableReference):
        if not is_macro(value):
            return value
        name = macro_name(value)
        if name in seen:
            raise UserError(f"the macro %{name} is defined by itself; give it a value")
        return _without_macros(macros()[name], (*seen, name))
    if isinstance(value, dict):
        return {
            _without_macros(key, seen): _without_macros(item, seen) for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return type(value)(_without_macros(item, seen) for item in value)
    return value


def _check_type(name: str, value: Any, annotation: Any) -> None:
    """Refuses a literal that does not fit the annotation of its parameter."""
    import typeguard

    if annotation is inspect.Parameter.empty or any(references(value)):
        return
    if typing.get_origin(annotation) is typing.Literal:
        choices = typing.get_args(annotation)
        if value not in choices:
            listed = ", ".join(map(repr, choices))
            hint = nearest(str(value), map(str, choices))
            raise UserError(f"{name}: got {value!r}, expected one of {listed}; {hint}")
        return
    is_class = isinstance(annotation, type) and not typing.get_args(annotation)
    expected = annotation.__name__ if is_class else str(annotation).replace("typing.", "")
    message = f"{name}: got {value!r}, expected {expected}"
    # bool is an int to Python, but `epochs = True` is a mistake.
    if isinstance(value, bool) and "bool" not in str(annotation) and annotation is not Any:
        raise UserError(message)
    try:
        typeguard.check_type(
            value,
            annotation,
            collection_check_strategy=typeguard.CollectionCheckStrategy.ALL_ITEMS,
        )
    except typeguard.TypeCheckError as error:
        raise UserError(message) from error


def to_text(parameters: dict[str, Parameter]) -> str:
    """Returns the configuration as a gin file: imports, then bindings; defaults are marked."""
    from gin import config as gin_config

    lines = sorted(statement.format() for statement in gin_config._IMPORTS)
    group = None
    for key, parameter in sorted(parameters.items()):
        selector = key.rpartition(".")[0]
        if selector != group:
            lines += ["", f"# {selector}"] if lines else [f"# {selector}"]
            group = selector
        lines.append(f"{key} = {parameter}" + ("" if parameter.bound else "  # default"))
    return "\n".join(lines)
