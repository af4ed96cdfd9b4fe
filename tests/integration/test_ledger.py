"""The runs database in PostgreSQL; where it is named, tests/contract runs the same."""

from __future__ import annotations

import pytest

from tests.contract.ledger_contract import LedgerContract


class TestPostgreSQL(LedgerContract):
    @pytest.fixture
    def url(self, database: str) -> str:
        return database
