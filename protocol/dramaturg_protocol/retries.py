"""`RetryPolicy`: how often and when a step is tried again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, Literal, TypeAlias

from dramaturg_protocol.durations import Duration, parse_duration

Backoff: TypeAlias = Literal["exponential", "linear", "fixed"] | Callable[[int], Duration]
ErrorName: TypeAlias = type[BaseException] | str

_BACKOFFS = ("exponential", "linear", "fixed")


def qualified_name(error: type[BaseException]) -> str:
    """A class's name as it is recorded and compared: with its module, but for built-in ones."""
    return error.__qualname__ if error.__module__ == "builtins" else f"{error.__module__}.{error.__qualname__}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and when a step is tried again. The defaults make eight attempts in about ten minutes.

    Parameters:
      max_attempts: all attempts, the first included; at least 1.
      backoff: ``"exponential"`` (``initial * multiplier ** (n - 1)`` after attempt n), ``"linear"`` (``initial * n``),
        ``"fixed"`` (``initial``), or a function of the number of attempts made, from 1, that gives a duration.
      initial: the first pause, a duration.
      maximum: the longest pause, a duration.
      multiplier: of the exponential back-off, at least 1.
      jitter: multiply each pause by a chance factor of 0.5 to 1, so that many failed at once do not return at once.
      retry_on: only errors of these classes (or subclasses) are tried again; classes or their qualified names.
      give_up_on: errors of these classes (or subclasses) are not, whatever ``retry_on`` says.

    Raises:
      TypeError: a value of the wrong type.
      ValueError: a value out of its range.
    """

    max_attempts: int = 8
    backoff: Backoff = "exponential"
    initial: Duration = "1s"
    maximum: Duration = "5m"
    multiplier: float = 3.0
    jitter: bool = True
    retry_on: tuple[ErrorName, ...] = (Exception,)
    give_up_on: tuple[ErrorName, ...] = ()

    def __post_init__(self) -> None:
        _check_number("max_attempts", self.max_attempts, int, 1)
        _check_number("multiplier", self.multiplier, (int, float), 1)
        if not callable(self.backoff) and self.backoff not in _BACKOFFS:
            raise ValueError(f"backoff must be one of {', '.join(_BACKOFFS)} or a function, not {self.backoff!r}")
        if not isinstance(self.jitter, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"jitter must be a bool, not {self.jitter!r}")
        for name in ("initial", "maximum"):
            object.__setattr__(self, name, parse_duration(getattr(self, name)))
        for name in ("retry_on", "give_up_on"):
            object.__setattr__(self, name, _error_names(name, getattr(self, name)))

    @property
    def retry_names(self) -> tuple[str, ...]:
        """`retry_on` by qualified names."""
        return tuple(str(name) for name in self.retry_on)

    @property
    def give_up_names(self) -> tuple[str, ...]:
        """`give_up_on` by qualified names."""
        return tuple(str(name) for name in self.give_up_on)

    def pause_after(self, attempts: int) -> timedelta:
        """The pause after this many attempts, before jitter.

        Raises:
          Exception: whatever a back-off function of the user's raises.
        """
        maximum = parse_duration(self.maximum)
        if callable(self.backoff):
            return min(parse_duration(self.backoff(attempts)), maximum)
        initial = parse_duration(self.initial)
        factor = {"fixed": 1.0, "linear": float(attempts)}.get(self.backoff)
        if factor is None:
            # Capped before it is computed: 3 ** 1000 is no float.
            factor = min(self.multiplier ** min(attempts - 1, 64), 1e9)
        return min(initial * factor, maximum)

    def as_json(self) -> dict[str, Any]:
        """What a history keeps of a policy that a call gave itself.

        Raises:
          TypeError: the back-off is a function: only a definition can hold one.
        """
        if callable(self.backoff):
            raise TypeError(
                "a back-off function can be set in @step(retries=RetryPolicy(…)) only: "
                "a single call's options are kept in the history, and a function is not data"
            )
        return {
            "max_attempts": self.max_attempts,
            "backoff": self.backoff,
            "initial": parse_duration(self.initial).total_seconds(),
            "maximum": parse_duration(self.maximum).total_seconds(),
            "multiplier": self.multiplier,
            "jitter": self.jitter,
            "retry_on": list(self.retry_names),
            "give_up_on": list(self.give_up_names),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RetryPolicy:
        """The policy that `as_json` gave."""
        known = {spec.name for spec in fields(cls)}
        values = {name: value for name, value in data.items() if name in known}
        for name in ("retry_on", "give_up_on"):
            values[name] = tuple(values.get(name, ()))
        return cls(**values)


def policy_of(value: object) -> RetryPolicy:
    """What the option ``retries`` means: a policy, or a number of attempts after the first."""
    if isinstance(value, RetryPolicy):
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"retries must be a number of attempts after the first or a RetryPolicy, not {value!r}")
    if value < 0:
        raise ValueError(f"retries must not be negative, got {value}")
    return RetryPolicy(max_attempts=value + 1)


def _check_number(name: str, value: object, kind: type | tuple[type, ...], least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, kind):
        raise TypeError(f"{name} must be a number, not {value!r}")
    if not value >= least:  # type: ignore[operator]
        raise ValueError(f"{name} must be at least {least}, got {value!r}")


def _error_names(name: str, value: object) -> tuple[str, ...]:
    items: tuple[object, ...] = tuple(value) if isinstance(value, (tuple, list)) else (value,)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    return tuple(_error_name(name, item) for item in items)


def _error_name(name: str, item: object) -> str:
    if isinstance(item, str):
        return item.removeprefix("builtins.")
    if isinstance(item, type) and issubclass(item, BaseException):
        return qualified_name(item)
    raise TypeError(f"{name} takes exception classes or their qualified names, not {item!r}")
