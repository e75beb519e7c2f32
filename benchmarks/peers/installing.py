"""Environments for peers, apart from ours: made once, kept in `.peers/`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.peers.systems import System

ROOT = Path(__file__).parents[2] / ".peers"
_SECONDS = 300


class NotInstalled(Exception):
    """A peer cannot be had on this machine; the message is the last that the installer said."""


def install(system: System) -> Path:
    """Have a peer's environment; its Python.

    Raises:
      NotInstalled: a package cannot be had.
    """
    place = ROOT / system.environment
    python = place / "bin" / "python"
    if not (place / "installed").exists():
        shutil.rmtree(place, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(place)])
        _run([str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *system.packages])
        if system.npm:
            if shutil.which("npm") is None:
                raise NotInstalled("npm is not installed")
            _run(["npm", "install", "--silent", "--prefix", str(place), *system.npm])
        (place / "installed").touch()
    return python


def versions(system: System) -> dict[str, str]:
    """What is installed of a system's own packages."""
    place = ROOT / system.environment
    names = [package.partition("[")[0] for package in system.packages]
    code = f"import importlib.metadata as m, json; print(json.dumps({{n: m.version(n) for n in {names!r}}}))"
    output = subprocess.run([place / "bin" / "python", "-c", code], check=True, capture_output=True).stdout
    found: dict[str, str] = json.loads(output)
    for package in system.npm:
        found[package] = json.loads((place / "node_modules" / package / "package.json").read_text())["version"]
    return found


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"{command[0]} took more than {_SECONDS} s") from None
    if done.returncode:
        said = [line for line in (done.stdout + done.stderr).splitlines() if "Error" in line or "ERROR" in line]
        raise NotInstalled(said[-1].strip(" ╰─>") if said else f"{command[0]} ended with {done.returncode}")
