"""Dramatiq actors that are steps too: their options hold, their plain messages go on, the broker's hooks see both."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import dramatiq
import pytest
from dramatiq.broker import Broker, MessageProxy
from dramatiq.errors import RateLimitExceeded, Retry
from dramatiq.middleware import AgeLimit, Callbacks, CurrentMessage, Middleware, Pipelines, Retries, TimeLimit
from dramatiq.results import Results
from dramatiq.results.backends import StubBackend

import dramaturg
from dramaturg.steps import StepFunction
from dramaturg_actors.brokers import MemoryBroker
from dramaturg_actors.declare import SharedActor, actor_of
from dramaturg_protocol.definitions import registry
from dramaturg_protocol.errors import ConfigurationError, FatalError
from dramaturg_protocol.messages import ReportKind
from dramaturg_protocol.retries import RetryPolicy
from tests.unit.actors.workshop import WAIT_SECONDS, Workshop


class Hooks(Middleware):
    """Keeps what the broker's own middleware sees."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, tuple[Any, ...], dict[str, Any]]] = []

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        self._keep("before", message)

    def after_process_message(
        self, broker: Broker, message: MessageProxy, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        self._keep("after" if exception is None else f"after {type(exception).__name__}", message)

    def after_nack(self, broker: Broker, message: MessageProxy) -> None:
        self._keep("nack", message)

    def _keep(self, what: str, message: MessageProxy) -> None:
        self.seen.append((what, message.actor_name, message.args, message.kwargs))


@pytest.fixture
def broker() -> MemoryBroker:
    """A broker as an application has it: with Dramatiq's own middleware, and some of its own."""
    broker = MemoryBroker()
    for each in (AgeLimit(), TimeLimit(), Callbacks(), Pipelines(), Retries(min_backoff=1), CurrentMessage()):
        broker.add_middleware(each)
    broker.add_middleware(Results(backend=StubBackend()))  # type: ignore[no-untyped-call]
    return broker


@pytest.fixture(autouse=True)
def isolated() -> Iterator[None]:
    with registry.isolated():
        yield


@pytest.fixture
def shop(broker: MemoryBroker, workshops: Callable[..., Workshop]) -> Workshop:
    workshop = workshops(broker)
    workshop.registry = registry
    return workshop


def as_step(actor: Any, **options: Any) -> StepFunction[..., Any]:
    made: StepFunction[..., Any] = dramaturg.step(**options)(actor)
    return made


def test_what_is_set_on_the_actor_holds_for_the_step(broker: MemoryBroker) -> None:
    @dramatiq.actor(
        broker=broker,
        queue_name="slow",
        priority=3,
        max_retries=4,
        min_backoff=500,
        max_backoff=60_000,
        time_limit=2500,
    )
    def charge(cents: int) -> str:
        return str(cents)

    step = dramaturg.step(charge)

    assert (step.name, step.fn) == ("charge", charge.fn)
    assert step.definition.options == {
        "queue": "slow",
        "priority": 3,
        "retries": RetryPolicy(max_attempts=5, initial="1s", maximum="1m", multiplier=2.0),
        "timeout": timedelta(seconds=2.5),
    }


def test_options_of_the_step_come_before_those_of_the_actor(broker: MemoryBroker) -> None:
    @dramatiq.actor(broker=broker, queue_name="slow", max_retries=4, time_limit=float("inf"))
    def charge() -> None: ...

    step = as_step(charge, name="charge_now", queue="fast", retries=1)

    assert step.name == "charge_now"
    assert step.definition.options == {
        "queue": "fast",
        "priority": 0,
        "retries": RetryPolicy(max_attempts=2),
        "timeout": None,
    }


def test_an_actor_without_options_leaves_them_to_queue_and_project(broker: MemoryBroker) -> None:
    @dramatiq.actor(broker=broker)
    def plain() -> None: ...

    assert dramaturg.step(plain).definition.options == {"queue": "default", "priority": 0}


def always(retries: int, error: BaseException) -> bool:
    return True


def never(retries: int, error: BaseException) -> bool:
    return False


@pytest.mark.parametrize("options", [{"max_retries": None}, {"retry_when": always, "max_retries": 2}])
def test_retries_without_end_have_no_end(broker: MemoryBroker, options: dict[str, Any]) -> None:
    @dramatiq.actor(broker=broker, **options)
    def stubborn() -> None: ...

    assert dramaturg.step(stubborn).definition.options["retries"].max_attempts > 10**9


def test_an_actor_works_as_a_step_and_as_what_it_was(shop: Workshop, broker: MemoryBroker) -> None:
    plain: queue.Queue[int] = queue.Queue()

    @dramatiq.actor(broker=broker)
    def double(n: int) -> int | None:
        plain.put(n)
        return 2 * n if n < 100 else None

    dramaturg.step(double)
    shop.start()

    report = shop.run("double", 4)
    double.send(100)

    assert (report.kind, report.result) == (ReportKind.COMPLETED, "8")
    assert [plain.get(timeout=WAIT_SECONDS), plain.get(timeout=WAIT_SECONDS)] == [4, 100]
    shop.stop()
    assert actor_of(broker, "double") is double


def test_an_async_actor_is_an_async_step(shop: Workshop, broker: MemoryBroker) -> None:
    @dramatiq.actor(broker=broker)
    async def double(n: int) -> int:
        return 2 * n

    dramaturg.step(double)
    shop.start()

    assert shop.run("double", 4).result == "8"


@pytest.mark.parametrize("kind", ["thread", "loop"])
def test_the_brokers_own_middleware_sees_each_attempt_with_its_arguments(
    shop: Workshop, broker: MemoryBroker, kind: str
) -> None:
    hooks = Hooks()
    broker.add_middleware(hooks)

    if kind == "thread":

        @dramatiq.actor(broker=broker)
        def double(n: int) -> int:
            message = CurrentMessage.get_current_message()
            assert message is not None
            assert message.args == (n,)
            return 2 * n if n else 1 // n
    else:

        @dramatiq.actor(broker=broker)
        async def double(n: int) -> int:
            message = CurrentMessage.get_current_message()
            assert message is not None
            assert message.args == (n,)
            return 2 * n if n else 1 // n

    dramaturg.step(double)
    shop.start()

    assert shop.run("double", 4).result == "8"
    assert shop.run("double", 0).error_type == "ZeroDivisionError"

    shop.stop()
    assert hooks.seen == [
        ("before", "double", (4,), {}),
        ("after", "double", (4,), {}),
        ("before", "double", (0,), {}),
        ("after ZeroDivisionError", "double", (0,), {}),
    ]


def test_dramatiqs_own_retries_callbacks_and_limits_are_off_under_a_step(shop: Workshop, broker: MemoryBroker) -> None:
    told: queue.Queue[str] = queue.Queue()

    @dramatiq.actor(broker=broker)
    def say(*_: Any) -> None:
        told.put("called back")

    options: dict[str, Any] = {
        "max_retries": 5,
        "on_success": "say",
        "on_failure": "say",
        "on_retry_exhausted": "say",
        "max_age": 1,
        "store_results": True,
    }

    @dramatiq.actor(broker=broker, **options)
    def fragile(ok: bool) -> str:
        if not ok:
            raise ValueError("wrong")
        return "done"

    dramaturg.step(fragile)
    shop.start()

    assert shop.run("fragile", True).result == '"done"'
    assert shop.run("fragile", False).error_type == "ValueError"
    shop.stop()

    assert told.empty()
    assert shop.reports.empty()
    assert broker.dead_letters == []
    assert all(waiting.empty() for waiting in broker.queues.values())


def test_the_plain_messages_keep_dramatiqs_retries(shop: Workshop, broker: MemoryBroker) -> None:
    tries: queue.Queue[int] = queue.Queue()

    @dramatiq.actor(broker=broker, max_retries=2, min_backoff=1, max_backoff=2)
    def fragile() -> None:
        tries.put(1)
        raise ValueError("wrong")

    dramaturg.step(fragile)
    shop.start()

    fragile.send()

    assert [tries.get(timeout=WAIT_SECONDS) for _ in range(3)] == [1, 1, 1]


def test_an_exception_that_the_actor_throws_is_final(shop: Workshop, broker: MemoryBroker) -> None:
    @dramatiq.actor(broker=broker, throws=(KeyError, LookupError))
    def pick(error: str) -> None:
        raise {"index": IndexError, "value": ValueError}[error]("x")

    dramaturg.step(pick)
    shop.start()

    assert shop.run("pick", "index").fatal
    assert not shop.run("pick", "value").fatal


def test_give_up_on_of_the_step_comes_before_throws(shop: Workshop, broker: MemoryBroker) -> None:
    @dramatiq.actor(broker=broker, throws=LookupError)
    def pick() -> None:
        raise IndexError("x")

    as_step(pick, retries=RetryPolicy(give_up_on=(OSError,)))
    shop.start()

    assert not shop.run("pick").fatal


def test_retry_when_decides_on_the_worker(shop: Workshop, broker: MemoryBroker) -> None:
    asked: list[tuple[int, BaseException]] = []

    def retry_when(retries: int, error: BaseException) -> bool:
        asked.append((retries, error))
        return retries < 2

    @dramatiq.actor(broker=broker, retry_when=retry_when)
    def fragile() -> None:
        raise ValueError("wrong")

    dramaturg.step(fragile)
    shop.start()

    assert [shop.run("fragile", attempt=attempt).fatal for attempt in (1, 2, 3)] == [False, False, True]
    assert [(retries, str(error)) for retries, error in asked] == [(0, "wrong"), (1, "wrong"), (2, "wrong")]


def test_a_retry_when_that_fails_ends_the_step_and_says_so(shop: Workshop, broker: MemoryBroker) -> None:
    def retry_when(retries: int, error: BaseException) -> bool:
        raise TypeError("no opinion")

    @dramatiq.actor(broker=broker, retry_when=retry_when)
    def fragile() -> None:
        raise ValueError("wrong")

    dramaturg.step(fragile)
    shop.start()

    report = shop.run("fragile")

    assert report.fatal
    assert report.message == "wrong (not tried again: its retry_when raised TypeError: no opinion)"


def test_retry_with_a_delay_says_when(shop: Workshop, broker: MemoryBroker) -> None:
    @dramatiq.actor(broker=broker)
    def later() -> None:
        raise Retry("not yet", delay=1500)

    dramaturg.step(later)
    shop.start()

    report = shop.run("later")

    assert (report.kind, report.retry_after, report.fatal) == (ReportKind.FAILED, 1.5, False)


def test_a_rate_limit_hands_the_step_back_for_a_while(shop: Workshop, broker: MemoryBroker) -> None:
    @dramatiq.actor(broker=broker, retry_when=never)
    def limited() -> None:
        raise RateLimitExceeded("too many")  # type: ignore[no-untyped-call]

    dramaturg.step(limited)
    shop.start()

    report = shop.run("limited")

    assert (report.kind, report.message, report.fatal) == (ReportKind.RELEASED, "too many", False)
    assert report.retry_after is not None
    assert 0.5 <= report.retry_after <= 1.5


def test_a_rate_limit_that_the_actor_throws_is_final(shop: Workshop, broker: MemoryBroker) -> None:
    @dramatiq.actor(broker=broker, throws=RateLimitExceeded)
    def limited() -> None:
        raise RateLimitExceeded("too many")  # type: ignore[no-untyped-call]

    dramaturg.step(limited)
    shop.start()

    report = shop.run("limited")

    assert (report.kind, report.fatal) == (ReportKind.FAILED, True)


def test_a_step_made_of_an_actor_takes_the_priority_of_the_step(shop: Workshop, broker: MemoryBroker) -> None:
    @dramatiq.actor(broker=broker, priority=5)
    def charge() -> None: ...

    as_step(charge, priority=1)
    shop.start()

    shared = actor_of(broker, "charge")

    assert isinstance(shared, SharedActor)
    assert (shared.priority, shared.step_priority) == (5, 1)


def test_another_function_under_an_actors_name_is_refused(shop: Workshop, broker: MemoryBroker) -> None:
    @dramatiq.actor(broker=broker)
    def charge() -> None: ...

    @dramaturg.step(name="charge")
    def another() -> None: ...

    with pytest.raises(ConfigurationError, match=r"step\(charge\)"):
        shop.start()


def test_an_actor_of_another_broker_is_a_step_here(shop: Workshop) -> None:
    @dramatiq.actor(broker=MemoryBroker())
    def double(n: int) -> int:
        if n < 0:
            raise FatalError("negative")
        return 2 * n

    dramaturg.step(double)
    shop.start()

    assert shop.run("double", 4).result == "8"
    assert shop.run("double", -1).fatal
