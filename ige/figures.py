"""Figures of matplotlib: into files, and into windows where there is a display."""

import io
import pathlib
from collections.abc import Iterable

import matplotlib
from matplotlib.backends import BackendFilter, backend_registry
from matplotlib.figure import Figure

from ige.errors import UserError, first_line
from ige.files import write_bytes


def save(figure: Figure, path: pathlib.Path, dpi: int = 200) -> None:
    """Writes a figure whole or not at all; the suffix of the path is the format: png, pdf, svg."""
    data = io.BytesIO()
    figure.savefig(data, format=path.suffix[1:], dpi=dpi)
    write_bytes(path, data.getvalue())


def require_windows() -> None:
    """Makes sure that there can be windows, before there is anything to show.

    Raises:
        UserError: there is no display, or matplotlib has no toolkit to open windows with.
    """
    # Imported here: it chooses a toolkit, and drawing into files needs none.
    from matplotlib import pyplot

    backend = matplotlib.get_backend()
    why = f"matplotlib's backend is {backend}, for files only"
    usable = backend.lower() in backend_registry.list_builtin(BackendFilter.INTERACTIVE)
    try:
        pyplot.switch_backend(backend)
    except ImportError as error:
        why, usable = first_line(error), False
    if not usable:
        raise UserError(
            f"windows cannot be opened: {why}; go where there is a display (DISPLAY is set) and a "
            "toolkit (pip install pyqt6), or look at the files"
        )


def show(figures: Iterable[Figure]) -> None:
    """Opens figures in windows, and waits until all are closed.

    Raises:
        UserError: see `require_windows`.
    """
    from matplotlib import pyplot

    require_windows()
    for figure in figures:
        pyplot.figure(figure)
    pyplot.show()
