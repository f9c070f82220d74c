"""Files that are written whole or not at all."""

import os
import pathlib


def flush(path: pathlib.Path) -> None:
    """Makes sure that a file or folder is on the disk before something depends on it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes `text` under a temporary name, then renames it, so that no reader sees a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    flush(temporary)
    temporary.rename(path)
