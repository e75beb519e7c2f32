"""The lock of a SQLite file, between real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dramaturg_protocol.faults import Fenced
from dramaturg_store.database import Database

HOLDER = """
import os, sys
from dramaturg_store.database import Database
database = Database(sys.argv[1])
assert database.leases.acquire("other process") is not None
if sys.argv[2] == "fork":
    child = os.fork()
    if child == 0:
        sys.stdin.read()
        os._exit(0)
print("held", child if sys.argv[2] == "fork" else 0, flush=True)
sys.stdin.read()
"""


def hold(url: str, how: str = "alone") -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, url, how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    word, child = process.stdout.readline().split()
    assert word == "held"
    return process, int(child)


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_the_lock_is_free_the_moment_its_process_is_killed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    process, _ = hold(url)
    with Database(url) as database:
        assert database.leases.acquire("me") is None
        holder = database.leases.holder()
        assert holder is not None
        assert (holder.owner, holder.pid) == ("other process", process.pid)

        process.send_signal(signal.SIGKILL)
        process.communicate()

        lease = database.leases.acquire("me")
        assert lease is not None
        assert set(lease.epochs.values()) == {2}


def test_a_child_of_a_killed_coordinator_does_not_keep_its_lock(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    process, child = hold(url, "fork")
    end(process)

    with Database(url) as database:
        assert database.leases.acquire("me") is not None
    os.kill(child, signal.SIGKILL)


def test_a_child_that_ends_does_not_free_the_lock_of_its_parent(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    process, child = hold(url, "fork")
    os.kill(child, signal.SIGKILL)

    with Database(url) as database:
        assert database.leases.acquire("me") is None
    end(process)


def test_a_holder_whose_lock_file_was_removed_is_fenced_by_its_epoch(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    with Database(url) as first, Database(url) as second:
        old = first.leases.acquire("first")
        assert old is not None
        (tmp_path / "x.db.lock").unlink()

        assert second.leases.acquire("second") is not None

        with pytest.raises(Fenced):
            first.leases.renew(old)


def test_the_lock_file_says_who_holds_it_and_nothing_after(tmp_path: Path) -> None:
    with Database(f"sqlite:///{tmp_path}/x.db") as database:
        lease = database.leases.acquire("me")
        assert lease is not None
        assert json.loads((tmp_path / "x.db.lock").read_text())["pid"] == os.getpid()

        database.leases.release(lease)

        assert database.leases.holder() is None


def test_a_lock_file_full_of_nonsense_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "x.db.lock").write_text("nonsense " * 99)
    with Database(f"sqlite:///{tmp_path}/x.db") as database:
        assert database.leases.holder() is None
        assert database.leases.acquire("me") is not None
        assert database.leases.holder() is not None
