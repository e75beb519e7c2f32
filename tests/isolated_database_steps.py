"""A step in a process of its own that writes to a database, and whose process dies when that is committed."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, NullPool, create_engine, event, text

from dramaturg import current_step, step

URL, MARK = "DRAMATURG_TEST_ONCE_URL", "DRAMATURG_TEST_ONCE_MARK"


@lru_cache
def books() -> Engine:
    engine = create_engine(os.environ[URL])

    @event.listens_for(engine, "checkin")
    def die_once(*_: Any) -> None:
        look = create_engine(os.environ[URL], poolclass=NullPool)
        with look.connect() as connection:
            is_committed = connection.execute(text("SELECT count(*) FROM once_books")).scalar_one()
        mark = Path(os.environ[MARK])
        if is_committed and not mark.exists():
            mark.touch()
            os._exit(9)

    return engine


@step(isolation="process", exactly_once=books)
def book_and_die(amount: int) -> int:
    about = current_step()
    assert about is not None
    about.connection.execute(text("INSERT INTO once_books (amount) VALUES (:amount)"), {"amount": amount})
    return amount * 2
