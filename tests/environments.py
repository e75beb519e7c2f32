"""What users install: the wheel, in an environment that holds nothing else. Made once for all tests of a run.

The dependencies come from the index unpinned, as users get them: the ranges in pyproject.toml are under test too.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def wheel_of(factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    with _shared(factory, "wheel") as (folder, is_new):
        if is_new:
            run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    return next(folder.glob("*.whl"))


def environment_of(factory: pytest.TempPathFactory, extras: str = "") -> Path:
    """An environment of what ``pip install .`` gives, or ``pip install '.[postgres]'``. Nobody changes it."""
    wheel = wheel_of(factory)
    # Without brackets: Dramatiq looks for its scripts by a pattern that begins with their path.
    with _shared(factory, f"environment-{extras.strip('[]')}") as (folder, is_new):
        if is_new:
            run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
            install(folder / "venv", f"{wheel}{extras}")
    return folder / "venv"


def install(environment: Path, *arguments: str | Path) -> None:
    """``pip install`` into an environment, which has no pip of its own."""
    pip(environment, "install", "--quiet", *arguments)


def pip(environment: Path, *arguments: str | Path) -> None:
    """Our pip, over another environment."""
    python = environment / "bin/python"
    run(sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", *arguments, cwd=environment)


def run(*command: str | Path, cwd: Path) -> str:
    """What a command prints; it has to end well."""
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@contextmanager
def _shared(factory: pytest.TempPathFactory, name: str) -> Generator[tuple[Path, bool], None, None]:
    """A folder that all workers have, and whether it is to be filled: the first one does, the others wait."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = folder / "made"
        yield folder, not made.exists()
        made.touch()
