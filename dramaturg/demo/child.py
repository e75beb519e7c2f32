"""``python -m dramaturg.demo.child ID FOLDER OUTPUT LIMIT``: the process that is killed, and the one that goes on."""

from __future__ import annotations

import sys
from pathlib import Path

import dramaturg
from dramaturg.demo.textstats import textstats


def main(run_id: str, folder: str, output: str, limit: str) -> None:
    """Start the run, or take up the one of that id where it stopped: it is the same line."""
    dramaturg.run(textstats.options(id=run_id), Path(folder), Path(output), int(limit))


if __name__ == "__main__":
    main(*sys.argv[1:])
