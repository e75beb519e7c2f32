"""What a coordinator knows of that does not get on, for people: none of it mends itself by waiting."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Troubles:
    """How many there are in the partitions that are held.

    Attributes:
      stuck_runs: open runs that nothing will bring on, as the audit found them.
      parked_runs: runs that wait for a coordinator with other code.
      unreported_steps: steps that were sent again and again without a word from any worker.
      leaked_slots: places of limits that were lost, and taken back since this coordinator began.
    """

    stuck_runs: int = 0
    parked_runs: int = 0
    unreported_steps: int = 0
    leaked_slots: int = 0
