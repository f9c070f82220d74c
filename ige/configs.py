"""Where gin files are, how they are parsed, what a mistake in one says, and what a run is called.

Importing this module is cheap: gin, and whatever the gin files import, is loaded by `parse`.
"""

import contextlib
import inspect
import os
import pathlib
import re
import tokenize
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

from ige.errors import UserError, first_line, nearest
from ige.parameters import (
    COMMANDS_WITHOUT_CONFIG,
    complete,
    is_macro,
    macro_name,
    macros,
    reached,
    references,
    registry,
    resolved,
)

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
    return _packaged()


def _packaged() -> pathlib.Path:
    """Returns the packaged configs: inside the package when installed, beside it in a checkout."""
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
        with path.open(encoding="utf-8", errors="replace") as lines:
            first = lines.readline().strip()
        name = path.relative_to(folder).with_suffix("").as_posix()
        configs[name] = first.lstrip("# ") if first.startswith("#") else ""
    return configs


def find_config(name: str, folder: pathlib.Path) -> pathlib.Path:
    """Returns the path of gin file `name`, `.gin` optional: in `folder`, else as a path by itself.

    Raises:
        UserError: there is no such file, or it is only a part; names the nearest ones.
    """
    for parent in (folder, pathlib.Path.cwd()):
        for candidate in (name, f"{name}.gin"):
            path = parent / pathlib.Path(candidate).expanduser()
            if not path.is_file():
                continue
            if path.name.startswith("_"):
                raise UserError(
                    f"--gin_file: {name!r} is a part that configs include, not an experiment; "
                    "`--command=list` shows those"
                )
            return path
    hint = nearest(name.removesuffix(".gin"), list_configs(folder))
    raise UserError(f"--gin_file: no config {name!r} in {folder}; {hint}")


def config_name(paths: Sequence[pathlib.Path], folder: pathlib.Path) -> str:
    """Returns the name of the experiment: `hpe/b128-1`; several files are joined with `+`."""
    first, *rest = (path.resolve() for path in paths)
    inside = first.is_relative_to(folder)
    name = first.relative_to(folder).with_suffix("").as_posix() if inside else first.stem
    return "+".join([name, *(path.stem for path in rest)])


@contextlib.contextmanager
def _includes_from(folder: pathlib.Path) -> Iterator[None]:
    """Makes gin look for includes in `folder`, then among the packaged configs, only.

    Left alone it tries the working directory first, then Python packages (for which it fails where
    a folder `hpe` happens to be on the path), and logs an error for each place on the way. It
    follows a file that includes itself until Python's stack is full.
    """
    from gin import config as gin_config

    being_read = []

    @contextlib.contextmanager
    def read(path: str) -> Iterator[TextIO]:
        if path in being_read:
            raise UserError(f"{path} includes itself; remove one include")
        being_read.append(path)
        with open(path, encoding="utf-8") as lines:
            yield lines
        being_read.pop()

    prefixes, readers = gin_config._LOCATION_PREFIXES, gin_config._FILE_READERS
    gin_config._LOCATION_PREFIXES = [str(folder), str(_packaged())]
    gin_config._FILE_READERS = [(read, os.path.isfile)]
    try:
        yield
    finally:
        gin_config._LOCATION_PREFIXES, gin_config._FILE_READERS = prefixes, readers


def locate(
    gin_files: Sequence[str], config_dir: str | None = None, needed: bool = True
) -> tuple[pathlib.Path, list[pathlib.Path]]:
    """Returns the folder of configs and the path of each gin file; needs no gin.

    Raises:
        UserError: no gin file is given though one is needed, or one is unknown.
    """
    if needed and not gin_files:
        raise UserError("--gin_file: got none, expected a config; `--command=list` shows them")
    folder = config_folder(config_dir)
    return folder, [find_config(name, folder) for name in gin_files]


def parse(
    gin_files: Sequence[str],
    gin_params: Sequence[str] = (),
    config_dir: str | None = None,
    needed: bool = True,
) -> str:
    """Parses gin files, then bindings, into gin's global configuration, and checks the result.

    A leading `@` in a binding is accepted (the published README has it). A binding must be of use:
    one of `gin_params` in the end, one of a file before `gin_params` replace what uses it, and one
    of an included file need not be, for what includes it may use something else.

    Returns:
        The name of the experiment; empty without a gin file, if none is `needed`.

    Raises:
        UserError: an unknown file, include, module, configurable, parameter or macro; a value that
            cannot be parsed or has the wrong type; a required value that is missing; a binding
            that nothing uses.
    """
    # gin 0.5 uses importlib.util without importing it.
    import importlib.util  # noqa: F401

    import gin

    folder, paths = locate(gin_files, config_dir, needed)
    roots = () if paths else (COMMANDS_WITHOUT_CONFIG,)
    bindings = [binding.strip().removeprefix("@") for binding in gin_params]
    gin.clear_config()
    with _includes_from(folder):
        in_files, used = set(), set()
        for path in paths:
            with _explained(f"in {path.name}", folder):
                parsed = gin.parse_config_file(str(path))
                in_files |= _macro_references(parsed, (folder, _packaged()))
                used |= reached()
        for binding in bindings:
            with _explained(f"--gin_param={binding!r}", folder):
                if not binding:
                    raise UserError("--gin_param: got an empty binding, expected `name = value`")
                gin.parse_config(binding)
    name = config_name(paths, folder) if paths else ""
    in_the_end = reached(*roots)
    if paths and not in_the_end:
        raise UserError(
            f"--gin_file: {name} binds nothing that a command uses, expected an experiment; "
            "include one, such as 'hpe/b128-1.gin'"
        )
    _check_macros(in_files, {binding.partition("=")[0].strip() for binding in bindings})
    resolved(*roots)
    for path in paths:
        statements = _Statements(path.read_text(encoding="utf-8"))
        _check_used(f"in {path.name}", statements, used | in_the_end)
    for binding in bindings:
        _check_used("--gin_param", _Statements(binding), in_the_end)
    return name


class _Statements:
    """What a text of gin says, included files aside.

    Attributes:
        bound: (scope, selector) of every binding.
        macros: names of the macros it refers to.
    """

    def __init__(self, text: str):
        from gin import config_parser

        self.macros: set[str] = set()
        self.bound = {
            (statement.scope, complete(statement.selector))
            for statement in config_parser.ConfigParser(text, self)
            if isinstance(statement, config_parser.BindingStatement) and statement.arg_name
        }

    def macro(self, name: str) -> None:
        """Called by gin's parser for every `%name`."""
        self.macros.add(name)

    def configurable_reference(self, scoped_name: str, evaluate: bool) -> None:
        """Called by gin's parser for every `@scoped_name`."""


def _check_used(where: str, statements: _Statements, used: set[tuple[str, str]]) -> None:
    """Refuses a binding that nothing uses: gin keeps it in silence."""
    for scope, selector in sorted(statements.bound):
        # What is bound in scope `a` holds in `a/b` too.
        if not any(
            selector == other and f"{inner}/".startswith(f"{scope}/" if scope else "")
            for inner, other in used
        ):
            key = "/".join(filter(None, [scope, selector.removeprefix("ige.")]))
            raise UserError(f"{where}: nothing in this config uses {key!r}")


@contextlib.contextmanager
def _explained(where: str, folder: pathlib.Path) -> Iterator[None]:
    """Turns what gin raises into one line that says what, got, expected and fix."""
    try:
        yield
    except UserError as error:
        # gin appends where it was.
        raise UserError(first_line(error)) from error
    except ImportError as error:
        raise UserError(f"{where}: cannot import: {first_line(error)}") from error
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
        first = first_line(error).rstrip(".")
        raise UserError(f"{where}: {first}{_hint(first)}") from error


def _hint(message: str) -> str:
    """Returns the names nearest to the one that a message of gin complains about."""
    import gin

    selectors = [configurable.selector for configurable in registry()]
    names = sorted({selector.rpartition(".")[2] for selector in selectors})
    if found := re.search(r"No configurable matching (?:reference )?'@?([^'(]+)", message):
        return f"; {nearest(found[1].rpartition('.')[2], names)}"
    if found := re.search(r"Configurable '(.+)' doesn't have a parameter named '(.+)'", message):
        parameters = inspect.signature(gin.get_configurable(found[1])).parameters
        return f"; {nearest(found[2], [name for name in parameters if name != 'self'])}"
    return ""


def _macro_references(parsed: Any, folders: Sequence[pathlib.Path]) -> set[str]:
    """Returns the macros that a parsed file and its includes refer to, overridden ones included."""
    path = next(path for folder in folders if (path := folder / parsed.filename).is_file())
    found = _Statements(path.read_text(encoding="utf-8")).macros
    return found.union(*(_macro_references(include, folders) for include in parsed.includes))


def _check_macros(in_files: set[str], on_command_line: set[str]) -> None:
    """Refuses a macro without a value, or that nothing uses: gin accepts a misspelt one."""
    from gin import config as gin_config

    used = {
        macro_name(reference)
        for bindings in gin_config._CONFIG.values()
        for value in bindings.values()
        for reference in references(value)
        if is_macro(reference)
    }
    defined = macros()
    for name in sorted(defined.keys() - used - in_files):
        raise UserError(f"nothing uses a macro {name!r}; {nearest(name, used | in_files)}")
    for name in sorted((defined.keys() & on_command_line) - used):
        raise UserError(
            f"--gin_param: setting {name!r} has no effect: another binding replaces it where it "
            "is used; set that parameter itself"
        )
    for name in sorted(used - defined.keys()):
        raise UserError(f"the macro %{name} has no value; {nearest(name, defined)}")
