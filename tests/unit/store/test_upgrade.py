"""The schema: made once by however many, compared with what the code says, refused where it does not fit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, inspect, text

from dramaturg_protocol.errors import ConfigurationError
from dramaturg_store.database import Database
from dramaturg_store.engines import make_engine
from dramaturg_store.schema import VERSION_TABLE, metadata
from dramaturg_store.upgrade import HEAD, check, current, upgrade

PROGRAM = "import sys; from dramaturg_store.database import Database; Database(sys.argv[1]).close()"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = make_engine(f"sqlite:///{tmp_path}/x.db")
    yield made
    made.dispose()


def schema_of(engine: Engine) -> dict[str, str]:
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE name LIKE '%dramaturg%'"))
        return {name: " ".join(sorted((sql or "").replace(",", " ").split())) for name, sql in rows}


def test_the_migrations_make_what_the_metadata_says(engine: Engine) -> None:
    upgrade(engine, "dramatiq")

    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_the_migrations_make_every_check_and_clause_too(engine: Engine) -> None:
    """Alembic compares no CHECKs, no partial indexes and nothing that only SQLite has."""
    upgrade(engine, "dramatiq")
    direct = make_engine("sqlite://")
    metadata.create_all(direct)

    migrated = schema_of(engine)
    del migrated[VERSION_TABLE]
    migrated = {name: sql for name, sql in migrated.items() if VERSION_TABLE not in name}
    assert migrated == schema_of(direct)
    direct.dispose()


def test_every_table_bears_our_name(engine: Engine) -> None:
    upgrade(engine, "dramatiq")

    names = inspect(engine).get_table_names()

    assert len(names) == len(metadata.tables) + 1
    assert all(name.startswith("dramaturg_") for name in names)


def test_an_upgrade_twice_changes_nothing(engine: Engine) -> None:
    upgrade(engine, "dramatiq")
    upgrade(engine, "dramatiq", partitions=7)

    with Database(str(engine.url)) as database:
        assert len(database.partitions) == 1


def test_namespaces_have_partitions_and_secrets_of_their_own(engine: Engine) -> None:
    upgrade(engine, "dramatiq")
    upgrade(engine, "other", partitions=3)

    with Database(str(engine.url)) as one, Database(str(engine.url), "other") as two:
        assert len(two.partitions) == 3
        assert not set(one.partitions) & set(two.partitions)
        assert one.secret != two.secret


def test_an_empty_database_is_told_to_upgrade(engine: Engine) -> None:
    assert current(engine) is None

    with pytest.raises(ConfigurationError, match=r"no tables yet.*dramaturg db upgrade"):
        check(engine)
    with pytest.raises(ConfigurationError, match="dramaturg db upgrade"):
        Database(str(engine.url), upgrade_first=False)


def test_a_namespace_that_is_not_there_is_told_to_upgrade(engine: Engine) -> None:
    upgrade(engine, "dramatiq")

    with pytest.raises(ConfigurationError, match=r"no namespace 'other'.*dramaturg db upgrade"):
        Database(str(engine.url), "other", upgrade_first=False)


def test_the_schema_of_this_code_is_fine(engine: Engine) -> None:
    upgrade(engine, "dramatiq")

    check(engine)

    assert current(engine) == HEAD


@pytest.mark.parametrize("oldest", [None, "9998"])
def test_a_newer_schema_that_this_code_does_not_know_is_refused(engine: Engine, oldest: str | None) -> None:
    upgrade(engine, "dramatiq")
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
        connection.execute(text("DELETE FROM dramaturg_settings WHERE name = 'oldest_code'"))
        if oldest:
            connection.execute(text("INSERT INTO dramaturg_settings VALUES ('oldest_code', :code)"), {"code": oldest})

    with pytest.raises(ConfigurationError, match="newer version of dramaturg"):
        check(engine)
    with pytest.raises(ConfigurationError, match="newer version of dramaturg"):
        upgrade(engine, "dramatiq")


def test_a_newer_schema_that_only_added_is_fine(engine: Engine) -> None:
    upgrade(engine, "dramatiq")
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '0002'"))

    check(engine)
    upgrade(engine, "dramatiq")

    assert current(engine) == "0002"


def test_tables_of_others_stay_untouched(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num TEXT)"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('theirs')"))

    upgrade(engine, "dramatiq")

    with engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all() == ["theirs"]


def test_processes_that_upgrade_at_the_same_moment_all_find_it_done(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new/x.db"
    processes = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, url], stderr=subprocess.PIPE, text=True) for _ in range(6)
    ]

    ends = [(process.communicate()[1], process.returncode) for process in processes]

    assert ends == [("", 0)] * 6
    with Database(url) as database:
        assert len(database.partitions) == 1
