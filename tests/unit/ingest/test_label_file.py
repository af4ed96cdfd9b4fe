"""Labels from a file: which rows, which ids, which values (issue 20)."""

from __future__ import annotations

import csv
import datetime
import io
import json
import logging
from pathlib import Path

import pytest

from intramodal import LabelTable, read_labels
from intramodal.errors import InputError, SourceError

UUID = "0f8fad5b-d9cb-469f-a165-70867728950e"


def table(text: str, format_: str = "csv") -> LabelTable:
    return read_labels(io.BytesIO(text.encode()), format=format_)


def by_id(labels: LabelTable) -> dict[object, dict[str, object]]:
    return {
        key: {name: column[row] for name, column in labels.columns.items()}
        for key, row in labels.rows.items()
    }


def test_every_format_gives_the_same_labels(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    rows = [{"id": "7", "kind": "cat"}, {"id": UUID, "kind": None}]
    for name, delimiter in (("l.csv", ","), ("l.tsv", "\t")):
        with (tmp_path / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, ["id", "kind"], delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
    (tmp_path / "l.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "l.parquet")
    expected = {7: {"kind": "cat"}, UUID: {"kind": None}}
    for path in sorted(tmp_path.iterdir()):
        assert by_id(read_labels(path)) == expected, path
        with path.open("rb") as opened:
            found = read_labels(opened)
            assert by_id(found) == expected, path
            assert found.fingerprint == read_labels(path).fingerprint
            assert not opened.closed


def test_all_spellings_of_an_id_are_one_id() -> None:
    spellings = [UUID, UUID.upper(), UUID.replace("-", ""), f"{{{UUID}}}", f"urn:uuid:{UUID}"]
    for spelling in spellings:
        assert list(table(f'id,kind\n"{spelling}",cat\n').rows) == [UUID]
        assert list(table(f'id,kind\n"tenant-a/{spelling}",cat\n').rows) == [f"tenant-a/{UUID}"]
    assert list(table('{"id": 17.0, "kind": 1}\n', "jsonl").rows) == [17]
    assert list(table("id,kind\ntenant-a/17.0,cat\nshoes/17.jpg,dog\n").rows) == [
        "tenant-a/17",
        "shoes/17.jpg",
    ]


def test_the_column_of_ids_can_have_another_name_and_is_no_field() -> None:
    labels = read_labels(io.BytesIO(b"sku,kind\n7,cat\n"), id_column="sku", format="csv")
    assert by_id(labels) == {7: {"kind": "cat"}}


def test_a_repeated_row_is_one_row_and_another_value_is_refused() -> None:
    assert by_id(table("id,kind\n7,cat\n7.0,cat\n")) == {7: {"kind": "cat"}}
    with pytest.raises(
        InputError, match=r"rows 2 and 4 of <file> have the same id 7 and .*'kind'"
    ):
        table("id,kind\n7,cat\n8,cat\n7.0,dog\n")
    with pytest.raises(InputError, match="'kind'"):
        table('{"id": 7}\n{"id": 7, "kind": "cat"}\n', "jsonl")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,kind\n", "has no rows"),
        ("id\n7\n", "has no columns other than 'id'"),
        ("key,kind\n7,cat\n", r"has no column 'id' \(it has 'key', 'kind'\)"),
        ("id,kind\n7,cat\n,dog\n", "row 3 of <file> cannot be used: the row has no id"),
        ("id,kind\n7,cat,dog\n", "row 2 of <file> cannot be used: the row has 3 cells"),
        ("id,kind\n7,cat\x00\n", "NUL byte"),
        ("id;kind\n7;cat\n", "separated by semicolons"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(text: str, said: str) -> None:
    with pytest.raises((InputError, SourceError), match=said) as caught:
        table(text)
    assert "\n" not in str(caught.value)


def test_a_file_of_no_table_and_one_that_is_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"is no table; give one of \.csv"):
        read_labels(tmp_path / "labels.pkl")
    with pytest.raises(SourceError, match=r"is no table; give one of \.csv"):
        read_labels(io.BytesIO(b"id,kind\n7,cat\n"))
    with pytest.raises(SourceError, match="there is no file"):
        read_labels(tmp_path / "labels.csv")


def test_values_are_those_that_an_ingest_would_store() -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    file = io.BytesIO()
    day, nan = datetime.date(2024, 2, 29), float("nan")
    pq.write_table(pa.table({"id": [7, 8], "day": [day, None], "weight": [nan, 1.5]}), file)
    assert by_id(read_labels(file, format="parquet")) == {
        7: {"day": "2024-02-29", "weight": None},
        8: {"day": None, "weight": 1.5},
    }


def test_rows_of_jsonl_may_lack_columns() -> None:
    labels = table('{"id": 7, "a": 1}\n{"id": 8, "b": 2}\n{"id": 9, "a": 3}\n', "jsonl")
    assert list(labels.columns) == ["a", "b"]
    assert by_id(labels)[8] == {"a": None, "b": 2}
    assert by_id(labels)[9] == {"a": 3, "b": None}


def test_a_file_that_may_be_cut_off_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert len(table("id,kind\n7,cat\n8,d")) == 2
    assert "may be incomplete" in caplog.text
    assert "does not end in a line break" in caplog.text
