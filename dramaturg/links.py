"""How a client reaches a coordinator: through the database, with or without somebody who tells; or over a broker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Protocol

import dramatiq
import redis
from dramatiq.errors import BrokerConnectionError
from pydantic_core import from_json
from sqlalchemy import Engine

from dramaturg.callers_transactions import call_when_returned, connection_of, is_async
from dramaturg.notices import Notices
from dramaturg_actors.application_broker import is_shared, meeting_broker_of
from dramaturg_protocol.config import Settings
from dramaturg_protocol.errors import ConfigurationError
from dramaturg_protocol.faults import Unreachable
from dramaturg_protocol.messages import Request
from dramaturg_protocol.records import StartOrder, StartOutcome
from dramaturg_protocol.redis_keys import START_ACTOR, START_QUEUE
from dramaturg_protocol.request_bodies import StartBody, decode_start
from dramaturg_protocol.sealing import is_sealing, seal
from dramaturg_store.database import Database

#: Seconds between two looks at the database, where nobody tells us.
POLL = 0.1


class Link(Protocol):
    """What a client needs of the world."""

    @property
    def has_database(self) -> bool:
        """Whether anything can be asked."""
        ...

    @property
    def database(self) -> Database:
        """Where runs are; `ConfigurationError` where there is none."""
        ...

    @property
    def notices(self) -> Notices:
        """Who tells of news."""
        ...

    def submit(self, orders: Sequence[StartOrder], connection: Any = None) -> list[StartOutcome]:
        """Submit starts, and tell the coordinator."""
        ...

    def put(self, requests: Sequence[Request], connection: Any = None) -> None:
        """Put requests into the inbox, in a transaction of their own or the caller's; and tell the coordinator."""
        ...

    def postpone(self, request: Request, due: datetime, connection: Any = None) -> None:
        """Keep a request until it is due, in a transaction of its own or the caller's."""
        ...

    def wake(self) -> None:
        """Tell the coordinator that there is something in the inbox."""
        ...

    def close(self) -> None:
        """Close what was opened."""
        ...


class DatabaseLink:
    """Through the database.

    Parameters:
      wake: tells the coordinator; by default nobody does, and it looks for itself.
      close: closes what was opened for this link.
    """

    has_database = True

    def __init__(
        self,
        database: Database,
        notices: Notices,
        *,
        wake: Callable[[], None] | None = None,
        close: Callable[[], None] | None = None,
    ) -> None:
        self.database = database
        self.notices = notices
        self._wake = wake
        self._close = close

    def submit(self, orders: Sequence[StartOrder], connection: Any = None) -> list[StartOutcome]:
        """Submit starts; they are committed when this returns, or with the caller's own transaction."""
        if connection is None:
            outcomes = self.database.starts.submit(orders)
            self.wake()
            return outcomes
        own = connection_of(connection)
        outcomes = self.database.starts.submit(orders, own)
        if self._wake is not None:
            call_when_returned(own, self._wake)
        return outcomes

    def put(self, requests: Sequence[Request], connection: Any = None) -> None:
        """Put requests into the inbox; they are there when this returns, or with the caller's own transaction."""
        if connection is None:
            self.database.inbox.put(requests)
            self.wake()
            return
        own = connection_of(connection)
        self.database.inbox.put(requests, own)
        if self._wake is not None:
            call_when_returned(own, self._wake)

    def postpone(self, request: Request, due: datetime, connection: Any = None) -> None:
        """Keep a request until it is due; it is there when this returns, or with the caller's own transaction.

        Coordinators look for what is due soon by themselves: nobody is told.
        """
        own = None if connection is None else connection_of(connection)
        self.database.postponed.put(request, due, own)

    def wake(self) -> None:
        """Tell the coordinator, if anybody can."""
        if self._wake is not None:
            self._wake()

    def close(self) -> None:
        """Close what was opened."""
        if self._close is not None:
            self._close()


class BrokerLink:
    """Over a Dramatiq broker, without a database: starts only."""

    has_database = False

    def __init__(self, broker: dramatiq.Broker) -> None:
        self._broker: Any = broker

    @property
    def database(self) -> Database:
        """There is none."""
        raise ConfigurationError(
            "this client has a broker and no database: it can start runs, and nothing that needs an answer; "
            "set DRAMATURG_DATABASE_URL for that"
        )

    @property
    def notices(self) -> Notices:
        """There is nobody who tells."""
        raise ConfigurationError(
            "this client has no database, so it cannot wait for anything: set DRAMATURG_DATABASE_URL"
        )

    def submit(self, orders: Sequence[StartOrder], connection: Any = None) -> list[StartOutcome]:
        """Send start messages; a coordinator takes them from the entry queue.

        Raises:
          ConfigurationError: an option that needs an answer.
          Unreachable: the broker does not answer.
        """
        if connection is not None:
            raise ConfigurationError("connection= needs a database: set DRAMATURG_DATABASE_URL")
        return [self._send(order) for order in orders]

    def put(self, requests: Sequence[Request], connection: Any = None) -> None:
        """There is no inbox that this client reaches."""
        self.database.inbox.put(requests)

    def postpone(self, request: Request, due: datetime, connection: Any = None) -> None:
        """There is nowhere that it could wait."""
        self.database.postponed.put(request, due)

    def wake(self) -> None:
        """The message itself is the wake-up."""

    def close(self) -> None:
        """The broker is its owner's."""

    def _send(self, order: StartOrder) -> StartOutcome:
        if order.signal is not None:
            raise ConfigurationError("signal= needs a database: set DRAMATURG_DATABASE_URL")
        if order.has_explicit_id:
            raise ConfigurationError("id= needs an answer, and so a database: set DRAMATURG_DATABASE_URL")
        body = decode_start(order.body)
        said: dict[str, Any] = {"workflow": body.workflow, **_input_of(body), "run_id": order.run_id}
        said |= {"tags": body.tags} if body.tags else {}
        said |= {"context": from_json(seal(body.context))} if body.context is not None else {}
        said |= {"version": body.version} if body.version is not None else {}
        said |= {"delay": body.begins_at.isoformat()} if body.begins_at is not None else {}
        said |= {"digest": order.digest} if order.digest is not None else {}
        message: dramatiq.Message[Any] = dramatiq.Message(
            START_QUEUE, START_ACTOR, (), said, {}, message_id=order.message_id
        )
        try:
            self._broker.declare_queue(START_QUEUE)
            self._broker.enqueue(message)
        # Dramatiq's brokers tell what happened each in the words of its own client.
        except (BrokerConnectionError, redis.RedisError, OSError) as error:
            raise Unreachable(f"the broker does not take it: {type(error).__name__}: {error}") from error
        return StartOutcome(order.run_id, order.workflow_id, is_new=True)


def _input_of(body: StartBody) -> dict[str, Any]:
    """The arguments as plain JSON, which anybody may send; sealed where there is a codec."""
    return {"input": from_json(seal(body.input))} if is_sealing() else dict(from_json(body.input))


def link_of(settings: Settings, broker: object = None, engine: object = None) -> Link:
    """The link that settings mean.

    Parameters:
      engine: SQLAlchemy's, of the caller's own, in place of the database that the settings name.

    Raises:
      ConfigurationError: the database cannot be used.
      Unavailable: it does not answer.
    """
    if engine is not None:
        if broker is not None:
            raise ConfigurationError("Client takes engine= or broker=, not both; DRAMATURG_BROKER_URL names the broker")
        database = Database(_engine(engine), settings.namespace)
        return _shared_link(settings, database) if is_shared(settings) else _lonely_link(database)
    if broker is not None:
        if not isinstance(broker, dramatiq.Broker):
            raise ConfigurationError(f"Client(broker=…) takes a Dramatiq broker, not {broker!r}")
        return BrokerLink(broker)
    if not is_shared(settings):
        return _lonely_link(Database(settings.database_url, settings.namespace))
    if "database_url" not in settings.model_fields_set:
        return BrokerLink(meeting_broker_of(settings))
    return _shared_link(settings, Database(settings.database_url, settings.namespace))


def _engine(given: object) -> Engine:
    if isinstance(given, Engine):
        return given
    advice = ": make one with create_engine; its connections are used in threads" if is_async(given) else ""
    raise ConfigurationError(f"Client(engine=…) takes a SQLAlchemy Engine, not {given!r}{advice}")


def _lonely_link(database: Database) -> DatabaseLink:
    return DatabaseLink(database, Notices(POLL), close=database.close)


def _shared_link(settings: Settings, database: Database) -> DatabaseLink:
    from dramaturg.transports import transport_of

    transport = transport_of(settings)
    notices = transport.notices or Notices(POLL)

    def close() -> None:
        database.close()
        transport.close()

    return DatabaseLink(database, notices, wake=transport.wake, close=close)
