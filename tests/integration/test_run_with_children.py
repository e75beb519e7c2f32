"""`dramaturg.run` advances what it started and the children of that, and leaves all else in the file alone."""

from __future__ import annotations

from pathlib import Path

import pytest

import dramaturg
from dramaturg import Client, Settings, child, step, workflow
from dramaturg_protocol.definitions import registry


def test_children_are_advanced_and_others_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path}/runs.db"
    monkeypatch.setenv("DRAMATURG_DATABASE_URL", url)
    with registry.isolated():

        @step
        def add(number: int) -> int:
            return number + 1

        @workflow
        async def lower(number: int) -> int:
            return await add(number)

        @workflow
        async def middle(number: int) -> int:
            return await child(lower, number) + 10

        @workflow
        async def upper(number: int) -> int:
            return await child(middle, number) + 100

        with Client(Settings(database_url=url)) as client:
            other = client.start(upper, 5)
            assert dramaturg.run(upper, 1) == 112
            assert other.describe().status == "PENDING"
            assert {run.workflow for run in client.runs()} == {"upper", "middle", "lower"}
