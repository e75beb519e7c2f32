"""Names of signals, queries and updates."""

from __future__ import annotations

_LONGEST = 255


def check_name(what: str, name: object) -> str:
    """A name that can be used.

    Parameters:
      what: is named, like ``signal``.

    Raises:
      TypeError, ValueError: it cannot be used.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a {what} is a str, not {name!r}")
    if not name or len(name) > _LONGEST or "\0" in name:
        raise ValueError(f"the name of a {what} has 1 to {_LONGEST} characters and no NUL: {name[:40]!r}")
    return name
