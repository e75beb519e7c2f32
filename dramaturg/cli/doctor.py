"""``dramaturg doctor``: one look at everything that has to be right."""

from __future__ import annotations

import typer

from dramaturg.cli.arguments import Json
from dramaturg.cli.exits import RUN_FAILED
from dramaturg.cli.output import coloured, print_document, say


def doctor(json: Json = False) -> None:
    """Check settings, database, coordinators, runs and what is left over; say what to do.

    Ends with exit code 1 where something is broken (fail); a warning alone is 0. It changes nothing.
    """
    import logging

    from dramaturg.cli.checks import Level, findings
    from dramaturg.cli.connection import log_to_stderr

    log_to_stderr(logging.ERROR)
    found = list(findings())
    is_well = all(each.level is not Level.FAIL for each in found)
    if json:
        print_document({"ok": is_well, "findings": found})
    else:
        for each in found:
            advice = f"; {each.advice}" if each.advice else ""
            gap = " " * (5 - len(each.level))
            say(f"{coloured(each.level)}{gap}{each.check:<13} {each.text}{advice}")
    if not is_well:
        raise typer.Exit(RUN_FAILED)
