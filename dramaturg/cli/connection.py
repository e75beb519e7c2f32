"""The client that commands talk through, and logging as the command line sets it up."""

from __future__ import annotations

import logging
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dramaturg.cli.exits import UsageError

if TYPE_CHECKING:
    from dramaturg.client import Client


@contextmanager
def connected() -> Generator[Client, None, None]:
    """A client of the database that the settings name.

    Raises:
      UsageError: the database is private to each process.
      DramaturgError: a setting is wrong, or the database cannot be used.
    """
    from dramaturg.client import Client
    from dramaturg_protocol.config import load_settings

    log_to_stderr(logging.WARNING)
    settings = load_settings()
    if settings.database_url in ("sqlite://", "sqlite:///:memory:"):
        raise UsageError(
            f"DRAMATURG_DATABASE_URL is {settings.database_url}, which is private to each process: "
            "there is nobody to talk to. Unset it, or name a file"
        )
    with Client(settings) as client:
        yield client


class StderrHandler(logging.Handler):
    """Writes to whatever ``sys.stderr`` is at the moment: a live picture puts itself there."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except Exception:  # noqa: BLE001 - as every handler of logging does
            self.handleError(record)


def log_to_stderr(level: int) -> None:
    """Send log records from a level on to stderr, as ``DRAMATURG_LOG_FORMAT`` says."""
    from dramaturg_actors.logs import configure_logging
    from dramaturg_protocol.config import load_settings
    from dramaturg_protocol.errors import ConfigurationError

    try:
        form = load_settings().log_format
    except ConfigurationError:
        # The command itself says what is wrong, in its own way.
        form = "text"
    configure_logging(level, form, handler=StderrHandler())
