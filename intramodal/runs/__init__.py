"""The only place that knows SQL.

Names are loaded when they are used: `NullRun` and the records need no SQL library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from intramodal.runs.export import export_runs, full_record
    from intramodal.runs.ledger import RunLedger
    from intramodal.runs.recorded import RecordedRun
    from intramodal.runs.records import (
        ArtefactRecord,
        FailureRecord,
        FingerprintRecord,
        MetricRecord,
        RunComparison,
        RunRecord,
        RunTable,
    )
    from intramodal.runs.run import NullRun, Run
    from intramodal.runs.scores import QueryScores, pack_scores, unpack_scores

__all__ = [
    "ArtefactRecord",
    "FailureRecord",
    "FingerprintRecord",
    "MetricRecord",
    "NullRun",
    "QueryScores",
    "RecordedRun",
    "Run",
    "RunComparison",
    "RunLedger",
    "RunRecord",
    "RunTable",
    "export_runs",
    "full_record",
    "pack_scores",
    "unpack_scores",
]

_HOMES = {
    "NullRun": "run",
    "QueryScores": "scores",
    "RecordedRun": "recorded",
    "Run": "run",
    "RunLedger": "ledger",
    "export_runs": "export",
    "full_record": "export",
    "pack_scores": "scores",
    "unpack_scores": "scores",
}


def __getattr__(name: str) -> Any:
    """Load a public name from its module."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_HOMES.get(name, 'records')}")
    return getattr(module, name)
