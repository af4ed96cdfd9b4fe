"""``intramodal report``."""

from __future__ import annotations

from pathlib import Path

import click

from intramodal.commands.options import json_option, print_json, runs_option


@click.command("report")
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="One self-contained file.",
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["html", "md", "latex"]),
    help="The page, or its tables as Markdown or LaTeX; default: the suffix of --out.",
)
@runs_option
@json_option
def command(
    runs: tuple[str, ...], out: Path, file_format: str | None, runs_url: str, as_json: bool
) -> None:
    """Write the report of comparisons; RUN is an id or its beginning, the latest by default.

    \b
    intramodal report -o report.html
    intramodal report 20261124-1809 -o tables.md
    """
    from intramodal.workflows.report import write_report

    result = write_report(runs, out=out, url=runs_url, file_format=file_format)
    if as_json:
        print_json(result)
        return
    ids = ", ".join(result["run_ids"])
    click.echo(f"{result['report']} ({result['bytes'] / 1e6:.1f} MB), run {ids}")
