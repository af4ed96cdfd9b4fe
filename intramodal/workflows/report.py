"""The report of recorded comparisons, written again from what the runs stored."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from intramodal.errors import InputError
from intramodal.reports.page import write_text
from intramodal.reports.report import latest_comparison, render_report, report_of_run
from intramodal.reports.tables import render_latex, render_markdown
from intramodal.runs.ledger import RunLedger

_SUFFIXES = {".html": "html", ".htm": "html", ".md": "md", ".tex": "latex", ".latex": "latex"}


def write_report(
    runs: Sequence[str], *, out: Path, url: str, file_format: str | None = None
) -> dict[str, Any]:
    """Render the report of the given runs, of the latest comparison by default."""
    chosen = file_format or _by_suffix(out)
    with RunLedger.open(url, create=False) as ledger:
        ids = [ledger.get(run).id for run in runs] or [latest_comparison(ledger)]
        documents = [report_of_run(ledger, run_id) for run_id in ids]
    if chosen == "html":
        render_report(documents, out)
    else:
        write_text(out, {"md": render_markdown, "latex": render_latex}[chosen](documents))
    return {"report": str(out), "bytes": out.stat().st_size, "run_id": ids[0], "run_ids": ids}


def _by_suffix(out: Path) -> str:
    if out.suffix.lower() not in _SUFFIXES:
        close = difflib.get_close_matches(out.suffix.lower(), _SUFFIXES, n=1) or [".html"]
        raise InputError(
            f"{out} does not say what to write; name it .html, .md or .tex (for example "
            f"{out.with_suffix(close[0])}), or give --format"
        )
    return _SUFFIXES[out.suffix.lower()]
