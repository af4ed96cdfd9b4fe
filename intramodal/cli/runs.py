"""``intramodal runs``."""

from __future__ import annotations

from typing import Any

import click

from intramodal.cli.options import json_option, print_json, runs_option


@click.group("runs")
def command() -> None:
    """Look at what has been run."""


@command.command("list")
@click.option("--kind", help="Only runs of this kind: ingest, fit, backfill, compare, demo.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Runs.")
@runs_option
@json_option
def list_runs(kind: str | None, limit: int, runs_url: str, as_json: bool) -> None:
    """List the latest runs."""
    from intramodal.workflows.runs import list_runs as listed

    rows = listed(runs_url, kind=kind, limit=limit)
    if as_json:
        print_json({"runs": rows})
        return
    from intramodal.cli.output import print_table

    columns = ("run", "kind", "status", "started", "seconds>", "collection")
    print_table(columns, [[_cell(row, column) for column in columns] for row in rows])


@command.command("show")
@click.argument("run")
@runs_option
@json_option
def show_run(run: str, runs_url: str, as_json: bool) -> None:
    """Show one run; RUN is an id or its beginning."""
    from intramodal.workflows.runs import show_run as shown

    result = shown(runs_url, run)
    if as_json:
        print_json(result)
        return
    from intramodal.cli.output import print_table

    print_table(("", ""), [(k, v) for k, v in result.items() if not isinstance(v, list | dict)])
    for part in ("parameters", "packages"):
        print_table((part, ""), list(result[part].items()))
    for part in ("fingerprints", "metrics", "failures"):
        rows = result[part]
        if rows:
            print_table(tuple(rows[0]), [tuple(row.values()) for row in rows], title=part)


def _cell(row: dict[str, Any], column: str) -> object:
    value = row["id" if column == "run" else column.rstrip(">")]
    if isinstance(value, float):
        return f"{value:.1f}"
    return "" if value is None else value
