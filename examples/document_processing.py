"""Documents through a pipeline: read, recognise, extract, store; what cannot be read waits for a person.

python examples/document_processing.py
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path

from dramaturg import FatalError, current_step, engine, step, workflow

FOLDER = Path("inbox")

DOCUMENTS = {
    "a.txt": "INVOICE 2026-031\nTotal: 1,190.00 EUR\nDue 2026-07-01",
    "b.txt": "INVOICE 2026-032\nTotal: 59.90 EUR\nDue 2026-07-15",
    "c.txt": "Dear all, the lift is broken again.",
    "d.txt": "INVOICE 2026-033\nTotal: illegible\nDue 2026-08-01",
}


@dataclass
class Invoice:
    """What is read off an invoice. Dates and decimals survive the way through queue and database."""

    number: str
    total: Decimal
    due: date


# The argument is a path and not the bytes: what is large stays where it is, and histories stay small.
@step(timeout="30s")
def recognise(path: Path) -> list[str]:
    """Text recognition, page by page; slow, so it says how far it is."""
    context = current_step()
    assert context is not None
    lines = path.read_text().splitlines()
    for number, _ in enumerate(lines, start=1):
        time.sleep(0.01)
        context.progress(number, len(lines), "lines")
        # Whoever waits for nothing more from here would stop this step at its next heartbeat.
        context.heartbeat(number)
    return lines


@step
def classify(lines: list[str]) -> str:
    """What kind of document it is."""
    return "invoice" if lines and lines[0].startswith("INVOICE") else "letter"


# What the extractor cannot read, no retry will read: a person settles it, and the run waits as long as it takes.
@step(on_give_up="pause")
def extract(lines: list[str]) -> Invoice:
    """Number, total and due date."""
    text = "\n".join(lines)
    total = re.search(r"Total: ([\d,.]+) EUR", text)
    if total is None:
        raise FatalError("no total can be read")
    return Invoice(lines[0].split()[1], Decimal(total[1].replace(",", "")), date.fromisoformat(text[-10:]))


@step(retries=10)
def book(invoice: Invoice) -> str:
    """Enter it into the books, under the invoice's number so that a repeat changes nothing."""
    return f"{invoice.number}: {invoice.total} due {invoice.due:%d.%m.%Y}"


@step
def file_letter(path: Path) -> str:
    """Put a letter where people look."""
    return f"{path.name}: a letter, filed"


@workflow
async def process(path: Path) -> str:
    """One document."""
    lines = await recognise(path)
    if await classify(lines) != "invoice":
        return await file_letter(path)
    return await book(await extract(lines))


def main() -> None:
    """Four documents arrive; one of them cannot be read."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in DOCUMENTS.items():
        (FOLDER / name).write_text(text)
    paths = sorted(FOLDER.glob("*.txt"))
    with engine() as client:
        handles = client.start_many(process, [(path,) for path in paths], tags={"batch": "morning"})
        for path, handle in zip(paths[:3], handles[:3], strict=True):
            print(f"{path.name} -> {handle.result(timeout='60s')}")
        stuck = handles[3]
        while stuck.describe().status != "PAUSED":
            time.sleep(0.05)
        print(f"d.txt -> {stuck.describe().status}: somebody has to read it")
        (held,) = stuck.describe().open
        stuck.step(held.seq).complete(
            Invoice("2026-033", Decimal("75.00"), date(2026, 8, 1)), by="ada", reason="read by eye"
        )
        print(f"d.txt -> {stuck.result(timeout='60s')}")


if __name__ == "__main__":
    main()
