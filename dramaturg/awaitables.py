"""An object of our own that asyncio takes for a coroutine: it may be awaited, gathered, and given to a task.

So it hashes the same on every replay: asyncio puts what it is given into sets, whose order would be an accident of memory
otherwise.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Coroutine, Generator
from types import TracebackType
from typing import Any, TypeVar, overload

R_co = TypeVar("R_co", covariant=True)


class AwaitableObject(Coroutine[object, None, R_co]):
    """What a coroutine can do, by a generator.

    Parameters:
      what: for messages, like ``step call 'charge'``.
    """

    _hash: int

    def __init__(self, what: str) -> None:
        self._what = what

    @abstractmethod
    def _running(self) -> Generator[Any, Any, R_co]:
        """The generator that is under way for whoever drives it, begun where none is."""

    def __hash__(self) -> int:
        return self._hash

    def send(self, value: Any, /) -> Any:
        """As a coroutine's."""
        return self._running().send(value)

    @overload
    def throw(
        self, typ: type[BaseException], val: BaseException | object = None, tb: TracebackType | None = None, /
    ) -> Any: ...
    @overload
    def throw(self, typ: BaseException, val: None = None, tb: TracebackType | None = None, /) -> Any: ...
    def throw(self, typ: Any, val: Any = None, tb: Any = None, /) -> Any:
        """As a coroutine's."""
        error = typ if isinstance(typ, BaseException) else typ(*(() if val is None else (val,)))
        return self._running().throw(error)

    def __repr__(self) -> str:
        return f"<{self._what}>"
