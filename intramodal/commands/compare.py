"""``intramodal compare``."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from intramodal.commands.options import (
    LIST,
    comma_list,
    json_option,
    max_queries_option,
    model_options,
    print_json,
    runs_option,
    sample_option,
    store_option,
)

_ONLY_LABELLED = ("cluster", "projection", "beside", "sample", "max_queries")
_ONLY_UNLABELLED = ("names", "model")


@click.command("compare")
@click.argument("collection")
@click.option(
    "--vectors",
    default="raw,pca",
    show_default=True,
    type=LIST,
    callback=comma_list,
    help="Two names: A,B.",
)
@click.option(
    "--labels",
    type=LIST,
    callback=comma_list,
    help="Payload fields, comma-separated. Without: how far the vectors agree; no verdict.",
)
@click.option(
    "--task",
    "tasks",
    default="retrieval,fewshot",
    show_default=True,
    type=LIST,
    callback=comma_list,
    help="Evidence to gather.",
)
@click.option(
    "--cluster",
    help="What is resampled: class, image, iid, or a payload field; "
    "default: class from 20 classes on, else image.",
)
@click.option(
    "--margin",
    default=0.005,
    show_default=True,
    help="Largest harmless loss of mAP or accuracy, a fraction.",
)
@click.option(
    "--min-class-size", type=click.IntRange(2), default=2, show_default=True, help="Images."
)
@sample_option
@max_queries_option
@click.option(
    "--seed",
    default=0,
    show_default=True,
    help="Of the resampling, the episodes and what is drawn.",
)
@click.option(
    "--controls/--no-controls",
    default=True,
    show_default=True,
    help="Also retrieve with maps of the same size that use no texts; never part of the verdict.",
)
@click.option(
    "--beside",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Another projection file (centred, IsoCLIP, other anchors), applied to vector A and "
    "retrieved with, too; never part of the verdict. Repeatable.",
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
@click.option(
    "--names",
    help="Without labels: class names for zero-shot pseudo-labels; imagenet, wordnet or a file.",
)
@click.option("--model", help="Encodes the names; default: the model that made vector A.")
@click.option(
    "--text-vectors",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Ready text embeddings, not projected: of the names' prompts instead of a model; with "
    "labels they add images against texts to the report and, if they are what --projection was "
    "fitted to, the dimensions that it drops to the sweep.",
)
@click.option(
    "-k",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    help="Without labels: neighbours compared.",
)
@model_options
@store_option
@runs_option
@json_option
def command(as_json: bool, **options: Any) -> None:
    """Decide, per label field, whether vector B should replace vector A.

    Without labels there is no verdict; then see how many neighbours the vectors share, and the
    pictures on which they disagree.

    \b
    intramodal compare photos --vectors raw,pca --labels category,season,color
    intramodal compare photos --names imagenet -o page.html --pictures ~/photos
    """
    if len(options["vectors"]) != 2:
        raise click.UsageError("--vectors takes two names, for example raw,pca")
    options["runs"] = options.pop("runs_url")
    result = _labelled(options) if options["labels"] else _unlabelled(options)
    if as_json:
        print_json(result)
    elif options["labels"]:
        print_verdicts(result)
    else:
        _print_agreement(result)


def _labelled(options: dict[str, Any]) -> dict[str, Any]:
    from intramodal.workflows.compare import CompareRequest, compare_collection

    _refuse(options, _ONLY_UNLABELLED, "without --labels only")
    return compare_collection(_request(CompareRequest, options))


def _unlabelled(options: dict[str, Any]) -> dict[str, Any]:
    from intramodal.workflows.unlabelled import UnlabelledRequest, compare_unlabelled

    _refuse(options, _ONLY_LABELLED, "with --labels only")
    return compare_unlabelled(_request(UnlabelledRequest, options))


def _refuse(options: dict[str, Any], names: tuple[str, ...], when: str) -> None:
    for name in names:
        if options[name] not in (None, ()):
            raise click.UsageError(f"--{name.replace('_', '-')} has a meaning {when}")


def _request(kind: Any, options: dict[str, Any]) -> Any:
    return kind(**{f.name: options[f.name] for f in fields(kind) if f.name in options})


def _print_agreement(result: dict[str, Any]) -> None:
    from intramodal.commands.printing import note, print_table

    a, b = result["vectors"]
    rows = [
        (str(row["id"]), f"{row['overlap']:.0%}") for row in result["agreement"]["disagreements"]
    ]
    print_table((f"{a} and {b} disagree most on", "in common>"), rows)
    for sentence in result["sentences"]:
        click.echo(sentence)
    _print_costs(result["cost"])
    note(f"run {result['run_id']}")


def print_verdicts(result: dict[str, Any]) -> None:
    """Print one row a field, then one sentence a field."""
    from intramodal.commands.printing import note, number, print_table
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
    _print_costs(result["cost"])
    note(f"run {result['run_id']}")


def _print_costs(costs: dict[str, Any]) -> None:
    """Print one row a vector, and one for the search in two stages."""
    from intramodal.commands.printing import number, print_table

    columns = ("vector", "bytes>", "RAM MB>", "in int8>", "ms p50>", "p95>", "recall@10>")
    rows = [
        (
            name,
            f"{cost['bytes_per_vector']:,}",
            *(f"{cost[key] / 1e6:,.1f}" for key in ("ram_bytes", "ram_bytes_int8")),
            *(number(cost[key], 2) for key in ("latency_ms_p50", "latency_ms_p95")),
            number(cost["recall_at_10"], 3),
        )
        for name, cost in costs.items()
    ]
    print_table(columns, rows)
