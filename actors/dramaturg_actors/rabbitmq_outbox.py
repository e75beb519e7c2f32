"""What threads want done with the channel of a consumer, which belongs to the thread that iterates.

Whatever gathered while the last transaction was under way goes as the next one.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from dramatiq.errors import ConnectionClosed

from dramaturg_protocol.amqp import told_as_unreachable
from dramaturg_protocol.faults import Unreachable

Act = Callable[[Any], object]


def lost(reason: object) -> ConnectionClosed:
    """The error that Dramatiq's threads know."""
    return ConnectionClosed(reason)  # type: ignore[no-untyped-call]


class Word:
    """Something to be done, as a part of a transaction.

    Parameters:
      act: does it.
      then: follows once that is committed, in the same thread.
    """

    def __init__(self, act: Act, then: Callable[[], object] | None = None) -> None:
        self.act = act
        self._then = then
        self._error: ConnectionClosed | None = None
        self._is_over = threading.Event()

    def end(self) -> None:
        """It is committed."""
        if self._then is not None:
            self._then()
        self._is_over.set()

    def fail(self, error: ConnectionClosed) -> None:
        """It is not, or nobody knows."""
        self._error = error
        self._is_over.set()

    def wait(self) -> None:
        """Wait until it is committed.

        Raises:
          ConnectionClosed: it was not, or nobody knows.
        """
        self._is_over.wait()
        if self._error is not None:
            raise self._error


class Outbox:
    """Words for the thread of a channel.

    Parameters:
      parameters: pika's, of the server.
      wake: has the thread look here.
    """

    def __init__(self, parameters: Any, wake: Callable[[], None]) -> None:
        self._parameters = parameters
        self._wake = wake
        self._lock = threading.Lock()
        self._words: deque[Word] = deque()
        self._error: ConnectionClosed | None = None

    @property
    def is_closed(self) -> bool:
        """Whether nothing that is said here is done any more."""
        return self._error is not None

    def leave(self, act: Act, then: Callable[[], object] | None = None) -> Word:
        """Have something done; the word can be waited for."""
        word = Word(act, then)
        with self._lock:
            if self._error is not None:
                word.fail(self._error)
                return word
            self._words.append(word)
            is_first = len(self._words) == 1
        if is_first:
            self._wake()
        return word

    def flush(self, channel: Any) -> None:
        """Do and commit what was left here, until there is nothing; in the thread of the channel.

        Raises:
          Unreachable: RabbitMQ does not answer; who waits was told.
        """
        while True:
            with self._lock:
                words, self._words = self._words, deque()
            if not words:
                return
            try:
                with told_as_unreachable(self._parameters):
                    for word in words:
                        word.act(channel)
                    channel.tx_commit()
            except Unreachable as error:
                for word in words:
                    word.fail(lost(error))
                raise
            for word in words:
                word.end()

    def close(self, error: ConnectionClosed) -> None:
        """Do nothing more."""
        with self._lock:
            self._error = error
            words, self._words = self._words, deque()
        for word in words:
            word.fail(error)
