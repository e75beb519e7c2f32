"""A client with a broker and no database, and the entry queue at the other end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Generator, Sequence
from datetime import UTC, datetime
from typing import Any

import dramatiq
import fakeredis
import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from dramaturg import (
    Client,
    ConfigurationError,
    Handle,
    RedisBroker,
    Unavailable,
    WorkflowFailed,
    info,
    step,
    workflow,
)
from dramaturg.testing import WorkflowEnv
from dramaturg_actors.brokers import MemoryBroker
from dramaturg_coordinator.entry import EntryQueue, Starts
from dramaturg_protocol.codec_choice import choose_codec
from dramaturg_protocol.definitions import registry
from dramaturg_protocol.faults import Unreachable
from dramaturg_protocol.records import DeadLetter, StartOrder, StartOutcome
from dramaturg_protocol.sealing import own_codec

PATIENCE = 10


class Entry:
    """An entry queue over a broker in memory, whose coordinator is an env."""

    def __init__(self, env: WorkflowEnv, broker: dramatiq.Broker | None = None, starts: Starts | None = None) -> None:
        self.env = env
        self.broker = broker or MemoryBroker()
        self.letters: list[DeadLetter] = []
        self._heard = threading.Semaphore(0)
        self._queue = EntryQueue(
            self.broker,
            namespace=env.client.settings.namespace,
            starts=starts or env.database.starts,
            registry=registry,
            put_aside=self._put_aside,
            wake=self._heard.release,
            now=lambda: env.now,
        )
        self._queue.start()

    def send(self, message_id: str | None = None, actor: str = "start", **kwargs: Any) -> None:
        """Send what a service without our library sends."""
        extra: dict[str, Any] = {} if message_id is None else {"message_id": message_id}
        message: dramatiq.Message[Any] = dramatiq.Message("dramaturg.start", actor, (), kwargs, {}, **extra)
        self.broker.enqueue(message)

    def hear(self) -> None:
        """Wait until the next message was taken."""
        assert self._heard.acquire(timeout=PATIENCE), "nothing was taken from the entry queue"

    def close(self) -> None:
        """End the thread."""
        self._queue.stop()

    def _put_aside(self, letters: Sequence[DeadLetter]) -> None:
        self.letters += letters
        self._heard.release()


@pytest.fixture
def entry(env: WorkflowEnv) -> Generator[Entry, None, None]:
    entry = Entry(env)
    yield entry
    entry.close()


def doubler() -> Any:
    @workflow
    async def double(number: int, *, plus: int = 0) -> int:
        return number * 2 + plus

    return double


def result_of_newest(env: WorkflowEnv) -> Any:
    env.run_until_idle()
    return env.client.handle(env.client.runs()[0].run_id).result()


def test_a_plain_message_starts_a_run(env: WorkflowEnv, entry: Entry) -> None:
    doubler()

    entry.send(workflow="double", args=[4], kwargs={"plus": 1}, tags={"from": "billing"})
    entry.hear()

    assert result_of_newest(env) == 9
    assert env.client.runs()[0].tags == {"from": "billing"}


def test_a_plain_message_may_bear_a_context(env: WorkflowEnv, entry: Entry) -> None:
    @workflow
    async def whose() -> Any:
        return info().context

    entry.send(workflow="whose", context={"tenant": "acme"})
    entry.hear()

    assert result_of_newest(env) == {"tenant": "acme"}


def test_a_client_without_a_database_sends_the_context(env: WorkflowEnv, entry: Entry) -> None:
    @workflow
    async def whose() -> Any:
        return info().context

    with Client(broker=entry.broker) as client:
        client.start(whose.options(context={"tenants": {"acme", "emca"}}))
    entry.hear()

    assert result_of_newest(env) == {"tenants": {"acme", "emca"}}


@pytest.mark.parametrize("delay", [datetime(2030, 3, 1, tzinfo=UTC), "2h"])
def test_a_client_without_a_database_may_put_a_start_off(env: WorkflowEnv, entry: Entry, delay: Any) -> None:
    double = doubler()

    with Client(broker=entry.broker) as client:
        client.start(double.options(delay=delay), 3)
    entry.hear()

    assert result_of_newest(env) == 6
    assert env.now == (delay if isinstance(delay, datetime) else datetime(2030, 1, 1, tzinfo=UTC))  # by its own clock


@pytest.mark.parametrize("delay", ["90m", "2030-01-01T01:30:00+00:00", 5400])
def test_a_plain_message_may_put_a_start_off(env: WorkflowEnv, entry: Entry, delay: Any) -> None:
    doubler()

    entry.send(workflow="double", args=[4], delay=delay)
    entry.hear()

    assert result_of_newest(env) == 8
    assert env.now == datetime(2030, 1, 1, 1, 30, tzinfo=UTC)


def test_a_redelivered_message_starts_nothing(env: WorkflowEnv, entry: Entry) -> None:
    doubler()

    for _ in range(2):
        entry.send("the-same", workflow="double", args=[4])
        entry.hear()
    env.run_until_idle()

    assert env.client.count() == 1


class _AwayAtFirst:
    """Starts in a database that does not answer so many times."""

    def __init__(self, starts: Starts, times: int) -> None:
        self._starts = starts
        self._left = times

    def submit(self, orders: Sequence[StartOrder]) -> list[StartOutcome]:
        if self._left:
            self._left -= 1
            raise Unreachable("the database does not answer")
        return self._starts.submit(orders)


def _over_redis() -> dramatiq.Broker:
    return RedisBroker(client=fakeredis.FakeRedis())


@pytest.mark.parametrize("broker", [MemoryBroker, _over_redis])
def test_starts_that_meet_a_database_that_is_away_wait_for_it(
    env: WorkflowEnv, broker: Callable[[], dramatiq.Broker]
) -> None:
    doubler()
    entry = Entry(env, broker(), _AwayAtFirst(env.database.starts, 2))

    for number in (1, 2, 3):
        entry.send(workflow="double", args=[number])
    for _ in range(3):
        entry.hear()
    entry.close()
    env.run_until_idle()

    assert sorted(env.client.handle(run.run_id).result() for run in env.client.runs()) == [2, 4, 6]


def test_an_id_in_use_is_shared(env: WorkflowEnv, entry: Entry) -> None:
    doubler()

    for _ in range(2):
        entry.send(workflow="double", args=[4], id="order-1")
        entry.hear()
    env.run_until_idle()

    assert env.client.count() == 1
    assert entry.letters == []


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"workflow": 3},
        {"workflow": "double", "args": "x"},
        {"workflow": "double", "args": [1], "colour": "red"},
        {"workflow": "double", "args": [1], "id": 5},
        {"workflow": "double", "args": [1], "delay": "soon"},
        {"actor": "stop", "workflow": "double"},
    ],
)
def test_what_is_no_start_is_put_aside_and_the_next_is_taken(
    env: WorkflowEnv, entry: Entry, message: dict[str, Any]
) -> None:
    doubler()

    entry.send(**message)
    entry.hear()
    entry.send(workflow="double", args=[1])
    entry.hear()

    assert [letter.source for letter in entry.letters] == ["entry"]
    assert result_of_newest(env) == 2


def test_a_client_without_a_database_starts_runs_and_knows_their_ids(env: WorkflowEnv, entry: Entry) -> None:
    double = doubler()
    client = Client(broker=entry.broker)

    handle: Handle[int] = client.start(double, 3, plus=1, idempotency_key="k", tags={"n": 1})
    entry.hear()
    again: Handle[int] = client.start(double, 3, plus=1, idempotency_key="k", tags={"n": 1})
    entry.hear()
    env.run_until_idle()

    assert handle.run_id == again.run_id
    assert env.client.handle(handle.run_id).result() == 7
    assert env.client.count() == 1


def test_what_needs_an_answer_needs_a_database(entry: Entry) -> None:
    client = Client(broker=entry.broker)
    handle = client.start(doubler(), 3)

    with pytest.raises(ConfigurationError, match="DRAMATURG_DATABASE_URL"):
        handle.result()
    with pytest.raises(ConfigurationError, match="DRAMATURG_DATABASE_URL"):
        client.runs()
    with pytest.raises(ConfigurationError, match="DRAMATURG_DATABASE_URL"):
        client.start(doubler(), 3, id="x")
    with pytest.raises(ConfigurationError, match="signal= needs a database"):
        client.start(doubler(), 3, signal=("go", 1))


def test_a_redis_that_is_away_is_told_in_our_own_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    client = Client(broker=RedisBroker(url=f"redis://127.0.0.1:{port}/0"))

    with pytest.raises(Unavailable, match="refused"):
        client.start(doubler(), 3)


def test_what_is_sent_over_the_broker_is_sealed_where_there_is_a_codec(env: WorkflowEnv, entry: Entry) -> None:
    double = doubler()
    sent: list[Any] = []
    entry.broker.add_middleware(_Watch(sent))
    with own_codec():
        choose_codec("fernet", [Fernet.generate_key().decode()])
        handle = Client(broker=entry.broker).start(double, 4711, context="canary", idempotency_key="k")
        entry.hear()
        env.run_until_idle()
        assert env.client.handle(handle.run_id).result() == 9422
    assert "4711" not in str(sent)
    assert "canary" not in str(sent)


def test_a_secret_of_a_plain_message_is_not_stored_where_nothing_encrypts(env: WorkflowEnv, entry: Entry) -> None:
    @workflow
    async def hushed(word: SecretStr) -> None:
        pass

    entry.send(workflow="hushed", args=["canary"])
    entry.hear()
    assert "CODEC" in entry.letters[0].reason
    assert "canary" not in str(entry.letters)
    assert not env.client.runs()


class _Watch(dramatiq.Middleware):
    """Notes what goes into a queue."""

    def __init__(self, sent: list[Any]) -> None:
        self._sent = sent

    def before_enqueue(self, broker: dramatiq.Broker, message: dramatiq.Message[Any], delay: int | None) -> None:
        self._sent.append(message.asdict())


def test_a_plain_message_brings_a_graph_with_it(env: WorkflowEnv, entry: Entry) -> None:
    @step
    def count(words: list[str]) -> int:
        return len(words)

    document = {
        "name": "counting",
        "nodes": [
            {"name": "some", "step": "count", "args": [["a", "b"]]},
            {"name": "more", "step": "count", "map": [["c"], []], "after": ["some"]},
        ],
    }

    entry.send("m-1", workflow="graph:counting", args=[document], tags={"from": "editor"})
    entry.hear()
    assert result_of_newest(env) == {"some": 2, "more": [1, 0]}

    entry.send("m-2", workflow="graph:counting", args=[{"nodes": [{"name": "a", "step": "count", "after": ["b"]}]}])
    entry.hear()
    env.run_until_idle()
    with pytest.raises(WorkflowFailed, match="refers to node 'b', and there is none"):
        env.client.handle(env.client.runs(status="FAILED")[0].run_id).result()
