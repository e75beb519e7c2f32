"""How far running steps are, told between the events of a run: it is no part of the history."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dramaturg_store.clock import system_now

if TYPE_CHECKING:
    from dramaturg.client import Client
    from dramaturg.views import Event
    from dramaturg_protocol.signs import Progress


class LiveProgress:
    """What the steps of one run said of themselves, each time that it is news."""

    def __init__(self, client: Client, run_id: str) -> None:
        self._client = client
        self._run_id = run_id
        self._names: dict[int, str] = {}
        self._told: dict[tuple[int, int, int], Progress] = {}

    def hear(self, event: Event) -> None:
        """Know a step by its name."""
        if event.type == "step.scheduled":
            self._names[event.data["seq"]] = event.data["name"]

    def look(self) -> Iterator[Event]:
        """What is new, as events without a number: they stand in no history."""
        from dramaturg.views import Event
        from dramaturg_protocol.signs import decode_sign

        for item in self._client.database.reads.open_work(self._run_id):
            sign = decode_sign(item.sign) if item.sign is not None else None
            if sign is None or sign.progress is None or sign.attempt != item.attempt:
                continue
            place, far = (item.generation, item.seq, item.attempt), sign.progress
            if self._told.get(place) != far:
                self._told[place] = far
                name = self._names.get(item.seq, "")
                data = {"seq": item.seq, "name": name, "attempt": item.attempt, "done": far.done, "total": far.total}
                yield Event(0, "progress", system_now(), {**data, "note": far.note})
