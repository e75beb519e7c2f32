"""Many processes at the same moment: ids and keys are decided by whoever writes first, for all of them alike."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session

import dramaturg
from dramaturg import Client, Handle, NotFound, Settings, workflow

PROCESSES = 20
FEW = 6
PATIENCE = 20.0

# One process imports and makes the others by fork, before it has any thread; a pipe holds them until all are there.
SCRIPT = """
import json, logging, os, sys
from dramaturg import Client, Settings

logging.disable()
url, options, calls = json.loads(sys.argv[1])
gate, opener = os.pipe()

def call(client, args):
    try:
        return ["run", client.start("flow", *args, **options).run_id]
    except Exception as error:
        return [type(error).__name__, getattr(error, "run_id", str(error))]

for args in calls:
    if os.fork() == 0:
        os.close(opener)
        with Client(Settings(database_url=url)) as client:
            client.count()
            os.write(1, b"ready\\n")
            os.read(gate, 1)
            answer = call(client, args)
        os.write(1, json.dumps(answer).encode() + b"\\n")
        os._exit(0)
sys.stdin.readline()
os.close(opener)
for _ in calls:
    assert os.wait()[1] == 0
"""

Answer = tuple[str, str]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/dramaturg.db"


@pytest.fixture
def client(url: str) -> Generator[Client, None, None]:
    with Client(Settings(database_url=url)) as made:
        yield made


@pytest.fixture
def served(url: str) -> Generator[Client, None, None]:
    """An engine runs in this process."""
    with dramaturg.engine(config=Settings(database_url=url)) as made:
        yield made


def at_once(url: str, calls: Sequence[Sequence[Any]] = ((1,),) * PROCESSES, **options: Any) -> list[Answer]:
    """Start ``flow`` in a process for each call, all at the same moment; what each was told."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, json.dumps([url, options, calls])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for _ in calls:
        assert process.stdout.readline() == "ready\n"
    out, _ = process.communicate("go\n", timeout=PATIENCE)
    assert process.returncode == 0
    answers = [json.loads(line) for line in out.splitlines()]
    assert len(answers) == len(calls)
    return [(kind, what) for kind, what in answers]


def flow_that_doubles() -> None:
    @workflow
    async def flow(number: int) -> int:
        return 2 * number


def flow_that_waits() -> None:
    @workflow
    async def flow(number: int) -> int:
        await dramaturg.sleep("1h")
        return number


def assert_history_is_whole(handle: Handle[Any], last: str) -> None:
    events = list(handle.events())
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    assert [event.type for event in events].count("run.started") == 1
    assert events[-1].type == last


def test_one_key_is_one_run_for_all_and_stays_it_after_the_run_closed(url: str, client: Client) -> None:
    flow_that_doubles()
    first = at_once(url, idempotency_key="order 17")
    assert {kind for kind, _ in first} == {"run"}
    (run_id,) = {what for _, what in first}

    with dramaturg.engine(config=Settings(database_url=url)) as served:
        assert served.handle(run_id).result(PATIENCE) == 2
        second = at_once(url, idempotency_key="order 17")
    third = at_once(url, idempotency_key="order 17")

    assert set(first + second + third) == {("run", run_id)}
    assert client.count() == 1
    assert_history_is_whole(client.handle(run_id), "run.completed")


def test_one_key_with_different_arguments_is_one_run_and_a_mismatch_for_the_others(url: str, served: Client) -> None:
    flow_that_doubles()

    answers = at_once(url, [(number % 2,) for number in range(PROCESSES)], idempotency_key="order 17")

    assert Counter(kind for kind, _ in answers) == {"run": PROCESSES // 2, "IdempotencyMismatch": PROCESSES // 2}
    (run_id,) = {what for kind, what in answers if kind == "run"}
    assert served.handle(run_id).result(PATIENCE) in {0, 2}
    assert served.count() == 1


def test_different_keys_are_different_runs(url: str, served: Client) -> None:
    flow_that_doubles()

    answers = at_once(url, [(1,)] * FEW, idempotency_key="a") + at_once(url, [(1,)] * FEW, idempotency_key="b")

    assert len({what for _, what in answers}) == 2
    assert served.results([served.handle(what) for _, what in answers], PATIENCE) == [2] * (2 * FEW)


def test_an_id_is_won_by_one_and_refused_to_the_others(url: str, served: Client) -> None:
    flow_that_waits()

    answers = at_once(url, id="report")

    kinds = Counter(kind for kind, _ in answers)
    assert kinds == {"run": 1, "AlreadyStarted": PROCESSES - 1}
    assert len({what for _, what in answers}) == 1, "the others are told which run has it"
    assert served.handle("report").run_id == answers[0][1]


def test_an_id_that_is_shared_is_one_run_for_all(url: str, served: Client) -> None:
    flow_that_waits()

    answers = at_once(url, id="report", on_conflict="use_existing")

    assert len(set(answers)) == 1
    served.handle("report").terminate()
    assert_history_is_whole(served.handle("report"), "run.terminated")


def test_an_id_that_is_taken_over_belongs_to_the_last_one_alone(url: str, served: Client) -> None:
    flow_that_waits()

    answers = at_once(url, id="report", on_conflict="terminate_existing")

    run_ids = {what for _, what in answers}
    assert {kind for kind, _ in answers} == {"run"}
    assert len(run_ids) == PROCESSES
    holder = served.handle("report").run_id
    for run_id in run_ids - {holder}:
        with pytest.raises(dramaturg.WorkflowTerminated):
            served.handle(run_id).result(PATIENCE)
        assert_history_is_whole(served.handle(run_id), "run.terminated")
    assert served.handle(holder).describe().status in {"PENDING", "RUNNING", "WAITING"}
    assert served.count(status="TERMINATED") == PROCESSES - 1


@pytest.mark.parametrize(
    ("reuse", "is_failure", "wins"),
    [
        ("never", False, 0),
        ("never", True, 0),
        ("if_failed", False, 0),
        ("if_failed", True, 1),
        ("always", False, 1),
    ],
)
def test_an_id_that_was_used_is_used_again_by_at_most_one(
    url: str, served: Client, reuse: str, is_failure: bool, wins: int
) -> None:
    @workflow
    async def flow(number: int) -> int:
        if number == 1 and is_failure:
            raise ValueError("as wanted")
        if number > 1:
            await dramaturg.sleep("1h")
        return number

    first = served.start(flow, 1, id="report")
    if is_failure:
        with pytest.raises(dramaturg.WorkflowFailed):
            first.result(PATIENCE)
    else:
        first.result(PATIENCE)

    answers = at_once(url, [(2,)] * FEW, id="report", reuse=reuse)

    assert Counter(kind for kind, _ in answers)["run"] == wins
    assert Counter(kind for kind, _ in answers)["AlreadyStarted"] == FEW - wins
    assert (served.handle("report").run_id == first.run_id) == (wins == 0)
    assert_history_is_whole(first, "run.failed" if is_failure else "run.completed")


# In the caller's own transaction.


@pytest.fixture
def own_engine(url: str, client: Client) -> Generator[Engine, None, None]:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE orders (id INTEGER PRIMARY KEY)"))
    yield engine
    engine.dispose()


def orders(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT count(*) FROM orders")).scalar_one())


@pytest.mark.parametrize("is_served", [False, True])
def test_a_start_in_the_callers_transaction_happens_if_that_commits(
    url: str, own_engine: Engine, client: Client, is_served: bool
) -> None:
    flow_that_doubles()
    here = dramaturg.engine(config=Settings(database_url=url))
    if is_served:
        here.start()
    with own_engine.begin() as connection:
        connection.execute(text("INSERT INTO orders VALUES (1)"))
        handle = client.start("flow", 4, connection=connection)
        run_id = handle.run_id
        with pytest.raises(NotFound):
            client.describe(run_id)
    if not is_served:
        here.start()

    assert client.handle(run_id).result(PATIENCE) == 8
    assert orders(own_engine) == 1
    here.stop()


def test_a_start_in_a_transaction_that_is_undone_never_happened(own_engine: Engine, client: Client) -> None:
    flow_that_doubles()
    with own_engine.connect() as connection:
        connection.execute(text("INSERT INTO orders VALUES (1)"))
        client.start("flow", 4, connection=connection, id="mine", idempotency_key="key")
        connection.rollback()

    assert orders(own_engine) == 0
    with pytest.raises(NotFound):
        client.handle("mine").describe()
    again = client.start("flow", 5, id="mine", idempotency_key="key")
    assert client.handle("mine").run_id == again.run_id


def test_a_start_that_is_refused_in_the_callers_transaction_leaves_the_rest_of_it(
    own_engine: Engine, client: Client
) -> None:
    flow_that_doubles()
    client.start("flow", 1, id="taken")
    with own_engine.begin() as connection:
        connection.execute(text("INSERT INTO orders VALUES (1)"))
        with pytest.raises(dramaturg.AlreadyStarted):
            client.start("flow", 4, connection=connection, id="taken")
        connection.execute(text("INSERT INTO orders VALUES (2)"))

    assert orders(own_engine) == 2


def test_many_starts_in_a_session_happen_with_it(own_engine: Engine, client: Client) -> None:
    flow_that_doubles()
    with Session(own_engine) as session, session.begin():
        session.execute(text("INSERT INTO orders VALUES (1)"))
        kept = client.start_many("flow", [(number,) for number in range(3)], connection=session)
    with Session(own_engine) as session:
        lost = client.start_many("flow", [(number,) for number in range(3)], connection=session)
        session.rollback()

    assert {client.handle(handle.run_id).describe().status for handle in kept} == {"PENDING"}
    for handle in lost:
        with pytest.raises(NotFound):
            client.describe(handle.run_id)
