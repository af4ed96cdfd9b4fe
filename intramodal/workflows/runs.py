"""What has been run, as plain rows."""

from __future__ import annotations

from typing import Any

from intramodal.runs import RunLedger, full_record


def list_runs(url: str, *, kind: str | None, limit: int) -> list[dict[str, Any]]:
    """Return the latest runs, newest first."""
    with RunLedger.open(url) as ledger:
        runs = ledger.runs(kind=kind, limit=limit)
        return [run.to_dict() | {"collection": run.parameters.get("collection")} for run in runs]


def show_run(url: str, run: str) -> dict[str, Any]:
    """Return one run with its fingerprints, metrics and failures."""
    with RunLedger.open(url) as ledger:
        return full_record(ledger, ledger.get(run))
