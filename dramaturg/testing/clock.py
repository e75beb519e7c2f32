"""A clock that stands still until somebody moves it."""

from __future__ import annotations

from datetime import UTC, datetime

BEGINNING = datetime(2030, 1, 1, tzinfo=UTC)


class VirtualClock:
    """The port `Clock`, for tests.

    Parameters:
      now: aware; where it begins.
    """

    def __init__(self, now: datetime = BEGINNING) -> None:
        self._now = now

    def now(self) -> datetime:
        """As it was set last."""
        return self._now

    def set(self, moment: datetime) -> None:
        """Move it, never back."""
        self._now = max(self._now, moment.astimezone(UTC))
