"""Other coordinators, in memory: the twin of the port `Peers`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence


class MemoryPeers:
    """The port `Peers` in memory.

    Attributes:
      code: the fingerprints of the others that are there.
      reasons: why runs are parked, by their ids.
      deaths: runs that are not to be given their code, with the reason.
    """

    def __init__(self) -> None:
        self.code: list[str] = []
        self.reasons: dict[str, str] = {}
        self.deaths: dict[str, str] = {}
        self._partitions: dict[str, int] = {}

    def other_code(self) -> Sequence[str]:
        """The fingerprints of live coordinators that are not ours."""
        return list(self.code)

    def park(self, partitions: Mapping[str, int], reasons: Mapping[str, str]) -> None:
        """Show runs as parked."""
        self._partitions.update(partitions)
        self.reasons.update(reasons)

    def clear(self, partitions: Collection[int]) -> None:
        """Show no run of these partitions as parked any more."""
        for run_id in [run_id for run_id, number in self._partitions.items() if number in partitions]:
            del self._partitions[run_id], self.reasons[run_id]

    def deadly(self) -> Mapping[str, str]:
        """Runs that are not to be given their code."""
        return dict(self.deaths)
