"""Which seeds the simulation tries: a sample by default, more where the command line or CI asks for them."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

#: Seeds of one test, so that several processes share the work.
CHUNK = 50

#: Programs that every run of all tests tries; CI tries thousands besides.
SAMPLE = 400


def seeds_asked_for() -> Sequence[int]:
    """``SIMULATION_SEEDS``: some, by commas; else ``SIMULATION_PROGRAMS`` of them from ``SIMULATION_START`` on."""
    named = os.environ.get("SIMULATION_SEEDS", "")
    if named:
        return [int(seed) for seed in named.split(",")]
    start = int(os.environ.get("SIMULATION_START") or 0)
    return range(start, start + int(os.environ.get("SIMULATION_PROGRAMS") or SAMPLE))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test some of the seeds."""
    if "seeds" in metafunc.fixturenames:
        seeds = seeds_asked_for()
        chunks = [seeds[index : index + CHUNK] for index in range(0, len(seeds), CHUNK)]
        metafunc.parametrize("seeds", chunks, ids=[f"{chunk[0]}-{chunk[-1]}" for chunk in chunks])
