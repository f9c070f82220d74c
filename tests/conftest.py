"""Fixtures that every test may ask for."""

import gc
import os
import pathlib

import gin
import numpy as np
import pytest

# Looked through less often: what the libraries and earlier tests hold is large, and stays.
gc.set_threshold(50_000, 20, 50)

# What takes longest comes first, so that of several processes none is left with it in the end.
LONG = ("test_runners.py", "test_readme.py", "test_kills.py", "test_training.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    first = {name: i for i, name in enumerate(LONG)}
    items.sort(key=lambda item: first.get(item.path.name, len(LONG)))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def real_data() -> pathlib.Path:
    """The folder of real recordings that the tests marked `real_data` read."""
    folder = os.environ.get("IGE_REAL_DATA")
    if not folder or not pathlib.Path(folder).is_dir():
        pytest.skip("needs recordings: set IGE_REAL_DATA to the folder that holds h3m/")
    return pathlib.Path(folder).resolve()


@pytest.fixture(scope="module")
def browser():
    """A browser without a window: see `pages`."""
    from pages import launched  # which only few tests need

    with launched() as browser:
        yield browser


@pytest.fixture(scope="session")
def tiny() -> list[str]:
    """Bindings of a generated data set that is built in a second: short recordings."""
    return [
        "data = 'synthetic'",
        "h3m_lift.synthetic_sequences = 1",
        "h3m_lift.synthetic_frames = 12",
    ]


@pytest.fixture(scope="session", autouse=True)
def _folders(tmp_path_factory):
    """Data sets and models of the tests go to temporary folders; the tests share the data sets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("TFDS_DATA_DIR", str(tmp_path_factory.mktemp("tfds")))
        yield


@pytest.fixture(autouse=True)
def _clean_gin():
    """gin's configuration is global: what a test binds must not reach the next one."""
    yield
    gin.clear_config()
