"""Runs the command line in a process of its own and measures it."""

import dataclasses
import os
import platform
import subprocess
import sys
import time

import numpy as np

FIRST_STEP = "first training step done"

# Patched in, because no line that the trainer prints is tied to the first step. TensorFlow is
# imported the way the command line does it, without what it prints.
_MAIN = f"""
import sys
from ige.__main__ import _import_tensorflow, main

if "--command=train" in sys.argv:
    _import_tensorflow()
    import keras

    class FirstStep(keras.callbacks.Callback):
        said = False

        def on_train_batch_end(self, batch, logs=None):
            if not self.said:
                self.said = True
                print({FIRST_STEP!r}, flush=True)

    fit = keras.Model.fit

    def fit_and_say(self, *args, callbacks=(), **kwargs):
        return fit(self, *args, callbacks=[*callbacks, FirstStep()], **kwargs)

    keras.Model.fit = fit_and_say
sys.exit(main())
"""


@dataclasses.dataclass(frozen=True)
class Measured:
    """What one process took.

    Attributes:
        seconds: from its start to its end.
        gigabytes: the most memory that it ever held (resident set), 10^9 bytes.
        first_step: seconds from its start to the end of the first execution of training steps,
            which is of up to 50; None if there was none.
    """

    seconds: float
    gigabytes: float
    first_step: float | None


def run_ige(*arguments: str) -> Measured:
    """Runs `python -m ige` with these arguments, passes its output on, and measures it.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    command = [sys.executable, "-c", _MAIN, *arguments]
    first_step = None
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.strip() == FIRST_STEP:
                first_step = time.perf_counter() - start
            else:
                print(f"  {line.rstrip()}", flush=True)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Measured(seconds, usage.ru_maxrss * 1024 / 1e9, first_step)


def describe_machine() -> str:
    """Returns what the figures depend on: cores, their load by others, versions."""
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), load {load:.1f}, "
        f"Python {platform.python_version()}, NumPy {np.__version__}"
    )
