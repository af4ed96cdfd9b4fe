"""Any table that csv, json, pandas and pyarrow write comes back from a store, or is listed."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from intramodal.ingest.payload import is_same
from intramodal.ingest.pipeline import ingest_vectors, vectors_collection
from intramodal.ingest.vectors.load import vectors_of
from intramodal.ingest.vectors.ready import open_ready
from intramodal.store.manifest import VectorOrigin
from intramodal.store.open import open_store

pytest.importorskip("pyarrow", reason="needs pyarrow")
pytest.importorskip("pandas", reason="needs pandas")

D = 4
ORIGIN = VectorOrigin("some clip", "declared:some clip")
Rows = list[dict[str, Any]]

texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=8)
names = texts.filter(lambda name: name.strip() == name and name not in ("", "id"))
plain = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), texts, st.just(2**64 - 1)
)
nested = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
moments = st.datetimes()
typed_columns = st.sampled_from(
    [
        st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), texts, st.dates(), moments,
        st.decimals(-(10**9), 10**9, places=3), st.lists(st.dates(), max_size=2),
        st.lists(st.floats(), max_size=2),
        st.fixed_dictionaries({"at": moments, "n": st.floats()}),
    ]
)  # fmt: skip


@st.composite
def tables(draw: st.DrawFn) -> Rows:
    """Return rows whose columns hold one type each, with gaps."""
    n = draw(st.integers(1, 6))
    columns = draw(st.dictionaries(names, typed_columns, min_size=1, max_size=4))
    return [{name: draw(st.none() | cells) for name, cells in columns.items()} for _ in range(n)]


loose_tables = st.lists(st.dictionaries(names, nested, max_size=4), min_size=1, max_size=6)
flat_tables = st.lists(
    st.fixed_dictionaries({"a": texts, "b, c": texts, 'd"': texts}), min_size=1, max_size=6
)


def as_stored(value: Any) -> Any:
    """Return the JSON value that must come back; written apart from the code it checks."""
    if isinstance(value, dict):
        return {key: as_stored(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [as_stored(inner) for inner in value]
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else str(value)
    if isinstance(value, date):  # and datetime
        return value.isoformat()
    number = float(value)
    return number if math.isfinite(number) else None


def write_csv(path: Path, rows: Rows) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_jsonl(path: Path, rows: Rows) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_parquet(path: Path, rows: Rows) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({name: [row[name] for row in rows] for name in rows[0]}), path)


def write_pandas(path: Path, rows: Rows) -> None:
    import pandas as pd

    frame = pd.DataFrame(
        {name: pd.Series([row[name] for row in rows], dtype=object) for name in rows[0]}
    )
    frame[frame["id"] >= 0].to_parquet(path)


def through_a_store(
    folder: Path, store: str, suffix: str, rows: Rows, write: Callable[..., None]
) -> None:
    """Write, ingest, reopen and read; raise unless every row is as it was, or is listed."""
    given_rows = [{"id": n, **row} for n, row in enumerate(rows)]
    write(folder / f"t{suffix}", given_rows)
    X = np.random.default_rng(0).normal(size=(len(rows), D)).astype(np.float32)
    np.save(folder / "X.npy", X)
    ready = open_ready(folder / "X.npy", dataset="t", table=folder / f"t{suffix}")
    vectors = vectors_of(ready, ORIGIN, "raw", None)
    with open_store(store) as opened:
        if opened.exists("t"):
            opened.drop("t")
        found = ingest_vectors(ready, vectors_collection(opened, "t", vectors))
        again = ingest_vectors(ready, vectors_collection(opened, "t", vectors))
        page = opened.retrieve("t", list(range(len(rows))), payload=True)
    listed = {failure["item"]: failure["reason"] for failure in found.failures}
    assert page.ids == list(range(len(rows))), "metadata costs no row"
    assert (found.written, again.skipped) == (len(rows), len(rows))
    for number, (row, kept) in enumerate(zip(rows, page.payloads, strict=True)):
        for name, value in row.items():
            if str(number) in listed and repr(name) in listed[str(number)]:
                assert name not in kept
                continue
            expected = None if suffix == ".csv" and value == "" else as_stored(value)
            assert is_same(kept.get(name), expected), (name, value, kept.get(name))
        assert set(kept) <= set(row)


CASES = {
    "csv": (flat_tables, ".csv", write_csv),
    "json lines": (loose_tables, ".jsonl", write_jsonl),
    "pyarrow": (tables(), ".parquet", write_parquet),
    "pandas": (tables(), ".parquet", write_pandas),
}


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize(
    ("store", "n"), [(":memory:", 12), pytest.param("edge", 400, marks=pytest.mark.slow)]
)
def test_any_table_comes_back_equal_or_is_listed(
    tmp_path: Path, kind: str, store: str, n: int
) -> None:
    """Issue 20, item 3."""
    rows_of, suffix, write = CASES[kind]
    place = store if store == ":memory:" else str(tmp_path / "store")

    @settings(max_examples=n, deadline=None, suppress_health_check=list(HealthCheck))
    @given(rows_of)
    def check(rows: Rows) -> None:
        through_a_store(tmp_path, place, suffix, rows, write)

    check()
