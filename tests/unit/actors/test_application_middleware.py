"""What an application's own middleware sees of steps: Sentry's integration, Dramatiq's Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import dramatiq
import prometheus_client  # noqa: F401  # pyright: ignore[reportUnusedImport] - before Prometheus() sets where processes share their values
import pytest
import sentry_sdk
from dramatiq.broker import Broker
from dramatiq.middleware import CurrentMessage, Retries
from dramatiq.middleware.prometheus import Prometheus
from sentry_sdk.integrations.dramatiq import DramatiqIntegration, SentryMiddleware
from sentry_sdk.transport import Transport

import dramaturg
from dramaturg_actors.brokers import MemoryBroker
from dramaturg_protocol.definitions import registry
from tests.unit.actors.workshop import Workshop


class Captured(Transport):
    """Keeps what would go to Sentry."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[dict[str, Any]] = []

    def capture_envelope(self, envelope: Any) -> None:
        for item in envelope.items:
            self.events.append(item.payload.json)

    @property
    def errors(self) -> list[tuple[str, str, str]]:
        """Of each error: its transaction, type and message."""
        found = [event for event in self.events if event.get("exception")]
        return [
            (event["transaction"], event["exception"]["values"][-1]["type"], event["exception"]["values"][-1]["value"])
            for event in found
        ]

    @property
    def transactions(self) -> list[str]:
        """Names of what was traced."""
        return [event["transaction"] for event in self.events if event.get("type") == "transaction"]


@pytest.fixture(autouse=True)
def isolated() -> Iterator[None]:
    with registry.isolated():
        yield


@pytest.fixture
def sentry() -> Iterator[Captured]:
    """Sentry as an application begins it; it patches every broker that is made from then on."""
    made, captured = Broker.__init__, Captured()
    sentry_sdk.init(
        dsn="https://key@localhost/1",
        transport=captured,
        default_integrations=False,
        auto_enabling_integrations=False,
        integrations=[DramatiqIntegration()],
        traces_sample_rate=1.0,
    )
    yield captured
    sentry_sdk.get_client().close()
    sentry_sdk.get_global_scope().set_client(None)
    Broker.__init__ = made  # type: ignore[method-assign]


@pytest.fixture
def make_shop(workshops: Callable[..., Workshop]) -> Callable[[Broker], Workshop]:
    def make(broker: Broker) -> Workshop:
        workshop = workshops(broker)
        workshop.registry = registry
        return workshop

    return make


@pytest.mark.parametrize("kind", ["thread", "loop"])
def test_sentry_captures_each_attempt_that_fails_under_the_name_of_its_actor(
    sentry: Captured, make_shop: Callable[[Broker], Workshop], kind: str
) -> None:
    broker = MemoryBroker()
    # As the integration does where it is not patched a second time in this process.
    if not any(isinstance(each, SentryMiddleware) for each in broker.middleware):
        broker.add_middleware(SentryMiddleware())
    shop = make_shop(broker)
    if kind == "thread":

        @dramatiq.actor(broker=broker)
        def charge(cents: int) -> int:
            return 100 // cents
    else:

        @dramatiq.actor(broker=broker)
        async def charge(cents: int) -> int:
            return 100 // cents

    dramaturg.step(charge)

    @shop.step
    def refund(cents: int) -> int:
        raise ValueError(f"no refund of {cents}")

    shop.start()

    assert shop.run("charge", 4).result == "25"
    assert shop.run("charge", 0).error_type == "ZeroDivisionError"
    assert shop.run("charge", 0, attempt=2).error_type == "ZeroDivisionError"
    assert shop.run("refund", 7).error_type == "ValueError"
    shop.stop()
    sentry_sdk.flush()

    assert [error[:2] for error in sentry.errors] == [
        ("charge", "ZeroDivisionError"),
        ("charge", "ZeroDivisionError"),
        ("refund", "ValueError"),
    ]
    assert sentry.errors[-1][2] == "no refund of 7"
    assert sorted(sentry.transactions) == ["charge", "charge", "charge", "refund"]


def test_what_an_actor_throws_on_purpose_is_not_told_to_sentry(
    sentry: Captured, make_shop: Callable[[Broker], Workshop], caplog: pytest.LogCaptureFixture
) -> None:
    broker = MemoryBroker()
    broker.add_middleware(Retries(max_retries=3))
    if not any(isinstance(each, SentryMiddleware) for each in broker.middleware):
        broker.add_middleware(SentryMiddleware())
    shop = make_shop(broker)

    @dramatiq.actor(broker=broker, throws=LookupError)
    def find(name: str) -> None:
        raise KeyError(name) if name else ValueError("no name")

    dramaturg.step(find)
    shop.start()

    assert shop.run("find", "x").error_type == "KeyError"
    assert shop.run("find", "").error_type == "ValueError"
    shop.stop()

    assert sentry.errors == [("find", "ValueError", "no name")]
    # Whoever looks at the log finds each failure once, in our words.
    assert [record.name for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == [
        "dramaturg.actors"
    ]


def test_prometheus_counts_attempts_and_errors(
    make_shop: Callable[[Broker], Workshop], monkeypatch: pytest.MonkeyPatch
) -> None:
    # It sets these for its own processes, and not for those of the tests.
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    monkeypatch.setenv("prometheus_multiproc_dir", "")
    broker, prometheus = MemoryBroker(), Prometheus()
    broker.add_middleware(prometheus)
    broker.add_middleware(CurrentMessage())
    shop = make_shop(broker)
    told: list[str] = []

    @shop.step
    def charge(cents: int) -> int:
        message = CurrentMessage.get_current_message()
        assert message is not None
        told.append(message.actor_name)
        return 100 // cents

    shop.start()
    shop.run("charge", 4)
    shop.run("charge", 0)
    shop.stop()

    def count(counter: Any) -> float:
        return float(counter.labels("default", "charge")._value.get())

    assert count(prometheus.total_messages) == 2
    assert count(prometheus.total_errored_messages) == 1
    assert count(prometheus.inprogress_messages) == 0
    assert count(prometheus.total_rejected_messages) == 0
    assert told == ["charge", "charge"]
