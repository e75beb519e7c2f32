"""The command ``dramaturg``: which commands there are."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from dramaturg.cli import (
    coordinator,
    database,
    dead,
    dev,
    doctor,
    look,
    people,
    replay,
    run,
    schedules,
    start,
    steer,
    stop,
    talk,
    worker,
)
from dramaturg.cli.exits import Commands


def _examples(*lines: str) -> str:
    # The backspace keeps typer from filling the lines that follow it into a paragraph.
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))


_CODES = """\b
Exit codes:
  0    done
  1    the run failed, was cancelled or terminated
  2    usage: arguments, settings, modules
  3    there is no such run or workflow
  4    a service cannot be reached, no coordinator is alive, or no answer came in time
  130  interrupted; the run goes on"""


def new_app() -> typer.Typer:
    """The application with all its commands."""
    app = typer.Typer(
        name="dramaturg",
        cls=Commands,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
        epilog=_CODES,
    )
    app.callback()(_dramaturg)
    _add_running(app)
    _add_looking(app)
    _add_operating(app)
    return app


def _add_running(app: typer.Typer) -> None:
    app.command(
        epilog=_examples(
            """dramaturg run orders:checkout --input '{"order_id": "o1", "cents": 500}'""",
            "dramaturg run orders:checkout --arg order_id=o1 --arg cents=500 --json",
        )
    )(run.run)
    app.command(epilog=_examples("dramaturg dev orders", "dramaturg dev orders billing -t 16"))(dev.dev)
    app.command(epilog=_examples("dramaturg coordinator orders billing"))(coordinator.coordinator)
    app.command(
        epilog=_examples(
            "dramaturg worker orders -p 4 -t 16",
            "dramaturg worker orders -Q gpu -t 1",
            "dramaturg worker orders -X gpu",
        )
    )(worker.worker)
    app.command(
        epilog=_examples(
            """dramaturg start checkout --input '["o1", 500]' --wait""",
            "dramaturg start checkout --input @order.json --id order-1 --on-conflict use_existing",
            "dramaturg start checkout --arg order_id=o1 --delay 2h",
            "dramaturg start checkout --arg order_id=o1 --arg cents=500 --key o1 --tag customer=42",
        )
    )(start.start)


def _add_looking(app: typer.Typer) -> None:
    app.command(epilog=_examples("dramaturg status order-1"))(look.status)
    app.command(
        "list",
        epilog=_examples("dramaturg list --status FAILED --since 1d", "dramaturg list --workflow checkout --json"),
    )(look.list_runs)
    app.command(epilog=_examples("dramaturg events order-1 --follow"))(look.events)
    app.command(epilog=_examples("dramaturg result order-1 --timeout 30s"))(look.result)
    app.command(epilog=_examples('dramaturg cancel order-1 --by ada --reason "ordered twice"'))(stop.cancel)
    app.command(epilog=_examples("dramaturg terminate order-1"))(stop.terminate)
    app.command(
        epilog=_examples(
            """dramaturg signal order-1 add --input '{"item": "pen"}'""",
            "dramaturg signal order-1 check-out --key tap-17",
            "dramaturg signal order-1 remind --delay 3d",
        )
    )(talk.signal)
    app.command(epilog=_examples("dramaturg query order-1 total", "dramaturg query order-1 items --input '[10]'"))(
        talk.query
    )
    app.command(epilog=_examples("""dramaturg update order-1 rename --input '["pen"]' --key tap-17"""))(talk.update)
    _add_answering(app)
    app.command(epilog=_examples('dramaturg pause order-1 --by ada --reason "look first"'))(steer.pause)
    app.command(epilog=_examples("dramaturg resume order-1"))(steer.resume)
    app.command(epilog=_examples("dramaturg retry order-1 --reason 'the bank is open again'"))(steer.retry)
    app.command(epilog=_examples("dramaturg reset order-1 --to-event 7"))(steer.reset)
    app.command(
        epilog=_examples(
            "dramaturg fork order-1 --from-step 3 --by ada",
            """dramaturg fork order-1 --input '{"order_id": "o1", "cents": 400}'""",
        )
    )(steer.fork)
    app.command(
        epilog=_examples(
            "dramaturg step order-1 3 retry",
            "dramaturg step order-1 3 complete --value 1250 --by ada",
            "dramaturg step order-1 3 fail --message 'the card was stolen'",
        )
    )(steer.step)


def _add_answering(app: typer.Typer) -> None:
    app.command(epilog=_examples("dramaturg approvals", "dramaturg approvals --approver ada --json"))(people.approvals)
    app.command(epilog=_examples('dramaturg approve order-1 legal --by ada --comment "checked the contract"'))(
        people.approve
    )
    app.command(epilog=_examples('dramaturg reject order-1 legal --by ada --comment "no contract"'))(people.reject)
    hooks = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Hooks: what runs wait for from outside.")
    hooks.command("resume", epilog=_examples("""dramaturg hook resume WyIw… --input '{"cents": 4200}'"""))(
        people.resume_hook
    )
    app.add_typer(hooks, name="hook")


def _add_operating(app: typer.Typer) -> None:
    db = typer.Typer(
        no_args_is_help=True, rich_markup_mode=None, help="The database: its schema, and what is old in it."
    )
    db.command()(database.upgrade)
    db.command()(database.current)
    db.command(epilog=_examples("dramaturg db prune --older-than 30d"))(database.prune)
    app.add_typer(db, name="db")
    letters = typer.Typer(
        no_args_is_help=True, rich_markup_mode=None, help="Dead letters: what was put aside and waits for a person."
    )
    letters.command("list", epilog=_examples("dramaturg dead list", "dramaturg dead list --kind gave_up --since 1d"))(
        dead.list_letters
    )
    letters.command()(dead.show)
    letters.command(epilog=_examples("dramaturg dead retry 7 --by ada", "dramaturg dead retry --step charge"))(
        dead.retry
    )
    letters.command(epilog=_examples("dramaturg dead drop 7 --reason 'paid in cash'"))(dead.drop)
    app.add_typer(letters, name="dead")
    app.add_typer(_schedule(), name="schedule")
    app.command(
        epilog=_examples(
            "dramaturg replay orders",
            "dramaturg replay orders --run order-1",
            "dramaturg replay orders --file tests/histories/order-1.json",
        )
    )(replay.replay)
    app.command(epilog=_examples("dramaturg export order-1 --output tests/histories/order-1.json"))(replay.export)
    app.command()(doctor.doctor)


def _schedule() -> typer.Typer:
    group = typer.Typer(
        no_args_is_help=True, rich_markup_mode=None, help="Schedules: workflows that start by themselves."
    )
    group.command(
        epilog=_examples(
            "dramaturg schedule create nightly backup --cron '0 2 * * *' --timezone Europe/Berlin",
            """dramaturg schedule create poll check --input '["orders"]' --every 15m --overlap buffer_one""",
            "dramaturg schedule create bill-acme bill --arg customer=acme --calendar months=1 --calendar hour=9",
        )
    )(schedules.create)
    group.command("list", epilog=_examples("dramaturg schedule list --paused"))(schedules.list_schedules)
    group.command(epilog=_examples("dramaturg schedule show nightly"))(schedules.show)
    group.command("next", epilog=_examples("dramaturg schedule next nightly -n 10"))(schedules.next_times)
    group.command(epilog=_examples("dramaturg schedule pause nightly --note 'the disk is full'"))(schedules.pause)
    group.command()(schedules.resume)
    group.command()(schedules.trigger)
    group.command(
        epilog=_examples("dramaturg schedule backfill nightly --start 2030-01-01T00:00 --end 2030-01-07T00:00")
    )(schedules.backfill)
    group.command()(schedules.delete)
    return group


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        from importlib.metadata import version

        typer.echo(f"dramaturg {version('dramaturg')}")
        raise typer.Exit


def _dramaturg(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Durable workflows for Dramatiq.

    'dramaturg run MODULE:WORKFLOW' runs one workflow here and now. 'dramaturg dev MODULE' serves workflows;
    'dramaturg start NAME' in another terminal hands it a run, and status, list, events and result look at it.
    """


app = new_app()


def main() -> None:
    """The entry of the script ``dramaturg`` and of ``python -m dramaturg``."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # a letter that the terminal does not know must not end the program
            reconfigure(errors="backslashreplace")
    app(prog_name="dramaturg")
