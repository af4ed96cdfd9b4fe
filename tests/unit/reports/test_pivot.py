from __future__ import annotations

from collections.abc import Iterator

import pytest

from intramodal.errors import InputError
from intramodal.reports.pivot import tabulate_runs
from intramodal.runs.ledger import RunLedger


@pytest.fixture
def ledger() -> Iterator[RunLedger]:
    with RunLedger.open(":memory:") as ledger:
        for dataset, raw, pca in (("cars", 0.1, 0.2), ("pets", 0.3, 0.4), ("cars", 0.15, 0.25)):
            with ledger.run("evaluate-retrieval", parameters={"collection": dataset}) as run:
                run.log_metric("mAP", raw, vector="raw", field="class")
                run.log_metric("mAP", pca, vector="pca", field="class")
                for shots in (16, 2):
                    run.log_metric(f"accuracy, lda, {shots} shots", raw, vector="raw")
        with pytest.raises(ZeroDivisionError):
            fail(ledger)
        yield ledger


def fail(ledger: RunLedger) -> None:
    with ledger.run("evaluate-retrieval") as run:
        run.log_metric("mAP", 0.9, vector="raw")
        raise ZeroDivisionError


def shown(grid: object) -> str:
    return str(grid.to_markdown())  # type: ignore[attr-defined]


def test_the_latest_complete_run_counts_and_older_ones_are_said(ledger: RunLedger) -> None:
    grid = tabulate_runs(ledger, rows=["method"], columns=["dataset"])
    assert grid.row_heads == [("pca",), ("raw",)]
    assert grid.column_heads == ["cars", "pets"]
    assert grid.places[1, 0].value == pytest.approx(15)
    assert "2 older figures" in shown(grid)
    assert "90.0" not in shown(grid)


def test_numbers_are_ordered_by_size(ledger: RunLedger) -> None:
    grid = tabulate_runs(ledger, rows=["classifier"], columns=["shots"], metric="accuracy")
    assert grid.column_heads == ["2", "16"]


def test_a_condition_holds_for_every_figure(ledger: RunLedger) -> None:
    grid = tabulate_runs(ledger, rows=["method"], columns=["dataset"], where={"dataset": "pets"})
    assert grid.column_heads == ["pets"]
    with pytest.raises(InputError, match="leave a condition out"):
        tabulate_runs(ledger, where={"dataset": "birds"})


def test_unknown_names_are_refused_with_those_that_there_are(ledger: RunLedger) -> None:
    with pytest.raises(InputError, match="did you mean dataset"):
        tabulate_runs(ledger, columns=["datasett"])
    with pytest.raises(InputError, match="there are accuracy, mAP"):
        tabulate_runs(ledger, metric="map")
