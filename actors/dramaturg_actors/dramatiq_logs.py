"""What Dramatiq logs of a failed or skipped step, with a traceback for each attempt, is left out: we said it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from dramatiq.broker import MessageProxy

from dramaturg_protocol.transport import TASK_OPTION

_LOGGERS: Final = (
    "dramatiq.worker.WorkerThread",
    "dramatiq.worker.WorkerThread.dramaturg",
    "dramatiq.middleware.retries.Retries",
)


class QuietDramatiq:
    """From `start` to `close` Dramatiq warns of plain actors only.

    Parameters:
      is_step: whether the calling thread is processing a step.
    """

    def __init__(self, is_step: Callable[[], bool]) -> None:
        self._is_step = is_step

    def start(self) -> None:
        """Leave out what is of steps."""
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(self._is_told)

    def close(self) -> None:
        """Leave nothing out."""
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(self._is_told)

    def _is_told(self, record: logging.LogRecord) -> bool:
        about = record.args[0] if isinstance(record.args, tuple) and record.args else None
        is_of_step = self._is_step() or (isinstance(about, MessageProxy) and TASK_OPTION in about.options)
        return record.levelno < logging.WARNING or not is_of_step
