"""What workflow code computed once and the history keeps: results of side effects, and which changes it passed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic_core import from_json, to_json

from dramaturg_coordinator.failures import error_info
from dramaturg_protocol import events as e
from dramaturg_protocol.errors import PayloadError, StepFailed
from dramaturg_protocol.payloads import Payload, decode_value, encode_value
from dramaturg_protocol.retries import qualified_name

#: Kind of the marker that keeps the error of a side effect.
SIDE_EFFECT_FAILED = "side_effect.failed"


class Markers:
    """The recorded values of one run.

    Parameters:
      recorded: by position, of the history that is about to be replayed.
      recorded_up_to: the highest position in that history.
      next_seq: gives the next position.
      emit: notes a command.
    """

    def __init__(
        self,
        recorded: Mapping[int, e.MarkerRecorded],
        recorded_up_to: int,
        *,
        max_payload: int,
        next_seq: Callable[[], int],
        emit: Callable[[e.EventBody], None],
    ) -> None:
        self._recorded = recorded
        self._recorded_up_to = recorded_up_to
        self._max_payload = max_payload
        self._next_seq = next_seq
        self._emit = emit
        self._patches = {marker.name for marker in recorded.values() if marker.kind == "patched"}
        self._decided: dict[str, bool] = {}

    def side_effect(self, name: str, call: Callable[[], Any], annotation: Any) -> Any:
        """Call once; on replay give what was recorded."""
        seq = self._next_seq()
        recorded = self._recorded.get(seq)
        where = f"the result of side_effect {name!r}"
        if recorded is not None and recorded.value is not None:
            kind, value = recorded.kind, recorded.value
        elif seq <= self._recorded_up_to:
            # The history has something else at this position: the replay that is under way finds the difference.
            kind, value = "side_effect", Payload("null")
        else:
            kind, value = self._call_once(call, annotation, where)
        self._emit(e.MarkerRecorded(seq, kind, name, value))
        if kind == SIDE_EFFECT_FAILED:
            raise _error_of_side_effect(name, seq, e.ErrorInfo(**from_json(value)))
        return decode_value(value, annotation, where=where)

    def patched(self, change_id: str, *, is_new: bool) -> bool:
        """Whether the code passes here with a change: the history has its marker, or ends before this point."""
        known = self._decided.get(change_id)
        if known is not None:
            return known
        is_patched = change_id in self._patches or is_new
        self._decided[change_id] = is_patched
        if is_patched:
            self._emit(e.MarkerRecorded(self._next_seq(), "patched", change_id))
        return is_patched

    def _call_once(self, call: Callable[[], Any], annotation: Any, where: str) -> tuple[str, Payload]:
        try:
            return "side_effect", encode_value(call(), annotation, where=where, limit=self._max_payload)
        except Exception as error:  # noqa: BLE001 - user code
            # It is recorded like a result: a replay must take the same way. No class survives that, only its name.
            return SIDE_EFFECT_FAILED, Payload(to_json(error_info(error)).decode())


def _error_of_side_effect(name: str, seq: int, error: e.ErrorInfo) -> Exception:
    if error.type == qualified_name(PayloadError):
        return PayloadError(error.message)
    return StepFailed(name, 1, error.type, error.message, error.traceback, seq=seq)
