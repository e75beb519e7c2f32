"""Dramatiq actors that exist already, as steps: what is set on the actor holds, as far as the step says nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import dramatiq
import dramatiq.asyncio

from dramaturg_protocol.definitions import StepDefinition
from dramaturg_protocol.options import check_step_options
from dramaturg_protocol.retries import RetryPolicy
from dramaturg_protocol.signatures import CallSchema

# What Dramatiq means by `max_retries=None`, and by a `retry_when` that alone decides.
_WITHOUT_END: Final = 2**31 - 1

# Dramatiq's default of `max_backoff`.
_LONGEST_BACKOFF: Final = "7d"

_RETRY_OPTIONS: Final = {"max_retries", "min_backoff", "max_backoff", "retry_when"}


def step_of_actor(actor: dramatiq.Actor[..., Any], options: Mapping[str, Any]) -> StepDefinition:
    """The step that an actor is.

    Parameters:
      options: the step's own, checked; they come before the actor's.

    Raises:
      TypeError, ValueError: an option of the actor means nothing for a step.
    """
    merged = {**options_of_actor(actor), **options}
    name = merged.pop("name")
    function = function_of_actor(actor)
    return StepDefinition(name, function, CallSchema.of(function, what=f"step {name!r}"), merged, actor)


def function_of_actor(actor: dramatiq.Actor[..., Any]) -> Callable[..., Any]:
    """The function that the actor was made of; of an async one the coroutine function, which Dramatiq wraps."""
    function: Any = actor.fn
    is_wrapped = getattr(function, "__globals__", None) is vars(dramatiq.asyncio)
    return function.__wrapped__ if is_wrapped else function  # type: ignore[no-any-return]


def options_of_actor(actor: dramatiq.Actor[..., Any]) -> dict[str, Any]:
    """The step options that an actor's own amount to.

    `throws` and `retry_when` are asked on the worker, where the exception is; what is set with the broker's middleware
    and not on the actor does not count.
    """
    given: dict[str, Any] = actor.options
    options: dict[str, Any] = {"name": actor.actor_name, "queue": actor.queue_name, "priority": actor.priority}
    if given.keys() & _RETRY_OPTIONS:
        options["retries"] = _policy_of(given)
    if given.get("time_limit") is not None:
        options["timeout"] = _timeout_of(given["time_limit"])
    return check_step_options(options, f"step of actor {actor.actor_name!r}")


def _policy_of(given: Mapping[str, Any]) -> RetryPolicy:
    changes: dict[str, Any] = {}
    if given.get("retry_when") is not None or "max_retries" in given:
        retries = None if given.get("retry_when") is not None else given["max_retries"]
        changes["max_attempts"] = _WITHOUT_END if retries is None else retries + 1
    if given.get("min_backoff") is not None:
        # Dramatiq's jitter stretches a pause by 1 to 2, ours by 0.5 to 1.
        changes |= {"multiplier": 2.0, "initial": 2 * given["min_backoff"] / 1000, "maximum": _LONGEST_BACKOFF}
    if given.get("max_backoff") is not None:
        changes |= {"multiplier": 2.0, "maximum": given["max_backoff"] / 1000}
    return RetryPolicy(**changes)


def _timeout_of(milliseconds: float) -> float | None:
    return None if milliseconds == float("inf") else milliseconds / 1000
