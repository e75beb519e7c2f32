from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from dramaturg_protocol.fingerprints import fingerprint_of, fingerprint_of_modules

SCRIPT = """
from dramaturg_protocol.fingerprints import fingerprint_of
def chosen(name):
    return name in {"a", "b", "c", "d", "e", "f"}
print(fingerprint_of(chosen))
"""


def test_a_set_of_constants_has_the_same_fingerprint_in_every_process() -> None:
    seen = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            check=True,
            capture_output=True,
        ).stdout
        for seed in "12345"
    }

    assert len(seen) == 1


def test_a_comment_is_no_change_of_a_function_and_a_constant_is_one() -> None:
    def first() -> int:
        return 1

    def second() -> int:
        # The same.
        return 1

    def third() -> int:
        return 2

    assert fingerprint_of(first) == fingerprint_of(second) != fingerprint_of(third)


def test_what_a_function_calls_in_its_package_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "shop_of_fingerprints"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "flows.py").write_text("from shop_of_fingerprints import prices\ndef flow(): return prices.price()\n")
    (package / "prices.py").write_text("def price(): return 1\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    flows = importlib.import_module("shop_of_fingerprints.flows")
    before = fingerprint_of_modules([flows.flow])

    assert fingerprint_of_modules([flows.flow]) == before
    (package / "prices.py").write_text("def price(): return 2\n")
    assert fingerprint_of_modules([flows.flow]) != before
