"""What the core answers where a request does not fit the run as it is."""

from __future__ import annotations


class Refusal(Exception):
    """The request changes nothing; the message says why, and what would.

    Parameters:
      error: the name of the error class that its sender gets.
    """

    def __init__(self, message: str, error: str = "WrongState") -> None:
        super().__init__(message)
        self.error = error
