"""Where gin files are, how they are parsed, what a mistake in one says, and what a run is called.

Importing this module is cheap: gin, and whatever the gin files import, is loaded by `parse`.
"""

import contextlib
import dataclasses
import inspect
import os
import pathlib
import re
import tokenize
from collections.abc import Iterator, Sequence
from typing import Any

from ige.errors import UserError, nearest

COMMANDS_WITH_CONFIG = ("train", "evaluate", "prepare", "default_model_dir")
PACKAGE = pathlib.Path(__file__).resolve().parent


def config_folder(config_dir: str | None = None) -> pathlib.Path:
    """Returns the folder of gin files: `config_dir`, else $IGE_CONFIG_DIR, else the packaged one.

    Raises:
        UserError: the folder does not exist.
    """
    for source, value in (
        ("--config_dir", config_dir),
        ("IGE_CONFIG_DIR", os.environ.get("IGE_CONFIG_DIR")),
    ):
        if value:
            folder = pathlib.Path(value).expanduser()
            if not folder.is_dir():
                raise UserError(f"{source}: no folder {folder}; give a folder of gin files")
            return folder.resolve()
    installed = PACKAGE / "config"
    return installed if installed.is_dir() else PACKAGE.parent / "config"


def list_configs(folder: pathlib.Path) -> dict[str, str]:
    """Returns name -> one-line purpose (the first comment line) of every experiment in `folder`.

    Files whose name starts with an underscore are parts to include, not experiments.
    """
    configs = {}
    for path in sorted(folder.rglob("*.gin")):
        if path.name.startswith("_"):
            continue
        with path.open(encoding="utf-8") as lines:
            first = lines.readline().strip()
        name = path.relative_to(folder).with_suffix("").as_posix()
        configs[name] = first.lstrip("# ") if first.startswith("#") else ""
    return configs


def find_config(name: str, folder: pathlib.Path) -> pathlib.Path:
    """Returns the path of gin file `name`: relative to `folder` or absolute, `.gin` optional.

    Raises:
        UserError: there is no such file; names the nearest ones.
    """
    for candidate in (name, f"{name}.gin"):
        path = folder / pathlib.Path(candidate).expanduser()
        if path.is_file():
            return path
    known = [path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.gin")]
    hint = nearest(name.removesuffix(".gin"), known)
    raise UserError(f"--gin_file: no config {name!r} in {folder}; {hint}")


def config_name(paths: Sequence[pathlib.Path], folder: pathlib.Path) -> str:
    """Returns the name of the experiment: `hpe/b128-1`; several files are joined with `+`."""
    first, *rest = paths
    inside = first.is_relative_to(folder)
    name = first.relative_to(folder).with_suffix("").as_posix() if inside else first.stem
    return "+".join([name, *(path.stem for path in rest)])


@contextlib.contextmanager
def _includes_from(folder: pathlib.Path) -> Iterator[None]:
    """Makes gin look for includes in `folder` only.

    Left alone it tries the working directory first, then Python packages (for which it fails where
    a folder `hpe` happens to be on the path), and logs an error for each place on the way.
    """
    from gin import config as gin_config

    prefixes, readers = gin_config._LOCATION_PREFIXES, gin_config._FILE_READERS
    gin_config._LOCATION_PREFIXES = [str(folder)]
    gin_config._FILE_READERS = [(open, os.path.isfile)]
    try:
        yield
    finally:
        gin_config._LOCATION_PREFIXES, gin_config._FILE_READERS = prefixes, readers


def parse(
    gin_files: Sequence[str], gin_params: Sequence[str] = (), config_dir: str | None = None
) -> str:
    """Parses gin files, then bindings, into gin's global configuration, and checks the result.

    A leading `@` in a binding is accepted (the published README has it).

    Returns:
        The name of the experiment.

    Raises:
        UserError: an unknown file, include, module, configurable, parameter or macro; a value that
            cannot be parsed or has the wrong type; a required value that is missing.
    """
    # gin 0.5 uses importlib.util without importing it.
    import importlib.util  # noqa: F401

    import gin

    if not gin_files:
        raise UserError("--gin_file: got none, expected a config; `--command=list` shows them")
    folder = config_folder(config_dir)
    paths = [find_config(name, folder) for name in gin_files]
    gin.clear_config()
    with _includes_from(folder):
        in_files = set()
        for path in paths:
            with _explained(f"in {path.name}", folder):
                in_files |= _macro_references(gin.parse_config_file(str(path)), folder)
        selectors_in_files = _bound_selectors()
        for binding in gin_params:
            with _explained(f"--gin_param={binding!r}", folder):
                gin.parse_config(binding.strip().removeprefix("@"))
    _check_macros(in_files)
    used = {key.rpartition(".")[0].rpartition("/")[2] for key in resolved()}
    for selector in sorted(_bound_selectors() - selectors_in_files - used):
        raise UserError(f"--gin_param: nothing in this config uses {selector!r}")
    return config_name(paths, folder)


@contextlib.contextmanager
def _explained(where: str, folder: pathlib.Path) -> Iterator[None]:
    """Turns what gin raises into one line that says what, got, expected and fix."""
    try:
        yield
    except UserError:
        raise
    except ImportError as error:
        raise UserError(f"{where}: cannot import: {str(error).splitlines()[0]}") from error
    except OSError as error:
        missing = re.search(r"Unable to open file: (\S+)\. Searched", str(error))
        if not missing:
            raise
        known = [path.relative_to(folder).as_posix() for path in folder.rglob("*.gin")]
        raise UserError(
            f"{where}: no include {missing[1]!r} in {folder}; {nearest(missing[1], known)}"
        ) from error
    except (SyntaxError, tokenize.TokenError) as error:
        raise UserError(
            f"{where}: cannot be parsed; expected `name = value` with a Python literal, "
            "@configurable or %macro (strings need quotes)"
        ) from error
    except ValueError as error:
        first = str(error).splitlines()[0]
        raise UserError(f"{where}: {first}{_hint(first)}") from error


def _hint(message: str) -> str:
    """Returns the names nearest to the one that a message of gin complains about."""
    import gin

    selectors = [configurable.selector for configurable in _registry()]
    names = sorted({selector.rpartition(".")[2] for selector in selectors})
    if found := re.search(r"No configurable matching (?:reference )?'@?([^'(]+)", message):
        return f"; {nearest(found[1].rpartition('.')[2], names)}"
    if found := re.search(r"Configurable '(.+)' doesn't have a parameter named '(.+)'", message):
        parameters = inspect.signature(gin.get_configurable(found[1])).parameters
        return f" {nearest(found[2], [name for name in parameters if name != 'self'])}"
    return ""


def _registry() -> list[Any]:
    from gin import config as gin_config

    return list(gin_config._REGISTRY._selector_map.values())


def _bound_selectors() -> set[str]:
    """Returns the configurables that have bindings now."""
    from gin import config as gin_config

    return {selector.removeprefix("ige.") for _, selector in gin_config._CONFIG} - {"gin.macro"}


def _macros() -> dict[str, Any]:
    """Returns every macro that has a value now."""
    from gin import config as gin_config

    return {
        scope: bindings["value"]
        for (scope, selector), bindings in gin_config._CONFIG.items()
        if selector == "gin.macro"
    }


def _references(value: Any) -> Iterator[Any]:
    """Yields the gin references inside a value, containers included."""
    from gin import config as gin_config

    if isinstance(value, gin_config.ConfigurableReference):
        yield value
    elif isinstance(value, dict):
        for item in [*value.keys(), *value.values()]:
            yield from _references(item)
    elif isinstance(value, list | tuple | set):
        for item in value:
            yield from _references(item)


def _is_macro(reference: Any) -> bool:
    return reference.selector == "gin.macro"


def _macro_name(reference: Any) -> str:
    return reference.scoped_selector.rpartition("/")[0]


def _macro_references(parsed: Any, folder: pathlib.Path) -> set[str]:
    """Returns the macros that a parsed file and its includes refer to, overridden ones included."""
    text = (folder / parsed.filename).read_text(encoding="utf-8")
    found = set(re.findall(r"%([\w./]+)", text))
    return found.union(*(_macro_references(include, folder) for include in parsed.includes))


def _check_macros(in_files: set[str]) -> None:
    """Refuses a macro without a value, or that nothing uses: gin accepts a misspelt one."""
    from gin import config as gin_config

    used = {
        _macro_name(reference)
        for bindings in gin_config._CONFIG.values()
        for value in bindings.values()
        for reference in _references(value)
        if _is_macro(reference)
    }
    defined = _macros()
    for name in sorted(defined.keys() - used - in_files):
        raise UserError(f"nothing uses a macro {name!r}; {nearest(name, used | in_files)}")
    for name in sorted(used - defined.keys()):
        raise UserError(f"the macro %{name} has no value; {nearest(name, defined)}")


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

    known = {configurable.selector for configurable in _registry()}
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
        for name, parameter in _parameters(selector):
            value = _without_macros(bound.get(name, parameter.default))
            if value is gin.REQUIRED:
                raise UserError(f"{key}.{name}: got no value; bind it in the gin file")
            if value is inspect.Parameter.empty:
                continue
            if name in bound:
                _check_type(f"{key}.{name}", value, parameter.annotation)
            found[f"{key}.{name}"] = Parameter(value, name in bound)
            for reference in _references(value):
                scope, referred = reference.config_key
                waiting.append((scope.split("/") if scope else [], referred))
    return found


def _parameters(selector: str) -> Iterator[tuple[str, inspect.Parameter]]:
    """Yields the parameters of a configurable that gin may set."""
    configurable = next(item for item in _registry() if item.selector == selector)
    hidden = configurable.denylist or ()
    for name, parameter in inspect.signature(configurable.wrapped).parameters.items():
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) and (
            name not in hidden
        ):
            yield name, parameter


def _without_macros(value: Any) -> Any:
    """Replaces the macros in a value by what they stand for."""
    from gin import config as gin_config

    if isinstance(value, gin_config.ConfigurableReference):
        return _without_macros(_macros()[_macro_name(value)]) if _is_macro(value) else value
    if isinstance(value, dict):
        return {_without_macros(key): _without_macros(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_without_macros(item) for item in value)
    return value


def _check_type(name: str, value: Any, annotation: Any) -> None:
    """Refuses a literal that does not fit the annotation of its parameter."""
    import typeguard

    if annotation is inspect.Parameter.empty or any(_references(value)):
        return
    expected = getattr(annotation, "__name__", None) if isinstance(annotation, type) else None
    message = (
        f"{name}: got {value!r}, expected {expected or str(annotation).replace('typing.', '')}"
    )
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
    """Returns the configuration as gin bindings, one per line, grouped; defaults are marked."""
    lines: list[str] = []
    group = None
    for key, parameter in sorted(parameters.items()):
        selector = key.rpartition(".")[0]
        if selector != group:
            lines += ["", f"# {selector}"] if lines else [f"# {selector}"]
            group = selector
        lines.append(f"{key} = {parameter}" + ("" if parameter.bound else "  # default"))
    return "\n".join(lines)
