"""Log records that say which run and step they belong to, and a set-up of logging that shows it.

`LogContextFilter` belongs on a handler, so that it meets the records of every logger. `configure_logging` puts it on one
that writes to stderr, as text for people or as JSON, a line for each record.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal

from pydantic import BaseModel
from pydantic_core import to_json

from dramaturg_actors.context import current_step
from dramaturg_protocol.ambient import WorkflowScope, current_scope
from dramaturg_protocol.config import load_settings

#: What every record bears; empty where it does not apply.
FIELDS: Final = ("run_id", "workflow_id", "workflow", "step", "seq", "attempt")

# What logging itself puts into a record: the context must not hide it.
_OWN: Final = frozenset({*vars(logging.LogRecord("", 0, "", 0, "", (), None)), "message", "asctime"})
_ENGINE: Final = ("dramaturg.coordinator", "dramaturg.actors")
_TEXT: Final = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_CHATTY: Final = ("alembic", "apscheduler", "dramatiq")

LogFormat = Literal["text", "json"]


class LogContextFilter(logging.Filter):
    """Gives a record ``run_id workflow_id workflow step seq attempt`` and the fields of the run's context.

    Outside of steps and workflows they are empty, so that a format may name them. What a record bears already stays. A
    record of a workflow's code that is replayed is dropped: it was written when the code ran for the first time.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields; false for a record that was written before."""
        scope = current_scope()
        if scope is not None and (scope.is_replaying or scope.is_muted) and not record.name.startswith(_ENGINE):
            return False
        fields = _fields_here(scope)
        for name, value in fields.items():
            if not hasattr(record, name):
                setattr(record, name, value)
        return True


def _fields_here(scope: WorkflowScope | None) -> dict[str, Any]:
    fields: dict[str, Any] = dict.fromkeys(FIELDS, "")
    step = current_step()
    if scope is not None:
        about = scope.info()
        fields |= {name: getattr(about, name) for name in ("run_id", "workflow_id", "workflow", "attempt")}
        return _fields_of(scope.step_context) | fields
    if step is None:
        return fields
    fields |= {name: getattr(step, name) for name in ("run_id", "workflow_id", "workflow", "seq", "attempt")}
    fields["step"] = step.name
    try:
        context = step.context
    except Exception:  # noqa: BLE001 - of a class that this process does not know: the record is written all the same
        context = None
    return _fields_of(context) | fields


def _fields_of(context: object) -> dict[str, Any]:
    """The fields of a run's context, as far as logging leaves their names free."""
    if isinstance(context, BaseModel):
        found: Mapping[Any, Any] = context.model_dump()
    elif dataclasses.is_dataclass(context) and not isinstance(context, type):
        found = dataclasses.asdict(context)
    elif isinstance(context, Mapping):
        found = context  # pyright: ignore[reportUnknownVariableType]
    else:
        return {}
    return {name: value for name, value in found.items() if isinstance(name, str) and name not in _OWN}


class JsonFormatter(logging.Formatter):
    """One line of JSON for each record: time (UTC), level, logger, message, and whatever the record bears beside."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        said: dict[str, Any] = {
            "time": _utc(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        said |= {name: value for name, value in vars(record).items() if name not in _OWN and value != ""}
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return to_json(said, fallback=repr, inf_nan_mode="strings").decode()


class TextFormatter(logging.Formatter):
    """A line for people; the run, the step and the context stand at its end where there are any."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        borne = {name: value for name, value in vars(record).items() if name not in _OWN and value != ""}
        first, newline, rest = super().format(record).partition("\n")
        words = " ".join(f"{name}={value}" for name, value in borne.items())
        return f"{first} [{words}]{newline}{rest}" if words else first + newline + rest


def formatter_of(form: str, text: str) -> logging.Formatter:
    """The formatter of a ``LOG_FORMAT``."""
    return JsonFormatter() if form == "json" else TextFormatter(text, "%H:%M:%S %Z")


def configure_logging(
    level: int | str = logging.INFO,
    form: LogFormat | None = None,
    handler: logging.Handler | None = None,
    *,
    text: str = _TEXT,
) -> None:
    """Send records from a level on to stderr, with the run and step that they belong to.

    Nothing happens where the root logger has handlers already, as with `logging.basicConfig`: put a `LogContextFilter`
    on them.

    Parameters:
      form: ``text`` or ``json``; ``DRAMATURG_LOG_FORMAT`` by default.
      handler: in place of one that writes to stderr.
      text: the format of a line where `form` is ``text``, as logging's.

    Raises:
      ConfigurationError: a setting is wrong.
    """
    if form is None:
        form = load_settings().log_format
    handler = handler or logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter_of(form, text))
    handler.addFilter(LogContextFilter())
    logging.basicConfig(level=level, handlers=[handler])
    for chatty in _CHATTY:
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # It tells of each lost connection with tracebacks; whoever used it says what that means.
    logging.getLogger("pika").setLevel(logging.CRITICAL)


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
