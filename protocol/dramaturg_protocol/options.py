"""Every option of a step, a workflow and a start: its type and its check, made where the option is given."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import Any, Literal, TypeAlias, TypedDict

from dramaturg_protocol.definitions import StepDefinition
from dramaturg_protocol.durations import Duration, parse_duration, parse_moment
from dramaturg_protocol.limits import Limit, LimitKind, is_rate
from dramaturg_protocol.retries import RetryPolicy, policy_of
from dramaturg_protocol.schedule_declared import Schedule
from dramaturg_protocol.talk_names import check_name


class CallOptions(TypedDict, total=False):
    """The options of a single call: ``charge.options(retries=0)(order_id)``."""

    queue: str
    priority: int
    retries: int | RetryPolicy
    timeout: Duration | None
    retry_on_timeout: bool
    queue_timeout: Duration | None
    total_timeout: Duration | None
    heartbeat_timeout: Duration | None
    local: bool
    isolation: Literal["thread", "process"]
    compensate: Any
    rate_limit: str | Limit | None
    concurrency: int | Limit | None
    on_give_up: Literal["raise", "pause"]
    exactly_once: Any
    cache: Duration | None


class StepOptions(CallOptions, total=False):
    """The options of ``@step`` and of ``.options()``."""

    name: str


class WorkflowOptions(TypedDict, total=False):
    """The options of ``@workflow``."""

    name: str
    version: int
    timeout: Duration | None
    retries: int | RetryPolicy
    tags: Mapping[str, str | int | bool]
    schedule: Schedule | None
    concurrency: int | Limit | None


class StartOptions(TypedDict, total=False):
    """The options of ``client.start`` and of ``wf.options()``."""

    id: str | None
    idempotency_key: str | None
    on_conflict: Literal["raise", "use_existing", "terminate_existing"]
    reuse: Literal["always", "if_failed", "never"]
    version: int | None
    delay: Duration | datetime | None
    tags: Mapping[str, str | int | bool] | None
    context: Any
    priority: int | None
    signal: tuple[str, Any] | None
    connection: Any


Check: TypeAlias = Callable[[str, Any], Any]

# What Dramatiq itself takes for a queue; .DQ, .XQ and .msgs are suffixes of its own.
_QUEUE = re.compile(r"[a-zA-Z_][a-zA-Z0-9._-]*")
_ENGINES = frozenset({"sqlalchemy.engine.base.Engine", "sqlalchemy.ext.asyncio.engine.AsyncEngine"})


def _of_type(*types: type) -> Check:
    def check(name: str, value: Any) -> Any:
        if (isinstance(value, bool) and bool not in types) or not isinstance(value, types):
            wanted = " or ".join(kind.__name__ for kind in types)
            raise TypeError(f"{name} must be {wanted}, not {value!r}")
        return value

    return check


def _optional(check: Check) -> Check:
    return lambda name, value: None if value is None else check(name, value)


def _one_of(*values: str) -> Check:
    def check(name: str, value: Any) -> Any:
        if value not in values:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, values))}, not {value!r}")
        return value

    return check


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {value!r}")
    if not value or len(value) > 255 or "\0" in value:
        raise ValueError(f"{name} must have 1 to 255 characters and no NUL, got {value[:40]!r}")
    return value


def _queue(name: str, value: Any) -> str:
    if not _QUEUE.fullmatch(_text(name, value)) or value.endswith((".DQ", ".XQ", ".msgs")):
        raise ValueError(f"{name} must be letters, digits, '.', '_' or '-' and not end in .DQ, .XQ, .msgs: {value!r}")
    return str(value)


def _duration(name: str, value: Any) -> timedelta:
    duration = parse_duration(value)
    if not duration:
        raise ValueError(f"{name} must be longer than zero")
    return duration


def _positive(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return value


def _rate(name: str, value: Any) -> Any:
    amount = value.amount if isinstance(value, Limit) else value
    if not is_rate(amount):
        raise ValueError(f'{name} must be like "100/s" or Limit("10/m", key=…), not {value!r}')
    return _queueing(name, value)


def _concurrency(name: str, value: Any) -> Any:
    _positive(name, value.amount if isinstance(value, Limit) else value)
    return _queueing(name, value)


def _queueing(name: str, value: Any) -> Any:
    if isinstance(value, Limit) and value.on_conflict != "queue":
        raise ValueError(f"{name}: on_conflict={value.on_conflict!r} is for workflows: the calls of a step wait")
    return value


def _runs_at_once(name: str, value: Any) -> Any:
    _positive(name, value.amount if isinstance(value, Limit) else value)
    if isinstance(value, Limit):
        _one_of("queue", "skip", "cancel_running")(f"{name}: on_conflict", value.on_conflict)
    return value


def _compensate(name: str, value: Any) -> Any:
    # An instance of a step class stands for its step.
    step = getattr(value, "_step", value)
    if not isinstance(getattr(step, "definition", None), StepDefinition):
        raise TypeError(f"{name} must be a step, not {value!r}: decorate its function with @step")
    return step


def _engine(name: str, value: Any) -> Any:
    # By name: a process that only starts runs need not have SQLAlchemy's engines in memory.
    kinds = {f"{kind.__module__}.{kind.__name__}" for kind in type(value).__mro__}
    if kinds & _ENGINES or (callable(value) and not isinstance(value, type)):
        return value
    raise TypeError(f"{name} must be a SQLAlchemy Engine or AsyncEngine, or a function that gives one, not {value!r}")


def _tags(name: str, value: Any) -> dict[str, str | int | bool]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a dict, not {value!r}")
    for key, item in value.items():  # pyright: ignore[reportUnknownVariableType]
        if not isinstance(key, str) or not isinstance(item, (str, int, bool)):
            raise TypeError(f"{name} must be a dict of str to str, int or bool; {key!r}: {item!r} is not")
    return dict(value)  # pyright: ignore[reportUnknownArgumentType]


def _retries(_: str, value: Any) -> RetryPolicy:
    return policy_of(value)


def _anything(_: str, value: Any) -> Any:
    return value


def _signal(name: str, value: Any) -> Any:
    if not (isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str)):  # pyright: ignore[reportUnknownArgumentType]
        raise TypeError(f"{name} must be a tuple of a name and a payload, not {value!r}")
    check_name("signal", value[0])
    return value  # pyright: ignore[reportUnknownVariableType]


def _schedule(name: str, value: Any) -> Schedule:
    if not isinstance(value, Schedule):
        raise TypeError(f'{name} must be a Schedule, such as Schedule(cron="0 2 * * *"), not {value!r}')
    return value


def _delay(_: str, value: Any) -> Any:
    parse_moment(value, datetime.fromisoformat("2000-01-01T00:00:00+00:00"))
    return value


_CALL: Mapping[str, Check] = {
    "queue": _queue,
    "priority": _of_type(int),
    "retries": _retries,
    "timeout": _optional(_duration),
    "retry_on_timeout": _of_type(bool),
    "queue_timeout": _optional(_duration),
    "total_timeout": _optional(_duration),
    "heartbeat_timeout": _optional(_duration),
    "local": _of_type(bool),
    "isolation": _one_of("thread", "process"),
    "compensate": _optional(_compensate),
    "rate_limit": _optional(_rate),
    "concurrency": _optional(_concurrency),
    "on_give_up": _one_of("raise", "pause"),
    "exactly_once": _optional(_engine),
    "cache": _optional(_duration),
}
_LIMITS = frozenset(LimitKind)
_STEP: Mapping[str, Check] = {"name": _text, **_CALL}
_WORKFLOW: Mapping[str, Check] = {
    "name": _text,
    "version": _positive,
    "timeout": _optional(_duration),
    "retries": _retries,
    "tags": _tags,
    "schedule": _optional(_schedule),
    "concurrency": _optional(_runs_at_once),
}
_START: Mapping[str, Check] = {
    "id": _optional(_text),
    "idempotency_key": _optional(_text),
    "on_conflict": _one_of("raise", "use_existing", "terminate_existing"),
    "reuse": _one_of("always", "if_failed", "never"),
    "version": _optional(_positive),
    "delay": _optional(_delay),
    "tags": _optional(_tags),
    "context": _anything,
    "priority": _optional(_of_type(int)),
    "signal": _optional(_signal),
    "connection": _anything,
}

_CHILD: Mapping[str, Check] = {
    **{name: _START[name] for name in ("id", "version", "tags", "context")},
    "on_parent_close": _one_of("cancel", "terminate", "abandon"),
}

#: The names that `client.start` takes for itself.
START_OPTIONS = frozenset(_START)


def _checked(checks: Mapping[str, Check], options: Mapping[str, Any], where: str) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in options.items():
        check = checks.get(name)
        if check is None:
            close = get_close_matches(name, checks, 1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; it takes {', '.join(checks)}"
            raise TypeError(f"{where} has no option {name!r}{hint}")
        try:
            result[name] = check(name, value)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{where}: option {name}: {error}") from None
    return result


def check_step_options(options: Mapping[str, Any], where: str = "@step") -> dict[str, Any]:
    """The options of a step, checked and converted; `TypeError` or `ValueError` naming the option."""
    return _checked(_STEP, options, where)


def check_call_options(options: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The options of one call of a step, checked and converted."""
    return _checked(_CALL, options, where)


def check_together(options: Mapping[str, Any], where: str) -> None:
    """Refuse what cannot be obeyed together.

    Raises:
      ValueError: two options contradict each other.
    """
    if options.get("cache") is not None and options.get("compensate") is not None:
        raise ValueError(
            f"{where}: cache and compensate do not go together: what another run did must not be undone by this one"
        )


def check_workflow_options(options: Mapping[str, Any], where: str = "@workflow") -> dict[str, Any]:
    """The options of a workflow, checked and converted."""
    return _checked(_WORKFLOW, options, where)


def check_start_options(options: Mapping[str, Any], where: str = "start") -> dict[str, Any]:
    """The options of a start, checked and converted."""
    return _checked(_START, options, where)


def check_child_options(options: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The options of a child, checked and converted."""
    return _checked(_CHILD, options, where)


def options_as_json(options: Mapping[str, Any]) -> dict[str, Any]:
    """What a history keeps of the options of one call.

    Raises:
      TypeError: an option holds a function or another value that is not data.
    """
    return {name: _as_json(name, value) for name, value in options.items()}


def _as_json(name: str, value: Any) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, RetryPolicy):
        return value.as_json()
    if isinstance(value, Limit):
        # The value of its key is recorded beside it: a function needs no name.
        return {"amount": value.amount, "key": value.key} if isinstance(value.key, str) else {"amount": value.amount}
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return f"{name} is set"


def options_from_json(data: Mapping[str, Any]) -> dict[str, Any]:
    """The options that `options_as_json` gave, checked and converted again."""
    return {name: _from_json(name, value) for name, value in data.items()}


def _from_json(name: str, value: Any) -> Any:
    if name == "retries":
        return RetryPolicy.from_json(value)
    if name in _LIMITS:
        return value if value is None or isinstance(value, (str, int)) else Limit(**value)
    if value is not None and (name.endswith("timeout") or name == "cache") and name != "retry_on_timeout":
        return timedelta(seconds=value)
    return value
