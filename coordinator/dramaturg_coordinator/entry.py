"""The entry queue: start messages of services that have neither our library nor the database.

    queue ``dramaturg.start`` ── take ──► a row of the inbox, committed ── acknowledge ──► gone from the queue

A crash between commit and acknowledgement brings the message back; its run id follows from its message id, so that the
second time starts nothing. Any coordinator may do this, also one that stands by.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Protocol

import dramatiq
from dramatiq.errors import BrokerConnectionError, DecodeError
from pydantic_core import to_json

from dramaturg_protocol.clock import system_now
from dramaturg_protocol.definitions import Registry
from dramaturg_protocol.durations import parse_moment
from dramaturg_protocol.errors import AlreadyStarted, ClientError, DramaturgError, IdempotencyMismatch
from dramaturg_protocol.faults import Unreachable
from dramaturg_protocol.ids import run_id_of_message
from dramaturg_protocol.options import check_start_options
from dramaturg_protocol.ordering import start_order
from dramaturg_protocol.payloads import Payload
from dramaturg_protocol.records import DeadLetter, StartOrder, StartOutcome
from dramaturg_protocol.redis_keys import START_ACTOR, START_QUEUE
from dramaturg_protocol.sealing import is_sealed, unseal
from dramaturg_protocol.signatures import CallSchema
from dramaturg_protocol.tags import SecretRefused

logger = logging.getLogger("dramaturg.coordinator")

_PREFETCH = 100
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_OPTIONS = ("id", "idempotency_key", "tags", "context", "version", "delay")


class Starts(Protocol):
    """Where starts are submitted."""

    def submit(self, orders: Sequence[StartOrder]) -> list[StartOutcome]:
        """Submit starts, all or none."""
        ...


class EntryQueue:
    """Turns start messages into rows of the inbox.

    Parameters:
      broker: any Dramatiq broker.
      put_aside: keeps what cannot be processed.
      wake: tells the coordinator that there is something in the inbox.
      now: from when on a delay counts.
    """

    def __init__(
        self,
        broker: dramatiq.Broker,
        *,
        namespace: str,
        starts: Starts,
        registry: Registry,
        put_aside: Callable[[Sequence[DeadLetter]], None],
        wake: Callable[[], None],
        now: Callable[[], datetime] = system_now,
    ) -> None:
        self._broker: Any = broker
        self._namespace = namespace
        self._starts = starts
        self._registry = registry
        self._put_aside = put_aside
        self._wake = wake
        self._now = now
        self._is_stopping = threading.Event()
        self._consumer: Any = None
        self._thread = threading.Thread(target=self._run, name="dramaturg-entry", daemon=True)

    def start(self) -> None:
        """Take messages in a thread of its own, until `stop`."""
        self._thread.start()

    def stop(self, timeout: float = 10.0) -> None:
        """Take nothing more."""
        self._is_stopping.set()
        wake = getattr(self._consumer, "wake", None)
        if wake is not None:
            wake()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not self._is_stopping.is_set():
            try:
                self._consume()
                pause = _FIRST_PAUSE
            except (BrokerConnectionError, Unreachable) as error:
                logger.warning("start messages wait: %s; trying again in %.1f s", error, pause)
            except Exception:
                logger.exception("the entry queue failed; please report this. Trying again in %.1f s", pause)
            else:
                continue
            self._is_stopping.wait(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _consume(self) -> None:
        self._broker.declare_queue(START_QUEUE)
        consumer = self._consumer = self._broker.consume(START_QUEUE, prefetch=_PREFETCH, timeout=1000)
        try:
            while not self._is_stopping.is_set():
                try:
                    message = next(consumer)
                except DecodeError as error:
                    logger.error("a start message that cannot be read is left to the broker: %s", error)
                    continue
                if message is not None:
                    self._take_or_hand_back(consumer, message)
        finally:
            consumer.close()

    def _take_or_hand_back(self, consumer: Any, message: Any) -> None:
        try:
            self._take(message)
        except BaseException:
            # A consumer that is closed leaves what it gave to the next one, as being worked on: nobody would look at it again.
            consumer.requeue([message])
            raise
        consumer.ack(message)

    def _take(self, message: Any) -> None:
        try:
            self._starts.submit([self._order_of(message)])
        except (AlreadyStarted, IdempotencyMismatch) as error:
            self._refuse(message, str(error))
        except Unreachable:
            raise
        except SecretRefused as error:
            self._refuse(message, f"not stored, nor kept here: {error}", is_secret=True)
        except (DramaturgError, ClientError, TypeError, ValueError) as error:
            self._refuse(message, f"not a start: {error}")
        else:
            self._wake()

    def _refuse(self, message: Any, reason: str, *, is_secret: bool = False) -> None:
        logger.error("a start message is put aside: %s", reason)
        said: dict[str, Any] = {"args": message.args, "kwargs": message.kwargs}
        if is_secret:
            said = {"message_id": message.message_id, "kwargs": {"workflow": message.kwargs.get("workflow")}}
        body = to_json(said, fallback=repr).decode()
        self._put_aside([DeadLetter("entry", reason, body)])

    def _order_of(self, message: Any) -> StartOrder:
        if message.actor_name != START_ACTOR:
            raise ValueError(f"actor {message.actor_name!r} instead of {START_ACTOR!r}")
        said: dict[str, Any] = dict(message.kwargs)
        name: Any = said.pop("workflow", None)
        args: Any = said.pop("args", [])
        kwargs: Any = said.pop("kwargs", {})
        sealed: Any = said.pop("input", None)
        if not isinstance(name, str) or not isinstance(args, (list, tuple)) or not isinstance(kwargs, dict):
            raise TypeError('its kwargs must be {"workflow": a name, "args": a list, "kwargs": an object}')
        # What a client with our library and without a database adds: it knows the run that it asks for.
        run_id, digest = said.pop("run_id", None), said.pop("digest", None)
        unknown = [key for key in said if key not in _OPTIONS]
        if unknown:
            raise TypeError(f"it knows no {unknown[0]!r}; it takes workflow, args, kwargs, {', '.join(_OPTIONS)}")
        given = {key: value for key, value in said.items() if value is not None}
        if "delay" in given:
            given["delay"] = _moment_or_duration(given["delay"])
        options = check_start_options(given, "a start")
        order = start_order(
            name,
            self._payload_of(name, options.get("version"), _plain_call(args, kwargs, sealed)),
            {**options, "on_conflict": "use_existing"},
            namespace=self._namespace,
            schema=self._schema_of(name, options.get("version")),
            message_id=message.message_id,
            run_id=str(run_id) if run_id else run_id_of_message(message.message_id),
            context=Payload(unseal(to_json(options["context"]).decode())) if "context" in options else None,
            begins_at=parse_moment(options["delay"], self._now()) if "delay" in options else None,
        )
        return dataclasses.replace(order, digest=str(digest)) if digest else order

    def _schema_of(self, name: str, version: int | None) -> CallSchema:
        definition = self._registry.workflow(name, version)
        return definition.schema if definition is not None else CallSchema.open(f"workflow {name!r}")

    def _payload_of(self, name: str, version: int | None, plain: Payload) -> Payload:
        schema = self._schema_of(name, version)
        try:
            # In the form in which our own clients send it, so that an idempotency key finds its equal.
            return schema.encode_call(*schema.decode_call(plain), limit=None)
        except SecretRefused:
            raise
        except (DramaturgError, TypeError):
            # What is wrong with it is said by the run itself, where somebody looks.
            return plain


def _moment_or_duration(said: Any) -> Any:
    """A delay as JSON can hold it: a duration, or a date and time with its zone."""
    if not isinstance(said, str):
        return said
    try:
        return datetime.fromisoformat(said)
    except ValueError:
        return said


def _plain_call(args: Any, kwargs: Any, sealed: Any) -> Payload:
    """The arguments as they were sent; a client that has our codec sends them sealed."""
    if sealed is None:
        return Payload(to_json({"args": args, "kwargs": kwargs} if kwargs else {"args": args}).decode())
    text = to_json(sealed).decode()
    if args or kwargs or not is_sealed(text):
        raise TypeError('"input" is what a client of ours encodes by its CODEC: send "args" and "kwargs"')
    return Payload(unseal(text))
