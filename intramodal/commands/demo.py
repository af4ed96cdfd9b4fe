"""``intramodal demo``."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

from intramodal.commands.options import json_option, print_json


@click.command("demo")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("intramodal-demo"),
    show_default=True,
    help="Folder for the store, the runs database and the report.",
)
@click.option("--store", help="Another store; default OUT/store, whatever is configured.")
@click.option("--runs", help="Another runs database; default OUT/runs.db, whatever is configured.")
@json_option
@click.pass_context
def command(
    ctx: click.Context, out: Path, store: str | None, runs: str | None, as_json: bool
) -> None:
    """Run the main job on shipped pictures, offline: ingest, project, compare, report.

    The pictures are emoji drawn by four vendors; the model is small and shipped, too. What they
    are, and are not, is said in the report.
    """
    from intramodal.workflows.demo import run_demo

    result = run_demo(out, store=_typed(ctx, "store"), runs=_typed(ctx, "runs"))
    if as_json:
        print_json(result)
        return
    from intramodal.commands.compare import print_verdicts
    from intramodal.commands.printing import note

    counts = f"{result['n_images']:,} pictures, {result['n_failed']} failed"
    click.echo(f"{counts}, {result['seconds']:.0f} s")
    print_verdicts(result)
    click.echo(result["about"])
    click.echo(f"report: {result['report']}")
    for line in result["next"]:
        note(f"next: {line}")


def _typed(ctx: click.Context, name: str) -> str | None:
    """Return an option that somebody typed: emoji belong into no store that is configured."""
    is_typed = ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    return ctx.params[name] if is_typed else None
