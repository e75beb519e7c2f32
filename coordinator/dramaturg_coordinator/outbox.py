"""What goes out after a commit: messages of steps, local steps that had to wait for it; and what may have to."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from dramaturg_coordinator.advance import Advance
from dramaturg_coordinator.local_steps import LocalSteps
from dramaturg_coordinator.ports import Publisher, Store
from dramaturg_protocol.faults import Fault
from dramaturg_protocol.messages import StepTask
from dramaturg_protocol.records import Lease, WorkItem, WorkKind


class Outbox:
    """Sends what was committed.

    Attributes:
      needs_sweep: it is not known which messages of a publish were sent; whoever sweeps takes this back.
    """

    def __init__(self, store: Store, publisher: Publisher, local: LocalSteps, lease: Lease) -> None:
        self._store = store
        self._publisher = publisher
        self._local = local
        self._lease = lease
        self._unsent: list[WorkItem] = []
        self._doubtful: dict[tuple[object, ...], WorkItem] = {}
        self._doubtful_local: dict[tuple[object, ...], StepTask] = {}
        self.needs_sweep = False

    def hold(self, lease: Lease, gone: Collection[int]) -> None:
        """Send for these partitions from now on; what is of those that are gone, their next owner finds as open work."""
        self._lease = lease
        self._unsent = [item for item in self._unsent if item.partition not in gone]
        self._doubtful = {mark: item for mark, item in self._doubtful.items() if item.partition not in gone}
        self._doubtful_local = {mark: task for mark, task in self._doubtful_local.items() if task.partition not in gone}

    def prepare(self, advances: Iterable[Advance]) -> None:
        """Let the broker know what is about to be committed and sent.

        Raises:
          Unreachable: it does not answer; the commit has to wait.
        """
        publishes = [item for advance in advances for item in advance.publishes]
        if publishes:
            self._publisher.prepare([*self._unsent, *publishes], self._lease)

    def doubt(self, advances: Iterable[Advance]) -> None:
        """It is not known whether this was committed."""
        for advance in advances:
            self._doubtful.update(((item.key, item.attempt), item) for item in advance.publishes)
            self._doubtful_local.update(((task.key, task.attempt), task) for task in advance.begins)

    def committed(self, advance: Advance) -> None:
        """This was committed: it goes out with the next `send`, local steps begin at once."""
        self._unsent.extend(advance.publishes)
        for task in advance.begins:
            self._local.begin(task)

    def resolve_doubts(self, partitions: Collection[int]) -> None:
        """After a commit whose outcome was not known: what it wrote goes out.

        Raises:
          Unreachable: the database does not answer.
        """
        if self._doubtful:
            written = {(item.key, item.attempt) for item in self._store.sent_work(partitions)}
            self._unsent.extend(item for mark, item in self._doubtful.items() if mark in written)
            self._doubtful.clear()
        if self._doubtful_local:
            written = {(item.key, item.attempt) for item in self._store.sent_work(partitions, WorkKind.LOCAL)}
            begins = [task for mark, task in self._doubtful_local.items() if mark in written]
            self._doubtful_local.clear()
            for task in begins:
                self._local.begin(task)

    def send(self) -> None:
        """Send the messages of what was committed.

        Raises:
          Fenced: a partition has another owner.
          Unreachable: the broker does not answer.
        """
        if not self._unsent:
            return
        sent, self._unsent = self._unsent, []
        try:
            self._publisher.publish(sent, self._lease)
        except Fault:
            if self._publisher.can_lose:
                self.needs_sweep = True
            else:
                # Kept until the broker has taken them.
                self._unsent = sent
            raise
