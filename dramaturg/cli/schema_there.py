"""The schema of a database, looked at without making or changing anything."""

from __future__ import annotations

from pathlib import Path


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite URL; ``None`` for another database, and for one that is private to a process."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except ArgumentError:  # whoever opens it says so in clear words
        return None
    is_file = parsed.get_backend_name() == "sqlite" and parsed.database not in (None, "", ":memory:")
    return Path(str(parsed.database)) if is_file else None


def revision_there(url: str) -> str | None:
    """The schema's revision; ``None`` where there are no tables, or not even a file.

    Raises:
      ConfigurationError: the URL is wrong, or the file cannot be used.
      Unreachable: the database does not answer.
    """
    from dramaturg_store.engines import make_engine
    from dramaturg_store.upgrade import current

    file = sqlite_file(url)
    if file is not None and not file.exists():
        return None
    engine = make_engine(url)
    try:
        return current(engine)
    finally:
        engine.dispose()
