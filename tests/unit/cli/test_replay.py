"""``dramaturg export`` and ``dramaturg replay``: histories as files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

OLD = """
from dramaturg import sleep, step, workflow

@step
def pack(item: str) -> str:
    return item

@workflow
async def send(item: str) -> str:
    return await pack(item)

@workflow
async def keep(item: str) -> None:
    await sleep("30d")
"""
NEW = OLD.replace("return await pack(item)", 'return await pack(item) + await pack("ribbon")')


def dramaturg(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dramaturg", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)


def test_an_exported_run_is_replayed_against_changed_code(folder: Path) -> None:
    (folder / "shop.py").write_text(OLD)
    assert dramaturg(folder, "run", "shop:send", "--arg", "item=lamp", "--id", "o-1").returncode == 0
    exported = dramaturg(folder, "export", "o-1", "--output", "o-1.json")
    assert exported.returncode == 0, exported.stderr
    document = json.loads((folder / "o-1.json").read_text())
    assert (document["workflow"], document["status"], document["events"][0]["type"]) == (
        "send",
        "COMPLETED",
        "run.started",
    )
    assert json.loads(dramaturg(folder, "export", "o-1").stdout) == document

    fits = dramaturg(folder, "replay", "shop", "--file", "o-1.json")
    (folder / "shop.py").write_text(NEW)
    changed = dramaturg(folder, "replay", "shop", "--file", "o-1.json", "--run", "o-1")
    as_json = dramaturg(folder, "replay", "shop", "--file", "o-1.json", "--json")

    assert (fits.returncode, fits.stdout) == (0, "1 run(s) replayed, 0 would be BLOCKED\n")
    assert changed.returncode == 1
    assert f"run {document['run_id']} of send, version 1" in changed.stdout
    assert f"{folder / 'shop.py'}:10" in changed.stdout
    assert "event 4, at" in changed.stdout
    assert changed.stdout.endswith("2 run(s) replayed, 2 would be BLOCKED\n")
    assert json.loads(as_json.stdout)["unfit"][0]["problem"]["event"] == 4


def test_what_is_no_history_is_a_matter_of_usage(folder: Path) -> None:
    (folder / "shop.py").write_text(OLD)
    (folder / "wrong.json").write_text("{}")

    wrong = dramaturg(folder, "replay", "shop", "--file", "wrong.json")
    missing = dramaturg(folder, "replay", "shop", "--file", "missing.json")
    unknown = dramaturg(folder, "export", "nobody")

    assert (wrong.returncode, missing.returncode, unknown.returncode) == (2, 2, 3)
    assert "wrong.json: this is no history that was exported" in wrong.stderr
    assert "missing.json" in missing.stderr
