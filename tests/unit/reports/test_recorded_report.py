from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from intramodal.errors import InputError, LedgerError
from intramodal.reports.report import latest_comparison, report_of_run
from intramodal.runs.ledger import RunLedger
from tests.unit.reports.sample import document


@pytest.fixture
def ledger() -> Iterator[RunLedger]:
    with RunLedger.open(":memory:") as ledger:
        yield ledger


def test_a_comparison_gives_its_report_back(ledger: RunLedger) -> None:
    ids = []
    for _ in range(2):
        with ledger.run("compare") as run:
            run.keep(document())
        ids.append(run.id)
    with ledger.run("fit"):
        pass
    assert latest_comparison(ledger) == ledger.runs(kind="compare")[0].id
    stored = report_of_run(ledger, ids[0]).to_dict()
    assert stored == json.loads(json.dumps(document().to_dict()))


def test_a_run_without_a_report_is_refused(ledger: RunLedger) -> None:
    with pytest.raises(InputError, match="no complete comparison"):
        latest_comparison(ledger)
    with ledger.run("fit") as run:
        pass
    with pytest.raises(InputError, match=f"{run.id} is a fit run that is COMPLETE"):
        report_of_run(ledger, run.id)
    with pytest.raises(LedgerError, match="did you mean"):
        report_of_run(ledger, "nothing")
