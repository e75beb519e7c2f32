"""What the coordinator needs from the outside, each with its contract.

Each port has a real implementation, an in-memory twin, and one conformance suite that both pass
(``tests/conformance``). Whatever a port may raise stands here; everything else that comes out of one is a bug.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from dramaturg_protocol.limits import Slot
from dramaturg_protocol.messages import Request, StepReport, StepTask
from dramaturg_protocol.records import (
    Balance,
    DeadLetter,
    KeptResult,
    Lease,
    RunWrites,
    StoredRun,
    Unreadable,
    WorkItem,
    WorkKind,
)
from dramaturg_protocol.schedule_records import Fired, Found


class Clock(Protocol):
    """The one clock of a turn."""

    def now(self) -> datetime:
        """Aware, UTC; never goes back."""
        ...


class Store(Protocol):
    """The only truth. All methods raise `Unreachable` when the database does not answer."""

    def commit(self, writes: Sequence[RunWrites], lease: Lease, now: datetime) -> None:
        """Write a turn in one transaction, all or nothing.

        The first statement checks (and locks) the lease's epochs. Writing the same turn twice is refused by the
        numbers of its events.

        Raises:
          Fenced: some partitions have another owner; nothing was written.
          Refused: the database refuses a row; nothing was written.
        """
        ...

    def load(self, run_ids: Collection[str]) -> Mapping[str, StoredRun | Unreadable]:
        """The runs with their histories; an unknown id is absent, a damaged run is an `Unreadable`."""
        ...

    def due_work(self, partitions: Collection[int], until: datetime, limit: int) -> Sequence[WorkItem]:
        """Open work whose due time is at most `until`, earliest first."""
        ...

    def sent_work(self, partitions: Collection[int], kind: WorkKind = WorkKind.STEP) -> Iterator[WorkItem]:
        """Steps whose message was published and not yet settled; with `WorkKind.LOCAL` those of the coordinator itself."""
        ...

    def runs_with_status(self, partitions: Collection[int], status: str) -> Sequence[str]:
        """Ids of the runs with this status, oldest first."""
        ...

    def idle_runs(self, partition: int, limit: int) -> Sequence[str]:
        """Ids of runs that say they run or wait, and have neither open work nor a request: there should be none."""
        ...

    def orphans(self, partition: int, limit: int) -> Sequence[str]:
        """Ids of runs that wait for a child which is closed, and have no request: there should be none."""
        ...

    def claim_id(self, workflow_id: str, run_id: str) -> str | None:
        """Give a workflow id to a run that is to begin, or to go on, in a transaction of its own.

        It may be asked again. Gives the open run that has the id, where that is another one; nothing is changed then.
        """
        ...

    def holders(self, workflow_ids: Collection[str]) -> Mapping[str, str]:
        """The newest run of each of these workflow ids that somebody chose; others are absent."""
        ...

    def kept_results(self, keys: Collection[str]) -> Mapping[str, KeptResult]:
        """Results of steps that a later call with the same arguments may have; others are absent."""
        ...

    def slots(self, partitions: Collection[int], now: datetime) -> Sequence[Slot]:
        """What counts for the limits of these partitions, or waits for them, in order of arrival."""
        ...

    def leaked_slots(self, partition: int, limit: int) -> Sequence[Slot]:
        """Rows of a partition's limits whose execution is over: there should be none."""
        ...

    def forgotten_waiters(self, partition: int, limit: int) -> Sequence[str]:
        """Ids of runs with a row that waits for a limit, of which no limit knows that it waits.

        A grant or a request that is on its way may be the reason; one that lasts should not be there.
        """
        ...

    def forget_spent(self, partitions: Collection[int], before: datetime) -> None:
        """What was spent of a rate, and counted until then, goes."""
        ...

    def put_aside(self, letters: Sequence[DeadLetter]) -> None:
        """Keep what could not be processed, in a transaction of its own."""
        ...


class Inbox(Protocol):
    """Requests of clients, durable before a coordinator sees them. `Store.commit` deletes what it recorded."""

    def take(
        self, partitions: Collection[int], limit: int, skip: Collection[int] = (), *, starts: bool = True
    ) -> Sequence[Request]:
        """Requests that are there, in order of arrival, but for the arrivals in `skip`, and for starts if those wait.

        Taken by existence, never by a high-water mark: a lower arrival may become visible later. A row that cannot
        be read comes back as a request whose body is the raw text; its reader puts it aside.

        Raises:
          Unreachable: the database does not answer.
        """
        ...

    def put(self, requests: Sequence[Request]) -> None:
        """Keep requests, all or none; one whose message id is there already counts once.

        Raises:
          Unreachable: the database does not answer.
        """
        ...


class Peers(Protocol):
    """The other coordinators of a namespace. All methods raise `Unreachable` when the database does not answer."""

    def other_code(self) -> Sequence[str]:
        """The fingerprints of live coordinators whose code is not ours, the newest last."""
        ...

    def park(self, partitions: Mapping[str, int], reasons: Mapping[str, str]) -> None:
        """Let people see runs as parked: by run id, its partition and why."""
        ...

    def clear(self, partitions: Collection[int]) -> None:
        """No run of these partitions is parked any more."""
        ...

    def deadly(self) -> Mapping[str, str]:
        """Runs in which processes with our code died too often, each with what happened, in words."""
        ...


class Leases(Protocol):
    """Who may advance the runs of a partition. All methods raise `Unreachable` when the database does not answer.

    A partition has one owner, and its epoch grows whenever it gets one. Several coordinators share the partitions
    evenly where the implementation allows that; elsewhere one has all of them, and nothing is ever gained or given up.
    """

    @property
    def lease_time(self) -> timedelta | None:
        """How long a lease lasts after a renewal; ``None`` where it lasts as long as its process."""
        ...

    def acquire(self, owner: str) -> Lease | None:
        """Join, and take one's share of what is free, raising epochs; ``None`` while somebody who does not share is there.

        What others have a right to give back comes later, by `balance`.
        """
        ...

    def renew(self, lease: Lease) -> datetime:
        """Go on holding it; the database's time.

        Raises:
          Fenced: somebody took partitions over; the others, if any are left, are renewed.
        """
        ...

    def balance(self, lease: Lease) -> Balance:
        """Take what is free of one's share, raising epochs; say what is to be given up. Waits for nobody.

        Parameters:
          lease: what the coordinator holds for its own. Partitions that bear its name besides are taken anew or given up.

        Raises:
          Fenced: somebody took partitions over; nothing was changed.
        """
        ...

    def give_up(self, lease: Lease, partitions: Collection[int]) -> None:
        """Give some of the partitions back at once; those that are not its own are left alone."""
        ...

    def evict(self) -> int:
        """Free the partitions of those whose lease is over; how many. May wait for a commit of theirs."""
        ...

    def release(self, lease: Lease) -> None:
        """Leave, and give everything back at once."""
        ...


class Publisher(Protocol):
    """Steps on their way to workers. Publishing the same message twice is harmless.

    Attributes:
      can_lose: whether the broker may lose messages while this process lives, so that it is to be looked after.
    """

    @property
    def can_lose(self) -> bool: ...

    def prepare(self, work: Sequence[WorkItem], lease: Lease) -> None:
        """Hear what is about to be committed and will be published then, with what was committed and is still unsent.

        For a broker that cannot be asked afterwards what it has.

        Raises:
          Unreachable: the broker does not answer; the commit has to wait.
        """
        ...

    def publish(self, work: Sequence[WorkItem], lease: Lease) -> None:
        """Send each item's message to the queue that it names.

        With no work it only tells the broker, if that can be told, the epochs of a lease that begins: from then on those
        with lower ones are refused.

        Raises:
          Fenced: somebody with a higher epoch has published for a partition.
          Unreachable: the broker does not answer; some may have been sent.
        """
        ...

    def missing(self, work: Sequence[WorkItem], lease: Lease) -> Sequence[WorkItem]:
        """Those whose message the broker does not have: neither waiting nor with a worker.

        Parameters:
          work: all that is open in the partitions of the lease.

        None as long as a worker may have them of which the broker, emptied a moment ago, does not know.

        Raises:
          Unreachable: the broker does not answer.
        """
        ...

    def is_emptied(self) -> bool:
        """Whether the broker lost everything since this was asked last; asked first, whether a moment ago."""
        ...


class Reports(Protocol):
    """What workers say of their attempts; at-least-once, in any order."""

    def wait(self, timeout: timedelta) -> None:
        """Return as soon as there is a report, or somebody calls `wake`, or the time is over."""
        ...

    def wake(self) -> None:
        """End a wait, from any thread: there is something in the inbox."""
        ...

    def take_wake(self) -> bool:
        """Whether somebody called `wake` since this was asked last."""
        ...

    def take(self, limit: int) -> Sequence[StepReport | DeadLetter]:
        """Reports that were not acknowledged yet, oldest first; one that cannot be read is a dead letter."""
        ...

    def acknowledge(self, count: int) -> None:
        """Forget the oldest `count` reports: they are committed. What is not forgotten at once may come again.

        Raises, or `wait` and `take` after it:
          Fenced: somebody with a higher epoch reads those of a partition; they were left alone.
          Unreachable: the broker does not answer; they may come again.
        """
        ...

    def mark(self) -> Mapping[str, str]:
        """How far the reports reach now."""
        ...

    def is_past(self, mark: Mapping[str, str]) -> bool:
        """Whether everything up to a mark was taken and acknowledged."""
        ...

    def attend(self, epochs: Mapping[int, int]) -> None:
        """Give the reports of these partitions from now on: of new ones all that are there, of others none any more."""
        ...

    def look_for_loss(self) -> None:
        """Begin again at the start where what is kept ends before the place that was read last."""
        ...

    def close(self) -> None:
        """Let go of what was taken and not acknowledged: the next owner finds it."""
        ...


class Schedules(Protocol):
    """What begins runs by itself. All methods raise `Unreachable` when the database does not answer."""

    def next_due(self, numbers: Collection[int], limit: int) -> Sequence[tuple[str, datetime]]:
        """The schedules of these partitions that are due next, with the moment, in this order."""
        ...

    def waiting(self, numbers: Collection[int]) -> Mapping[str, Sequence[str]]:
        """The schedules of these partitions of which firings wait, each with the runs that it waits for."""
        ...

    def open_among(self, run_ids: Collection[str]) -> Collection[str]:
        """Those of these runs that are open, or whose start still waits."""
        ...

    def fire(self, ids: Collection[str], lease: Lease, decide: Callable[[Found], Fired]) -> Sequence[Fired]:
        """Lock schedules, decide about each as it is then, and write what follows, all or nothing.

        Raises:
          Fenced: a partition has another owner; nothing was written.
          Refused: the database refuses what was decided about one of them; nothing was written.
        """
        ...

    def partition_of(self, workflow_id: str) -> int:
        """The partition of a workflow id."""
        ...

    def workflow_names(self) -> Collection[str]:
        """The workflows that the coordinators there have registered."""
        ...


class Postponed(Protocol):
    """What is sent to runs later. All methods raise `Unreachable` when the database does not answer."""

    def next_due(self, numbers: Collection[int], until: datetime) -> datetime | None:
        """When the next one for these partitions is due, if that is not after a moment."""
        ...

    def deliver(self, lease: Lease, now: datetime, limit: int) -> int:
        """Put what is due into the inbox, or keep it where its run is closed; how many were dealt with.

        Raises:
          Fenced: a partition has another owner; nothing was written.
        """
        ...

    def take_up(self, numbers: Collection[int], run_ids: Collection[str] | None = None) -> None:
        """What was kept since its run was closed is due at once where the run goes on again.

        Parameters:
          run_ids: of these runs, which go on; by default of all in these partitions.
        """
        ...


class LocalExecutor(Protocol):
    """The coordinator's own threads, which run local steps."""

    def begin(self, task: StepTask, report: Callable[[StepReport], None]) -> Callable[[], None]:
        """Run an attempt as soon as there is room, in order but fair between runs.

        Parameters:
          report: hears of the pick-up of an attempt whose time is limited, and of its end, once each; from any thread,
            and perhaps before this returns. An executor that is stopping may leave out both.

        Returns:
          What ends the attempt, whatever it does at the moment, when nobody waits for its outcome any more.
        """
        ...
