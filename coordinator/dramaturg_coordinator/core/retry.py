"""Whether and when a step is tried again: a pure function of its policy, the error and the number of attempts."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2b

from dramaturg_protocol.retries import RetryPolicy


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again at this moment."""

    at: datetime


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Do not try again; `problem` says why where the policy itself is at fault."""

    problem: str = ""


def decide_retry(
    policy: RetryPolicy,
    *,
    attempts: int,
    error_names: Collection[str],
    is_fatal: bool,
    retry_after: float | None,
    now: datetime,
    seed: str,
) -> Retry | GiveUp:
    """Decide after an attempt that failed.

    Parameters:
      attempts: how many were made, this one included.
      error_names: qualified names of the error's type and of all its bases.
      retry_after: seconds that the step itself asked for.
      seed: makes the jitter of this attempt, the same whenever it is decided.
    """
    if is_fatal or attempts >= policy.max_attempts or not _is_retried(policy, error_names):
        return GiveUp()
    if retry_after is not None:
        return Retry(now + timedelta(seconds=max(retry_after, 0.0)))
    try:
        pause = policy.pause_after(attempts)
    except Exception as error:  # noqa: BLE001 - a function of the user's
        return GiveUp(f"the back-off function of its retry policy raised {type(error).__name__}: {error}")
    return Retry(now + (pause * _jitter(seed) if policy.jitter else pause))


def _is_retried(policy: RetryPolicy, error_names: Collection[str]) -> bool:
    if any(name in error_names for name in policy.give_up_names):
        return False
    return any(name in error_names for name in policy.retry_names)


def _jitter(seed: str) -> float:
    chance = int.from_bytes(blake2b(seed.encode(), digest_size=8).digest(), "big") / 2**64
    return 0.5 + chance / 2
