"""Steps whose work and outcome are one transaction of a database: `exactly_once`.

    claim the key ── the step's code ── record the outcome ── commit ── report

The claim is a row under the step's idempotency key: whoever comes second (a copy of the message, the successor of a worker
that was taken for dead) waits there until the first one commits, and then finds the outcome instead of doing the work.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, TypeGuard
from weakref import WeakSet

from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

from dramaturg_actors.context import StepContext
from dramaturg_protocol.definitions import StepDefinition
from dramaturg_protocol.errors import FatalError
from dramaturg_protocol.sealing import seal, unseal
from dramaturg_store.outcomes import COMPLETED, LEFT_OPEN, RecordedOutcome, claim, create_on, record, recorded

#: The parameter of a step's function that gets the connection, if it has one.
PARAMETER: Final = "connection"
#: How often a key is claimed whose owner was undone meanwhile.
_TRIES: Final = 5

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

_ready: WeakSet[Any] = WeakSet()
_preparing: Final = Lock()


def once(
    definition: StepDefinition, context: StepContext, call: Callable[..., Any], max_payload: int
) -> Callable[[], Any]:
    """The call of a step as one transaction with its outcome.

    Parameters:
      call: takes the connection by keyword, where the step's function has the parameter.

    Raises:
      FatalError: the option is not an engine that fits the function.
    """
    given = definition.options["exactly_once"]
    engine = given if isinstance(given, Engine) or _is_async_engine(given) else given()
    work = OneTransaction(definition, context, call, max_payload)
    is_async = inspect.iscoroutinefunction(definition.fn)
    if is_async and _is_async_engine(engine):
        return lambda: work.run_async(engine)
    if not is_async and isinstance(engine, Engine):
        return lambda: work.run(engine)
    wanted = "AsyncEngine, since it is an `async def`" if is_async else "Engine, since it is a `def`"
    raise FatalError(f"step {definition.name!r}: exactly_once gave {engine!r}; it takes a SQLAlchemy {wanted}")


def _is_async_engine(given: object) -> TypeGuard[AsyncEngine]:
    # Whoever has one has imported it; to import it needs greenlet, which not everybody has.
    module = sys.modules.get("sqlalchemy.ext.asyncio")
    return module is not None and isinstance(given, module.AsyncEngine)


class OneTransaction:
    """One attempt."""

    def __init__(
        self, definition: StepDefinition, context: StepContext, call: Callable[..., Any], max_payload: int
    ) -> None:
        self._definition = definition
        self._context = context
        self._call = call
        self._key = context.idempotency_key
        self._max_payload = max_payload

    def run(self, engine: Engine) -> Any:
        """Do the work and record its outcome, or give what is recorded."""
        if engine not in _ready:
            with _preparing, engine.begin() as connection:
                create_on(connection)
                _ready.add(engine)
        for _ in range(_TRIES):
            with engine.connect() as connection, connection.begin() as transaction:
                try:
                    connection.execute(claim(self._key, self._definition.name))
                except IntegrityError:
                    transaction.rollback()
                else:
                    with self._lent(connection):
                        value = self._called(connection)
                        outcome = self._outcome_of(value)
                    connection.execute(record(self._key, outcome))
                    transaction.commit()
                    return value
            with engine.connect() as connection:
                found = connection.execute(recorded(self._key)).one_or_none()
            if found is not None:
                return self._value_of(found.kind, found.result)
        raise _contended(self._definition)

    async def run_async(self, engine: AsyncEngine) -> Any:
        """As `run`."""
        if engine not in _ready:
            async with engine.begin() as connection:
                await connection.run_sync(create_on)
            _ready.add(engine)
        for _ in range(_TRIES):
            async with engine.connect() as connection, connection.begin() as transaction:
                try:
                    await connection.execute(claim(self._key, self._definition.name))
                except IntegrityError:
                    await transaction.rollback()
                else:
                    with self._lent(connection):
                        awaitable: Awaitable[Any] = self._called(connection)
                        value = await awaitable
                        outcome = self._outcome_of(value)
                    await connection.execute(record(self._key, outcome))
                    await transaction.commit()
                    return value
            async with engine.connect() as connection:
                found = (await connection.execute(recorded(self._key))).one_or_none()
            if found is not None:
                return self._value_of(found.kind, found.result)
        raise _contended(self._definition)

    def _called(self, connection: Any) -> Any:
        takes_it = self._definition.fn is not None and takes_connection(self._definition.fn)
        return self._call(**{PARAMETER: connection}) if takes_it else self._call()

    def _lent(self, connection: Any) -> _Lent:
        return _Lent(self._context, connection)

    def _outcome_of(self, value: Any) -> RecordedOutcome:
        if self._context.is_left_open:
            return RecordedOutcome(LEFT_OPEN, None)
        return RecordedOutcome(COMPLETED, seal(self._definition.schema.encode_result(value, limit=self._max_payload)))

    def _value_of(self, kind: str, result: str | None) -> Any:
        if kind == LEFT_OPEN:
            self._context.is_left_open = True
            return None
        if kind == COMPLETED and result is not None:
            return self._definition.schema.decode_result(unseal(result))
        raise FatalError(
            f"step {self._definition.name!r} committed its transaction itself and did not end: what it did is there in "
            f"part. exactly_once commits when the step returns; leave commit() out"
        )


class _Lent:
    """The connection is the step's, for as long as its code runs."""

    def __init__(self, context: StepContext, connection: Any) -> None:
        self._context = context
        self._connection = connection

    def __enter__(self) -> None:
        self._context.lend(self._connection)

    def __exit__(self, *_: object) -> None:
        self._context.lend(None)


@lru_cache(maxsize=1024)
def takes_connection(fn: Callable[..., Any]) -> bool:
    """Whether a function has a parameter for the connection."""
    return PARAMETER in inspect.signature(fn).parameters


def _contended(definition: StepDefinition) -> RuntimeError:
    return RuntimeError(
        f"step {definition.name!r}: another attempt with the same idempotency key holds its row, and does not end"
    )
