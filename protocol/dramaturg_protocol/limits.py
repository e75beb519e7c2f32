"""Limits over all workers: what an option says, which limit an execution is under, and the row of one that asked.

A limit is one number for all executions that share its id: the kind of the limit, the step or workflow that declares it,
and the value of its key. Its id decides which partition's owner grants.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import blake2b
from typing import Any, Literal, NamedTuple, TypeAlias

from pydantic_core import PydanticSerializationError, to_json

from dramaturg_protocol.durations import format_duration
from dramaturg_protocol.errors import PayloadError
from dramaturg_protocol.sealing import digest_of, may_hold_secrets

LimitKey: TypeAlias = str | Callable[..., object]

#: What a limit's id begins with; no run's does.
LIMIT_PREFIX = "limit:"
#: The position of a run as a whole.
RUN_SEQ = 0

_RATE = re.compile(r"([1-9]\d*)/(\d*)(ms|s|m|h|d)")
_SECONDS: Mapping[str, float] = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST_KEY = 200


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit over all workers, as a whole or for each value of a key.

    Parameters:
      amount: a rate like ``"100/s"``, ``"10/m"``, or a number of executions at once.
      key: an argument's name, or a function of the arguments; ``None`` for one limit over all.
      on_conflict: for workflows: what becomes of a start that finds the limit reached.
    """

    amount: str | int
    key: LimitKey | None = None
    on_conflict: Literal["queue", "skip", "cancel_running"] = "queue"


class LimitKind(StrEnum):
    """Which option a limit stems from, in the order in which a step passes them: whoever waits for a rate has its place."""

    CONCURRENCY = "concurrency"
    RATE = "rate_limit"


@dataclass(frozen=True, slots=True)
class LimitSize:
    """How much a limit lets through.

    Attributes:
      most: executions at once, or in any `per` seconds.
      per: seconds; 0 for executions at once.
    """

    kind: LimitKind
    most: int
    per: float = 0.0


class Ticket(NamedTuple):
    """One execution that asks for a grant: an attempt of a step, or a run as a whole (`RUN_SEQ`).

    Attributes:
      release: how often the attempt was handed back before.
    """

    run_id: str
    generation: int
    seq: int
    attempt: int = 0
    release: int = 0


@dataclass(frozen=True, slots=True)
class Slot:
    """The row of an execution that waits for a limit's grant, or has it.

    Attributes:
      partition: whose owner grants: the limit's.
      run_partition: of the run that asks.
      arrival: its place among those that wait with the same priority.
      granted_at: ``None`` while it waits.
      until: when a grant of a rate no longer counts; ``None`` for one that counts until its execution ends.
      name: the step or workflow, for people.
      key: the value of the limit's key, for people.
    """

    run_id: str
    generation: int
    seq: int
    attempt: int
    release: int
    limit_id: str
    partition: int
    run_partition: int
    priority: int
    arrival: int
    most: int
    per: float
    granted_at: datetime | None
    until: datetime | None
    name: str
    key: str

    @property
    def ticket(self) -> Ticket:
        """Whose row it is."""
        return Ticket(self.run_id, self.generation, self.seq, self.attempt, self.release)


def size_of(kind: LimitKind, option: Any) -> LimitSize:
    """What an option's value, checked, lets through."""
    amount = option.amount if isinstance(option, Limit) else option
    if kind is LimitKind.CONCURRENCY:
        return LimitSize(kind, int(amount))
    match = _RATE.fullmatch(str(amount))
    assert match is not None
    most, count, unit = match.groups()
    return LimitSize(kind, int(most), (int(count) if count else 1) * _SECONDS[unit])


def words_of(size: LimitSize) -> str:
    """What a limit lets through, for people."""
    if not size.per:
        return f"{size.most} at once"
    return f"{size.most} in {format_duration(timedelta(seconds=size.per))}"


def sizes_of(options: Mapping[str, Any]) -> tuple[LimitSize, ...]:
    """The limits among the options that hold for a step, in the order in which it passes them."""
    return tuple(size_of(kind, options[kind]) for kind in LimitKind if options.get(kind) is not None)


def is_rate(text: object) -> bool:
    """Whether it is like ``"100/s"``."""
    match = _RATE.fullmatch(text) if isinstance(text, str) else None
    return match is not None and int(match[2] or 1) > 0


def limit_id_of(kind: LimitKind, name: str, key: str) -> str:
    """The id of the limit that a step or workflow is under."""
    digest = blake2b(f"{kind}\0{name}\0{key}".encode(), digest_size=20).hexdigest()
    return f"{LIMIT_PREFIX}{digest}"


def has_keys(options: Mapping[str, Any]) -> bool:
    """Whether a limit among the options counts for each value of a key alone."""
    found = [options.get(kind) for kind in LimitKind]
    return any(isinstance(option, Limit) and option.key is not None for option in found)


def keys_of(
    options: Mapping[str, Any],
    fn: Callable[..., Any] | None,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    what: str,
) -> dict[str, str]:
    """The value of each limit's key for one call, by the option's name; limits without a key are left out.

    Parameters:
      options: what holds for the call.
      fn: the function that is called, where it is known.

    Raises:
      TypeError: the call has no argument of the key's name.
      PayloadError: the value of a key is no data.
    """
    found: dict[str, str] = {}
    for kind in LimitKind:
        option = options.get(kind)
        if isinstance(option, Limit) and option.key is not None:
            where = f"{what}: the key of its {kind}"
            found[kind.value] = _text(_value_of(option.key, fn, args, kwargs, where), where)
    return found


def check_keys(
    options: Mapping[str, Any], fn: Callable[..., Any] | None, *, what: str, skip_first: bool = False
) -> None:
    """Refuse a key that names no argument.

    Raises:
      TypeError: the function has none of that name.
    """
    if fn is None:
        return
    parameters = list(inspect.signature(fn).parameters.values())[1 if skip_first else 0 :]
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters):
        return
    names = [each.name for each in parameters]
    for kind in LimitKind:
        option = options.get(kind)
        if isinstance(option, Limit) and isinstance(option.key, str) and option.key not in names:
            raise TypeError(
                f"{what}: the key of its {kind} is {option.key!r}, which is no argument of it: it has "
                f"{', '.join(names) or 'none'}; or give a function of the arguments"
            )


def _value_of(key: LimitKey, fn: Any, args: Sequence[Any], kwargs: Mapping[str, Any], where: str) -> object:
    if not isinstance(key, str):
        return key(*args, **kwargs)
    arguments: dict[str, Any] = dict(kwargs)
    if fn is not None:
        bound = inspect.signature(fn).bind(*args, **kwargs)
        bound.apply_defaults()
        arguments |= bound.arguments
    if key not in arguments:
        raise TypeError(f"{where} is {key!r}, and the call has no argument of that name: pass it by keyword")
    return arguments[key]


def _text(value: object, where: str) -> str:
    try:
        text = value if isinstance(value, str) else to_json(value).decode()
    except PydanticSerializationError as error:
        raise PayloadError(f"{where} cannot be encoded: {error}; give a function that makes text of it") from error
    if "\0" in text:
        # Not every database takes it in a text.
        text = to_json(text).decode()
    if may_hold_secrets():
        # Rows and events show it, and what is encrypted elsewhere must not be read here.
        return digest_of(text)
    if len(text) <= _LONGEST_KEY:
        return text
    return f"{text[: _LONGEST_KEY - 41]}…{blake2b(text.encode(errors='surrogatepass'), digest_size=20).hexdigest()}"
