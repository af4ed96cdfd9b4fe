"""``intramodal report``."""

from __future__ import annotations

from pathlib import Path

import click

from intramodal.cli.options import json_option, print_json, runs_option


@click.command("report")
@click.argument("run", required=False)
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="One self-contained file.",
)
@runs_option
@json_option
def command(run: str | None, out: Path, runs_url: str, as_json: bool) -> None:
    """Write the report of a comparison; RUN is an id or its beginning, the latest by default."""
    from intramodal.workflows.report import write_report

    result = write_report(run, out=out, runs=runs_url)
    if as_json:
        print_json(result)
        return
    click.echo(f"{result['report']} ({result['bytes'] / 1e6:.1f} MB), run {result['run_id']}")
