"""requirements.lock belongs to this pyproject.toml, and to every machine.

Without this a new dependency would be missing from `make install` until somebody thinks of `make lock`.
"""

from __future__ import annotations

import itertools
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements.lock").read_text()
PINS = {
    canonicalize_name(match["name"]): match["version"]
    for match in re.finditer(r"^(?P<name>[\w.-]+)(\[.*\])?==(?P<version>[^ ]+)", LOCK, re.MULTILINE)
}
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
WANTED: list[str] = sorted({*PROJECT["dependencies"], *itertools.chain(*EXTRAS.values())})


@pytest.mark.parametrize("wanted", WANTED)
def test_lock_pins_what_the_project_wants(wanted: str) -> None:
    requirement = Requirement(wanted)
    if requirement.name == PROJECT["name"]:
        assert requirement.extras <= EXTRAS.keys()
    else:
        assert requirement.specifier.contains(PINS[canonicalize_name(requirement.name)])


def test_every_pin_bears_a_hash() -> None:
    _, *entries = re.split(r"\n(?=\w)", LOCK)

    assert len(entries) == len(PINS)
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []


def test_lock_names_no_index_and_no_path() -> None:
    assert "://" not in LOCK
    assert "--index" not in LOCK
    assert "--find-links" not in LOCK
