"""What a coordinator is to tell its own runs in a turn to come."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from dramaturg_coordinator.own_messages import CutOff, Mend, Message, TryAgain
from dramaturg_protocol.records import WorkItem


class Agenda:
    """Messages of the coordinator to itself, for the tenure of one lease."""

    def __init__(self) -> None:
        self._try_again: list[tuple[str, int]] = []
        self._cut_off: list[WorkItem] = []
        self._left: list[WorkItem] = []
        self._to_mend: dict[str, int] = {}

    def __bool__(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self._try_again or self._cut_off or self._to_mend)

    def try_again(self, run_ids: Iterable[str], partition: int) -> None:
        """See whether these blocked runs can go on."""
        self._try_again.extend((run_id, partition) for run_id in run_ids)

    def mend(self, run_id: str, partition: int) -> None:
        """Write a run's rows of open work again: they are gone."""
        self._to_mend[run_id] = partition

    def begin_again(self, items: Iterable[WorkItem]) -> None:
        """Begin local steps again that a coordinator before this one was running."""
        self._cut_off.extend(items)

    def leave(self, messages: Iterable[Message]) -> None:
        """The run of these messages is left to other code: what stands only here is kept until `begin_left`."""
        self._left.extend(message.item for message in messages if isinstance(message, CutOff))

    def begin_left(self) -> None:
        """Nothing is left to other code any more."""
        left, self._left = self._left, []
        self.begin_again(left)

    def take(self, limit: int) -> Iterator[tuple[str, int, Message]]:
        """What a turn tells, with run and partition.

        Parameters:
          limit: the most of each kind.
        """
        cut_off, self._cut_off = self._cut_off[:limit], self._cut_off[limit:]
        again, self._try_again = self._try_again[:limit], self._try_again[limit:]
        to_mend, self._to_mend = self._to_mend, {}
        for item in cut_off:
            yield item.run_id, item.partition, CutOff(item)
        for run_id, partition in again:
            yield run_id, partition, TryAgain()
        for run_id, partition in to_mend.items():
            yield run_id, partition, Mend()

    def not_committed(self, run_id: str, partition: int, messages: Sequence[Message]) -> None:
        """The turn that took these came to nothing; rows that are gone are found again by whoever found them."""
        if any(isinstance(message, TryAgain) for message in messages):
            self._try_again.append((run_id, partition))
        self._cut_off += [message.item for message in messages if isinstance(message, CutOff)]

    def hold(self, gone: Collection[int]) -> None:
        """These partitions belong to somebody else now."""
        self._try_again = [each for each in self._try_again if each[1] not in gone]
        self._to_mend = {run_id: number for run_id, number in self._to_mend.items() if number not in gone}
        self._cut_off = [item for item in self._cut_off if item.partition not in gone]
        self._left = [item for item in self._left if item.partition not in gone]
