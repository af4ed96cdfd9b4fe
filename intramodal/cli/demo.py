"""``intramodal demo``."""

from __future__ import annotations

from pathlib import Path

import click

from intramodal.cli.options import json_option, print_json


@click.command("demo")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("intramodal-demo"),
    show_default=True,
    help="Folder for the store, the runs database and the report.",
)
@json_option
def command(out: Path, as_json: bool) -> None:
    """Run the main job on shipped pictures, offline: ingest, project, compare, report.

    The pictures are emoji drawn by four vendors; the model is small and shipped, too. What they
    are, and are not, is said in the report.
    """
    from intramodal.workflows.demo import run_demo

    result = run_demo(out)
    if as_json:
        print_json(result)
        return
    from intramodal.cli.compare import print_verdicts

    counts = f"{result['n_images']:,} pictures, {result['n_failed']} failed"
    click.echo(f"{counts}, {result['seconds']:.0f} s")
    print_verdicts(result)
    click.echo(result["about"])
    click.echo(f"report: {result['report']}")
