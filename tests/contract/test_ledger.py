from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from intramodal.errors import LedgerError
from intramodal.runs.database import ADVISORY_LOCK
from intramodal.runs.ledger import RunLedger
from tests.contract.ledger_contract import LedgerContract
from tests.databases import VARIABLE, postgres_schema


class TestSQLite(LedgerContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return str(tmp_path / "a folder" / "runs.db")


@pytest.mark.skipif(not os.environ.get(VARIABLE), reason=f"{VARIABLE} is not set")
class TestPostgreSQL(LedgerContract):
    @pytest.fixture
    def url(self) -> Iterator[str]:
        with postgres_schema() as url:
            yield url

    def test_a_new_database_is_made_by_one_process_at_a_time(self, url: str) -> None:
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})"))
            with pytest.raises(LedgerError, match="locked by another process"):
                RunLedger.open(url, lock_timeout_s=0.2)
        engine.dispose()
        RunLedger.open(url).close()

    def test_the_password_of_the_server_is_shown_nowhere(self, url: str) -> None:
        named = make_url(url).set(password="planted-4717").render_as_string(hide_password=False)
        with RunLedger.open(named) as ledger:  # the test server trusts everybody
            with ledger.run("fit", command=["--runs", named], parameters={"runs": named}) as run:
                run.log_failure("x", "read", "refused planted-4717")
            shown = [repr(ledger), ledger.describe(), ledger.runs(), ledger.failures(run.id)]
            assert ":***@" in ledger.get(run.id).parameters["runs"]
        assert "planted-4717" not in repr(shown)
