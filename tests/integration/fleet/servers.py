"""Servers of a test's own: a program that is missing is a skip at a desk, and an error where ``CI`` is set."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeVar

import pytest

from chaos.servers import Missing, Server

S = TypeVar("S", bound=Server)


@contextmanager
def running(make: Callable[[], S]) -> Generator[S, None, None]:
    """A server for the time of a test."""
    try:
        server = make()
    except Missing as error:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(error))
    server.start()
    try:
        yield server
    finally:
        server.close()
