"""``intramodal compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from intramodal.cli.options import (
    comma_list,
    json_option,
    print_json,
    runs_option,
    store_option,
)


@click.command("compare")
@click.argument("collection")
@click.option(
    "--vectors", default="raw,pca", show_default=True, callback=comma_list, help="Two names: A,B."
)
@click.option(
    "--labels", required=True, callback=comma_list, help="Payload fields, comma-separated."
)
@click.option(
    "--task",
    "tasks",
    default="retrieval,fewshot",
    show_default=True,
    callback=comma_list,
    help="Evidence to gather.",
)
@click.option(
    "--cluster",
    help="What is resampled: class, image, iid, or a payload field; "
    "default: class from 20 classes on, else image.",
)
@click.option("--margin", default=0.005, show_default=True, help="Largest harmless loss, in mAP.")
@click.option(
    "--min-class-size", type=click.IntRange(2), default=2, show_default=True, help="Images."
)
@click.option("--seed", default=0, show_default=True, help="Of the resampling and the episodes.")
@click.option(
    "--controls/--no-controls",
    default=True,
    show_default=True,
    help="Also retrieve with maps of the same size that use no texts; never part of the verdict.",
)
@click.option(
    "--projection",
    type=click.Path(path_type=Path),
    help="The file vector B was made with: adds the controls that need it, and fewer dimensions.",
)
@click.option(
    "-o", "--report", type=click.Path(path_type=Path), help="Also write the report: FILE.html"
)
@click.option(
    "--pictures",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder the payload's paths are relative to, for the report's thumbnails.",
)
@store_option
@runs_option
@json_option
def command(as_json: bool, runs_url: str, **options: Any) -> None:
    """Decide, per label field, whether vector B should replace vector A.

    \b
    intramodal compare photos --vectors raw,pca --labels category,season,color
    """
    if len(options["vectors"]) != 2:
        raise click.UsageError("--vectors takes two names, for example raw,pca")
    from intramodal.workflows.compare import CompareRequest, compare_collection

    result = compare_collection(CompareRequest(runs=runs_url, **options))
    if as_json:
        print_json(result)
        return
    print_verdicts(result)


def print_verdicts(result: dict[str, Any]) -> None:
    """Print one row a field, then one sentence a field."""
    from intramodal.cli.output import note, number, print_table
    from intramodal.evaluation.verdict import SHORT, p_value

    a, b = result["vectors"]
    columns = ("field", f"mAP {a}>", f"mAP {b}>", "delta>", "95% interval>", "p>", "verdict")
    rows = []
    for name, field in result["fields"].items():
        low, high = field["interval"] or (None, None)
        interval = f"[{number(low, sign=True)}, {number(high, sign=True)}]"
        scores = (number(field["map"][a]), number(field["map"][b]))
        delta = number(field["delta"], sign=True)
        p = p_value(field["p_adjusted"])
        rows.append((name, *scores, delta, interval, p, SHORT[field["verdict"]]))
    print_table(columns, rows)
    for name, field in result["fields"].items():
        click.echo(f"{name}: {field['sentence']}")
    note(f"run {result['run_id']}")
