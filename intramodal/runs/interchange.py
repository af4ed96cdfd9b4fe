"""Runs and their figures as files other programs read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from intramodal.errors import InputError, MissingDependencyError
from intramodal.files import format_of, write_bytes
from intramodal.runs.dimensions import DIMENSIONS, dimensions_of
from intramodal.runs.frames import csv_text
from intramodal.runs.ledger import RunLedger
from intramodal.runs.records import MetricRecord, RunRecord
from intramodal.runs.scores import SCORES, trec_lines, unpack_scores

_OF_RUN = ("kind", "status", "started", "finished", "seconds", "seed")
_OF_FIGURE = ("vector", "field", "value", "low", "high", "n")
COLUMNS = ("run", *_OF_RUN, *DIMENSIONS, "metric", *_OF_FIGURE)
FORMATS = ("csv", "json", "parquet", "trec")
_NOT_IN_NAMES = re.compile(r"[^\w.-]+")


def export_runs(
    ledger: RunLedger,
    path: str | Path,
    *,
    ids: Sequence[str] | None = None,
    file_format: str | None = None,
) -> int:
    """Write runs to a file, or to a folder for TREC, and return how many.

    Parameters
    ----------
    ledger : RunLedger
    path : str or Path
        ``csv`` and ``parquet`` hold one row a figure (`metric_rows`), ``json`` everything but
        the content of artefacts (`full_record`); an existing file is replaced as a whole.
        ``trec`` makes a folder with one file a run, label field and vector: the scores of every
        query as ``trec_eval -q`` prints them (`trec_lines`). Runs store scores, not rankings.
    ids : sequence of str, optional
        Ids or beginnings of ids; default all runs.
    file_format : {"csv", "json", "parquet", "trec"}, optional
        Default: the suffix of `path`.

    Raises
    ------
    InputError
        For another format, or if no run has per-query scores for ``trec``.
    """
    path = Path(path)
    chosen = format_of(path, FORMATS, given=file_format)
    records = ledger.runs() if ids is None else [ledger.get(run_id) for run_id in ids]
    if chosen == "trec":
        return _trec(ledger, records, path)
    writers: dict[str, Callable[[RunLedger, Sequence[RunRecord]], bytes]]
    writers = {"csv": _csv, "json": _json, "parquet": _parquet}
    write_bytes(path, writers[chosen](ledger, records))
    return len(records)


def _trec(ledger: RunLedger, records: Sequence[RunRecord], folder: Path) -> int:
    """Write the per-query scores of the runs that have some; raises if none has."""
    kept = [r for r in records if SCORES in {file.name for file in ledger.artefacts(r.id)}]
    if not kept:
        raise InputError(
            "none of these runs has per-query scores to export as trec; choose a complete run "
            "of `intramodal compare`, or of `evaluate retrieval`, `index` or `text`"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"there can be no folder {folder} ({error.strerror}); name another"
        ) from error
    for record in kept:
        for n, scores in enumerate(unpack_scores(ledger.artefact(record.id, SCORES))):
            # Field names are untrusted and may differ only in what a file name cannot hold.
            about = f"{record.id}.{n}.{_file_word(scores.field)}.{_file_word(scores.vector)}"
            write_bytes(folder / f"{about}.eval", trec_lines(scores, record.id).encode())
    return len(kept)


def _file_word(name: str) -> str:
    return _NOT_IN_NAMES.sub("_", name)[:20] or "_"


def metric_rows(ledger: RunLedger, records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Return one flat row a figure, with `COLUMNS` as keys; a run without figures has one row.

    An accuracy's classifier and shots are columns, and its metric is "accuracy"; see
    `dimensions_of`.
    """
    rows = []
    for record in records:
        about = {"run": record.id, **{name: getattr(record, name) for name in _OF_RUN}}
        made_by = ledger.fingerprints(record.id)
        metrics: list[MetricRecord | None] = [*ledger.metrics(record.id)]
        for metric in metrics or [None]:
            values = metric.to_dict() if metric else {}
            figure = {name: values.get(name) for name in _OF_FIGURE}
            rows.append({**about, **dimensions_of(record, metric, made_by), **figure})
    return rows


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
    rows = []
    for row in metric_rows(ledger, records):
        times = {name: row[name].isoformat() for name in ("started", "finished") if row[name]}
        rows.append(row | times)
    return csv_text(COLUMNS, rows, line_end="\r\n").encode()


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
    types |= {"started": time, "finished": time}
    types |= dict.fromkeys(("seed", "shots", "n"), pa.int64())
    schema = pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.Table.from_pylist(metric_rows(ledger, records), schema=schema), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content
