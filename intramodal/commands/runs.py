"""``intramodal runs``."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from intramodal.commands import completion
from intramodal.commands.columns import Column, column, id_column, state_column, wide
from intramodal.commands.next_steps import note_again, note_next, say_made, unused
from intramodal.commands.options import (
    LIST,
    KindGroup,
    json_option,
    names,
    preference,
    runs_option,
    wide_option,
)
from intramodal.commands.outputs import Output
from intramodal.commands.printing import number, print_data, print_table, say
from intramodal.commands.session import Session, SessionCommand
from intramodal.files import format_of, write_text
from intramodal.runs.records import KINDS

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_LONGEST_DAYS = 36_500


def _age(ctx: click.Context, param: click.Parameter, value: str | None) -> timedelta | None:
    """Read a duration such as ``30d``."""
    if value is None:
        return None
    found = re.fullmatch(r"(\d{1,6})([mhdw])", value.strip())
    if not found:
        raise click.BadParameter(
            f"{value!r} is no age; give a number and m (minutes), h, d or w, such as 30d"
        )
    age = timedelta(**{_UNITS[found[2]]: int(found[1])})
    return min(age, timedelta(days=_LONGEST_DAYS))


@click.group("runs", cls=KindGroup, usual="show")
def command() -> None:
    """List, show, tabulate, compare, export and prune recorded runs."""


@command.command("list", cls=SessionCommand, common=("kind", "limit"))
@preference("--kind", help=f"Only runs of this kind: {', '.join(KINDS)}, or a custom kind.")
@preference(
    "--limit",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="Maximum number of runs to list.",
)
@wide_option
@runs_option
@json_option
def list_runs(session: Session, kind: str | None, limit: int) -> None:
    """List the latest runs."""
    with session.open_runs() as ledger:
        runs = ledger.runs(kind=kind, limit=limit)
        if kind is not None and not runs:
            ledger.require_kind(kind)
    rows = [run.to_dict() | {"collection": run.parameters.get("collection")} for run in runs]
    session.answer({"runs": rows}, _print_list)


def _print_list(result: dict[str, Any]) -> None:
    _print_runs(result["runs"])
    for latest in result["runs"][:1]:
        note_next("runs", "show", latest["id"])


@command.command("show", cls=SessionCommand)
@click.argument("run", shell_complete=completion.runs)
@runs_option
@json_option
def show_run(session: Session, run: str) -> None:
    """Show one run; RUN is a run id or its beginning."""
    from intramodal.runs.interchange import full_record

    with session.open_runs() as ledger:
        result = full_record(ledger, ledger.get(run))
    session.answer(result, _print_run)


def _print_run(result: dict[str, Any]) -> None:
    from intramodal.reports.report import DOCUMENT

    about = result | {"command": " ".join(result["command"])}
    plain = {name: value for name, value in about.items() if not isinstance(value, list | dict)}
    cells = [(name, _cell(plain, name)) for name in plain]
    print_table(("", state_column("times in UTC")), cells)
    for part in ("parameters", "packages"):
        print_table((part, ""), list(result[part].items()))
    for part in ("fingerprints", "metrics", "failures"):
        rows = result[part]
        if rows:
            columns = [_column_of(name, [row[name] for row in rows]) for name in rows[0]]
            print_table(columns, [tuple(row.values()) for row in rows], title=part)
    if any(file["name"] == DOCUMENT for file in result["artefacts"]):
        note_next("report", result["id"], "-o", unused("report.html"))


def _column_of(name: str, values: list[object]) -> Column:
    """Return a column of a recorded table: of numbers, of ids, or of text."""
    if any(isinstance(value, int | float) for value in values):
        return Column(name, "number")
    return id_column(name) if name == "fingerprint" else column(name)


@command.command("compare", cls=SessionCommand)
@click.argument("a", shell_complete=completion.runs)
@click.argument("b", shell_complete=completion.runs)
@runs_option
@json_option
def compare_runs(session: Session, a: str, b: str) -> None:
    """Show what differs between two runs, and their figures side by side.

    A and B are run ids or their beginnings; differences are B minus A.
    """
    with session.open_runs() as ledger:
        result = ledger.compare(a, b).to_dict()
    session.answer(result, _print_comparison)


@command.command("export", cls=SessionCommand, common=("out", "format"))
@click.argument("ids", nargs=-1, metavar="[RUNS]...", shell_complete=completion.runs)
@preference(
    "--format",
    "file_format",
    type=click.Choice(["csv", "json", "parquet", "trec"]),
    help="Format of the export; default: by the suffix of --out.",
)
@click.option(
    "-o",
    "--out",
    type=Output("csv", "json", "parquet", "trec"),
    required=True,
    help="File to write; for trec, a folder.",
)
@runs_option
@json_option
def export_runs(
    session: Session, ids: tuple[str, ...], file_format: str | None, out: Path
) -> None:
    """Export runs for other programs; all runs unless RUNS names some.

    csv and parquet: one row per figure. In csv, text that a spreadsheet would take for a formula
    (it begins with = + - @) has an apostrophe before it. json: everything that is recorded.
    trec: a folder with one file per run, label field and vector, with the scores of each query
    as `trec_eval -q` prints them; rankings are not stored.

    \b
    intramodal runs export -o runs.csv
    intramodal runs export 20261124-1809 --format trec -o scores
    """
    from intramodal.runs.interchange import export_runs as write_runs

    with session.open_runs() as ledger:
        n = write_runs(ledger, out, ids=ids or None, file_format=file_format)
    session.answer(
        {"out": str(out), "n_runs": n}, lambda _: say_made("runs", f"{out} ({n:,} runs)")
    )


_FORMATS = ("md", "tex", "csv", "json", "html")


@command.command(
    "table", cls=SessionCommand, common=("rows", "cols", "metric", "only", "out", "format")
)
@preference(
    "--rows",
    type=LIST,
    callback=names,
    default="model,method",
    show_default=True,
    help="What a row is, comma-separated: collection, dataset, model, method, classifier, shots, "
    "vector, field, metric or kind.",
)
@preference(
    "--cols",
    type=LIST,
    callback=names,
    default="dataset",
    show_default=True,
    help="What a column is, comma-separated; as for --rows.",
)
@preference(
    "--metric",
    default="mAP",
    show_default=True,
    help="Figure to show, e.g. mAP, accuracy, hit@1.",
)
@preference(
    "--only",
    multiple=True,
    metavar="NAME=VALUE",
    help="Only figures of which NAME (as for --rows) is VALUE, e.g. shots=16 or "
    "kind=evaluate-retrieval; repeatable.",
)
@preference(
    "--best",
    type=click.Choice(["highest", "lowest", "none"]),
    help="Which figure of a column is bold; default: the highest of measures of quality, the "
    "lowest of latencies and errors, none of others.",
)
@preference("--average", is_flag=True, help="Add a column with the mean of each row.")
@preference("--intervals", is_flag=True, help="Show the recorded intervals beneath the figures.")
@preference(
    "--format",
    "file_format",
    type=click.Choice(_FORMATS),
    help="Markdown, LaTeX, CSV, JSON or an offline page; default: by the suffix of --out, else "
    "md.",
)
@click.option(
    "-o",
    "--out",
    type=Output(*_FORMATS),
    help="File to write instead of printing the table.",
)
@runs_option
@json_option
def table(
    session: Session,
    rows: list[str],
    cols: list[str],
    metric: str,
    only: tuple[str, ...],
    file_format: str | None,
    out: Path | None,
    **options: Any,
) -> None:
    """Tabulate the figures of all complete runs, any of their dimensions as rows and columns.

    The latest run counts where several have the same figure. Where figures of one place differ in
    something else, such as the method, the table is split by that, too.

    \b
    intramodal runs table --rows model --cols dataset --metric mAP
    intramodal runs table --rows method,classifier --cols shots --metric accuracy --format tex
    intramodal runs table --only method=pca --average --intervals -o table.html
    """
    from intramodal.reports.pivot import tabulate_runs

    chosen = format_of(out, _FORMATS, given=file_format) if out else file_format or "md"
    where = dict(_condition(text) for text in only)
    with session.open_runs() as ledger:
        grid = tabulate_runs(
            ledger, rows=rows, columns=cols, metric=metric, where=where, **options
        )
    text = grid.render(chosen)
    if out is None:
        session.answer(grid.to_dict(), lambda _: _print_grid(text, chosen))
        return
    write_text(out, text)
    session.answer({**grid.to_dict(), "out": str(out)}, lambda _: say_made("table", out))


def _print_grid(text: str, file_format: str) -> None:
    print_data(text)
    note_again("-o", unused(f"table.{file_format}"))


def _condition(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise click.BadParameter(f"{text!r} is no condition; write NAME=VALUE, as in shots=16")
    return name, value


@command.command(
    "prune", cls=SessionCommand, common=("older-than", "keep", "kind", "status", "yes")
)
@click.option(
    "--older-than",
    callback=_age,
    help="Only runs that started longer ago than this, e.g. 12h, 30d, 8w.",
)
@click.option("--keep", type=click.IntRange(0), help="Number of the latest matching runs to keep.")
@click.option("--kind", help="Only runs of this kind, e.g. compare.")
@click.option(
    "--status",
    type=click.Choice(["COMPLETE", "FAILED", "INTERRUPTED"], case_sensitive=False),
    help="Only runs that ended with this status.",
)
@click.option("--yes", is_flag=True, help="Delete the runs; without it, nothing is deleted.")
@runs_option
@json_option
def prune_runs(session: Session, yes: bool, **which: Any) -> None:
    """List runs that would be deleted; with --yes, delete them and all that belongs to them.

    A run must match all given options. Runs with status RUNNING are never deleted.

    \b
    intramodal runs prune --older-than 30d --status FAILED
    """
    if all(which[name] is None for name in ("older_than", "keep", "kind", "status")):
        raise click.UsageError("say which: --older-than, --keep, --kind or --status")
    with session.open_runs() as ledger:
        doomed = ledger.prune(**which, dry_run=not yes)
        if which["kind"] is not None and not doomed:
            ledger.require_kind(which["kind"])
    session.answer({"deleted": yes, "runs": [run.to_dict() for run in doomed]}, _print_pruned)


def _print_pruned(result: dict[str, Any]) -> None:
    _print_runs(result["runs"], but=("collection", "seconds"))
    n = len(result["runs"])
    say(f"{n:,} deleted" if result["deleted"] else f"{n:,} would be deleted; add --yes")
    if n and not result["deleted"]:
        note_again("--yes")


_LISTED = {
    "id": id_column("run"),
    "kind": column("kind"),
    "status": state_column("status"),
    "started": column("started (UTC)"),
    "collection": column("collection"),
    "seconds": wide("seconds>"),
}
"""Columns of lists of runs by their key."""


def _print_runs(rows: list[dict[str, Any]], *, but: tuple[str, ...] = ()) -> None:
    keys = [key for key in _LISTED if key not in but]
    cells = [[_listed(row, key) for key in keys] for row in rows]
    print_table([_LISTED[key] for key in keys], cells)


def _listed(row: dict[str, Any], key: str) -> object:
    """Return a cell of a list, times to the minute; the seconds are in `runs show`."""
    cell = _cell(row, key)
    return str(cell)[:_MINUTE] if key in _TIMES else cell


def _print_comparison(result: dict[str, Any]) -> None:
    a, b = (result[side]["id"] for side in ("a", "b"))
    differing = [
        (part, name, *(_shown(value) for value in pair))
        for part in ("parameters", "packages", "fingerprints")
        for name, pair in result[part].items()
    ]
    if differing:
        print_table(("differs", "", a, b), differing)
    else:
        say("same parameters, packages and fingerprints")
    rows = [
        (
            *(row[name] or "" for name in ("name", "vector", "field")),
            *(number(row[side]) for side in ("a", "b")),
            number(row["delta"], sign=True),
        )
        for row in result["metrics"]
    ]
    print_table(("figure", "vector", "field", f"{a}>", f"{b}>", "difference>"), rows)
    note_next("runs", "export", a, b, "-o", unused("runs.csv"))


def _shown(value: object) -> str:
    return "–" if value is None else str(value)


_MINUTE = len("2026-01-31 12:30")
_TIMES = ("started", "finished", "heartbeat")


def _cell(row: dict[str, Any], column: str) -> object:
    value = row[column]
    if value is None:
        return "–"
    if column in _TIMES:
        return str(value)[:19].replace("T", " ")
    return f"{value:.1f}" if isinstance(value, float) else value
