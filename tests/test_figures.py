"""Figures into files and windows."""

import re

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from PIL import Image

from ige import figures
from ige.errors import UserError


def drawn():
    figure = Figure(figsize=(3, 2))
    figure.add_subplot().plot([0, 1], [1, 0])
    return figure


def test_figures_are_saved_whole_and_leave_no_global_state(tmp_path):
    figure = drawn()
    matplotlib.get_backend()  # is chosen when it is first asked for
    before = matplotlib.rcParams.copy()
    figures.save(figure, tmp_path / "made" / "poses.png", dpi=100)
    figures.save(figure, tmp_path / "made" / "poses.pdf")
    with Image.open(tmp_path / "made" / "poses.png") as image:
        size = np.floor(100 * figure.get_size_inches())
        np.testing.assert_array_equal(image.size, size)
    assert (tmp_path / "made" / "poses.pdf").read_bytes().startswith(b"%PDF")
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["poses.pdf", "poses.png"]
    assert matplotlib.rcParams == before
    assert pyplot.get_fignums() == []


def test_windows_show_the_figures(monkeypatch):
    """Agg stands for a toolkit: the managers are made, but nothing appears."""
    made = [drawn(), Figure()]
    shown = []
    monkeypatch.setattr(figures, "require_windows", lambda: None)
    monkeypatch.setattr(
        pyplot, "show", lambda: shown.extend(map(pyplot.figure, pyplot.get_fignums()))
    )
    figures.show(made)
    assert shown == made
    pyplot.close("all")


def test_windows_need_more_than_a_backend_for_files(monkeypatch):
    monkeypatch.setitem(matplotlib.rcParams, "backend", "agg")
    message = (
        "windows cannot be opened: matplotlib's backend is agg, for files only; go where there is "
        "a display (DISPLAY is set) and a toolkit (pip install pyqt6), or look at the files"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        figures.show([Figure()])


def test_windows_need_a_display(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(matplotlib.rcParams, "backend", "tkagg")
    with pytest.raises(UserError, match=r"^windows cannot be opened: .*tk.*; go where there is a "):
        figures.show([Figure()])
