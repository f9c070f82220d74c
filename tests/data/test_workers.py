import itertools
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from ige.data.workers import available_cores, map_in_order, worthwhile
from ige.errors import UserError


@pytest.mark.parametrize("processes", [1, 2])
def test_results_are_in_order_and_items_read_as_they_are_needed(processes):
    read = []

    def items():
        for number in itertools.count(-3):
            read.append(number)
            yield number

    results = map_in_order(abs, items(), processes)
    assert list(itertools.islice(results, 20)) == [3, 2, 1, *range(17)]
    results.close()
    assert len(read) <= 20 + 4 * processes


def test_what_a_process_raises_is_raised_here():
    with pytest.raises(ValueError, match="'x'"):
        list(map_in_order(int, ["1", "x"], 2))


def _die(number):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_is_killed():
    message = (
        "^one of 2 processes was ended from outside, perhaps for want of memory; run the command "
        "again, with fewer processes$"
    )
    with pytest.raises(UserError, match=message):
        list(map_in_order(_die, [1, 2], 2))


def _runs(pid):
    """Whether a process runs, and is no zombie that nobody has waited for."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_processes_end_with_the_one_that_started_them():
    code = (
        "import itertools; from ige.data.workers import map_in_order\n"
        "pid = itertools.repeat('__import__(\"os\").getpid()')\n"
        "for result in map_in_order(eval, pid, 2): print(result, flush=True)"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        workers = {int(parent.stdout.readline()) for _ in range(5)}
        parent.kill()
    assert parent.pid not in workers
    deadline = time.monotonic() + 30
    while any(map(_runs, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_processes_are_started_when_they_are_worth_it():
    assert [worthwhile(items, 8) for items in (0, 5, 39, 40, 1000)] == [1, 1, 1, 2, 8]
    assert 1 <= available_cores() <= os.cpu_count()
