"""Commands that are killed on the way: the same command then ends as if nothing had happened.

A handful of what `python -m benchmarks.kills` does hundreds of times.
"""

import asyncio
import os
import re
import shutil
import signal
import subprocess

import numpy as np
import pytest

from benchmarks import kills
from benchmarks.killing import Ended, Kill, complaint, differences, fingerprint, run
from ige.interruption import SAID

RNG = np.random.default_rng(0)
FAST = ("train.jit_compile = False", "hpe.get_baseline_inference.filters = 64")
EPOCHS = 4
RUN = "models/hpe/b128-1"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What the commands leave when nobody kills them."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return asyncio.run(kills.references(folder, EPOCHS, FAST))


@pytest.fixture
def disturb(undisturbed, tmp_path):
    """Returns a function that kills a command, and sees to it that nothing is lost by that."""

    def disturb(command, *points):
        trial = asyncio.run(kills.disturb(undisturbed[command], points, tmp_path / "killed"))
        assert trial.losses() == []
        assert trial.resumes == len(trial.killed)
        return [ended for _, ended in trial.killed]

    return disturb


@pytest.mark.parametrize(
    ("command", "shares"),
    [
        ("prepare", RNG.random(2)),
        ("train", RNG.random(2)),
        ("evaluate", RNG.random(2)),
    ],
)
def test_killed_before_some_changes_of_the_file_system(undisturbed, disturb, command, shares):
    changes = undisturbed[command].changes
    killed = disturb(command, *(Kill(before_change=1 + int(s * changes)) for s in shares))
    assert killed[0].status == -signal.SIGKILL


def test_killed_after_a_part_of_the_time_it_takes(undisturbed, disturb):
    disturb("train", Kill(seconds=RNG.random() * undisturbed["train"].seconds))


def test_killed_in_saves(disturb):
    killed = disturb("train", *(Kill(seconds=s, in_save=True) for s in (0, *RNG.random(1) / 20)))
    assert [ended.status for ended in killed] == [-signal.SIGKILL] * 2
    assert killed[0].phase == "saving"


@pytest.mark.parametrize("before_end", [7, 5])
def test_killed_when_the_last_checkpoint_is_saved_and_an_older_one_not_yet_removed(
    undisturbed, disturb, before_end
):
    """The last changes: rename the older one, remove it (5 changes), and the lock, and see whether
    the folder is empty."""
    (killed,) = disturb("train", Kill(before_change=undisturbed["train"].changes - before_end))
    assert f"{EPOCHS}/{EPOCHS}" in killed.output


@pytest.mark.parametrize(
    ("number", "status", "last"),
    [
        (
            signal.SIGTERM,
            0,
            rf"stopped, saved after epoch \d+.* at .+ in {RUN}; the same command goes on",
        ),
        (signal.SIGINT, 130, "ige: interrupted; the same command goes on from what is saved"),
    ],
)
def test_stopped_by_a_signal(disturb, number, status, last):
    (stopped,) = disturb("train", Kill(number, in_save=True))
    assert stopped.status == status
    assert SAID in stopped.output
    assert re.search(rf"^{last}\nchanges of the file system: \d+$", stopped.output, re.MULTILINE)


@pytest.mark.parametrize(
    ("kill", "status", "output", "wrong"),
    [
        (None, 0, "", False),
        (None, 1, "", True),
        (Kill(), -9, "", False),
        (Kill(), -11, "", True),
        (Kill(signal.SIGTERM), -15, "", False),
        (Kill(signal.SIGTERM), -15, SAID, True),
        (Kill(signal.SIGTERM), 0, SAID, False),
        (Kill(signal.SIGINT), 0, SAID, True),
        (Kill(signal.SIGINT), 130, SAID, False),
        (Kill(signal.SIGINT), 1, "", True),
    ],
)
def test_a_wrong_end_would_be_seen(kill, status, output, wrong):
    assert bool(complaint(kill, Ended(status, True, output, "", 1.0))) == wrong


def test_what_is_lost_would_be_seen(undisturbed, tmp_path):
    before = undisturbed["evaluate"].before
    whole = fingerprint(before)
    assert whole == undisturbed["train"].after
    shutil.copytree(before, tmp_path, dirs_exist_ok=True)
    (events,) = (tmp_path / RUN).glob("events*")
    shutil.copy(events, events.with_name(f"{events.name}.2"))
    (tmp_path / RUN / ".lock").touch()
    config = tmp_path / RUN / "config.json"
    config.write_bytes(bytes([config.read_bytes()[0] ^ 3]) + config.read_bytes()[1:])
    last, other = (tmp_path / RUN / "checkpoints" / f"epoch-000{n}" for n in (4, 3))
    shutil.copy(other / "model.keras", last / "model.keras")
    lost = differences(whole, fingerprint(tmp_path))
    assert lost[f"{RUN}/.lock"] == 0
    assert lost[f"{RUN}/config.json"] == 2
    assert lost[f"{RUN}/config at 0"] == 8 * len(whole[f"{RUN}/config at 0"])
    last = f"{RUN}/checkpoints/epoch-0004"
    assert lost.keys() >= {
        f"{last}/SHA256SUMS",
        f"{last}/model.keras/layers/dense/vars/0",
        f"{last}/model.keras/optimizer/vars/0",
    }
    assert all(name.startswith(RUN) for name in lost)


@pytest.fixture
def mount(tmp_path):
    """Returns a function that gives `models` a size in kB: a disk of its own."""
    folder = tmp_path / "work" / "models"
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a file system, to fill it")
    yield lambda size: subprocess.run(
        ["mount", "-o", f"remount,size={size}k", str(folder)], check=True
    )
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(undisturbed, mount, tmp_path):
    """Full when a checkpoint is saved, then when events are taken out, then at the very start."""
    reference = undisturbed["train"]
    shutil.copytree(reference.before, tmp_path / "work", dirs_exist_ok=True)
    folder = tmp_path / "work" / "models"

    def failure():
        ended = asyncio.run(run(tmp_path, reference.arguments))
        assert ended.status == 2
        checkpoints = folder / "hpe" / "b128-1" / "checkpoints"
        assert [path.name for path in checkpoints.iterdir()] == ["epoch-0001"]
        left = {path.name for path in checkpoints.parent.iterdir() if "events" not in path.name}
        assert left == {"checkpoints", "config.json"}
        return re.findall("^ige: .+$|^Traceback", ended.output, re.MULTILINE)

    mend = "mend that and run the same command again"
    assert failure() == [
        f"ige: {RUN}/checkpoints/epoch-0002 cannot be saved: No space left on device; the "
        f"checkpoints before it are intact; {mend}"
    ]
    used = 300 - os.statvfs(folder).f_bavail * 4
    mount(used + 8)
    assert failure() == [
        f"ige: TensorBoard's events cannot be written: {RUN}/.trimmed; No space left on device; "
        f"the checkpoints are intact; {mend}"
    ]
    mount(used)
    assert failure() == ["ige: No space left on device"]
    mount(5000)
    assert asyncio.run(run(tmp_path, reference.arguments)).status == 0
    assert differences(reference.after, fingerprint(tmp_path / "work")) == {}
