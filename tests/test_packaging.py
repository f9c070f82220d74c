"""The wheel has everything, the pins and the minimum versions agree, and `make` explains itself."""

import ast
import importlib.metadata
import os
import pathlib
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).resolve().parents[1]
GIN_FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("config/**/*.gin"))
SOURCES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in ROOT.glob("ige/**/*")
    if path.is_file() and "__pycache__" not in path.parts
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The wheel, built from a copy: setuptools leaves build/ and ige.egg-info where it builds."""
    copy = tmp_path_factory.mktemp("source")
    for folder in ("ige", "config"):
        shutil.copytree(ROOT / folder, copy / folder)
    for name in ("setup.py", "pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    target = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", target]
    _run([sys.executable, "-m", "pip", "wheel", copy, *options])
    (path,) = target.iterdir()
    return path


@pytest.fixture(scope="module")
def metadata(wheel: pathlib.Path) -> importlib.metadata.Distribution:
    (folder,) = (item for item in zipfile.Path(wheel).iterdir() if item.name.endswith("dist-info"))
    return importlib.metadata.PathDistribution(folder)


def _run(command: list, **options) -> subprocess.CompletedProcess:
    finished = subprocess.run(command, capture_output=True, text=True, **options)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished


def _minimums(metadata: importlib.metadata.Distribution) -> dict[str, list[Requirement]]:
    """Returns the requirements by extra; "" are those of every installation."""
    found: dict[str, list[Requirement]] = {}
    for requirement in map(Requirement, metadata.requires):
        (extra,) = [
            extra
            for extra in ("", "gpu", "beam", "benchmarks", "dev")
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra})
        ][:1]
        found.setdefault(extra, []).append(requirement)
    return found


def _pins() -> dict[str, str]:
    """Returns distribution -> version of requirements.txt; every line has to be an exact pin."""
    pins = {}
    for line in (ROOT / "requirements.txt").read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            (specifier,) = requirement.specifier
            assert specifier.operator == "==", line
            assert requirement.url is None, line
            pins[canonicalize_name(requirement.name)] = specifier.version
    return pins


def _imports(folder: str) -> Iterator[tuple[str, str]]:
    """Yields (distribution, file) of every third-party import in the modules under `folder`."""
    distributions = importlib.metadata.packages_distributions()
    paths = sorted((ROOT / folder).rglob("*.py"))
    ours = {"ige", "benchmarks", *(path.stem for path in paths if path.parent == ROOT / folder)}
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                modules = [node.module]
            else:
                continue
            for top in {module.partition(".")[0] for module in modules}:
                if top not in sys.stdlib_module_names and top not in ours:
                    distribution = distributions.get(top, [top])[0]
                    yield canonicalize_name(distribution), str(path.relative_to(ROOT))


def test_wheel_has_every_file_of_the_package(wheel):
    packed = set(zipfile.ZipFile(wheel).namelist())
    assert "ige/__main__.py" in SOURCES
    assert set(SOURCES) <= packed


def test_wheel_has_every_gin_file(wheel):
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".gin")}
    assert GIN_FILES
    assert packed == {f"ige/{name}" for name in GIN_FILES}


def test_wheel_has_nothing_else(wheel):
    packed = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in packed} == {"ige"}
    assert not [name for name in packed if "__pycache__" in name or name.endswith(".pyc")]


def test_wheel_metadata(metadata):
    first_lines = (ROOT / "ige" / "__init__.py").read_text("utf-8").splitlines()
    assert f'__version__ = "{metadata.version}"' in first_lines
    assert metadata.metadata["Name"] == "ige"
    assert metadata.metadata["Requires-Python"] == ">=3.11"


def test_installed_wheel_lists_every_config_with_the_standard_library_alone(wheel, tmp_path):
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python]
    _run([*pip, "install", "--no-deps", "--no-index", wheel])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {"HOME": str(elsewhere), "PATH": os.defpath}
    listed = _run([python, "-m", "ige", "--command=list"], cwd=elsewhere, env=environment)
    experiments = [
        name.removeprefix("config/").removesuffix(".gin")
        for name in GIN_FILES
        if not pathlib.PurePosixPath(name).name.startswith("_")
    ]
    assert [line.split()[0] for line in listed.stdout.splitlines()] == experiments
    assert listed.stderr == ""


def test_pins_satisfy_the_minimum_versions(metadata):
    pins = _pins()
    minimums = _minimums(metadata)
    for requirement in minimums[""] + minimums["dev"]:
        name = canonicalize_name(requirement.name)
        assert name in pins, f"requirements.txt has no pin of {name}"
        assert requirement.specifier.contains(pins[name]), f"{requirement}, pinned {pins[name]}"


def test_pins_include_everything_that_the_pinned_packages_need():
    pins = _pins()
    waiting = [(name, "") for name in pins]
    seen = set()
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for needed in map(Requirement, importlib.metadata.requires(name) or ()):
            if needed.marker is not None and not needed.marker.evaluate({"extra": extra}):
                continue
            needed_name = canonicalize_name(needed.name)
            assert needed_name in pins, f"{name} needs {needed}, which has no pin"
            assert needed.specifier.contains(pins[needed_name]), f"{name} needs {needed}"
            waiting.extend((needed_name, item) for item in ("", *needed.extras))


def test_requirements_name_no_registry():
    text = (ROOT / "requirements.txt").read_text("utf-8")
    assert "://" not in text
    assert not [line for line in text.splitlines() if line.startswith("-")]


@pytest.mark.parametrize(
    ("folder", "extras"),
    [("ige", ("", "beam")), ("tests", ("", "dev")), ("benchmarks", ("", "benchmarks"))],
)
def test_every_imported_package_is_required(metadata, folder, extras):
    minimums = _minimums(metadata)
    required = {canonicalize_name(item.name) for extra in extras for item in minimums[extra]}
    undeclared = [f"{file}: {name}" for name, file in _imports(folder) if name not in required]
    assert undeclared == []


def test_make_without_a_suitable_python_says_so_in_one_line(tmp_path):
    for name in ("Makefile", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path)
    programs = tmp_path / "bin"
    programs.mkdir()
    old = programs / "python3"
    # Answers as Python 3.10 does to both questions of the Makefile.
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.10.12"\n')
    old.chmod(0o755)
    for name in ("python3.11", "python3.12", "python3.13"):
        (programs / name).symlink_to(old)
    environment = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    failed = subprocess.run(
        ["make", "venv"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert failed.returncode != 0
    assert failed.stderr.splitlines()[0] == (
        "make: needs Python 3.11, 3.12 or 3.13 (TensorFlow 2.21 has no later), "
        "found Python 3.10.12; install python3.11"
    )
    assert not (tmp_path / ".venv").exists()


def test_make_lists_its_targets():
    listed = _run(["make", "--no-print-directory"], cwd=ROOT, env={"PATH": os.environ["PATH"]})
    targets = [line.split()[0] for line in listed.stdout.splitlines()]
    assert targets == ["help", "demo", "test", "lint", "venv", "clean"]
