"""Runs and their figures as files other programs read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from intramodal.errors import InputError, MissingDependencyError
from intramodal.runs.ledger import RunLedger
from intramodal.runs.records import MetricRecord, RunRecord

COLUMNS = (
    "run", "kind", "status", "started", "finished", "seconds", "seed", "metric", "vector", "field",
    "value", "low", "high", "n",
)  # fmt: skip
FORMATS = ("csv", "json", "parquet")


def export_runs(ledger: RunLedger, path: str | Path, *, ids: Sequence[str] | None = None) -> int:
    """Write runs to a CSV, JSON or Parquet file, by its suffix, and return how many.

    Parameters
    ----------
    ledger : RunLedger
    path : str or Path
        ``.csv`` and ``.parquet`` hold one row a figure (`metric_rows`), ``.json`` everything but
        the content of artefacts (`full_record`). An existing file is replaced as a whole.
    ids : sequence of str, optional
        Ids or beginnings of ids; default all runs.
    """
    path = Path(path)
    kind = path.suffix.lower().lstrip(".")
    if kind not in FORMATS:
        raise InputError(
            f"runs cannot be exported as {path.suffix or 'a file without suffix'!r}; "
            "name a .csv, .json or .parquet file"
        )
    records = ledger.runs() if ids is None else [ledger.get(run_id) for run_id in ids]
    content = {"csv": _csv, "json": _json, "parquet": _parquet}[kind](ledger, records)
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(content)
    temporary.replace(path)
    return len(records)


def metric_rows(ledger: RunLedger, records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Return one flat row a figure, with `COLUMNS` as keys; a run without figures has one row."""
    rows = []
    for record in records:
        about = {
            "run": record.id,
            **{name: getattr(record, name) for name in COLUMNS[1:7]},
        }
        metrics: list[MetricRecord | None] = [*ledger.metrics(record.id)]
        rows += [about | _figure(metric) for metric in metrics or [None]]
    return rows


def _figure(metric: MetricRecord | None) -> dict[str, Any]:
    values = metric.to_dict() if metric else {}
    return {"metric": values.get("name"), **{name: values.get(name) for name in COLUMNS[8:]}}


def full_record(ledger: RunLedger, record: RunRecord) -> dict[str, Any]:
    """Return all that is known of a run as JSON values, but the content of its artefacts."""
    return record.to_dict() | {
        "fingerprints": [entry.to_dict() for entry in ledger.fingerprints(record.id)],
        "metrics": [entry.to_dict() for entry in ledger.metrics(record.id)],
        "failures": [entry.to_dict() for entry in ledger.failures(record.id)],
        "artefacts": [entry.to_dict() for entry in ledger.artefacts(record.id)],
        "checkpoints": ledger.checkpoints(record.id),
    }


def _csv(ledger: RunLedger, records: Sequence[RunRecord]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    for row in metric_rows(ledger, records):
        times = {name: row[name].isoformat() for name in ("started", "finished") if row[name]}
        writer.writerow(row | times)
    return text.getvalue().encode()


def _json(ledger: RunLedger, records: Sequence[RunRecord]) -> bytes:
    runs = [full_record(ledger, record) for record in records]
    return json.dumps({"runs": runs}, ensure_ascii=False, allow_nan=False, indent=1).encode()


def _parquet(ledger: RunLedger, records: Sequence[RunRecord]) -> bytes:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "Parquet needs the package 'pyarrow'; pip install 'intramodal[parquet]'"
        ) from error
    time = pa.timestamp("us", tz="UTC")
    types = dict.fromkeys(("seconds", "value", "low", "high"), pa.float64())
    types |= {"started": time, "finished": time, "seed": pa.int64(), "n": pa.int64()}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.Table.from_pylist(metric_rows(ledger, records), schema=schema), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content
