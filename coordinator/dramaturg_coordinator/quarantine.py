"""Runs that brought coordinators down: they are blocked instead of advanced.

What no watchdog can interrupt (a call into C, memory that the kernel takes back with the whole process, ``os._exit``)
ends the process. Its supervisor knows which run was being advanced, and of which ones local steps were under way
(``dramaturg.supervision``), and has that counted in the database before anything is advanced again. With the first death of a process that had to be killed because it hung
in a run, and with the second of any other kind, the run is not given its code any more, and its local steps do not
begin: not here, and not by whoever takes over. Other code, or a day without a further death, gives it another try.
"""

from __future__ import annotations

from collections.abc import Mapping

from dramaturg_coordinator.ports import Peers
from dramaturg_protocol import events as e


class Quarantine:
    """The runs whose code must not be run by this process.

    Parameters:
      peers: ``None`` where nobody supervises.
    """

    def __init__(self, peers: Peers | None) -> None:
        self._peers = peers
        self._reasons: Mapping[str, str] = {}

    def look(self) -> None:
        """See what was counted. Raises `Unreachable`."""
        if self._peers is not None:
            self._reasons = self._peers.deadly()

    def of(self, run_id: str) -> e.RunBlocked | None:
        """Why a run is not given its code; ``None`` where it is."""
        reason = self._reasons.get(run_id)
        if reason is None:
            return None
        return e.RunBlocked(
            reason="deadly",
            message=(
                f"{reason}: its code ends the coordinator's process and is not run again with this version: put the "
                f"work into a step that is not local; the run goes on with other code, or is tried again after a day"
            ),
        )
