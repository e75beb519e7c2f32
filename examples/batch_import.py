"""An import of many rows, some of them bad: how far it is can be seen, and bad rows are reported instead of stopping it.

python examples/batch_import.py [ROWS]
"""

from __future__ import annotations

import sys
import time

from dramaturg import FatalError, Handle, StepFailed, engine, fan_out, step, workflow


@step(retries=2)
def import_row(row: dict[str, str], table: str) -> str:
    """Write one row. A row that can never be right is not tried again."""
    if not row["email"].count("@") == 1:
        raise FatalError(f"{row['email']!r} is no address")
    return f"{table}/{row['id']}"


@step
def report(bad: list[str]) -> str:
    """Tell whoever sent the file."""
    return f"{len(bad)} row(s) were left out: {'; '.join(bad[:3])}" if bad else "all rows are in"


@workflow
async def import_file(rows: list[dict[str, str]], table: str) -> str:
    """Import all rows that can be, fifty at a time; fail where less than nine of ten can."""
    least = len(rows) * 9 // 10
    # A failure stands in the place of its result. More than a thousand rows are spread over child runs.
    given = await fan_out(import_row, rows, table, concurrency=50, min_success=least)
    return await report([each.message for each in given if isinstance(each, StepFailed)])


def watch(handle: Handle[str]) -> None:
    """Show how far it is, until it is done."""
    last = ""
    while True:
        about = handle.describe()
        far = about.progress
        if far.get("total"):
            line = f"{far['done'] + far['failed']} of {far['total']}, {far['failed']} bad"
            if line != last:
                print(f"\r  {line}", end="", flush=True)
            last = line
        if about.closed_at is not None:
            print()
            return
        time.sleep(0.2)


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1500
    rows = [{"id": str(number), "email": f"user{number}@example.com"} for number in range(count)]
    rows[7]["email"] = "nobody"
    rows[count // 2]["email"] = "a@b@c"
    with engine() as client:
        handle = client.start(import_file, rows, "customers")
        watch(handle)
        print(handle.result())
