"""Make ledger-0001.db: a runs database as the release with schema 0001 wrote it.

Run once, by that release, from the repository's root::

    python tests/data/make_ledger_0001.py

A later release must not make it again: the point of the file is that it is old. For a new schema
copy this script under the new number.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from intramodal.runs.ledger import RunLedger
from intramodal.runs.schema import SCHEMA

TARGET = Path(__file__).with_name("ledger-0001.db")


def fill(ledger: RunLedger) -> None:
    with ledger.run(
        "ingest", parameters={"collection": "pets", "model": "fake:64"}, seed=7, command=["ingest"]
    ) as first:
        first.log_fingerprint("encoder", "fake:64", "ab12", {"dim": 64})
        first.log_failure("cats/3.jpg", "decode", "the file is truncated")
        first.checkpoint("offset", {"next": 128})
    with ledger.run("compare", parent=first.id, command=["compare"]) as second:
        second.log_metric("map", 0.5, vector="pca", field="label", interval=(0.25, 0.75), n=32)
        second.save_artefact("ap.json", {"pca": [0.25, 0.75]})


def hide_the_machine(path: Path) -> None:
    """Take out what says where the file was made, and fold the write-ahead log in."""
    with sqlite3.connect(path) as connection:
        connection.execute(
            "UPDATE runs SET host = 'host', pid = 1, process_space = '', process_started = '', "
            'packages = \'{"intramodal": "0.1.0"}\', git = NULL'
        )
    connection.execute("PRAGMA journal_mode=DELETE")
    connection.execute("VACUUM")
    connection.close()


def main() -> None:
    if SCHEMA != "0001":
        raise SystemExit(f"this release writes schema {SCHEMA}, not 0001")
    TARGET.unlink(missing_ok=True)
    with RunLedger.open(TARGET) as ledger:
        fill(ledger)
    hide_the_machine(TARGET)


if __name__ == "__main__":
    main()
