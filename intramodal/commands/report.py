"""``intramodal report``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from intramodal.commands import completion
from intramodal.commands.next_steps import note_next, say_made
from intramodal.commands.options import json_option, preference, runs_option
from intramodal.commands.outputs import Output
from intramodal.commands.session import Session, SessionCommand
from intramodal.files import format_of, write_text

_FORMATS = ("html", "md", "latex")


@click.command("report", cls=SessionCommand, common=("out", "format"))
@click.argument("names", nargs=-1, metavar="[RUN]...", shell_complete=completion.runs)
@click.option(
    "-o",
    "--out",
    type=Output(*_FORMATS),
    default=Path("report.html"),
    show_default=True,
    help="File to write; an HTML page is self-contained.",
)
@preference(
    "--format",
    "file_format",
    type=click.Choice(_FORMATS),
    help="Whole page (html), or its tables as Markdown or LaTeX; default: by the suffix of --out.",
)
@runs_option
@json_option
def command(session: Session, names: tuple[str, ...], out: Path, file_format: str | None) -> None:
    """Write the report of one or more comparisons, by default of the latest.

    RUN is a run id or its beginning.

    \b
    intramodal report -o report.html
    intramodal report 20261124-1809 -o tables.md
    """
    from intramodal.reports.report import latest_comparison, render_report, report_of_run
    from intramodal.reports.tables import render_latex, render_markdown

    chosen = format_of(out, _FORMATS, given=file_format)
    with session.open_runs() as ledger:
        ids = [ledger.get(run).id for run in names] or [latest_comparison(ledger)]
        documents = [report_of_run(ledger, run_id) for run_id in ids]
    if chosen == "html":
        render_report(documents, out)
    else:
        write_text(out, {"md": render_markdown, "latex": render_latex}[chosen](documents))
    size = out.stat().st_size
    found = {"report": str(out), "bytes": size, "run_id": ids[0], "run_ids": ids}
    session.answer(found, _show)


def _show(result: dict[str, Any]) -> None:
    ids = ", ".join(result["run_ids"])
    say_made("report", f"{result['report']} ({result['bytes'] / 1e6:.1f} MB, run {ids})")
    verb = "compare" if len(result["run_ids"]) == 2 else "show"
    note_next("runs", verb, *(result["run_ids"] if verb == "compare" else [result["run_id"]]))
