"""What gin knows after parsing: every parameter of an experiment, with its value.

gin offers no public way to list its macros and configurables; all access to its private tables that
is not about parsing is here.
"""

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ige.errors import UserError, did_you_mean, first_line, nearest

COMMANDS_WITH_CONFIG = (
    "train",
    "evaluate",
    "vis",
    "infer",
    "predict",
    "compare",
    "prepare",
    "default_model_dir",
    "strategy",
)
COMMANDS_WITHOUT_CONFIG = ("compare", "default_model_dir")
_UNIONS = (typing.Union, types.UnionType)
_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def registry() -> list[Any]:
    from gin import config as gin_config

    return list(gin_config._REGISTRY._selector_map.values())


def complete(selector: str) -> str:
    """Returns the whole name of a configurable that a config names by its last parts."""
    from gin import config as gin_config

    return gin_config._REGISTRY.get_match(selector).selector


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


def _is_constant(reference: Any) -> bool:
    return reference.selector == "gin.constant"


def macro_name(reference: Any) -> str:
    return reference.scoped_selector.rpartition("/")[0]


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One parameter of the resolved configuration."""

    value: Any
    bound: bool

    def __str__(self) -> str:
        return repr(self.value)


def _walk(roots: Sequence[str]) -> Iterator[tuple[list[str], str, dict[str, Any]]]:
    """Yields (scopes, selector, bindings) of every configurable that `roots` can reach."""
    import gin

    waiting = [([], selector) for name in roots for selector in _commands(name)]
    seen = []
    while waiting:
        scopes, selector = waiting.pop(0)
        if (scopes, selector) in seen:
            continue
        seen.append((scopes, selector))
        with gin.config_scope(scopes):
            bound = gin.get_bindings(selector, resolve_references=False)
        yield scopes, selector, bound
        for value in bound.values():
            for inner, reference in _referred(value, scopes):
                waiting.append((inner, reference.config_key[1]))


def _commands(name: str) -> list[str]:
    """Returns the configurables that a command of this name calls.

    A command of ours is `ige.<name>`; one of a task, such as `hpe.predict`, counts if the config
    binds it.
    """
    import gin

    known = sorted(item.selector for item in registry())
    return [
        selector
        for selector in known
        if selector in (name, f"ige.{name}")
        or (selector.endswith(f".{name}") and gin.get_bindings(selector, resolve_references=False))
    ]


def task_command(name: str) -> str | None:
    """Returns the configurable of that name that the task of this config has, None if none."""
    return next(iter(_commands(name)), None)


def _short(selector: str) -> str:
    return selector.removeprefix("ige.")


def _referred(value: Any, scopes: list[str]) -> Iterator[tuple[list[str], Any]]:
    """Yields (scopes it is called in, reference) for what a value bound in `scopes` refers to."""
    direct = list(references(value))
    for reference in references(_without_macros(value)):
        # gin calls `@f()` where it is bound. What a macro stands for is called in a scope named
        # like the macro, and what has no parentheses whenever its user likes: in no scope.
        inherits = reference.evaluate and any(reference is item for item in direct)
        yield reference.scopes or (scopes if inherits else []), reference


def reached(roots: Sequence[str] = COMMANDS_WITH_CONFIG) -> set[tuple[str, str]]:
    """Returns (scope, selector) of every configurable with bindings that `roots` can reach."""
    return {("/".join(scopes), selector) for scopes, selector, bound in _walk(roots) if bound}


def resolved(roots: Sequence[str] = COMMANDS_WITH_CONFIG) -> dict[str, Parameter]:
    """Returns every parameter that `roots` can reach: `hpe.HpeProblem.skeleton` -> value.

    Unlike gin's own `config_str` it has the defaults too, and unlike `operative_config_str` it
    needs nothing to be called. Macros and constants are replaced by their values.

    Raises:
        UserError: a value of the wrong type, or a required one that is missing.
    """
    import gin

    found: dict[str, Parameter] = {}
    for scopes, selector, bound in _walk(roots):
        key = "/".join([*scopes, _short(selector)])
        allowed = dict(_parameters(selector))
        for name in bound.keys() - allowed.keys():
            # gin takes any name where the configurable has **kwargs.
            raise UserError(f"{key}: no parameter {name!r}; {nearest(name, allowed)}")
        for name, parameter in allowed.items():
            raw = bound.get(name, parameter.default)
            value = _without_macros(raw)
            if value is gin.REQUIRED:
                raise UserError(f"{key}.{name}: got no value; bind it in the gin file")
            if value is inspect.Parameter.empty:
                continue
            if name in bound:
                _check_type(f"{key}.{name}", value, parameter.annotation)
            found[f"{key}.{name}"] = Parameter(value, name in bound)
            for inner, reference in _referred(raw, scopes):
                _check_call(f"{key}.{name}", reference, inner)
    return found


def _check_call(name: str, reference: Any, scopes: list[str]) -> None:
    """Refuses `@f()` where f needs what gin does not give it."""
    import gin

    if not reference.evaluate:
        return
    selector = reference.config_key[1]
    with gin.config_scope(scopes):
        bound = gin.get_bindings(selector, resolve_references=False)
    for argument, parameter in inspect.signature(reference.configurable.wrapped).parameters.items():
        given = argument in bound or parameter.default is not inspect.Parameter.empty
        if not given and parameter.kind not in _VARIABLE:
            raise UserError(
                f"{name}: got {reference}, but nothing gives {_short(selector)}.{argument}; bind "
                "it, or drop the parentheses"
            )


def try_keras_objects(roots: Sequence[str] = COMMANDS_WITH_CONFIG) -> None:
    """Makes the Keras objects, which cost little, to see whether Keras takes their parameters.

    TensorFlow computes when an optimizer is made: what has to precede that goes before this.

    Raises:
        UserError: Keras refuses one.
    """
    import gin

    for scopes, selector, _ in _walk(roots):
        if not selector.startswith("keras."):
            continue
        try:
            with gin.config_scope(scopes):
                gin.get_configurable(selector)()
        except (ValueError, TypeError) as error:
            key = "/".join([*scopes, _short(selector)])
            raise UserError(f"{key}: Keras refuses it: {first_line(error)}") from error


def _parameters(selector: str) -> Iterator[tuple[str, inspect.Parameter]]:
    """Yields the parameters of a configurable that gin may set."""
    configurable = next(item for item in registry() if item.selector == selector)
    hidden = configurable.denylist or ()
    for name, parameter in inspect.signature(configurable.wrapped).parameters.items():
        if parameter.kind not in _VARIABLE and name not in hidden:
            yield name, parameter


def _without_macros(value: Any, seen: tuple[str, ...] = ()) -> Any:
    """Replaces the macros and constants in a value by what they stand for.

    Those that cannot be written in a gin file stay: a macro without a value, a constant object.
    """
    from gin import config as gin_config

    if isinstance(value, gin_config.ConfigurableReference):
        if _is_constant(value):
            constant = gin_config.query_parameter(macro_name(value))
            can_stand = constant is gin_config.REQUIRED or gin_config._is_literally_representable(
                constant
            )
            return constant if can_stand else value
        if not is_macro(value) or macro_name(value) not in macros():
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


def _choices(annotation: Any) -> tuple[Any, ...]:
    """Returns what `Literal[...]` or `Literal[...] | None` admits, nothing for other types."""
    if typing.get_origin(annotation) is typing.Literal:
        return typing.get_args(annotation)
    if typing.get_origin(annotation) in _UNIONS:
        parts = typing.get_args(annotation)
        if any(typing.get_origin(part) is typing.Literal for part in parts):
            nothing = (None,) if types.NoneType in parts else ()
            return sum(map(_choices, parts), ()) + nothing
    return ()


def _check_type(name: str, value: Any, annotation: Any) -> None:
    """Refuses a literal that does not fit the annotation of its parameter."""
    import typeguard
    from gin import config as gin_config

    if annotation is inspect.Parameter.empty:
        return
    if isinstance(value, gin_config.ConfigurableReference):
        _check_reference(name, value, annotation)
    if any(references(value)):
        return
    if choices := _choices(annotation):
        if value not in choices:
            listed = ", ".join(map(repr, choices))
            hint = did_you_mean(str(value), map(str, choices))
            raise UserError(
                f"{name}: got {value!r}, expected one of {listed}" + (f"; {hint}" if hint else "")
            )
        return
    message = f"{name}: got {value!r}, expected {_readable(annotation)}"
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


def _readable(annotation: Any) -> str:
    """Returns an annotation in the words of a message."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in _UNIONS:
        return " | ".join(map(_readable, arguments))
    if origin is type:
        return f"class {_readable(_made(annotation))}"
    if origin is Callable:
        return "function"
    if annotation is types.NoneType:
        return "None"
    if isinstance(annotation, type) and not arguments:
        return annotation.__name__
    return str(annotation).replace("typing.", "")


def _check_reference(name: str, reference: Any, annotation: Any) -> None:
    """Refuses a reference to what cannot stand there, such as `@Adam` for `@Adam()`."""
    if _fits(_stands_for(reference, reference.evaluate), annotation):
        return
    an_object = "an object of " if inspect.isclass(annotation) else ""
    message = f"{name}: got {reference}, expected {an_object}{_readable(annotation)}"
    if _fits(_stands_for(reference, not reference.evaluate), annotation):
        bare = str(reference).removesuffix("()")
        other = f"`{bare}`, without" if reference.evaluate else f"`{bare}()`, with"
        message += f"; bind it to {other} parentheses"
    raise UserError(message)


def _stands_for(reference: Any, evaluate: bool) -> Any:
    """Returns the type of what takes the place of a reference; `Any` where nothing says it."""
    target = reference.configurable.wrapped
    if inspect.isclass(target):
        return target if evaluate else type[target]
    result = inspect.signature(target).return_annotation
    if result is inspect.Signature.empty:
        result = Any
    return result if evaluate else Callable[..., result]


def _made(annotation: Any) -> Any:
    """Returns the class of `type[...]`, the result of `Callable[..., ...]`."""
    return (typing.get_args(annotation) or (Any,))[-1]


def _fits(given: Any, expected: Any) -> bool:
    """Whether an object of type `given` may stand where `expected` is, or that cannot be told."""
    if Any in (given, expected):
        return True
    given_origin, expected_origin = typing.get_origin(given), typing.get_origin(expected)
    if given_origin in _UNIONS:
        return any(_fits(option, expected) for option in typing.get_args(given))
    if expected_origin in _UNIONS:
        return any(_fits(given, option) for option in typing.get_args(expected))
    called = given_origin in (type, Callable) and expected_origin is Callable
    if called or given_origin is expected_origin is type:
        return _fits(_made(given), _made(expected))
    given, expected = given_origin or given, expected_origin or expected
    if not (inspect.isclass(given) and inspect.isclass(expected)):
        return True
    return issubclass(given, expected) or (given, expected) == (int, float)


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
