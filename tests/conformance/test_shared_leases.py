"""The port `Leases` where several coordinators share the partitions: on servers, and in the twin in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

import pytest
from sqlalchemy import bindparam, select, update

from dramaturg_coordinator.ports import Leases, Store
from dramaturg_protocol.faults import Fenced, Unreachable
from dramaturg_protocol.records import Lease
from dramaturg_store.database import Database
from dramaturg_store.engines import make_engine
from dramaturg_store.memory import MemoryDatabase
from dramaturg_store.schema import members, partitions
from dramaturg_store.table_leases import TableLeases
from dramaturg_store.transactions import Transactions
from dramaturg_store.upgrade import upgrade
from tests.conformance.worlds import EPOCH, HandClock, a_new_run
from tests.services import a_namespace

pytestmark = pytest.mark.conformance

COUNT = 10
LONG = timedelta(hours=1)
LOCK = select(partitions.c.id).where(partitions.c.id.in_(bindparam("ids", expanding=True))).with_for_update()


class Place(Protocol):
    """A namespace of ten partitions, and coordinators that meet there."""

    @property
    def store(self) -> Store: ...
    def leases(self) -> Leases:
        """Those of one more coordinator."""
        ...

    def expire(self, owner: str) -> None:
        """Let a member's time be over."""
        ...


@dataclass
class MemoryPlace:
    clock: HandClock = field(default_factory=HandClock)

    def __post_init__(self) -> None:
        self._first = MemoryDatabase(partitions=COUNT, now=self.clock, lease_time=LONG)
        self.store = self._first.store

    def leases(self) -> Leases:
        return MemoryDatabase(now=self.clock, lease_time=LONG, shared=self._first).leases

    def expire(self, owner: str) -> None:
        # An hour later, all the others have renewed.
        table = self._first.tables.leases.members
        self.clock.pass_by(LONG.total_seconds())
        for name in set(table) - {owner}:
            MemoryDatabase(now=self.clock, lease_time=LONG, shared=self._first).leases.renew(Lease(name, {}))


class ServerPlace:
    def __init__(self, url: str) -> None:
        self.namespace = a_namespace()
        self.url = url
        engine = make_engine(url)
        upgrade(engine, self.namespace, COUNT)
        engine.dispose()
        self.database = Database(url, self.namespace, lease_time=LONG, is_shared=True)
        self.engine = self.database.engine
        self.store = self.database.store

    def leases(self) -> TableLeases:
        return TableLeases(Transactions(self.engine), namespace=self.namespace, lease_time=LONG, is_shared=True)

    def expire(self, owner: str) -> None:
        mine = (members.c.namespace == self.namespace) & (members.c.owner == owner)
        with self.engine.begin() as connection:
            connection.execute(update(members).where(mine).values(expires_at=EPOCH.replace(year=2020)))


@pytest.fixture(params=["memory", "postgresql", "mariadb"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param == "memory":
        yield MemoryPlace()
        return
    made = ServerPlace(request.getfixturevalue(f"{request.param}_url"))
    yield made
    made.database.close()


@pytest.fixture
def server(place: Place) -> ServerPlace:
    if not isinstance(place, ServerPlace):
        pytest.skip("no server")
    return place


@dataclass
class Peer:
    """A coordinator that does what `balance` tells it to, and nothing else."""

    name: str
    leases: Leases
    lease: Lease = field(default_factory=lambda: Lease("", {}))
    moved: int = 0

    def join(self) -> Peer:
        lease = self.leases.acquire(self.name)
        assert lease is not None
        self.lease = lease
        return self

    def balance(self) -> bool:
        """Whether anything moved."""
        balance = self.leases.balance(self.lease)
        self.lease = self.lease.along_with(balance.gained).without(balance.surplus)
        if balance.surplus:
            self.leases.give_up(self.lease, balance.surplus)
        self.moved += len(balance.gained) + len(balance.surplus)
        return bool(balance.gained or balance.surplus)


@pytest.fixture
def join(place: Place) -> Callable[[str], Peer]:
    return lambda name: Peer(name, place.leases()).join()


def settle(*peers: Peer) -> list[int]:
    """Let all balance until nothing moves; how many partitions each has."""
    for _ in range(10):
        moved = [peer.balance() for peer in peers]
        if not any(moved):
            break
    else:
        raise AssertionError("they do not come to rest")
    owned = [number for peer in peers for number in peer.lease.epochs]
    assert len(owned) == len(set(owned)), "a partition has two owners"
    return [len(peer.lease.epochs) for peer in peers]


def test_the_first_one_has_everything_at_once(join: Callable[[str], Peer]) -> None:
    assert len(join("a").lease.epochs) == COUNT


def test_all_have_their_share_and_keep_it(join: Callable[[str], Peer]) -> None:
    a, b = join("a"), join("b")
    assert settle(a, b) == [5, 5]
    c = join("c")
    assert settle(a, b, c) == [4, 3, 3]

    held = [dict(peer.lease.epochs) for peer in (a, b, c)]
    assert settle(c, a, b) == [3, 4, 3]
    assert [dict(peer.lease.epochs) for peer in (a, b, c)] == held
    # No more than the newcomer's share was moved: given up by one, taken by the other.
    assert a.moved + b.moved + c.moved == 2 * (5 + 3)


def test_a_newcomer_gets_nothing_before_it_is_given_up(join: Callable[[str], Peer]) -> None:
    a, b = join("a"), join("b")
    assert b.lease.epochs == {}
    assert not b.balance()

    a.balance()
    assert b.balance()

    assert sorted([*a.lease.epochs, *b.lease.epochs]) == sorted({*a.lease.epochs, *b.lease.epochs})
    assert len(a.lease.epochs) == len(b.lease.epochs) == 5


def test_each_change_of_owner_raises_the_epoch(join: Callable[[str], Peer]) -> None:
    a = join("a")
    before = dict(a.lease.epochs)
    b = join("b")
    settle(a, b)

    assert all(b.lease.epochs[number] == before[number] + 1 for number in b.lease.epochs)
    assert all(a.lease.epochs[number] == before[number] for number in a.lease.epochs)


def test_what_was_given_up_cannot_be_written_to_any_more(join: Callable[[str], Peer], place: Place) -> None:
    a, b = join("a"), join("b")
    before = a.lease
    settle(a, b)
    number, kept = next(iter(b.lease.epochs)), next(iter(a.lease.epochs))

    with pytest.raises(Fenced) as fenced:
        place.store.commit([a_new_run("moved", partition=number)], before, EPOCH)
    assert fenced.value.partitions == {number}
    with pytest.raises(Fenced):
        place.store.commit([a_new_run("moved", partition=number)], a.lease, EPOCH)
    place.store.commit([a_new_run("kept", partition=kept)], before, EPOCH)
    place.store.commit([a_new_run("moved", partition=number)], b.lease, EPOCH)


def test_a_turn_that_touches_a_lost_and_a_kept_partition_names_the_lost_one(
    join: Callable[[str], Peer], place: Place
) -> None:
    a, b = join("a"), join("b")
    before = a.lease
    settle(a, b)
    lost, kept = next(iter(b.lease.epochs)), next(iter(a.lease.epochs))

    with pytest.raises(Fenced) as fenced:
        place.store.commit([a_new_run("1", partition=lost), a_new_run("2", partition=kept)], before, EPOCH)

    assert fenced.value.partitions == {lost}
    assert place.store.load(["1", "2"]) == {}


def test_one_that_leaves_hands_over_at_once(join: Callable[[str], Peer]) -> None:
    a, b, c = join("a"), join("b"), join("c")
    settle(a, b, c)

    a.leases.release(a.lease)

    assert settle(b, c) == [5, 5]


def test_one_that_expired_is_evicted_and_fenced(join: Callable[[str], Peer], place: Place) -> None:
    a, b, c = join("a"), join("b"), join("c")
    settle(a, b, c)
    assert b.leases.evict() == 0

    place.expire("a")
    assert b.leases.evict() == 4

    assert settle(b, c) == [5, 5]
    with pytest.raises(Fenced) as fenced:
        a.leases.renew(a.lease)
    assert fenced.value.partitions == set(a.lease.epochs)
    with pytest.raises(Fenced):
        a.leases.balance(a.lease)
    assert settle(b, c) == [5, 5]
    assert settle(a.join(), b, c) == [3, 4, 3]


def test_one_that_expired_does_not_count_though_nobody_evicted_it(join: Callable[[str], Peer], place: Place) -> None:
    a, b = join("a"), join("b")
    settle(a, b)
    place.expire("a")

    assert not b.balance()
    b.leases.evict()

    assert settle(b) == [10]


def test_one_that_renews_late_and_was_not_missed_goes_on(join: Callable[[str], Peer], place: Place) -> None:
    a, b = join("a"), join("b")
    settle(a, b)
    held = dict(a.lease.epochs)
    place.expire("a")

    a.leases.renew(a.lease)

    assert b.leases.evict() == 0
    assert settle(a, b) == [5, 5]
    assert a.lease.epochs == held


def test_who_comes_back_late_itself_leaves_the_others_time_to_come_back(
    join: Callable[[str], Peer], place: Place
) -> None:
    a, b = join("a"), join("b")
    settle(a, b)
    place.expire("a")
    if isinstance(place, ServerPlace):
        place.expire("b")
    else:
        assert isinstance(place, MemoryPlace)
        place.clock.pass_by(LONG.total_seconds())

    a.leases.renew(a.lease)

    assert a.leases.evict() == 0
    b.leases.renew(b.lease)
    assert settle(a, b) == [5, 5]
    assert a.moved + b.moved == 10, "nothing moved but the first balance"


def test_a_balance_whose_answer_was_lost_is_mended_by_the_next(join: Callable[[str], Peer]) -> None:
    a, b = join("a"), join("b")
    a.balance()
    b.leases.balance(b.lease)  # it has them now, and never hears of it

    assert settle(a, b) == [5, 5]
    a.leases.renew(a.lease)
    b.leases.renew(b.lease)


def test_more_coordinators_than_partitions_stand_by(join: Callable[[str], Peer]) -> None:
    peers = [join(f"{number:02}") for number in range(COUNT + 2)]

    assert sorted(settle(*peers)) == [0, 0] + [1] * COUNT
    idle = next(peer for peer in peers if not peer.lease.epochs)
    idle.leases.renew(idle.lease)


def test_one_that_shares_with_nobody_takes_all_or_nothing(server: ServerPlace) -> None:
    alone = TableLeases(Transactions(server.engine), namespace=server.namespace, lease_time=LONG)
    first = Peer("first", server.leases()).join()
    assert alone.acquire("alone") is None
    first.leases.release(first.lease)

    lease = alone.acquire("alone")
    assert lease is not None
    assert len(lease.epochs) == COUNT
    later = Peer("later", server.leases()).join()

    assert settle(later) == [0]
    alone.renew(lease)
    alone.release(lease)
    assert settle(later) == [COUNT]


def test_a_commit_under_way_holds_up_neither_others_commits_nor_their_balance(server: ServerPlace) -> None:
    a, b = Peer("a", server.leases()).join(), Peer("b", server.leases()).join()
    settle(a, b)

    with server.engine.begin() as commit:
        commit.execute(LOCK, {"ids": list(a.lease.epochs)})
        # Whoever waits for one of these rows is ended after ten seconds.
        server.store.commit([a_new_run("beside", partition=next(iter(b.lease.epochs)))], b.lease, EPOCH)
        b.leases.renew(b.lease)
        a.leases.renew(a.lease)
        c = Peer("c", server.leases()).join()
        assert settle(b, c) == [3, 2]


def test_an_eviction_waits_for_a_commit_under_way_for_a_while(server: ServerPlace) -> None:
    a, b = Peer("a", server.leases()).join(), Peer("b", server.leases()).join()
    settle(a, b)
    server.expire("a")
    impatient = make_engine(server.url)
    is_postgresql = impatient.dialect.name == "postgresql"
    with impatient.begin() as connection:
        connection.exec_driver_sql(
            "SET lock_timeout = '100ms'" if is_postgresql else "SET SESSION innodb_lock_wait_timeout = 1"
        )
    leases = TableLeases(Transactions(impatient), namespace=server.namespace, lease_time=LONG, is_shared=True)

    with server.engine.begin() as commit:
        commit.execute(LOCK, {"ids": list(a.lease.epochs)})
        with pytest.raises(Unreachable):
            leases.evict()

    assert leases.evict() == 5
    assert settle(b) == [10]
    impatient.dispose()


def test_a_clock_that_was_set_back_does_not_keep_a_dead_one_alive(server: ServerPlace) -> None:
    a, b = Peer("a", server.leases()).join(), Peer("b", server.leases()).join()
    settle(a, b)
    mine = members.c.namespace == server.namespace
    with server.engine.begin() as connection:
        far = update(members).where(mine, members.c.owner == "a").values(expires_at=EPOCH.replace(year=2090))
        connection.execute(far)

    b.leases.evict()

    with server.engine.connect() as connection:
        dead, alive = connection.scalars(select(members.c.expires_at).where(mine).order_by(members.c.owner))
    assert abs(dead - alive) < LONG
