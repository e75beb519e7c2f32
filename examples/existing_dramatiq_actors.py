"""An application that has Dramatiq actors already: they become steps as they are, and go on as actors beside it.

python examples/existing_dramatiq_actors.py
"""

from __future__ import annotations

import asyncio

import dramatiq
from dramatiq.brokers.stub import StubBroker

from dramaturg import StepFailed, current_step, run, step, workflow

# ---- The application as it was: its broker, its actors, its code that sends messages. ----

broker = StubBroker()
dramatiq.set_broker(broker)

MAILED: list[str] = []


class NoSuchCustomerError(Exception):
    """Nobody has this id."""


@dramatiq.actor(max_retries=3, min_backoff=20, max_backoff=100, throws=(NoSuchCustomerError,))
def find_address(customer: int) -> str:
    """Retries, back-off and what is never retried are said the way of Dramatiq."""
    if customer == 404:
        raise NoSuchCustomerError(f"nobody has id {customer}")
    context = current_step()
    if context is not None and context.attempt == 1:
        raise ConnectionError("the address book is away")
    return f"customer{customer}@example.com"


@dramatiq.actor(queue_name="mails", priority=10)
def send_mail(address: str, text: str) -> None:
    """Send a mail."""
    MAILED.append(f"{address}: {text}")


# ---- What is new: the actors are steps too, and a workflow brings them together. ----

address_of = step(find_address)
mail = step(send_mail)


@workflow
async def invite(customers: list[int]) -> list[str]:
    """Durable around actors that know nothing of it."""

    async def one(customer: int) -> str:
        try:
            address = await address_of(customer)
        except StepFailed as failure:
            return f"{customer}: {failure.error_type.rpartition('.')[2]} after {failure.attempts} attempt(s)"
        await mail(address, "you are invited")
        return f"{customer}: invited"

    return await asyncio.gather(*map(one, customers))


def main() -> None:
    """The workflow, then a plain message to the same actor."""
    for line in run(invite, [1, 2, 404]):
        print(line)
    print(f"{len(MAILED)} mails by the workflow")

    # Messages to the actors go their old way, through the application's own broker and worker. In a fleet
    # `dramaturg worker` serves both kinds: DRAMATURG_BROKER=myapp:broker.
    send_mail.send("ada@example.com", "a plain message")
    worker = dramatiq.Worker(broker, worker_timeout=100)
    worker.start()
    broker.join("mails")
    worker.stop()
    print(MAILED[-1])


if __name__ == "__main__":
    main()
