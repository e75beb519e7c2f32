"""What workflow code hears from outside and says to it, as the face asks for it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from dramaturg_protocol.payloads import Payload

Waiting: TypeAlias = Generator[Any, Any, Any]


@dataclass(frozen=True, slots=True)
class TimeLimit:
    """How long something is waited for.

    Attributes:
      until: when that is over.
      words: as the caller wrote it.
    """

    until: datetime
    words: str


class Dialogue(ABC):
    """The conversation of one run with the world."""

    @abstractmethod
    def wait_signal(self, name: str, limit: TimeLimit | None) -> Generator[asyncio.Future[Any], None, Payload]:
        """Wait for the next signal of this name; each goes to one who waits, in order of arrival.

        Raises:
          TimeoutError: time is over.
        """

    @abstractmethod
    def on_query(self, name: str, fn: Callable[..., Any]) -> None:
        """Answer a query with a function, from now on."""

    @abstractmethod
    def on_update(self, name: str, fn: Callable[..., Any], validator: Callable[..., Any] | None) -> None:
        """Have a function called for each update of a name, from now on."""

    @abstractmethod
    def send_signal(self, workflow_id: str, name: str, payload: Payload, run_id: str = "") -> None:
        """Send another run a signal, in the commit that records it.

        Parameters:
          run_id: where it is known; else the newest run with that workflow id is meant.
        """

    @abstractmethod
    def send_cancel(self, workflow_id: str) -> None:
        """Have another run cancelled, in the commit that records it."""

    @abstractmethod
    def set_status(self, value: Payload) -> None:
        """Have this shown as the run's own status."""

    @abstractmethod
    def wait_until(
        self, predicate: Callable[[], object], limit: TimeLimit | None
    ) -> Generator[asyncio.Future[Any], None, None]:
        """Wait until a function gives something true; it is called after all that happens to the run.

        Raises:
          TimeoutError: time is over.
        """
