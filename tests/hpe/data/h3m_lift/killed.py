"""Builds data sets in processes that are killed on the way; run by test_killed.py.

Reads a line of JSON per build, `{"arguments": of h3m_lift, "kill_before": n or null}`, and answers
with the exit status of its process. Imports once and forks, because importing TensorFlow takes
seconds; forks also write the same bytes, whereas protobuf orders the fields of an example anew in
every process.
"""

import json
import os
import signal
import sys

from benchmarks.killing import on_change
from ige.hpe.data.h3m_lift import h3m_lift


def _kill_before(number: int) -> None:
    """Has the kernel kill this process before its `number`-th change of the file system."""

    def act(count: int) -> None:
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    on_change(act)


def _build(arguments: dict, kill_before: int | None) -> None:
    if kill_before is not None:
        _kill_before(kill_before)
    h3m_lift(**arguments).prepare()


def main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        process = os.fork()
        if not process:
            _build(**request)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
