from __future__ import annotations

from collections.abc import Iterator
from typing import Any

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


def test_figures_of_different_things_never_stand_for_one_another(ledger: RunLedger) -> None:
    with ledger.run("evaluate-retrieval", parameters={"collection": "cars"}) as run:
        run.log_metric("mAP", 0.7, vector="raw", field="colour")
    grid = tabulate_runs(ledger, rows=["model"], columns=["dataset"])
    assert grid.head_names == ("model", "method")
    assert grid.column_heads == ["cars class", "cars colour", "pets class"]
    assert [[grid.number(grid.places[at].value) for at in ((n, 0), (n, 1))] for n in (0, 1)] == [
        ["25.0", "–"],
        ["15.0", "70.0"],
    ]
    assert "split by method and field, too" in shown(grid)
    assert "2 older figures" in shown(grid)


def test_what_is_missing_is_a_dash(ledger: RunLedger) -> None:
    with ledger.run("evaluate-retrieval", parameters={"collection": "pets"}) as run:
        run.log_metric("mAP", 0.7, vector="centred", field="class")
    grid = tabulate_runs(ledger, rows=["method"])
    assert "| centred | – | **70.0** |" in shown(grid)
    assert grid.places[0, 0].state == "missing"


def test_one_older_figure_is_said_in_the_singular(ledger: RunLedger) -> None:
    grid = tabulate_runs(ledger, rows=["dataset"], where={"method": "raw"})
    assert "1 older figure of the same place is not shown" in shown(grid)


def test_intervals_of_runs_are_those_of_the_table(ledger: RunLedger) -> None:
    with ledger.run("evaluate-retrieval", parameters={"collection": "pets"}) as run:
        run.log_metric("mAP", 0.3, vector="raw", field="class", interval=(0.2, 0.4))
    chosen = {"dataset": "pets", "method": "raw"}
    assert "30.0 [20.0, 40.0]" in shown(tabulate_runs(ledger, where=chosen, intervals=True))
    assert "[20.0" not in shown(tabulate_runs(ledger, where=chosen))


@pytest.mark.parametrize(
    ("metric", "best"), [("latency p50, ms", "lowest"), ("hit@1", "highest"), ("rows", "none")]
)
def test_the_best_are_the_highest_only_of_what_is_better_high(
    ledger: RunLedger, metric: str, best: str
) -> None:
    with ledger.run("evaluate-index") as run:
        run.log_metric(metric, 1, vector="raw")
    assert tabulate_runs(ledger, metric=metric).bold == best
    assert tabulate_runs(ledger, metric=metric, best="none").bold == "none"


def test_a_table_has_an_average_where_it_is_wanted(ledger: RunLedger) -> None:
    grid = tabulate_runs(ledger, rows=["method"], average=True)
    assert grid.column_heads == ["cars", "pets", "average"]
    assert grid.places[1, 2].value == pytest.approx((15 + 30) / 2)


def test_numbers_are_ordered_by_size(ledger: RunLedger) -> None:
    accuracy: Any = {"metric": "accuracy", "where": {"dataset": "pets", "method": "raw"}}
    grid = tabulate_runs(ledger, rows=["classifier"], columns=["shots"], **accuracy)
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
