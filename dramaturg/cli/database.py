"""``dramaturg db``: the schema, and what is old."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated

import typer

from dramaturg.cli.arguments import Json, duration_of
from dramaturg.cli.connection import connected, log_to_stderr
from dramaturg.cli.output import print_document, say
from dramaturg.cli.settings_shown import without_password

if TYPE_CHECKING:
    from dramaturg_protocol.config import Settings

OlderThan = Annotated[str, typer.Option(metavar="DURATION", help="Like 30d: runs that closed longer ago than that.")]


def upgrade(json: Json = False) -> None:
    """Make the tables, or bring them up to date. On SQLite every start does so by itself."""
    from dramaturg_store.engines import make_engine
    from dramaturg_store.upgrade import HEAD
    from dramaturg_store.upgrade import upgrade as upgrade_schema

    settings = _settings()
    engine = make_engine(settings.database_url)
    try:
        upgrade_schema(engine, settings.namespace, settings.partitions)
    finally:
        engine.dispose()
    _tell(settings, HEAD, json)


def current(json: Json = False) -> None:
    """Say which schema the database has. Changes nothing."""
    from dramaturg.cli.schema_there import revision_there

    settings = _settings()
    _tell(settings, revision_there(settings.database_url), json)


def prune(older_than: OlderThan, json: Json = False) -> None:
    """Delete closed runs, with their histories, that are older than that."""
    age = duration_of("--older-than", older_than)
    log_to_stderr(logging.WARNING)
    from dramaturg_store.database import Database

    with connected() as client, Database(client.settings.database_url, client.settings.namespace) as database:
        gone = database.prune.closed_runs(age)
        database.prune.leftovers()
    if json:
        print_document({"deleted": gone})
    else:
        say(f"deleted {gone} closed run(s)")


def _settings() -> Settings:
    from dramaturg_protocol.config import load_settings

    log_to_stderr(logging.WARNING)
    return load_settings()


def _tell(settings: Settings, revision: str | None, json: bool) -> None:
    from dramaturg_store.upgrade import HEAD

    if json:
        print_document({"revision": revision, "head": HEAD})
        return
    advice = "" if revision is not None and revision >= HEAD else f"; this code needs {HEAD}: dramaturg db upgrade"
    say(f"{without_password(settings.database_url)}: schema {revision or 'none'}{advice}")
