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

from ige.hpe.data.h3m_lift import h3m_lift

_WRITES = ("fcntl.flock", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "shutil.rmtree")


def _kill_before(number: int) -> None:
    """Has the kernel kill this process before its `number`-th change of the file system."""
    count = 0

    def audit(event: str, arguments: tuple) -> None:
        nonlocal count
        opened_to_write = event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR)
        if event in _WRITES or opened_to_write:
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(audit)


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
