"""Histories as files: what ``dramaturg export`` writes and ``dramaturg replay --file`` reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, cast

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from dramaturg.client import Client
from dramaturg.views import Event
from dramaturg_protocol.event_codec import decode_body, encode_body
from dramaturg_protocol.events import HistoryEvent, RunStarted, type_of
from dramaturg_protocol.records import Unreadable

#: Says what a file is, and how it is to be read.
FORMAT: Final = "dramaturg-history/1"

_MOMENT = TypeAdapter(datetime)


@dataclass(frozen=True, slots=True)
class History:
    """The history of one run.

    Attributes:
      run_id: empty where only its events were given.
    """

    run_id: str
    events: list[HistoryEvent]

    @property
    def started(self) -> RunStarted:
        """Its first event."""
        first = self.events[0].body
        assert isinstance(first, RunStarted)
        return first

    @property
    def version(self) -> int:
        """Of the workflow, as it was when the run began."""
        return self.started.version


def export_of(client: Client, any_id: str) -> dict[str, Any]:
    """A run with its whole history, to be written as JSON; what a ``CODEC`` sealed stays sealed.

    Raises:
      NotFound: there is no such run, or nobody took it yet.
      ValueError: its history is damaged.
    """
    run_id = client.resolve(any_id)
    found = client.store.load([run_id]).get(run_id)
    if found is None:
        raise ValueError(f"run {run_id} has not begun: there is no history yet")
    if isinstance(found, Unreadable):
        raise ValueError(found.reason)
    record = found.record
    return {
        "format": FORMAT,
        "run_id": run_id,
        "workflow_id": record.workflow_id,
        "workflow": record.workflow,
        "version": record.version,
        "status": record.status,
        "events": [
            {
                "number": event.number,
                "type": type_of(event.body),
                "time": event.time.isoformat(),
                "data": from_json(encode_body(event.body)),
            }
            for event in found.history
        ],
    }


def read_history(given: object) -> History:
    """A history from a file, its text, what was parsed of it, or the events that ``handle.events()`` gives.

    Raises:
      ValueError: it is none; the message says what is wrong.
    """
    if isinstance(given, Path):
        given = given.read_bytes()
    if isinstance(given, (str, bytes)):
        given = from_json(given)
    run_id = ""
    if isinstance(given, Mapping):
        document = cast("Mapping[str, Any]", given)
        if document.get("format") != FORMAT:
            raise ValueError(f'this is no history that was exported: "format" is not "{FORMAT}"')
        run_id, given = str(document.get("run_id", "")), document.get("events", ())
    if not isinstance(given, Iterable):
        raise ValueError(f"a history is a file, a document or a list of events, not {given!r}")
    events = [_event(number, each) for number, each in enumerate(cast("Iterable[object]", given), start=1)]
    if not events or not isinstance(events[0].body, RunStarted):
        raise ValueError("a history begins with run.started")
    return History(run_id, events)


def _event(number: int, given: object) -> HistoryEvent:
    if isinstance(given, HistoryEvent):
        return given
    if isinstance(given, Event):
        given = {"number": given.number, "type": given.type, "time": given.time, "data": given.data}
    try:
        row = cast("Mapping[str, Any]", given)
        if row["number"] != number:
            raise ValueError(f"event {number} is missing")
        return HistoryEvent(
            number, _MOMENT.validate_python(row["time"]), decode_body(row["type"], to_json(row["data"]).decode())
        )
    except ValidationError as error:
        raise ValueError(f"event {number}: {error.errors(include_url=False)[0]['msg']}") from None
    except (KeyError, TypeError) as error:
        raise ValueError(f"event {number} is none of this version's: {error}") from None
