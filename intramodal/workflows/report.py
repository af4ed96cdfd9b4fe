"""The report of a recorded comparison, written again from what the run stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from intramodal.errors import InputError
from intramodal.reports.document import ReportDocument
from intramodal.reports.html import render_report
from intramodal.runs import RunLedger
from intramodal.workflows.document import DOCUMENT


def write_report(run: str | None, *, out: Path, runs: str) -> dict[str, Any]:
    """Render the report of a run, the latest comparison by default."""
    with RunLedger.open(runs) as ledger:
        run_id = ledger.get(run).id if run else _latest(ledger)
        stored = json.loads(ledger.artefact(run_id, DOCUMENT))
    render_report([ReportDocument.from_dict(stored)], out)
    return {"report": str(out), "bytes": out.stat().st_size, "run_id": run_id}


def _latest(ledger: RunLedger) -> str:
    found = ledger.runs(kind="compare", status="COMPLETE", limit=1)
    if not found:
        raise InputError(
            f"no complete comparison is recorded in {ledger}; run `intramodal compare` first"
        )
    return found[0].id
