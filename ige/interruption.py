"""Ctrl-C and SIGTERM: a request that a loop looks at, or an exception where all is saved anyway."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Self

_STDERR = 2
SAID = "\nstopping: finishing the step, then saving (Ctrl-C: at once, without saving)\n"
"""What is printed when a stop is asked for."""


@contextlib.contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Meanwhile SIGTERM raises KeyboardInterrupt: for work that may be cut off anywhere."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


class StopRequest:
    """While entered, SIGINT and SIGTERM are remembered; a second SIGINT interrupts as usual.

    Attributes:
        signal: what asked for the stop, None as long as nothing did.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        # Python lets only the main thread handle signals.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        # Not print: the handler may run in the middle of one. Who reads it may be gone.
        with contextlib.suppress(OSError):
            os.write(_STDERR, SAID.encode())
