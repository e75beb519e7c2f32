"""What a process is at work on, noted in memory that outlives it: its supervisor reads it when the process hangs or is gone.

The run whose code is run has a place of its own, each local step that is under way another.

A note costs less than a microsecond, so that it can be made before every piece of workflow code. The size is written
last when a note begins and first when it ends: who reads in between sees no run, not a half.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from typing import Final

#: Local steps that can be noted at once; any beyond are not. It is more than run at once.
PLACES: Final = 160

_HEAD: Final = struct.Struct("=QH")
_LENGTH: Final = struct.Struct("=H")
_RUN_SIZE: Final = 256
_PLACE_SIZE: Final = 64

#: Bytes of the shared memory.
SIZE: Final = _RUN_SIZE + PLACES * _PLACE_SIZE

_LONGEST: Final = _RUN_SIZE - _HEAD.size


@dataclass(frozen=True, slots=True)
class Noted:
    """What a note says.

    Attributes:
      serial: counts the notes, so that two looks can tell whether it is still the same piece of work.
      run_id: whose code runs; empty where none does.
    """

    serial: int
    run_id: str


class RunNote:
    """The note of one process.

    Parameters:
      memory: shared with the supervisor, at least `SIZE` bytes.
    """

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        self._serial = 0
        self._free = list(range(PLACES))

    def begin(self, run_id: str) -> None:
        """The code of this run is run from now on."""
        text = run_id.encode()[:_LONGEST]
        self._serial += 1
        self._memory[_HEAD.size : _HEAD.size + len(text)] = text
        _HEAD.pack_into(self._memory, 0, self._serial, len(text))

    def end(self) -> None:
        """No code of a run is run."""
        _HEAD.pack_into(self._memory, 0, self._serial, 0)

    def begin_local(self, run_id: str) -> int | None:
        """A local step of this run is under way; the place of the note, for `end_local`. From any thread."""
        try:
            place = self._free.pop()
        except IndexError:
            return None
        text = run_id.encode()[: _PLACE_SIZE - _LENGTH.size]
        start = _start_of(place)
        self._memory[start + _LENGTH.size : start + _LENGTH.size + len(text)] = text
        _LENGTH.pack_into(self._memory, start, len(text))
        return place

    def end_local(self, place: int | None) -> None:
        """It has ended. From any thread."""
        if place is not None:
            _LENGTH.pack_into(self._memory, _start_of(place), 0)
            self._free.append(place)

    def clear(self) -> None:
        """Nothing is under way."""
        self.end()
        for place in range(PLACES):
            _LENGTH.pack_into(self._memory, _start_of(place), 0)

    def read_local(self) -> list[str]:
        """The runs whose local steps are under way, each once."""
        runs: dict[str, None] = {}
        for place in range(PLACES):
            start = _start_of(place)
            (size,) = _LENGTH.unpack_from(self._memory, start)
            if size:
                text = self._memory[start + _LENGTH.size : start + _LENGTH.size + size]
                runs[text.decode(errors="replace")] = None
        return list(runs)

    def read(self) -> Noted:
        """Whose code it runs now."""
        serial, size = _HEAD.unpack_from(self._memory, 0)
        return Noted(serial, self._memory[_HEAD.size : _HEAD.size + size].decode(errors="replace"))


def _start_of(place: int) -> int:
    return _RUN_SIZE + place * _PLACE_SIZE
