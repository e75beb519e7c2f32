"""The embedded engine as a guest in a process: it comes, goes, fails and is interrupted without leaving anything."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from pathlib import Path
from typing import IO

import pytest

import dramaturg
from dramaturg import Client, DatabaseTaken, Engine, Settings, lifespan, step, workflow
from dramaturg_protocol.errors import ConfigurationError
from dramaturg_store.database import Database

PATIENCE = 20.0


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/dramaturg.db"


def threads() -> set[str]:
    return {f"{thread.name} {thread.ident}" for thread in threading.enumerate()}


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def is_free(url: str) -> bool:
    with Database(url) as database:
        lease = database.leases.acquire("a look")
        return lease is not None


def test_an_engine_that_is_started_and_stopped_fifty_times_leaves_nothing(url: str) -> None:
    @step
    def work() -> int:
        return 1

    @workflow
    async def flow() -> int:
        return await work()

    def once() -> None:
        with dramaturg.engine(config=Settings(database_url=url), threads=2) as client:
            assert client.start(flow).result(PATIENCE) == 1

    once()
    before, open_before = threads(), descriptors()
    for _ in range(49):
        once()

    assert threads() <= before
    assert descriptors() <= open_before


def test_an_engine_whose_lifespan_fails_leaves_no_thread_and_no_lock(url: str) -> None:
    @lifespan
    def broken() -> Generator[dict[str, object], None, None]:
        raise OSError("no such service")
        yield {}

    before = threads()

    with pytest.raises(OSError, match="no such service"), dramaturg.engine(config=Settings(database_url=url)):
        pass

    assert threads() <= before
    assert is_free(url)


def test_a_private_run_whose_lifespan_fails_says_so(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    @workflow
    async def flow() -> int:
        return 1

    @lifespan
    def broken() -> Generator[dict[str, object], None, None]:
        raise OSError("no such service")
        yield {}

    monkeypatch.setenv("DRAMATURG_DATABASE_URL", "sqlite://")

    with pytest.raises(OSError, match="no such service"):
        dramaturg.run(flow)


def test_an_engine_that_cannot_have_its_broker_leaves_no_database_open(url: str) -> None:
    before = descriptors()

    with pytest.raises(ConfigurationError, match="broker"):
        Engine(Settings(database_url=url, broker_url="nothing://"))

    assert descriptors() == before


def test_an_engine_is_refused_beside_another_one_in_the_same_process(url: str) -> None:
    with dramaturg.engine(config=Settings(database_url=url)):
        before = threads()
        with (
            pytest.raises(DatabaseTaken, match=f"process {os.getpid()} on"),
            dramaturg.engine(config=Settings(database_url=url)),
        ):
            pass
        assert threads() <= before


def test_an_engine_starts_once(url: str) -> None:
    engine = dramaturg.engine(config=Settings(database_url=url))
    with engine:
        pass

    with pytest.raises(ConfigurationError, match="starts once"), engine:
        pass

    assert is_free(url)


def test_a_stop_waits_for_a_step_and_records_it(url: str) -> None:
    may_end, is_running = threading.Event(), threading.Event()

    @step
    def work() -> int:
        is_running.set()
        assert may_end.wait(PATIENCE)
        return 5

    @workflow
    async def flow() -> int:
        return await work()

    engine = dramaturg.engine(config=Settings(database_url=url))
    engine.start()
    handle = engine.client.start(flow)
    run_id = handle.run_id
    assert is_running.wait(PATIENCE)
    stopping = threading.Thread(target=engine.stop, args=(PATIENCE,))
    stopping.start()
    may_end.set()
    stopping.join(PATIENCE)

    with dramaturg.Client(Settings(database_url=url)) as client:
        assert client.handle(run_id).describe().status == "COMPLETED"


def test_a_step_that_a_stop_cuts_short_is_handed_back_and_counts_no_attempt(url: str) -> None:
    begun: list[int] = []
    is_running, may_end = threading.Event(), threading.Event()

    @step
    def work() -> int:
        context = dramaturg.current_step()
        assert context is not None
        begun.append(context.attempt)
        is_running.set()
        while not may_end.wait(0.01):
            pass
        return 5

    @workflow
    async def flow() -> int:
        return await work()

    with_engine = dramaturg.engine(config=Settings(database_url=url))
    with_engine.start()
    run_id = with_engine.client.start(flow).run_id
    assert is_running.wait(PATIENCE)
    with_engine.stop(0.0)
    may_end.set()

    with dramaturg.engine(config=Settings(database_url=url)) as client:
        assert client.handle(run_id, wf=flow).result(PATIENCE) == 5
        types = [event.type for event in client.handle(run_id).events()]
    assert begun == [1, 1]
    assert "step.retrying" in types


SCRIPT = """
import os, signal, sys, threading
import dramaturg
from dramaturg import step, workflow, Settings

@step
def work() -> int:
    return 1

@step
def stuck() -> int:
    print("stuck", flush=True)
    while "FREE" not in os.environ:
        threading.Event().wait(0.01)
    return 7

@workflow
async def flow() -> int:
    return await work()

@workflow
async def waits() -> int:
    await work()
    return await stuck()

"""


def child(tmp_path: Path, script: str, **environ: str) -> subprocess.Popen[str]:
    temporary = tmp_path / "tmp"
    temporary.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT + script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(temporary), **environ},
        start_new_session=True,
    )


def line_of(process: subprocess.Popen[str]) -> str:
    stream: IO[str] | None = process.stdout
    assert stream is not None
    return stream.readline().strip()


def end_of(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


def left_behind(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "tmp").rglob("*")]


@pytest.mark.parametrize("database", ["sqlite://", "sqlite:///kept.db"])
def test_a_process_that_ends_without_a_stop_ends_in_silence(tmp_path: Path, database: str) -> None:
    script = f"""
here = dramaturg.engine(config=Settings(database_url={database!r}))
here.start()
print(here.client.start(flow).result(20))
"""

    assert end_of(child(tmp_path, script)) == (0, "1\n", "")
    assert left_behind(tmp_path) == []


def test_a_process_that_ends_by_an_error_inside_the_engine_shows_that_error_alone(tmp_path: Path) -> None:
    script = """
with dramaturg.engine(config=Settings(database_url="sqlite://")) as client:
    client.start(waits)
    raise SystemExit("enough")
"""

    code, _, err = end_of(child(tmp_path, script))

    assert (code, err) == (1, "enough\n")
    assert left_behind(tmp_path) == []


def test_run_leaves_no_file_behind_but_its_database(tmp_path: Path) -> None:
    process = child(tmp_path, "print(dramaturg.run(flow))", DRAMATURG_DATABASE_URL="sqlite://")

    assert end_of(process) == (0, "1\n", "")
    assert left_behind(tmp_path) == []


def test_an_interrupt_from_the_keyboard_ends_a_run_that_can_be_taken_up(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/kept.db"
    script = 'dramaturg.run(waits.options(id="it"))'
    process = child(tmp_path, script, DRAMATURG_DATABASE_URL=url)
    assert line_of(process) == "stuck"

    process.send_signal(signal.SIGINT)
    code, _, err = end_of(process)

    assert code in {-signal.SIGINT, 130}
    assert err.strip().endswith("KeyboardInterrupt")
    assert is_free(url)
    with dramaturg.Client(Settings(database_url=url)) as client:
        handle = client.handle("it")
        assert handle.describe().status == "RUNNING"
        events = list(handle.events())
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    assert [event.type for event in events].count("step.completed") == 1

    again = child(tmp_path, 'print(dramaturg.run(waits.options(id="it")))', DRAMATURG_DATABASE_URL=url, FREE="yes")
    assert end_of(again) == (0, "stuck\n7\n", "")
    with dramaturg.Client(Settings(database_url=url)) as client:
        types = [event.type for event in client.handle("it").events()]
    assert types.count("run.started") == 1
    assert types[-1] == "run.completed"


def test_sigterm_of_an_engine_whose_application_exits_on_it_is_graceful(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/kept.db"
    script = f"""
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
here = dramaturg.engine(config=Settings(database_url={url!r}))
try:
    here.start().client.start(waits)
    signal.pause()
finally:
    here.stop(0.0)
"""
    process = child(tmp_path, script)
    assert line_of(process) == "stuck"

    process.terminate()
    code, _, _ = end_of(process)

    assert code == 0
    assert is_free(url)
    with Database(url) as database:
        assert not database.reads.coordinators()
    with dramaturg.Client(Settings(database_url=url)) as client:
        (run,) = client.runs()
        types = [event.type for event in client.handle(run.run_id).events()]
    assert types[-1] in {"step.retrying", "step.started", "step.scheduled"}
    assert "step.retrying" in types


@pytest.mark.parametrize("database", ["sqlite://", "sqlite:///kept.db"])
def test_a_child_made_by_fork_leaves_its_parents_engine_alone(tmp_path: Path, database: str) -> None:
    script = f"""
import warnings
warnings.simplefilter("ignore")
with dramaturg.engine(config=Settings(database_url={database!r})) as client:
    assert client.start(flow).result(20) == 1
    pid = os.fork()
    if pid == 0:
        sys.exit(0)
    os.waitpid(pid, 0)
    print(client.start(flow).result(20), len(client._link.database.reads.coordinators()), flush=True)
"""
    process = child(tmp_path, script)

    code, out, _ = end_of(process)

    assert (code, out) == (0, "1 1\n")


def test_a_schedule_that_cannot_fire_is_put_aside_and_the_others_fire(url: str) -> None:
    fired = threading.Event()

    @step
    def notes() -> None:
        fired.set()

    @workflow
    async def checks() -> None:
        await notes()

    settings = Settings(database_url=url)
    with Client(settings) as client:
        for name in ("a-bad-row", "b-good"):
            client.schedules.create(name, checks, every="1d")
        client.schedules.create("a-gone", "no_such_workflow", every="1d")
    with Database(url) as database, database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE dramaturg_schedules SET spec = 'nonsense' WHERE id = 'a-bad-row'")

    with dramaturg.engine(config=settings, threads=1) as client:
        assert fired.wait(PATIENCE)
        found = {each.id: each.paused for each in client.schedules.list()}
        reasons = sorted(letter.reason for letter in client.dead_letters.list(kind="schedule"))

    assert found == {"a-bad-row": "trouble", "a-gone": "trouble", "b-good": ""}
    assert reasons[0].startswith("no coordinator has its workflow")
    assert "cannot be read" in reasons[1]
