"""What one test finds registered: what its own module defines, and what tests share, but nothing of other modules."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from dramaturg_protocol.definitions import registry


@contextmanager
def registry_of(module: str) -> Generator[None, None, None]:
    """Forget what other modules of tests have registered, and at the end of the block what was registered in it."""
    with registry.isolated():
        registry.steps = {name: each for name, each in registry.steps.items() if not _is_of_another(each.fn, module)}
        registry.workflows = {
            name: left
            for name, versions in registry.workflows.items()
            if (left := {number: each for number, each in versions.items() if not _is_of_another(each.fn, module)})
        }
        registry.listeners = {
            event: [each for each in known if each.step in registry.steps]
            for event, known in registry.listeners.items()
        }
        registry.lifespans = [each for each in registry.lifespans if not _is_of_another(each, module)]
        yield


def _is_of_another(function: Any, module: str) -> bool:
    where = str(getattr(function, "__module__", ""))
    return where.startswith("tests.") and ".test_" in where and where != module
