"""``intramodal backfill``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from intramodal.commands.options import (
    json_option,
    print_json,
    runs_option,
    store_option,
    upload_options,
)

_MOST_SHOWN = 20
_ALONE = ("verify", "recompute", "rollback")
_UNSUITABLE = {
    "verify": (
        *("new_collection", "made_by", "throttle", "batch_size", "wait", "yes", "dry_run"),
        *("upload_streams", "nodes"),
    ),
    "recompute": ("new_collection", "made_by", "wait", "yes", "seed", "nodes"),
    "rollback": (
        *("projection", "source", "new_collection", "made_by", "throttle", "batch_size"),
        *("wait", "seed", "upload_streams", "nodes"),
    ),
    "": ("yes",),
}
"""Options that say nothing beside another one; those of a backfill or a copy under ""."""


def _checked_filter(
    ctx: click.Context, param: click.Parameter, value: tuple[str, ...]
) -> tuple[str, ...]:
    if value:
        from intramodal.errors import InputError
        from intramodal.store.filters import parse_filter

        try:
            parse_filter(value)
        except InputError as error:
            raise click.BadParameter(str(error)) from error
    return value


@click.command("backfill")
@click.argument("collection")
@click.option(
    "--projection",
    type=click.Path(path_type=Path),
    help="File made by `fit`; needed by all but --rollback.",
)
@click.option(
    "--from",
    "source",
    default="raw",
    show_default=True,
    help="Vector to project; '' if it has no name.",
)
@click.option("--to", "vector", help="Vector to fill; default: the projection's own name.")
@click.option(
    "--made-by",
    help="Adopt the collection on the way: declare the model that made the --from vector.",
)
@click.option(
    "--new-collection",
    metavar="NAME",
    help="Copy everything into a new collection that also has the vector, then switch aliases: "
    "for servers below 1.18 and vectors without a name.",
)
@click.option(
    "--verify",
    type=click.IntRange(1),
    metavar="N",
    help="Recompute N points, compare, change nothing; exit code 1 if some are stale.",
)
@click.option(
    "--recompute",
    multiple=True,
    metavar="FILTER",
    callback=_checked_filter,
    help="Compute anew for points with field=value[,value] or id=ID[,ID], or `all`; repeatable.",
)
@click.option(
    "--rollback", is_flag=True, help="Undo: remove the vector, or switch aliases back from a copy."
)
@click.option("--yes", is_flag=True, help="Roll back although points of the copy are left behind.")
@click.option(
    "--batch-size", type=click.IntRange(1), default=1000, show_default=True, help="Points."
)
@click.option("--throttle", type=click.FloatRange(min=0, min_open=True), help="Points per second.")
@click.option(
    "--wait/--no-wait",
    default=True,
    show_default=True,
    help="Wait until the index is built again, if there was one.",
)
@click.option("--seed", default=0, show_default=True, help="Of the sample that is compared.")
@click.option("--dry-run", is_flag=True, help="Print the plan with its costs; change nothing.")
@upload_options
@store_option
@runs_option
@json_option
@click.pass_context
def command(ctx: click.Context, /, as_json: bool, runs_url: str, **options: Any) -> None:
    """Add the projected vector to a collection, from its stored vectors.

    Nothing is encoded again; other vectors and payload stay as they are; killed at any moment,
    the same command goes on.

    \b
    intramodal backfill photos --projection pca.safetensors
    intramodal backfill photos --projection pca.safetensors --verify 1000
    intramodal backfill photos --projection pca.safetensors --recompute label=cat,dog
    intramodal backfill photos --projection pca.safetensors --new-collection photos_v2
    intramodal backfill photos --rollback
    """
    _check_combination(ctx, options)
    from intramodal.workflows.backfill import BackfillRequest, backfill_collection

    result = backfill_collection(BackfillRequest(runs=runs_url, **options))
    if as_json:
        print_json(result)
    else:
        _print(result)
    if result.get("stale"):
        ctx.exit(1)


def _check_combination(ctx: click.Context, options: dict[str, Any]) -> None:
    modes = [mode for mode in _ALONE if options[mode]]
    if len(modes) > 1:
        raise click.UsageError(f"give one of {_flags(modes)}")
    mode = modes[0] if modes else ""
    # What a configuration file sets for all commands must not be in the way of this one.
    typed = [
        name
        for name in _UNSUITABLE[mode]
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ]
    if typed and mode:
        raise click.UsageError(f"--{mode} takes no {_flags(typed)}")
    if typed:
        raise click.UsageError("--yes is for --rollback")
    if mode != "rollback" and options["projection"] is None:
        raise click.UsageError("Missing option '--projection'.")


def _flags(names: list[str]) -> str:
    spelled = {"source": "from", "nodes": "node"}
    return " and ".join(f"--{spelled.get(name, name).replace('_', '-')}" for name in names)


def _print(result: dict[str, Any]) -> None:
    from intramodal.commands.printing import note, print_table, printable

    failures = result.get("failures", [])
    for failure in failures[:_MOST_SHOWN]:
        note(printable(f"{failure['stage']}: {failure['item']}: {failure['reason']}"))
    if len(failures) > _MOST_SHOWN:
        more = len(failures) - _MOST_SHOWN
        note(f"... and {more:,} more; see intramodal runs show {result['run_id']}")
    print_table(("", ""), [(key.replace("_", " "), _cell(result[key])) for key in _shown(result)])
    check = result.get("model_check", {})
    for sentence in (*result.get("notes", ()), check.get("says"), result.get("sentence")):
        if sentence:
            click.echo(sentence)


def _shown(result: dict[str, Any]) -> list[str]:
    hidden = ("failures", "notes", "sentence", "is_plan", "model_check")
    return [key for key, value in result.items() if key not in hidden and value is not None]


def _cell(value: object) -> str:
    if isinstance(value, list):
        shown = [f"{item:,}" if isinstance(item, int) else str(item) for item in value]
        return ", ".join(shown[:_MOST_SHOWN]) + (", ..." if len(shown) > _MOST_SHOWN else "")
    return f"{value:,}" if isinstance(value, int) else str(value)
