"""Kills `prepare`, `train` and `evaluate` again and again, and counts the bits that this changes.

    python -m benchmarks.kills

Each trial gives one command of `hpe/b128-1`, on a small generated data set, one to six signals at
random moments, starts it again after each, and lets the last start end by itself. What is then in
the folders has to be, bit for bit, what a run has that nobody disturbed: data set, weights,
optimizer, random states, history, TensorBoard's events, evaluation; and nothing else may be there.
Half of the moments are spread over the time that the command takes, the others over its changes of
the file system and, for `train`, over the time of a save. `train` also gets SIGTERM and SIGINT.

Ends with status 1 if anything was lost.
"""

import argparse
import asyncio
import collections
import dataclasses
import itertools
import pathlib
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from benchmarks import killing
from benchmarks.killing import Ended, Kill
from benchmarks.processes import describe_machine
from ige.__main__ import _import_tensorflow

COMMANDS = ("prepare", "train", "evaluate")
_SHARES = (0.2, 0.6, 0.2)
_KILLS_PER_TRIAL = 6
_SECONDS_OF_A_SAVE = 0.1
_EPOCHS = 8
_BINDINGS = (
    "data = 'synthetic'",
    "h3m_lift.synthetic_sequences = 1",
    "h3m_lift.synthetic_frames = 12",
    # Relative, so that no folder's name is in what is compared.
    "h3m_lift.data_dir = 'data'",
    "default_model_dir.base_dir = 'models'",
    "train.log_every = 5",
)


@dataclasses.dataclass(frozen=True)
class Reference:
    """What a command does when nobody disturbs it.

    Attributes:
        arguments: the command line.
        before: folder with what the commands before it left; there is none for the first.
        after: the fingerprint of what is there in the end.
        seconds: how long it took.
        changes: how often it changed the file system.
    """

    arguments: list[str]
    before: pathlib.Path | None
    after: dict[str, bytes]
    seconds: float
    changes: int


@dataclasses.dataclass
class Trial:
    """One command, killed and started again until it ended by itself."""

    killed: list[tuple[Kill, Ended]] = dataclasses.field(default_factory=list)
    resumes: int = 0
    lost: dict[str, int] = dataclasses.field(default_factory=dict)
    complaints: list[str] = dataclasses.field(default_factory=list)

    def losses(self) -> list[str]:
        """Returns what differs, and which ends were not as they should be, a line each."""
        kills = ", ".join(str(kill) for kill, _ in self.killed)
        lost = [f"LOST: {item}: {bits} bits, after {kills}" for item, bits in self.lost.items()]
        return lost + [f"WRONG END: {complaint}" for complaint in self.complaints]


async def references(
    folder: pathlib.Path, epochs: int = _EPOCHS, bindings: Sequence[str] = ()
) -> dict[str, Reference]:
    """Runs all commands undisturbed, each on what the one before left.

    Raises:
        RuntimeError: one failed.
    """
    found, before = {}, None
    for command in COMMANDS:
        arguments = ["--gin_file=hpe/b128-1", f"--command={command}", f"--epochs={epochs}"]
        arguments += [f"--gin_param={binding}" for binding in (*_BINDINGS, *bindings)]
        at = folder / command
        if before is not None:
            shutil.copytree(before, at / "work")
        ended = await killing.run(at, arguments)
        if ended.status:
            raise RuntimeError(f"{command}: exit status {ended.status}:\n{ended.output}")
        after = killing.fingerprint(at / "work")
        found[command] = Reference(arguments, before, after, ended.seconds, ended.changes)
        before = at / "work"
    return found


async def disturb(reference: Reference, kills: Sequence[Kill], folder: pathlib.Path) -> Trial:
    """Runs a command in `folder`, kills it, starts it again, and compares the end."""
    trial = Trial()
    if reference.before is not None:
        shutil.copytree(reference.before, folder / "work")
    for kill in (*kills, None):
        ended = await killing.run(folder, reference.arguments, kill)
        trial.resumes += bool(trial.killed)
        complaint = killing.complaint(kill, ended)
        if complaint:
            trial.complaints.append(complaint)
        if not ended.hit:
            break
        trial.killed.append((kill, ended))
    trial.lost = killing.differences(reference.after, killing.fingerprint(folder / "work"))
    return trial


def draw(rng: np.random.Generator, command: str, reference: Reference) -> list[Kill]:
    """Draws the kills of one trial."""
    kinds = ("time", "time", "change", "save" if command == "train" else "change")
    kills = []
    for kind in rng.choice(kinds, rng.integers(1, _KILLS_PER_TRIAL + 1)):
        if kind == "change":
            kills.append(Kill(before_change=int(rng.integers(1, reference.changes + 1))))
            continue
        number = signal.SIGKILL
        if command == "train":
            numbers = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
            number = signal.Signals(int(rng.choice(numbers, p=(0.7, 0.15, 0.15))))
        longest = _SECONDS_OF_A_SAVE if kind == "save" else reference.seconds
        kills.append(Kill(number, float(rng.uniform(0, longest)), kind == "save"))
    return kills


async def _measure(
    folder: pathlib.Path, kills: int, seed: int, jobs: int
) -> dict[str, list[Trial]]:
    """Returns the trials of every command: as many as it takes for that many kills."""
    undisturbed = await references(folder / "undisturbed")
    trials: dict[str, list[Trial]] = {command: [] for command in COMMANDS}
    numbers = itertools.count()
    done = 0

    async def work(progress: tqdm) -> None:
        nonlocal done
        while done < kills:
            number = next(numbers)
            rng = np.random.default_rng([seed, number])
            command = str(rng.choice(COMMANDS, p=_SHARES))
            reference = undisturbed[command]
            at = folder / f"trial-{number}"
            trial = await disturb(reference, draw(rng, command, reference), at)
            shutil.rmtree(at)
            trials[command].append(trial)
            for line in trial.losses():
                tqdm.write(line)
            done += len(trial.killed)
            progress.update(len(trial.killed))

    with tqdm(total=kills, desc="killing", unit=" kills", disable=None) as progress:
        await asyncio.gather(*(work(progress) for _ in range(jobs)))
    return trials


def _report(what: str, trials: list[Trial]) -> str:
    kills = sum(len(trial.killed) for trial in trials)
    resumes = sum(trial.resumes for trial in trials)
    bits = sum(sum(trial.lost.values()) for trial in trials)
    return f"{what}: {kills} kills, {resumes} resumes, {bits} bits lost"


def _counts(what: str, items: list[str]) -> str:
    counted = collections.Counter(items).most_common()
    return f"  {what}: {', '.join(f'{item} {count}' for item, count in counted)}"


def main() -> int:
    """Kills, compares, prints; returns 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="commands at the same time")
    arguments = parser.parse_args()
    machine = describe_machine()
    _import_tensorflow()
    with tempfile.TemporaryDirectory(prefix="ige-benchmark-") as name:
        trials = asyncio.run(
            _measure(pathlib.Path(name), arguments.kills, arguments.seed, arguments.jobs)
        )
    every = [trial for of_command in trials.values() for trial in of_command]
    for command, of_command in trials.items():
        killed = [pair for trial in of_command for pair in trial.killed]
        print(_report(command, of_command))
        print(_counts("signals", [kill.number.name for kill, _ in killed]))
        if command == "train":
            print(_counts("while", [ended.phase for _, ended in killed]))
    print(f"{_report('all', every)}; {machine}")
    return int(any(trial.losses() for trial in every))


if __name__ == "__main__":
    sys.exit(main())
