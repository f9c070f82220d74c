import os
import re
import socket
import subprocess
import sys
import threading

import pytest

from ige.errors import UserError
from ige.files import lock, write_bytes, write_text

HOLDER = re.compile(
    rf"process {os.getpid()} on {re.escape(socket.gethostname())} "
    r"\(since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\)"
)
# Takes the lock and is killed while it holds it.
KILLED = """
import os, pathlib, signal, sys
from ige.files import lock

with lock(pathlib.Path(sys.argv[1]), print):
    os.kill(os.getpid(), signal.SIGKILL)
"""


class HeldError(Exception):
    pass


def refuse(holder):
    raise HeldError(holder)


def test_write_text_makes_folders_and_replaces(tmp_path):
    path = tmp_path / "a" / "b.json"
    write_text(path, "a long first text")
    write_text(path, "zweiter")
    assert path.read_text(encoding="utf-8") == "zweiter"
    assert list(path.parent.iterdir()) == [path]


def test_write_bytes_writes_what_is_no_text(tmp_path):
    path = tmp_path / "a" / "b.gif"
    write_bytes(path, 300 * b"x")
    write_bytes(path, bytes(range(256)))
    assert path.read_bytes() == bytes(range(256))
    assert list(path.parent.iterdir()) == [path]


def test_the_old_text_is_there_until_the_new_one_is_on_the_disk(tmp_path, monkeypatch):
    path = tmp_path / "b.json"
    write_text(path, "old")
    seen = []

    def fsync(descriptor):
        seen.append(path.read_text())
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="disk full"):
        write_text(path, "new")
    assert seen == ["old"]
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_is_no_part_of_the_text(tmp_path):
    (tmp_path / ".b.json.tmp").write_text("half of a long tex")
    write_text(tmp_path / "b.json", "new")
    assert (tmp_path / "b.json").read_text() == "new"
    assert list(tmp_path.iterdir()) == [tmp_path / "b.json"]


def test_writers_of_one_file_take_turns(tmp_path, monkeypatch):
    path = tmp_path / "b.json"
    second = threading.Thread(target=write_text, args=(path, "second"))
    flush = os.fsync

    def fsync(descriptor):
        monkeypatch.setattr(os, "fsync", flush)
        second.start()
        second.join(0.2)  # would end if it did not wait

    monkeypatch.setattr(os, "fsync", fsync)
    write_text(path, "first")
    second.join()
    assert path.read_text() == "second"
    assert list(tmp_path.iterdir()) == [path]


def test_a_held_lock_is_refused_and_names_its_holder(tmp_path):
    path = tmp_path / "made" / "lock"
    with lock(path, refuse):
        with pytest.raises(HeldError, match=f"^{HOLDER.pattern}$"), lock(path, refuse):
            pass
        # The refused one has taken nothing with it.
        with pytest.raises(HeldError), lock(path, refuse):
            pass
    assert list(path.parent.iterdir()) == []
    with lock(path, refuse):
        pass


def test_a_held_lock_is_waited_for(tmp_path):
    """Whoever waited holds the lock then, although the one before has removed the file."""
    path = tmp_path / "lock"
    waits, has, done = threading.Event(), threading.Event(), threading.Event()

    def wait(holder):
        assert HOLDER.fullmatch(holder)
        waits.set()

    def hold():
        with lock(path, wait):
            has.set()
            done.wait(10)

    thread = threading.Thread(target=hold)
    with lock(path, refuse):
        thread.start()
        assert waits.wait(10)
        assert not has.is_set()
    assert has.wait(10)
    with pytest.raises(HeldError), lock(path, refuse):
        pass
    done.set()
    thread.join()
    assert list(tmp_path.iterdir()) == []


def test_a_killed_holder_is_in_nobodys_way(tmp_path):
    path = tmp_path / "lock"
    assert subprocess.run([sys.executable, "-c", KILLED, str(path)]).returncode == -9
    assert path.exists()
    with lock(path, refuse):
        assert HOLDER.fullmatch(path.read_text())
    assert not path.exists()


def test_a_lock_is_let_go_of_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), lock(tmp_path / "lock", refuse):
        1 / 0  # noqa: B018
    with lock(tmp_path / "lock", refuse):
        pass


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "folder" / "lock"
    message = (
        f"{path}: cannot be locked: Not a directory; choose a folder that can be written to, on a "
        "file system that has locks"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"), lock(path, refuse):
        pass
    with pytest.raises(UserError, match=r"/\.b\.json\.tmp: cannot be locked: Not a directory; "):
        write_text(path.with_name("b.json"), "new")
