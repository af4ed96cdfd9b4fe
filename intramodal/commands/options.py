"""Options that several commands share, each defined once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_STORE = "./.intramodal/store"
DEFAULT_RUNS = "./.intramodal/runs.db"
LIST = click.UNPROCESSED
"""Type of what `comma_list` splits: click's STRING would print a list of a TOML file as text."""
JSON_ASKED = "intramodal.json"
"""Key of the context's meta: whether errors too are printed as JSON."""


def store_option(command: F) -> F:
    """Add ``--store``."""
    return click.option(
        "--store",
        default=DEFAULT_STORE,
        show_default=True,
        envvar="INTRAMODAL_STORE",
        help="A directory (embedded), :memory:, or http(s)://host:port; "
        "a server's key is read from QDRANT_API_KEY.",
    )(command)


def runs_option(command: F) -> F:
    """Add ``--runs``."""
    return click.option(
        "--runs",
        "runs_url",
        default=DEFAULT_RUNS,
        show_default=True,
        envvar="INTRAMODAL_RUNS",
        help="Runs database: a file (SQLite) or a SQLAlchemy URL.",
    )(command)


def json_option(command: F) -> F:
    """Add ``--json``."""
    return click.option(
        "--json",
        "as_json",
        is_flag=True,
        callback=_remember_json,
        is_eager=True,  # before the options whose errors must be printed as JSON
        help="Print one JSON object instead of a table.",
    )(command)


def _remember_json(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    ctx.meta[JSON_ASKED] = value
    return value


def model_options(command: F) -> F:
    """Add ``--device`` and ``--precision``."""
    command = click.option(
        "--precision",
        type=click.Choice(["fp32", "bf16"]),
        default=None,
        help="Arithmetic of the encoder; default fp32 on CPU, bf16 autocast on CUDA.",
    )(command)
    return click.option(
        "--device", default=None, help="cpu, cuda, cuda:1 ...; default CUDA where there is one."
    )(command)


def upload_options(command: F) -> F:
    """Add ``--upload-streams`` and ``--node``."""
    command = click.option(
        "--node",
        "nodes",
        multiple=True,
        metavar="URL",
        help="Another node of the cluster at --store, asked whether it knows a new vector; "
        "repeatable.",
    )(command)
    return click.option(
        "--upload-streams",
        type=click.IntRange(1, 64),
        help="Requests that write to a server at once; default one a shard, at most 4.",
    )(command)


def comma_list(ctx: click.Context, param: click.Parameter, value: Any) -> list[str]:
    """Split ``a,b,c``; TOML lists pass as they are."""
    if value is None:
        return []
    items: Iterable[str] = value.split(",") if isinstance(value, str) else value
    return [item.strip() for item in items if item.strip()]


def names(ctx: click.Context, param: click.Parameter, value: Any) -> list[str]:
    """Split ``a,b,c`` into different names, at least one."""
    found = list(dict.fromkeys(comma_list(ctx, param, value)))
    if not found:
        raise click.BadParameter("takes at least one name")
    return found


def whole_numbers(ctx: click.Context, param: click.Parameter, value: Any) -> list[int]:
    """Split ``1,2,4`` into whole numbers from 1; TOML lists pass as they are."""
    if isinstance(value, int | list | tuple):
        value = ",".join(map(str, value if isinstance(value, list | tuple) else [value]))
    items = comma_list(ctx, param, value)
    try:
        found = [int(item) for item in items]
    except ValueError:
        found = [0]
    if any(number < 1 for number in found):
        raise click.BadParameter(f"takes whole numbers from 1, comma-separated, got {value!r}")
    return found


labels_option = click.option(
    "--labels",
    required=True,
    type=LIST,
    callback=names,
    help="Payload fields, comma-separated; inside objects as a.b.",
)
vectors_option = click.option(
    "--vectors",
    type=LIST,
    callback=names,
    help="Comma-separated.",
)
least_option = click.option(
    "--min-class-size",
    type=click.IntRange(2),
    help="Images; smaller classes are left out.",
)


cluster_option = click.option(
    "--cluster",
    metavar="UNIT",
    help="What the interval resamples: class, image, iid, or a payload field; default: class from "
    "20 classes on, else image (slower than the ranking itself). none: no interval.",
)


def sides_options(command: F) -> F:
    """Add ``--queries``, ``--gallery`` and ``--split``."""
    for name, metavar, text in (
        ("--split", "FIELD", "Short for FIELD=test asking and FIELD=train."),
        ("--gallery", "FILTER", "What answers: FIELD=VALUE[,VALUE...]."),
        ("--queries", "FILTER", "What asks: FIELD=VALUE[,VALUE...]."),
    ):
        command = click.option(name, metavar=metavar, help=text)(command)
    return command


max_queries_option = click.option(
    "--max-queries",
    type=click.IntRange(2),
    help="Where more pictures could ask, so many are drawn at random (--seed); all still answer, "
    "so that mAP stays that of the whole collection.",
)
sample_option = click.option(
    "--sample",
    type=click.IntRange(10),
    help="Read so many points, drawn at random (--seed), instead of all: less memory, and figures "
    "of a smaller gallery.",
)


FILE = click.Path(path_type=Path, dir_okay=False)
report_option = click.option(
    "-o", "--report", type=FILE, help="Also write tables and plots as one page: FILE.html"
)
template_option = click.option("--template", help="{} is the class name.")
shots_option = click.option(
    "--shots",
    type=LIST,
    callback=whole_numbers,
    help="Labelled images a class.",
)
draws_option = click.option("--seed", type=int, help="Of the draws; nested and paired.")
split_option = click.option(
    "--split",
    metavar="FIELD",
    help="Shots from FIELD=train, tests from FIELD=test; default: all that are no shots.",
)
test_share_option = click.option(
    "--test-share",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Without --split: share of every class that is drawn once, and tested with all shots.",
)
classes_option = click.option(
    "--classes", is_flag=True, help="Every class's accuracy in the JSON, too."
)


def print_json(result: dict[str, Any]) -> None:
    """Print one JSON object on stdout."""
    click.echo(json.dumps(result, ensure_ascii=False, allow_nan=False))
