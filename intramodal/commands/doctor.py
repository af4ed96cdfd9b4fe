"""``intramodal doctor``."""

from __future__ import annotations

import click

from intramodal.commands.options import json_option, print_json, runs_option, store_option

_COLORS = {"ok": "green", "warning": "yellow", "problem": "red"}


@click.command("doctor")
@click.option(
    "--repair",
    is_flag=True,
    help="Repair an embedded store: set a log that cannot be read aside, and delete folders of no "
    "collection that hold no points.",
)
@store_option
@runs_option
@json_option
@click.pass_context
def command(ctx: click.Context, repair: bool, store: str, runs_url: str, as_json: bool) -> None:
    """Check what the commands need: Python, torch, numba, store, runs, model cache, disk.

    Each line is ok, a warning or a problem, with the remedy; the exit code is 1 if there is a
    problem. Every collection is opened, which completes a change that a kill has interrupted.
    Nothing else is created or changed, unless --repair is given.
    """
    from intramodal.workflows.doctor import examine

    result = examine(store, runs_url, repair=repair)
    if as_json:
        print_json(result)
    else:
        from intramodal.commands.printing import printable

        for row in result["checks"]:
            state = click.style(f"{row['state']:<8}", fg=_COLORS[row["state"]])
            click.echo(f"{state} {row['name']:<7} {printable(row['detail'], limit=400)}")
            if row["remedy"]:
                click.echo(f"{'':<16} -> {printable(row['remedy'], limit=400)}")
    if result["state"] == "problem":
        ctx.exit(1)
