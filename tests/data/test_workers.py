import itertools
import os
import signal

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


def test_processes_are_started_when_they_are_worth_it():
    assert [worthwhile(items, 8) for items in (0, 5, 39, 40, 1000)] == [1, 1, 1, 2, 8]
    assert 1 <= available_cores() <= os.cpu_count()
