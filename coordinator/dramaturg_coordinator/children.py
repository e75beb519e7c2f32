"""Runs that workflow code starts: what it holds of each, and the futures that wait for their ends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from dramaturg_coordinator.loop import WorkflowFuture, WorkflowLoop
from dramaturg_protocol import events as e
from dramaturg_protocol.ambient import ChildRequest, ChildTicket
from dramaturg_protocol.errors import ChildFailed, PayloadError
from dramaturg_protocol.ids import run_id_of_child, run_id_of_next
from dramaturg_protocol.payloads import Payload


class Asking(Protocol):
    """What children need of the scope that they are started in."""

    loop: WorkflowLoop

    @property
    def is_muted(self) -> bool: ...
    def next_seq(self) -> int: ...
    def emit(self, body: e.EventBody) -> None: ...


class Children:
    """The children of one run.

    Parameters:
      history: of the run: what it says of a child holds.
    """

    def __init__(self, scope: Asking, run_id: str, history: Sequence[e.HistoryEvent]) -> None:
        self._scope = scope
        self._run_id = run_id
        bodies = [event.body for event in history]
        self._recorded = {body.seq: body.run_id for body in bodies if isinstance(body, e.ChildStarted)}
        # What is asked for beyond the history belongs to the generation that its last cut began.
        self._generation = max((body.generation for body in bodies if isinstance(body, e.Cut)), default=1)
        self._open: dict[int, _Child] = {}

    @property
    def next_run_id(self) -> str:
        """The run that would continue this one."""
        return run_id_of_next(self._run_id, self._generation)

    def start(self, request: ChildRequest) -> ChildTicket:
        """Ask for a run."""
        scope = self._scope
        if scope.is_muted:
            return _Child(scope, request, 0, "")
        seq = scope.next_seq()
        run_id = self._recorded.get(seq) or run_id_of_child(self._run_id, self._generation, seq)
        child = self._open[seq] = _Child(scope, request, seq, run_id)
        scope.emit(
            e.ChildStarted(
                seq,
                request.workflow,
                child.run_id,
                child.workflow_id,
                request.input,
                request.version,
                request.on_parent_close,
                request.tags,
                request.context,
                request.group,
            )
        )
        return child

    def tell(self, body: e.ChildClosed) -> None:
        """Let those who wait for a child know of its end."""
        child = self._open.pop(body.seq, None)
        if child is not None:
            child.close(body)

    def go_on(self, cut: e.Cut) -> None:
        """The run goes on from an earlier point, some of its children as other runs."""
        for seq, run_id in cut.children:
            self._open[seq].become(run_id)


class _Child(ChildTicket):
    """One child."""

    def __init__(self, scope: Asking, request: ChildRequest, seq: int, run_id: str) -> None:
        self.run_id = run_id
        self.workflow_id = request.workflow_id or run_id
        self._scope = scope
        self._request = request
        self.seq = seq
        self._end: e.ChildClosed | None = None
        self._is_cancelled = False
        self._waiting: list[_ChildFuture] = []

    def outcome(self) -> asyncio.Future[Any]:
        """A future of its own for each who asks."""
        future = _ChildFuture(self, self._scope.loop)
        if self._end is not None:
            self._settle(future, self._end)
        elif not self._scope.is_muted:
            self._waiting.append(future)
        return future

    def cancel(self) -> None:
        """Have the child cancelled, unless it has ended."""
        scope = self._scope
        if scope.is_muted or self._is_cancelled or self._end is not None:
            return
        self._is_cancelled = True
        scope.emit(e.CancelSent(scope.next_seq(), self.workflow_id, self.run_id, self.seq))

    def lose(self, future: _ChildFuture) -> None:
        """Somebody no longer waits for it."""
        if self._request.on_parent_close != "abandon" and self._end is None:
            self.cancel()
        if future in self._waiting:
            self._waiting.remove(future)

    def close(self, end: e.ChildClosed) -> None:
        """It has ended."""
        self._end = end
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                self._settle(future, end)

    def become(self, run_id: str) -> None:
        """It is this run from now on."""
        self.run_id = run_id
        self.workflow_id = self._request.workflow_id or run_id

    def _settle(self, future: _ChildFuture, end: e.ChildClosed) -> None:
        if end.status != "COMPLETED":
            error = end.error or e.ErrorInfo("", "")
            failed = ChildFailed(
                end.workflow, end.run_id, end.status, error.type, error.message, error.traceback, seq=end.seq
            )
            future.set_exception(failed)
            return
        try:
            value = self._request.decode(end.result if end.result is not None else Payload("null"))
        except Exception as error:  # noqa: BLE001 - validators of the user's run here
            future.set_exception(error if isinstance(error, PayloadError) else PayloadError(str(error)))
        else:
            future.set_result(value)


class _ChildFuture(WorkflowFuture[Any]):
    """Waits for a child; cancelling it is a command."""

    def __init__(self, child: _Child, loop: WorkflowLoop) -> None:
        super().__init__(loop=loop)
        self._child = child

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel the future, and the child if it has not ended."""
        if not super().cancel(msg):
            return False
        self._child.lose(self)
        return True
