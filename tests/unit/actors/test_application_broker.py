"""The broker that the settings name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import dramatiq
import pytest
from dramatiq.broker import Broker

from dramaturg_actors.application_broker import application_broker, broker_of, use_our_consumer
from dramaturg_actors.brokers import MemoryBroker
from dramaturg_actors.redis_broker import RedisBroker
from dramaturg_protocol.config import Settings
from dramaturg_protocol.errors import ConfigurationError

CODE = """
import dramatiq
from dramaturg_actors.brokers import MemoryBroker

class app:
    broker = MemoryBroker()

def make():
    return app.broker

def make_global():
    dramatiq.set_broker(app.broker)

def make_wrong():
    raise OSError("no route")

number = 4
"""


@pytest.fixture(autouse=True)
def application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "broker_of_an_application.py").write_text(CODE)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(dramatiq.broker, "global_broker", None)
    yield
    sys.modules.pop("broker_of_an_application", None)


@pytest.mark.parametrize("name", ["app.broker", "make", "make_global"])
def test_a_broker_is_named_directly_or_by_what_gives_it(name: str) -> None:
    broker = broker_of(Settings(broker=f"broker_of_an_application:{name}", broker_url="redis://nowhere"))

    assert isinstance(broker, MemoryBroker)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("broker_of_an_application", "MODULE:NAME, like myapp.broker:broker"),
        ("broker_of_an_application:", "MODULE:NAME"),
        (":broker", "MODULE:NAME"),
        ("no_such_module:broker", "there is no module 'no_such_module'"),
        ("broker_of_an_application:borker", "has no attribute 'borker'"),
        ("broker_of_an_application:number", "is 4, and no Dramatiq broker"),
        ("broker_of_an_application:app", "and no Dramatiq broker"),
        ("broker_of_an_application:make_wrong", "raised OSError: no route"),
    ],
)
def test_what_is_no_broker_is_refused(path: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        application_broker(path)


def test_without_one_it_is_the_broker_of_the_url() -> None:
    broker = broker_of(Settings(broker_url="redis://127.0.0.1:1/0", namespace="here"))

    assert isinstance(broker, RedisBroker)
    assert broker.namespace == "here"


def stock() -> Broker:
    from dramatiq.brokers.redis import RedisBroker as StockRedisBroker

    make: Callable[..., Broker] = StockRedisBroker
    return make(namespace="theirs")


def test_a_stock_redis_broker_gets_our_consumer_and_keeps_what_it_has() -> None:
    broker = stock()

    use_our_consumer(broker)

    bound = getattr(broker.consume, "__self__", None)
    assert isinstance(bound, RedisBroker)
    theirs, ours = vars(broker), vars(bound)
    assert (ours["namespace"], ours["client"]) == ("theirs", theirs["client"])


def test_a_broker_with_a_consumer_of_its_own_keeps_it() -> None:
    broker = MemoryBroker()

    use_our_consumer(broker)

    assert getattr(broker.consume, "__self__", None) is broker
