"""What has been run, as plain rows."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from intramodal.errors import InputError
from intramodal.runs.frames import export_runs, full_record
from intramodal.runs.ledger import RunLedger
from intramodal.runs.records import KINDS, Status


@dataclass(frozen=True)
class PruneRequest:
    """Which runs to delete; the options of ``intramodal runs prune``."""

    runs: str
    older_than: timedelta | None = None
    keep: int | None = None
    kind: str | None = None
    status: Status | None = None
    yes: bool = False


def list_runs(url: str, *, kind: str | None, limit: int) -> list[dict[str, Any]]:
    """Return the latest runs, newest first."""
    with RunLedger.open(url, create=False) as ledger:
        runs = ledger.runs(kind=kind, limit=limit)
        if kind is not None and not runs:
            _check_kind(ledger, kind)
        return [run.to_dict() | {"collection": run.parameters.get("collection")} for run in runs]


def show_run(url: str, run: str) -> dict[str, Any]:
    """Return one run with its fingerprints, metrics and failures."""
    with RunLedger.open(url, create=False) as ledger:
        return full_record(ledger, ledger.get(run))


def compare_runs(url: str, a: str, b: str) -> dict[str, Any]:
    """Return what differs between two runs, and their figures side by side."""
    with RunLedger.open(url, create=False) as ledger:
        return ledger.compare(a, b).to_dict()


def write_runs(
    url: str, runs: Sequence[str], *, out: Path, file_format: str | None
) -> dict[str, Any]:
    """Write the given runs, or all of them, to a file or folder."""
    with RunLedger.open(url, create=False) as ledger:
        n = export_runs(ledger, out, ids=runs or None, file_format=file_format)
    return {"out": str(out), "n_runs": n}


def prune_runs(request: PruneRequest) -> dict[str, Any]:
    """Delete runs, or say which ones would be deleted."""
    with RunLedger.open(request.runs, create=False) as ledger:
        doomed = ledger.prune(
            older_than=request.older_than,
            keep=request.keep,
            kind=request.kind,
            status=request.status,
            dry_run=not request.yes,
        )
        if request.kind is not None and not doomed:
            _check_kind(ledger, request.kind)
        return {"deleted": request.yes, "runs": [run.to_dict() for run in doomed]}


def _check_kind(ledger: RunLedger, kind: str) -> None:
    """Refuse a kind that neither our commands nor any run of this database has."""
    known = sorted({*KINDS, *(run.kind for run in ledger.runs())})
    if kind not in known:
        close = difflib.get_close_matches(kind, known, n=3) or known
        raise InputError(f"there are no runs of kind {kind!r}; did you mean {' or '.join(close)}?")
