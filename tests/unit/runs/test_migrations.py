from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect

from intramodal.errors import LedgerError
from intramodal.runs.database import _alembic_config, known_schemas
from intramodal.runs.ledger import RunLedger
from intramodal.runs.schema import SCHEMA, VERSION_TABLE, Base

STORED = Path(__file__).parents[2] / "data"


def differences(path: Path) -> list[Any]:
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        options = {"compare_type": True, "version_table": VERSION_TABLE}
        context = MigrationContext.configure(connection, opts=options)
        found: list[Any] = compare_metadata(context, Base.metadata)
    engine.dispose()
    return found


def test_the_migrations_make_exactly_what_the_models_say(tmp_path: Path) -> None:
    RunLedger.open(tmp_path / "runs.db").close()
    assert differences(tmp_path / "runs.db") == []


def test_a_difference_between_migrations_and_models_would_be_seen(tmp_path: Path) -> None:
    RunLedger.open(tmp_path / "runs.db").close()
    with sqlite3.connect(tmp_path / "runs.db") as connection:
        connection.execute("ALTER TABLE metrics DROP COLUMN n")
    connection.close()
    assert len(differences(tmp_path / "runs.db")) == 1


def test_the_models_name_the_newest_migration() -> None:
    assert known_schemas()[0] == SCHEMA


def test_every_released_schema_has_a_stored_database() -> None:
    assert sorted(known_schemas()) == sorted(
        path.stem.removeprefix("ledger-") for path in STORED.glob("ledger-*.db")
    )


@pytest.mark.parametrize("stored", sorted(STORED.glob("ledger-*.db")), ids=lambda path: path.stem)
def test_a_database_of_an_old_release_is_upgraded_with_all_it_holds(
    stored: Path, tmp_path: Path
) -> None:
    path = tmp_path / "runs.db"
    shutil.copy(stored, path)
    with RunLedger.open(path) as ledger:
        compared, ingested = ledger.runs()
        assert (ingested.kind, ingested.status, ingested.seed) == ("ingest", "COMPLETE", 7)
        assert ingested.parameters == {"collection": "pets", "model": "fake:64"}
        assert compared.parent == ingested.id
        assert ledger.fingerprints(ingested.id)[0].facts == {"dim": 64}
        assert ledger.failures(ingested.id)[0].reason == "the file is truncated"
        assert ledger.checkpoints(ingested.id) == {"offset": {"next": 128}}
        (metric,) = ledger.metrics(compared.id)
        assert (metric.value, metric.low, metric.high, metric.n) == (0.5, 0.25, 0.75, 32)
        assert ledger.artefact(compared.id, "ap.json") == b'{"pca": [0.25, 0.75]}'
        with ledger.run("fit") as run:
            pass
        assert ledger.get(run.id).status == "COMPLETE"
    assert differences(path) == []


def test_a_database_of_a_newer_release_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    RunLedger.open(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    connection.close()
    with pytest.raises(LedgerError, match=r"schema 9999, newer than .* upgrade intramodal"):
        RunLedger.open(path)


def test_a_table_of_another_application_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE runs (run_uuid TEXT)")
    connection.close()
    with pytest.raises(LedgerError, match="table 'runs' that is not intramodal's"):
        RunLedger.open(path)
    engine = create_engine(f"sqlite:///{path}")
    assert inspect(engine).get_table_names() == ["runs"]
    engine.dispose()


def test_the_migrations_can_be_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    RunLedger.open(path).close()
    engine = create_engine(f"sqlite:///{path}")
    config = _alembic_config()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    assert inspect(engine).get_table_names() == [VERSION_TABLE]
    engine.dispose()
    RunLedger.open(path).close()
    assert differences(path) == []


def test_a_new_database_lets_readers_and_a_writer_work_side_by_side(tmp_path: Path) -> None:
    RunLedger.open(tmp_path / "runs.db").close()
    connection = sqlite3.connect(tmp_path / "runs.db")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
