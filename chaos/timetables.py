"""Schedules that fall due all the while: runs that nobody starts, each for a time of its own."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from chaos.orders import Timetable, now
from chaos.shapes import chain
from chaos.world import World
from dramaturg import Client

#: Seconds from one time to the next, for each of the schedules.
_PERIODS = (1.0, 1.0, 2.0, 2.0)
#: Longer than anything that happens to a fleet here: no time is missed.
_CATCHUP = timedelta(hours=1)
#: Seconds before the first time: a schedule that is made later has one time less than the books ask for.
_LEAD = 10


def begin(world: World, seconds: float) -> None:
    """Make schedules that fire until so many seconds have passed.

    Raises:
      TimeoutError: making them took too long.
    """
    begun = math.ceil(now())
    first, last = begun + _LEAD, begun + math.floor(seconds)
    with Client(world.settings) as client:
        for place, period in enumerate(_PERIODS):
            schedule_id = f"tick-{place}"
            client.schedules.create(
                schedule_id,
                chain,
                place,
                2,
                every=period,
                start_at=datetime.fromtimestamp(first, UTC),
                end_at=datetime.fromtimestamp(last, UTC),
                overlap="allow_all",
                catchup=_CATCHUP,
            )
            world.journal.scheduled(Timetable(schedule_id, first, last, period))
    if now() > first:
        raise TimeoutError(
            f"schedules were not made within {_LEAD} s: the machine is too busy for books on their times"
        )
