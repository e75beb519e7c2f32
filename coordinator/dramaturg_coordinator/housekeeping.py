"""What a coordinator does every so often beside its turns, in threads of their own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any, TypeAlias

from dramaturg_coordinator.duties import Duties
from dramaturg_protocol.faults import Fenced

logger = logging.getLogger("dramaturg.coordinator")

#: What is done, and how often.
Duty: TypeAlias = tuple[Callable[[], object], timedelta]


class Housekeeping:
    """Duties, done until it is stopped.

    Parameters:
      duties: left out while the server that they need is away.
      first: the one that is tried each time all the same.
    """

    def __init__(self, duties: Iterable[Duty], *, first: Duty) -> None:
        self._duties = list(duties)
        self._first = first
        self._scheduler: Any = None

    def start(self) -> None:
        """Begin."""
        from apscheduler.schedulers.background import BackgroundScheduler

        logging.getLogger("apscheduler").setLevel(logging.WARNING)
        self._scheduler = BackgroundScheduler(
            timezone="UTC", job_defaults={"misfire_grace_time": None, "coalesce": True}
        )
        known = Duties()
        for each in (self._first, *self._duties):
            duty, period = each
            job = known.patient(_guarded(duty), always=each is self._first)
            self._scheduler.add_job(job, "interval", seconds=period.total_seconds())
        self._scheduler.start()

    def stop(self) -> None:
        """End, after the duty that is under way: it must not open the database again."""
        self._scheduler.shutdown()


def _guarded(duty: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        try:
            duty()
        except Fenced as error:
            # The thread that takes turns finds it too, and drops what is lost.
            logger.warning("%s", error)

    return run
