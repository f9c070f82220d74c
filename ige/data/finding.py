"""Where files of data sets are, and which: names and sizes, without opening any."""

import os
import pathlib
from collections.abc import Sequence

from ige.data.archives import Folder, refuse_special


def describe(path: pathlib.Path, root: pathlib.Path, patterns: Sequence[str] = ()) -> dict:
    """Returns {name, size} of a file, or {name, files, size} of the files in a folder.

    Raises:
        UserError: it is something else, or something else is in the folder.
    """
    name = path.relative_to(root).as_posix()
    if path.is_dir():
        folder = Folder(path, patterns)
        return {"name": f"{name}/", "files": len(folder.names()), "size": folder.size()}
    refuse_special(path)
    return {"name": name, "size": path.stat().st_size}


def search_folders(root: pathlib.Path) -> list[pathlib.Path]:
    """Returns the folder itself and the folders in it, in which files are looked for."""
    if not root.is_dir():
        return []
    return [root, *sorted(path for path in root.iterdir() if path.is_dir())]


def is_there(path: pathlib.Path) -> bool:
    """Whether `path` is there, as a file or as something that reading it has to refuse."""
    return os.path.lexists(path) and not path.is_dir()
