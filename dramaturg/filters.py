"""What `Client.runs` and `Client.count` take to choose runs, checked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import TypedDict, Unpack

from dramaturg_protocol.durations import Duration, parse_duration
from dramaturg_store.run_filters import WAITS, RunFilter

OPEN_STATUSES = ("PENDING", "RUNNING", "WAITING", "PAUSED", "COMPENSATING", "BLOCKED")
STATUSES = (*OPEN_STATUSES, "COMPLETED", "FAILED", "CANCELLED", "TERMINATED", "TIMED_OUT", "CONTINUED")


def statuses_of(status: str | Collection[str] | None) -> Collection[str]:
    """The statuses that are meant; none for all. `ValueError` for an unknown one."""
    wanted = [status] if isinstance(status, str) else list(status or ())
    unknown = [each for each in wanted if each not in STATUSES]
    if unknown:
        raise ValueError(f"there is no status {unknown[0]!r}; it is one of {', '.join(STATUSES)}")
    return wanted


def moment_since(since: datetime | Duration | None, now: Callable[[], datetime]) -> datetime | None:
    """The moment from which on, by the clock that is asked where it is a duration; `ValueError` without a time zone."""
    if since is None:
        return None
    if isinstance(since, datetime):
        if since.tzinfo is None:
            raise ValueError(f"since={since!r} has no time zone; use an aware datetime")
        return since
    return now() - parse_duration(since)


class Chosen(TypedDict, total=False):
    """Which runs are meant.

    Parameters:
      workflow: of this workflow only.
      status: with this status, or one of these.
      tags: with all of these tags.
      since: started then or later: an aware moment, or so long ago.
      until: started before that.
      text: with this in an id, the workflow's name, a tag or the error, whatever its case.
      idle_for: open, and nothing happened to it for so long.
      waiting_on: open work of this kind is under way: ``step``, ``timer``, ``retry``, ``approval`` or ``hook``
      step: a step of this name is under way.
      queue: a step of this queue is under way.
    """

    workflow: str | None
    status: str | Collection[str] | None
    tags: Mapping[str, str | int | bool] | None
    since: datetime | Duration | None
    until: datetime | Duration | None
    text: str | None
    idle_for: Duration | None
    waiting_on: str | None
    step: str | None
    queue: str | None


def filter_of(now: Callable[[], datetime], **chosen: Unpack[Chosen]) -> RunFilter:
    """The filter that is meant.

    Raises:
      ValueError: an unknown status or kind of waiting, a moment without a time zone.
      TypeError: there is no such filter.
    """
    unknown = chosen.keys() - Chosen.__annotations__.keys()
    if unknown:
        raise TypeError(f"there is no filter {min(unknown)!r}: it is one of {', '.join(Chosen.__annotations__)}")
    waiting_on = chosen.get("waiting_on")
    if waiting_on is not None and waiting_on not in WAITS:
        raise ValueError(f"waiting_on is one of {', '.join(WAITS)}, not {waiting_on!r}")
    return RunFilter(
        workflow=chosen.get("workflow"),
        statuses=tuple(statuses_of(chosen.get("status"))),
        tags=dict(chosen.get("tags") or {}),
        since=moment_since(chosen.get("since"), now),
        until=moment_since(chosen.get("until"), now),
        text=chosen.get("text"),
        idle_since=moment_since(chosen.get("idle_for"), now),
        waiting_on=waiting_on,
        step=chosen.get("step"),
        queue=chosen.get("queue"),
    )
