"""Runs the command line in a process of its own and measures it."""

import datetime
import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from typing import NamedTuple

_FIRST_STEP = "first training step done after CPU seconds:"
# The kernel's own count for a child (ru_maxrss) starts with what its parent holds.
_MEMORY = "most kilobytes held:"

# Patched in, because no line that the trainer prints is tied to the first step. TensorFlow is
# imported the way the command line does it, without what it prints.
_MAIN = f"""
import sys
import time
from ige.__main__ import _import_tensorflow, main

if "--command=train" in sys.argv:
    _import_tensorflow()
    import keras

    class FirstStep(keras.callbacks.Callback):
        said = False

        def on_train_batch_end(self, batch, logs=None):
            if not self.said:
                self.said = True
                print({_FIRST_STEP!r}, time.process_time(), flush=True)

    make = keras.callbacks.CallbackList.__init__

    def make_with_one_more(self, callbacks=None, *args, **kwargs):
        make(self, [*(callbacks or ()), FirstStep()], *args, **kwargs)

    keras.callbacks.CallbackList.__init__ = make_with_one_more
status = main()
with open("/proc/self/status") as file:
    print({_MEMORY!r}, next(line.split()[1] for line in file if line.startswith("VmHWM")))
sys.exit(status)
"""


class Span(NamedTuple):
    """Seconds from the start of a process: on the clock, and of its CPU time on all cores."""

    seconds: float
    cpu_seconds: float


class Measured(NamedTuple):
    """What one process took.

    Attributes:
        whole: to its end.
        first_step: to the end of the first call that ran training steps, up to 50 of them; None if
            it trained nothing.
        gigabytes: the most memory that it ever held (resident set), 10^9 bytes.
    """

    whole: Span
    first_step: Span | None
    gigabytes: float


def run_ige(*arguments: str) -> Measured:
    """Runs `python -m ige` with these arguments, passes its output on, and measures it.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    command = [sys.executable, "-c", _MAIN, *arguments]
    first_step, kilobytes = None, 0
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith(_FIRST_STEP):
                cpu_seconds = float(line.removeprefix(_FIRST_STEP))
                first_step = Span(time.perf_counter() - start, cpu_seconds)
            elif line.startswith(_MEMORY):
                kilobytes = int(line.removeprefix(_MEMORY))
            else:
                print(f"  {line.rstrip()}", flush=True)
        _, status, usage = os.wait4(process.pid, 0)
        whole = Span(time.perf_counter() - start, usage.ru_utime + usage.ru_stime)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Measured(whole, first_step, kilobytes * 1024 / 1e9)


def describe_machine() -> str:
    """Returns what the figures depend on: date, cores, their load by others, versions."""
    versions = (f"{name} {importlib.metadata.version(name)}" for name in ("tensorflow", "numpy"))
    return (
        f"{datetime.date.today()}, {os.cpu_count()} cores ({platform.machine()}), load "
        f"{os.getloadavg()[0]:.1f}, Python {platform.python_version()}, {', '.join(versions)}"
    )
