"""Runs commands in processes of their own, ends them at a chosen moment, compares what they leave.

The processes are forks of one that has imported TensorFlow and computed nothing: a start takes
milliseconds, not seconds. Forks also write a data set with the same bytes, whereas protobuf orders
the fields of an example anew in every other process.
"""

import asyncio
import contextlib
import dataclasses
import hashlib
import io
import json
import multiprocessing
import multiprocessing.forkserver
import os
import pathlib
import re
import signal
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from ige.interruption import SAID

_PRELOADED = (
    "benchmarks.killing",
    "ige.gin_keras",
    "ige.hpe.data.h3m_lift",
    "ige.hpe.models.baseline",
    "ige.hpe.problem",
    "ige.runners",
)
_CHANGES = ("fcntl.flock", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "shutil.rmtree")
_COUNTED = "changes of the file system:"
_SECONDS_BETWEEN_LOOKS = 0.001


@dataclasses.dataclass(frozen=True)
class Kill:
    """When a process gets a signal, and which.

    Attributes:
        seconds: after the start; with `in_save`, after a checkpoint's files began to be written.
        before_change: in place of that, before its n-th change of the file system, from 1.
    """

    number: signal.Signals = signal.SIGKILL
    seconds: float = 0.0
    in_save: bool = False
    before_change: int | None = None


class Ended(NamedTuple):
    """How a process ended.

    Attributes:
        status: exit status, negative for the signal that ended it.
        hit: whether the signal ended it; if not, it had ended by itself, or as good as.
        output: what it printed.
        phase: what it was at.
        seconds: from its start to its end.
    """

    status: int
    hit: bool
    output: str
    phase: str
    seconds: float

    @property
    def changes(self) -> int:
        """Changes of the file system; of a process that ended by itself."""
        return int(re.search(rf"^{_COUNTED} (\d+)$", self.output, re.MULTILINE)[1])


def on_change(act: Callable[[int], None]) -> None:
    """Has `act` called before each change that this process makes to the file system, with its
    number, from 1."""
    count = 0

    def audit(event: str, arguments: tuple) -> None:
        nonlocal count
        opened_to_write = event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR)
        if event in _CHANGES or opened_to_write:
            count += 1
            act(count)

    sys.addaudithook(audit)


def _main(folder: pathlib.Path, arguments: Sequence[str], before_change: int | None) -> None:
    """Runs a command as `python -m ige` does, in `folder`/work; what it prints goes to a file."""
    from tensorflow.python.eager import context

    if context.context_safe() is not None:
        raise RuntimeError("TensorFlow computed something before the fork: its threads are gone")
    from ige.__main__ import main

    count = 0

    def act(number: int) -> None:
        nonlocal count
        count = number
        if number == before_change:
            os.kill(os.getpid(), signal.SIGKILL)

    tempfile.tempdir = str(folder / "temporary")
    os.chdir(folder / "work")
    with (folder / "output").open("w") as output:
        os.dup2(output.fileno(), sys.stdout.fileno())
        os.dup2(output.fileno(), sys.stderr.fileno())
    sys.stdout.reconfigure(line_buffering=True)
    on_change(act)
    status = main(arguments)
    print(_COUNTED, count)
    os._exit(status)


def _start(*arguments: object) -> multiprocessing.process.BaseProcess:
    """Starts `_main` in a fork."""
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(list(_PRELOADED))
    # What TensorFlow's C++ parts print when they are imported goes nowhere.
    stderr = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        multiprocessing.forkserver.ensure_running()
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
    process = forks.Process(target=_main, args=arguments)
    process.start()
    return process


async def run(folder: pathlib.Path, arguments: Sequence[str], kill: Kill | None = None) -> Ended:
    """Runs `python -m ige` with these arguments in `folder`/work, and kills it if asked to."""
    (folder / "work").mkdir(parents=True, exist_ok=True)
    (folder / "temporary").mkdir(exist_ok=True)
    output = folder / "output"
    output.unlink(missing_ok=True)
    clock = time.time()
    process = _start(folder, arguments, kill.before_change if kill else None)
    try:
        while process.is_alive() and not output.exists():
            await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
        began = time.perf_counter()
        if kill and kill.before_change is None:
            await _moment(process, kill, lambda: _is_saving(folder / "work", clock))
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, kill.number)
        while process.is_alive():
            await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
        seconds = time.perf_counter() - began
        status = process.exitcode
    finally:
        process.kill()
        process.join()
        process.close()
    said = output.read_text()
    hit = kill is not None and (status in (-kill.number, 128 + kill.number) or SAID in said)
    return Ended(status, hit, said, _phase(folder / "work", said, clock), seconds)


async def _moment(
    process: multiprocessing.process.BaseProcess, kill: Kill, is_saving: Callable[[], bool]
) -> None:
    """Waits for the moment of a kill, or for the end of the process."""
    begun = time.perf_counter() if not kill.in_save else None
    while process.is_alive():
        if begun is None and is_saving():
            begun = time.perf_counter()
        if begun is not None and time.perf_counter() - begun >= kill.seconds:
            return
        await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)


def _is_saving(work: pathlib.Path, since: float) -> bool:
    """Whether there is an unfinished checkpoint, made since a time of the clock."""
    for path in work.glob("models/hpe/*/checkpoints/saving-*"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_ctime > since:
                return True
    return False


def _phase(work: pathlib.Path, output: str, since: float) -> str:
    if SAID in output:
        return "asked to stop"
    if _is_saving(work, since):
        return "saving"
    epochs = len(re.findall(r"^Epoch \d", output, re.MULTILINE))
    return ("start, data, tracing", "compiling, first epoch", "later epochs")[min(epochs, 2)]


def complaint(kill: Kill | None, ended: Ended) -> str:
    """Returns what is wrong with how a process ended, empty if nothing is."""
    # Where the signal comes too late, the process ends by itself.
    expected = [0]
    if kill and kill.number == signal.SIGINT:
        expected = [130] if SAID in ended.output else [0, 130]
    elif kill and not (kill.number == signal.SIGTERM and SAID in ended.output):
        expected = [0, -kill.number]
    if ended.status in expected:
        return ""
    return f"{kill}: exit status {ended.status}, expected one of {expected}:\n{ended.output}"


def fingerprint(folder: pathlib.Path) -> dict[str, bytes]:
    """Returns name -> content of everything below a folder that one run has as any other.

    Checkpoints are taken apart, for Keras writes the time into them; event files are put together;
    how many seconds something took is left out.
    """
    found: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir():
            found[f"{name}/"] = b""
        elif ".tfevents." in path.name:
            for key, value in _events(path):
                key = str(path.parent.relative_to(folder) / key)
                found[key] = found.get(key, b"") + value
        elif path.name == "model.keras":
            found |= {f"{name}/{key}": value for key, value in _archive(path)}
        elif path.name == "SHA256SUMS":
            found[name] = b"fits" if _fits(path) else b"does not fit"
        else:
            # How long it took is not the same twice.
            found[name] = re.sub(rb'"(training_)?seconds": [\d.e-]+', b"", path.read_bytes())
    return found


def _events(path: pathlib.Path) -> Iterator[tuple[str, bytes]]:
    """Yields "tag at step" and the value of every event, and a sign if the file is damaged."""
    import tensorflow as tf

    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                content = value.tensor.SerializeToString(deterministic=True)
                yield f"{value.tag} at {event.step}", content
    except tf.errors.DataLossError:
        yield f"damage of {path.name}", b""


def _archive(path: pathlib.Path) -> Iterator[tuple[str, bytes]]:
    """Yields what a file of Keras holds: the network, its weights, the optimizer's state."""
    import h5py

    with zipfile.ZipFile(path) as archive:
        # Equal numbers say that it is the same object; the number is its address.
        network = re.sub(rb'"shared_object_id": \d+', b"", archive.read("config.json"))
        yield "config.json", network
        metadata = json.loads(archive.read("metadata.json"))
        metadata.pop("date_saved")
        yield "metadata.json", json.dumps(metadata).encode()
        weights = io.BytesIO(archive.read("model.weights.h5"))
    arrays = []
    with h5py.File(weights) as file:
        file.visititems(
            lambda name, item: arrays.append((name, item)) if hasattr(item, "shape") else None
        )
        yield from ((name, array[()].tobytes()) for name, array in arrays)


def _fits(sums: pathlib.Path) -> bool:
    """Whether the files beside a list of checksums are those that it lists."""
    lines = (line.split("  ") for line in sums.read_text().splitlines())
    return all(
        hashlib.sha256((sums.parent / name).read_bytes()).hexdigest() == digest
        for digest, name in lines
    )


def differences(expected: dict[str, bytes], got: dict[str, bytes]) -> dict[str, int]:
    """Returns name -> number of bits that differ, for every name where anything does."""
    return {
        name: _differing_bits(expected.get(name, b""), got.get(name, b""))
        for name in sorted(expected.keys() | got.keys())
        if expected.get(name) != got.get(name)
    }


def _differing_bits(one: bytes, other: bytes) -> int:
    common = min(len(one), len(other))
    both = int.from_bytes(one[:common]) ^ int.from_bytes(other[:common])
    return both.bit_count() + 8 * (len(one) + len(other) - 2 * common)
