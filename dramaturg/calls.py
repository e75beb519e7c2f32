"""What workflow code awaits: a call that is an object of our own, which can say by its name that nobody awaited it."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Generator
from typing import Any, TypeVar

from dramaturg.awaitables import AwaitableObject
from dramaturg_protocol.ambient import WorkflowScope

R_co = TypeVar("R_co", covariant=True)


class DurableCall(AwaitableObject[R_co]):
    """Something to await, once.

    Parameters:
      what: for messages, like ``step call 'charge'``.
      scope: the workflow that asks; ``None`` outside one.
    """

    def __init__(self, what: str, scope: WorkflowScope | None) -> None:
        super().__init__(what)
        self._scope = scope
        self._generator: Generator[Any, Any, R_co] | None = None
        self._hash = object.__hash__(self) if scope is None else scope.next_hash()

    @abstractmethod
    def _run(self) -> Generator[Any, Any, R_co]:
        """Do it, as a generator of what it waits for."""

    def __await__(self) -> Generator[Any, Any, R_co]:
        return self._begin()

    def close(self) -> None:
        """As a coroutine's: nothing is asked for that was not asked for yet."""
        self._running().close()

    def __del__(self) -> None:
        is_muted = self._scope is not None and self._scope.is_muted
        if self._generator is None and not is_muted:
            warnings.warn(f"{self._what} was never awaited", RuntimeWarning, stacklevel=2)

    def _running(self) -> Generator[Any, Any, R_co]:
        return self._generator if self._generator is not None else self._begin()

    def _begin(self) -> Generator[Any, Any, R_co]:
        if self._generator is not None:
            raise RuntimeError(f"cannot await the same {self._what} twice")
        self._generator = self._run()
        return self._generator
