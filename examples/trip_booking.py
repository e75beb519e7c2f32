"""A trip: flight, hotel and car at once; where one of them is not to be had, the others are given back.

python examples/trip_booking.py
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from dramaturg import FatalError, StepFailed, WorkflowFailed, compensate, engine, sleep, step, workflow


@dataclass
class Trip:
    """What somebody wants to book."""

    traveller: str
    city: str
    nights: int


@step(retries=10)
def cancel_flight(ticket: str, trip: Trip) -> None:
    """Give the seat back. It gets the result of what it undoes, then that step's arguments."""
    print(f"  {ticket} cancelled for {trip.traveller}")


@step(compensate=cancel_flight)
def book_flight(trip: Trip) -> str:
    """Book a seat."""
    print(f"  flight to {trip.city} booked")
    return f"ticket to {trip.city}"


@step(retries=10)
def cancel_hotel(room: str, trip: Trip) -> None:
    """Give the room back."""
    print(f"  {room} cancelled")


@step(compensate=cancel_hotel)
def book_hotel(trip: Trip) -> str:
    """Book a room."""
    if trip.city == "Atlantis":
        raise FatalError("there is no room in Atlantis")
    print(f"  {trip.nights} nights in {trip.city} booked")
    return f"room in {trip.city}"


@step
def book_car(trip: Trip) -> str:
    """Book a car, where there are cars."""
    if trip.city == "Venice":
        raise FatalError("there are no roads in Venice")
    return f"car in {trip.city}"


@step(retries=10)
def refund(traveller: str, cents: int) -> None:
    """Give the money back."""
    print(f"  {cents} cents back to {traveller}")


@step
def charge(traveller: str, cents: int) -> str:
    """Take the money."""
    print(f"  {cents} cents from {traveller}")
    return f"receipt of {traveller}"


@step
def confirm(trip: Trip) -> str:
    """Ask the airline once more, the day before."""
    if trip.city == "Paris":
        raise FatalError("the airline is on strike")
    return f"{trip.traveller} travels to {trip.city}"


@workflow
async def book_trip(trip: Trip) -> str:
    """Nothing here says what to undo when: each step does that for itself, and what failed was never done."""
    # Where one of the two fails, the other is waited for, and undone if it took place.
    async with asyncio.TaskGroup() as bookings:
        bookings.create_task(book_flight(trip))
        bookings.create_task(book_hotel(trip))
    try:
        await book_car(trip)
    except StepFailed as failure:
        # A failure that the code handles undoes nothing.
        print(f"  without a car: {failure.message}")
    await charge(trip.traveller, 90_000)
    # A compensation with arguments of its own, from here on.
    compensate(refund, trip.traveller, 90_000)
    await sleep("100ms")  # "30d" works as well
    return await confirm(trip)


def main() -> None:
    """A trip that works, one without a room, one without a car, one that ends a day before it begins."""
    with engine() as client:
        for city in ("Rome", "Atlantis", "Venice", "Paris"):
            print(city)
            try:
                print(f"  {client.start(book_trip, Trip('Ada', city, 3)).result(timeout='60s')}")
            except WorkflowFailed as failure:
                print(f"  failed: {str(failure).splitlines()[0]}")


if __name__ == "__main__":
    main()
