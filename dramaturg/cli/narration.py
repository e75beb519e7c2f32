"""One plain sentence for each event: for logs, pipes and histories."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from dramaturg.cli.output import as_json, local_clock, local_time, rough, untagged

if TYPE_CHECKING:
    from dramaturg.views import Event

#: What somebody who watches a run wants to hear of; the rest is for histories.
OF_INTEREST = frozenset(
    {
        "run.started",
        "run.completed",
        "run.failed",
        "run.cancel_requested",
        "run.cancelled",
        "run.terminated",
        "run.timed_out",
        "run.continued",
        "run.blocked",
        "run.unblocked",
        "run.paused",
        "run.resumed",
        "run.retrying",
        "run.retried",
        "run.reset",
        "step.settled",
        "step.started",
        "step.retrying",
        "step.completed",
        "step.failed",
        "step.timed_out",
        "step.cancelled",
        "timer.started",
        "timer.fired",
        "approval.requested",
        "approval.decided",
        "approval.withdrawn",
        "hook.created",
        "hook.resolved",
        "hook.expired",
        "hook.withdrawn",
        "child.started",
        "child.closed",
        "cancel.sent",
        "signal.received",
        "update.accepted",
        "update.completed",
        "status.set",
        "log",
    }
)
_LONGEST = 200
_ENDED = {"released": "was handed back", "timeout": "timed out"}


def sentence_of(event: Event) -> str:
    """What happened, in one line without its time."""
    tell = _TELL.get(event.type)
    if tell is None or "damage" in event.data:
        return shortened(f"{event.type} {as_json(event.data)}")
    return shortened(tell(event.data))


def error_text(error: Mapping[str, Any]) -> str:
    """An error as ``Type: message``, in one line."""
    return " ".join(f"{error_type(error)}: {error.get('message', '')}".split())


def error_type(error: Mapping[str, Any]) -> str:
    """The name of an error's type; ours are known by their last name."""
    return str(error.get("type", "")).removeprefix("dramaturg_protocol.errors.")


def shortened(text: str, longest: int = _LONGEST) -> str:
    """One line that is not too long."""
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def moment_of(text: str) -> datetime:
    """A moment in an event's data."""
    return datetime.fromisoformat(text)


def _step(data: Mapping[str, Any]) -> str:
    return f"step {data['name']} #{data['seq']}"


def _retrying(data: Mapping[str, Any]) -> str:
    if data.get("retry_at") is None:
        return f"{_step(data)} gave up at attempt {data['attempt']} and waits for a person: {error_text(data['error'])}"
    if data.get("delivery") is not None:
        return f"{_step(data)} attempt {data['attempt']} lost its worker and begins again: {error_text(data['error'])}"
    due = local_clock(moment_of(data["retry_at"]))
    ended = _ENDED.get(data.get("reason", ""), "failed")
    return f"{_step(data)} attempt {data['attempt']} {ended}, next try at {due}: {error_text(data['error'])}"


def _progress(data: Mapping[str, Any]) -> str:
    of = "" if data.get("total") is None else f" of {data['total']:g}"
    note = f": {data['note']}" if data.get("note") else ""
    return f"{_step(data)} attempt {data['attempt']} has done {data['done']:g}{of}{note}"


def _run_retrying(data: Mapping[str, Any]) -> str:
    due = local_clock(moment_of(data["retry_at"]))
    return f"run failed at try {data['attempt']}, next try at {due}: {error_text(data['error'])}"


def _completed(data: Mapping[str, Any]) -> str:
    seconds = data.get("seconds")
    took = f" in {rough(timedelta(seconds=seconds))}" if seconds is not None else ""
    attempt = f", attempt {data['attempt']}" if data.get("attempt", 1) > 1 else ""
    return f"{_step(data)} completed{took}{attempt}: {as_json(untagged(data.get('result')))}"


def _child_closed(data: Mapping[str, Any]) -> str:
    ended = f"child {data['workflow']} #{data['seq']} {data['status']}"
    if data.get("error"):
        return f"{ended}: {error_text(data['error'])}"
    return f"{ended}: {as_json(untagged(data['result']))}" if "result" in data else ended


def _until(data: Mapping[str, Any], verb: str) -> str:
    return f", {verb} at {local_time(moment_of(data['due']))}" if data.get("due") else ""


def _approval_requested(data: Mapping[str, Any]) -> str:
    whose = f" of {' or '.join(data['approvers'])}" if data.get("approvers") else ""
    prompt = f": {data['prompt']}" if data.get("prompt") else ""
    return f"approval {data['name']} #{data['seq']} asked{whose}{_until(data, 'times out')}{prompt}"


def _approval_decided(data: Mapping[str, Any]) -> str:
    what = f"approval {data['name']} #{data['seq']}"
    if data.get("timed_out"):
        return f"{what} timed out"
    comment = f": {data['comment']}" if data.get("comment") else ""
    return f"{what} {'approved' if data['approved'] else 'rejected'} by {data['by']}{comment}"


def _asked(words: str) -> Callable[[Mapping[str, Any]], str]:
    def tell(data: Mapping[str, Any]) -> str:
        by = f" by {data['by']}" if data.get("by") else ""
        reason = f": {data['reason']}" if data.get("reason") else ""
        return f"{words}{by}{reason}"

    return tell


_TELL: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "run.started": lambda data: f"run of {data['workflow']} started with {as_json(untagged(data['input']))}",
    "run.completed": lambda data: f"run completed: {as_json(untagged(data.get('result')))}",
    "run.failed": lambda data: f"run failed: {error_text(data['error'])}",
    "run.retrying": _run_retrying,
    "progress": _progress,
    "run.cancel_requested": _asked("cancel requested"),
    "run.cancelled": lambda _: "run cancelled",
    "run.terminated": _asked("run terminated"),
    "run.timed_out": lambda _: "run timed out",
    "run.continued": lambda data: f"goes on as run {data['run_id']} with {as_json(untagged(data['input']))}",
    "run.blocked": lambda data: f"run blocked: {data['message']}",
    "run.unblocked": lambda _: "run unblocked",
    "run.paused": _asked("run paused"),
    "run.resumed": _asked("run resumed"),
    "run.retried": _asked("run retried"),
    "run.reset": lambda data: _asked(f"run set back to event {data['keep']}")(data),
    "step.settled": lambda data: _asked(f"{_step(data)} settled ({data['verb']})")(data),
    "step.scheduled": lambda data: (
        f"{_step(data)} scheduled on queue {data['queue']} with {as_json(untagged(data['input']))}"
    ),
    "step.started": lambda data: (
        f"{_step(data)} attempt {data['attempt']} started on {data.get('worker') or 'a worker'}"
    ),
    "step.retrying": _retrying,
    "step.completed": _completed,
    "step.failed": lambda data: f"{_step(data)} failed, attempt {data['attempt']}: {error_text(data['error'])}",
    "step.timed_out": lambda data: f"{_step(data)} timed out, attempt {data['attempt']}: {error_text(data['error'])}",
    "step.cancelled": lambda data: f"{_step(data)} cancelled",
    "timer.started": lambda data: f"timer #{data['seq']} started, due at {local_clock(moment_of(data['due']))}",
    "timer.fired": lambda data: f"timer #{data['seq']} fired",
    "timer.cancelled": lambda data: f"timer #{data['seq']} cancelled",
    "approval.requested": _approval_requested,
    "approval.decided": _approval_decided,
    "approval.withdrawn": lambda data: f"approval {data['name']} #{data['seq']} withdrawn: nobody waits for it",
    "hook.created": lambda data: f"hook {data['name']} #{data['seq']} waits{_until(data, 'expires')}",
    "hook.resolved": lambda data: f"hook {data['name']} #{data['seq']} resolved: {as_json(untagged(data['payload']))}",
    "hook.expired": lambda data: f"hook {data['name']} #{data['seq']} expired",
    "hook.withdrawn": lambda data: f"hook {data['name']} #{data['seq']} withdrawn: nobody waits for it",
    "child.started": lambda data: (
        f"child {data['workflow']} #{data['seq']} started as run {data['run_id']} with {as_json(untagged(data['input']))}"
    ),
    "child.closed": _child_closed,
    "cancel.sent": lambda data: f"cancel sent to run {data.get('run_id') or data['workflow_id']}",
    "marker.recorded": lambda data: (
        f"marker #{data['seq']} {data['kind']} {data['name']}: {as_json(data.get('value'))}"
    ),
    "signal.received": lambda data: _asked(f"signal {data['name']} received: {as_json(untagged(data['payload']))}")(
        data
    ),
    "signal.sent": lambda data: f"signal {data['name']} sent to {data['workflow_id']}",
    "update.accepted": lambda data: f"update {data['name']} accepted with {as_json(untagged(data['input']))}",
    "update.completed": lambda data: (
        f"update {data['name']} completed: {as_json(untagged(data.get('result')))}"
        if data.get("error") is None
        else f"update {data['name']} failed: {error_text(data['error'])}"
    ),
    "status.set": lambda data: f"status: {as_json(untagged(data['value']))}",
    "log": lambda data: f"{data['level']}: {data['message']}",
}
