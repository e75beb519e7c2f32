"""Who of several coordinators ought to have how many partitions. Pure: rows in, a decision out.

Everybody who shares is in a list, the oldest first, and the list gives each the same number of partitions, the first few
one more where it does not come out even. Whoever has more gives some back, whoever has fewer takes what is free. All
read the same list, so nobody takes what another one has a right to, and once everybody has its share nothing moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from dramaturg_protocol.records import Lease


@dataclass(frozen=True, slots=True)
class Member:
    """A coordinator that is there.

    Attributes:
      joined_at: when it came; the order of the list.
      takes_all: it shares with nobody.
    """

    owner: str
    joined_at: datetime
    expires_at: datetime
    takes_all: bool = False


@dataclass(frozen=True, slots=True)
class Holding:
    """A partition as it is stored."""

    id: int
    owner: str | None
    epoch: int


@dataclass(frozen=True, slots=True)
class Decision:
    """What a coordinator is to do.

    Attributes:
      lost: partitions of its lease that somebody else has, or had meanwhile.
      wanted: partitions that are free, as many as it may take.
      surplus: partitions that it is to give back.
    """

    lost: tuple[int, ...] = ()
    wanted: tuple[int, ...] = ()
    surplus: tuple[int, ...] = ()


def share_of(owner: str, members: Sequence[Member], count: int) -> int:
    """How many of so many partitions a coordinator ought to have; 0 for one that is not a member."""
    if any(member.takes_all for member in members):
        return 0
    ranked = sorted(members, key=lambda member: (member.joined_at, member.owner))
    rank = next((rank for rank, member in enumerate(ranked) if member.owner == owner), None)
    if rank is None:
        return 0
    each, more = divmod(count, len(ranked))
    return each + (rank < more)


def decide(lease: Lease, holdings: Sequence[Holding], members: Sequence[Member], now: datetime) -> Decision:
    """What a coordinator is to do, as the rows stand.

    A partition that bears its name and is not in its lease is one whose taking or giving back was not answered: it may
    be taken as a free one, or goes back.

    Parameters:
      lease: what the coordinator takes for its own.
      members: all of them, in any order; those that expired do not count.
    """
    mine = {each.id: each.epoch for each in holdings if each.owner == lease.owner}
    lost = [number for number, epoch in lease.epochs.items() if mine.get(number) != epoch]
    live = [member for member in members if member.expires_at > now]
    if lost or not any(member.owner == lease.owner for member in live) or any(member.takes_all for member in live):
        return Decision(lost=tuple(lost))
    share = share_of(lease.owner, live, len(holdings))
    held = sorted(lease.epochs)
    free = [each.id for each in holdings if each.id not in lease.epochs and each.owner in (None, lease.owner)]
    wanted = free[: max(0, share - len(held))]
    strays = [number for number in mine if number not in lease.epochs and number not in wanted]
    return Decision(wanted=tuple(wanted), surplus=(*held[share:], *strays))
