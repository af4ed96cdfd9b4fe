from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from tests.contract.ledger_contract import LedgerContract

_VARIABLE = "INTRAMODAL_TEST_DB_URL"


class TestSQLite(LedgerContract):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return str(tmp_path / "a folder" / "runs.db")


@pytest.mark.skipif(not os.environ.get(_VARIABLE), reason=f"{_VARIABLE} is not set")
class TestPostgreSQL(LedgerContract):
    @pytest.fixture
    def url(self) -> Iterator[str]:
        server = make_url(os.environ[_VARIABLE])
        schema = f"intramodal_test_{uuid.uuid4().hex}"
        engine = create_engine(server, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE SCHEMA {schema}"))
        own = server.update_query_dict({"options": f"-csearch_path={schema}"})
        yield own.render_as_string(hide_password=False)
        with engine.connect() as connection:
            connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
        engine.dispose()
