"""Who ought to have how many partitions."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dramaturg_protocol.records import Lease
from dramaturg_store.shares import Decision, Holding, Member, decide, share_of
from tests.conformance.worlds import EPOCH

LATER = EPOCH + timedelta(seconds=15)


def members(*names: str) -> list[Member]:
    """The first came first."""
    return [Member(name, EPOCH + timedelta(seconds=number), LATER) for number, name in enumerate(names)]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64, 65])
def test_shares_add_up_and_differ_by_one_at_most(count: int) -> None:
    for size in range(1, 12):
        there = members(*(f"{number}" for number in range(size)))

        shares = [share_of(member.owner, there, count) for member in there]

        assert sum(shares) == count
        assert max(shares) - min(shares) <= 1
        assert shares == sorted(shares, reverse=True), "who came last takes nothing that it need not"


def test_the_order_of_the_rows_decides_nothing() -> None:
    there = members("a", "b", "c")

    assert [share_of(name, there[::-1], 10) for name in "abc"] == [share_of(name, there, 10) for name in "abc"]


def test_who_is_not_there_has_no_share_and_neither_has_anybody_beside_one_who_takes_all() -> None:
    alone = Member("z", EPOCH, LATER, takes_all=True)

    assert share_of("z", members("a"), 10) == 0
    assert share_of("a", [*members("a"), alone], 10) == 0


def test_a_coordinator_whose_own_lease_is_over_neither_takes_nor_gives() -> None:
    holdings = [Holding(1, "a", 1), Holding(2, None, 1)]

    assert decide(Lease("a", {1: 1}), holdings, members("a"), LATER) == Decision()


def test_a_partition_with_another_epoch_is_lost_though_the_name_is_ours() -> None:
    assert decide(Lease("a", {1: 1}), [Holding(1, "a", 2)], members("a"), EPOCH).lost == (1,)


def test_a_partition_that_bears_our_name_unknown_to_us_is_taken_or_given_back() -> None:
    holdings = [Holding(number, "a", 1) for number in (1, 2, 3, 4)]

    alone = decide(Lease("a", {1: 1}), holdings, members("a"), EPOCH)
    beside = decide(Lease("a", {1: 1}), holdings, members("a", "b"), EPOCH)

    assert alone == Decision(wanted=(2, 3, 4))
    assert beside == Decision(wanted=(2,), surplus=(3, 4))
