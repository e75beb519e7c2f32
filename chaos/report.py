"""What a chaos run found: a table for people, JSON for programs, and the histories of runs whose books do not balance."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table

from chaos.books import Finding, runs_in

_SHOWN = 5
_MOST_HISTORIES = 50


def show(findings: Sequence[Finding], figures: Mapping[str, Any], console: Console) -> None:
    """Print it."""
    table = Table(title="the books", title_justify="left")
    table.add_column("what must hold")
    table.add_column("against it", justify="right")
    for finding in findings:
        count = len(finding.discrepancies)
        table.add_row(finding.holds, f"[red]{count}[/]" if count else "[green]0[/]")
    console.print(table)
    for finding in findings:
        for line in finding.discrepancies[:_SHOWN]:
            console.print(f"[red]{finding.holds}:[/] {line}", highlight=False, markup=True)
        if len(finding.discrepancies) > _SHOWN:
            console.print(f"  … and {len(finding.discrepancies) - _SHOWN} more")
    for name, figure in figures.items():
        console.print(f"{name}: {_text(figure)}", highlight=False, markup=False)


def save(folder: Path, content: Mapping[str, Any], findings: Sequence[Finding], dsn: str) -> None:
    """Write the report, and of runs that it names the histories, what their steps did, and what is open of them."""
    (folder / "report.json").write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")
    named = sorted(runs_in(line for finding in findings for line in finding.discrepancies))[:_MOST_HISTORIES]
    if not named:
        return
    (folder / "histories").mkdir(exist_ok=True)
    with psycopg.connect(dsn) as connection:
        for run_id in named:
            rows = connection.execute(
                "SELECT number, type, time, pg_xact_commit_timestamp(xmin), data FROM dramaturg_events"
                " WHERE run_id = %s ORDER BY number",
                [run_id],
            ).fetchall()
            done = connection.execute(
                "SELECT to_timestamp(at), what, seq, attempt, pid FROM chaos.ledger WHERE run_id = %s ORDER BY at",
                [run_id],
            ).fetchall()
            work = connection.execute(
                "SELECT 'open work', * FROM dramaturg_open_work WHERE run_id = %s ORDER BY seq", [run_id]
            ).fetchall()
            asked = connection.execute(
                "SELECT 'inbox', * FROM dramaturg_inbox WHERE run_id = %s ORDER BY arrival", [run_id]
            ).fetchall()
            lines = ["\n".join("\t".join(map(str, row)) for row in part) for part in (rows, done, work, asked)]
            (folder / "histories" / f"{run_id}.txt").write_text("\n\n".join(lines) + "\n", encoding="utf-8")


def _text(figure: Any) -> str:
    if isinstance(figure, Mapping):
        return ", ".join(f"{name} {value}" for name, value in figure.items()) or "none"  # pyright: ignore[reportUnknownVariableType]
    return f"{figure:,}" if isinstance(figure, int) else str(figure)
