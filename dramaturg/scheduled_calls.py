"""What the runs of a schedule are: a workflow with its arguments and the options that they share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from dramaturg.orders import order_of
from dramaturg.workflows import BoundWorkflow

#: What `wf.options(…)` may say for all runs of a schedule; the others are about one run.
_SHARED = frozenset({"version", "context", "priority", "tags"})


@dataclass(frozen=True, slots=True)
class ScheduledCall:
    """A workflow, and the encoded `StartBody` of its runs, but for what each has of its own."""

    workflow: str
    body: str

    @property
    def tags(self) -> dict[str, Any]:
        """Of its runs."""
        return dict(from_json(self.body)["tags"])


def scheduled_call(
    wf: Any,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    tags: Mapping[str, Any] | None,
    *,
    namespace: str,
    max_payload: int,
) -> ScheduledCall:
    """Check what a schedule is to start.

    Parameters:
      wf: a workflow, ``wf.options(…)``, a graph, a step, or a workflow's name.

    Raises:
      TypeError: the arguments do not fit, or an option is about one run only.
      PayloadError: an argument cannot be encoded or is too large.
    """
    about_one = sorted(name for name, value in _options_of(wf).items() if value is not None and name not in _SHARED)
    if about_one:
        raise TypeError(
            f"option {about_one[0]!r} is about one run: a schedule takes {', '.join(sorted(_SHARED))} through wf.options(…)"
        )
    options = {} if tags is None else {"tags": tags}
    order, target, _ = order_of(wf, args, {**kwargs}, options, namespace=namespace, max_payload=max_payload)
    return ScheduledCall(target.name, order.body)


def _options_of(wf: object) -> Mapping[str, Any]:
    return wf.options if isinstance(wf, BoundWorkflow) else {}  # pyright: ignore[reportUnknownMemberType]
