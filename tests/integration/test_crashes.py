"""Real processes, killed at moments that nobody chose: all runs end as if nothing had happened."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import IO

import pytest

import dramaturg
from dramaturg import Client, DatabaseTaken, Settings, step, workflow

PATIENCE = 30.0
RUNS, STEPS, KILLS = 50, 10, 6
LEASE_TIME = 15.0

SCRIPT = """
import asyncio, os, signal, sys, threading
import dramaturg
from dramaturg import current_step, step, workflow, Settings

ledger = os.open("ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def note() -> None:
    context = current_step()
    os.write(ledger, f"{context.run_id} {context.seq}\\n".encode())
    os.write(1, b"step\\n")

@step
def work(number: int) -> int:
    note()
    return number

@step
async def work_async(number: int) -> int:
    note()
    return number

@workflow
async def one_by_one(start: int) -> int:
    total = 0
    for number in range(10):
        total += await (work if number % 2 else work_async)(start + number)
    return total

@workflow
async def side_by_side(start: int) -> int:
    first = await asyncio.gather(*(work(start + number) for number in range(5)))
    second = await asyncio.gather(*(work_async(start + number) for number in range(5, 10)))
    return sum(first) + sum(second)

@step
def hold() -> int:
    os.write(1, b"held\\n")
    while "FREE" not in os.environ:
        threading.Event().wait(0.01)
    return 1

@workflow
async def holds() -> int:
    return await work(1) + await hold()

@workflow
async def naps() -> str:
    await dramaturg.sleep(float(os.environ["NAP"]))
    return "rested"

"""
SERVE = """
with dramaturg.engine(config=Settings(database_url=sys.argv[1]), threads=4):
    os.write(1, b"ready\\n")
    signal.pause()
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/dramaturg.db"


@pytest.fixture
def children(tmp_path: Path) -> Generator[Children, None, None]:
    made = Children(tmp_path)
    yield made
    made.kill_all()


class Children:
    """Processes in sessions of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[str]] = []

    def start(self, url: str, script: str = SERVE, **environ: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT + script, url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self._folder,
            env={**os.environ, "DRAMATURG_DATABASE_URL": url, **environ},
            start_new_session=True,
        )
        self._processes.append(process)
        return process

    def kill_all(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                kill(process)


def kill(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line that it says; pytest's time-out bounds the wait."""
    stream: IO[str] | None = process.stdout
    assert stream is not None
    line = stream.readline().strip()
    if not line:
        raise AssertionError(f"the process ended: {process.communicate()[1]}")
    return line


def completed(client: Client, run_ids: list[str]) -> set[str]:
    return {
        f"{run_id} {event.data['seq']}"
        for run_id in run_ids
        for event in client.handle(run_id).events()
        if event.type == "step.completed"
    }


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_fifty_runs_end_right_though_their_process_is_killed_again_and_again(
    tmp_path: Path, url: str, children: Children, seed: int
) -> None:
    chance = random.Random(seed)
    client = Client(Settings(database_url=url))
    items = [(100 * number,) for number in range(RUNS // 2)]
    handles = client.start_many("one_by_one", items) + client.start_many("side_by_side", items)
    run_ids = [handle.run_id for handle in handles]
    ledger = tmp_path / "ledger"
    records: list[tuple[set[str], int]] = []

    for _ in range(KILLS):
        process = children.start(url)
        begun = time.monotonic()
        steps = chance.randint(1, RUNS * STEPS // KILLS)
        while steps:
            steps -= line_of(process) == "step"
        assert time.monotonic() - begun < LEASE_TIME, "a restart waits for nobody's lease"
        kill(process)
        records.append((completed(client, run_ids), len(ledger.read_text().splitlines())))
    last = children.start(url)
    results = client.results(handles, timeout=PATIENCE)
    kill(last)

    assert results == [sum(100 * number + each for each in range(STEPS)) for number in range(RUNS // 2)] * 2
    assert client.count(status="COMPLETED") == RUNS
    lines = ledger.read_text().splitlines()
    for done, executed in records:
        assert done.isdisjoint(lines[executed:]), "a step that was recorded is never executed again"
    for run_id in run_ids:
        events = list(client.handle(run_id).events())
        assert [event.number for event in events] == list(range(1, len(events) + 1))
        outcomes = [event.data["seq"] for event in events if event.type == "step.completed"]
        assert sorted(outcomes) == list(range(1, STEPS + 1))
        assert [event.type for event in events].count("run.completed") == 1
        times = [event.time for event in events]
        assert times == sorted(times)
    assert set(lines) == {f"{run_id} {seq}" for run_id in run_ids for seq in range(1, STEPS + 1)}
    client.close()


def test_a_second_engine_is_refused_by_the_name_of_the_holder(url: str, children: Children) -> None:
    holder = children.start(url)
    assert line_of(holder) == "ready"

    with (
        pytest.raises(DatabaseTaken, match=f"process {holder.pid} on .*use a Client here"),
        dramaturg.engine(config=Settings(database_url=url)),
    ):
        pass
    second = children.start(url)
    _, err = second.communicate(timeout=PATIENCE)

    assert second.returncode == 1
    assert f"process {holder.pid} on" in err


def test_the_database_is_free_the_moment_its_holder_is_killed(url: str, children: Children) -> None:
    holder = children.start(url)
    assert line_of(holder) == "ready"
    kill(holder)

    with dramaturg.engine(config=Settings(database_url=url)):
        pass


def test_run_beside_a_process_that_holds_the_database_uses_a_private_one_and_says_so(
    url: str, children: Children, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    @workflow
    async def quick() -> str:
        return "done"

    monkeypatch.setenv("DRAMATURG_DATABASE_URL", url)
    assert line_of(children.start(url)) == "ready"

    assert dramaturg.run(quick) == "done"

    assert "uses a private database" in caplog.text
    with Client(Settings(database_url=url)) as client:
        assert client.count() == 0


def test_run_takes_up_the_open_run_of_its_id_where_a_killed_process_left_it(
    tmp_path: Path, url: str, children: Children
) -> None:
    script = 'print(dramaturg.run(holds.options(id="mine")), flush=True)'
    killed = children.start(url, script)
    assert [line_of(killed), line_of(killed)] == ["step", "held"]
    kill(killed)

    again = children.start(url, script, FREE="yes")
    out, _ = again.communicate(timeout=PATIENCE)

    assert out.split() == ["held", "2"]
    with Client(Settings(database_url=url)) as client:
        assert client.count() == 1
    assert len((tmp_path / "ledger").read_text().splitlines()) == 1


def test_run_leaves_the_other_runs_of_the_file_as_they_are(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    executed: list[str] = []

    @step
    def work(name: str) -> str:
        executed.append(name)
        return name

    @workflow
    async def flow(name: str) -> str:
        return await work(name)

    monkeypatch.setenv("DRAMATURG_DATABASE_URL", url)
    with Client(Settings(database_url=url)) as client:
        others = client.start_many(flow, [("other",)] * 5)

        assert dramaturg.run(flow, "mine") == "mine"

        assert executed == ["mine"]
        assert {client.handle(other.run_id).describe().status for other in others} == {"PENDING"}
        with dramaturg.engine(config=Settings(database_url=url)) as served:
            assert served.results([served.handle(other.run_id, wf=flow) for other in others], PATIENCE) == ["other"] * 5


def test_a_nap_goes_on_over_a_kill_takes_no_thread_and_ends_on_time(url: str, children: Children) -> None:
    nap = 4.0
    with Client(Settings(database_url=url)) as client:
        first = children.start(url, NAP=str(nap))
        assert line_of(first) == "ready"
        handle = client.start("naps")
        for event in handle.events(follow=True):
            if event.type == "timer.started":
                break
        kill(first)
        second = children.start(url, NAP=str(nap))
        assert line_of(second) == "ready"

        assert handle.result(PATIENCE) == "rested"

        times = {event.type: event.time for event in handle.events()}
    asleep = (times["timer.fired"] - times["timer.started"]).total_seconds()
    assert nap <= asleep < nap + 1.5


def test_many_sleepers_take_no_thread(url: str) -> None:
    @workflow
    async def sleeper() -> None:
        await dramaturg.sleep("1h")

    with dramaturg.engine(config=Settings(database_url=url)) as client:
        assert next(iter(client.start(sleeper).events(follow=True))).type == "run.started"
        before = threading.active_count()
        handles = client.start_many(sleeper, [()] * 200)
        for handle in handles:
            for event in handle.events(follow=True):
                if event.type == "timer.started":
                    break

        assert threading.active_count() == before
        assert client.count(status="WAITING") == 201
