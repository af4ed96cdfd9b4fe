from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow import parquet

from intramodal.errors import InputError
from intramodal.runs.interchange import export_runs
from intramodal.runs.ledger import RunLedger


@pytest.fixture
def ledger() -> Iterator[RunLedger]:
    with RunLedger.open(":memory:") as ledger:
        with ledger.run("evaluate", seed=3) as run:
            run.log_metric("map", 0.5, vector="pca", field="l,\n'label'", interval=(0.25, 1), n=8)
            run.log_metric("map", None, vector="raw")
            run.log_failure("x", "read", "r")
            run.checkpoint("k", [1])
        with ledger.run("fit"):
            pass
        yield ledger


def test_csv_has_one_row_a_figure_and_one_for_a_run_without(
    ledger: RunLedger, tmp_path: Path
) -> None:
    assert export_runs(ledger, tmp_path / "runs.csv") == 2
    with (tmp_path / "runs.csv").open(newline="", encoding="utf-8") as file:
        fit, pca, raw = csv.DictReader(file)
    assert (fit["kind"], fit["metric"]) == ("fit", "")
    assert (pca["metric"], pca["value"], pca["low"], pca["n"]) == ("map", "0.5", "0.25", "8")
    assert pca["field"] == "l,\n'label'"
    assert (raw["vector"], raw["value"]) == ("raw", "")
    assert pca["started"].endswith("+00:00")


def test_json_has_everything_of_the_chosen_runs(ledger: RunLedger, tmp_path: Path) -> None:
    (record,) = ledger.runs(kind="evaluate")
    assert export_runs(ledger, tmp_path / "runs.json", ids=[record.id]) == 1
    (stored,) = json.loads((tmp_path / "runs.json").read_text(encoding="utf-8"))["runs"]
    assert stored["id"] == record.id
    assert [metric["value"] for metric in stored["metrics"]] == [0.5, None]
    assert stored["failures"] == [{"item": "x", "stage": "read", "reason": "r"}]
    assert stored["checkpoints"] == {"k": [1]}


def test_parquet_has_typed_columns(ledger: RunLedger, tmp_path: Path) -> None:
    export_runs(ledger, tmp_path / "runs.parquet")
    table = parquet.read_table(tmp_path / "runs.parquet")
    assert table.column("value").to_pylist() == [None, 0.5, None]
    assert table.column("started").type.tz == "UTC"
    assert table.column("seed").to_pylist() == [None, 3, 3]


def test_another_suffix_is_refused_and_nothing_is_written(
    ledger: RunLedger, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"does not end in \.csv, \.json, \.parquet or \.trec"):
        export_runs(ledger, tmp_path / "runs.xlsx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["=HYPERLINK(1)", "+cmd", "-cmd|calc", "@SUM(A1)", "\t=1", "\r=1", "\uff1d1"]
)
def test_no_cell_of_a_csv_is_a_formula(tmp_path: Path, name: str) -> None:
    with RunLedger.open(tmp_path / "runs.db") as ledger:
        with ledger.run("compare") as run:
            run.log_metric("difference", -0.5, field=name, interval=(-1.5e-7, 2.0))
            run.log_metric("difference", 0.5, field="-0.5")
        export_runs(ledger, tmp_path / "runs.csv")
    with (tmp_path / "runs.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert first["field"] == "'" + name
    assert (float(first["value"]), float(first["low"])) == (-0.5, -1.5e-7)
    assert second["field"] == "-0.5"  # a number, whoever wrote it
