"""Where in the workflow's own code something was asked for."""

from __future__ import annotations

import sys
from types import FrameType

_OURS = ("dramaturg.", "dramaturg_coordinator.", "dramaturg_protocol.", "asyncio.")


def line_of_caller() -> str:
    """File and line of the nearest frame that is the workflow's own code; empty where asyncio itself called."""
    frame: FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame is not None and is_ours(frame):
        if frame.f_globals.get("__name__") == "dramaturg_coordinator.execution":
            return ""
        frame = frame.f_back
    return "" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


def is_ours(frame: FrameType) -> bool:
    """Whether a frame belongs to the engine or to asyncio."""
    return f"{frame.f_globals.get('__name__', '')}.".startswith(_OURS)
