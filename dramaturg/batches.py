"""The verbs of a handle for all runs that a filter means."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Final, Unpack, cast

from dramaturg.filters import OPEN_STATUSES, STATUSES, Chosen
from dramaturg_protocol.messages import RequestKind
from dramaturg_protocol.request_bodies import ControlBody

if TYPE_CHECKING:
    from dramaturg import views
    from dramaturg.requests import Requests

_FAILED: Final = ("FAILED", "TIMED_OUT")
#: Runs that are asked in one go.
_PAGE: Final = 500


class Asked(Chosen, total=False):
    """Which runs are meant, and who asks.

    Parameters:
      by: who, kept in each run's history.
      reason: why, kept there too.
    """

    by: str | None
    reason: str | None


class Batches:
    """The batch verbs of a client. Each takes the filters of `Client.runs`, at least one of them, and ``by`` and ``reason``.

    Each returns once all is recorded, with the number of runs; one that closed or changed meanwhile is left as it is.
    Runs that begin while it goes on are not met.

    Raises, each of them:
      TypeError: no filter was given: name a ``status`` to mean all.
      ValueError: a filter cannot be meant.
      NotAnswered: no coordinator recorded it in time; what was asked stays, and counts once.
    """

    requests: Requests

    @abstractmethod
    def runs(self, *, limit: int = 50, after: str | None = None, **chosen: Unpack[Chosen]) -> list[views.RunSummary]:
        """As `Client.runs`."""

    def cancel_runs(self, **asked: Unpack[Asked]) -> int:
        """Cancel open runs; see `Handle.cancel`."""
        return self._ask(RequestKind.CANCEL, OPEN_STATUSES, asked)

    def terminate_runs(self, **asked: Unpack[Asked]) -> int:
        """End open runs at once; see `Handle.terminate`."""
        return self._ask(RequestKind.TERMINATE, OPEN_STATUSES, asked)

    def pause_runs(self, **asked: Unpack[Asked]) -> int:
        """Pause open runs; see `Handle.pause`."""
        return self._ask(RequestKind.PAUSE, [each for each in OPEN_STATUSES if each != "PAUSED"], asked)

    def resume_runs(self, **asked: Unpack[Asked]) -> int:
        """Go on with paused runs; see `Handle.resume`."""
        return self._ask(RequestKind.RESUME, ["PAUSED"], asked)

    def retry_runs(self, **asked: Unpack[Asked]) -> int:
        """Go on with failed runs; see `Handle.retry`."""
        return self._ask(RequestKind.RETRY, _FAILED, asked)

    def _ask(self, kind: RequestKind, statuses: Sequence[str], asked: Asked) -> int:
        body = ControlBody(asked.pop("by", None), asked.pop("reason", None))
        chosen = cast("Chosen", {name: value for name, value in asked.items() if value is not None})
        if not chosen:
            raise TypeError(
                f"say which runs to {kind}: by workflow=, status=, tags=, since= …; a status= means all of it"
            )
        chosen["status"] = _both(chosen.get("status"), statuses)
        run_ids = self._ids_of(chosen) if chosen["status"] else []
        return self.requests.send_to_many(run_ids, kind, body)

    def _ids_of(self, chosen: Chosen) -> list[str]:
        found: list[str] = []
        while page := self.runs(limit=_PAGE, after=found[-1] if found else None, **chosen):
            found += [run.run_id for run in page]
        return found


def _both(status: Any, statuses: Sequence[str]) -> Collection[str]:
    """The statuses that are meant and to which the verb applies; an unknown one stays, to be refused."""
    given = [status] if isinstance(status, str) else list(status or statuses)
    known = set(statuses)
    return [each for each in given if each in known or each not in STATUSES]
