"""``intramodal report``."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import click

from intramodal.commands.options import json_option, preference, runs_option
from intramodal.commands.printing import say
from intramodal.commands.session import Session, SessionCommand
from intramodal.errors import InputError


@click.command("report", cls=SessionCommand)
@click.argument("names", nargs=-1, metavar="[RUN]...")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="File to write; an HTML page is self-contained.",
)
@preference(
    "--format",
    "file_format",
    type=click.Choice(["html", "md", "latex"]),
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
    from intramodal.reports.page import write_text
    from intramodal.reports.report import latest_comparison, render_report, report_of_run
    from intramodal.reports.tables import render_latex, render_markdown

    chosen = file_format or _by_suffix(out)
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
    say(f"{result['report']} ({result['bytes'] / 1e6:.1f} MB), run {ids}")


_SUFFIXES = {".html": "html", ".htm": "html", ".md": "md", ".tex": "latex", ".latex": "latex"}


def _by_suffix(out: Path) -> str:
    if out.suffix.lower() not in _SUFFIXES:
        close = difflib.get_close_matches(out.suffix.lower(), _SUFFIXES, n=1) or [".html"]
        raise InputError(
            f"{out} does not say what to write; name it .html, .md or .tex (for example "
            f"{out.with_suffix(close[0])}), or give --format"
        )
    return _SUFFIXES[out.suffix.lower()]
