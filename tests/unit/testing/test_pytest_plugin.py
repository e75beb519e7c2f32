"""The pytest plugin, as a project of its own uses it."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[3]

TESTS = """
import pytest
from dramaturg import AsyncClient, sleep, step, workflow


@step
def charge(order: str) -> str:
    raise AssertionError("the real one ran")


@workflow
async def buy(order: str) -> str:
    await sleep("1d")
    return await charge(order)


def test_in_a_def(workflow_env):
    mock = workflow_env.mock(charge, return_value="receipt")
    assert workflow_env.run(buy, "o-1") == "receipt"
    mock.assert_called_once_with("o-1")


@pytest.mark.anyio
async def test_in_an_async_def(workflow_env):
    workflow_env.mock(charge, return_value="receipt")
    handle = await AsyncClient().start(buy, "o-1")
    assert await handle == "receipt"
    assert workflow_env.run(buy, "o-2") == "receipt"


@pytest.mark.workflow_env(replay_every_turn=True, auto_advance=False)
class TestWithOptions:
    @pytest.mark.workflow_env(auto_advance=True)
    def test_the_nearest_marker_decides(self, workflow_env):
        assert workflow_env._auto_advance and workflow_env._rules.replay_every_turn


@pytest.fixture
def anyio_backend():
    return "asyncio"
"""


def test_the_fixture_works_in_both_kinds_of_tests(tmp_path: Path) -> None:
    (tmp_path / "test_shop.py").write_text(TESTS)
    # The entry point itself is under test where the wheel is (tests/packaging).
    plugins = ["-p", "anyio.pytest_plugin", "-p", "dramaturg.pytest_plugin"]
    command = [sys.executable, "-m", "pytest", "-q", *plugins, "--strict-markers", "-W", "error"]
    environ = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}

    result = subprocess.run(
        command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=100, check=False
    )

    assert result.returncode == 0, result.stdout + result.stderr
    assert "3 passed" in result.stdout


def test_the_plugin_is_an_entry_point_that_imports_no_engine() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    script = "import sys, dramaturg.pytest_plugin; print([name for name in sys.modules if 'dramaturg_' in name])"

    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=True)

    assert project["entry-points"]["pytest11"] == {"dramaturg": "dramaturg.pytest_plugin"}
    assert printed.stdout.strip() == "[]"
