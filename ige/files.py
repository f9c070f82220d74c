"""Files that are written whole or not at all, and folders that one process at a time writes to."""

import contextlib
import datetime
import fcntl
import os
import pathlib
import socket
from collections.abc import Callable, Iterator
from typing import TextIO

from ige.errors import UserError


def flush(path: pathlib.Path) -> None:
    """Makes sure that a file or folder is on the disk before something depends on it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes `text` in UTF-8; the rest is as in `write_bytes`."""
    write_bytes(path, text.encode())


def write_bytes(path: pathlib.Path, data: bytes) -> None:
    """Writes `data` under a temporary name, then renames it, so that no reader sees a part.

    Two processes that write the same file take turns.

    Raises:
        UserError: the file cannot be opened, or not locked.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(_locked(temporary, lambda holder: None))
        unfinished = stack.enter_context(contextlib.ExitStack())
        unfinished.callback(temporary.unlink, missing_ok=True)
        file.truncate(0)
        file.buffer.write(data)
        file.flush()
        os.fsync(file.fileno())
        temporary.rename(path)
        unfinished.pop_all()  # of that name there may be another writer's file by now
    flush(path.parent)


@contextlib.contextmanager
def lock(path: pathlib.Path, when_held: Callable[[str], None]) -> Iterator[None]:
    """Holds a lock as long as the block runs; the file is there only meanwhile.

    The kernel lets go of it when the process ends, however it ends: what a killed process leaves is
    in nobody's way.

    Args:
        path: file to lock; its folder is made if there is none.
        when_held: called with the holder, "process 7 on host (since 2026-11-21 14:13:45)", when
            another one holds the lock. If it returns, this waits; to refuse, it raises.

    Raises:
        UserError: the file cannot be opened, or not locked.
    """
    with _locked(path, when_held) as file:
        since = datetime.datetime.now().isoformat(sep=" ", timespec="seconds")
        try:
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()} (since {since})")
            file.flush()
            yield
        finally:
            path.unlink(missing_ok=True)


def _locked(path: pathlib.Path, when_held: Callable[[str], None]) -> TextIO:
    """Returns the file of that name, opened and locked; see `lock`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            with contextlib.ExitStack() as stack:
                file = stack.enter_context(path.open("a+", encoding="utf-8"))
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    file.seek(0)
                    when_held(file.read() or "another process")
                    fcntl.flock(file, fcntl.LOCK_EX)
                # Whoever held it may have removed or renamed it: then this lock bars nobody.
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                        stack.pop_all()
                        return file
    except OSError as error:
        raise UserError(
            f"{path}: cannot be locked: {error.strerror}; choose a folder that can be written to, "
            "on a file system that has locks"
        ) from error
