"""``python -m dramaturg.demo [FOLDER]``: run the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dramaturg import DramaturgError
from dramaturg.demo.durability import DemoFailed
from dramaturg.demo.stages import Demo, default_folder

INTERRUPTED = 130


def main(
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="Whose text files are counted. Default: this checkout; of an installed package, Python's own library.",
            exists=True,
            file_okay=False,
            show_default=False,
        ),
    ] = None,
    files: Annotated[int, typer.Option(min=1, max=2000, help="At most so many files.")] = 150,
    output: Annotated[
        Path, typer.Option("--output", "-o", "--keep", file_okay=False, help="Keeps the reports and the database.")
    ] = Path("demo-report"),
) -> None:
    """Run a real job on real files; then kill it half way, resume it, and prove that no finished step ran twice."""
    console = Console(highlight=False)
    try:
        is_proved = Demo(console, (folder or default_folder()).resolve(), output.resolve(), files).run()
    except (DemoFailed, DramaturgError) as error:
        console.print(f"The demo failed: {error}", style="bold red", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        console.print("\nStopped. No process of the demo is left.")
        raise typer.Exit(INTERRUPTED) from None
    raise typer.Exit(0 if is_proved else 1)


if __name__ == "__main__":
    typer.run(main)
